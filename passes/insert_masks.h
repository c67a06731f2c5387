/* insert_masks.h - a mask on every fan-in of every dimension (DESIGN, the pass law):
 * just before the weight reads, after bias and activation, since act(0) need not be 0. */
#ifndef PARE_PASSES_INSERT_MASKS_H
#define PARE_PASSES_INSERT_MASKS_H

#include "ir/dims.h"

/* One fan-in. The mask has an element for each position of the contracted axis. */
typedef struct PareMask {
  int dim;         /* number in PareDims */
  PareValue *mask; /* state of ones, [K, 1...] down to the axis */
  int64_t *group;  /* [K]: which group a position belongs to, or -1 */
  int64_t k;
  const PareContraction *reader; /* in the traced graph */
} PareMask;

typedef struct PareMasks {
  PARE_VEC(PareMask) at;
} PareMasks;

/* Masks for heads, FFN channels and what else is `pruned` (by dimension; NULL: nothing
 * else). g is a bound clone of the graph that was traced, or of its cut by the leaves'
 * `keep`; groups are numbered as before the cut. Lists and ones live in its arena. */
PARE_MUST_USE PareStatus pare_insert_masks(PareCtx *c, PareGraph *g, const PareDims *d, const bool *pruned,
                                           PareMasks *out);

#endif
