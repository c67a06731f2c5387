/* grad_move.c - the gradient column, movement: gradients go back to where elements came from. */
#include "ir/grad.h"

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
