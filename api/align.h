/* align.h - what --align N means for a dimension. */
#ifndef PARE_API_ALIGN_H
#define PARE_API_ALIGN_H

#include "ir/dims.h"

/* The number that a dimension's kept groups have to be a multiple of so that a multiple of `align` channels stays: a
 * group of heads is as many channels as the weight behind it reads of it, a group of anything else is one. Whole
 * branches have no channels: 1. */
PARE_MUST_USE PareStatus pare_align_multiple(PareCtx *c, const PareDims *d, const PareDim *dim, int64_t align,
                                             int64_t *multiple);
/* The dimensions whose kept groups are no such multiple, because none is possible under the floor, or a plan said
 * otherwise: their names to name[dims], *n of them. keep[] by dimension, NULL where nothing may go. */
PARE_MUST_USE PareStatus pare_align_uneven(PareCtx *c, const PareDims *d, bool *const *keep, int64_t align,
                                           const char **name, size_t *n);

#endif
