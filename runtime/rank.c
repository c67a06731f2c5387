/* rank.c - quotas by largest remainder, then the lowest scores. */
#include "runtime/rank.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/blocks.h"

/* Ratios that differ by less are one: counts of groups are far from it. */
static const double SAME_RATIO = 1e-15;

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

/* rest: room for a candidate a layer. */
static void quota_of_kind(size_t n, const PareLayer *layer, int kind, double ratio, PareCandidate *rest, int64_t *dead) {
  int64_t left = dead_of_kind(n, layer, kind, ratio);
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

static bool first_of_kind(const PareLayer *layer, size_t i) {
  for (size_t k = 0; k < i; k++)
    if (layer[k].kind == layer[i].kind) return false;
  return true;
}

PareStatus pare_rank_quota(PareCtx *c, size_t n, const PareLayer *layer, double ratio, int64_t *dead) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *rest = PARE_NEW_N(c->scratch, n + 1, PareCandidate);
  if (!rest) return pare_nomem(c);
  for (size_t i = 0; i < n; i++)
    if (first_of_kind(layer, i)) quota_of_kind(n, layer, layer[i].kind, ratio, rest, dead);
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

void pare_rank_kinds(size_t n, const PareLayer *layer, PareKinds *out) {
  double cost[PARE_FIT_MOST];
  out->n = 0;
  for (size_t i = 0; i < n; i++) {
    double count = 0, all = 0;
    int at = out->n;
    if (!first_of_kind(layer, i)) continue;
    assert(out->n < PARE_FIT_MOST);
    for (size_t k = i; k < n; k++)
      if (layer[k].kind == layer[i].kind) count += (double)layer[k].count, all += layer[k].cost * (double)layer[k].count;
    for (; at > 0 && cost[at - 1] * count < all * out->count[at - 1]; at--) {
      cost[at] = cost[at - 1];
      out->count[at] = out->count[at - 1];
      out->kind[at] = out->kind[at - 1];
    }
    cost[at] = all, out->count[at] = count, out->kind[at] = layer[i].kind;
    out->n++;
  }
}

/* Layers that share a budget, by kind. */
typedef struct Sharing {
  size_t n;
  const PareLayer *layer;
  PareKinds kinds;
  double fixed;
  PareCandidate *rest; /* room, one a layer */
  int64_t *dead;
} Sharing;

static PareStatus cost_of_quotas(void *arg, const double *ratio, double *left) {
  Sharing *s = arg;
  for (int k = 0; k < s->kinds.n; k++) quota_of_kind(s->n, s->layer, s->kinds.kind[k], ratio[k], s->rest, s->dead);
  *left = cost_at(s->n, s->layer, s->dead, s->fixed);
  return PARE_OK;
}

/* By layer, from ratios by kind. */
static PareStatus fit_kinds(PareCtx *c, size_t n, const PareLayer *layer, const PareKinds *kinds, PareFit f,
                            const PareBudget *budget, double *ratio) {
  double step[PARE_FIT_MOST], of[PARE_FIT_MOST] = {0}, left;
  for (int k = 0; k < kinds->n; k++) step[k] = SAME_RATIO;
  f.n = kinds->n, f.step = step, f.budget = budget->most, f.near = budget->near, f.common = true;
  PARE_TRY(pare_fit(&f, of, &left));
  if (left > budget->most) return pare_rank_unreachable(c, left, budget->most);
  for (size_t i = 0; i < n; i++)
    for (int k = 0; k < kinds->n; k++)
      if (layer[i].kind == kinds->kind[k]) ratio[i] = of[k];
  return PARE_OK;
}

PareStatus pare_rank_budget(PareCtx *c, size_t n, const PareLayer *layer, const PareBudget *budget, double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  Sharing s = {.n = n, .layer = layer, .fixed = budget->fixed, .rest = PARE_NEW_N(c->scratch, n + 1, PareCandidate),
               .dead = PARE_NEW_N(c->scratch, n + 1, int64_t)};
  if (!s.rest || !s.dead) return pare_nomem(c);
  pare_rank_kinds(n, layer, &s.kinds);
  PARE_TRY(fit_kinds(c, n, layer, &s.kinds, (PareFit){.cost = cost_of_quotas, .arg = &s}, budget, ratio));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* What the first kills of a kind save, by their number; within a block, what the whole block does. */
typedef struct Savings {
  int kind;
  int64_t dead; /* before */
  size_t n;
  double *sum; /* [n + 1] */
} Savings;

/* Layers under global ranking, by kind. */
typedef struct Ranked {
  size_t n;
  const PareLayer *layer;
  PareKinds kinds;
  double now; /* what is left costs */
  Savings of[PARE_FIT_MOST];
} Ranked;

static PareStatus cost_of_kills(void *arg, const double *ratio, double *left) {
  const Ranked *r = arg;
  *left = r->now;
  for (int k = 0; k < r->kinds.n; k++) {
    const Savings *s = &r->of[k];
    int64_t drop = dead_of_kind(r->n, r->layer, s->kind, ratio[k]) - s->dead;
    *left -= s->sum[drop < 0 ? 0 : (size_t)drop < s->n ? (size_t)drop : s->n];
  }
  return PARE_OK;
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

static size_t first_layer(const PareLayer *layer, int kind) {
  size_t i = 0;
  while (layer[i].kind != kind) i++;
  return i;
}

static PareStatus rank_savings(PareCtx *c, Ranked *r) {
  size_t n = r->n;
  PareCandidate *cand = PARE_NEW_N(c->scratch, count_groups(n, r->layer) + 1, PareCandidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !alive) return pare_nomem(c);
  for (int k = 0; k < r->kinds.n; k++) {
    Savings *s = &r->of[k];
    s->kind = r->kinds.kind[k];
    s->dead = dead_of_layers(n, r->layer, s->kind);
    s->n = list_kills(n, r->layer, first_layer(r->layer, s->kind), true, cand, alive);
    if (!(s->sum = PARE_NEW_N(c->scratch, s->n + 1, double))) return pare_nomem(c);
    for (size_t i = 0; i < n; i++) alive[i] = r->layer[i].count - pare_dead_of(&r->layer[i]);
    add_savings(r->layer, cand, alive, s);
  }
  return PARE_OK;
}

PareStatus pare_rank_budget_global(PareCtx *c, size_t n, const PareLayer *layer, const PareBudget *budget,
                                   double *ratio) {
  PareMark mark = pare_arena_mark(c->scratch);
  Ranked r = {.n = n, .layer = layer, .now = budget->fixed};
  for (size_t i = 0; i < n; i++) r.now += pare_layer_cost(&layer[i], layer[i].count - pare_dead_of(&layer[i]));
  pare_rank_kinds(n, layer, &r.kinds);
  PARE_TRY(rank_savings(c, &r));
  PARE_TRY(fit_kinds(c, n, layer, &r.kinds, (PareFit){.cost = cost_of_kills, .arg = &r}, budget, ratio));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* When what goes by its cost is enough. */
typedef struct Enough {
  double amount, final, slack;
  bool nearest;
} Enough;

/* Groups in the order in which they go, in blocks. */
typedef struct Queue {
  PareLayer *layer;
  const PareCandidate *at;
  size_t n;
} Queue;

static size_t end_of_block(const Queue *q, size_t k) {
  size_t end = k + 1;
  while (end < q->n && !pare_block_starts(q->at, end)) end++;
  return end;
}

static double block_cost(const Queue *q, size_t k) {
  return q->layer[q->at[k].layer].cost * (double)(end_of_block(q, k) - k);
}

static void kill_block(Queue *q, size_t k) {
  for (size_t end = end_of_block(q, k); k < end; k++) q->layer[q->at[k].layer].keep[q->at[k].index] = false;
}

/* Is what goes enough before block k does? What is over a multiple goes in any case. */
static bool is_enough(const Queue *q, size_t k, double gone, const Enough *e) {
  const PareLayer *l = &q->layer[q->at[k].layer];
  double half = e->nearest && pare_block_size(l) == 1 ? l->cost / 2 : 0;
  return stops(q->at, k) && gone + half >= e->amount;
}

static bool is_too_much(const Queue *q, size_t k, double gone, const Enough *e) {
  return stops(q->at, k) && gone + block_cost(q, k) > e->final + e->slack;
}

/* What has gone in the end when block k is passed over: of those behind it all that are not too much, as long as it takes,
 * then the cheapest of the others, any of which is enough. INFINITY: they do not do. */
static double gone_without(const Queue *q, size_t k, double gone, const Enough *e) {
  double cheapest = INFINITY;
  for (k = end_of_block(q, k); k < q->n && gone < e->final; k = end_of_block(q, k)) {
    double cost = block_cost(q, k);
    if (!is_too_much(q, k, gone, e)) gone += cost;
    else if (cost < cheapest) cheapest = cost;
  }
  return gone < e->final ? gone + cheapest : gone;
}

/* `gone` is what went before. */
static void kill_until(Queue *q, double gone, const Enough *e) {
  for (size_t k = 0; k < q->n && !is_enough(q, k, gone, e); k = end_of_block(q, k)) {
    double cost = block_cost(q, k);
    if (is_too_much(q, k, gone, e) && gone_without(q, k, gone, e) < gone + cost) continue;
    kill_block(q, k);
    gone += cost;
  }
}

static PareStatus rank_cost(PareCtx *c, size_t n, PareLayer *layer, const Enough *e) {
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
  kill_until(&(Queue){layer, cand, order_kills(layer, cand, m, alive)}, gone, e);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_rank_cost(PareCtx *c, size_t n, PareLayer *layer, double amount) {
  return rank_cost(c, n, layer, &(Enough){amount, amount, INFINITY, true});
}

PareStatus pare_rank_cost_reach(PareCtx *c, size_t n, PareLayer *layer, double amount, double final, double slack) {
  return rank_cost(c, n, layer, &(Enough){amount, final, slack, false});
}
