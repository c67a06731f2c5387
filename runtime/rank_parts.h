/* rank_parts.h - between the files that rank: counts by kind, and the order in which groups go. */
#ifndef PARE_RUNTIME_RANK_PARTS_H
#define PARE_RUNTIME_RANK_PARTS_H

#include <math.h>

#include "runtime/blocks.h"

/* The first of its kind among the layers? */
bool pare_rank_is_first(const PareLayer *layer, size_t i);
/* Groups of all layers. */
size_t pare_rank_groups(size_t n, const PareLayer *layer);
/* Dead ones of a kind: round(ratio · n), as far as the layers' floors allow; and as it is now. */
int64_t pare_rank_dead(size_t n, const PareLayer *layer, int kind, double ratio);
int64_t pare_rank_dead_now(size_t n, const PareLayer *layer, int kind);
/* pare_rank_quota of the layers of one kind. rest: room for a candidate a layer. */
void pare_rank_quota_of(size_t n, const PareLayer *layer, int kind, double ratio, PareCandidate *rest, int64_t *dead);

/* Puts candidates in the order in which they go, those that the layers' floors keep left out. `alive` has what lives in
 * each layer. Returns their number. */
size_t pare_rank_order(const PareLayer *layer, PareCandidate *cand, size_t n, int64_t *alive);
/* The kills of layer `first`, or of all layers of its kind, in order. */
size_t pare_rank_kills(size_t n, const PareLayer *layer, size_t first, bool global, PareCandidate *cand, int64_t *alive);

/* May the kills end before candidate k? Not within a block, nor before what is over a multiple. */
static inline bool pare_rank_stops(const PareCandidate *cand, size_t k) {
  return pare_block_starts(cand, k) && cand[k].score > -INFINITY;
}

#endif
