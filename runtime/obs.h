/* obs.h - what it costs to drop groups of a layer's inputs when the others take over as well as they can (structured
 * OBS: Hassibi and Stork 1993; Kurtic et al. 2022; METHOD 4). */
#ifndef PARE_RUNTIME_OBS_H
#define PARE_RUNTIME_OBS_H

#include "base/ctx.h"

/* score[g] += sum over the columns of W_S'·((H^-1)_SS)^-1·W_S, S the inputs of group g: the least sum of
 * |x·W - x_rest·V|² over all V, H [K, K] the moments of x with `ridge` added to their diagonal.
 * W [K, n]; group[K]: of each input, or -1. PARE_DATA when H is not positive definite. */
PARE_MUST_USE PareStatus pare_obs_scores(PareCtx *c, int64_t k, const double *h, double ridge, int64_t n,
                                         const double *w, int64_t ngroups, const int64_t *group, double *score);

#endif
