/* split.h - how a budget of groups is split over layers whose loss curves are known. */
#ifndef PARE_RUNTIME_SPLIT_H
#define PARE_RUNTIME_SPLIT_H

#include "runtime/rank.h"

/* What the loss rises by when so many groups of one layer go. */
typedef struct PareLossCurve {
  size_t n;
  const int64_t *gone; /* [n], not falling, from 0 */
  const double *loss;
} PareLossCurve;

/* Of each kind round(ratio[kind] · n) groups go, at the same rise of the loss for the next group in every layer of the
 * kind, as nearly as whole groups, or blocks, allow; curves are linear between their points. layer[i] gives kind, count,
 * least and multiple. To dead[i], how many of layer i. */
PARE_MUST_USE PareStatus pare_split_by_loss(PareCtx *c, size_t n, const PareLayer *layer, const PareLossCurve *curve,
                                            const double *ratio, int64_t *dead);

#endif
