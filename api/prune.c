/* prune.c - which groups die at a prune: by scores, to a share of what shall go in the end. */
#include <math.h>
#include <string.h>

#include "api/align.h"
#include "api/tuner_parts.h"
#include "runtime/blocks.h"

/* Which share of the groups of each kind goes in the end; one of all under --ranking cost. */
typedef struct Ratios {
  double of[PARE_KIND_COUNT];
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

/* Of one class: what there is, and what may go. */
static PareStatus count_room(PareTuner *t, int kind, double *all, double *most) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  PareLayer *layer = PARE_NEW_N(t->c->scratch, t->dims->dims.n + 1, PareLayer);
  size_t n;
  *all = *most = 0;
  if (!layer) return pare_nomem(t->c);
  PARE_TRY(list_layers(t, PARE_KIND_BIT(kind), layer, &n));
  for (size_t i = 0; i < n; i++) {
    *all += (double)layer[i].count;
    *most += (double)(layer[i].count - pare_block_least(&layer[i]));
  }
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_tuner_check_room(PareTuner *t) {
  double all, most, room = 0;
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++) {
    PARE_TRY(count_room(t, kind, &all, &most));
    room += most;
    if (most < floor(t->ratio * all))
      pare_log(t->c, 0, "of %.0f groups of class %s %.4g %% shall go, and %.0f can: one of a layer stays, and what --floor and "
               "--align keep", all, pare_kind_name((PareKind)kind), 100 * t->ratio, most);
  }
  if (room > 0 || t->ratio == 0) return PARE_OK;
  return pare_error(t->c, PARE_TARGET, "nothing can go: one group of a layer stays, and what --floor %g and --align %lld keep",
                    t->o->floor, (long long)t->o->align);
}

/* What all groups cost. */
static double whole_cost(size_t n, const PareLayer *layer) {
  double cost = 0;
  for (size_t i = 0; i < n; i++) cost += pare_layer_cost(&layer[i], layer[i].count);
  return cost;
}

/* Drops groups to a share, 0 to 1, of what shall go in the end. */
static PareStatus rank(PareTuner *t, size_t n, PareLayer *layer, double ratio, double share) {
  const PareGoal *goal = &t->goal;
  bool adds_up = goal->cost && !goal->overlaps;
  double all = whole_cost(n, layer), amount = adds_up ? all + goal->fixed - goal->budget : ratio * all;
  if (t->ranking != PARE_RANK_COST)
    return pare_rank_ratio(t->c, n, layer, share * ratio, ratio, t->ranking == PARE_RANK_GLOBAL);
  if (goal->curve) return pare_rank_curve(t->c, n, layer, share * amount);
  if (!goal->cost) return pare_rank_cost(t->c, n, layer, share * amount);
  return pare_rank_cost_reach(t->c, n, layer, share * amount, amount, adds_up ? goal->near : INFINITY);
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
  PARE_TRY(prune_kinds(t, branches, r->of[PARE_KIND_DEPTH], share));
  if (t->ranking == PARE_RANK_COST) return prune_kinds(t, ~branches, r->of[PARE_KIND_HEADS], share); /* any has it */
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++)
    if (kind != PARE_KIND_DEPTH) PARE_TRY(prune_kinds(t, PARE_KIND_BIT(kind), r->of[kind], share));
  return PARE_OK;
}

static void set_all(Ratios *r, double to) {
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++) r->of[kind] = to;
}

/* Where costs add up, scores decide under global ranking how many groups make up for what is to go. */
static PareStatus share_out(PareTuner *t, Ratios *r) {
  const PareGoal *goal = &t->goal;
  PareMark mark = pare_arena_mark(t->c->scratch);
  PareLayer *layer = PARE_NEW_N(t->c->scratch, t->dims->dims.n + 1, PareLayer);
  double *of = PARE_NEW_N(t->c->scratch, t->dims->dims.n + 1, double);
  size_t n;
  if (!layer || !of) return pare_nomem(t->c);
  PARE_TRY(list_layers(t, ~0u, layer, &n));
  if (n) PARE_TRY(pare_rank_budget_global(t->c, n, layer, &(PareBudget){goal->fixed, goal->budget, goal->near}, of));
  for (size_t i = 0; i < n; i++) r->of[layer[i].kind] = of[i];
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

/* --- where groups overlap --- */

static void copy_flags(const PareTuner *t, bool *const *to, bool *const *from) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (from[i]) memcpy(to[i], from[i], (size_t)t->dims->dims.at[i].count * sizeof(bool));
}

/* What is left costs so much under keep[]. The leaves' flags are the program's. */
static PareStatus cost_of_flags(PareTuner *t, double *cost) {
  pare_tuner_show_leaves(t, t->keep);
  PareStatus s = pare_goal_cost(t->c, &t->goal, t->dims, cost);
  pare_tuner_show_leaves(t, t->stage_keep);
  return s;
}

