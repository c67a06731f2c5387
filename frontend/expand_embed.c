/* expand_embed.c - EmbedLayerNormalization: word + position [+ segment], normalised,
 * and how many tokens of each row the mask lets through. */
#include "frontend/expand_attend.h"
#include "frontend/expand_rotary.h"

enum { IDS, SEGMENTS, WORDS, POSITIONS, SEGMENT_TABLE, GAMMA, BETA, MASK, POSITION_IDS };

/* Rows of table k at the numbers of input `at`. */
static PareValue *rows_of(PareExpand *x, const char *role, int k, PareValue *at) {
  return pare_expand_lookup(x, role, pare_expand_in(x, k), at);
}

static PareValue *embed(PareExpand *x) {
  PareValue *ids = pare_expand_in_of(x, IDS, 2), *at;
  if (pare_expand_has(x, POSITION_IDS)) at = pare_expand_in(x, POSITION_IDS);
  else at = pare_expand_range(x, pare_expand_size(x, ids, 1));
  PareValue *sum = PARE_EXPAND_OP(x, ADD, "placed", NULL, rows_of(x, "words", WORDS, ids),
                                  rows_of(x, "places", POSITIONS, at));
  if (!pare_expand_has(x, SEGMENTS)) return sum;
  PareValue *segments = rows_of(x, "segments", SEGMENT_TABLE, pare_expand_in(x, SEGMENTS));
  return PARE_EXPAND_OP(x, ADD, "sum", NULL, sum, segments);
}

/* How often 1 stands in each row of the mask, i32[batch]; zeros without a mask. */
static PareValue *mask_index(PareExpand *x) {
  PareAttrs attr = {0};
  if (!pare_expand_has(x, MASK)) {
    PareValue *zero = pare_expand_cast(x, pare_expand_int(x, 0), PARE_I32);
    return PARE_EXPAND_OP(x, EXPAND, "zeros", NULL, zero, pare_expand_dim(x, pare_expand_in(x, IDS), 0));
  }
  PareValue *count = pare_expand_cast(x, pare_expand_in(x, MASK), PARE_I32);
  PareValue *one = pare_expand_cast(x, pare_expand_int(x, 1), PARE_I32);
  count = pare_expand_cast(x, PARE_EXPAND_OP(x, EQUAL, "on", NULL, count, one), PARE_I32);
  pare_attr_set(&attr, keepdims, 0);
  return PARE_EXPAND_OP(x, REDUCESUM, "length", &attr, count, PARE_EXPAND_INTS(x, 1));
}

void pare_expand_embed_layer_norm(PareExpand *x) {
  PareValue *sum = embed(x);
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, -1);
  pare_attr_set(&attr, epsilon, pare_expand_attr_float(x, "epsilon", 1e-12));
  PareValue *gamma = pare_expand_in(x, GAMMA), *beta = pare_expand_in(x, BETA);
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, LAYERNORM, "norm", &attr, sum, gamma, beta));
  if (pare_expand_wants(x, 1)) pare_expand_out(x, 1, mask_index(x));
  pare_expand_out(x, 2, sum);
}
