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

/* W[K,N] ([N,K] with transB), A[K,r], B[r,N][, dA, dB] -> row[K], col[N] */
PareStatus pare_infer_importance(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    if (n->in[i]->type.rank != 2) return bad_input(c, n, i, "a matrix of rank 2 is needed here");
  }
  const PareType *a = &n->in[1]->type, *b = &n->in[2]->type;
  Matrix w = matrix_of(&n->in[0]->type, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (a->dim[0] != w.rows) return clash(c, n, 0, 1, "the adapter A does not fit the weight's inputs");
  if (b->dim[1] != w.cols) return clash(c, n, 0, 2, "the adapter B does not fit the weight's outputs");
  if (a->dim[1] != b->dim[0]) return clash(c, n, 1, 2, "the ranks of the adapters differ");
  if (n->nin == 5) {
    PARE_TRY(same_dims(c, n, 1, 3));
    PARE_TRY(same_dims(c, n, 2, 4));
  }
  PareType t = scalar_for(&n->in[0]->type);
  t.rank = 1;
  t.dim[0] = w.rows;
  PARE_TRY(set_out(c, n, 0, t));
  t.dim[0] = w.cols;
  return set_out(c, n, 1, t);
}
