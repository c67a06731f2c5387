/* op_grad.c - the gradient column: each rule appends the nodes that compute
 * d(loss)/d(input) from d(loss)/d(output). Rules run on bound graphs and copy
 * the forward node's name, so that an error in the backward pass names it. */
#include <string.h>

#include "ir/op_columns.h"

/* Appends one node and yields its result; leaves the rule when that fails. */
#define EMIT(var, op, attr, ...)                                                       \
  PareValue *var = PARE_EMIT(c, g, NULL, PARE_OP_##op, n->name, (attr), __VA_ARGS__);  \
  if (!var) return c->diag.code

#define RULE(id) PareStatus pare_grad_##id(PareCtx *c, PareGraph *g, PareNode *n, PareValue *const *dout, \
                                           const bool *want, PareValue **din)

static bool same_shape(const PareType *a, const PareType *b) {
  return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]);
}

/* x, summed over the axes along which `like` was broadcast. */
static PareStatus sum_to(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, PareValue *like, PareValue **out) {
  *out = x;
  if (same_shape(&x->type, &like->type)) return PARE_OK;
  *out = PARE_EMIT(c, g, NULL, PARE_OP_SUMTO, n->name, NULL, x, like);
  return *out ? PARE_OK : c->diag.code;
}

/* x under the given dims: a view, so it costs nothing. */
static PareStatus reshape(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, int rank, const int64_t *dim,
                          PareValue **out) {
  *out = x;
  if (x->type.rank == rank && !memcmp(x->type.dim, dim, (size_t)rank * sizeof *dim)) return PARE_OK;
  PareValue *shape = pare_const_ints(c, g, n->name, rank, dim);
  if (!shape) return c->diag.code;
  PareAttrs attr = {0};
  pare_attr_set(&attr, allowzero, 1); /* a dim of 0 is an empty axis here */
  *out = PARE_EMIT(c, g, NULL, PARE_OP_RESHAPE, n->name, &attr, x, shape);
  return *out ? PARE_OK : c->diag.code;
}

/* x times a number; x itself for 1. */
static PareStatus times(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, double factor, PareValue **out) {
  *out = x;
  if (factor == 1) return PARE_OK;
  PareValue *k = pare_const_float(c, g, n->name, x->type.dtype, factor);
  if (!k) return c->diag.code;
  *out = PARE_EMIT(c, g, NULL, PARE_OP_MUL, n->name, NULL, x, k);
  return *out ? PARE_OK : c->diag.code;
}

static int64_t axis_of(int64_t axis, int rank) { return axis < 0 ? axis + rank : axis; }

/* --- no gradient --- */

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

/* --- products --- */

/* Y = alpha·op(A)·op(B) with operands of rank 2 or more. */
typedef struct Product {
  PareValue *a, *b, *dy;
  int64_t trans_a, trans_b;
  double alpha;
} Product;

static PareValue *matmul(PareCtx *c, PareGraph *g, PareNode *n, PareValue *a, int64_t trans_a, PareValue *b,
                         int64_t trans_b, double alpha) {
  PareAttrs attr = {0};
  if (trans_a) pare_attr_set(&attr, transA, 1);
  if (trans_b) pare_attr_set(&attr, transB, 1);
  if (alpha != 1) pare_attr_set(&attr, alpha, alpha);
  return PARE_EMIT(c, g, NULL, PARE_OP_MATMUL, n->name, &attr, a, b);
}

/* dA = alpha·dY·op(B)ᵀ, or its transpose alpha·op(B)·dYᵀ. */
static PareStatus product_da(PareCtx *c, PareGraph *g, PareNode *n, const Product *p, PareValue **out) {
  PareValue *d = p->trans_a ? matmul(c, g, n, p->b, p->trans_b, p->dy, 1, p->alpha)
                            : matmul(c, g, n, p->dy, 0, p->b, !p->trans_b, p->alpha);
  return d ? sum_to(c, g, n, d, p->a, out) : c->diag.code;
}

/* dB = alpha·op(A)ᵀ·dY, or its transpose alpha·dYᵀ·op(A). Where B[K,N] is shared
 * by a batch, A and dY become [rows,K] and [rows,N]: one product sums it all. */
