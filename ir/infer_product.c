/* infer_product.c - the infer column, products: matrices, fused layers and attention. */
#include "ir/einsum.h"
#include "ir/infer.h"

/* The type of in[0]·in[1], whatever their element types. */
static PareStatus product_type(PareCtx *c, PareNode *n, PareType *out) {
  const PareType *a = &n->in[0]->type, *b = &n->in[1]->type;
  for (int i = 0; i < 2; i++)
    if (n->in[i]->type.rank == 0) return bad_input(c, n, i, "a scalar cannot be multiplied as a matrix");
  Matrix x = matrix_of(a, true, pare_attr_get(&n->attr, transA, 0) != 0);
  Matrix y = matrix_of(b, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (x.cols != y.rows) return clash(c, n, 0, 1, "the sizes that are summed over differ");
  PareType t = {.dtype = a->dtype};
  bool fits = bcast_dims(&t, a->dim, a->rank > 2 ? a->rank - 2 : 0);
  fits = fits && bcast_dims(&t, b->dim, b->rank > 2 ? b->rank - 2 : 0);
  if (!fits) return clash(c, n, 0, 1, "the batch axes do not broadcast");
  if (a->rank > 1) PARE_TRY(push_dim(c, n, &t, x.rows));
  if (b->rank > 1) PARE_TRY(push_dim(c, n, &t, y.cols));
  *out = t;
  return PARE_OK;
}

PareStatus pare_infer_matmul(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(same_dtype(c, n, 0, 1));
  PARE_TRY(product_type(c, n, &t));
  return set_out(c, n, 0, t);
}

/* A[.., M, K], B[.., K, N], one zero point or one for each row of A, for each column of B */
PareStatus pare_infer_matmulinteger(PareCtx *c, PareNode *n) {
  PareType t;
  for (int k = 0; k < 2; k++) {
    const PareType *x = &n->in[k]->type;
    if (x->dtype != PARE_I8 && x->dtype != PARE_U8) return bad_input(c, n, k, "integers of 8 bits are needed here");
    if (!given(n, k + 2)) continue;
    const PareType *z = &n->in[k + 2]->type;
    PARE_TRY(same_dtype(c, n, k, k + 2));
    int64_t lines = x->rank > 1 ? x->dim[x->rank - 2 + k] : 1;
    if (pare_type_count(z) != 1 && (z->rank != 1 || z->dim[0] != lines))
      return clash(c, n, k, k + 2, "there must be one zero point, or one for each row of A or column of B");
  }
  PARE_TRY(product_type(c, n, &t));
  t.dtype = PARE_I32;
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_gemm(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 2; i++)
    if (n->in[i]->type.rank != 2) return bad_input(c, n, i, "Gemm needs matrices of rank 2");
  PARE_TRY(same_dtype(c, n, 0, 1));
  Matrix x = matrix_of(&n->in[0]->type, true, pare_attr_get(&n->attr, transA, 0) != 0);
  Matrix y = matrix_of(&n->in[1]->type, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (x.cols != y.rows) return clash(c, n, 0, 1, "the sizes that are summed over differ");
  PareType t = {.dtype = n->in[0]->type.dtype, .rank = 2, .dim = {x.rows, y.cols}};
  if (given(n, 2)) {
    PARE_TRY(same_dtype(c, n, 0, 2));
    PARE_TRY(bcast_to(c, n, 2, &t));
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_einsum(PareCtx *c, PareNode *n) {
  const PareType *in[2];
  PareEinsum e;
  if (n->nin > 2)
    return pare_fail(c, n, PARE_UNSUPPORTED, "it has %d operands; pare multiplies two at most", n->nin);
  for (int i = 0; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(same_dtype(c, n, 0, i));
    in[i] = &n->in[i]->type;
  }
  const char *equation = pare_attr_get(&n->attr, equation, ""), *why = pare_einsum_parse(equation, n->nin, in, &e);
  if (why) return pare_fail(c, n, PARE_FORMAT, "the equation '%.80s' does not fit: %s", equation, why);
  PareType t = {.dtype = in[0]->dtype, .rank = e.rank[PARE_EINSUM_OUT]};
  for (int a = 0; a < t.rank; a++) t.dim[a] = e.size[e.label[PARE_EINSUM_OUT][a]];
  return set_out(c, n, 0, t);
}

/* --- fused --- */

/* The adapters and the mask of m∘(W + s·A·B), from input `a` on; their numbers are those of sums. */
static PareStatus check_lora(PareCtx *c, PareNode *n, int a, PareDtype sums, int64_t k, int64_t cols) {
  int b = a + 1, mask = a + 2;
  if (given(n, a) != given(n, b)) return pare_fail(c, n, PARE_FORMAT, "one half of an adapter is left out");
  for (int i = a; i <= mask; i++)
    if (given(n, i) && n->in[i]->type.dtype != sums) return bad_input(c, n, i, "has not the type that sums have");
  if (given(n, a)) {
    const PareType *ta = &n->in[a]->type, *tb = &n->in[b]->type;
    if (ta->rank != 2 || ta->dim[0] != k || ta->dim[1] < 1) return bad_input(c, n, a, "does not fit the weight");
    if (tb->rank != 2 || tb->dim[0] != ta->dim[1] || tb->dim[1] != cols)
      return clash(c, n, a, b, "an adapter is A[K,r], B[r,N]");
  }
  if (given(n, mask) && (n->in[mask]->type.rank != 1 || n->in[mask]->type.dim[0] != k))
    return bad_input(c, n, mask, "a mask has one number for each row of the weight");
  return PARE_OK;
}

static PareStatus check_bias(PareCtx *c, PareNode *n, int i, int64_t cols) {
  if (given(n, i) && (n->in[i]->type.rank != 1 || n->in[i]->type.dim[0] != cols))
    return bad_input(c, n, i, "a bias has one number for each column of the weight");
  return PARE_OK;
}

/* x[..., K], W[K, N] (or [N, K]: transB), which is f32 where x is bf16, or bf16 too if nothing is to be merged into it. */
static PareStatus check_linear(PareCtx *c, PareNode *n, int64_t *cols) {
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  const PareType *x = &n->in[0]->type, *w = &n->in[1]->type;
  PareDtype sums = x->dtype == PARE_BF16 ? PARE_F32 : x->dtype;
  bool t = pare_attr_get(&n->attr, transB, 0) != 0;
  bool whole = pare_attr_get(&n->attr, merged, 0) || !(given(n, 3) || given(n, 5));
  if (x->rank < 1) return bad_input(c, n, 0, "has no axis to sum over");
  if (w->rank != 2 || (w->dtype != sums && !(whole && w->dtype == x->dtype)))
    return clash(c, n, 0, 1, "the weight is a matrix of the type that sums have");
  if (x->dim[x->rank - 1] != w->dim[t]) return clash(c, n, 0, 1, "the sizes that are summed over differ");
  *cols = w->dim[!t];
  return check_lora(c, n, 3, sums, w->dim[t], w->dim[!t]);
}

PareStatus pare_infer_linear(PareCtx *c, PareNode *n) {
  int64_t cols;
  PARE_TRY(check_linear(c, n, &cols));
  PareType t = n->in[0]->type;
  t.dim[t.rank - 1] = cols;
  PARE_TRY(check_bias(c, n, 2, cols));
  PareDtype sums = t.dtype == PARE_BF16 ? PARE_F32 : t.dtype;
  if (given(n, 2) && n->in[2]->type.dtype != sums && n->in[2]->type.dtype != t.dtype)
    return clash(c, n, 0, 2, "a bias has the type that sums have, or x's");
  return set_out(c, n, 0, t);
}

/* W[K, N] (or [N, K]: transB) and a bias, in the type `to`, which may be bf16 where they are f32. */
PareStatus pare_infer_mergedweight(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  PareType w = n->in[0]->type, bias;
  PareDtype to = pare_attr_get(&n->attr, to, w.dtype);
  bool t = pare_attr_get(&n->attr, transB, 0) != 0;
  if (w.rank != 2 || (w.dtype != PARE_F32 && w.dtype != PARE_F64)) return bad_input(c, n, 0, "is no matrix of f32 or f64");
  if (to != w.dtype && (to != PARE_BF16 || w.dtype != PARE_F32))
    return pare_fail(c, n, PARE_FORMAT, "a weight of %s is not merged into %s", pare_dtype_name(w.dtype),
                     pare_dtype_name(to));
  PARE_TRY(check_lora(c, n, 2, w.dtype, w.dim[t], w.dim[!t]));
  PARE_TRY(check_bias(c, n, 1, w.dim[!t]));
  w.dtype = to;
  PARE_TRY(set_out(c, n, 0, w));
  if (n->nout < 2) return PARE_OK;
  PARE_TRY(need_input(c, n, 1));
  PARE_TRY(same_dtype(c, n, 0, 1));
  bias = n->in[1]->type;
  bias.dtype = to;
  return set_out(c, n, 1, bias);
}

/* row[K], col[N] of Importance: of W as it is merged for dx, from dA and dB. */
static PareStatus set_scores(PareCtx *c, PareNode *n, int64_t cols) {
  enum { DX, DA, DB, ROW = 4, COL, SCORED };
  bool merges = given(n, 3) && !pare_attr_get(&n->attr, merged, 0);
  if (n->nout != SCORED || !n->out[ROW] || !n->out[COL] || !n->out[DX] || !n->out[DA] || !n->out[DB] || !merges)
    return pare_fail(c, n, PARE_FORMAT, "sums of scores are of rows and columns, beside dx, dA and dB, and of a weight "
                     "that is merged here");
  PareType t = {n->in[3]->type.dtype, 1, {n->in[3]->type.dim[0]}};
  PARE_TRY(set_out(c, n, ROW, t));
  t.dim[0] = cols;
  return set_out(c, n, COL, t);
}

PareStatus pare_infer_lineargrad(PareCtx *c, PareNode *n) {
  int64_t cols;
  PARE_TRY(check_linear(c, n, &cols));
  PARE_TRY(need_input(c, n, 2));
  const PareType *x = &n->in[0]->type, *dy = &n->in[2]->type;
  if (dy->rank != x->rank || dy->dtype != x->dtype || dy->dim[dy->rank - 1] != cols)
    return clash(c, n, 0, 2, "the gradient does not fit");
  if (given(n, 6) && !pare_type_equal(x, &n->in[6]->type))
    return clash(c, n, 0, 6, "what is added to the gradient is of its type");
  if (given(n, 7) && !pare_type_equal(dy, &n->in[7]->type))
    return clash(c, n, 2, 7, "the activation's input is of its gradient's type");
  if (given(n, 7) != (n->nout > 3 && n->out[3]))
    return bad_input(c, n, 7, "the gradient that is made with it is a result, and made with nothing else");
  if (n->nout > 0) PARE_TRY(set_out(c, n, 0, *x));
  for (int i = 1; i < n->nout && i < 3; i++) {
    PARE_TRY(need_input(c, n, i + 2));
    PARE_TRY(set_out(c, n, i, n->in[i + 2]->type));
  }
  if (n->nout > 3) PARE_TRY(set_out(c, n, 3, *dy));
  return n->nout > 4 ? set_scores(c, n, cols) : PARE_OK;
}

/* Input i as [batch, heads, rows, width]; `heads` is the axis that holds them, 1 or 2. */
static PareStatus attention_side(PareCtx *c, const PareNode *n, int i, int64_t heads, int64_t dim[4]) {
  PARE_TRY(need_input(c, n, i));
  const PareType *t = &n->in[i]->type;
  if (t->rank != 4 || t->dtype != n->in[0]->type.dtype)
    return bad_input(c, n, i, "attention is of rank 4 and one type");
  if (heads != 1 && heads != 2) return bad_input(c, n, i, "the heads are on axis 1 or 2");
  dim[0] = t->dim[0], dim[1] = t->dim[heads], dim[2] = t->dim[3 - heads], dim[3] = t->dim[3];
  return PARE_OK;
}

static PareStatus check_attention(PareCtx *c, PareNode *n, int mask, int64_t q[4], int64_t v[4]) {
  int64_t k[4];
  const PareInts *heads = &n->attr.heads;
  if (heads->n != 4) return pare_fail(c, n, PARE_FORMAT, "attribute 'heads' has %d numbers instead of 4", heads->n);
  PARE_TRY(attention_side(c, n, 0, heads->at[0], q));
  PARE_TRY(attention_side(c, n, 1, heads->at[1], k));
  PARE_TRY(attention_side(c, n, 2, heads->at[2], v));
  if (memcmp(q, k, 2 * sizeof *q) || q[3] != k[3]) return clash(c, n, 0, 1, "q and k do not fit");
  if (memcmp(k, v, 3 * sizeof *k)) return clash(c, n, 1, 2, "k and v do not fit");
  PareType scores = {n->in[0]->type.dtype == PARE_BF16 ? PARE_F32 : n->in[0]->type.dtype, 4, {q[0], q[1], q[2], k[2]}};
  if (!given(n, mask)) return PARE_OK;
  if (n->in[mask]->type.dtype != scores.dtype) return bad_input(c, n, mask, "has not the type that sums have");
  return bcast_to(c, n, mask, &scores);
}

PareStatus pare_infer_attention(PareCtx *c, PareNode *n) {
  int64_t q[4], v[4];
  PARE_TRY(check_attention(c, n, 3, q, v));
  PareDtype d = n->in[0]->type.dtype;
  PareType y = {d, 4, {q[0], q[1], q[2], v[3]}};
  if (n->attr.heads.at[3] == 2) y.dim[1] = q[2], y.dim[2] = q[1];
  else if (n->attr.heads.at[3] != 1) return bad_input(c, n, 0, "the heads of the result are on axis 1 or 2");
  PARE_TRY(set_out(c, n, 0, y));
  return set_out(c, n, 1, (PareType){d == PARE_BF16 ? PARE_F32 : d, 3, {q[0], q[1], q[2]}});
}

PareStatus pare_infer_attentiongrad(PareCtx *c, PareNode *n) {
  int64_t q[4], v[4];
  PARE_TRY(check_attention(c, n, 6, q, v));
  for (int i = 3; i < 6; i++) PARE_TRY(need_input(c, n, i));
  if (!pare_type_equal(&n->in[3]->type, &n->in[5]->type)) return clash(c, n, 3, 5, "the gradient does not fit");
  for (int i = 0; i < 3; i++) PARE_TRY(set_out(c, n, i, n->in[i]->type));
  return PARE_OK;
}
