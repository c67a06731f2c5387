/* expand_msattention.c - Attention, QAttention and MultiHeadAttention of com.microsoft, as
 * the CPU kernels of ONNX Runtime read them. */
#include <float.h>

#include "frontend/expand_attend.h"

enum { NO_INPUT = 99 };

/* What all have beside q, k and v. */
typedef struct Inputs {
  int padding, bias; /* input numbers: integers, 1 where a token counts; numbers to be added */
  PareValue *past;   /* how many rows of k are from the past, a scalar; NULL: none */
} Inputs;

/* Lengths i32[batch], or 1 for the tokens that count: [batch, columns] or [batch, rows, columns]. */
static PareValue *open_columns(PareExpand *x, PareValue *mask, PareValue *k) {
  int rank = pare_expand_fact(x, mask).rank;
  PareValue *zero = pare_expand_cast(x, pare_expand_int(x, 0), PARE_I32);
  if (rank == 1) {
    PareValue *batch = PARE_EXPAND_JOIN(x, "lengths", 0, pare_expand_dim(x, k, 0), PARE_EXPAND_INTS(x, 1, 1, 1));
    PareValue *column = pare_expand_cast(x, pare_expand_columns(x, k), PARE_I32);
    return PARE_EXPAND_OP(x, LESS, "open", NULL, column, PARE_EXPAND_OP(x, RESHAPE, "ends", NULL, mask, batch));
  }
  PareValue *open = PARE_EXPAND_OP(x, GREATER, "open", NULL, mask, zero);
  if (rank == 2) return pare_expand_unsqueeze(x, "columns", open, 2, (int64_t[]){1, 2});
  if (rank == 3) return pare_expand_unsqueeze(x, "columns", open, 1, (int64_t[]){1});
  return pare_expand_fail(x, PARE_UNSUPPORTED, rank < 0 ? "the rank of its mask '%s' is not known: run shape inference"
                          : "its mask '%s' is not of rank 1, 2 or 3", mask ? mask->name : "");
}

static PareValue *mask_of(PareExpand *x, const Inputs *in, PareValue *q, PareValue *k) {
  PareValue *mask = NULL;
  if (pare_expand_has(x, in->padding)) {
    double fill = pare_expand_attr_float(x, "mask_filter_value", -10000);
    mask = pare_expand_closed(x, open_columns(x, pare_expand_in(x, in->padding), k), q, fill);
  }
  if (pare_expand_attr_int(x, "unidirectional", 0)) {
    PareValue *column = pare_expand_columns(x, k), *row = pare_expand_rows(x, q, in->past);
    PareValue *open = PARE_EXPAND_OP(x, LESSEQ, "causal", NULL, column, row);
    mask = pare_expand_masks(x, mask, pare_expand_closed(x, open, q, -FLT_MAX));
  }
  return pare_expand_has(x, in->bias) ? pare_expand_masks(x, mask, pare_expand_in(x, in->bias)) : mask;
}

static PareValue *finish(PareExpand *x, const Inputs *in, PareValue *q, PareValue *k, PareValue *v) {
  PareAttend a = {.q = q, .k = k, .v = v, .mask = mask_of(x, in, q, k), .scale = pare_expand_attr_float(x, "scale", 0)};
  return pare_expand_merge(x, pare_expand_attend(x, &a));
}

/* --- Attention: input, weights, bias, mask, past, attention bias, length of the past --- */

/* Half `i` of the past k and v, [2, batch, heads, rows, width]. */
static PareValue *with_past(PareExpand *x, const char *role, PareValue *past, PareValue *now) {
  PareValue *rows = PARE_EXPAND_OP(x, SQUEEZE, role, NULL, past, PARE_EXPAND_INTS(x, 0));
  return PARE_EXPAND_JOIN(x, role, 2, rows, now);
}

static void packed_past(PareExpand *x, Inputs *in, int input, PareValue **k, PareValue **v) {
  PareValue *half[2];
  PareValue *past = pare_expand_in_of(x, input, 5);
  pare_expand_split(x, "past", past, 0, NULL, 2, half);
  in->past = pare_expand_size(x, past, 3);
  *k = with_past(x, "past_k", half[0], *k);
  *v = with_past(x, "past_v", half[1], *v);
}

