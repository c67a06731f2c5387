/* test_kernels_movement.c - kernels that move numbers and leave them as they are (kernel_call.h). Truth comes from
 * references index by index; gradients are adjoints. */
#include "kernel_call.h"

static int64_t drawn(uint64_t key, uint64_t i, int64_t lo, int64_t hi) {
  return lo + (int64_t)(pare_rng_u64(key, i) % (uint64_t)(hi - lo + 1));
}
static const PareDtype sizes[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_U8};
/* Numbers its elements, modulo what one byte holds. */
static PareTensor *numbered(PareTensor *t) {
  for (int64_t i = 0, n = count(t); i < n; i++) put(t, i, (double)(i % 251));
  return t;
}
static void unravel(const PareType *t, int64_t i, int64_t *idx) {
  for (int k = t->rank - 1; k >= 0; k--) idx[k] = i % t->dim[k], i /= t->dim[k];
}
static int64_t ravel(const PareType *t, const int64_t *idx) {
  int64_t i = 0;
  for (int k = 0; k < t->rank; k++) i = i * t->dim[k] + idx[k];
  return i;
}

Test(move, transpose_permutes_random_shapes) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 300; k++) {
    clear(&c);
    int rank = (int)drawn(k, 0, 0, 5), perm[5] = {0, 1, 2, 3, 4};
    int64_t dim[5], to[5], x_idx[5], y_idx[5];
    for (int i = 0; i < rank; i++) dim[i] = drawn(k, 10 + (uint64_t)i, k % 7 ? 1 : 0, rank < 3 ? 70 : 9);
    for (int i = rank - 1; i > 0; i--) {
      int j = (int)drawn(k, 20 + (uint64_t)i, 0, i), t = perm[i];
      perm[i] = perm[j], perm[j] = t;
    }
    c.attr.set |= (uint64_t)1 << PARE_ATTR_perm;
    c.attr.perm.n = rank;
    for (int i = 0; i < rank; i++) c.attr.perm.at[i] = perm[i], to[i] = dim[perm[i]];
    PareTensor *x = numbered(input(&c, sizes[k % 4], rank, dim)), *y = output(&c, sizes[k % 4], rank, to);
    must(&c, PARE_OP_TRANSPOSE);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, y_idx);
      for (int j = 0; j < rank; j++) x_idx[perm[j]] = y_idx[j];
      double want = get(x, ravel(&x->type, x_idx));
      cr_assert_eq(get(y, i), want, "case %" PRIu64 " at %" PRId64 ": got %g, want %g", k, i, get(y, i), want);
    }
  }
}

/* What numpy's x[from:to:step] takes of an axis of d elements, by walking. */
static int64_t walk(int64_t d, int64_t from, int64_t to, int64_t step, int64_t *at) {
  int64_t n = 0;
  if (from < 0) from += d;
  if (to < 0) to += d;
  if (step > 0)
    for (int64_t i = from < 0 ? 0 : from; i < to && i < d; i += step) at[n++] = i;
  else
    for (int64_t i = from >= d ? d - 1 : from; i > to && i >= 0; i += step) at[n++] = i;
  return n;
}

