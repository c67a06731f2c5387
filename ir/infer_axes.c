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

PareStatus pare_infer_layernormgrad(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) PARE_TRY(need_input(c, n, i));
  PARE_TRY(same_dims(c, n, 0, 4));
  PARE_TRY(same_dims(c, n, 2, 3));
  PARE_TRY(bcast_to(c, n, 1, &n->in[0]->type));
  PARE_TRY(bcast_to(c, n, 2, &n->in[0]->type));
  PARE_TRY(set_out(c, n, 0, n->in[0]->type));
  for (int i = 1; i < n->nout; i++) PARE_TRY(set_out(c, n, i, n->in[1]->type));
  return PARE_OK;
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
