/* expand_attention.c - the standard's Attention (opsets 23 to 25): heads apart or
 * side by side, heads that share k and v, masks, windows and caches. */
#include <math.h>

#include "frontend/expand_attend.h"

enum { Q, K, V, MASK, PAST_K, PAST_V, LENGTHS };

/* Sets whether inputs 0 to 2 have their heads apart (rank 4). */
static bool check_ranks(PareExpand *x, bool *apart) {
  int rank[3];
  for (int i = 0; i < 3; i++) rank[i] = pare_expand_fact(x, pare_expand_in(x, i)).rank;
  *apart = rank[0] == 4;
  if (rank[0] == rank[1] && rank[1] == rank[2] && (rank[0] == 3 || *apart)) return true;
  pare_expand_fail(x, PARE_UNSUPPORTED, "q, k and v of ranks %d, %d and %d are not supported (-1: not known)", rank[0],
                   rank[1], rank[2]);
  return false;
}

/* --- which keys a query sees --- */

/* The position of the first query among the keys. */
static PareValue *shift_of(PareExpand *x, PareValue *q) {
  if (pare_expand_has(x, PAST_K)) return pare_expand_size(x, pare_expand_in(x, PAST_K), 2);
  if (!pare_expand_has(x, LENGTHS)) return NULL;
  PareValue *lengths = pare_expand_unsqueeze(x, "lengths", pare_expand_in(x, LENGTHS), 3, (int64_t[]){1, 2, 3});
  return PARE_EXPAND_OP(x, SUB, "first", NULL, lengths, pare_expand_size(x, q, 2));
}

static PareValue *both(PareExpand *x, PareValue *a, PareValue *b) {
  return a && b ? PARE_EXPAND_OP(x, AND, "both", NULL, a, b) : a ? a : b;
}

/* bool: column <= row, or >= it, both moved by `by` rows. */
static PareValue *bound(PareExpand *x, PareOp op, PareValue *column, PareValue *row, int64_t by) {
  if (by) row = PARE_EXPAND_OP(x, ADD, "moved", NULL, row, pare_expand_int(x, by));
  return pare_expand_op(x, op, "bound", NULL, 2, (PareValue *[]){column, row});
}

/* bool: by order, window and length; NULL where all are seen. */
static PareValue *seen(PareExpand *x, PareValue *q, PareValue *k) {
  int64_t left = pare_expand_attr_int(x, "left_window_size", -1);
  int64_t right = pare_expand_attr_int(x, "right_window_size", -1);
  bool causal = pare_expand_attr_int(x, "is_causal", 0) != 0, ordered = causal || left >= 0 || right >= 0;
  if (left < -1 || right < -1 || left > INT32_MAX || right > INT32_MAX)
    return pare_expand_fail(x, PARE_FORMAT, "a window's size is out of range");
  if (!ordered && !pare_expand_has(x, LENGTHS)) return NULL;
  PareValue *open = NULL, *column = pare_expand_columns(x, k);
  PareValue *row = ordered ? pare_expand_rows(x, q, shift_of(x, q)) : NULL;
  if (causal) open = bound(x, PARE_OP_LESSEQ, column, row, 0);
  if (left >= 0) open = both(x, open, bound(x, PARE_OP_GREATEREQ, column, row, -left));
  if (right >= 0) open = both(x, open, bound(x, PARE_OP_LESSEQ, column, row, right));
  if (!pare_expand_has(x, LENGTHS)) return open;
  PareValue *lengths = pare_expand_unsqueeze(x, "lengths", pare_expand_in(x, LENGTHS), 3, (int64_t[]){1, 2, 3});
  return both(x, open, PARE_EXPAND_OP(x, LESS, "filled", NULL, column, lengths));
}

/* A mask over the first of k's rows, the others closed. */
static PareValue *widened(PareExpand *x, PareValue *mask, PareValue *k) {
  PareValue *shape = PARE_EXPAND_OP(x, SHAPE, "shape", NULL, mask);
  PareValue *lead = PARE_EXPAND_OP(x, SLICE, "lead", NULL, shape, PARE_EXPAND_INTS(x, 0), PARE_EXPAND_INTS(x, -1));
  PareValue *more = PARE_EXPAND_OP(x, SUB, "more", NULL, pare_expand_dim(x, k, 2), pare_expand_dim(x, mask, -1));
  PareValue *closed = pare_expand_float(x, k, -INFINITY);
  if (closed) closed->type.rank = 1, closed->type.dim[0] = 1;
  PareValue *sizes = PARE_EXPAND_JOIN(x, "sizes", 0, lead, more);
  PareValue *rest = PARE_EXPAND_OP(x, CONSTANTOFSHAPE, "rest", NULL, sizes, closed);
  return PARE_EXPAND_JOIN(x, "widened", -1, mask, rest);
}

/* Input MASK as numbers to add. */
static PareValue *given_mask(PareExpand *x, PareValue *k) {
  if (!pare_expand_has(x, MASK)) return NULL;
  PareValue *mask = pare_expand_in(x, MASK);
  PareFact f = pare_expand_fact(x, mask);
  if (!f.typed) return pare_expand_fail(x, PARE_UNSUPPORTED, "the type of its mask is not known: run shape inference");
  if (f.dtype == PARE_BOOL) mask = pare_expand_closed(x, mask, k, -INFINITY);
  return pare_expand_has(x, LENGTHS) ? widened(x, mask, k) : mask;
}

