#include "api/target.h"

#include <math.h>
#include <string.h>

#include "api/costs.h"
#include "api/options.h"
#include "runtime/rank.h"

/* What emission may add to a file: provenance, and copies of shape constants for their reader alone. */
enum { ADDED_BYTES = 512, ADDED_BYTES_A_DIM = 256 };

void pare_target_read(const PareCompressOptions *o, PareTarget *out) {
  *out = (PareTarget){*o->plan ? "plan" : "sparsity", o->sparsity, o->floor};
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

/* MACs that one group of the dimension owns. */
static PareStatus group_macs(PareCtx *c, const PareDims *d, const PareDim *dim, const PareGraph *sized, double *out) {
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

PareStatus pare_target_ratio(PareCtx *c, PareArena *a, const PareTarget *t, const PareDims *d, const bool *pruned,
                             const PareGraph *sized, size_t file_bytes, double *ratio, PareGoal *goal) {
  *ratio = t->requested;
  *goal = (PareGoal){0};
  if (!strcmp(t->kind, "sparsity") || !strcmp(t->kind, "plan")) return PARE_OK;
  PareWeights w;
  PARE_TRY(pare_graph_weights(c, sized, &w));
  bool macs = !strcmp(t->kind, "macs"), bytes = !strcmp(t->kind, "bytes");
  double all = macs ? (double)pare_graph_macs(sized) : bytes ? (double)file_bytes : (double)w.params;
  PareMark mark = pare_arena_mark(c->scratch);
  PareLayer *layer = PARE_NEW_N(c->scratch, d->dims.n + 1, PareLayer);
  *goal = (PareGoal){PARE_NEW_N(a, d->dims.n + 1, double), all, t->requested * all};
  size_t n = 0;
  if (!layer || !goal->cost) return pare_nomem(c);
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    if (!pruned[i]) continue;
    goal->cost[i] = (double)(bytes ? dim->bytes : dim->params);
    if (macs) PARE_TRY(group_macs(c, d, dim, sized, &goal->cost[i]));
    if (dim->given) {
      goal->fixed -= goal->cost[i] * (double)(dim->count - pare_axis_count(dim->leaf));
      continue;
    }
    goal->fixed -= goal->cost[i] * (double)dim->count;
    layer[n++] = (PareLayer){.kind = (int)dim->kind, .count = dim->count, .cost = goal->cost[i],
                             .least = pare_rank_least(dim->count, t->floor)};
  }
  if (bytes) goal->fixed += ADDED_BYTES + ADDED_BYTES_A_DIM * (double)n;
  PARE_TRY(pare_rank_budget(c, n, layer, goal->fixed, goal->budget, ratio));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
