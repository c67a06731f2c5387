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
  return PARE_EXPAND_OP(x, WHERE, "closed", NULL, open, pare_expand_float(x, like, 0), pare_expand_float(x, like, fill));
}

PareValue *pare_expand_range(PareExpand *x, PareValue *n) {
  return PARE_EXPAND_OP(x, RANGE, "range", NULL, pare_expand_int(x, 0), n, pare_expand_int(x, 1));
}

PareValue *pare_expand_causal(PareExpand *x, PareValue *q, PareValue *k, PareValue *shift) {
  PareValue *row = pare_expand_range(x, pare_expand_size(x, q, 2)), *column = pare_expand_range(x, pare_expand_size(x, k, 2));
  if (shift) row = PARE_EXPAND_OP(x, ADD, "shifted", NULL, row, shift);
  return PARE_EXPAND_OP(x, LESSEQ, "causal", NULL, column, pare_expand_unsqueeze(x, "rows", row, 1, (int64_t[]){1}));
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

PareValue *pare_expand_attend(PareExpand *x, const PareAttend *a) {
  PareValue *turned = pare_expand_transpose(x, "turned", a->k, 4, (int64_t[]){0, 1, 3, 2});
  PareValue *s = scaled(x, a, PARE_EXPAND_OP(x, MATMUL, "products", NULL, a->q, turned));
  if (a->softcap != 0) {
    PareValue *cap = pare_expand_float(x, a->q, a->softcap);
    PareValue *bent = PARE_EXPAND_OP(x, TANH, "bent", NULL, PARE_EXPAND_OP(x, DIV, "shrunk", NULL, s, cap));
    s = PARE_EXPAND_OP(x, MUL, "capped", NULL, bent, cap);
  }
  if (a->mask) s = PARE_EXPAND_OP(x, ADD, "masked", NULL, s, a->mask);
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, -1);
  PareValue *p = PARE_EXPAND_OP(x, SOFTMAX, "softmax", &attr, s);
  return PARE_EXPAND_OP(x, MATMUL, "mixed", NULL, p, a->v);
}