/* A row that sees nothing yields zeros: *dead, and the mask opened there. */
static PareValue *mask_of(PareExpand *x, PareValue *q, PareValue *k, PareValue **dead) {
  PareValue *open = seen(x, q, k), *mask = open ? pare_expand_closed(x, open, q, -INFINITY) : NULL;
  mask = pare_expand_masks(x, mask, given_mask(x, k));
  *dead = NULL;
  if (!pare_expand_has(x, MASK) && !pare_expand_has(x, LENGTHS)) return mask; /* order alone leaves each row itself */
  PareValue *most = PARE_EXPAND_OP(x, REDUCEMAX, "most", NULL, mask, PARE_EXPAND_INTS(x, -1));
  *dead = PARE_EXPAND_OP(x, EQUAL, "dead", NULL, most, pare_expand_float(x, q, -INFINITY));
  return PARE_EXPAND_OP(x, WHERE, "opened", NULL, *dead, pare_expand_float(x, q, 0), mask);
}

/* --- the op --- */

static PareValue *without(PareExpand *x, PareValue *dead, PareValue *v) {
  return dead ? PARE_EXPAND_OP(x, WHERE, "alive", NULL, dead, pare_expand_float(x, v, 0), v) : v;
}

static void set_precision(PareExpand *x, PareAttend *a) {
  int64_t code = pare_expand_attr_int(x, "softmax_precision", 0);
  a->cast = code != 0;
  if (a->cast && (code < 0 || code > INT32_MAX || !pare_dtype_from_onnx((int32_t)code, &a->precision) ||
                  !pare_dtype_is_float(a->precision)))
    pare_expand_fail(x, PARE_UNSUPPORTED, "the value of attribute 'softmax_precision' is not supported");
}

/* Output 3: what the products are at the stage that qk_matmul_output_mode names. */
static void show_products(PareExpand *x, const PareAttend *a, PareValue *dead) {
  if (!pare_expand_wants(x, 3)) return;
  switch (pare_expand_attr_int(x, "qk_matmul_output_mode", 0)) {
  case 0: pare_expand_out(x, 3, a->products); return;
  case 1: pare_expand_out(x, 3, a->capped); return;
  case 2: pare_expand_out(x, 3, a->masked); return;
  case 3: pare_expand_out(x, 3, without(x, dead, a->softmax)); return;
  default: pare_expand_fail(x, PARE_FORMAT, "attribute 'qk_matmul_output_mode' is none of 0 to 3");
  }
}

/* Heads apart, the past in front; outputs 1 and 2 are that. */
static void read_heads(PareExpand *x, bool apart, PareValue **qkv) {
  static const char *const role[] = {"q", "k", "v"};
  for (int i = 0; i < 3; i++) qkv[i] = pare_expand_in(x, i);
  if (!apart) {
    PareValue *heads = pare_expand_attr(x, "q_num_heads", 0, NULL);
    PareValue *shared = pare_expand_attr(x, "kv_num_heads", 0, NULL);
    for (int i = 0; i < 3; i++) qkv[i] = pare_expand_heads(x, role[i], qkv[i], i ? shared : heads);
  }
  for (int i = 1; i < 3; i++) {
    int past = PAST_K + i - 1;
    if (pare_expand_has(x, past)) qkv[i] = PARE_EXPAND_JOIN(x, role[i], 2, pare_expand_in_of(x, past, 4), qkv[i]);
    pare_expand_out(x, i, qkv[i]);
  }
}

void pare_expand_attention(PareExpand *x) {
  PareValue *qkv[3], *dead;
  bool apart;
  if (!check_ranks(x, &apart)) return;
  if (pare_expand_has(x, PAST_K) != pare_expand_has(x, PAST_V))
    pare_expand_fail(x, PARE_FORMAT, "one half of the past is left out");
  if (apart && (pare_expand_has_attr(x, "q_num_heads") || pare_expand_has_attr(x, "kv_num_heads")))
    pare_expand_fail(x, PARE_UNSUPPORTED, "attributes that count heads which are apart are not supported");
  read_heads(x, apart, qkv);
  bool one = !apart && pare_expand_attr_int(x, "q_num_heads", 0) == pare_expand_attr_int(x, "kv_num_heads", 0);
  for (int i = 1; i < 3 && !one; i++) qkv[i] = pare_expand_repeat(x, i == 1 ? "k_shared" : "v_shared", qkv[i], qkv[0]);
  PareAttend a = {.q = qkv[0], .k = qkv[1], .v = qkv[2], .mask = mask_of(x, qkv[0], qkv[1], &dead),
                  .scale = pare_expand_attr_float(x, "scale", 0), .softcap = pare_expand_attr_float(x, "softcap", 0)};
  set_precision(x, &a);
  PareValue *y = without(x, dead, pare_expand_attend(x, &a));
  show_products(x, &a, dead);
  pare_expand_out(x, 0, apart ? y : pare_expand_merge(x, y));
}
