/* prune.c - which groups die at a prune: by scores, to a share of what shall go in the end. */
#include <math.h>
#include <string.h>

#include "api/align.h"
#include "api/tuner_parts.h"

/* Which share of the groups goes in the end. */
typedef struct Ratios {
  double all;
  double of[PARE_KIND_COUNT]; /* by kind, where groups overlap */
} Ratios;

/* Those of some kinds that may be ranked; *n of them. */
static PareStatus list_layers(const PareTuner *t, unsigned kinds, PareLayer *layer, size_t *n) {
  *n = 0;
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareDim *d = &t->dims->dims.at[i];
    if (!pare_tuner_ranks(t, t->keep, i) || !(kinds & PARE_KIND_BIT(d->kind))) continue;
    if (t->o->regrow) memset(t->keep[i], 1, (size_t)d->count * sizeof(bool));
    PareLayer *l = &layer[(*n)++];
    *l = (PareLayer){.kind = (int)d->kind, .count = d->count, .score = t->score[i], .keep = t->keep[i],
                     .cost = pare_tuner_cost(t, i), .least = pare_rank_least(d->count, t->o->floor),
                     .curve = t->goal.curve ? t->goal.curve[i] : NULL};
    PARE_TRY(pare_align_multiple(t->c, t->dims, d, t->o->align, &l->multiple));
  }
  return PARE_OK;
}

/* What all groups cost. */
static double whole_cost(size_t n, const PareLayer *layer) {
  double cost = 0;
  for (size_t i = 0; i < n; i++) cost += pare_layer_cost(&layer[i], layer[i].count);
  return cost;
}

/* Drops groups to a share, 0 to 1, of what shall go in the end. Under global ranking the scores decide how many that
 * takes, where they cost unlike much and their costs add up. */
static PareStatus rank(PareTuner *t, size_t n, PareLayer *layer, double ratio, double share) {
  const PareGoal *goal = &t->goal;
  bool adds_up = goal->cost && !goal->overlaps;
  if (t->ranking == PARE_RANK_GLOBAL && adds_up)
    PARE_TRY(pare_rank_budget_global(t->c, n, layer, goal->fixed, goal->budget, &ratio));
  double all = whole_cost(n, layer), amount = adds_up ? all + goal->fixed - goal->budget : ratio * all;
  if (t->ranking == PARE_RANK_COST && goal->curve) return pare_rank_curve(t->c, n, layer, share * amount);
  if (t->ranking == PARE_RANK_COST) return pare_rank_cost(t->c, n, layer, share * amount, goal->cost != NULL);
  return pare_rank_ratio(t->c, n, layer, share * ratio, ratio, t->ranking == PARE_RANK_GLOBAL);
}

static PareStatus prune_kinds(PareTuner *t, unsigned kinds, double ratio, double share) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  PareLayer *layer = PARE_NEW_N(t->c->scratch, t->dims->dims.n + 1, PareLayer);
  size_t n;
  if (!layer) return pare_nomem(t->c);
  PARE_TRY(list_layers(t, kinds, layer, &n));
  if (n) PARE_TRY(rank(t, n, layer, ratio, share));
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

/* Branches first: what they hold goes with them and is not ranked. */
static PareStatus prune_groups(PareTuner *t, const Ratios *r, double share) {
  const unsigned branches = PARE_KIND_BIT(PARE_KIND_DEPTH);
  bool one_ratio = !t->goal.overlaps || t->ranking == PARE_RANK_COST;
  PARE_TRY(prune_kinds(t, branches, one_ratio ? r->all : r->of[PARE_KIND_DEPTH], share));
  if (one_ratio) return prune_kinds(t, ~branches, r->all, share);
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++)
    if (kind != PARE_KIND_DEPTH) PARE_TRY(prune_kinds(t, PARE_KIND_BIT(kind), r->of[kind], share));
  return PARE_OK;
}

/* --- where groups overlap --- */

static void copy_flags(const PareTuner *t, bool *const *to, bool *const *from) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (from[i]) memcpy(to[i], from[i], (size_t)t->dims->dims.at[i].count * sizeof(bool));
}

/* What is left costs so much under keep[]. The leaves' flags are the program's: they are lent for the time. */
static PareStatus cost_of_flags(PareTuner *t, double *cost) {
  PareDims *d = t->dims;
  const bool **lent = PARE_NEW_N(t->c->scratch, d->dims.n + 1, const bool *);
  if (!lent) return pare_nomem(t->c);
  for (size_t i = 0; i < d->dims.n; i++) {
    lent[i] = d->dims.at[i].leaf->keep;
    if (t->keep[i]) d->dims.at[i].leaf->keep = t->keep[i];
  }
  PareStatus s = pare_goal_cost(t->c, &t->goal, d, cost);
  for (size_t i = 0; i < d->dims.n; i++) d->dims.at[i].leaf->keep = lent[i];
  return s;
}

