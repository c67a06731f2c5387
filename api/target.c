#include "api/target.h"

#include <math.h>
#include <string.h>

#include "api/align.h"
#include "api/costs.h"
#include "api/cut_cost.h"
#include "api/options.h"
#include "passes/edit.h"
#include "runtime/rank.h"

/* What emission may add to a file: provenance, and copies of shape constants for their reader alone. */
enum { ADDED_BYTES = 512, ADDED_BYTES_A_DIM = 256 };
/* A result this share under what was asked for is as good as one that meets it; of times, which scatter, any is. */
static const double NEAR = 0.005;

void pare_target_read(const PareCompressOptions *o, PareTarget *out) {
  *out = (PareTarget){*o->plan ? "plan" : "sparsity", o->sparsity, o->floor, o->align};
  if (!*o->plan) pare_option_target(o, &out->kind, &out->requested);
}

/* The share of the leaf in a node's work: each product's MACs hold it at most once. */
static PareStatus share(PareCtx *c, const PareDims *d, const PareNode *n, const PareAxis *leaf, double *out) {
  *out = 0;
  for (int k = 0; k < n->nin && k < 2; k++)
    for (int a = 0; n->in[k] && a < n->in[k]->type.rank; a++) {
      PareAxis *axis = pare_axis_in(d->tracer, n, k, a);
      PareMark mark = pare_arena_mark(c->scratch);
      int64_t *pos = PARE_NEW_N(c->scratch, axis->size + 1, int64_t), own = 0;
      if (!pos) return pare_nomem(c);
      pare_axis_positions(axis, leaf, pos);
      for (int64_t i = 0; i < axis->size; i++) own += pos[i] >= 0;
      pare_arena_rewind(c->scratch, mark);
      *out = fmax(*out, (double)own / (double)(axis->size ? axis->size : 1));
    }
  return PARE_OK;
}

/* MACs of a dimension's branches, each in the mean. */
static double branch_macs(const PareDim *dim, const PareGraph *sized) {
  double macs = 0;
  for (const PareNode *s = sized->first; s; s = s->next)
    for (size_t b = 0; b < dim->branches.n; b++)
      for (size_t i = 0; i < dim->branches.at[b].nodes.n; i++)
        if (dim->branches.at[b].nodes.at[i]->id == s->id) macs += pare_op_info[s->op].cost(s).macs;
  return macs / (double)dim->count;
}

PareStatus pare_group_macs(PareCtx *c, const PareDims *d, const PareDim *dim, const PareGraph *sized, double *out) {
  *out = branch_macs(dim, sized);
  const PareNode *s = sized->first;
  for (const PareNode *n = d->tracer->g->first; n; n = n->next, s = s->next) {
    double macs = pare_op_info[s->op].cost(s).macs, part;
    if (macs == 0) continue;
    PARE_TRY(share(c, d, n, dim->leaf, &part));
    *out += macs * part / (double)dim->count;
  }
  return PARE_OK;
}

/* --- from a target to a ratio --- */

typedef struct Reach {
  PareCtx *c;
  const PareTarget *t;
  const PareDims *d;
  const PareMeasures *m;
  PareGoal *goal;
  PareLayer *layer; /* those that lose groups by their scores */
  size_t nlayers;
} Reach;

static bool is(const Reach *r, const char *kind) { return !strcmp(r->t->kind, kind); }

static PareStatus whole_cost(Reach *r, double *all) {
  PareWeights w;
  PARE_TRY(pare_graph_weights(r->c, r->m->sized, &w));
  *all = is(r, "macs") ? (double)pare_graph_macs(r->m->sized) : is(r, "bytes") ? (double)r->m->file_bytes : (double)w.params;
  if (is(r, "latency")) *all = r->m->latency->dense.ms;
  return PARE_OK;
}

/* Of a file, beside weights: what goes with a branch of the dimension, in the mean. */
static PareStatus branch_frame(const Reach *r, const PareDim *dim, double *out) {
  const PareGraph *g = r->d->tracer->g;
  PareMark mark = pare_arena_mark(r->c->scratch);
  *out = 0;
  for (size_t b = 0; b < dim->branches.n; b++) {
    bool *gone = PARE_NEW_N(r->c->scratch, g->nnodes + 1, bool);
    double bytes;
    if (!gone) return pare_nomem(r->c);
    for (size_t i = 0; i < dim->branches.at[b].nodes.n; i++) gone[dim->branches.at[b].nodes.at[i]->id] = true;
    PARE_TRY(pare_frame_gone(r->c, r->m->frame, g, gone, &bytes));
    *out += bytes / (double)dim->count;
  }
  pare_arena_rewind(r->c->scratch, mark);
  return PARE_OK;
}

/* Of a group; by a curve, in the mean: more than nothing, since scores are divided by it. */
static PareStatus group_cost(const Reach *r, size_t i, double *out) {
  const PareDim *dim = &r->d->dims.at[i];
  if (is(r, "macs")) return pare_group_macs(r->c, r->d, dim, r->m->sized, out);
  if (is(r, "bytes")) {
    PARE_TRY(branch_frame(r, dim, out));
    *out += (double)dim->bytes;
    return PARE_OK;
  }
  *out = (double)dim->params;
  if (is(r, "latency"))
    *out = fmax(-r->m->latency->curve[i][1] / (double)dim->count, 1e-9 * r->m->latency->dense.ms);
  return PARE_OK;
}

