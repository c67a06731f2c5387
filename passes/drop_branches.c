/* drop_branches - takes the dead branches of residual streams out of a graph: the sum
 * becomes the Identity of the stream, so that its name stays, and what nobody needs
 * any more goes. So do copies that a Concat reads no longer. */
#include "passes/edit.h"

typedef struct Drop {
  const PareGraph *g;
  PareUses uses;
  bool *gone;      /* by node id */
  bool *inside;    /* by node id: part of a dead branch, or made for a Concat that reads it no longer */
  int *dropped;    /* by node id: the operand of a sum that goes, its bias's too, or -1 */
} Drop;

static bool is_needed(const Drop *d, const PareNode *n) {
  uint32_t readers = 0;
  for (int o = 0; o < n->nout; o++) {
    const PareValue *v = n->out[o];
    if (!v) continue;
    if (pare_is_output(d->g, v)) return true;
    for (uint32_t u = d->uses.first[v->id]; u < d->uses.first[v->id + 1]; u++, readers++) {
      const PareUse *use = &d->uses.at[u];
      if (!d->gone[use->node->id] && d->dropped[use->node->id] != use->input) return true;
    }
  }
  return readers == 0 && !d->inside[n->id]; /* was dead before, and is none of our business */
}

/* Fills gone[], and the other lists, which are in scratch. */
static PareStatus find(PareCtx *c, const PareDims *dims, Drop *d) {
  d->dropped = PARE_NEW_N(c->scratch, d->g->nnodes + 1, int);
  d->inside = PARE_NEW_N(c->scratch, d->g->nnodes + 1, bool);
  if (!d->dropped || !d->inside) return pare_nomem(c);
  for (uint32_t i = 0; i <= d->g->nnodes; i++) d->dropped[i] = -1;
  for (size_t i = 0; i < dims->dims.n; i++)
    for (size_t b = 0; b < dims->dims.at[i].branches.n; b++) {
      const PareBranch *branch = &dims->dims.at[i].branches.at[b];
      if (!pare_branch_dead(branch)) continue;
      d->dropped[branch->sum.node->id] = branch->sum.input;
      if (branch->bias.node) d->dropped[branch->bias.node->id] = branch->bias.input;
      for (size_t k = 0; k < branch->nodes.n; k++) d->inside[branch->nodes.at[k]->id] = true;
    }
  const PareNode *now = d->g->first;
  for (const PareNode *n = dims->tracer->g->first; n; n = n->next, now = now->next)
    for (int k = now->nin; k < n->nin; k++)
      if (n->in[k] && n->in[k]->def) d->inside[n->in[k]->def->id] = true;
  PARE_TRY(pare_uses(c, c->scratch, d->g, &d->uses));
  for (const PareNode *n = d->g->last; n; n = n->prev) d->gone[n->id] = !is_needed(d, n);
  return PARE_OK;
}

PareStatus pare_find_dropped(PareCtx *c, const PareGraph *g, const PareDims *dims, bool *gone) {
  Drop d = {.g = g, .gone = gone};
  PareMark mark = pare_arena_mark(c->scratch);
  PARE_TRY(find(c, dims, &d));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_drop_branches(PareCtx *c, PareGraph *g, const PareDims *dims) {
  PareMark mark = pare_arena_mark(c->scratch);
  Drop d = {.g = g, .gone = PARE_NEW_N(c->scratch, g->nnodes + 1, bool)};
  if (!d.gone) return pare_nomem(c);
  PARE_TRY(find(c, dims, &d));
  for (PareNode *n = g->last, *before; n; n = before) {
    before = n->prev;
    if (d.gone[n->id]) pare_node_remove(g, n);
    if (d.gone[n->id] || d.dropped[n->id] < 0) continue;
    n->in[0] = n->in[1 - d.dropped[n->id]];
    n->nin = 1;
    n->op = PARE_OP_IDENTITY;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
