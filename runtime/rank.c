/* rank.c - quotas by largest remainder, then the lowest scores. */
#include "runtime/rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { BISECTIONS = 60 };

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

static int64_t least_of(const PareLayer *l) { return l->least > 1 ? l->least : 1; }
static int64_t most_of(const PareLayer *l) { return l->count > least_of(l) ? l->count - least_of(l) : 0; }

int64_t pare_rank_least(int64_t count, double share) {
  int64_t n = (int64_t)ceil(share * (double)count - 1e-9); /* 0.2 of 5 is 1 */
  return n > 1 ? n : 1;
}

/* round(ratio · n), as far as the layers' floors allow. */
static int64_t dead_of_kind(size_t n, const PareLayer *layer, int kind, double ratio) {
  int64_t all = 0, most = 0;
  for (size_t i = 0; i < n; i++)
    if (layer[i].kind == kind) all += layer[i].count, most += most_of(&layer[i]);
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
      if (dead[i] > most_of(&layer[i])) dead[i] = most_of(&layer[i]);
      left -= dead[i];
      rest[m++] = (Candidate){.score = (double)dead[i] - share, .layer = i};
    }
    qsort(rest, m, sizeof *rest, by_score); /* largest remainder first */
    for (size_t round = 0; left > 0; round++) {
      size_t i = rest[round % m].layer;
      if (dead[i] < most_of(&layer[i])) dead[i]++, left--;
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

/* The living groups of a layer as candidates; their number. */
static size_t gather(const PareLayer *layer, size_t i, bool per_cost, Candidate *cand) {
  size_t n = 0;
  for (int64_t k = 0; k < layer[i].count; k++)
    if (layer[i].keep[k])
      cand[n++] = (Candidate){layer[i].score[k] / (per_cost ? layer[i].cost : 1), i, k};
  return n;
}

/* Puts candidates in the order in which they go, those that the layers' floors keep left out. `alive` has what lives in
 * each layer. Returns their number. */
static size_t order_kills(const PareLayer *layer, Candidate *cand, size_t n, int64_t *alive) {
  qsort(cand, n, sizeof *cand, by_score);
  size_t m = 0;
  for (size_t i = 0; i < n; i++)
    if (alive[cand[i].layer] > least_of(&layer[cand[i].layer])) alive[cand[i].layer]--, cand[m++] = cand[i];
  return m;
}

/* The kills of layer `first`, or of all layers of its kind, in order. */
static size_t list_kills(size_t n, const PareLayer *layer, size_t first, bool global, Candidate *cand,
                         int64_t *alive) {
  size_t m = 0;
  for (size_t i = first; i < (global ? n : first + 1); i++) {
    if (layer[i].kind != layer[first].kind) continue;
    alive[i] = layer[i].count - dead_of(&layer[i]);
    m += gather(layer, i, global, cand + m);
  }
  return order_kills(layer, cand, m, alive);
}

static int64_t dead_of_layers(size_t n, const PareLayer *layer, int kind) {
  int64_t dead = 0;
  for (size_t i = 0; i < n; i++)
    if (layer[i].kind == kind) dead += dead_of(&layer[i]);
  return dead;
}

static bool first_of_kind(const PareLayer *layer, size_t i) {
  for (size_t k = 0; k < i; k++)
    if (layer[k].kind == layer[i].kind) return false;
  return true;
}

static size_t count_groups(size_t n, const PareLayer *layer) {
  size_t all = 0;
  for (size_t i = 0; i < n; i++) all += (size_t)layer[i].count;
  return all;
}

PareStatus pare_rank_ratio(PareCtx *c, size_t n, PareLayer *layer, double ratio, double final, bool global) {
  PareMark mark = pare_arena_mark(c->scratch);
  Candidate *cand = PARE_NEW_N(c->scratch, count_groups(n, layer) + 1, Candidate);
  int64_t *quota = PARE_NEW_N(c->scratch, n + 1, int64_t), *most = PARE_NEW_N(c->scratch, n + 1, int64_t);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !quota || !most || !alive) return pare_nomem(c);
  PARE_TRY(pare_rank_quota(c, n, layer, ratio, quota));
  PARE_TRY(pare_rank_quota(c, n, layer, final, most));
  for (size_t i = 0; i < n; i++) {
    if (global && !first_of_kind(layer, i)) continue;
    size_t m = list_kills(n, layer, i, global, cand, alive);
    int64_t share = quota[i] < most[i] ? quota[i] : most[i];
    int64_t drop = global ? dead_of_kind(n, layer, layer[i].kind, ratio) - dead_of_layers(n, layer, layer[i].kind)
                          : share - dead_of(&layer[i]);
    for (size_t k = 0; k < m && (int64_t)k < drop; k++) layer[cand[k].layer].keep[cand[k].index] = false;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static double cost_at(size_t n, const PareLayer *layer, const int64_t *dead, double fixed) {
  double cost = fixed;
  for (size_t i = 0; i < n; i++) cost += layer[i].cost * (double)(layer[i].count - dead[i]);
  return cost;
}

static PareStatus unreachable(PareCtx *c, double least, double budget) {
  return pare_error(c, PARE_TARGET, "the target cannot be reached: at least %.0f would be left, %.0f are asked for; "
                    "one group of each layer always stays, and what --floor says", least, budget);
}

PareStatus pare_rank_budget(PareCtx *c, size_t n, const PareLayer *layer, double fixed, double budget, double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *dead = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!dead) return pare_nomem(c);
  PARE_TRY(pare_rank_quota(c, n, layer, 1.0, dead));
  double least = cost_at(n, layer, dead, fixed);
  if (least > budget) return unreachable(c, least, budget);
  double lo = 0, hi = 1;
  for (int i = 0; i < BISECTIONS; i++) { /* the cost falls with the ratio in steps: bisection finds the step */
    double mid = 0.5 * (lo + hi);
    PARE_TRY(pare_rank_quota(c, n, layer, mid, dead));
    if (cost_at(n, layer, dead, fixed) <= budget) hi = mid;
    else lo = mid;
  }
  pare_arena_rewind(c->scratch, mark);
  *ratio = hi;
  return PARE_OK;
}

/* What the first kills of a kind save, by their number. */
typedef struct Savings {
  int kind;
  int64_t dead; /* before */
  size_t n;
  double *sum; /* [n + 1] */
} Savings;

static double saved_at(size_t n, const PareLayer *layer, size_t kinds, const Savings *s, double ratio) {
  double saved = 0;
  for (size_t i = 0; i < kinds; i++) {
    int64_t drop = dead_of_kind(n, layer, s[i].kind, ratio) - s[i].dead;
    if (drop > 0) saved += s[i].sum[(size_t)drop < s[i].n ? (size_t)drop : s[i].n];
  }
  return saved;
}

PareStatus pare_rank_budget_global(PareCtx *c, size_t n, const PareLayer *layer, double fixed, double budget,
                                   double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  Candidate *cand = PARE_NEW_N(c->scratch, count_groups(n, layer) + 1, Candidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  Savings *s = PARE_NEW_N(c->scratch, n + 1, Savings);
  if (!cand || !alive || !s) return pare_nomem(c);
  size_t kinds = 0;
  double now = fixed;
  for (size_t i = 0; i < n; i++) {
    now += layer[i].cost * (double)(layer[i].count - dead_of(&layer[i]));
    if (!first_of_kind(layer, i)) continue;
    Savings *k = &s[kinds++];
    *k = (Savings){.kind = layer[i].kind, .dead = dead_of_layers(n, layer, layer[i].kind)};
    k->n = list_kills(n, layer, i, true, cand, alive);
    if (!(k->sum = PARE_NEW_N(c->scratch, k->n + 1, double))) return pare_nomem(c);
    for (size_t j = 0; j < k->n; j++) k->sum[j + 1] = k->sum[j] + layer[cand[j].layer].cost;
  }
  double least = now - saved_at(n, layer, kinds, s, 1), lo = 0, hi = 1;
  for (int i = 0; i < BISECTIONS && least <= budget; i++) {
    double mid = 0.5 * (lo + hi);
    if (now - saved_at(n, layer, kinds, s, mid) <= budget) hi = mid;
    else lo = mid;
  }
  pare_arena_rewind(c->scratch, mark);
  *ratio = hi;
  return least <= budget ? PARE_OK : unreachable(c, least, budget);
}

PareStatus pare_rank_cost(PareCtx *c, size_t n, PareLayer *layer, double amount, bool reach) {
  PareMark mark = pare_arena_mark(c->scratch);
  Candidate *cand = PARE_NEW_N(c->scratch, count_groups(n, layer) + 1, Candidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !alive) return pare_nomem(c);
  double gone = 0;
  size_t m = 0;
  for (size_t i = 0; i < n; i++) {
    int64_t dead = dead_of(&layer[i]);
    alive[i] = layer[i].count - dead;
    gone += layer[i].cost * (double)dead;
    m += gather(layer, i, true, cand + m);
  }
  m = order_kills(layer, cand, m, alive);
  for (size_t k = 0; k < m; k++) {
    double cost = layer[cand[k].layer].cost;
    if (gone + (reach ? 0 : cost / 2) >= amount) break;
    layer[cand[k].layer].keep[cand[k].index] = false;
    gone += cost;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
