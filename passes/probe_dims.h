/* probe_dims.h - numbers that stand for the names of dynamic axes. */
#ifndef PARE_PASSES_PROBE_DIMS_H
#define PARE_PASSES_PROBE_DIMS_H

#include "ir/ir.h"

/* A clone of g in which every dynamic axis has a size that divides no dim of its
 * constants (DESIGN 6), so that 4 heads and a batch of 4 cannot be confused.
 * `salt` picks other sizes: what holds for two of them holds by shape. Where primes
 * do not fit, models are bound to what g is told that they take, to 1, or to 32 times
 * a prime. Lives in a. */
PARE_MUST_USE PareStatus pare_probe_dims(PareCtx *c, PareArena *a, const PareGraph *g, int salt, PareGraph **out);

/* Adds to an error how sizes are told, where dynamic axes of g other than the batch's may have caused it. */
void pare_ask_for_sizes(const PareGraph *g, PareDiag *d);

#endif
