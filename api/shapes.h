/* shapes.h - sizes for dynamic axes from the command line: --shape. */
#ifndef PARE_API_SHAPES_H
#define PARE_API_SHAPES_H

#include "ir/ir.h"

/* A clone of g, as imported, with every dynamic axis bound: axis 0 of the inputs
 * to `batch` (0: what the text says, or 1), others to what the text says, or to
 * `other`: where the model does not take that (it pools, say), to 8, 64 or 512. Axes of one name have one size. The text is "input_ids:1x128",
 * several joined by ',' ("name:1,128" is understood too); it may be NULL or "".
 * PARE_USAGE when it does not fit the inputs. Lives in a. */
PARE_MUST_USE PareStatus pare_shapes_bind(PareCtx *c, PareArena *a, const PareGraph *g, const char *text,
                                          int64_t batch, int64_t other, PareGraph **out);

/* Tells g what such a text says, which is for pare_probe_dims to keep to where it must. */
PARE_MUST_USE PareStatus pare_shapes_tell(PareCtx *c, PareGraph *g, const char *text);

/* The size of the first of these others in `bound`, of g, to which no text was given; 1: there is none. */
int64_t pare_shapes_other(const PareGraph *g, const PareGraph *bound);

/* A clone of g, which has the inputs of `bound`, bound to the same sizes. Lives in a. */
PARE_MUST_USE PareStatus pare_shapes_like(PareCtx *c, PareArena *a, const PareGraph *g, const PareGraph *bound,
                                          PareGraph **out);

#endif
