/* infer_axes.c - the infer column, along axes: norms and reductions. */
#include "ir/infer.h"

PareStatus pare_infer_layernorm(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int axis;
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, -1), x->rank, &axis));
  for (int i = 1; i < n->nin; i++) {
    if (!n->in[i]) continue;
    PARE_TRY(same_dtype(c, n, 0, i));
    PARE_TRY(bcast_to(c, n, i, x));
  }
  PareType stat = *x;
  for (int a = axis; a < x->rank; a++) stat.dim[a] = 1;
  PARE_TRY(set_out(c, n, 0, *x));
  for (int i = 1; i < n->nout; i++) PARE_TRY(set_out(c, n, i, stat));
  return PARE_OK;
}

/* Input i, if given, is of input 0's shape, and of its type or of bf16. */
static PareStatus need_like0(PareCtx *c, const PareNode *n, int i) {
  if (!given(n, i)) return PARE_OK;
  PARE_TRY(same_dims(c, n, 0, i));
  return n->in[i]->type.dtype == PARE_BF16 ? PARE_OK : same_dtype(c, n, 0, i);
}

static PareStatus set_low(PareCtx *c, PareNode *n, int i) {
  PareType low = n->in[0]->type;
  low.dtype = PARE_BF16;
  return n->nout > i ? set_out(c, n, i, low) : PARE_OK;
}

/* x, gamma, beta, branch -> x + branch, its norm, mean, rstd, the norm in bf16. Mean, rstd, gamma and beta of a norm of x
 * may follow: then that is what stands for x. */
PareStatus pare_infer_addnorm(PareCtx *c, PareNode *n) {
  int axis;
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  PareType x = n->in[0]->type, stat = x;
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, -1), x.rank, &axis));
  for (int i = 1; i < 3; i++) {
    if (!given(n, i)) continue;
    PARE_TRY(same_dtype(c, n, 0, i));
    PARE_TRY(bcast_to(c, n, i, &x));
  }
  PARE_TRY(need_like0(c, n, 3));
  for (int i = 4; i < 8; i++)
    if (given(n, i)) PARE_TRY(bcast_to(c, n, i, &x));
  for (int a = axis; a < x.rank; a++) stat.dim[a] = 1;
  for (int i = 0; i < 4 && i < n->nout; i++) PARE_TRY(set_out(c, n, i, i < 2 ? x : stat));
  return set_low(c, n, 4);
}

PareStatus pare_infer_layernormgrad(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 5; i++) PARE_TRY(need_input(c, n, i));
  for (int i = 4; i < 6; i++) PARE_TRY(need_like0(c, n, i));
  PARE_TRY(same_dims(c, n, 2, 3));
  PARE_TRY(bcast_to(c, n, 1, &n->in[0]->type));
  PARE_TRY(bcast_to(c, n, 2, &n->in[0]->type));
  if (given(n, 6) && !pare_type_equal(&n->in[0]->type, &n->in[6]->type))
    return clash(c, n, 0, 6, "what is added to the gradient is of its type");
  for (int i = 0; i < 3 && i < n->nout; i++) PARE_TRY(set_out(c, n, i, n->in[i ? 1 : 0]->type));
  return set_low(c, n, 3);
}

PareStatus pare_infer_reduce(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  unsigned axes = 0;
  if (given(n, 1)) PARE_TRY(known_axes(c, n, 1, x->rank, &axes));
  if (!axes && !pare_attr_get(&n->attr, noop_with_empty_axes, 0)) axes = (1u << x->rank) - 1;
  bool keep = pare_attr_get(&n->attr, keepdims, 1) != 0;
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < x->rank; a++) {
    bool gone = axes >> a & 1u;
    if (!gone || keep) t.dim[t.rank++] = gone ? 1 : x->dim[a];
  }
  return set_out(c, n, 0, t);
}

/* The axis goes, or stays as 1. */
PareStatus pare_infer_arg(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int axis = -1; /* a scalar has none, and needs none */
  int64_t want = pare_attr_get(&n->attr, axis, 0);
  if (x->rank || (want != 0 && want != -1)) PARE_TRY(wrap_axis(c, n, 0, want, x->rank, &axis));
  bool keep = pare_attr_get(&n->attr, keepdims, 1) != 0;
  PareType t = {.dtype = PARE_I64};
  for (int a = 0; a < x->rank; a++)
    if (a != axis || keep) t.dim[t.rank++] = a == axis ? 1 : x->dim[a];
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_topk(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t count;
  int axis;
  PARE_TRY(known_ints(c, n, 1, &count));
  if (count != 1) return bad_input(c, n, 1, "one number is needed here");
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, -1), t.rank, &axis));
  int64_t k = pare_data_int(n->in[1], 0);
  if (k < 0 || k > t.dim[axis])
    return pare_fail(c, n, PARE_FORMAT, "%" PRId64 " elements are asked for of axis %d of '%s', which has %" PRId64, k,
                     axis, n->in[0]->name, t.dim[axis]);
  t.dim[axis] = k;
  PARE_TRY(set_out(c, n, 0, t));
  t.dtype = PARE_I64;
  return n->nout > 1 ? set_out(c, n, 1, t) : PARE_OK;
}

/* The axis is a number beside x. */
PareStatus pare_infer_cumsum(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 1));
  const PareType *t = &n->in[1]->type;
  bool whole = t->dtype == PARE_I64 || t->dtype == PARE_I32;
  if (!whole || t->rank > 1 || (t->rank == 1 && t->dim[0] >= 0 && t->dim[0] != 1))
    return bad_input(c, n, 1, "one number is needed here, i64 or i32");
  return pare_infer_like0(c, n);
}

PareStatus pare_infer_lpnorm(PareCtx *c, PareNode *n) {
  int64_t p = pare_attr_get(&n->attr, p, 2);
  if (p != 1 && p != 2) return pare_fail(c, n, PARE_UNSUPPORTED, "the attribute 'p' is %" PRId64 ", not 1 or 2", p);
  return pare_infer_like0(c, n);
}

/* x[n, c, ...] with vectors of c numbers. */
PareStatus pare_infer_channels(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  bool yields_statistics = false;
  for (int i = 1; i < n->nout; i++) yields_statistics |= n->out[i] != NULL;
  if (pare_attr_get(&n->attr, training_mode, 0) || yields_statistics)
    return pare_fail(c, n, PARE_UNSUPPORTED, "it is in training mode: export the model for inference");
  if (x->rank < (n->op == PARE_OP_INSTANCENORM ? 3 : 1)) return bad_input(c, n, 0, "there is no axis of channels");
  int64_t channels = x->rank > 1 ? x->dim[1] : 1;
  for (int i = 1; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    const PareType *v = &n->in[i]->type;
    if (v->rank != 1 || v->dim[0] != channels) return clash(c, n, 0, i, "there is not one number a channel");
    if (!pare_dtype_is_float(v->dtype)) return bad_input(c, n, i, "floats are needed here");
  }
  return set_out(c, n, 0, *x);
}
