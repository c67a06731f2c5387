/* rank.c - quotas by largest remainder, then the lowest scores. */
#include "runtime/rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/rank_parts.h"

static int64_t most_of(const PareLayer *l) {
  return l->count > pare_block_least(l) ? l->count - pare_block_least(l) : 0;
}

int64_t pare_rank_least(int64_t count, double share) {
  int64_t n = (int64_t)ceil(share * (double)count - 1e-9); /* 0.2 of 5 is 1 */
  return n > 1 ? n : 1;
}

int64_t pare_rank_dead(size_t n, const PareLayer *layer, int kind, double ratio) {
  int64_t all = 0, most = 0;
  for (size_t i = 0; i < n; i++)
    if (layer[i].kind == kind) all += layer[i].count, most += most_of(&layer[i]);
  int64_t dead = (int64_t)floor(ratio * (double)all + 0.5);
  return dead < most ? dead : most;
}

/* What is over a multiple, which always goes. */
static int64_t over_of(const PareLayer *l) { return l->count % pare_block_size(l); }

/* Whole blocks out of a share of a layer's groups, rounded down. */
static int64_t whole_blocks(const PareLayer *l, double share) {
  int64_t size = pare_block_size(l), over = over_of(l), most = most_of(l);
  int64_t dead = over + (int64_t)floor((share - (double)over) / (double)size) * size;
  return dead < over ? over : dead > most ? most : dead;
}

/* One layer after the other, the largest remainder first, gives a block until `left` groups are given; or takes one
 * back where too many were: the floors of layers may be beyond the rounded total. */
static void share_rest(const PareLayer *layer, size_t n, const PareCandidate *rest, int64_t left, int64_t *dead) {
  for (size_t round = 0; left > 0; round++) {
    size_t i = rest[round % n].layer;
    int64_t size = pare_block_size(&layer[i]);
    if (dead[i] < most_of(&layer[i])) dead[i] += size, left -= size;
  }
  while (left < 0 && n > 0) {
    size_t i = rest[n - 1].layer;
    int64_t size = pare_block_size(&layer[i]);
    if (dead[i] - size >= over_of(&layer[i]) && left + size <= 0) dead[i] -= size, left += size;
    else n--;
  }
}

void pare_rank_quota_of(size_t n, const PareLayer *layer, int kind, double ratio, PareCandidate *rest, int64_t *dead) {
  int64_t left = pare_rank_dead(n, layer, kind, ratio);
  size_t m = 0;
  for (size_t i = 0; i < n; i++) {
    if (layer[i].kind != kind) continue;
    double share = ratio * (double)layer[i].count;
    dead[i] = whole_blocks(&layer[i], share);
    left -= dead[i];
    rest[m++] = (PareCandidate){.score = (double)dead[i] - share, .layer = i};
  }
  qsort(rest, m, sizeof *rest, pare_by_score);
  share_rest(layer, m, rest, left, dead);
}

bool pare_rank_is_first(const PareLayer *layer, size_t i) {
  for (size_t k = 0; k < i; k++)
    if (layer[k].kind == layer[i].kind) return false;
  return true;
}

PareStatus pare_rank_quota(PareCtx *c, size_t n, const PareLayer *layer, double ratio, int64_t *dead) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *rest = PARE_NEW_N(c->scratch, n + 1, PareCandidate);
  if (!rest) return pare_nomem(c);
  for (size_t i = 0; i < n; i++)
    if (pare_rank_is_first(layer, i)) pare_rank_quota_of(n, layer, layer[i].kind, ratio, rest, dead);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

size_t pare_rank_order(const PareLayer *layer, PareCandidate *cand, size_t n, int64_t *alive) {
  qsort(cand, n, sizeof *cand, pare_by_score);
  size_t m = 0;
  for (size_t i = 0; i < n; i++)
    if (alive[cand[i].layer] > pare_block_least(&layer[cand[i].layer])) alive[cand[i].layer]--, cand[m++] = cand[i];
  return m;
}

size_t pare_rank_kills(size_t n, const PareLayer *layer, size_t first, bool global, PareCandidate *cand,
                         int64_t *alive) {
  size_t m = 0;
  for (size_t i = first; i < (global ? n : first + 1); i++) {
    if (layer[i].kind != layer[first].kind) continue;
    alive[i] = layer[i].count - pare_dead_of(&layer[i]);
    m += pare_blocks_gather(layer, i, global, cand + m);
  }
  return pare_rank_order(layer, cand, m, alive);
}

int64_t pare_rank_dead_now(size_t n, const PareLayer *layer, int kind) {
  int64_t dead = 0;
  for (size_t i = 0; i < n; i++)
    if (layer[i].kind == kind) dead += pare_dead_of(&layer[i]);
  return dead;
}

size_t pare_rank_groups(size_t n, const PareLayer *layer) {
  size_t all = 0;
  for (size_t i = 0; i < n; i++) all += (size_t)layer[i].count;
  return all;
}

PareStatus pare_rank_ratio(PareCtx *c, size_t n, PareLayer *layer, double ratio, double final, bool global) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *cand = PARE_NEW_N(c->scratch, pare_rank_groups(n, layer) + 1, PareCandidate);
  int64_t *quota = PARE_NEW_N(c->scratch, n + 1, int64_t), *most = PARE_NEW_N(c->scratch, n + 1, int64_t);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !quota || !most || !alive) return pare_nomem(c);
  PARE_TRY(pare_rank_quota(c, n, layer, ratio, quota));
  PARE_TRY(pare_rank_quota(c, n, layer, final, most));
  for (size_t i = 0; i < n; i++) {
    if (global && !pare_rank_is_first(layer, i)) continue;
    size_t m = pare_rank_kills(n, layer, i, global, cand, alive);
    int64_t share = quota[i] < most[i] ? quota[i] : most[i];
    int64_t drop = global ? pare_rank_dead(n, layer, layer[i].kind, ratio) - pare_rank_dead_now(n, layer, layer[i].kind)
                          : share - pare_dead_of(&layer[i]);
    for (size_t k = 0; k < m && !(pare_rank_stops(cand, k) && (int64_t)k >= drop); k++)
      layer[cand[k].layer].keep[cand[k].index] = false;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