/* The bisection of ratios from the flags as they were. */
typedef struct Fit {
  PareTuner *t;
  bool **was;
  int kind[PARE_KIND_COUNT]; /* those that may lose groups, whose groups cost most first */
  double count[PARE_KIND_COUNT]; /* of their groups, by kind */
  int nkinds;
} Fit;

static PareStatus try_ratios(Fit *f, const Ratios *r, double *cost) {
  PareMark mark = pare_arena_mark(f->t->c->scratch);
  copy_flags(f->t, f->t->keep, f->was);
  PARE_TRY(prune_groups(f->t, r, 1));
  PARE_TRY(cost_of_flags(f->t, cost));
  pare_arena_rewind(f->t->c->scratch, mark);
  return PARE_OK;
}

/* Half of what one group is of its kind; of an order by cost, less than any group is of all. */
static double resolution(const Fit *f, int first) {
  double most = 1;
  if (f->t->ranking == PARE_RANK_COST) return 1e-9;
  for (int k = first; k < f->nkinds; k++) most = fmax(most, f->count[f->kind[k]]);
  return 0.5 / most;
}

/* One ratio for the kinds from number `first` on, at most `hi`: the cost falls with it in steps, and bisection finds
 * the step. At `r` as it is given the goal is kept. */
static PareStatus bisect(Fit *f, int first, double hi, Ratios *r) {
  double lo = 0, cost, enough = resolution(f, first);
  Ratios x = *r;
  while (hi - lo > enough) {
    double mid = 0.5 * (lo + hi);
    for (int k = first; k < f->nkinds; k++) x.of[f->kind[k]] = mid;
    if (first == 0) x.all = mid;
    PARE_TRY(try_ratios(f, &x, &cost));
    if (cost > f->t->goal.budget) lo = mid;
    else hi = mid, *r = x;
  }
  return PARE_OK;
}

/* Kinds by what a group of theirs costs in the mean. */
static void order_kinds(Fit *f) {
  double cost[PARE_KIND_COUNT] = {0}, *count = f->count;
  for (size_t i = 0; i < f->t->dims->dims.n; i++) {
    const PareDim *d = &f->t->dims->dims.at[i];
    if (!f->t->keep[i] || d->given) continue;
    cost[d->kind] += pare_tuner_cost(f->t, i) * (double)d->count;
    count[d->kind] += (double)d->count;
  }
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++) {
    int at = f->nkinds;
    if (!(count[kind] > 0)) continue;
    for (; at > 0 && cost[f->kind[at - 1]] * count[kind] < cost[kind] * count[f->kind[at - 1]]; at--)
      f->kind[at] = f->kind[at - 1];
    f->kind[at] = kind;
    f->nkinds++;
  }
}

/* The same ratio for all; then the coarsest kind keeps it and the others make up for its last step, and so on, so that
 * what is left is under the goal by less than a group of the finest kind. One order of all groups by their cost has but
 * one ratio. */
static PareStatus fit_ratios(Fit *f, Ratios *r) {
  PareTuner *t = f->t;
  double cost;
  r->all = 1;
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++) r->of[kind] = 1;
  PARE_TRY(try_ratios(f, r, &cost));
  if (cost > t->goal.budget) return pare_rank_unreachable(t->c, cost, t->goal.budget);
  order_kinds(f);
  PARE_TRY(bisect(f, 0, 1, r));
  for (int k = 1; k < f->nkinds && t->ranking != PARE_RANK_COST; k++) PARE_TRY(bisect(f, k, r->of[f->kind[k]], r));
  return PARE_OK;
}

static PareStatus fit(PareTuner *t, Ratios *r) {
  size_t n = t->dims->dims.n;
  PareMark mark = pare_arena_mark(t->c->scratch);
  Fit f = {.t = t, .was = PARE_NEW_N(t->c->scratch, n + 1, bool *)};
  if (!f.was) return pare_nomem(t->c);
  for (size_t i = 0; i < n; i++)
    if (t->keep[i] && !(f.was[i] = PARE_NEW_N(t->c->scratch, t->dims->dims.at[i].count, bool))) return pare_nomem(t->c);
  copy_flags(t, f.was, t->keep);
  PARE_TRY(fit_ratios(&f, r));
  copy_flags(t, t->keep, f.was);
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_tuner_fit(PareTuner *t) {
  Ratios r;
  PARE_TRY(fit(t, &r));
  t->ratio = r.all;
  return PARE_OK;
}

PareStatus pare_tuner_prune(PareTuner *t, double share) {
  Ratios r = {.all = t->ratio};
  if (t->program) PARE_TRY(pare_tuner_carry_scores(t, false));
  if (t->element) return pare_tuner_prune_elements(t, share);
  if (t->goal.overlaps) PARE_TRY(fit(t, &r));
  return prune_groups(t, &r, share);
}
