/* vanish.h - which constants have to be zero for a computed weight to be zero where a group is dead. */
#ifndef PARE_PASSES_VANISH_H
#define PARE_PASSES_VANISH_H

#include "ir/dims.h"

/* Adds to `zeros`, in a, constants that hold `leaf`: where these are zero at its dead indices, so is what n reads as
 * input k, which follows from constants alone. *yes false: no zeros do it, and nothing is added. */
PARE_MUST_USE PareStatus pare_vanish(PareCtx *c, PareArena *a, PareTracer *t, const PareAxis *leaf, const PareNode *n,
                                     int k, PareZeros *zeros, bool *yes);

/* How many of n's first inputs have to be zero for its result to be: a weight's, of which nothing but numbers stands
 * beside it. 0: not known, or n makes another number of 0. */
int pare_zero_inputs(const PareNode *n);

#endif
