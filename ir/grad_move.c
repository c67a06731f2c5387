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

RULE(sumto0) {
  if (!want[0]) return PARE_OK;
  return sum_to(c, g, n, dout[0], n->in[0], &din[0]);
}

/* The copies of each axis are summed: dy[before, times, behind], axis by axis. */
RULE(tile) {
  if (!want[0]) return PARE_OK;
  const PareType *x = &n->in[0]->type;
  if (!n->in[1]->data) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient: the counts are not constant");
  PareAttrs drop = {0};
  pare_attr_set(&drop, keepdims, 0);
  PareValue *d = dout[0], *one = pare_const_ints(c, g, n->name, 1, (int64_t[]){1});
  if (!one) return c->diag.code;
  int64_t before = 1, behind = pare_type_count(&d->type);
  for (int a = 0; a < x->rank; a++) {
    int64_t times = pare_data_int(n->in[1], a);
    if (times == 0) return PARE_OK; /* nothing of x is read */
    behind = x->dim[a] && behind ? behind / (x->dim[a] * times) : 0;
    int64_t inner = x->dim[a] * behind;
    if (times > 1) {
      PARE_TRY(reshape(c, g, n, d, 3, (int64_t[]){before, times, inner}, &d));
      EMIT(sum, REDUCESUM, &drop, d, one);
      d = sum;
    }
    before *= x->dim[a];
  }
  return reshape(c, g, n, d, x->rank, x->dim, &din[0]);
}

/* What stands between the pads. */
RULE(pad) {
  if (!want[0]) return PARE_OK;
  const PareType *x = &n->in[0]->type;
  int64_t start[PARE_MAX_RANK] = {0}, end[PARE_MAX_RANK], naxes = pare_type_count(&n->in[1]->type) / 2;
  PareValue *axes = n->nin > 3 ? n->in[3] : NULL;
  if (n->attr.mode != 0 || !n->in[1]->data || (axes && !axes->data))
    return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient but for constant pads of a known size");
  for (int64_t i = 0; i < naxes; i++) {
    int64_t a = axes ? axis_of(pare_data_int(axes, i), x->rank) : i;
    start[a] = pare_data_int(n->in[1], i);
    if (start[a] < 0 || pare_data_int(n->in[1], naxes + i) < 0)
      return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient for pads that take elements away");
  }
  for (int a = 0; a < x->rank; a++) end[a] = start[a] + x->dim[a];
  PareValue *from = pare_const_ints(c, g, n->name, x->rank, start), *to = pare_const_ints(c, g, n->name, x->rank, end);
  if (!from || !to) return c->diag.code;
  EMIT(d, SLICE, NULL, dout[0], from, to);
  din[0] = d;
  return PARE_OK;
}

RULE(trilu) {
  if (!want[0]) return PARE_OK;
  PareValue *k = n->nin > 1 ? n->in[1] : NULL;
  din[0] = pare_emit(c, g, NULL, PARE_OP_TRILU, n->name, &n->attr, k ? 2 : 1, (PareValue *[]){dout[0], k});
  return din[0] ? PARE_OK : c->diag.code;
}

/* dy under `dim`, its axes permuted, in x's shape. */
static PareStatus rearranged(PareCtx *c, PareGraph *g, PareNode *n, PareValue *dy, const int64_t dim[6],
                             const int64_t order[6], PareValue **out) {
  const PareType *x = &n->in[0]->type;
  PareInts perm = {.n = 6};
  for (int i = 0; i < 6; i++) perm.at[i] = order[i];
  PareAttrs attr = {0};
  pare_attr_set(&attr, perm, perm);
  PARE_TRY(reshape(c, g, n, dy, 6, dim, &dy));
  EMIT(d, TRANSPOSE, &attr, dy);
  return reshape(c, g, n, d, x->rank, x->dim, out);
}

/* y[n, c, h, b, w, b]; x[n, b, b, c, h, w] (DCR) or x[n, c, b, b, h, w] (CRD) */
RULE(depthtospace) {
  (void)want;
  static const int64_t dcr[6] = {0, 3, 5, 1, 2, 4}, crd[6] = {0, 1, 3, 5, 2, 4};
  const PareType *x = &n->in[0]->type, *y = &n->out[0]->type;
  int64_t b = n->attr.blocksize, dim[6] = {y->dim[0], y->dim[1], x->dim[2], b, x->dim[3], b};
  return rearranged(c, g, n, dout[0], dim, pare_depth_first(&n->attr) ? dcr : crd, &din[0]);
}

/* y[n, b, b, c, h, w], x[n, c, h, b, w, b] */
RULE(spacetodepth) {
  (void)want;
  static const int64_t order[6] = {0, 3, 4, 1, 5, 2};
  const PareType *x = &n->in[0]->type, *y = &n->out[0]->type;
  int64_t b = n->attr.blocksize, dim[6] = {y->dim[0], b, b, x->dim[1], y->dim[2], y->dim[3]};
  return rearranged(c, g, n, dout[0], dim, order, &din[0]);
}