/* The ratios from the flags as they were. */
typedef struct Fit {
  PareTuner *t;
  bool **was;
  PareKinds kinds; /* those that may lose groups; --ranking cost knows one, that of heads, whatever they are */
} Fit;

static bool by_cost(const Fit *f) { return f->t->ranking == PARE_RANK_COST; }

static void ratios_of(const Fit *f, const double *ratio, Ratios *out) {
  if (by_cost(f)) set_all(out, ratio[0]);
  for (int k = 0; k < f->kinds.n; k++) out->of[f->kinds.kind[k]] = ratio[k];
}

static PareStatus try_ratios(void *arg, const double *ratio, double *cost) {
  Fit *f = arg;
  Ratios r = {{0}};
  PareMark mark = pare_arena_mark(f->t->c->scratch);
  copy_flags(f->t, f->t->keep, f->was);
  ratios_of(f, ratio, &r);
  PARE_TRY(prune_groups(f->t, &r, 1));
  PARE_TRY(cost_of_flags(f->t, cost));
  pare_arena_rewind(f->t->c->scratch, mark);
  return PARE_OK;
}

/* Also those whose branches are gone: what a kind's groups cost in the mean does not change on the way. */
static PareStatus list_kinds(Fit *f) {
  PareTuner *t = f->t;
  PareMark mark = pare_arena_mark(t->c->scratch);
  PareLayer *layer = PARE_NEW_N(t->c->scratch, t->dims->dims.n + 1, PareLayer);
  size_t n = 0;
  if (!layer) return pare_nomem(t->c);
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareDim *d = &t->dims->dims.at[i];
    int kind = by_cost(f) ? PARE_KIND_HEADS : (int)d->kind;
    if (!t->keep[i] || d->given) continue;
    layer[n++] = (PareLayer){.kind = kind, .count = d->count, .cost = pare_tuner_cost(t, i)};
  }
  pare_rank_kinds(n, layer, &f->kinds);
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

/* Half of what one group is of its kind; of an order by cost, less than any group is of all. */
static double resolution(const Fit *f, int k) {
  return by_cost(f) ? 1e-9 : 0.5 / fmax(1, f->kinds.count[k]);
}

static PareStatus fit_ratios(Fit *f, Ratios *r, double *share) {
  PareTuner *t = f->t;
  double ratio[PARE_FIT_MOST] = {0}, step[PARE_FIT_MOST], left, dead = 0, all = 0;
  PARE_TRY(list_kinds(f));
  for (int k = 0; k < f->kinds.n; k++) step[k] = resolution(f, k);
  PareFit fit = {.n = f->kinds.n, .step = step, .budget = t->goal.budget, .near = t->goal.near,
                 .cost = try_ratios, .arg = f};
  PARE_TRY(pare_fit(&fit, ratio, &left));
  if (left > t->goal.budget) return pare_rank_unreachable(t->c, left, t->goal.budget);
  ratios_of(f, ratio, r);
  for (int k = 0; k < fit.n; k++) dead += ratio[k] * f->kinds.count[k], all += f->kinds.count[k];
  if (share) *share = all > 0 ? dead / all : 0;
  return PARE_OK;
}

/* *share: of all groups together; may be NULL. */
static PareStatus fit(PareTuner *t, Ratios *r, double *share) {
  size_t n = t->dims->dims.n;
  PareMark mark = pare_arena_mark(t->c->scratch);
  Fit f = {.t = t, .was = PARE_NEW_N(t->c->scratch, n + 1, bool *)};
  if (!f.was) return pare_nomem(t->c);
  for (size_t i = 0; i < n; i++)
    if (t->keep[i] && !(f.was[i] = PARE_NEW_N(t->c->scratch, t->dims->dims.at[i].count, bool))) return pare_nomem(t->c);
  copy_flags(t, f.was, t->keep);
  PARE_TRY(fit_ratios(&f, r, share));
  copy_flags(t, t->keep, f.was);
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_tuner_fit(PareTuner *t) {
  Ratios r;
  return fit(t, &r, &t->ratio);
}

PareStatus pare_tuner_prune(PareTuner *t, double share) {
  Ratios r;
  if (t->program) PARE_TRY(pare_tuner_carry_scores(t, false));
  if (t->element) return pare_tuner_prune_elements(t, share);
  bool adds_up = t->goal.cost && !t->goal.overlaps;
  set_all(&r, t->ratio);
  if (t->goal.overlaps) PARE_TRY(fit(t, &r, NULL));
  if (adds_up && t->ranking == PARE_RANK_GLOBAL) PARE_TRY(share_out(t, &r));
  if (adds_up && t->ranking == PARE_RANK_UNIFORM) memcpy(r.of, t->goal.ratio, sizeof r.of);
  return prune_groups(t, &r, share);
}