static PareStatus add_layer(Reach *r, size_t i) {
  const PareDim *dim = &r->d->dims.at[i];
  PareGoal *goal = r->goal;
  PareLayer l = {.kind = (int)dim->kind, .count = dim->count, .least = pare_rank_least(dim->count, r->t->floor)};
  if (dim->given && is(r, "latency")) return PARE_OK; /* the base is without it */
  PARE_TRY(group_cost(r, i, &goal->cost[i]));
  if (dim->given) {
    goal->fixed -= goal->cost[i] * (double)(dim->count - pare_axis_count(dim->leaf));
    return PARE_OK;
  }
  PARE_TRY(pare_align_multiple(r->c, r->d, dim, r->t->align, &l.multiple));
  l.cost = goal->cost[i];
  if (goal->curve) l.curve = goal->curve[i];
  else goal->fixed -= goal->cost[i] * (double)dim->count;
  r->layer[r->nlayers++] = l;
  return PARE_OK;
}

/* Of bytes, all but the weights. */
static PareStatus add_up_later(Reach *r, double added) {
  PareWeights w;
  PARE_TRY(pare_graph_weights(r->c, r->m->sized, &w));
  r->goal->fixed = is(r, "bytes") ? (double)r->m->file_bytes - (double)w.bytes + added : 0;
  return PARE_OK;
}

/* By kind, to the goal; *ratio: of all groups together. */
static PareStatus share_out(Reach *r, double *ratio) {
  PareGoal *goal = r->goal;
  double *of = PARE_NEW_N(r->c->scratch, r->nlayers + 1, double), dead = 0, all = 0;
  if (!of) return pare_nomem(r->c);
  PARE_TRY(pare_rank_budget(r->c, r->nlayers, r->layer, &(PareBudget){goal->fixed, goal->budget, goal->near}, of));
  for (size_t i = 0; i < r->nlayers; i++) {
    goal->ratio[r->layer[i].kind] = of[i];
    dead += of[i] * (double)r->layer[i].count;
    all += (double)r->layer[i].count;
  }
  *ratio = all > 0 ? dead / all : 0;
  return PARE_OK;
}

static PareStatus reach(Reach *r, const bool *pruned, double *ratio) {
  PareGoal *goal = r->goal;
  PARE_TRY(whole_cost(r, &goal->fixed));
  goal->budget = r->t->requested * goal->fixed;
  goal->near = is(r, "latency") ? INFINITY : NEAR * goal->budget;
  if (is(r, "latency")) {
    goal->curve = r->m->latency->curve;
    goal->fixed = r->m->latency->base.ms;
  }
  for (size_t i = 0; i < r->d->dims.n; i++)
    if (pruned[i]) PARE_TRY(add_layer(r, i));
  double added = is(r, "bytes") ? ADDED_BYTES + ADDED_BYTES_A_DIM * (double)r->nlayers : 0;
  if (goal->overlaps) return add_up_later(r, added);
  goal->fixed += added;
  return share_out(r, ratio);
}

PareStatus pare_target_ratio(PareCtx *c, PareArena *a, const PareTarget *t, const PareDims *d, const bool *pruned,
                             const PareMeasures *m, double *ratio, PareGoal *goal) {
  *ratio = t->requested;
  *goal = (PareGoal){.kind = t->kind, .sized = m->sized, .frame = m->frame};
  if (!strcmp(t->kind, "sparsity") || !strcmp(t->kind, "plan")) return PARE_OK;
  bool weights = strcmp(t->kind, "macs") != 0;
  if (strcmp(t->kind, "latency")) PARE_TRY(pare_dims_overlap(c, d, pruned, weights, &goal->overlaps));
  PareMark mark = pare_arena_mark(c->scratch);
  Reach r = {.c = c, .t = t, .d = d, .m = m, .goal = goal};
  r.layer = PARE_NEW_N(c->scratch, d->dims.n + 1, PareLayer);
  goal->cost = PARE_NEW_N(a, d->dims.n + 1, double);
  if (!r.layer || !goal->cost) return pare_nomem(c);
  PARE_TRY(reach(&r, pruned, ratio));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* Less what goes with the nodes of dead branches. */
static PareStatus take_frame(PareCtx *c, const PareGoal *goal, const PareDims *d, double *out) {
  const PareGraph *g = d->tracer->g;
  PareMark mark = pare_arena_mark(c->scratch);
  bool *gone = PARE_NEW_N(c->scratch, g->nnodes + 1, bool);
  double bytes;
  if (!gone) return pare_nomem(c);
  PARE_TRY(pare_find_dropped(c, g, d, gone));
  PARE_TRY(pare_frame_gone(c, goal->frame, g, gone, &bytes));
  *out -= bytes;
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_goal_cost(PareCtx *c, const PareGoal *goal, const PareDims *d, double *out) {
  PareWeights w;
  if (!strcmp(goal->kind, "macs")) return pare_cut_macs(c, d, goal->sized, out);
  PARE_TRY(pare_cut_weights(c, d, &w));
  *out = goal->fixed + (double)(goal->frame ? w.bytes : w.params);
  return goal->frame ? take_frame(c, goal, d, out) : PARE_OK;
}
