/* rank_budget.c - from what may be left to ratios of groups by kind, where what groups cost adds up. */
#include <assert.h>
#include <math.h>

#include "runtime/rank_parts.h"

/* Ratios that differ by less are one: counts of groups are far from it. */
static const double SAME_RATIO = 1e-15;

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
    if (!pare_rank_is_first(layer, i)) continue;
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
  for (int k = 0; k < s->kinds.n; k++) pare_rank_quota_of(s->n, s->layer, s->kinds.kind[k], ratio[k], s->rest, s->dead);
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
    int64_t drop = pare_rank_dead(r->n, r->layer, s->kind, ratio[k]) - s->dead;
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
    if (!pare_rank_stops(cand, k)) s->sum[k] = s->sum[k + 1];
}

static size_t first_layer(const PareLayer *layer, int kind) {
  size_t i = 0;
  while (layer[i].kind != kind) i++;
  return i;
}

static PareStatus rank_savings(PareCtx *c, Ranked *r) {
  size_t n = r->n;
  PareCandidate *cand = PARE_NEW_N(c->scratch, pare_rank_groups(n, r->layer) + 1, PareCandidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !alive) return pare_nomem(c);
  for (int k = 0; k < r->kinds.n; k++) {
    Savings *s = &r->of[k];
    s->kind = r->kinds.kind[k];
    s->dead = pare_rank_dead_now(n, r->layer, s->kind);
    s->n = pare_rank_kills(n, r->layer, first_layer(r->layer, s->kind), true, cand, alive);
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
