/* blocks.c - see blocks.h. */
#include "runtime/blocks.h"

#include <math.h>
#include <stdlib.h>

int pare_by_score(const void *pa, const void *pb) {
  const PareCandidate *a = pa, *b = pb;
  if (a->score != b->score) return a->score < b->score ? -1 : 1;
  if (a->layer != b->layer) return a->layer < b->layer ? -1 : 1;
  if (a->block != b->block) return a->block < b->block ? -1 : 1;
  return (a->index > b->index) - (a->index < b->index);
}

int64_t pare_dead_of(const PareLayer *l) {
  int64_t n = 0;
  for (int64_t i = 0; i < l->count; i++) n += !l->keep[i];
  return n;
}

static int64_t floor_of(const PareLayer *l) { return l->least > 1 ? l->least : 1; }
static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t pare_block_size(const PareLayer *l) {
  return l->multiple > 1 && round_up(floor_of(l), l->multiple) <= l->count ? l->multiple : 1;
}

int64_t pare_block_least(const PareLayer *l) { return round_up(floor_of(l), pare_block_size(l)); }

/* Lowest scores first: what is over a multiple, then block by block. */
static void make_blocks(PareCandidate *c, size_t n, size_t size) {
  qsort(c, n, sizeof *c, pare_by_score);
  size_t over = n % size;
  for (size_t at = 0, block = 0; at < n; block++) {
    size_t end = at + (at == 0 && over ? over : size);
    double sum = 0;
    for (size_t k = at; k < end; k++) sum += c[k].score;
    for (double mean = sum / (double)(end - at); at < end; at++) {
      c[at].block = (int64_t)block;
      c[at].score = block == 0 && over ? -INFINITY : mean;
    }
  }
}

size_t pare_blocks_gather(const PareLayer *layer, size_t i, bool per_cost, PareCandidate *out) {
  size_t n = 0;
  int64_t size = pare_block_size(&layer[i]);
  for (int64_t k = 0; k < layer[i].count; k++)
    if (layer[i].keep[k])
      out[n++] = (PareCandidate){layer[i].score[k] / (per_cost ? layer[i].cost : 1), i, k, k};
  if (size > 1) make_blocks(out, n, (size_t)size);
  return n;
}
