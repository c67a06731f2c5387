/* infer_loss.c - the infer column, losses and criteria. */
#include "ir/infer.h"

static PareType scalar_for(const PareType *t) {
  return (PareType){.dtype = t->dtype == PARE_F64 ? PARE_F64 : PARE_F32};
}

/* Predictions against integer labels (one a row of the last axis) or against floats of the same shape. */
PareStatus pare_infer_loss(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  PareType rows = n->in[0]->type;
  if (!pare_dtype_is_float(rows.dtype)) return bad_input(c, n, 0, "predictions must be floats");
  if (pare_dtype_is_float(n->in[1]->type.dtype)) {
    PARE_TRY(same_dims(c, n, 0, 1));
  } else {
    if (rows.rank == 0) return bad_input(c, n, 0, "there is no axis of classes");
    rows.rank--;
    if (!dims_equal(&rows, &n->in[1]->type)) return clash(c, n, 0, 1, "the labels are not one a row of classes");
  }
  return set_out(c, n, 0, scalar_for(&n->in[0]->type));
}

PareStatus pare_infer_scalar(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) PARE_TRY(need_input(c, n, i));
  return set_out(c, n, 0, scalar_for(&n->in[0]->type));
}

/* W[K,N] ([N,K] with transB), A[K,r], B[r,N] */
static PareStatus adapted(PareCtx *c, const PareNode *n, Matrix *w) {
  for (int i = 0; i < 3; i++) {
    PARE_TRY(need_input(c, n, i));
    if (n->in[i]->type.rank != 2) return bad_input(c, n, i, "a matrix of rank 2 is needed here");
  }
  const PareType *a = &n->in[1]->type, *b = &n->in[2]->type;
  *w = matrix_of(&n->in[0]->type, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (a->dim[0] != w->rows) return clash(c, n, 0, 1, "the adapter A does not fit the weight's inputs");
  if (b->dim[1] != w->cols) return clash(c, n, 0, 2, "the adapter B does not fit the weight's outputs");
  if (a->dim[1] != b->dim[0]) return clash(c, n, 1, 2, "the ranks of the adapters differ");
  return PARE_OK;
}

static PareStatus adapter_gradients(PareCtx *c, const PareNode *n) {
  if (!given(n, 3) && !given(n, 4)) return PARE_OK;
  PARE_TRY(need_input(c, n, 3));
  PARE_TRY(need_input(c, n, 4));
  PARE_TRY(same_dims(c, n, 1, 3));
  return same_dims(c, n, 2, 4);
}

static PareStatus set_sums(PareCtx *c, PareNode *n, const Matrix *w) {
  PareType t = scalar_for(&n->in[0]->type);
  t.rank = 1;
  t.dim[0] = w->rows;
  if (n->nout > 0) PARE_TRY(set_out(c, n, 0, t));
  t.dim[0] = w->cols;
  return n->nout > 1 ? set_out(c, n, 1, t) : PARE_OK;
}

/* W, A, B[, dA, dB] -> row[K], col[N] */
PareStatus pare_infer_importance(PareCtx *c, PareNode *n) {
  Matrix w;
  PARE_TRY(adapted(c, n, &w));
  PARE_TRY(adapter_gradients(c, n));
  return set_sums(c, n, &w);
}

/* W, A, B[, dA, dB][, norm[K]], pairs x[..., K], dy[..., N] -> row[K], col[N], elements like W */
PareStatus pare_infer_weightscore(PareCtx *c, PareNode *n) {
  enum { NORM = 5, PAIRS };
  Matrix w;
  PARE_TRY(adapted(c, n, &w));
  PARE_TRY(adapter_gradients(c, n));
  if (given(n, NORM) && (n->in[NORM]->type.rank != 1 || n->in[NORM]->type.dim[0] != w.rows))
    return clash(c, n, 0, NORM, "there is not one norm for each of the weight's inputs");
  for (int i = PAIRS; i < n->nin; i += 2) {
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(need_input(c, n, i + 1));
    PareType x = n->in[i]->type, dy = n->in[i + 1]->type;
    if (x.rank < 1 || x.dim[x.rank - 1] != w.rows) return clash(c, n, 0, i, "x does not fit the weight's inputs");
    x.dim[x.rank - 1] = w.cols;
    if (!dims_equal(&x, &dy)) return clash(c, n, i, i + 1, "x and dy are not of one product by the weight");
  }
  PARE_TRY(set_sums(c, n, &w));
  return n->nout > 2 ? set_out(c, n, 2, n->in[0]->type) : PARE_OK;
}

/* v, dv, gid [dim of axis], like [groups]; `group` samples -> [samples, groups] */
PareStatus pare_infer_samplesum(PareCtx *c, PareNode *n) {
  int axis;
  for (int i = 0; i < 4; i++) PARE_TRY(need_input(c, n, i));
  PARE_TRY(same_dims(c, n, 0, 1));
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), n->in[0]->type.rank, &axis));
  if (n->in[2]->type.rank != 1 || n->in[2]->type.dim[0] != n->in[0]->type.dim[axis])
    return clash(c, n, 0, 2, "there is not one group number for each place along the axis");
  if (n->in[3]->type.rank != 1) return bad_input(c, n, 3, "a vector of groups is needed here");
  if (pare_attr_get(&n->attr, group, 1) < 1 || pare_attr_get(&n->attr, block_size, 1) < 1)
    return pare_fail(c, n, PARE_FORMAT, "samples and their rows are one or more");
  PareType t = {n->in[0]->type.dtype, 2, {pare_attr_get(&n->attr, group, 1), n->in[3]->type.dim[0]}};
  return set_out(c, n, 0, t);
}
