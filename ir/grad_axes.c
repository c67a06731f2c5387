/* grad_axes.c - the gradient column, along axes: norms and reductions. */
#include "ir/grad.h"

RULE(softmax) {
  (void)want;
  EMIT(d, SOFTMAXGRAD, &n->attr, n->out[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

/* The backward kernel reads mean and 1/sqrt(var + eps): makes the forward node yield them. */
static PareStatus layernorm_saves(PareCtx *c, PareGraph *g, PareNode *n) {
  if (n->nout == 3 && n->out[1] && n->out[2]) return PARE_OK;
  PareValue **out = PARE_NEW_N(g->arena, 3, PareValue *);
  if (!out) return pare_nomem(c);
  memcpy(out, n->out, (size_t)n->nout * sizeof *out);
  for (int i = 1; i < 3; i++) {
    if (out[i]) continue;
    out[i] = pare_value_add(c, g, PARE_RESULT, n->name, n->out[0]->type);
    if (!out[i]) return c->diag.code;
    out[i]->def = n;
  }
  n->out = out;
  n->nout = 3;
  return pare_infer(c, n);
}

RULE(layernorm) {
  for (int i = 1; i < n->nout; i++)
    if (dout[i]) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient through the mean or the deviation it yields");
  PARE_TRY(layernorm_saves(c, g, n));
  bool beta = n->nin > 2 && want[2];
  PareValue *in[] = {n->in[0], n->in[1], n->out[1], n->out[2], dout[0]};
  PareNode *d = pare_node_add(c, g, NULL, PARE_OP_LAYERNORMGRAD, n->name, 5, in, beta ? 3 : want[1] ? 2 : 1);
  if (!d) return c->diag.code;
  d->attr = n->attr;
  PARE_TRY(pare_infer(c, d));
  for (int i = 0; i < d->nout; i++)
    if (want[i]) din[i] = d->out[i];
  if (!beta) return PARE_OK;
  const PareType *t = &n->in[2]->type; /* dbeta comes in gamma's shape */
  if (pare_type_count(t) != pare_type_count(&d->out[2]->type))
    return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient: scale and bias differ in size");
  return reshape(c, g, n, d->out[2], t->rank, t->dim, &din[2]);
}

/* dy with the reduced axes back as 1, times `1/count` for a mean, spread over x's shape. */
static PareStatus reduce_grad(PareCtx *c, PareGraph *g, PareNode *n, PareValue *dy, bool mean, PareValue **out) {
  PareType x = n->in[0]->type, kept = x;
  PareValue *axes = n->nin > 1 ? n->in[1] : NULL;
  if (axes && !axes->data) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient: the axes are not constant");
  int64_t naxes = axes ? pare_type_count(&axes->type) : 0;
  if (naxes == 0 && n->attr.noop_with_empty_axes) return *out = dy, PARE_OK;
  for (int i = 0; i < x.rank && naxes == 0; i++) kept.dim[i] = 1;
  for (int64_t i = 0; i < naxes; i++) kept.dim[axis_of(pare_data_int(axes, i), x.rank)] = 1;
  int64_t all = pare_type_count(&x), left = pare_type_count(&kept);
  PARE_TRY(reshape(c, g, n, dy, kept.rank, kept.dim, &dy));
  if (mean) PARE_TRY(times(c, g, n, dy, all ? (double)left / (double)all : 0, &dy));
  PareValue *shape = pare_const_ints(c, g, n->name, x.rank, x.dim);
  if (!shape) return c->diag.code;
  EMIT(d, EXPAND, NULL, dy, shape);
  *out = d;
  return PARE_OK;
}

RULE(reducemean) {
  (void)want;
  return reduce_grad(c, g, n, dout[0], true, &din[0]);
}

RULE(reducesum) {
  (void)want;
  return reduce_grad(c, g, n, dout[0], false, &din[0]);
}
