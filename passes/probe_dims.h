/* probe_dims.h - numbers that stand for the names of dynamic axes. */
#ifndef PARE_PASSES_PROBE_DIMS_H
#define PARE_PASSES_PROBE_DIMS_H

#include "ir/ir.h"

/* A clone of g in which every dynamic axis has a size that divides no dim of its
 * constants (DESIGN 6), so that 4 heads and a batch of 4 cannot be confused.
 * `salt` picks other sizes: what holds for two of them holds by shape. Models
 * with a size of 1 baked in are bound to 1 where primes do not fit. Lives in a. */
PARE_MUST_USE PareStatus pare_probe_dims(PareCtx *c, PareArena *a, const PareGraph *g, int salt, PareGraph **out);

#endif