/* Sizes of q, k and v in the packed weights: equal parts where the file says nothing. */
static PareValue *packed_sizes(PareExpand *x) {
  const PareValue *w = x->given[1];
  if (w->role != PARE_CONST || w->type.rank != 2)
    return pare_expand_fail(x, PARE_UNSUPPORTED, "its weights '%s' are no constant matrix", w->name);
  int64_t part = w->type.dim[1] / 3;
  if (!pare_expand_has_attr(x, "qkv_hidden_sizes") && w->type.dim[1] % 3)
    return pare_expand_fail(x, PARE_FORMAT, "its weights '%s' do not fall into three equal parts", w->name);
  PareValue *sizes = pare_expand_attr(x, "qkv_hidden_sizes", 3, (int64_t[]){part, part, part});
  if (sizes && sizes->type.dim[0] != 3)
    return pare_expand_fail(x, PARE_FORMAT, "attribute 'qkv_hidden_sizes' has not three numbers");
  return sizes;
}

/* q, k and v, heads apart, to outputs 0 and 1. `past` is the number of that input. */
static void attend_apart(PareExpand *x, Inputs *in, PareValue **qkv, int past) {
  if (pare_expand_has(x, past)) packed_past(x, in, past, &qkv[1], &qkv[2]);
  if (pare_expand_wants(x, 1)) {
    PareValue *k = pare_expand_unsqueeze(x, "present_k", qkv[1], 1, (int64_t[]){0});
    PareValue *v = pare_expand_unsqueeze(x, "present_v", qkv[2], 1, (int64_t[]){0});
    pare_expand_out(x, 1, PARE_EXPAND_JOIN(x, "present", 0, k, v));
  }
  pare_expand_out(x, 0, finish(x, in, qkv[0], qkv[1], qkv[2]));
}

static void refuse_rotary(PareExpand *x) {
  if (pare_expand_attr_int(x, "do_rotary", 0) || pare_expand_attr_int(x, "past_present_share_buffer", 0))
    pare_expand_fail(x, PARE_UNSUPPORTED, "rotary positions and shared buffers inside Attention are not supported");
}

void pare_expand_ms_attention(PareExpand *x) {
  Inputs in = {.padding = 3, .bias = 5};
  static const char *const role[] = {"q", "k", "v"};
  PareValue *part[3];
  refuse_rotary(x);
  if (pare_expand_has(x, 6)) pare_expand_fail(x, PARE_UNSUPPORTED, "the length of its past is not supported");
  PareValue *heads = pare_expand_attr(x, "num_heads", 0, NULL), *sizes = packed_sizes(x);
  PareValue *packed = PARE_EXPAND_OP(x, MATMUL, "qkv", NULL, pare_expand_in_of(x, 0, 3), pare_expand_in(x, 1));
  if (pare_expand_has(x, 2)) packed = PARE_EXPAND_OP(x, ADD, "bias", NULL, packed, pare_expand_in(x, 2));
  pare_expand_split(x, "parts", packed, -1, sizes, 3, part);
  for (int i = 0; i < 3; i++) part[i] = pare_expand_heads(x, role[i], part[i], heads);
  attend_apart(x, &in, part, 4);
}

/* --- QAttention: input, weights, bias of floats, their scales, mask, their zero points, past --- */

/* q, k and v have as many heads of one width: the op has no attribute that says otherwise. */
static void split_evenly(PareExpand *x, PareValue *packed, PareValue **part) {
  static const char *const role[] = {"q", "k", "v"};
  PareValue *heads = pare_expand_attr(x, "num_heads", 0, NULL);
  PareValue *shape = PARE_EXPAND_JOIN(x, "shape", 0, PARE_EXPAND_INTS(x, 0, 0, 3), heads, PARE_EXPAND_INTS(x, -1));
  PareValue *apart = PARE_EXPAND_OP(x, RESHAPE, "apart", NULL, packed, shape);
  apart = pare_expand_transpose(x, "turned", apart, 5, (int64_t[]){2, 0, 3, 1, 4});
  pare_expand_split(x, "parts", apart, 0, NULL, 3, part);
  for (int i = 0; i < 3; i++) part[i] = PARE_EXPAND_OP(x, SQUEEZE, role[i], NULL, part[i], PARE_EXPAND_INTS(x, 0));
}