static PareStatus product_db(PareCtx *c, PareGraph *g, PareNode *n, const Product *p, PareValue **out) {
  PareValue *a = p->a, *dy = p->dy;
  if (p->b->type.rank == 2 && a->type.rank > 2 && !p->trans_a) {
    int64_t k = a->type.dim[a->type.rank - 1], cols = dy->type.dim[dy->type.rank - 1], rows = 1;
    for (int i = 0; i < a->type.rank - 1; i++) rows *= a->type.dim[i];
    PARE_TRY(reshape(c, g, n, a, 2, (int64_t[]){rows, k}, &a));
    PARE_TRY(reshape(c, g, n, dy, 2, (int64_t[]){rows, cols}, &dy));
  }
  PareValue *d = p->trans_b ? matmul(c, g, n, dy, 1, a, p->trans_a, p->alpha)
                            : matmul(c, g, n, a, !p->trans_a, dy, 0, p->alpha);
  return d ? sum_to(c, g, n, d, p->b, out) : c->diag.code;
}

/* Vectors become matrices as numpy.matmul says: a[K] is [1,K] and b[K] is [K,1],
 * and the output has these axes too. */
static PareStatus promote(PareCtx *c, PareGraph *g, PareNode *n, Product *p) {
  PareType y = p->dy->type;
  if (p->b->type.rank == 1) y.dim[y.rank++] = 1;
  if (p->a->type.rank == 1) {
    int64_t last = y.dim[y.rank - 1];
    y.dim[y.rank - 1] = 1;
    y.dim[y.rank++] = last;
    p->trans_a = 0;
    PARE_TRY(reshape(c, g, n, p->a, 2, (int64_t[]){1, p->a->type.dim[0]}, &p->a));
  }
  if (p->b->type.rank == 1) {
    p->trans_b = 0;
    PARE_TRY(reshape(c, g, n, p->b, 2, (int64_t[]){p->b->type.dim[0], 1}, &p->b));
  }
  return reshape(c, g, n, p->dy, y.rank, y.dim, &p->dy);
}

RULE(matmul) {
  Product p = {n->in[0], n->in[1], dout[0], n->attr.transA, n->attr.transB, pare_attr_get(&n->attr, alpha, 1.0)};
  if (dout[0]->type.rank + 2 > PARE_MAX_RANK && (p.a->type.rank == 1 || p.b->type.rank == 1))
    return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient for a product of rank %d with a vector", dout[0]->type.rank);
  PARE_TRY(promote(c, g, n, &p));
  if (want[0]) {
    PARE_TRY(product_da(c, g, n, &p, &din[0]));
    PARE_TRY(reshape(c, g, n, din[0], n->in[0]->type.rank, n->in[0]->type.dim, &din[0]));
  }
  if (want[1]) {
    PARE_TRY(product_db(c, g, n, &p, &din[1]));
    PARE_TRY(reshape(c, g, n, din[1], n->in[1]->type.rank, n->in[1]->type.dim, &din[1]));
  }
  return PARE_OK;
}

/* Y = alpha·op(A)·op(B) + beta·C */
RULE(gemm) {
  Product p = {n->in[0], n->in[1], dout[0], n->attr.transA, n->attr.transB, pare_attr_get(&n->attr, alpha, 1.0)};
  if (want[0]) PARE_TRY(product_da(c, g, n, &p, &din[0]));
  if (want[1]) PARE_TRY(product_db(c, g, n, &p, &din[1]));
  if (n->nin < 3 || !want[2]) return PARE_OK;
  PareValue *sum;
  PARE_TRY(sum_to(c, g, n, dout[0], n->in[2], &sum));
  return times(c, g, n, sum, pare_attr_get(&n->attr, beta, 1.0), &din[2]);
}

/* Frozen: W and the mask. The bias is summed for apart, which nobody asks for while it is frozen too. */
RULE(linear) {
  if (want[1] || (n->nin > 5 && want[5]))
    return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient for the weight and the mask of a fused layer");
  if (n->nin > 2 && want[2]) PARE_TRY(sum_to(c, g, n, dout[0], n->in[2], &din[2]));
  bool lora = n->nin > 4 && (want[3] || want[4]);
  if (!want[0] && !lora) return PARE_OK;
  PareValue *in[6] = {n->in[0], n->in[1], dout[0]};
  for (int i = 3; i < n->nin; i++) in[i] = n->in[i];
  PareNode *d = pare_node_add(c, g, NULL, PARE_OP_LINEARGRAD, n->name, n->nin > 3 ? n->nin : 3, in, lora ? 3 : 1);
  if (!d) return c->diag.code;
  d->attr = n->attr;
  if (!want[0]) d->out[0]->def = NULL, d->out[0] = NULL;
  PARE_TRY(pare_infer(c, d));
  din[0] = d->out[0];
  for (int i = 3; lora && i < 5; i++)
    if (want[i]) din[i] = d->out[i - 2];
  return PARE_OK;
}

