/* blocks.h - the groups of a layer in the order in which they go: one by one, or in blocks where what stays has to be
 * a multiple (--align). */
#ifndef PARE_RUNTIME_BLOCKS_H
#define PARE_RUNTIME_BLOCKS_H

#include "runtime/rank.h"

/* A group that may go. All groups of a block have the block's score: the mean of theirs, over cost where that counts. */
typedef struct PareCandidate {
  double score; /* -INFINITY: what is too many for a multiple goes before anything else, and whatever is asked for */
  size_t layer;
  int64_t block, index; /* within the layer */
} PareCandidate;

/* For qsort: by score, then layer, block and index. */
int pare_by_score(const void *a, const void *b);

/* What a block holds: layer->multiple, or 1 where no multiple of it is both possible and enough. */
int64_t pare_block_size(const PareLayer *layer);
/* The least that stays: the layer's floor, one at least, rounded up to a multiple. */
int64_t pare_block_least(const PareLayer *layer);
int64_t pare_dead_of(const PareLayer *layer);

/* The living groups of layer[i] to out, in no order that matters; their number. */
size_t pare_blocks_gather(const PareLayer *layer, size_t i, bool per_cost, PareCandidate *out);

/* Does candidate k begin a block? */
static inline bool pare_block_starts(const PareCandidate *c, size_t k) {
  return k == 0 || c[k].layer != c[k - 1].layer || c[k].block != c[k - 1].block;
}

#endif
