/* infer_eltwise.c - the infer column, element-wise: operands broadcast, or the result
 * is like one of them. */
#include "ir/infer.h"

/* Dims of inputs from..nin-1 broadcast together, of one element type. */
static PareStatus bcast_all(PareCtx *c, const PareNode *n, int from, bool one_dtype, PareType *t) {
  for (int i = from; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    if (one_dtype) PARE_TRY(same_dtype(c, n, from, i));
  }
  *t = n->in[from]->type;
  for (int i = from + 1; i < n->nin; i++) PARE_TRY(bcast_into(c, n, from, i, t));
  return PARE_OK;
}

PareStatus pare_infer_bcast(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(bcast_all(c, n, 0, true, &t));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_pow(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(bcast_all(c, n, 0, false, &t));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_bits(PareCtx *c, PareNode *n) {
  if (!pare_dtype_is_int(n->in[0]->type.dtype)) return bad_input(c, n, 0, "bits are those of integers");
  return pare_infer_bcast(c, n);
}

/* The slope is stretched to x, not the other way round. */
PareStatus pare_infer_prelu(PareCtx *c, PareNode *n) {
  PARE_TRY(same_dtype(c, n, 0, 1));
  PARE_TRY(bcast_to(c, n, 1, &n->in[0]->type));
  return set_out(c, n, 0, n->in[0]->type);
}

/* Bounds are one number each; those that old opsets have as attributes are f32 whatever x is. */
PareStatus pare_infer_clip(PareCtx *c, PareNode *n) {
  for (int i = 1; i < n->nin; i++) {
    if (!n->in[i]) continue;
    if (pare_type_count(&n->in[i]->type) != 1) return bad_input(c, n, i, "one number is needed here");
    bool floats = pare_dtype_is_float(n->in[0]->type.dtype) && pare_dtype_is_float(n->in[i]->type.dtype);
    if (!floats) PARE_TRY(same_dtype(c, n, 0, i));
  }
  return set_out(c, n, 0, n->in[0]->type);
}

/* IsNaN, IsInf */
PareStatus pare_infer_test(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  if (!pare_dtype_is_float(t.dtype)) return bad_input(c, n, 0, "floats are needed here");
  t.dtype = PARE_BOOL;
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_castlike(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  t.dtype = n->in[1]->type.dtype;
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_compare(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(bcast_all(c, n, 0, true, &t));
  t.dtype = PARE_BOOL;
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_where(PareCtx *c, PareNode *n) {
  PareType t;
  if (n->in[0]->type.dtype != PARE_BOOL) return bad_input(c, n, 0, "the condition must be bool");
  PARE_TRY(bcast_all(c, n, 1, true, &t));
  PARE_TRY(bcast_into(c, n, 1, 0, &t));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_cast(PareCtx *c, PareNode *n) {
  if (!pare_attr_has(&n->attr, to)) return pare_fail(c, n, PARE_FORMAT, "the attribute 'to' is missing");
  PareType t = n->in[0]->type;
  t.dtype = n->attr.to;
  return set_out(c, n, 0, t);
}

static PareStatus like(PareCtx *c, PareNode *n, int i) {
  PARE_TRY(need_input(c, n, i));
  return set_out(c, n, 0, n->in[i]->type);
}

/* Of W and, where given, a truth value for each index of the axis. */
PareStatus pare_infer_fetch(PareCtx *c, PareNode *n) {
  int axis;
  PARE_TRY(need_input(c, n, 0));
  if (n->nin < 2) return like(c, n, 0);
  PARE_TRY(need_input(c, n, 1));
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), n->in[0]->type.rank, &axis));
  const PareType *t = &n->in[1]->type;
  if (t->dtype != PARE_BOOL || t->rank != 1 || t->dim[0] != n->in[0]->type.dim[axis])
    return bad_input(c, n, 1, "it must be a truth value for each index of the axis");
  return like(c, n, 0);
}

/* Unary ops, ops along an axis, and gradients of both: (x or y, dy). */
PareStatus pare_infer_like0(PareCtx *c, PareNode *n) {
  int axis;
  PARE_TRY(need_input(c, n, 0));
  if (pare_attr_has(&n->attr, axis)) PARE_TRY(wrap_axis(c, n, 0, n->attr.axis, n->in[0]->type.rank, &axis));
  if (n->nin == 2 && !strcmp(pare_op_info[n->op].domain, "pare")) {
    PARE_TRY(need_input(c, n, 1));
    PARE_TRY(same_dims(c, n, 0, 1));
  }
  return like(c, n, 0);
}

/* As in inference: y = x, the mask is all true. */
PareStatus pare_infer_dropout(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  if (n->nin > 2 && n->in[2] && (!n->in[2]->data || pare_data_int(n->in[2], 0)))
    return pare_fail(c, n, PARE_UNSUPPORTED, "it drops (training mode): export the model for inference");
  PareType mask = n->in[0]->type;
  mask.dtype = PARE_BOOL;
  if (n->nout > 1) PARE_TRY(set_out(c, n, 1, mask));
  return like(c, n, 0);
}

/* SumTo: input 1 must be a shape that broadcasts to input 0's. */
PareStatus pare_infer_like1(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  PARE_TRY(bcast_to(c, n, 1, &n->in[0]->type));
  return like(c, n, 1);
}

PareStatus pare_infer_like2(PareCtx *c, PareNode *n) { return like(c, n, 2); }
/* With a mask, the mask's gradient beside the activation's. */
PareStatus pare_infer_gelugrad(PareCtx *c, PareNode *n) {
  PARE_TRY(like(c, n, 0));
  if ((n->nout > 1) != (n->nin > 2)) return pare_fail(c, n, PARE_FORMAT, "a mask and its gradient come together");
  return n->nout > 1 ? set_out(c, n, 1, n->in[2]->type) : PARE_OK;
}
PareStatus pare_infer_like5(PareCtx *c, PareNode *n) { return like(c, n, 5); }

/* Ops that only write states: what they write and read element by element has one shape. */
PareStatus pare_infer_none(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) {
    if (i > 1 && !(pare_op_info[n->op].writes >> i & 1u)) continue;
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(same_dims(c, n, 0, i));
  }
  return PARE_OK;
}