/* The probabilities are made again from the log-sum-exp that the forward op yields. */
RULE(attention) {
  if (dout[1] || (n->nin > 3 && want[3]))
    return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient through the mask or the sums of fused attention");
  PareValue *in[] = {n->in[0], n->in[1], n->in[2], n->out[0], n->out[1], dout[0], n->nin > 3 ? n->in[3] : NULL};
  PareNode *d = pare_node_add(c, g, NULL, PARE_OP_ATTENTIONGRAD, n->name, n->nin > 3 ? 7 : 6, in, 3);
  if (!d) return c->diag.code;
  d->attr = n->attr;
  PARE_TRY(pare_infer(c, d));
  for (int i = 0; i < 3; i++)
    if (want[i]) din[i] = d->out[i];
  return PARE_OK;
}

/* --- along axes --- */

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

/* --- movement --- */

RULE(identity) {
  (void)c, (void)g, (void)n, (void)want;
  din[0] = dout[0];
  return PARE_OK;
}

RULE(reshape) {
  (void)want;
  return reshape(c, g, n, dout[0], n->in[0]->type.rank, n->in[0]->type.dim, &din[0]);
}

RULE(transpose) {
  (void)want;
  PareAttrs inverse = {0};
  if (pare_attr_has(&n->attr, perm)) {
    PareInts perm = {.n = n->attr.perm.n};
    for (int i = 0; i < perm.n; i++) perm.at[n->attr.perm.at[i]] = i;
    pare_attr_set(&inverse, perm, perm);
  }
  EMIT(d, TRANSPOSE, &inverse, dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(concat) {
  int64_t axis = axis_of(n->attr.axis, n->out[0]->type.rank), at = 0;
  for (int i = 0; i < n->nin; i++) {
    int64_t end = at + n->in[i]->type.dim[axis];
    if (want[i]) {
      PareValue *from = pare_const_ints(c, g, n->name, 1, &at), *to = pare_const_ints(c, g, n->name, 1, &end);
      PareValue *axes = pare_const_ints(c, g, n->name, 1, &axis);
      if (!from || !to || !axes) return c->diag.code;
      EMIT(d, SLICE, NULL, dout[0], from, to, axes);
      din[i] = d;
    }
    at = end;
  }
  return PARE_OK;
}

static PareValue *zeros_like(PareCtx *c, PareGraph *g, PareNode *n, const PareValue *v) {
  PareValue *shape = pare_const_ints(c, g, n->name, v->type.rank, v->type.dim);
  PareValue *zero = pare_const_float(c, g, n->name, v->type.dtype, 0);
  if (!shape || !zero) return NULL;
  return PARE_EMIT(c, g, NULL, PARE_OP_CONSTANTOFSHAPE, n->name, NULL, shape, zero);
}

RULE(split) {
  (void)want;
  for (int i = 0; i < n->nout; i++)
    if (!n->out[i]) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient: output %d has no name", i);
  PareMark mark = pare_arena_mark(c->scratch);
  PareValue **part = PARE_NEW_N(c->scratch, n->nout, PareValue *);
  if (!part) return pare_nomem(c);
  bool ok = true;
  for (int i = 0; i < n->nout && ok; i++) {
    part[i] = dout[i] ? dout[i] : zeros_like(c, g, n, n->out[i]);
    ok = part[i] != NULL;
  }
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis_of(n->attr.axis, n->in[0]->type.rank));
  if (ok) din[0] = pare_emit(c, g, NULL, PARE_OP_CONCAT, n->name, &attr, n->nout, part);
  pare_arena_rewind(c->scratch, mark);
  return din[0] ? PARE_OK : c->diag.code;
}

RULE(slice) {
  (void)want;
  PareValue *axes = n->nin > 3 ? n->in[3] : NULL, *steps = n->nin > 4 ? n->in[4] : NULL;
  EMIT(d, SLICEGRAD, NULL, dout[0], n->in[1], n->in[2], axes, steps, n->in[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(gather) {
  if (!want[0]) return PARE_OK;
  EMIT(d, GATHERGRAD, &n->attr, n->in[1], dout[0], n->in[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(sumto0) {
  if (!want[0]) return PARE_OK;
  return sum_to(c, g, n, dout[0], n->in[0], &din[0]);
}

/* --- losses: dout[0] is a scalar --- */

RULE(crossentropy) {
  (void)want;
  EMIT(d, CROSSENTROPYGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(distill) {
  if (want[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "the teacher is not differentiated");
  EMIT(d, DISTILLGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(mse) {
  EMIT(d, MSEGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  if (want[0]) din[0] = d;
  if (!want[1]) return PARE_OK;
  EMIT(neg, NEG, NULL, d);
  din[1] = neg;
  return PARE_OK;
}

RULE(bce) {
  if (want[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "the target is not differentiated");
  EMIT(d, BCEGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}
