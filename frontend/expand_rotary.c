/* expand_rotary.c - rotary positions: pairs of numbers of a head are turned by
 * angles whose cosines and sines are looked up by position. */
#include "frontend/expand_rotary.h"

#include "frontend/expand_attend.h"

/* Elements [from, to) of the last axis, every `step`. */
static PareValue *slice(PareExpand *x, const char *role, PareValue *v, int64_t from, int64_t to, int64_t step) {
  return PARE_EXPAND_OP(x, SLICE, role, NULL, v, PARE_EXPAND_INTS(x, from), PARE_EXPAND_INTS(x, to),
                        PARE_EXPAND_INTS(x, -1), PARE_EXPAND_INTS(x, step));
}

static void pairs(PareExpand *x, const PareRotary *r, PareValue *v, PareValue **half) {
  int64_t end = r->width ? r->width : INT32_MAX;
  if (r->interleaved) {
    half[0] = slice(x, "even", v, 0, end, 2);
    half[1] = slice(x, "odd", v, 1, end, 2);
  } else if (r->width) {
    half[0] = slice(x, "first", v, 0, end / 2, 1);
    half[1] = slice(x, "second", v, end / 2, end, 1);
  } else {
    pare_expand_split(x, "halves", v, -1, NULL, 2, half);
  }
}

static PareValue *product(PareExpand *x, const char *role, PareValue *a, PareValue *b) {
  return PARE_EXPAND_OP(x, MUL, role, NULL, a, b);
}

/* Side by side, or one by one from each. */
static PareValue *together(PareExpand *x, const PareRotary *r, PareValue *a, PareValue *b) {
  if (!r->interleaved) return PARE_EXPAND_JOIN(x, "turned", -1, a, b);
  a = pare_expand_unsqueeze(x, "even_turned", a, 1, (int64_t[]){-1});
  b = pare_expand_unsqueeze(x, "odd_turned", b, 1, (int64_t[]){-1});
  return PARE_EXPAND_OP(x, RESHAPE, "turned", NULL, PARE_EXPAND_JOIN(x, "both", -1, a, b),
                        PARE_EXPAND_INTS(x, 0, 0, 0, -1));
}

PareValue *pare_expand_rotate(PareExpand *x, const PareRotary *r, PareValue *v) {
  PareValue *half[2];
  if (r->width < 0 || r->width % 2 || r->width > INT32_MAX)
    return pare_expand_fail(x, PARE_FORMAT, "attribute 'rotary_embedding_dim' is odd or negative");
  PareValue *cos = pare_expand_unsqueeze(x, "cos", r->cos, 1, (int64_t[]){r->heads_axis});
  PareValue *sin = pare_expand_unsqueeze(x, "sin", r->sin, 1, (int64_t[]){r->heads_axis});
  pairs(x, r, v, half);
  PareValue *a = PARE_EXPAND_OP(x, SUB, "real", NULL, product(x, "rc", half[0], cos), product(x, "is", half[1], sin));
  PareValue *b = PARE_EXPAND_OP(x, ADD, "imag", NULL, product(x, "rs", half[0], sin), product(x, "ic", half[1], cos));
  PareValue *y = together(x, r, a, b);
  return r->width ? PARE_EXPAND_JOIN(x, "whole", -1, y, slice(x, "rest", v, r->width, INT32_MAX, 1)) : y;
}

PareValue *pare_expand_lookup(PareExpand *x, const char *role, PareValue *table, PareValue *at) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 0);
  return PARE_EXPAND_OP(x, GATHER, role, &attr, table, at);
}