void pare_expand_qattention(PareExpand *x) {
  enum { X, W, BIAS, X_SCALE, W_SCALE, MASK, X_ZERO, W_ZERO, PAST };
  Inputs in = {.padding = MASK, .bias = NO_INPUT};
  PareValue *part[3];
  refuse_rotary(x);
  pare_expand_in_of(x, X, 3);
  PareValue *a = pare_expand_floats(x, "x", X, X_SCALE, X_ZERO, -1);
  PareValue *w = pare_expand_floats(x, "w", W, W_SCALE, W_ZERO, -1);
  PareValue *packed = PARE_EXPAND_OP(x, MATMUL, "qkv", NULL, a, w);
  packed = PARE_EXPAND_OP(x, ADD, "bias", NULL, packed, pare_expand_in(x, BIAS));
  split_evenly(x, packed, part);
  attend_apart(x, &in, part, PAST);
}

/* --- MultiHeadAttention: q, k, v, bias, padding, attention bias, past k, past v --- */

/* The bias of q, k and v, added to each. */
static void add_biases(PareExpand *x, PareValue **qkv) {
  static const char *const role[] = {"q_bias", "k_bias", "v_bias"};
  PareValue *size[3], *part[3];
  for (int i = 0; i < 3; i++) size[i] = pare_expand_dim(x, qkv[i], -1);
  pare_expand_split(x, "biases", pare_expand_in(x, 3), 0, pare_expand_join(x, "sizes", 0, 3, size), 3, part);
  for (int i = 0; i < 3; i++) qkv[i] = PARE_EXPAND_OP(x, ADD, role[i], NULL, qkv[i], part[i]);
}

/* q is [batch, rows, heads·width]; k and v are too, or have their heads apart already. */
static bool check_ranks(PareExpand *x, bool *apart) {
  int rank[3];
  for (int i = 0; i < 3; i++) rank[i] = pare_expand_fact(x, pare_expand_in(x, i)).rank;
  *apart = rank[1] == 4;
  if (rank[0] == 3 && rank[1] == rank[2] && (rank[1] == 3 || *apart)) return true;
  pare_expand_fail(x, PARE_UNSUPPORTED, "q, k and v of ranks %d, %d and %d are not supported (-1: not known)", rank[0],
                   rank[1], rank[2]);
  return false;
}

void pare_expand_multi_head(PareExpand *x) {
  Inputs in = {.padding = 4, .bias = 5};
  PareValue *qkv[3], *heads = pare_expand_attr(x, "num_heads", 0, NULL);
  static const char *const role[] = {"q", "k", "v"}, *const past[] = {"past_k", "past_v"};
  bool apart;
  for (int k = 0; k < 2; k++)
    if (pare_expand_has(x, k) && pare_expand_fact(x, pare_expand_in(x, k)).rank == 5)
      pare_expand_fail(x, PARE_UNSUPPORTED, "input %d of rank 5 (q, k and v, or k and v, in one) is not supported", k);
  for (int k = 8; k < 10; k++)
    if (pare_expand_has(x, k)) pare_expand_fail(x, PARE_UNSUPPORTED, "input %d (a shared buffer) is not supported", k);
  if (!check_ranks(x, &apart)) return;
  for (int i = 0; i < 3; i++) qkv[i] = pare_expand_in(x, i);
  if (pare_expand_has(x, 3) && apart)
    pare_expand_fail(x, PARE_UNSUPPORTED, "a bias beside k and v of rank 4 is not supported");
  if (pare_expand_has(x, 3)) add_biases(x, qkv);
  for (int i = 0; i < (apart ? 1 : 3); i++) qkv[i] = pare_expand_heads(x, role[i], qkv[i], heads);
  if (pare_expand_has(x, 6)) in.past = pare_expand_size(x, pare_expand_in(x, 6), 2);
  for (int i = 1; i < 3; i++) {
    if (pare_expand_has(x, 5 + i)) qkv[i] = PARE_EXPAND_JOIN(x, past[i - 1], 2, pare_expand_in(x, 5 + i), qkv[i]);
    pare_expand_out(x, i, qkv[i]);
  }
  pare_expand_out(x, 0, finish(x, &in, qkv[0], qkv[1], qkv[2]));
}
