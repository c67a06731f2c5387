/* renorm - Add & Norm makes the f32 norm that it adds to again, from the sum, mean and deviation that backward reads
 * anyway: where a device reads faster than it stores, a residual that is a norm (BERT's) is written in bf16 alone.
 *   s, y, mean, rstd = AddNorm(..), AddNorm(y, gamma', beta', branch)
 *   s, _, mean, rstd = AddNorm(..), AddNorm(s, gamma', beta', branch, mean, rstd, gamma, beta)
 * It comes when gradients are there: they keep s, mean and rstd. */
#include "passes/match.h"
#include "passes/pass.h"

enum { X, GAMMA, BETA, BRANCH, FIRST, SUM = 0, Y, MEAN, RSTD };

/* The norm that makes n's x and whose y nobody else reads; its s is read behind n too. */
static PareNode *first_norm(const PareGraph *g, const PareNode *n) {
  PareNode *first = pare_made_by(n->in[X], PARE_OP_ADDNORM);
  if (!first || first->nout <= RSTD || first->out[Y] != n->in[X] || first->phase != n->phase) return NULL;
  if (!first->out[SUM] || !first->out[MEAN] || !first->out[RSTD] || first->nin > FIRST) return NULL;
  if (pare_is_output(g, first->out[Y]) || pare_sole_reader(g, first->out[Y]) != n) return NULL;
  if (pare_attr_get(&first->attr, axis, -1) != pare_attr_get(&n->attr, axis, -1)) return NULL;
  for (const PareNode *m = n->next; m; m = m->next)
    if (pare_reads(m, first->out[SUM])) return first;
  return NULL;
}

PareStatus pare_renorm(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next) {
    PareNode *first = n->op == PARE_OP_ADDNORM && n->nin <= FIRST ? first_norm(g, n) : NULL;
    if (!first) continue;
    PARE_TRY(pare_node_widen(c, g, n, FIRST + 4, n->nout, 0));
    PareValue *y = first->out[Y];
    n->in[X] = first->out[SUM];
    n->in[FIRST] = first->out[MEAN], n->in[FIRST + 1] = first->out[RSTD];
    n->in[FIRST + 2] = first->in[GAMMA], n->in[FIRST + 3] = first->nin > BETA ? first->in[BETA] : NULL;
    y->def = NULL;
    first->out[Y] = NULL;
    PARE_TRY(pare_infer(c, n));
  }
  return PARE_OK;
}
