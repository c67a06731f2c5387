/* trace_dims.h - finds the dimensions that can be pruned (DESIGN 1.2). */
#ifndef PARE_PASSES_TRACE_DIMS_H
#define PARE_PASSES_TRACE_DIMS_H

#include "ir/dims.h"

/* g must be bound (pare_bind_shapes), its dynamic axes to numbers that divide
 * nothing else in the model. The result lives in a and points into g. Groups
 * come in node order; names are unique. */
PARE_MUST_USE PareStatus pare_trace_dims(PareCtx *c, PareArena *a, const PareGraph *g, PareDims **out);

#endif
