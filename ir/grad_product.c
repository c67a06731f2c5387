/* grad_product.c - the gradient column, products: matrices, fused layers, attention. */
#include "ir/einsum.h"
#include "ir/grad.h"

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

/* Operand k's gradient is an Einsum of dy and the other operand. Labels that only k has, and that were summed over, it
 * spreads; labels that stretched k it sums over. */
static PareStatus einsum_grad(PareCtx *c, PareGraph *g, PareNode *n, const PareEinsum *e, int k, PareValue *dy,
                              PareValue **out) {
  const PareType *x = &n->in[k]->type;
  PareType kept = *x;
  int other = e->nin == 2 ? 1 - k : -1, target[PARE_MAX_RANK], count = 0;
  for (int a = 0; a < x->rank; a++) {
    int l = e->label[k][a];
    if (pare_einsum_axis(e, k, l) != a) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient of a diagonal");
    bool elsewhere = pare_einsum_axis(e, PARE_EINSUM_OUT, l) >= 0 || (other >= 0 && pare_einsum_axis(e, other, l) >= 0);
    if (elsewhere && x->dim[a] == e->size[l]) target[count++] = l;
    else kept.dim[a] = 1;
  }
  char *text = pare_arena_alloc(g->arena, PARE_EINSUM_TEXT, 1);
  if (!text) return pare_nomem(c);
  pare_einsum_text(e, PARE_EINSUM_OUT, other, count, target, text);
  PareAttrs attr = {0};
  pare_attr_set(&attr, equation, text);
  PareValue *in[2] = {dy, other >= 0 ? n->in[other] : NULL};
  PareValue *d = pare_emit(c, g, NULL, PARE_OP_EINSUM, n->name, &attr, e->nin, in);
  if (!d) return c->diag.code;
  PARE_TRY(reshape(c, g, n, d, kept.rank, kept.dim, out));
  if (same_shape(&(*out)->type, x)) return PARE_OK;
  PareValue *shape = pare_const_ints(c, g, n->name, x->rank, x->dim);
  if (!shape) return c->diag.code;
  EMIT(wide, EXPAND, NULL, *out, shape);
  *out = wide;
  return PARE_OK;
}

RULE(einsum) {
  const PareType *in[2] = {&n->in[0]->type, n->nin > 1 ? &n->in[1]->type : NULL};
  PareEinsum e;
  const char *why = pare_einsum_parse(n->attr.equation, n->nin, in, &e);
  if (why) return pare_fail(c, n, PARE_FORMAT, "%s", why);
  for (int k = 0; k < n->nin; k++)
    if (want[k]) PARE_TRY(einsum_grad(c, g, n, &e, k, dout[0], &din[k]));
  return PARE_OK;
}

/* x in the type of `like`: sums over rows are taken in f32. */
static PareStatus as_wide(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, const PareValue *like, PareValue **out) {
  PareAttrs to = {0};
  *out = x;
  if (x->type.dtype == like->type.dtype) return PARE_OK;
  pare_attr_set(&to, to, like->type.dtype);
  EMIT(wide, CAST, &to, x);
  *out = wide;
  return PARE_OK;
}

/* W' = m∘(W + s·A·B) in W's own orientation: dW = m∘(x'·dy). */
static PareStatus linear_dw(PareCtx *c, PareGraph *g, PareNode *n, PareValue *dy, PareValue **out) {
  PareValue *w = n->in[1], *mask = n->nin > 5 ? n->in[5] : NULL, *dw;
  Product p = {n->in[0], w, dy, 0, pare_attr_get(&n->attr, transB, 0), 1};
  PARE_TRY(product_db(c, g, n, &p, &dw));
  PARE_TRY(as_wide(c, g, n, dw, w, out));
  if (!mask) return PARE_OK;
  PARE_TRY(reshape(c, g, n, mask, 2, p.trans_b ? (int64_t[]){1, w->type.dim[1]} : (int64_t[]){w->type.dim[0], 1}, &mask));
  EMIT(masked, MUL, NULL, *out, mask);
  *out = masked;
  return PARE_OK;
}

static PareStatus linear_dbias(PareCtx *c, PareGraph *g, PareNode *n, PareValue *dy, PareValue **out) {
  PARE_TRY(as_wide(c, g, n, dy, n->in[2], &dy));
  return sum_to(c, g, n, dy, n->in[2], out);
}

/* W and the bias are frozen most of the time: what they take is summed for apart. The gradient of a mask is so where it is
 * one, and zero where it is zero: from dx, which has the mask in it. */
RULE(linear) {
  bool masked = n->nin > 5 && want[5];
  if (want[1]) PARE_TRY(linear_dw(c, g, n, dout[0], &din[1]));
  if (n->nin > 2 && want[2]) PARE_TRY(linear_dbias(c, g, n, dout[0], &din[2]));
  bool lora = n->nin > 4 && (want[3] || want[4]);
  if (!want[0] && !lora && !masked) return PARE_OK;
  PareValue *in[6] = {n->in[0], n->in[1], dout[0]};
  for (int i = 3; i < n->nin; i++) in[i] = n->in[i];
  PareNode *d = pare_node_add(c, g, NULL, PARE_OP_LINEARGRAD, n->name, n->nin > 3 ? n->nin : 3, in, lora ? 3 : 1);
  if (!d) return c->diag.code;
  d->attr = n->attr;
  if (!want[0] && !masked) d->out[0]->def = NULL, d->out[0] = NULL;
  PARE_TRY(pare_infer(c, d));
  if (want[0]) din[0] = d->out[0];
  if (masked) {
    EMIT(dmask, MASKGRAD, NULL, n->in[0], d->out[0], n->in[5]);
    din[5] = dmask;
  }
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
