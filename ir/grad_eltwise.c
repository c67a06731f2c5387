/* grad_eltwise.c - the gradient column, element-wise, and the two rules of ops without one. */
#include "ir/grad.h"

RULE(none) {
  (void)g, (void)dout, (void)want, (void)din;
  return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient is defined for this op");
}

RULE(zero) {
  (void)c, (void)g, (void)n, (void)dout, (void)want, (void)din;
  return PARE_OK;
}

/* --- element-wise, with broadcasting --- */

RULE(add) {
  for (int i = 0; i < 2; i++)
    if (want[i]) PARE_TRY(sum_to(c, g, n, dout[0], n->in[i], &din[i]));
  return PARE_OK;
}

RULE(sub) {
  if (want[0]) PARE_TRY(sum_to(c, g, n, dout[0], n->in[0], &din[0]));
  if (!want[1]) return PARE_OK;
  PareValue *sum;
  PARE_TRY(sum_to(c, g, n, dout[0], n->in[1], &sum));
  EMIT(neg, NEG, NULL, sum);
  din[1] = neg;
  return PARE_OK;
}

RULE(mul) {
  for (int i = 0; i < 2; i++) {
    if (!want[i]) continue;
    EMIT(d, MUL, NULL, dout[0], n->in[1 - i]);
    PARE_TRY(sum_to(c, g, n, d, n->in[i], &din[i]));
  }
  return PARE_OK;
}

/* y = a/b: da = dy/b, db = -dy·y/b; b does not vary along the axes that are summed. */
RULE(div) {
  PareValue *b = n->in[1];
  if (want[0]) {
    EMIT(da, DIV, NULL, dout[0], b);
    PARE_TRY(sum_to(c, g, n, da, n->in[0], &din[0]));
  }
  if (!want[1]) return PARE_OK;
  EMIT(dyy, MUL, NULL, dout[0], n->out[0]);
  PareValue *sum;
  PARE_TRY(sum_to(c, g, n, dyy, b, &sum));
  EMIT(quot, DIV, NULL, sum, b);
  EMIT(neg, NEG, NULL, quot);
  din[1] = neg;
  return PARE_OK;
}

