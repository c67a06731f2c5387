/* grad_index.c - the gradient column, elements that are picked and placed by indices:
 * picking's gradient places, and placing's picks. */
#include "ir/grad.h"

RULE(gather) {
  if (!want[0]) return PARE_OK;
  EMIT(d, GATHERGRAD, &n->attr, n->in[1], dout[0], n->in[0]);
  din[0] = d;
  return PARE_OK;
}

/* `op` on these three, updates added. */
static PareValue *scatter(const Tape *t, PareOp op, PareValue *data, PareValue *updates, int reduction) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, reduction, reduction);
  if (pare_attr_has(&t->n->attr, axis)) pare_attr_set(&attr, axis, t->n->attr.axis);
  return data && updates ? PARE_EMIT(t->c, t->g, NULL, op, t->n->name, &attr, data, t->n->in[1], updates) : NULL;
}
enum { REPLACE, ADD }; /* the first words of `reduction` */

RULE(gatherelements) {
  const Tape tape = {c, g, n}, *t = &tape;
  if (want[0]) din[0] = scatter(t, PARE_OP_SCATTERELEMENTS, zeros_like(c, g, n, n->in[0]), dout[0], ADD);
  return din[0] || !want[0] ? PARE_OK : c->diag.code;
}

RULE(gathernd) {
  const Tape tape = {c, g, n}, *t = &tape;
  if (n->attr.batch_dims) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient where it has batch axes");
  if (want[0]) din[0] = scatter(t, PARE_OP_SCATTERND, zeros_like(c, g, n, n->in[0]), dout[0], ADD);
  return din[0] || !want[0] ? PARE_OK : c->diag.code;
}

/* What was replaced has no gradient; what was added to keeps its own. */
static PareStatus scatter_grad(PareCtx *c, PareGraph *g, PareNode *n, PareOp place, PareOp pick, PareValue *dy,
                               const bool *want, PareValue **din) {
  const Tape tape = {c, g, n}, *t = &tape;
  if (n->attr.reduction > ADD) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient for this reduction");
  if (want[0]) {
    din[0] = n->attr.reduction == ADD ? dy : scatter(t, place, dy, zeros_like(c, g, n, n->in[2]), REPLACE);
    if (!din[0]) return c->diag.code;
  }
  if (!want[2]) return PARE_OK;
  PareAttrs attr = {0};
  if (pare_attr_has(&n->attr, axis)) pare_attr_set(&attr, axis, n->attr.axis);
  din[2] = PARE_EMIT(c, g, NULL, pick, n->name, &attr, dy, n->in[1]);
  return din[2] ? PARE_OK : c->diag.code;
}
RULE(scatterelements) {
  return scatter_grad(c, g, n, PARE_OP_SCATTERELEMENTS, PARE_OP_GATHERELEMENTS, dout[0], want, din);
}
RULE(scatternd) { return scatter_grad(c, g, n, PARE_OP_SCATTERND, PARE_OP_GATHERND, dout[0], want, din); }

/* The gradient goes to where the values were found. */
RULE(topk) {
  (void)want;
  if (!dout[0]) return PARE_OK;
  if (n->nout < 2 || !n->out[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient: its indices have no name");
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, pare_attr_get(&n->attr, axis, -1));
  pare_attr_set(&attr, reduction, ADD);
  PareValue *zeros = zeros_like(c, g, n, n->in[0]);
  if (!zeros) return c->diag.code;
  EMIT(d, SCATTERELEMENTS, &attr, zeros, n->out[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}