Test(move, slice_reads_and_its_gradient_writes_where_numpy_would) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 300; k++) {
    clear(&c);
    int rank = (int)drawn(k, 0, 1, 4);
    int64_t dim[4], box[4], at[4][16], idx[4], n = rank;
    for (int i = 0; i < rank; i++) dim[i] = drawn(k, 10 + (uint64_t)i, k % 7 ? 1 : 0, 9);
    PareTensor *x = numbered(input(&c, sizes[k % 4], rank, dim));
    PareTensor *from = input(&c, PARE_I64, 1, &n), *to = input(&c, PARE_I64, 1, &n);
    PareTensor *axes = input(&c, PARE_I32, 1, &n), *step = input(&c, PARE_I64, 1, &n);
    for (int i = 0; i < rank; i++) {
      int axis = rank - 1 - i;
      int64_t s = drawn(k, 20 + (uint64_t)i, 1, 3) * (pare_rng_u64(k, 30 + (uint64_t)i) & 1 ? 1 : -1);
      int64_t f = drawn(k, 40 + (uint64_t)i, -12, 12), t = drawn(k, 50 + (uint64_t)i, -12, 12);
      if (pare_rng_u64(k, 60 + (uint64_t)i) % 4 == 0) f = s > 0 ? 0 : INT64_MAX, t = s > 0 ? INT64_MAX : INT64_MIN;
      ((int64_t *)from->data)[i] = f, ((int64_t *)to->data)[i] = t, ((int64_t *)step->data)[i] = s;
      put(axes, i, i % 2 ? axis : axis - rank);
      box[axis] = walk(dim[axis], f, t, s, at[axis]);
    }
    PareTensor *y = output(&c, sizes[k % 4], rank, box);
    must(&c, PARE_OP_SLICE);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, idx);
      for (int j = 0; j < rank; j++) idx[j] = at[j][idx[j]];
      double want = get(x, ravel(&x->type, idx));
      cr_assert_eq(get(y, i), want, "case %" PRIu64 " at %" PRId64 ": got %g, want %g", k, i, get(y, i), want);
    }
    PareTensor like = c.in[0], want = tensor(&c, sizes[k % 4], rank, dim);
    c.in[0] = *y, c.in[5] = like, c.nin = 6, c.nout = 0;
    PareTensor *dx = output(&c, sizes[k % 4], rank, dim);
    numbered(&c.in[0]);
    memset(dx->data, 1, (size_t)count(dx) * pare_dtype_size(sizes[k % 4]));
    must(&c, PARE_OP_SLICEGRAD);
    for (int64_t i = 0; i < count(&c.in[0]); i++) {
      unravel(&c.in[0].type, i, idx);
      for (int j = 0; j < rank; j++) idx[j] = at[j][idx[j]];
      put(&want, ravel(&want.type, idx), get(&c.in[0], i));
    }
    near(dx, &want, 0, "SliceGrad");
  }
}

Test(move, slice_refuses_bounds_that_do_not_fit_the_planned_shape) {
  EACH_LEVEL(c) {
    input(&c, PARE_F32, DIMS(5));
    listed(input(&c, PARE_I64, DIMS(1)), LIST(1));
    listed(input(&c, PARE_I64, DIMS(1)), LIST(9));
    output(&c, PARE_F32, DIMS(3));
    cr_assert_eq(run(&c, PARE_OP_SLICE), PARE_DATA);
    cr_assert_not_null(c.why);
  }
}

Test(move, concat_and_split_are_inverse) {
  EACH_LEVEL(c) for (int axis = -3; axis < 3; axis++) for (int d = 0; d < 4; d++) {
    clear(&c);
    int64_t dim[3] = {4, 5, 6}, k = axis < 0 ? axis + 3 : axis, part[4] = {1, 0, 3, 0}, at = 0;
    part[3] = dim[k] - 4;
    PareTensor *x = numbered(input(&c, sizes[d], 3, dim)), whole = *x;
    pare_attr_set(&c.attr, axis, axis);
    for (int i = 0; i < 4; i++) {
      int64_t p[3] = {4, 5, 6}, idx[3];
      p[k] = part[i];
      output(&c, sizes[d], 3, p);
      if (i < 3) continue;
      must(&c, PARE_OP_SPLIT);
      for (int j = 0; j < 4; at += part[j++])
        for (int64_t e = 0; e < count(&c.out[j]); e++) {
          unravel(&c.out[j].type, e, idx);
          idx[k] += at;
          cr_assert_eq(get(&c.out[j], e), get(&whole, ravel(&whole.type, idx)), "axis %d part %d at %" PRId64, axis, j,
                       e);
        }
    }
    memcpy(c.in, c.out, sizeof c.in);
    c.nin = 4, c.nout = 0;
    near((must((output(&c, sizes[d], 3, dim), &c), PARE_OP_CONCAT), &c.out[0]), &whole, 0, "Concat");
  }
}

