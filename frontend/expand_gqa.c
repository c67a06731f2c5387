/* expand_gqa.c - com.microsoft's GroupQueryAttention: causal, heads that share k and
 * v, apart or packed with q, rotary positions, a past of which each sample fills a part. The past stands in
 * front of k whole; the rows of it that a sample does not fill are masked. */
#include <math.h>

#include "frontend/expand_attend.h"
#include "frontend/expand_rotary.h"

enum { Q, K, V, PAST_K, PAST_V, LAST, TOTAL, COS, SIN, POSITIONS, BIAS, SINK };

static void check(PareExpand *x) {
  for (int k = SINK; k < x->nin; k++)
    if (pare_expand_has(x, k)) pare_expand_fail(x, PARE_UNSUPPORTED, "input %d is not supported", k);
  if (pare_expand_has(x, K) != pare_expand_has(x, V)) pare_expand_fail(x, PARE_FORMAT, "one of k and v is left out");
  if (pare_expand_has(x, PAST_K) != pare_expand_has(x, PAST_V))
    pare_expand_fail(x, PARE_FORMAT, "one half of the past is left out");
  if (pare_expand_attr_int(x, "smooth_softmax", 0) > 0 || pare_expand_attr_int(x, "qk_output", 0))
    pare_expand_fail(x, PARE_UNSUPPORTED, "attributes 'smooth_softmax' and 'qk_output' are not supported");
}

/* How many rows of the past each sample fills: i64[batch, 1, 1, 1]; NULL: there is no past. */
static PareValue *filled(PareExpand *x, PareValue *q) {
  if (!pare_expand_has(x, PAST_K)) return NULL;
  PareValue *rows = pare_expand_dim(x, q, 1), *total = pare_expand_cast(x, pare_expand_in(x, TOTAL), PARE_I64);
  PareValue *last = pare_expand_cast(x, pare_expand_in(x, LAST), PARE_I64);
  last = PARE_EXPAND_OP(x, RESHAPE, "lasts", NULL, last, PARE_EXPAND_INTS(x, -1, 1, 1, 1));
  PareValue *count = PARE_EXPAND_OP(x, ADD, "lengths", NULL, last, pare_expand_int(x, 1));
  count = PARE_EXPAND_OP(x, SUB, "filled", NULL, count, rows);
  PareValue *first = PARE_EXPAND_OP(x, EQUAL, "prompt", NULL, total, rows);
  return PARE_EXPAND_OP(x, WHERE, "started", NULL, first, pare_expand_int(x, 0), count);
}

/* The position of each row of q: [batch or 1, rows]. */
static PareValue *positions(PareExpand *x, PareValue *q, PareValue *past) {
  if (pare_expand_has(x, POSITIONS)) return pare_expand_in_of(x, POSITIONS, 2);
  PareValue *row = pare_expand_range(x, pare_expand_size(x, q, 1));
  if (!past) return pare_expand_unsqueeze(x, "positions", row, 1, (int64_t[]){0});
  PareValue *from = PARE_EXPAND_OP(x, RESHAPE, "from", NULL, past, PARE_EXPAND_INTS(x, -1, 1));
  return PARE_EXPAND_OP(x, ADD, "positions", NULL, row, from);
}

/* q and k, heads apart, turned by their positions. */
static void rotate(PareExpand *x, PareValue *at, PareValue **qk) {
  PareRotary r = {.heads_axis = 1, .interleaved = pare_expand_attr_int(x, "rotary_interleaved", 0) != 0};
  PareValue *cos = pare_expand_in_of(x, COS, 2), *sin = pare_expand_in_of(x, SIN, 2);
  if (cos && x->given[COS]->role == PARE_CONST) r.width = 2 * x->given[COS]->type.dim[1];
  r.cos = pare_expand_lookup(x, "cos_at", cos, at);
  r.sin = pare_expand_lookup(x, "sin_at", sin, at);
  for (int i = 0; i < 2; i++) qk[i] = pare_expand_rotate(x, &r, qk[i]);
}

static PareValue *both(PareExpand *x, PareOp op, PareValue *a, PareValue *b) {
  return pare_expand_op(x, op, "both", NULL, 2, (PareValue *[]){a, b});
}

