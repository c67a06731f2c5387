/* rank.c - quotas by largest remainder, then the lowest scores. */
#include "runtime/rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/blocks.h"

enum { BISECTIONS = 60 };

static int64_t most_of(const PareLayer *l) {
  return l->count > pare_block_least(l) ? l->count - pare_block_least(l) : 0;
}

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

PareStatus pare_rank_quota(PareCtx *c, size_t n, const PareLayer *layer, double ratio, int64_t *dead) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *rest = PARE_NEW_N(c->scratch, n + 1, PareCandidate);
  if (!rest) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) dead[i] = -1;
  for (size_t first = 0; first < n; first++) {
    if (dead[first] >= 0) continue;
    int64_t left = dead_of_kind(n, layer, layer[first].kind, ratio);
    size_t m = 0;
    for (size_t i = first; i < n; i++) {
      if (layer[i].kind != layer[first].kind) continue;
      double share = ratio * (double)layer[i].count;
      dead[i] = whole_blocks(&layer[i], share);
      left -= dead[i];
      rest[m++] = (PareCandidate){.score = (double)dead[i] - share, .layer = i};
    }
    qsort(rest, m, sizeof *rest, pare_by_score);
    share_rest(layer, m, rest, left, dead);
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* Puts candidates in the order in which they go, those that the layers' floors keep left out. `alive` has what lives in
 * each layer. Returns their number. */
static size_t order_kills(const PareLayer *layer, PareCandidate *cand, size_t n, int64_t *alive) {
  qsort(cand, n, sizeof *cand, pare_by_score);
  size_t m = 0;
  for (size_t i = 0; i < n; i++)
    if (alive[cand[i].layer] > pare_block_least(&layer[cand[i].layer])) alive[cand[i].layer]--, cand[m++] = cand[i];
  return m;
}

/* The kills of layer `first`, or of all layers of its kind, in order. */
static size_t list_kills(size_t n, const PareLayer *layer, size_t first, bool global, PareCandidate *cand,
                         int64_t *alive) {
  size_t m = 0;
  for (size_t i = first; i < (global ? n : first + 1); i++) {
    if (layer[i].kind != layer[first].kind) continue;
    alive[i] = layer[i].count - pare_dead_of(&layer[i]);
    m += pare_blocks_gather(layer, i, global, cand + m);
  }
  return order_kills(layer, cand, m, alive);
}

static int64_t dead_of_layers(size_t n, const PareLayer *layer, int kind) {
  int64_t dead = 0;
  for (size_t i = 0; i < n; i++)
    if (layer[i].kind == kind) dead += pare_dead_of(&layer[i]);
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

/* May the kills end before candidate k? Not within a block, nor before what is over a multiple. */
static bool stops(const PareCandidate *cand, size_t k) {
  return pare_block_starts(cand, k) && cand[k].score > -INFINITY;
}

PareStatus pare_rank_ratio(PareCtx *c, size_t n, PareLayer *layer, double ratio, double final, bool global) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *cand = PARE_NEW_N(c->scratch, count_groups(n, layer) + 1, PareCandidate);
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
                          : share - pare_dead_of(&layer[i]);
    for (size_t k = 0; k < m && !(stops(cand, k) && (int64_t)k >= drop); k++)
      layer[cand[k].layer].keep[cand[k].index] = false;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static double cost_at(size_t n, const PareLayer *layer, const int64_t *dead, double fixed) {
  double cost = fixed;
  for (size_t i = 0; i < n; i++) cost += pare_layer_cost(&layer[i], layer[i].count - dead[i]);
  return cost;
}

/* Milliseconds have digits behind the point that matter, parameters have none. */
static const char *amount_text(double v, char buf[32]) {
  snprintf(buf, 32, fabs(v) < 1e4 ? "%.4g" : "%.0f", v);
  return buf;
}

PareStatus pare_rank_unreachable(PareCtx *c, double least, double budget) {
  char a[32], b[32];
  return pare_error(c, PARE_TARGET, "the target cannot be reached: at least %s would be left, %s are asked for; "
                    "one group of each layer always stays, and what --floor and --align say", amount_text(least, a),
                    amount_text(budget, b));
}

PareStatus pare_rank_budget(PareCtx *c, size_t n, const PareLayer *layer, double fixed, double budget, double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *dead = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!dead) return pare_nomem(c);
  PARE_TRY(pare_rank_quota(c, n, layer, 1.0, dead));
  double least = cost_at(n, layer, dead, fixed);
  if (least > budget) return pare_rank_unreachable(c, least, budget);
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

/* What the first kills of a kind save, by their number; within a block, what the whole block does. */
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
    saved += s[i].sum[drop < 0 ? 0 : (size_t)drop < s[i].n ? (size_t)drop : s[i].n];
  }
  return saved;
}