Test(move, gather_takes_negative_indices_and_refuses_others) {
  EACH_LEVEL(c) for (int axis = 0; axis < 3; axis++) for (int d = 0; d < 8; d++) {
    clear(&c);
    int64_t dim[3] = {4, 4, axis == 2 ? 4 : d / 4 ? 720 : 4}, to[4], n = 0, idx[4]; /* long rows are moved in one go */
    pare_attr_set(&c.attr, axis, axis);
    PareTensor *x = numbered(input(&c, sizes[d % 4], 3, dim));
    PareTensor *at = listed(input(&c, d % 2 ? PARE_I32 : PARE_I64, DIMS(2, 3)), LIST(3, -4, 1, -1, 0, 2));
    for (int i = 0; i < 3; i++) {
      if (i == axis)
        to[n++] = 2, to[n++] = 3;
      else
        to[n++] = dim[i];
    }
    PareTensor *y = output(&c, sizes[d % 4], 4, to);
    must(&c, PARE_OP_GATHER);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, idx);
      double v = get(at, idx[axis] * 3 + idx[axis + 1]);
      int64_t from[3];
      for (int j = 0; j < 3; j++) from[j] = j < axis ? idx[j] : j == axis ? (int64_t)(v < 0 ? v + 4 : v) : idx[j + 1];
      double want = get(x, ravel(&x->type, from));
      cr_assert_eq(get(y, i), want, "axis %d at %" PRId64 ": got %g, want %g", axis, i, get(y, i), want);
    }
    put(at, 4, 4);
    cr_assert_eq(run(&c, PARE_OP_GATHER), PARE_DATA);
    put(at, 4, -5);
    cr_assert_eq(run(&c, PARE_OP_GATHER), PARE_DATA);
  }
}

Test(move, gathers_gradient_is_its_adjoint) {
  EACH_LEVEL(c) for (int axis = 0; axis < 2; axis++) {
    clear(&c);
    pare_attr_set(&c.attr, axis, axis);
    PareTensor x = *filled(input(&c, PARE_F64, DIMS(5, 70)), 1, -1, 1);
    PareTensor at = *listed(input(&c, PARE_I64, DIMS(4)), LIST(3, 0, 3, -1));
    PareTensor y = axis ? *output(&c, PARE_F64, DIMS(5, 4)) : *output(&c, PARE_F64, DIMS(4, 70)), dy = y;
    must(&c, PARE_OP_GATHER);
    double left = 0, right = 0;
    clear(&c);
    c.in[0] = at, c.in[1] = tensor(&c, PARE_F64, y.type.rank, y.type.dim), c.in[2] = x, c.nin = 3;
    dy = *filled(&c.in[1], 2, -1, 1);
    pare_attr_set(&c.attr, axis, axis);
    PareTensor *dx = output(&c, PARE_F64, DIMS(5, 70));
    must(&c, PARE_OP_GATHERGRAD);
    for (int64_t i = 0; i < count(&y); i++) left += get(&y, i) * get(&dy, i);
    for (int64_t i = 0; i < count(dx); i++) right += get(dx, i) * get(&x, i);
    cr_assert(fabs(left - right) < 1e-10, "<Gx, dy> = %.12g, <x, G'dy> = %.12g", left, right);
  }
}

/* What an axis of n elements shows at place i, by walking there from the nearest end; -1: the value. */
static int64_t shown(int mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  if (mode == PARE_MODE_CONSTANT) return -1;
  if (mode == PARE_MODE_EDGE) return i < 0 ? 0 : n - 1;
  if (mode == PARE_MODE_WRAP) return i < 0 ? shown(mode, i + n, n) : shown(mode, i - n, n);
  return i < 0 ? -i : n - 1 - (i - (n - 1));
}

Test(move, pad_shows_what_its_mode_says_and_tile_repeats) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 400; k++) {
    int rank = (int)drawn(k, 0, 1, 4), mode = (int)(k % 5); /* the fifth is Tile */
    PareDtype d = sizes[k / 5 % 4], of_value = k / 5 % 3 == 0 && d != PARE_U8 ? PARE_F64 : d;
    int64_t dim[4], to[4], before[4], idx[4], twice = 2 * rank, n = rank;
    clear(&c);
    for (int i = 0; i < rank; i++) dim[i] = drawn(k, 10 + (uint64_t)i, mode || k % 7 ? 1 : 0, 6);
    PareTensor *x = numbered(input(&c, d, rank, dim));
    PareTensor *pads = input(&c, PARE_I64, 1, mode == 4 ? &n : &twice), *value = NULL;
    pare_attr_set(&c.attr, mode, mode);
    if (k % 3 && mode < 4) value = listed(input(&c, of_value, SCALAR), LIST(77));
    else if (mode < 4) left_out(&c);
    PareTensor *axes = k % 2 && mode < 4 ? input(&c, PARE_I32, 1, &n) : NULL;
    for (int i = 0; i < rank; i++) {
      int axis = axes ? rank - 1 - i : i;
      int64_t most = mode == PARE_MODE_REFLECT ? dim[axis] - 1 : 8;
      int64_t lo = drawn(k, 20 + (uint64_t)i, -dim[axis] / 2, most);
      int64_t hi = drawn(k, 30 + (uint64_t)i, -dim[axis] / 2, most);
      if (axes) put(axes, i, i % 2 ? axis : axis - rank);
      if (mode == 4) lo = 0, hi = (drawn(k, 20 + (uint64_t)i, 0, 3) - 1) * dim[axis];
      put(pads, i, mode == 4 ? (double)(hi / dim[axis] + 1) : (double)lo);
      if (mode < 4) put(pads, rank + i, (double)hi);
      before[axis] = lo, to[axis] = dim[axis] + lo + hi;
    }
    PareTensor *y = output(&c, d, rank, to);
    must(&c, mode == 4 ? PARE_OP_TILE : PARE_OP_PAD);
    for (int64_t i = 0; i < count(y); i++) {
      bool there = true;
      unravel(&y->type, i, idx);
      for (int j = 0; j < rank; j++) {
        idx[j] = shown(mode == 4 ? PARE_MODE_WRAP : mode, idx[j] - before[j], dim[j]);
        there = there && idx[j] >= 0;
      }
      double want = there ? get(x, ravel(&x->type, idx)) : value ? 77 : 0;
      cr_assert_eq(get(y, i), want, "case %" PRIu64 " at %" PRId64 ": got %g, want %g", k, i, get(y, i), want);
    }
  }
}