/* Row r, at position `past` + r, sees the positions up to its own, the last `window` of them. */
static PareValue *seen(PareExpand *x, PareValue *q, PareValue *k, PareValue *past) {
  int64_t window = pare_expand_attr_int(x, "local_window_size", -1);
  PareValue *row = pare_expand_rows(x, q, NULL), *column = pare_expand_columns(x, k), *open;
  PareValue *place = column; /* of each column in the sequence */
  if (!past) {
    open = PARE_EXPAND_OP(x, LESSEQ, "causal", NULL, column, row);
  } else {
    PareValue *all = pare_expand_size(x, pare_expand_in(x, PAST_K), 2);
    PareValue *now = PARE_EXPAND_OP(x, SUB, "now", NULL, column, all);
    PareValue *is_now = PARE_EXPAND_OP(x, GREATEREQ, "is_now", NULL, column, all);
    open = both(x, PARE_OP_AND, is_now, PARE_EXPAND_OP(x, LESSEQ, "causal", NULL, now, row));
    open = both(x, PARE_OP_OR, open, PARE_EXPAND_OP(x, LESS, "is_past", NULL, column, past));
    place = PARE_EXPAND_OP(x, WHERE, "place", NULL, is_now, PARE_EXPAND_OP(x, ADD, "behind", NULL, now, past), column);
    row = PARE_EXPAND_OP(x, ADD, "position", NULL, row, past);
  }
  if (window < 0) return open;
  if (window > INT32_MAX) return pare_expand_fail(x, PARE_FORMAT, "attribute 'local_window_size' is out of range");
  PareValue *from = PARE_EXPAND_OP(x, SUB, "window", NULL, row, pare_expand_int(x, window));
  return both(x, PARE_OP_AND, open, PARE_EXPAND_OP(x, GREATER, "near", NULL, place, from));
}

/* q, k and v side by side in one input: heads, groups and groups of them, all of one width. */
static void unpack(PareExpand *x, PareValue *heads, PareValue *groups, PareValue **qkv) {
  static const char *const role[] = {"q", "k", "v"};
  PareValue *packed = pare_expand_in_of(x, Q, 3);
  int64_t n = pare_expand_attr_int(x, "num_heads", 0) + 2 * pare_expand_attr_int(x, "kv_num_heads", 0);
  int64_t all = pare_expand_fact(x, packed).tail[0];
  if (x->status != PARE_OK) return;
  if (n <= 0 || all <= 0 || all % n) {
    pare_expand_fail(x, PARE_UNSUPPORTED, "q, k and v are packed in one input, and no weight tells the width of a head");
    return;
  }
  PareValue *apart = PARE_EXPAND_OP(x, RESHAPE, "apart", NULL, packed, PARE_EXPAND_INTS(x, 0, 0, -1, all / n));
  PareValue *sizes = PARE_EXPAND_JOIN(x, "sizes", 0, heads, groups, groups);
  pare_expand_split(x, "unpacked", apart, 2, sizes, 3, qkv);
  for (int i = 0; i < 3; i++) qkv[i] = pare_expand_transpose(x, role[i], qkv[i], 4, (int64_t[]){0, 2, 1, 3});
}

/* The op takes heads of one width alone: v has the shape of k, which ties the two (ir/cut_move.c). */
static PareValue *of_one_width(PareExpand *x, PareValue *k, PareValue *v) {
  return PARE_EXPAND_OP(x, RESHAPE, "v_alike", NULL, v, PARE_EXPAND_OP(x, SHAPE, "k_shape", NULL, k));
}

void pare_expand_group_query(PareExpand *x) {
  static const char *const role[] = {"q", "k", "v"}, *const shared[] = {NULL, "k_shared", "v_shared"};
  PareValue *qkv[3], *input = pare_expand_in_of(x, Q, 3), *past = filled(x, input);
  PareValue *heads = pare_expand_attr(x, "num_heads", 0, NULL), *groups = pare_expand_attr(x, "kv_num_heads", 0, NULL);
  check(x);
  if (x->status != PARE_OK) return;
  if (!pare_expand_has(x, K)) unpack(x, heads, groups, qkv);
  else
    for (int i = 0; i < 3; i++) qkv[i] = pare_expand_heads(x, role[i], pare_expand_in_of(x, i, 3), i ? groups : heads);
  if (x->status != PARE_OK) return;
  if (pare_expand_has(x, K)) qkv[2] = of_one_width(x, qkv[1], qkv[2]);
  if (pare_expand_attr_int(x, "do_rotary", 0)) rotate(x, positions(x, input, past), qkv);
  for (int i = 1; i < 3; i++) {
    if (past) qkv[i] = PARE_EXPAND_JOIN(x, role[i], 2, pare_expand_in_of(x, PAST_K + i - 1, 4), qkv[i]);
    pare_expand_out(x, i, qkv[i]);
  }
  PareValue *mask = pare_expand_closed(x, seen(x, qkv[0], qkv[1], past), input, -INFINITY);
  if (pare_expand_has(x, BIAS)) mask = pare_expand_masks(x, mask, pare_expand_in(x, BIAS));
  bool one = pare_expand_attr_int(x, "num_heads", 0) == pare_expand_attr_int(x, "kv_num_heads", 0);
  for (int i = 1; i < 3 && !one; i++) qkv[i] = pare_expand_repeat(x, shared[i], qkv[i], qkv[0]);
  PareAttend a = {.q = qkv[0], .k = qkv[1], .v = qkv[2], .mask = mask, .scale = pare_expand_attr_float(x, "scale", 0),
                  .softcap = pare_expand_attr_float(x, "softcap", 0)};
  pare_expand_out(x, 0, pare_expand_merge(x, pare_expand_attend(x, &a)));
}