/* y = x^p: dx = dy·p·x^(p-1). The exponent is a constant in every known network. */
RULE(pow) {
  PareValue *x = n->in[0], *p = n->in[1];
  if (want[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "the exponent cannot be differentiated");
  if (p->data && p->role != PARE_STATE && pare_type_count(&p->type) == 1 && pare_data_float(p, 0) == 2) {
    EMIT(d, MUL, NULL, dout[0], x);
    PARE_TRY(times(c, g, n, d, 2, &d));
    return sum_to(c, g, n, d, x, &din[0]);
  }
  if (p->type.dtype != x->type.dtype) {
    PareAttrs to = {0};
    pare_attr_set(&to, to, x->type.dtype);
    EMIT(cast, CAST, &to, p);
    p = cast;
  }
  PareValue *one = pare_const_float(c, g, n->name, x->type.dtype, 1);
  if (!one) return c->diag.code;
  EMIT(p1, SUB, NULL, p, one);
  EMIT(xp1, POW, NULL, x, p1);
  EMIT(slope, MUL, NULL, xp1, p);
  EMIT(d, MUL, NULL, dout[0], slope);
  return sum_to(c, g, n, d, x, &din[0]);
}

/* y = x - q·b, q the quotient as an integer: the divisor b is a constant wherever this is met. */
RULE(mod) {
  if (want[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "the divisor cannot be differentiated");
  return sum_to(c, g, n, dout[0], n->in[0], &din[0]);
}

/* y = x < 0 ? s·x : x */
RULE(prelu) {
  const Tape tape = {c, g, n}, *t = &tape;
  PareValue *x = n->in[0], *dy = dout[0], *up = op2(t, PARE_OP_GREATEREQ, x, number(t, 0));
  if (!up) return c->diag.code;
  if (want[0] && !(din[0] = choose(t, up, dy, mul(t, dy, n->in[1])))) return c->diag.code;
  if (!want[1]) return PARE_OK;
  PareValue *ds = choose(t, up, number(t, 0), mul(t, dy, x));
  return ds ? sum_to(c, g, n, ds, n->in[1], &din[1]) : c->diag.code;
}

/* Min and Max: what equals the result takes the gradient, the first of several. */
RULE(extreme) {
  const Tape tape = {c, g, n}, *t = &tape;
  PareValue *left = dout[0], *zero = number(t, 0);
  for (int i = 0; i < n->nin && zero; i++) {
    PareValue *is = op2(t, PARE_OP_EQUAL, n->out[0], n->in[i]), *d = want[i] ? choose(t, is, left, zero) : zero;
    if (i < n->nin - 1) left = choose(t, is, zero, left);
    if (!is || !d || !left) return c->diag.code;
    if (want[i]) PARE_TRY(sum_to(c, g, n, d, n->in[i], &din[i]));
  }
  return zero ? PARE_OK : c->diag.code;
}

/* y = factor·(x0 + x1 + ...) */
static PareStatus nary(PareCtx *c, PareGraph *g, PareNode *n, PareValue *dy, double factor, const bool *want,
                       PareValue **din) {
  PareValue *d;
  PARE_TRY(times(c, g, n, dy, factor, &d));
  for (int i = 0; i < n->nin; i++)
    if (want[i]) PARE_TRY(sum_to(c, g, n, d, n->in[i], &din[i]));
  return PARE_OK;
}
RULE(sum) { return nary(c, g, n, dout[0], 1, want, din); }
RULE(mean) { return nary(c, g, n, dout[0], 1.0 / n->nin, want, din); }

/* y = x where a bound does not hold it. */
RULE(clip) {
  const Tape tape = {c, g, n}, *t = &tape;
  if ((n->nin > 1 && want[1]) || (n->nin > 2 && want[2]))
    return pare_fail(c, n, PARE_UNSUPPORTED, "the bounds cannot be differentiated");
  din[0] = choose(t, op2(t, PARE_OP_EQUAL, n->in[0], n->out[0]), dout[0], number(t, 0));
  return din[0] ? PARE_OK : c->diag.code;
}

RULE(where) {
  if (!want[1] && !want[2]) return PARE_OK;
  PareValue *zero = pare_const_float(c, g, n->name, dout[0]->type.dtype, 0);
  if (!zero) return c->diag.code;
  for (int i = 1; i <= 2; i++) {
    if (!want[i]) continue;
    PareValue *yes = i == 1 ? dout[0] : zero, *no = i == 1 ? zero : dout[0];
    EMIT(d, WHERE, NULL, n->in[0], yes, no);
    PARE_TRY(sum_to(c, g, n, d, n->in[i], &din[i]));
  }
  return PARE_OK;
}

/* --- element-wise, one input --- */

RULE(neg) {
  (void)want;
  EMIT(d, NEG, NULL, dout[0]);
  din[0] = d;
  return PARE_OK;
}

/* dx = dy / (2·sqrt(x)) */
RULE(sqrt) {
  (void)want;
  PareValue *half;
  PARE_TRY(times(c, g, n, dout[0], 0.5, &half));
  EMIT(d, DIV, NULL, half, n->out[0]);
  din[0] = d;
  return PARE_OK;
}

/* dx = -dy·y² */
RULE(reciprocal) {
  (void)want;
  EMIT(yy, MUL, NULL, n->out[0], n->out[0]);
  EMIT(dyy, MUL, NULL, dout[0], yy);
  EMIT(d, NEG, NULL, dyy);
  din[0] = d;
  return PARE_OK;
}

RULE(exp) {
  (void)want;
  EMIT(d, MUL, NULL, dout[0], n->out[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(log) {
  (void)want;
  EMIT(d, DIV, NULL, dout[0], n->in[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(erf) {
  (void)want;
  EMIT(d, ERFGRAD, NULL, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(tanh) {
  (void)want;
  EMIT(d, TANHGRAD, NULL, n->out[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(sigmoid) {
  (void)want;
  EMIT(d, SIGMOIDGRAD, NULL, n->out[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(relu) {
  (void)want;
  EMIT(d, RELUGRAD, NULL, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(gelu) {
  (void)want;
  EMIT(d, GELUGRAD, &n->attr, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(cast) {
  (void)want;
  PareAttrs to = {0};
  pare_attr_set(&to, to, n->in[0]->type.dtype);
  EMIT(d, CAST, &to, dout[0]);
  din[0] = d;
  return PARE_OK;
}