Test(move, pad_refuses_pads_that_do_not_fit_the_planned_shape) {
  EACH_LEVEL(c) {
    input(&c, PARE_F32, DIMS(5)), listed(input(&c, PARE_I64, DIMS(2)), LIST(1, 2)), output(&c, PARE_F32, DIMS(7));
    cr_assert_eq(run(&c, PARE_OP_PAD), PARE_DATA);
    put(&c.in[1], 1, 1);
    must(&c, PARE_OP_PAD);
  }
}

Test(move, trilu_and_eyelike_know_every_diagonal) {
  EACH_LEVEL(c) for (int k = -6; k <= 6; k++) for (int upper = 0; upper < 2; upper++) for (int d = 0; d < 4; d++) {
    const int64_t far[] = {k == -6 ? INT64_MIN : k == 6 ? INT64_MAX : k};
    clear(&c);
    pare_attr_set(&c.attr, upper, upper);
    pare_attr_set(&c.attr, k, far[0]);
    PareTensor *x = numbered(input(&c, sizes[d], DIMS(2, 4, 5))), *by = input(&c, PARE_I64, SCALAR);
    PareTensor *y = output(&c, sizes[d], DIMS(2, 4, 5)), ones = tensor(&c, sizes[d], DIMS(4, 5));
    memcpy(by->data, far, sizeof far);
    if (k == 0) c.nin = 1;
    must(&c, PARE_OP_TRILU);
    PareTensor part = *y;
    c.nin = 1, c.out[0] = ones;
    must(&c, PARE_OP_EYELIKE);
    for (int64_t i = 0; i < 40; i++) {
      int64_t off = i % 5 - i / 5 % 4;
      double want = (upper ? off >= far[0] : off <= far[0]) ? get(x, i) : 0;
      cr_assert_eq(get(&part, i), want, "k %d at %" PRId64 ": got %g, want %g", k, i, get(&part, i), want);
      if (i < 20) cr_assert_eq(get(&ones, i), off == far[0], "k %d at %" PRId64 ": got %g", k, i, get(&ones, i));
    }
  }
}

Test(move, blocks_become_channels_and_pixels_again) {
  EACH_LEVEL(c) for (int d = 0; d < 4; d++) for (int crd = 0; crd < 2; crd++) for (int64_t b = 1; b < 4; b++) {
    enum { N = 2, C = 3, H = 2, W = 5 };
    clear(&c);
    pare_attr_set(&c.attr, blocksize, b);
    if (crd) pare_attr_set(&c.attr, mode, PARE_MODE_CRD);
    PareTensor x = *numbered(input(&c, sizes[d], DIMS(N, C, H * b, W * b)));
    PareTensor y = *output(&c, sizes[d], DIMS(N, C * b * b, H, W)), back = tensor(&c, sizes[d], 4, x.type.dim);
    must(&c, PARE_OP_SPACETODEPTH);
    for (int64_t i = 0; i < count(&x); i++) {
      int64_t at[4], in;
      unravel(&x.type, i, at);
      in = at[2] % b * b + at[3] % b;
      int64_t to[] = {at[0], crd ? at[1] * b * b + in : in * C + at[1], at[2] / b, at[3] / b};
      cr_assert_eq(get(&y, ravel(&y.type, to)), get(&x, i), "block %" PRId64 " at %" PRId64, b, i);
    }
    c.in[0] = y, c.out[0] = back;
    must(&c, PARE_OP_DEPTHTOSPACE);
    near(&back, &x, 0, "DepthToSpace of SpaceToDepth");
  }
}

