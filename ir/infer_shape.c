/* infer_shape.c - the infer column, shapes that become tensors and tensors made from
 * nothing but a shape. */
#include <math.h>

#include "ir/infer.h"

PareStatus pare_infer_shape(PareCtx *c, PareNode *n) {
  int64_t rank = n->in[0]->type.rank;
  int64_t start = pare_attr_get(&n->attr, start, 0), end = pare_attr_get(&n->attr, end, rank);
  start = clamp(start < 0 ? start + rank : start, 0, rank);
  end = clamp(end < 0 ? end + rank : end, 0, rank);
  return set_out(c, n, 0, (PareType){.dtype = PARE_I64, .rank = 1, .dim = {end > start ? end - start : 0}});
}

PareStatus pare_infer_size(PareCtx *c, PareNode *n) { return set_out(c, n, 0, (PareType){.dtype = PARE_I64}); }

PareStatus pare_infer_eyelike(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  if (t.rank != 2) return bad_input(c, n, 0, "a matrix is needed here");
  t.dtype = pare_attr_get(&n->attr, dtype, t.dtype);
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_fill(PareCtx *c, PareNode *n) {
  PareType t = {.dtype = given(n, 1) ? n->in[1]->type.dtype : PARE_F32};
  PARE_TRY(known_shape(c, n, 0, &t));
  if (given(n, 1) && pare_type_count(&n->in[1]->type) != 1) return bad_input(c, n, 1, "one number is needed here");
  return set_out(c, n, 0, t);
}

/* How many there are must follow from shapes alone: TorchScript's arange at old opsets is NonZero of a ConstantOfShape. */
PareStatus pare_infer_nonzero(PareCtx *c, PareNode *n) {
  const PareValue *x = n->in[0];
  if (!is_known(x))
    return pare_fail(c, n, PARE_UNSUPPORTED, "how much of input 0 '%s' is not zero cannot be computed from the input "
                     "shapes", x->name);
  int64_t count = 0;
  for (int64_t i = 0, all = pare_type_count(&x->type); i < all; i++) count += pare_data_float(x, i) != 0;
  int64_t rank = x->type.rank ? x->type.rank : 1;
  return set_out(c, n, 0, (PareType){.dtype = PARE_I64, .rank = 2, .dim = {rank, count}});
}

/* max(ceil((limit - start) / delta), 0) in exact integers; -1 where that overflows. */
static int64_t range_count_int(int64_t start, int64_t limit, int64_t delta) {
  bool up = delta > 0;
  if (up ? start >= limit : start <= limit) return 0;
  uint64_t lo = (uint64_t)(up ? start : limit), hi = (uint64_t)(up ? limit : start);
  uint64_t step = up ? (uint64_t)delta : 0 - (uint64_t)delta;
  uint64_t count = (hi - lo - 1) / step + 1;
  return count > INT64_MAX ? -1 : (int64_t)count;
}

/* The same for floats, the difference rounded to the tensor's own type. */
static int64_t range_count_float(PareDtype d, double start, double limit, double delta) {
  double span = d == PARE_F64 ? limit - start : (double)((float)limit - (float)start);
  double count = ceil(span / delta);
  if (!(count < 0x1p62)) return -1;
  return count > 0 ? (int64_t)count : 0;
}

PareStatus pare_infer_range(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 3; i++) {
    const PareValue *v = n->in[i];
    PARE_TRY(same_dtype(c, n, 0, i));
    if (v->type.dtype == PARE_BOOL || pare_type_count(&v->type) != 1) return bad_input(c, n, i, "one number is needed");
    if (!is_known(v))
      return pare_fail(c, n, PARE_UNSUPPORTED, "the shape in input %d '%s' cannot be computed from the input shapes",
                       i, v->name);
  }
  PareDtype d = n->in[0]->type.dtype;
  const PareValue *start = n->in[0], *limit = n->in[1], *delta = n->in[2];
  if (pare_data_float(delta, 0) == 0) return bad_input(c, n, 2, "a step of 0");
  int64_t count = pare_dtype_is_float(d)
                      ? range_count_float(d, pare_data_float(start, 0), pare_data_float(limit, 0),
                                          pare_data_float(delta, 0))
                      : range_count_int(pare_data_int(start, 0), pare_data_int(limit, 0), pare_data_int(delta, 0));
  if (count < 0)
    return pare_fail(c, n, PARE_FORMAT, "the number of elements from '%s' to '%s' is not finite or too large",
                     start->name, limit->name);
  return set_out(c, n, 0, (PareType){.dtype = d, .rank = 1, .dim = {count}});
}
