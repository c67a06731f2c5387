/* grad_axes.c - the gradient column, along axes: norms and reductions. */
#include "ir/grad.h"

RULE(softmax) {
  (void)want;
  EMIT(d, SOFTMAXGRAD, &n->attr, n->out[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

/* Σ x over the axis of the node, or over all from it on, kept as 1. */
static PareValue *line_sum(const Tape *t, PareValue *x) {
  PareNode *n = t->n;
  if (!x) return NULL;
  int64_t axis = axis_of(pare_attr_get(&n->attr, axis, -1), x->type.rank), axes[PARE_MAX_RANK];
  int count = 0;
  for (int64_t a = axis; a < (n->attr.flatten ? x->type.rank : axis + 1); a++) axes[count++] = a;
  PareValue *list = pare_const_ints(t->c, t->g, n->name, count, axes);
  return list ? op2(t, PARE_OP_REDUCESUM, x, list) : NULL;
}

/* dx = dy - e^y·Σ dy */
RULE(logsoftmax) {
  (void)want;
  const Tape tape = {c, g, n}, *t = &tape;
  din[0] = sub(t, dout[0], mul(t, op1(t, PARE_OP_EXP, n->out[0]), line_sum(t, dout[0])));
  return din[0] ? PARE_OK : c->diag.code;
}

/* y = x/s, s = (Σ|x|^p)^(1/p): dx = (dy - d·Σ(y·dy))/s with d = y for p = 2, sign(x) for p = 1 */
RULE(lpnorm) {
  (void)want;
  const Tape tape = {c, g, n}, *t = &tape;
  PareValue *x = n->in[0], *y = n->out[0], *d, *s;
  if (pare_attr_get(&n->attr, p, 2) == 1) {
    d = op1(t, PARE_OP_SIGN, x);
    s = line_sum(t, op1(t, PARE_OP_ABS, x));
  } else {
    d = y;
    s = op1(t, PARE_OP_SQRT, line_sum(t, mul(t, x, x)));
  }
  din[0] = quot(t, sub(t, dout[0], mul(t, d, line_sum(t, mul(t, y, dout[0])))), s);
  return din[0] ? PARE_OK : c->diag.code;
}

/* The same sum the other way round. */
RULE(cumsum) {
  if (!want[0]) return PARE_OK;
  PareAttrs attr = n->attr;
  pare_attr_set(&attr, reverse, !n->attr.reverse);
  EMIT(d, CUMSUM, &attr, dout[0], n->in[1]);
  din[0] = d;
  return PARE_OK;
}

/* A vector of channels [c] as [c, 1, ...], to stretch over x[n, c, ...]. */
static PareStatus planes(PareCtx *c, PareGraph *g, PareNode *n, PareValue *v, PareValue **out) {
  int64_t dim[PARE_MAX_RANK] = {v->type.dim[0]};
  int rank = n->in[0]->type.rank;
  for (int i = 1; i < rank; i++) dim[i] = 1;
  return reshape(c, g, n, v, rank > 1 ? rank - 1 : 1, dim, out);
}

/* Scale and shift of y = h·scale + shift by channels. */
static PareStatus affine_grad(PareCtx *c, PareGraph *g, PareNode *n, PareValue *h, PareValue *dy, const bool *want,
                              PareValue **din) {
  const Tape tape = {c, g, n}, *t = &tape;
  if (want[1]) PARE_TRY(channel_sum(c, g, n, mul(t, dy, h), &din[1]));
  return want[2] ? channel_sum(c, g, n, dy, &din[2]) : PARE_OK;
}

/* h = (x - mean)/sqrt(var + eps): dx = dy·scale/sqrt(var + eps). Mean and variance are statistics, not weights. */
RULE(batchnorm) {
  const Tape tape = {c, g, n}, *t = &tape;
  if (want[3] || want[4]) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient for its statistics");
  PareValue *eps = pare_const_float(c, g, n->name, n->in[4]->type.dtype, pare_attr_get(&n->attr, epsilon, 1e-5));
  PareValue *dev = op1(t, PARE_OP_SQRT, add(t, n->in[4], eps)), *mean = n->in[3], *gain = quot(t, n->in[1], dev);
  if (!gain) return c->diag.code;
  PARE_TRY(planes(c, g, n, gain, &gain));
  if (want[0] && !(din[0] = mul(t, dout[0], gain))) return c->diag.code;
  if (!want[1] && !want[2]) return PARE_OK;
  PARE_TRY(planes(c, g, n, dev, &dev));
  PARE_TRY(planes(c, g, n, mean, &mean));
  return affine_grad(c, g, n, quot(t, sub(t, n->in[0], mean), dev), dout[0], want, din);
}

static PareValue *plane_mean(const Tape *t, PareValue *x) {
  int64_t axes[PARE_MAX_RANK];
  int count = 0;
  for (int a = 2; a < t->n->in[0]->type.rank; a++) axes[count++] = a;
  PareValue *list = x ? pare_const_ints(t->c, t->g, t->n->name, count, axes) : NULL;
  return list ? op2(t, PARE_OP_REDUCEMEAN, x, list) : NULL;
}

/* h = (x - mean)/sqrt(var + eps), g = dy·scale: dx = (g - mean(g) - h·mean(g·h))/sqrt(var + eps) */
RULE(instancenorm) {
  const Tape tape = {c, g, n}, *t = &tape;
  PareValue *gain;
  PARE_TRY(planes(c, g, n, n->in[1], &gain));
  PareValue *x = sub(t, n->in[0], plane_mean(t, n->in[0]));
  PareValue *eps = number(t, pare_attr_get(&n->attr, epsilon, 1e-5));
  PareValue *dev = op1(t, PARE_OP_SQRT, add(t, plane_mean(t, mul(t, x, x)), eps)), *h = quot(t, x, dev);
  PareValue *up = mul(t, dout[0], gain);
  PareValue *rest = add(t, plane_mean(t, up), mul(t, h, plane_mean(t, mul(t, up, h))));
  if (!rest || !(din[0] = quot(t, sub(t, up, rest), dev))) return c->diag.code;
  return affine_grad(c, g, n, h, dout[0], want, din);
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

/* v, of the result's shape, with the reduced axes back as 1. */
static PareStatus unreduced(PareCtx *c, PareGraph *g, PareNode *n, PareValue *v, PareValue **out) {
  PareType kept = n->in[0]->type;
  PareValue *axes = n->nin > 1 ? n->in[1] : NULL;
  if (axes && !axes->data) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient: the axes are not constant");
  int64_t naxes = axes ? pare_type_count(&axes->type) : 0;
  bool all = naxes == 0 && !n->attr.noop_with_empty_axes;
  for (int i = 0; i < kept.rank && all; i++) kept.dim[i] = 1;
  for (int64_t i = 0; i < naxes; i++) kept.dim[axis_of(pare_data_int(axes, i), kept.rank)] = 1;
  return reshape(c, g, n, v, kept.rank, kept.dim, out);
}

/* Spread over x's shape. */
static PareStatus spread(PareCtx *c, PareGraph *g, PareNode *n, PareValue *v, PareValue **out) {
  const PareType *x = &n->in[0]->type;
  *out = v;
  if (!v || same_shape(&v->type, x)) return v ? PARE_OK : c->diag.code;
  PareValue *shape = pare_const_ints(c, g, n->name, x->rank, x->dim);
  if (!shape) return c->diag.code;
  EMIT(d, EXPAND, NULL, v, shape);
  *out = d;
  return PARE_OK;
}

RULE(reducesum) {
  (void)want;
  PareValue *dy;
  PARE_TRY(unreduced(c, g, n, dout[0], &dy));
  return spread(c, g, n, dy, &din[0]);
}

RULE(reducemean) {
  (void)want;
  PareValue *dy;
  PARE_TRY(unreduced(c, g, n, dout[0], &dy));
  int64_t all = pare_type_count(&n->in[0]->type), left = pare_type_count(&dy->type);
  PARE_TRY(times(c, g, n, dy, all ? (double)left / (double)all : 0, &dy));
  return spread(c, g, n, dy, &din[0]);
}

/* dx = dy·f(x, y), which reads x and so has its shape */
#define REDUCED(id, ...)                                          \
  RULE(id) {                                                      \
    (void)want;                                                   \
    const Tape tape = {c, g, n}, *t = &tape;                      \
    PareValue *x = n->in[0], *y, *dy;                             \
    PARE_TRY(unreduced(c, g, n, n->out[0], &y));                  \
    PARE_TRY(unreduced(c, g, n, dout[0], &dy));                   \
    return spread(c, g, n, __VA_ARGS__, &din[0]);                 \
  }
REDUCED(reducel1, mul(t, op1(t, PARE_OP_SIGN, x), dy))
REDUCED(reducel2, mul(t, x, quot(t, dy, y)))
REDUCED(reducelogsum, ((void)x, quot(t, dy, op1(t, PARE_OP_EXP, y))))
REDUCED(reducelogsumexp, mul(t, dy, op1(t, PARE_OP_EXP, sub(t, x, y))))
REDUCED(reducesumsquare, ((void)y, mul(t, mul(t, x, number(t, 2)), dy)))

/* Max and Min: those that equal the result share its gradient. */
RULE(reduceextreme) {
  (void)want;
  const Tape tape = {c, g, n}, *t = &tape;
  PareValue *y, *dy, *count;
  PareAttrs to = {0};
  pare_attr_set(&to, to, n->in[0]->type.dtype);
  PARE_TRY(unreduced(c, g, n, n->out[0], &y));
  PARE_TRY(unreduced(c, g, n, dout[0], &dy));
  EMIT(same, EQUAL, NULL, n->in[0], y);
  EMIT(ones, CAST, &to, same);
  PARE_TRY(sum_to(c, g, n, ones, y, &count));
  din[0] = mul(t, ones, quot(t, dy, count));
  return din[0] ? PARE_OK : c->diag.code;
}