/* --- picked and placed by indices --- */
enum { REPLACE, ADD, MUL, LARGEST, SMALLEST };

static double joined(int how, double x, double v) {
  return how == REPLACE ? v : how == ADD ? x + v : how == MUL ? x * v : how == LARGEST ? fmax(x, v) : fmin(x, v);
}
/* Rounded to t's type. */
static void join(PareTensor *t, int64_t i, int how, double v) { put(t, i, joined(how, get(t, i), v)); }

static const PareDtype index_types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32, PARE_U8};

/* indices[outer.., j] of one axis pick from data; then updates are scattered there. Few places get many updates. */
Test(index, elements_are_picked_and_placed_along_an_axis) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 300; k++) {
    int rank = (int)drawn(k, 0, 1, 3), axis = (int)drawn(k, 1, 0, rank - 1), how = (int)(k % 5);
    PareDtype d = index_types[k / 5 % (how ? 5 : 6)];
    int64_t dim[3], at_dim[3], idx[3];
    clear(&c);
    for (int i = 0; i < rank; i++) {
      dim[i] = drawn(k, 10 + (uint64_t)i, 1, 6);
      at_dim[i] = i == axis ? drawn(k, 20, k % 7 ? 1 : 0, 40) : drawn(k, 30 + (uint64_t)i, 1, dim[i]);
    }
    pare_attr_set(&c.attr, axis, k % 2 ? axis : axis - rank);
    PareTensor *x = numbered(input(&c, d, rank, dim)), *at = input(&c, k % 3 ? PARE_I64 : PARE_I32, rank, at_dim);
    for (int64_t i = 0; i < count(at); i++) put(at, i, (double)drawn(100 + k, (uint64_t)i, -dim[axis], dim[axis] - 1));
    PareTensor y = *output(&c, d, rank, at_dim), want = tensor(&c, d, rank, dim);
    must(&c, PARE_OP_GATHERELEMENTS);
    PareTensor *up = filled(input(&c, d, rank, at_dim), 7, how == MUL ? 1 : 0, how == MUL ? 2 : 9);
    memcpy(want.data, x->data, (size_t)count(x) * pare_dtype_size(d));
    for (int64_t i = 0; i < count(at); i++) {
      unravel(&at->type, i, idx);
      idx[axis] = (int64_t)get(at, i) + (get(at, i) < 0 ? dim[axis] : 0);
      int64_t from = ravel(&x->type, idx);
      cr_assert_eq(get(&y, i), get(x, from), "case %" PRIu64 " at %" PRId64 ": got %g", k, i, get(&y, i));
      join(&want, from, how, get(up, i));
    }
    pare_attr_set(&c.attr, reduction, how);
    c.out[0] = tensor(&c, d, rank, dim);
    must(&c, PARE_OP_SCATTERELEMENTS);
    near(&c.out[0], &want, 0, "ScatterElements");
    if (!count(at)) continue;
    put(at, count(at) - 1, (double)dim[axis]);
    cr_assert_eq(run(&c, PARE_OP_SCATTERELEMENTS), PARE_DATA);
    put(at, count(at) - 1, (double)(-dim[axis] - 1));
    c.nin = 2, c.out[0] = y;
    cr_assert_eq(run(&c, PARE_OP_GATHERELEMENTS), PARE_DATA);
  }
}

