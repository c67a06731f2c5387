/* rank.c - quotas by largest remainder, then the lowest scores. */
#include "runtime/rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct Candidate {
  double score;
  size_t layer;
  int64_t index;
} Candidate;

static int by_score(const void *pa, const void *pb) {
  const Candidate *a = pa, *b = pb;
  if (a->score != b->score) return a->score < b->score ? -1 : 1;
  if (a->layer != b->layer) return a->layer < b->layer ? -1 : 1;
  return (a->index > b->index) - (a->index < b->index);
}

static int64_t dead_of(const PareLayer *l) {
  int64_t n = 0;
  for (int64_t i = 0; i < l->count; i++) n += !l->keep[i];
  return n;
}

/* round(ratio · n), as far as one group a layer stays. */
static int64_t dead_of_kind(size_t n, const PareLayer *layer, int kind, double ratio) {
  int64_t all = 0, most = 0;
  for (size_t i = 0; i < n; i++)
    if (layer[i].kind == kind) all += layer[i].count, most += layer[i].count - 1;
  int64_t dead = (int64_t)floor(ratio * (double)all + 0.5);
  return dead < most ? dead : most;
}

PareStatus pare_rank_quota(PareCtx *c, size_t n, const PareLayer *layer, double ratio, int64_t *dead) {
  PareMark mark = pare_arena_mark(c->scratch);
  Candidate *rest = PARE_NEW_N(c->scratch, n + 1, Candidate);
  if (!rest) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) dead[i] = -1;
  for (size_t first = 0; first < n; first++) {
    if (dead[first] >= 0) continue;
    int64_t left = dead_of_kind(n, layer, layer[first].kind, ratio);
    size_t m = 0;
    for (size_t i = first; i < n; i++) {
      if (layer[i].kind != layer[first].kind) continue;
      double share = ratio * (double)layer[i].count;
      dead[i] = (int64_t)floor(share);
      if (dead[i] > layer[i].count - 1) dead[i] = layer[i].count - 1;
      left -= dead[i];
      rest[m++] = (Candidate){.score = (double)dead[i] - share, .layer = i};
    }
    qsort(rest, m, sizeof *rest, by_score); /* largest remainder first */
    for (size_t round = 0; left > 0; round++) {
      size_t i = rest[round % m].layer;
      if (dead[i] < layer[i].count - 1) dead[i]++, left--;
    }
    while (left < 0) { /* floors beyond the rounded total: possible only by rounding down */
      size_t i = rest[m - 1].layer;
      if (dead[i] > 0) dead[i]--, left++;
      else m--;
    }
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* Kills the `drop` lowest living groups among candidates, keeping one a layer. */
static void kill(PareLayer *layer, Candidate *cand, size_t n, int64_t drop) {
  qsort(cand, n, sizeof *cand, by_score);
  for (size_t i = 0; i < n && drop > 0; i++) {
    PareLayer *l = &layer[cand[i].layer];
    if (l->count - dead_of(l) <= 1) continue;
    l->keep[cand[i].index] = false;
    drop--;
  }
}

static size_t gather(const PareLayer *layer, size_t i, bool per_cost, Candidate *cand) {
  size_t n = 0;
  for (int64_t k = 0; k < layer[i].count; k++)
    if (layer[i].keep[k])
      cand[n++] = (Candidate){layer[i].score[k] / (per_cost ? layer[i].cost : 1), i, k};
  return n;
}

PareStatus pare_rank_ratio(PareCtx *c, size_t n, PareLayer *layer, double ratio, double final, bool global) {
  PareMark mark = pare_arena_mark(c->scratch);
  size_t all = 0;
  for (size_t i = 0; i < n; i++) all += (size_t)layer[i].count;
  Candidate *cand = PARE_NEW_N(c->scratch, all + 1, Candidate);
  int64_t *quota = PARE_NEW_N(c->scratch, n + 1, int64_t), *most = PARE_NEW_N(c->scratch, n + 1, int64_t);
  bool *done = PARE_NEW_N(c->scratch, n + 1, bool);
  if (!cand || !quota || !most || !done) return pare_nomem(c);
  PARE_TRY(pare_rank_quota(c, n, layer, ratio, quota));
  PARE_TRY(pare_rank_quota(c, n, layer, final, most));
  for (size_t first = 0; first < n; first++) {
    if (!global) {
      int64_t dead = quota[first] < most[first] ? quota[first] : most[first];
      kill(layer, cand, gather(layer, first, false, cand), dead - dead_of(&layer[first]));
      continue;
    }
    if (done[first]) continue;
    size_t m = 0;
    int64_t drop = dead_of_kind(n, layer, layer[first].kind, ratio);
    for (size_t i = first; i < n; i++) {
      if (layer[i].kind != layer[first].kind) continue;
      done[i] = true;
      drop -= dead_of(&layer[i]);
      m += gather(layer, i, true, cand + m);
    }
    kill(layer, cand, m, drop);
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static double cost_at(size_t n, const PareLayer *layer, const int64_t *dead, double fixed) {
  double cost = fixed;
  for (size_t i = 0; i < n; i++) cost += layer[i].cost * (double)(layer[i].count - dead[i]);
  return cost;
}

PareStatus pare_rank_budget(PareCtx *c, size_t n, const PareLayer *layer, double fixed, double budget, double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *dead = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!dead) return pare_nomem(c);
  PARE_TRY(pare_rank_quota(c, n, layer, 1.0, dead));
  double least = cost_at(n, layer, dead, fixed);
  if (least > budget)
    return pare_error(c, PARE_TARGET, "the target cannot be reached: at least %.0f would be left, %.0f are asked for; "
                      "one group of each layer always stays", least, budget);
  double lo = 0, hi = 1;
  for (int i = 0; i < 60; i++) { /* the cost falls with the ratio in steps: bisection finds the step */
    double mid = 0.5 * (lo + hi);
    PARE_TRY(pare_rank_quota(c, n, layer, mid, dead));
    if (cost_at(n, layer, dead, fixed) <= budget) hi = mid;
    else lo = mid;
  }
  pare_arena_rewind(c->scratch, mark);
  *ratio = hi;
  return PARE_OK;
}
