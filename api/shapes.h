/* shapes.h - sizes for dynamic axes from the command line: --shape. */
#ifndef PARE_API_SHAPES_H
#define PARE_API_SHAPES_H

#include "ir/ir.h"

/* A clone of g, as imported, with every dynamic axis bound: axis 0 of the inputs
 * to `batch` (0: what the text says, or 1), others to what the text says, or to
 * `other`. Axes of one name have one size. The text is "input_ids:1x128",
 * several joined by ',' ("name:1,128" is understood too); it may be NULL or "".
 * PARE_USAGE when it does not fit the inputs. Lives in a. */
PARE_MUST_USE PareStatus pare_shapes_bind(PareCtx *c, PareArena *a, const PareGraph *g, const char *text,
                                          int64_t batch, int64_t other, PareGraph **out);

/* A clone of g, which has the inputs of `bound`, bound to the same sizes. Lives in a. */
PARE_MUST_USE PareStatus pare_shapes_like(PareCtx *c, PareArena *a, const PareGraph *g, const PareGraph *bound,
                                          PareGraph **out);

#endif
