/* rank_elements.h - which elements of weights go: from scores to masks (METHOD 3, "Granularity"). Knows numbers only. */
#ifndef PARE_RUNTIME_RANK_ELEMENTS_H
#define PARE_RUNTIME_RANK_ELEMENTS_H

#include <stdint.h>

#include "base/ctx.h"

/* One weight [k, n], stored [n, k] if transposed; k is what a product sums over. */
typedef struct PareElements {
  int64_t k, n;
  bool transposed;
  const float *score; /* [k · n], as it is stored; none is NaN */
  uint8_t *alive;     /* [k · n], 0 or 1: dead elements stay dead */
} PareElements;

/* Kills the lowest scores until round(ratio · elements) are dead, of each weight or of all together. Ties go to the
 * lower weight and index. */
PARE_MUST_USE PareStatus pare_rank_elements(PareCtx *c, size_t n, PareElements *weight, double ratio, bool global);

/* The same for 2:4: of every four elements in a row along k, the two lowest are to go in the end. Of those, the lowest
 * of the weight go until `share` of them are dead. What is left of k behind its last four stays. */
PARE_MUST_USE PareStatus pare_rank_2_4(PareCtx *c, size_t n, PareElements *weight, double share);

#endif
