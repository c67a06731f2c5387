/* expand_attend.c - see expand_attend.h. The forms are those that passes/fuse_attention knows. */
#include "frontend/expand_attend.h"

PareValue *pare_expand_unsqueeze(PareExpand *x, const char *role, PareValue *v, int n, const int64_t *axes) {
  return PARE_EXPAND_OP(x, UNSQUEEZE, role, NULL, v, pare_expand_ints(x, n, axes));
}

PareValue *pare_expand_heads(PareExpand *x, const char *role, PareValue *v, PareValue *heads) {
  PareValue *shape = PARE_EXPAND_JOIN(x, "apart", 0, PARE_EXPAND_INTS(x, 0, 0), heads, PARE_EXPAND_INTS(x, -1));
  PareValue *apart = PARE_EXPAND_OP(x, RESHAPE, role, NULL, v, shape);
  return pare_expand_transpose(x, role, apart, 4, (int64_t[]){0, 2, 1, 3});
}

PareValue *pare_expand_merge(PareExpand *x, PareValue *v) {
  PareValue *inside = pare_expand_transpose(x, "inside", v, 4, (int64_t[]){0, 2, 1, 3});
  return PARE_EXPAND_OP(x, RESHAPE, "merged", NULL, inside, PARE_EXPAND_INTS(x, 0, 0, -1));
}

PareValue *pare_expand_masks(PareExpand *x, PareValue *a, PareValue *b) {
  return a && b ? PARE_EXPAND_OP(x, ADD, "masks", NULL, a, b) : a ? a : b;
}

PareValue *pare_expand_closed(PareExpand *x, PareValue *open, PareValue *like, double fill) {
  PareValue *zero = pare_expand_float(x, like, 0), *closed = pare_expand_float(x, like, fill);
  return PARE_EXPAND_OP(x, WHERE, "closed", NULL, open, zero, closed);
}

PareValue *pare_expand_range(PareExpand *x, PareValue *n) {
  return PARE_EXPAND_OP(x, RANGE, "range", NULL, pare_expand_int(x, 0), n, pare_expand_int(x, 1));
}

PareValue *pare_expand_rows(PareExpand *x, PareValue *q, PareValue *shift) {
  PareValue *row = pare_expand_range(x, pare_expand_size(x, q, 2));
  row = pare_expand_unsqueeze(x, "rows", row, 1, (int64_t[]){1});
  return shift ? PARE_EXPAND_OP(x, ADD, "shifted", NULL, row, shift) : row;
}

PareValue *pare_expand_columns(PareExpand *x, PareValue *k) { return pare_expand_range(x, pare_expand_size(x, k, 2)); }

PareValue *pare_expand_repeat(PareExpand *x, const char *role, PareValue *v, PareValue *q) {
  PareValue *each = PARE_EXPAND_OP(x, DIV, "each", NULL, pare_expand_dim(x, q, 1), pare_expand_dim(x, v, 1));
  PareValue *to = PARE_EXPAND_JOIN(x, "shared", 0, PARE_EXPAND_INTS(x, 1, 1), each, PARE_EXPAND_INTS(x, 1, 1));
  PareValue *apart = pare_expand_unsqueeze(x, role, v, 1, (int64_t[]){2});
  apart = PARE_EXPAND_OP(x, EXPAND, role, NULL, apart, to);
  PareValue *shape = PARE_EXPAND_JOIN(x, "flat", 0, PARE_EXPAND_INTS(x, 0, -1), pare_expand_dim(x, v, 2),
                                      pare_expand_dim(x, v, 3));
  return PARE_EXPAND_OP(x, RESHAPE, role, NULL, apart, shape);
}

/* scale·products, the scale being that of the width where none is given. */
static PareValue *scaled(PareExpand *x, const PareAttend *a, PareValue *products) {
  if (a->scale != 0) return PARE_EXPAND_OP(x, MUL, "scaled", NULL, products, pare_expand_float(x, a->q, a->scale));
  PareValue *width = pare_expand_cast(x, pare_expand_size(x, a->q, 3), PARE_F32);
  PareValue *root = PARE_EXPAND_OP(x, SQRT, "root", NULL, width);
  PareFact f = pare_expand_fact(x, a->q);
  if (f.typed && f.dtype != PARE_F32) root = pare_expand_cast(x, root, f.dtype);
  return PARE_EXPAND_OP(x, DIV, "scaled", NULL, products, root);
}

static PareValue *capped(PareExpand *x, const PareAttend *a, PareValue *s) {
  if (a->softcap == 0) return s;
  PareValue *cap = pare_expand_float(x, a->q, a->softcap);
  PareValue *bent = PARE_EXPAND_OP(x, TANH, "bent", NULL, PARE_EXPAND_OP(x, DIV, "shrunk", NULL, s, cap));
  return PARE_EXPAND_OP(x, MUL, "capped", NULL, bent, cap);
}

static PareValue *softmax(PareExpand *x, const PareAttend *a) {
  PareFact f = pare_expand_fact(x, a->q);
  PareDtype type = f.typed ? f.dtype : PARE_F32;
  bool cast = a->cast && a->precision != type;
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, -1);
  PareValue *p = cast ? pare_expand_cast(x, a->masked, a->precision) : a->masked;
  p = PARE_EXPAND_OP(x, SOFTMAX, "softmax", &attr, p);
  return cast ? pare_expand_cast(x, p, type) : p;
}

PareValue *pare_expand_attend(PareExpand *x, PareAttend *a) {
  PareValue *turned = pare_expand_transpose(x, "turned", a->k, 4, (int64_t[]){0, 1, 3, 2});
  a->products = scaled(x, a, PARE_EXPAND_OP(x, MATMUL, "products", NULL, a->q, turned));
  a->capped = a->masked = capped(x, a, a->products);
  if (a->mask) a->masked = PARE_EXPAND_OP(x, ADD, "masked", NULL, a->capped, a->mask);
  a->softmax = softmax(x, a);
  return PARE_EXPAND_OP(x, MATMUL, "mixed", NULL, a->softmax, a->v);
}
