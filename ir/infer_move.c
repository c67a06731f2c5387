/* infer_move.c - the infer column, movement: the elements stay, their places change. */
#include "ir/infer.h"

/* Error: the elements of input 0 do not fit the shape in input 1, the target `t`. */
static PareStatus bad_reshape(PareCtx *c, const PareNode *n, const PareType *t) {
  char u[PARE_TYPE_TEXT], v[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input 0 '%s' %s cannot take the shape %s in input 1 '%s'", n->in[0]->name,
                   pare_type_text(&n->in[0]->type, u), pare_type_text(t, v), n->in[1]->name);
}

PareStatus pare_infer_reshape(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  bool zero_is_zero = pare_attr_get(&n->attr, allowzero, 0) != 0;
  int64_t count, total = pare_type_count(x), rest = 1;
  int open = -1;
  PARE_TRY(known_ints(c, n, 1, &count));
  PareType t = {.dtype = x->dtype};
  for (int64_t i = 0; i < count; i++) {
    int64_t d = pare_data_int(n->in[1], i);
    if (d == 0 && !zero_is_zero) {
      if (i >= x->rank) return clash(c, n, 0, 1, "a 0 in the shape copies an axis that is not there");
      d = x->dim[i];
    }
    if (d < -1) return bad_input(c, n, 1, "a size is less than -1");
    if (d == -1 && open >= 0) return bad_input(c, n, 1, "more than one size is -1");
    if (d == -1) open = (int)i;
    PARE_TRY(push_dim(c, n, &t, d));
    if (d >= 0 && !pare_mul_i64(rest, d, &rest)) return bad_reshape(c, n, &t);
  }
  if (open >= 0) {
    if (rest == 0 || total % rest) return bad_reshape(c, n, &t);
    t.dim[open] = total / rest;
  } else if (rest != total) {
    return bad_reshape(c, n, &t);
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_flatten(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int64_t axis = pare_attr_get(&n->attr, axis, 1);
  int split = x->rank; /* unlike elsewhere, axis = rank is fine */
  if (axis != x->rank) PARE_TRY(wrap_axis(c, n, 0, axis, x->rank, &split));
  PareType t = {.dtype = x->dtype, .rank = 2, .dim = {1, 1}};
  for (int a = 0; a < x->rank; a++) t.dim[a >= split] *= x->dim[a];
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_squeeze(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  unsigned axes = 0;
  if (given(n, 1)) PARE_TRY(known_axes(c, n, 1, x->rank, &axes));
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < x->rank; a++) {
    bool gone = given(n, 1) ? (axes >> a & 1u) : x->dim[a] == 1;
    if (gone && x->dim[a] != 1)
      return pare_fail(c, n, PARE_FORMAT, "axis %d of '%s' has size %" PRId64 " and cannot be squeezed", a,
                       n->in[0]->name, x->dim[a]);
    if (!gone) t.dim[t.rank++] = x->dim[a];
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_unsqueeze(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int64_t count;
  unsigned axes;
  PARE_TRY(known_ints(c, n, 1, &count));
  if (count > PARE_MAX_RANK - x->rank)
    return pare_fail(c, n, PARE_UNSUPPORTED, "the result has more than the %d axes that pare supports", PARE_MAX_RANK);
  int rank = x->rank + (int)count;
  PARE_TRY(known_axes(c, n, 1, rank, &axes));
  PareType t = {.dtype = x->dtype, .rank = rank};
  for (int a = 0, from = 0; a < rank; a++) t.dim[a] = axes >> a & 1u ? 1 : x->dim[from++];
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_transpose(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  const PareInts *perm = &n->attr.perm;
  bool has = pare_attr_has(&n->attr, perm);
  unsigned seen = 0;
  if (has && perm->n != x->rank) return bad_input(c, n, 0, "the attribute 'perm' is for another rank");
  PareType t = *x;
  for (int a = 0; a < x->rank; a++) {
    int64_t from = has ? perm->at[a] : x->rank - 1 - a;
    if (from < 0 || from >= x->rank || (seen >> from & 1u))
      return bad_input(c, n, 0, "the attribute 'perm' is no permutation of its axes");
    seen |= 1u << from;
    t.dim[a] = x->dim[from];
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_concat(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int axis;
  if (!pare_attr_has(&n->attr, axis)) return pare_fail(c, n, PARE_FORMAT, "the attribute 'axis' is missing");
  PARE_TRY(wrap_axis(c, n, 0, n->attr.axis, t.rank, &axis));
  for (int i = 1; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(same_dtype(c, n, 0, i));
    const PareType *u = &n->in[i]->type;
    if (u->rank != t.rank) return clash(c, n, 0, i, "the ranks differ");
    for (int a = 0; a < t.rank; a++)
      if (a != axis && u->dim[a] != t.dim[a]) return clash(c, n, 0, i, "an axis that is not joined differs");
    if (__builtin_add_overflow(t.dim[axis], u->dim[axis], &t.dim[axis])) return clash(c, n, 0, i, "the sum overflows");
  }
  return set_out(c, n, 0, t);
}

/* Sizes in input 1: one an output, adding up to the axis. */
static PareStatus split_by_sizes(PareCtx *c, PareNode *n, int axis) {
  PareType t = n->in[0]->type;
  int64_t count, left = t.dim[axis];
  PARE_TRY(known_ints(c, n, 1, &count));
  if (count != n->nout)
    return pare_fail(c, n, PARE_FORMAT, "input 1 '%s' has %" PRId64 " sizes for %d outputs", n->in[1]->name, count,
                     n->nout);
  for (int i = 0; i < n->nout; i++) {
    int64_t d = pare_data_int(n->in[1], i);
    bool last = i == n->nout - 1;
    if (d < 0 || d > left || (last && d != left))
      return pare_fail(c, n, PARE_FORMAT,
                       "the sizes in input 1 '%s' do not add up to the %" PRId64 " of axis %d of input 0 '%s': part %d "
                       "has %" PRId64 " where %" PRId64 " are left",
                       n->in[1]->name, n->in[0]->type.dim[axis], axis, n->in[0]->name, i, d, left);
    left -= d;
    t.dim[axis] = d;
    PARE_TRY(set_out(c, n, i, t));
  }
  return PARE_OK;
}

PareStatus pare_infer_split(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int axis;
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), t.rank, &axis));
  if (given(n, 1)) return split_by_sizes(c, n, axis);
  int64_t dim = t.dim[axis], parts = n->nout;
  bool uneven = pare_attr_has(&n->attr, num_outputs);
  if (uneven && n->attr.num_outputs != parts)
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'num_outputs' is %" PRId64 " but there are %d outputs",
                     n->attr.num_outputs, n->nout);
  int64_t part = dim / parts + (dim % parts != 0), last;
  if (!pare_mul_i64(part, parts - 1, &last) || last > dim || (!uneven && dim % parts))
    return pare_fail(c, n, PARE_FORMAT, "axis %d of '%s' has size %" PRId64 " and cannot be split into %d parts", axis,
                     n->in[0]->name, dim, n->nout);
  for (int i = 0; i < n->nout; i++) {
    t.dim[axis] = i < n->nout - 1 ? part : dim - last;
    PARE_TRY(set_out(c, n, i, t));
  }
  return PARE_OK;
}

/* Elements that start:end:step takes of an axis; step is not 0. */
static int64_t slice_count(int64_t dim, int64_t start, int64_t end, int64_t step) {
  if (start < 0) start += dim;
  if (end < 0) end += dim;
  if (step > 0) {
    start = clamp(start, 0, dim);
    end = clamp(end, 0, dim);
    return end > start ? (end - start - 1) / step + 1 : 0;
  }
  if (dim == 0) return 0;
  start = clamp(start, 0, dim - 1);
  end = clamp(end, -1, dim - 1);
  if (step == INT64_MIN) step++;
  return start > end ? (start - end - 1) / -step + 1 : 0;
}

PareStatus pare_infer_slice(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t count, other;
  unsigned seen = 0;
  PARE_TRY(known_ints(c, n, 1, &count));
  for (int i = 2; i < n->nin; i++) {
    if (!n->in[i]) continue;
    PARE_TRY(known_ints(c, n, i, &other));
    if (other != count) return clash(c, n, 1, i, "the lists differ in length");
  }
  for (int64_t i = 0; i < count; i++) {
    int axis;
    PARE_TRY(wrap_axis(c, n, 0, given(n, 3) ? pare_data_int(n->in[3], i) : i, t.rank, &axis));
    if (seen >> axis & 1u) return bad_input(c, n, 3, "an axis is named twice");
    seen |= 1u << axis;
    int64_t step = given(n, 4) ? pare_data_int(n->in[4], i) : 1;
    if (step == 0) return bad_input(c, n, 4, "a step of 0");
    t.dim[axis] = slice_count(t.dim[axis], pare_data_int(n->in[1], i), pare_data_int(n->in[2], i), step);
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_expand(PareCtx *c, PareNode *n) {
  PareType t = {.dtype = n->in[0]->type.dtype};
  PARE_TRY(known_shape(c, n, 1, &t));
  PareType wanted = t;
  const PareType *x = &n->in[0]->type;
  return bcast_dims(&t, x->dim, x->rank) ? set_out(c, n, 0, t) : bad_reshape(c, n, &wanted);
}

PareStatus pare_infer_tile(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t count;
  PARE_TRY(known_ints(c, n, 1, &count));
  if (count != t.rank) return clash(c, n, 0, 1, "there is not one count an axis");
  for (int a = 0; a < t.rank; a++) {
    int64_t times = pare_data_int(n->in[1], a);
    if (times < 0) return bad_input(c, n, 1, "a count is negative");
    if (!pare_mul_i64(t.dim[a], times, &t.dim[a])) return clash(c, n, 0, 1, "the size overflows");
  }
  return set_out(c, n, 0, t);
}

/* One padded axis; a negative pad takes elements away. */
static PareStatus pad_axis(PareCtx *c, const PareNode *n, int mode, int64_t before, int64_t after, int64_t *dim) {
  int64_t old = *dim, most = mode == PARE_MODE_REFLECT ? old - 1 : INT64_MAX;
  if (mode > PARE_MODE_WRAP) return pare_fail(c, n, PARE_FORMAT, "the attribute 'mode' is not one of Pad");
  if (mode != PARE_MODE_CONSTANT && (before > 0 || after > 0) && old < 1) return bad_input(c, n, 0, "an axis to pad is empty");
  if (before > most || after > most)
    return bad_input(c, n, 1, "a pad is longer than what there is to reflect");
  if (before < -old || after < -old || __builtin_add_overflow(old, before, dim) ||
      __builtin_add_overflow(*dim, after, dim) || *dim < 0)
    return bad_input(c, n, 1, "a pad overflows, or takes away more than there is");
  return PARE_OK;
}

/* data, pads [before.., after..], value, axes */
PareStatus pare_infer_pad(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t count, naxes = t.rank;
  unsigned seen = 0;
  PARE_TRY(known_ints(c, n, 1, &count));
  if (given(n, 2)) {
    bool floats = pare_dtype_is_float(t.dtype) && pare_dtype_is_float(n->in[2]->type.dtype);
    if (pare_type_count(&n->in[2]->type) != 1) return bad_input(c, n, 2, "one number is needed here");
    if (!floats) PARE_TRY(same_dtype(c, n, 0, 2));
  }
  if (given(n, 3)) PARE_TRY(known_ints(c, n, 3, &naxes));
  if (naxes > t.rank || count != 2 * naxes) return bad_input(c, n, 1, "there are not two pads an axis");
  for (int64_t i = 0; i < naxes; i++) {
    int axis;
    PARE_TRY(wrap_axis(c, n, 0, given(n, 3) ? pare_data_int(n->in[3], i) : i, t.rank, &axis));
    if (seen >> axis & 1u) return bad_input(c, n, 3, "an axis is named twice");
    seen |= 1u << axis;
    PARE_TRY(pad_axis(c, n, pare_attr_get(&n->attr, mode, 0), pare_data_int(n->in[1], i),
                      pare_data_int(n->in[1], naxes + i), &t.dim[axis]));
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_trilu(PareCtx *c, PareNode *n) {
  if (n->in[0]->type.rank < 2) return bad_input(c, n, 0, "a matrix is needed here");
  if (given(n, 1) && (n->in[1]->type.dtype != PARE_I64 || pare_type_count(&n->in[1]->type) != 1))
    return bad_input(c, n, 1, "one number is needed here");
  return set_out(c, n, 0, n->in[0]->type);
}

/* x[n, c, h, w] and the size of a block. */
static PareStatus block_of(PareCtx *c, const PareNode *n, int64_t *block) {
  *block = pare_attr_get(&n->attr, blocksize, 0);
  if (n->in[0]->type.rank != 4) return bad_input(c, n, 0, "an image of rank 4 is needed here");
  if (*block >= 1 && *block <= INT32_MAX) return PARE_OK;
  return pare_fail(c, n, PARE_FORMAT, "the attribute 'blocksize' is %" PRId64 ", which is no size of a block", *block);
}

PareStatus pare_infer_depthtospace(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t b;
  PARE_TRY(block_of(c, n, &b));
  if (t.dim[1] % (b * b)) return bad_input(c, n, 0, "the channels do not fill blocks");
  t.dim[1] /= b * b;
  if (!pare_mul_i64(t.dim[2], b, &t.dim[2]) || !pare_mul_i64(t.dim[3], b, &t.dim[3]))
    return bad_input(c, n, 0, "the size overflows");
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_spacetodepth(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t b;
  PARE_TRY(block_of(c, n, &b));
  if (t.dim[2] % b || t.dim[3] % b) return bad_input(c, n, 0, "blocks do not fill the image");
  t.dim[2] /= b, t.dim[3] /= b;
  return pare_mul_i64(t.dim[1], b * b, &t.dim[1]) ? set_out(c, n, 0, t) : bad_input(c, n, 0, "the size overflows");
}
