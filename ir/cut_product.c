/* cut_product.c - the `cut` column, products: what is summed over ends in a weight. */
#include "ir/cut.h"
#include "ir/einsum.h"

/* Y[.., M, N] = A[.., M, K] B[.., K, N], either matrix transposed by attribute;
 * a rank-1 operand lacks M or N. */
PareStatus pare_cut_matmul(PareTracer *t, const PareNode *n) {
  int ra = rank_in(n, 0), rb = rank_in(n, 1), ro = n->out[0]->type.rank;
  bool ta = ra > 1 && pare_attr_get(&n->attr, transA, 0), tb = rb > 1 && pare_attr_get(&n->attr, transB, 0);
  int ka = ra == 1 ? 0 : ra - 1 - ta, ma = ra - 2 + ta, kb = rb == 1 ? 0 : rb - 2 + tb, nb = rb - 1 - tb;
  bool both = !is_weight(t, n, 0) && !is_weight(t, n, 1);
  PARE_TRY(contract(t, n, 0, ka, 1, kb));
  int tail = (ra > 1) + (rb > 1);
  if (ra > 1) pare_axis_set(t, n, 0, ro - tail, pare_axis_in(t, n, 0, ma));
  if (rb > 1) pare_axis_set(t, n, 0, ro - 1, pare_axis_in(t, n, 1, nb));
  if (both) {
    if (ra > 1) pare_axis_leaves(pare_axis_in(t, n, 0, ma), mark_inner, NULL);
    if (rb > 1) pare_axis_leaves(pare_axis_in(t, n, 1, nb), mark_inner, NULL);
  }
  for (int k = 0; k < 2; k++) {
    int batch = rank_in(n, k) - 2;
    for (int d = 0; d < batch; d++) {
      int at = ro - tail - batch + d;
      if (dim_in(n, k, d) == n->out[0]->type.dim[at] && dim_in(n, k, d) != 1)
        pare_axis_set(t, n, 0, at, pare_axis_in(t, n, k, d));
    }
  }
  for (int d = 0; both && d < ro - tail; d++) pare_axis_leaves(pare_axis_out(t, n, 0, d), mark_batched, NULL);
  return PARE_OK;
}

PareStatus pare_cut_gemm(PareTracer *t, const PareNode *n) {
  int ta = pare_attr_get(&n->attr, transA, 0) != 0, tb = pare_attr_get(&n->attr, transB, 0) != 0;
  PARE_TRY(contract(t, n, 0, 1 - ta, 1, tb));
  pare_axis_set(t, n, 0, 0, pare_axis_in(t, n, 0, ta));
  pare_axis_set(t, n, 0, 1, pare_axis_in(t, n, 1, 1 - tb));
  if (n->nin < 3 || !n->in[2]) return PARE_OK;
  for (int d = 0; d < rank_in(n, 2); d++) {
    int at = 2 - rank_in(n, 2) + d;
    if (dim_in(n, 2, d) != 1) pare_axis_set(t, n, 0, at, pare_axis_in(t, n, 2, d));
  }
  return PARE_OK;
}

/* X[N, C, ...] W[M, C/groups, ...] B[M]: channels contract, or go one by one; space is frozen. */
PareStatus pare_cut_conv(PareTracer *t, const PareNode *n) {
  pare_axis_set(t, n, 0, 0, pare_axis_in(t, n, 0, 0));
  pare_axis_set(t, n, 0, 1, pare_axis_in(t, n, 1, 0));
  if (n->nin > 2 && n->in[2]) pare_axis_tie(t, n, pare_axis_in(t, n, 1, 0), pare_axis_in(t, n, 2, 0));
  for (int d = 2; d < rank_in(n, 0); d++) {
    freeze_in(t, n, 0, d, "is a spatial axis of a convolution");
    freeze_in(t, n, 1, d, "is a spatial axis of a convolution");
    pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is a spatial axis of a convolution");
  }
  if (pare_attr_get(&n->attr, group, 1) == 1) return contract(t, n, 0, 1, 1, 1);
  if (pare_is_depthwise(n) && n->onnx_input != PARE_INSIDE) { /* inside, the file has no place for the new group */
    pare_axis_set(t, n, 0, 1, pare_axis_in(t, n, 0, 1));
    return PARE_OK;
  }
  freeze_in(t, n, 0, 1, "is read by a grouped convolution");
  freeze_in(t, n, 1, 0, "is made by a grouped convolution");
  freeze_in(t, n, 1, 1, "is read by a grouped convolution");
  return PARE_OK;
}

/* A label's axes in the operands; where it vanishes it is summed over. */
static PareStatus cut_label(PareTracer *t, const PareNode *n, const PareEinsum *e, int l) {
  int at[3], out = pare_einsum_axis(e, PARE_EINSUM_OUT, l);
  bool both = e->nin == 2 && !is_weight(t, n, 0) && !is_weight(t, n, 1);
  for (int k = 0; k < 2; k++) {
    at[k] = k < e->nin ? pare_einsum_axis(e, k, l) : -1;
    if (at[k] >= 0 && dim_in(n, k, at[k]) != e->size[l]) at[k] = -1; /* stretched */
    for (int d = 0; at[k] >= 0 && d < e->rank[k]; d++) /* a diagonal */
      if (e->label[k][d] == l) pare_axis_tie(t, n, pare_axis_in(t, n, k, at[k]), pare_axis_in(t, n, k, d));
    if (at[k] >= 0 && out >= 0) pare_axis_set(t, n, 0, out, pare_axis_in(t, n, k, at[k]));
  }
  if (out < 0 && at[0] >= 0 && at[1] >= 0) return contract(t, n, 0, at[0], 1, at[1]);
  for (int k = 0; k < 2 && out < 0; k++)
    if (at[k] >= 0) freeze_in(t, n, k, at[k], "is summed over");
  bool batch = at[0] >= 0 && at[1] >= 0;
  if (both && out >= 0) pare_axis_leaves(pare_axis_out(t, n, 0, out), batch ? mark_batched : mark_inner, NULL);
  return PARE_OK;
}

PareStatus pare_cut_einsum(PareTracer *t, const PareNode *n) {
  const PareType *in[2] = {&n->in[0]->type, n->nin > 1 ? &n->in[1]->type : NULL};
  PareEinsum e;
  if (n->nin > 2 || pare_einsum_parse(pare_attr_get(&n->attr, equation, ""), n->nin, in, &e)) return pare_cut_opaque(t, n);
  for (int l = 0; l < PARE_EINSUM_LABELS; l++)
    if (e.used[l] && e.size[l] != 1) PARE_TRY(cut_label(t, n, &e, l));
  return PARE_OK;
}