/* [batch, heads, rows, width] as it is, [batch, rows, heads·width] with its heads apart and together again. */
static void rotate_input(PareExpand *x, PareRotary *r, PareValue *heads) {
  PareValue *v = pare_expand_in(x, 0);
  int rank = pare_expand_fact(x, v).rank;
  if (rank != 3 && rank != 4) {
    pare_expand_fail(x, PARE_UNSUPPORTED, "input 0 is of rank %d (-1: not known), not 3 or 4", rank);
    return;
  }
  r->heads_axis = rank == 4 ? 1 : 2;
  if (rank == 4) {
    pare_expand_out(x, 0, pare_expand_rotate(x, r, v));
    return;
  }
  PareValue *shape = PARE_EXPAND_JOIN(x, "apart", 0, PARE_EXPAND_INTS(x, 0, 0), heads, PARE_EXPAND_INTS(x, -1));
  PareValue *y = pare_expand_rotate(x, r, PARE_EXPAND_OP(x, RESHAPE, "heads", NULL, v, shape));
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, RESHAPE, "merged", NULL, y, PARE_EXPAND_INTS(x, 0, 0, -1)));
}

/* The standard's: X, cosines, sines, positions; without positions, the tables are [batch, rows, width / 2]. */
void pare_expand_rotary(PareExpand *x) {
  PareRotary r = {.interleaved = pare_expand_attr_int(x, "interleaved", 0) != 0,
                  .width = pare_expand_attr_int(x, "rotary_embedding_dim", 0)};
  r.cos = pare_expand_in(x, 1);
  r.sin = pare_expand_in(x, 2);
  if (pare_expand_has(x, 3)) {
    PareValue *at = pare_expand_in_of(x, 3, 2);
    r.cos = pare_expand_lookup(x, "cos_at", r.cos, at);
    r.sin = pare_expand_lookup(x, "sin_at", r.sin, at);
  }
  bool flat = pare_expand_fact(x, pare_expand_in(x, 0)).rank == 3;
  rotate_input(x, &r, flat ? pare_expand_attr(x, "num_heads", 0, NULL) : NULL);
}

/* com.microsoft: X, positions, cosines, sines. One position counts from there on; without
 * num_heads, a head is as wide as the tables say. */
void pare_expand_ms_rotary(PareExpand *x) {
  PareRotary r = {.interleaved = pare_expand_attr_int(x, "interleaved", 0) != 0,
                  .width = pare_expand_attr_int(x, "rotary_embedding_dim", 0)};
  PareValue *v = pare_expand_in(x, 0), *at = pare_expand_in(x, 1), *heads = NULL;
  int rank = pare_expand_fact(x, v).rank, at_rank = pare_expand_fact(x, at).rank;
  if (pare_expand_attr_int(x, "is_packed_batching", 0) || pare_expand_attr_float(x, "scale", 1) != 1)
    pare_expand_fail(x, PARE_UNSUPPORTED, "attributes 'is_packed_batching' and 'scale' are not supported");
  if (at_rank == 1) {
    PareValue *row = pare_expand_range(x, pare_expand_size(x, v, rank == 4 ? 2 : 1));
    at = pare_expand_unsqueeze(x, "positions", PARE_EXPAND_OP(x, ADD, "from", NULL, row, at), 1, (int64_t[]){0});
  } else if (at_rank != 2) {
    pare_expand_fail(x, PARE_UNSUPPORTED, "its positions are of rank %d (-1: not known), not 1 or 2", at_rank);
  }
  r.cos = pare_expand_lookup(x, "cos_at", pare_expand_in_of(x, 2, 2), at);
  r.sin = pare_expand_lookup(x, "sin_at", pare_expand_in_of(x, 3, 2), at);
  if (rank == 3 && pare_expand_attr_int(x, "num_heads", 0)) heads = pare_expand_attr(x, "num_heads", 0, NULL);
  else if (rank == 3) {
    PareValue *width = PARE_EXPAND_OP(x, MUL, "width", NULL, pare_expand_dim(x, r.cos, -1), PARE_EXPAND_INTS(x, 2));
    heads = PARE_EXPAND_OP(x, DIV, "count", NULL, pare_expand_dim(x, v, 2), width);
  }
  rotate_input(x, &r, heads);
}
