/* grad_activation.c - the gradient column, functions of one number: dx = dy·f'(x),
 * spelled with the ops of the table. They are rare between a loss and an adapter. */
#include "ir/activation.h"
#include "ir/grad.h"

/* Defines a rule by the expression of d(loss)/dx in x, y and dy. */
#define FORMULA(id, ...)                                  \
  RULE(id) {                                              \
    (void)want;                                           \
    const Tape tape = {c, g, n}, *t = &tape;              \
    PareValue *x = n->in[0], *y = n->out[0], *dy = dout[0]; \
    (void)x, (void)y;                                     \
    din[0] = __VA_ARGS__;                                 \
    return din[0] ? PARE_OK : c->diag.code;               \
  }
/* The same with the activation's numbers p and q. */
#define ACTIVATION(id, ID, ...)                                 \
  RULE(id) {                                                    \
    (void)want;                                                 \
    const Tape tape = {c, g, n}, *t = &tape;                    \
    const double p = pare_activation_##ID(&n->attr).p, q = pare_activation_##ID(&n->attr).q; \
    PareValue *x = n->in[0], *y = n->out[0], *dy = dout[0];     \
    (void)x, (void)y, (void)p, (void)q;                         \
    din[0] = __VA_ARGS__;                                       \
    return din[0] ? PARE_OK : c->diag.code;                     \
  }

static PareValue *square(const Tape *t, PareValue *x) { return mul(t, x, x); }
static PareValue *root(const Tape *t, PareValue *x) { return op1(t, PARE_OP_SQRT, x); }
static PareValue *neg(const Tape *t, PareValue *x) { return op1(t, PARE_OP_NEG, x); }
static PareValue *one_minus(const Tape *t, PareValue *x) { return sub(t, number(t, 1), x); }
static PareValue *plus(const Tape *t, PareValue *x, double v) { return add(t, x, number(t, v)); }
static PareValue *scaled(const Tape *t, PareValue *x, double v) { return mul(t, x, number(t, v)); }

FORMULA(abs, mul(t, dy, op1(t, PARE_OP_SIGN, x)))
FORMULA(sin, mul(t, dy, op1(t, PARE_OP_COS, x)))
FORMULA(cos, neg(t, mul(t, dy, op1(t, PARE_OP_SIN, x))))
FORMULA(tan, mul(t, dy, plus(t, square(t, y), 1)))
FORMULA(asin, quot(t, dy, root(t, one_minus(t, square(t, x)))))
FORMULA(acos, neg(t, quot(t, dy, root(t, one_minus(t, square(t, x))))))
FORMULA(atan, quot(t, dy, plus(t, square(t, x), 1)))
FORMULA(sinh, mul(t, dy, op1(t, PARE_OP_COSH, x)))
FORMULA(cosh, mul(t, dy, op1(t, PARE_OP_SINH, x)))
FORMULA(asinh, quot(t, dy, root(t, plus(t, square(t, x), 1))))
FORMULA(acosh, quot(t, dy, root(t, plus(t, square(t, x), -1))))
FORMULA(atanh, quot(t, dy, one_minus(t, square(t, x))))
FORMULA(softplus, mul(t, dy, op1(t, PARE_OP_SIGMOID, x)))
/* (1 - |y|)² */
FORMULA(softsign, mul(t, dy, square(t, one_minus(t, op1(t, PARE_OP_ABS, y)))))
/* 0, x/3 + 1/2, 1 below -3, between, above 3 */
FORMULA(hardswish,
        choose(t, above(t, x, 3), dy,
               choose(t, above(t, x, -3), mul(t, dy, plus(t, scaled(t, x, 1.0 / 3), 0.5)), number(t, 0))))

/* tanh(s) + x·(1 - tanh²(s))·sigmoid(x), s = softplus(x) */
static PareValue *mish_slope(const Tape *t, PareValue *x) {
  PareValue *tanh = op1(t, PARE_OP_TANH, op1(t, PARE_OP_SOFTPLUS, x));
  return add(t, tanh, mul(t, mul(t, x, one_minus(t, square(t, tanh))), op1(t, PARE_OP_SIGMOID, x)));
}
FORMULA(mish, mul(t, dy, mish_slope(t, x)))

/* s + p·x·s·(1 - s) with s = sigmoid(p·x) */
static PareValue *swish_slope(const Tape *t, PareValue *x, double p) {
  PareValue *s = op1(t, PARE_OP_SIGMOID, scaled(t, x, p));
  return add(t, s, mul(t, scaled(t, x, p), mul(t, s, one_minus(t, s))));
}
ACTIVATION(swish, SWISH, mul(t, dy, swish_slope(t, x, p)))
ACTIVATION(leakyrelu, LEAKYRELU, choose(t, above(t, x, 0), dy, scaled(t, dy, p)))
/* p·e^x = y + p */
ACTIVATION(elu, ELU, choose(t, above(t, x, 0), dy, mul(t, dy, plus(t, y, p))))
ACTIVATION(selu, SELU, choose(t, above(t, x, 0), scaled(t, dy, q), mul(t, dy, plus(t, y, p * q))))
/* e^(x/p) = y/p + 1 */
ACTIVATION(celu, CELU, choose(t, above(t, x, 0), dy, mul(t, dy, plus(t, scaled(t, y, 1 / p), 1))))
ACTIVATION(hardsigmoid, HARDSIGMOID,
           choose(t, above(t, mul(t, y, one_minus(t, y)), 0), scaled(t, dy, p), number(t, 0)))
ACTIVATION(thresholdedrelu, THRESHOLDEDRELU, choose(t, above(t, x, p), dy, number(t, 0)))
ACTIVATION(shrink, SHRINK, choose(t, above(t, op1(t, PARE_OP_ABS, x), p), dy, number(t, 0)))