/* indices[batch.., rows, n] over data[batch.., n axes, inner..] */
Test(index, slices_are_picked_and_placed_by_tuples) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 300; k++) {
    int rank = (int)drawn(k, 0, 1, 4), batch = (int)drawn(k, 1, 0, rank - 1), n = (int)drawn(k, 2, 1, rank - batch);
    int how = batch ? REPLACE : (int)(k % 5), lead = batch + 1, sliced = rank - batch - n;
    PareDtype d = index_types[k / 5 % (how ? 5 : 6)];
    int64_t dim[4], at_dim[6], y_dim[6], idx[4], inner = 1;
    clear(&c);
    for (int i = 0; i < rank; i++) dim[i] = drawn(k, 10 + (uint64_t)i, 1, 4);
    for (int i = 0; i < batch; i++) at_dim[i] = dim[i];
    at_dim[batch] = drawn(k, 20, k % 7 ? 1 : 0, 30), at_dim[lead] = n;
    memcpy(y_dim, at_dim, sizeof at_dim);
    for (int i = 0; i < sliced; i++) y_dim[lead + i] = dim[batch + n + i], inner *= dim[batch + n + i];
    pare_attr_set(&c.attr, batch_dims, batch);
    PareTensor *x = numbered(input(&c, d, rank, dim)), *at = input(&c, k % 3 ? PARE_I64 : PARE_I32, lead + 1, at_dim);
    for (int64_t i = 0; i < count(at); i++) {
      int64_t size = dim[batch + i % n];
      put(at, i, (double)drawn(100 + k, (uint64_t)i, -size, size - 1));
    }
    PareTensor y = *output(&c, d, lead + sliced, y_dim), want = tensor(&c, d, rank, dim);
    must(&c, PARE_OP_GATHERND);
    PareTensor *up = filled(input(&c, d, lead + sliced, y_dim), 7, how == MUL ? 1 : 0, how == MUL ? 2 : 9);
    memcpy(want.data, x->data, (size_t)count(x) * pare_dtype_size(d));
    for (int64_t i = 0; i < count(&y); i++) {
      int64_t row = i / inner, from = 0, b = row / at_dim[batch];
      for (int j = batch - 1; j >= 0; j--) idx[j] = b % dim[j], b /= dim[j];
      for (int j = 0; j < batch; j++) from = from * dim[j] + idx[j];
      for (int j = 0; j < n; j++) {
        int64_t v = (int64_t)get(at, row * n + j), size = dim[batch + j];
        from = from * size + (v < 0 ? v + size : v);
      }
      from = from * inner + i % inner;
      cr_assert_eq(get(&y, i), get(x, from), "case %" PRIu64 " at %" PRId64 ": got %g", k, i, get(&y, i));
      join(&want, from, how, get(up, i));
    }
    if (!batch) {
      pare_attr_set(&c.attr, reduction, how);
      c.out[0] = tensor(&c, d, rank, dim);
      must(&c, PARE_OP_SCATTERND);
      near(&c.out[0], &want, 0, "ScatterND");
    }
    if (!count(at)) continue;
    put(at, count(at) - 1, (double)dim[batch + n - 1]);
    if (!batch) cr_assert_eq(run(&c, PARE_OP_SCATTERND), PARE_DATA);
    c.nin = 2, c.out[0] = y;
    cr_assert_eq(run(&c, PARE_OP_GATHERND), PARE_DATA);
  }
}

Test(index, many_updates_of_one_place_are_made_in_their_order) {
  EACH_LEVEL(c) {
    int64_t n[] = {1500};
    PareTensor *x = filled(input(&c, PARE_F32, DIMS(7)), 1, -1, 1), *at = input(&c, PARE_I64, 1, n);
    PareTensor *up = filled(input(&c, PARE_F32, 1, n), 2, -1, 1), *y = output(&c, PARE_F32, DIMS(7));
    PareTensor want = tensor(&c, PARE_F32, DIMS(7));
    pare_attr_set(&c.attr, reduction, ADD);
    memcpy(want.data, x->data, 7 * sizeof(float));
    for (int64_t i = 0; i < n[0]; i++) {
      put(up, i, get(up, i) * pare_rng_uniform(4, (uint64_t)i)); /* sums are rounded */
      put(at, i, (double)drawn(3, (uint64_t)i, 2, 4));
      ((float *)want.data)[(int64_t)get(at, i)] += ((float *)up->data)[i];
    }
    must(&c, PARE_OP_SCATTERELEMENTS);
    cr_assert(!memcmp(y->data, want.data, 7 * sizeof(float)));
  }
}