static void add_savings(const PareLayer *layer, const PareCandidate *cand, int64_t *alive, Savings *s) {
  for (size_t k = 0; k < s->n; k++) {
    const PareLayer *l = &layer[cand[k].layer];
    int64_t left = --alive[cand[k].layer];
    s->sum[k + 1] = s->sum[k] + pare_layer_cost(l, left + 1) - pare_layer_cost(l, left);
  }
  for (size_t k = s->n; k-- > 0;)
    if (!stops(cand, k)) s->sum[k] = s->sum[k + 1];
}

PareStatus pare_rank_budget_global(PareCtx *c, size_t n, const PareLayer *layer, double fixed, double budget,
                                   double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *cand = PARE_NEW_N(c->scratch, count_groups(n, layer) + 1, PareCandidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  Savings *s = PARE_NEW_N(c->scratch, n + 1, Savings);
  if (!cand || !alive || !s) return pare_nomem(c);
  size_t kinds = 0;
  double now = fixed;
  for (size_t i = 0; i < n; i++) {
    now += pare_layer_cost(&layer[i], layer[i].count - pare_dead_of(&layer[i]));
    if (!first_of_kind(layer, i)) continue;
    Savings *k = &s[kinds++];
    *k = (Savings){.kind = layer[i].kind, .dead = dead_of_layers(n, layer, layer[i].kind)};
    k->n = list_kills(n, layer, i, true, cand, alive);
    if (!(k->sum = PARE_NEW_N(c->scratch, k->n + 1, double))) return pare_nomem(c);
    for (size_t j = 0; j < n; j++) alive[j] = layer[j].count - pare_dead_of(&layer[j]);
    add_savings(layer, cand, alive, k);
  }
  double least = now - saved_at(n, layer, kinds, s, 1), lo = 0, hi = 1;
  for (int i = 0; i < BISECTIONS && least <= budget; i++) {
    double mid = 0.5 * (lo + hi);
    if (now - saved_at(n, layer, kinds, s, mid) <= budget) hi = mid;
    else lo = mid;
  }
  pare_arena_rewind(c->scratch, mark);
  *ratio = hi;
  return least <= budget ? PARE_OK : pare_rank_unreachable(c, least, budget);
}

PareStatus pare_rank_cost(PareCtx *c, size_t n, PareLayer *layer, double amount, bool reach) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *cand = PARE_NEW_N(c->scratch, count_groups(n, layer) + 1, PareCandidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !alive) return pare_nomem(c);
  double gone = 0;
  size_t m = 0;
  for (size_t i = 0; i < n; i++) {
    int64_t dead = pare_dead_of(&layer[i]);
    alive[i] = layer[i].count - dead;
    gone += layer[i].cost * (double)dead;
    m += pare_blocks_gather(layer, i, true, cand + m);
  }
  m = order_kills(layer, cand, m, alive);
  for (size_t k = 0; k < m; k++) {
    double cost = layer[cand[k].layer].cost, half = reach || pare_block_size(&layer[cand[k].layer]) > 1 ? 0 : cost / 2;
    if (stops(cand, k) && gone + half >= amount) break;
    layer[cand[k].layer].keep[cand[k].index] = false;
    gone += cost;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
