/* drop_branches - takes the dead branches of residual streams out of a graph: the sum
 * becomes the Identity of the stream, so that its name stays, and what nobody needs
 * any more goes. */
#include "passes/edit.h"

typedef struct Drop {
  PareCtx *c;
  PareGraph *g;
  PareUses uses;
  PareNode **by_id;
  bool *gone;      /* by node id */
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
  return readers == 0; /* was dead before, and is none of our business */
}

static PareStatus start(Drop *d, const PareDims *dims) {
  size_t n = d->g->nnodes + 1;
  d->by_id = PARE_NEW_N(d->c->scratch, n, PareNode *);
  d->gone = PARE_NEW_N(d->c->scratch, n, bool);
  d->dropped = PARE_NEW_N(d->c->scratch, n, int);
  if (!d->by_id || !d->gone || !d->dropped) return pare_nomem(d->c);
  for (PareNode *p = d->g->first; p; p = p->next) d->by_id[p->id] = p, d->dropped[p->id] = -1;
  for (size_t i = 0; i < dims->dims.n; i++)
    for (size_t b = 0; b < dims->dims.at[i].branches.n; b++) {
      const PareBranch *branch = &dims->dims.at[i].branches.at[b];
      if (!pare_branch_dead(branch)) continue;
      d->dropped[branch->sum.node->id] = branch->sum.input;
      if (branch->bias.node) d->dropped[branch->bias.node->id] = branch->bias.input;
    }
  return pare_uses(d->c, d->c->scratch, d->g, &d->uses);
}

PareStatus pare_drop_branches(PareCtx *c, PareGraph *g, const PareDims *dims) {
  Drop d = {.c = c, .g = g};
  PareMark mark = pare_arena_mark(c->scratch);
  PARE_TRY(start(&d, dims));
  for (PareNode *n = g->last, *before; n; n = before) {
    before = n->prev;
    d.gone[n->id] = !is_needed(&d, n);
    if (d.gone[n->id]) pare_node_remove(g, n);
    if (d.gone[n->id] || d.dropped[n->id] < 0) continue;
    n->in[0] = n->in[1 - d.dropped[n->id]];
    n->nin = 1;
    n->op = PARE_OP_IDENTITY;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