Test(index, one_hot_takes_indices_of_any_type) {
  static const PareDtype types[] = {PARE_I64, PARE_I32, PARE_U8, PARE_F32, PARE_F64};
  EACH_LEVEL(c) for (int t = 0; t < 5; t++) for (int d = 0; d < 4; d++) for (int axis = -3; axis < 3; axis++) {
    int k = axis < 0 ? axis + 3 : axis;
    int64_t dim[3], at[3];
    for (int i = 0, from = 0; i < 3; i++) dim[i] = i == k ? 4 : from++ ? 3 : 2;
    clear(&c);
    pare_attr_set(&c.attr, axis, axis);
    PareTensor *x = listed(input(&c, types[t], DIMS(2, 3)), LIST(0, 3, 4, 2, 9, 1));
    if (t != 2) put(x, 2, -4), put(x, 4, -5);
    if (t > 2) put(x, 3, 2.5); /* between places */
    listed(input(&c, PARE_I64, SCALAR), LIST(4));
    listed(input(&c, sizes[d], DIMS(2)), LIST(5, 7));
    PareTensor *y = output(&c, sizes[d], 3, dim);
    must(&c, PARE_OP_ONEHOT);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, at);
      double v = get(x, k == 0 ? at[1] * 3 + at[2] : k == 1 ? at[0] * 3 + at[2] : at[0] * 3 + at[1]);
      double want = (v < 0 ? v + 4 : v) == (double)at[k] ? 7 : 5;
      cr_assert_eq(get(y, i), want, "type %d, axis %d at %" PRId64 ": got %g, want %g", t, axis, i, get(y, i), want);
    }
  }
}

Test(move, fills_ranges_and_shapes) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_I64, DIMS(2)), LIST(2, 3));
    listed(input(&c, PARE_F32, DIMS(1)), LIST(1.5));
    PareTensor *y = output(&c, PARE_F32, DIMS(2, 3));
    must(&c, PARE_OP_CONSTANTOFSHAPE);
    for (int i = 0; i < 6; i++) cr_assert_eq(get(y, i), 1.5);
    c.nin = 1;
    must(&c, PARE_OP_CONSTANTOFSHAPE);
    for (int i = 0; i < 6; i++) cr_assert_eq(get(y, i), 0);
    const PareDtype types[] = {PARE_F64, PARE_F32, PARE_I64, PARE_I32};
    for (int d = 0; d < 4; d++) {
      clear(&c);
      listed(input(&c, types[d], SCALAR), LIST(9));
      listed(input(&c, types[d], SCALAR), LIST(2));
      listed(input(&c, types[d], SCALAR), LIST(-3));
      y = output(&c, types[d], DIMS(3));
      must(&c, PARE_OP_RANGE);
      cr_assert(get(y, 0) == 9 && get(y, 1) == 6 && get(y, 2) == 3, "%g %g %g", get(y, 0), get(y, 1), get(y, 2));
    }
    clear(&c);
    input(&c, PARE_F32, DIMS(4, 5, 6));
    pare_attr_set(&c.attr, start, -2);
    y = output(&c, PARE_I64, DIMS(2));
    must(&c, PARE_OP_SHAPE);
    cr_assert(get(y, 0) == 5 && get(y, 1) == 6, "%g %g", get(y, 0), get(y, 1));
    y->type.rank = 0;
    must(&c, PARE_OP_SIZE);
    cr_assert_eq(get(y, 0), 120, "size %g", get(y, 0));
  }
}

#ifndef PARE_TEST_CUDA
Test(fetch, reads_at_any_address_and_leaves_zeros_where_an_index_is_dead) {
  static const int64_t dims[] = {3, 5, 4};
  EACH_LEVEL(c) for (int axis = -1; axis < 3; axis++) {
    clear(&c);
    PareTensor *x = filled(input(&c, PARE_F32, 3, dims), 1, -1, 1), *y = output(&c, PARE_F32, 3, dims);
    PareTensor want = tensor(&c, PARE_F32, 3, dims);
    float odd[61];
    char *at = (char *)odd + 1;
    memcpy(at, x->data, 60 * sizeof(float));
    memcpy(want.data, x->data, 60 * sizeof(float));
    pare_attr_set(&c.attr, axis, axis);
    if (axis >= 0) {
      PareTensor *alive = input(&c, PARE_BOOL, 1, &dims[axis]);
      for (int64_t i = 0; i < dims[axis]; i++) ((bool *)alive->data)[i] = i != 1;
      int64_t inner = axis == 0 ? 20 : axis == 1 ? 4 : 1;
      for (int64_t i = 0; i < 60; i++)
        if (i / inner % dims[axis] == 1) put(&want, i, 0);
    }
    x->data = at;
    must(&c, PARE_OP_FETCH);
    cr_assert(!memcmp(y->data, want.data, 60 * sizeof(float)), "axis %d", axis);
  }
}
#endif
