/* test_kernels_axes.c - kernels along axes: Softmax, norms, reductions, sums that run, order (kernel_call.h). Truth
 * comes from formulas in double. */
#include "kernel_call.h"

Test(norm, softmax_normalises_exponentials_along_any_axis) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int axis = -3; axis < 3; axis++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 3; mode++) {
    clear(&c);
    pare_attr_set(&c.attr, axis, axis);
    if (mode == 2) pare_attr_set(&c.attr, flatten, 1);
    PareTensor *x = filled(input(&c, types[d], DIMS(3, 5, 37)), 4, -6, 6), *y = output(&c, types[d], DIMS(3, 5, 37));
    PareTensor want = tensor(&c, PARE_F64, DIMS(3, 5, 37));
    must(&c, mode == 1 ? PARE_OP_LOGSOFTMAX : PARE_OP_SOFTMAX);
    int k = axis < 0 ? axis + 3 : axis;
    int64_t inner = mode == 2 || k == 2 ? 1
                    : k == 1            ? 37
                                        : 185,
            n = mode == 2 ? (k == 2   ? 37
                             : k == 1 ? 185
                                      : 555)
                : k == 0  ? 3
                : k == 1  ? 5
                          : 37;
    for (int64_t i = 0; i < 555; i++) {
      double sum = 0;
      int64_t first = i / (n * inner) * n * inner + i % inner;
      for (int64_t j = 0; j < n; j++) sum += exp(get(x, first + j * inner));
      put(&want, i, mode == 1 ? get(x, i) - log(sum) : exp(get(x, i)) / sum);
    }
    near(y, &want, 32, "Softmax"); /* arguments of exp are up to 12 and as inexact */
  }
}

Test(norm, softmax_of_huge_and_masked_numbers_is_finite) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_F32, DIMS(4)), LIST(1e30, 1e30, -INFINITY, -1e30));
    PareTensor *y = output(&c, PARE_F32, DIMS(4));
    must(&c, PARE_OP_SOFTMAX);
    const double want[] = {0.5, 0.5, 0, 0};
    for (int i = 0; i < 4; i++) cr_assert_eq(get(y, i), want[i], "got %g", get(y, i));
  }
}

Test(norm, layernorm_gives_its_mean_and_inverse_deviation_too) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int d = 0; d < 3; d++) for (int with = 0; with < 2; with++) {
    clear(&c);
    pare_attr_set(&c.attr, epsilon, 1e-3);
    pare_attr_set(&c.attr, axis, 1);
    PareTensor *x = filled(input(&c, types[d], DIMS(6, 5, 13)), 5, -1, 5);
    PareTensor *gamma = filled(input(&c, types[d], DIMS(5, 13)), 6, -2, 2);
    PareTensor *beta = with ? filled(input(&c, types[d], DIMS(5, 13)), 7, -2, 2) : NULL;
    PareTensor *y = output(&c, types[d], DIMS(6, 5, 13)), want = tensor(&c, PARE_F64, DIMS(6, 5, 13));
    PareDtype stats = types[d] == PARE_F64 ? PARE_F64 : PARE_F32;
    PareTensor *mean = output(&c, stats, DIMS(6, 1, 1)), *rstd = output(&c, stats, DIMS(6, 1, 1));
    PareTensor wmean = tensor(&c, PARE_F64, DIMS(6)), wrstd = tensor(&c, PARE_F64, DIMS(6));
    if (!with) c.nout = 1;
    must(&c, PARE_OP_LAYERNORM);
    for (int64_t r = 0; r < 6; r++) {
      double m = 0, v = 0;
      for (int i = 0; i < 65; i++) m += get(x, r * 65 + i) / 65;
      for (int i = 0; i < 65; i++) v += pow(get(x, r * 65 + i) - m, 2) / 65;
      put(&wmean, r, m), put(&wrstd, r, 1 / sqrt(v + 1e-3));
      for (int i = 0; i < 65; i++)
        put(&want, r * 65 + i, (get(x, r * 65 + i) - m) / sqrt(v + 1e-3) * get(gamma, i) + (beta ? get(beta, i) : 0));
    }
    near(y, &want, 8, "LayerNormalization");
    if (with) near(mean, &wmean, 8, "mean"), near(rstd, &wrstd, 8, "rstd");
  }
}

/* Widths that lie on both sides of those for which a kernel has code of its own. */
static const int64_t norm_widths[] = {13, 20, 300, 768, 1000, 1030, 2048, 2052, 4100};
enum { NORM_WIDTHS = sizeof norm_widths / sizeof *norm_widths, NORM_ROWS = 5 };
static const PareDtype norm_types[] = {PARE_F64, PARE_F32, PARE_BF16};

/* The sums of bf16 are rounded before they are normalised. */
Test(norm, addnorm_gives_the_sum_its_norm_and_a_copy_in_bf16) {
  enum { SUM, Y, MEAN, RSTD, LOW };
  static const char *const name[] = {"sum", "y", "mean", "rstd", "low"};
  EACH_LEVEL(c) for (int k = 0; k < NORM_WIDTHS; k++) for (int d = 0; d < 3; d++) for (int b = 0; b < 6; b++) {
    int64_t n = norm_widths[k];
    PareDtype T = norm_types[d], stat = d ? PARE_F32 : PARE_F64;
    clear(&c);
    pare_attr_set(&c.attr, epsilon, 1e-3);
    PareTensor *x = filled(input(&c, T, DIMS(NORM_ROWS, n)), 5, -1, 5), *gamma = filled(input(&c, T, DIMS(n)), 6, -2, 2);
    PareTensor *beta = b % 2 ? filled(input(&c, T, DIMS(n)), 7, -2, 2) : (left_out(&c), NULL), *branch = NULL;
    if (b / 2) branch = filled(input(&c, b / 2 == 1 ? T : PARE_BF16, DIMS(NORM_ROWS, n)), 8, -2, 2);
    PareTensor want[5] = {tensor(&c, PARE_F64, DIMS(NORM_ROWS, n)), tensor(&c, PARE_F64, DIMS(NORM_ROWS, n)),
                          tensor(&c, PARE_F64, DIMS(NORM_ROWS)), tensor(&c, PARE_F64, DIMS(NORM_ROWS)),
                          tensor(&c, PARE_F64, DIMS(NORM_ROWS, n))};
    output(&c, T, DIMS(NORM_ROWS, n)), output(&c, T, DIMS(NORM_ROWS, n));
    output(&c, stat, DIMS(NORM_ROWS, 1)), output(&c, stat, DIMS(NORM_ROWS, 1));
    output(&c, PARE_BF16, DIMS(NORM_ROWS, n));
    must(&c, PARE_OP_ADDNORM);
    for (int64_t r = 0; r < NORM_ROWS; r++) {
      long double m = 0, v = 0;
      for (int64_t i = r * n; i < (r + 1) * n; i++) {
        double s = get(x, i) + (branch ? get(branch, i) : 0);
        put(&want[SUM], i, d == 2 ? (double)pare_bf16_to_f32(pare_f32_to_bf16((float)s)) : s);
        m += get(&want[SUM], i) / (long double)n;
      }
      for (int64_t i = r * n; i < (r + 1) * n; i++) v += (get(&want[SUM], i) - m) * (get(&want[SUM], i) - m) / n;
      double mean = (double)m, rstd = 1 / sqrt((double)v + 1e-3);
      put(&want[MEAN], r, mean), put(&want[RSTD], r, rstd);
      for (int64_t i = r * n; i < (r + 1) * n; i++) {
        double y = (get(&want[SUM], i) - mean) * rstd * get(gamma, i - r * n) + (beta ? get(beta, i - r * n) : 0);
        put(&want[Y], i, y), put(&want[LOW], i, y);
      }
    }
    double sums = 8 + (double)n / 2; /* n roundings of a sum at most, half as much in its root; of f32 also in bf16 */
    double factor[] = {[SUM] = 2, [Y] = d < 2 ? sums : 16, [MEAN] = sums, [RSTD] = sums, [LOW] = 2};
    for (int i = 0; i < 5; i++) near(&c.out[i], &want[i], factor[i], name[i]);
    in_place(&c, PARE_OP_ADDNORM, 0);
    if (branch) in_place(&c, PARE_OP_ADDNORM, 3);
    PareTensor all[5];
    memcpy(all, c.out, sizeof all);
    for (int one = SUM; one <= LOW; one++) { /* and each result when it alone is wanted */
      for (int i = 0; i < 5; i++) c.out[i] = i == one ? tensor(&c, all[i].type.dtype, all[i].type.rank, all[i].type.dim) : (PareTensor){0};
      must(&c, PARE_OP_ADDNORM);
      near(&c.out[one], &all[one], 0, name[one]);
    }
  }
}

/* As LayerNormalization would first, whose result is rounded to its type. */
Test(norm, addnorm_norms_what_it_adds_to_where_it_is_given_a_norm) {
  static const char *const name[] = {"sum", "y", "mean", "rstd", "low"};
  EACH_LEVEL(c) for (int k = 0; k < NORM_WIDTHS; k++) for (int d = 0; d < 3; d++) for (int b = 0; b < 2; b++) {
    int64_t n = norm_widths[k];
    PareDtype T = norm_types[d], stat = d ? PARE_F32 : PARE_F64;
    PareTensor want[5], first[4] = {{0}}, branch;
    clear(&c);
    PareTensor x = *filled(input(&c, T, DIMS(NORM_ROWS, n)), 5, -1, 5);
    first[2] = *filled(input(&c, T, DIMS(n)), 6, -2, 2);
    if (b) first[3] = *filled(input(&c, T, DIMS(n)), 7, -2, 2);
    PareTensor y = *output(&c, T, DIMS(NORM_ROWS, n));
    first[0] = *output(&c, stat, DIMS(NORM_ROWS, 1)), first[1] = *output(&c, stat, DIMS(NORM_ROWS, 1));
    must(&c, PARE_OP_LAYERNORM);
    branch = *filled(input(&c, T, DIMS(NORM_ROWS, n)), 8, -2, 2);
    for (int fused = 0; fused < 2; fused++) {
      clear(&c);
      c.in[c.nin++] = fused ? x : y;
      filled(input(&c, T, DIMS(n)), 9, -2, 2);
      filled(input(&c, T, DIMS(n)), 10, -2, 2);
      c.in[c.nin++] = branch;
      for (int i = 0; fused && i < 4; i++) c.in[c.nin++] = first[i];
      output(&c, T, DIMS(NORM_ROWS, n)), output(&c, T, DIMS(NORM_ROWS, n));
      output(&c, stat, DIMS(NORM_ROWS, 1)), output(&c, stat, DIMS(NORM_ROWS, 1));
      output(&c, PARE_BF16, DIMS(NORM_ROWS, n));
      must(&c, PARE_OP_ADDNORM);
      for (int i = 0; fused && i < 5; i++) near(&c.out[i], &want[i], 8 + (double)n / 2, name[i]);
      memcpy(want, c.out, sizeof want);
    }
    in_place(&c, PARE_OP_ADDNORM, 0);
  }
}

/* Against the gradient in float64 of the whole dy, to which the rest is added. */
Test(norm, layernorm_takes_its_gradient_in_two_parts_and_adds_to_the_result) {
  enum { X, GAMMA, MEAN, RSTD, DY, DY2, ADDED, DX = 0, DGAMMA, DBETA, LOW };
  static const char *const name[] = {"dx", "dgamma", "dbeta", "low"};
  EACH_LEVEL(c) for (int k = 0; k < NORM_WIDTHS; k++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 10; mode++) {
    int64_t n = norm_widths[k];
    PareDtype T = norm_types[d], stat = d ? PARE_F32 : PARE_F64;
    int parts = mode / 2; /* dy and dy2: T, T bf16, bf16 T, bf16 bf16, bf16 */
    Call full = {.arena = c.arena, .kernels = c.kernels};
    filled(input(&full, PARE_F64, DIMS(NORM_ROWS, n)), 1, -2, 2), filled(input(&full, PARE_F64, DIMS(n)), 2, -2, 2);
    filled(input(&full, PARE_F64, DIMS(NORM_ROWS, 1)), 3, -1, 1), filled(input(&full, PARE_F64, DIMS(NORM_ROWS, 1)), 4, 0.5, 2);
    PareTensor *dy = input(&full, PARE_F64, DIMS(NORM_ROWS, n));
    clear(&c);
    for (int i = X; i <= RSTD; i++) {
      PareTensor *t = input(&c, i < MEAN ? T : stat, full.in[i].type.rank, full.in[i].type.dim);
      for (int64_t j = 0; j < count(t); j++) put(t, j, get(&full.in[i], j));
    }
    filled(input(&c, parts < 2 ? T : PARE_BF16, DIMS(NORM_ROWS, n)), 5, -1, 1);
    if (parts % 4) filled(input(&c, parts == 2 ? T : PARE_BF16, DIMS(NORM_ROWS, n)), 6, -1, 1);
    else left_out(&c);
    if (mode % 2) filled(input(&c, T, DIMS(NORM_ROWS, n)), 7, -3, 3);
    for (int64_t i = 0; i < count(dy); i++) put(dy, i, get(&c.in[DY], i) + (c.in[DY2].data ? get(&c.in[DY2], i) : 0));
    output(&full, PARE_F64, DIMS(NORM_ROWS, n)), output(&full, PARE_F64, DIMS(n)), output(&full, PARE_F64, DIMS(n));
    must(&full, PARE_OP_LAYERNORMGRAD);
    for (int64_t i = 0; i < count(dy) && mode % 2; i++) put(&full.out[DX], i, get(&full.out[DX], i) + get(&c.in[ADDED], i));
    full.out[LOW] = full.out[DX];
    output(&c, T, DIMS(NORM_ROWS, n)), output(&c, T, DIMS(n)), output(&c, T, DIMS(n));
    output(&c, PARE_BF16, DIMS(NORM_ROWS, n));
    must(&c, PARE_OP_LAYERNORMGRAD);
    for (int i = DX; i <= LOW; i++) near(&c.out[i], &full.out[i], i == LOW && d < 2 ? 2 : 16, name[i]);
    in_place(&c, PARE_OP_LAYERNORMGRAD, X), in_place(&c, PARE_OP_LAYERNORMGRAD, DY);
    if (parts % 4) in_place(&c, PARE_OP_LAYERNORMGRAD, DY2);
    if (mode % 2) in_place(&c, PARE_OP_LAYERNORMGRAD, ADDED);
    PareTensor low = c.out[LOW];
    c.out[LOW] = tensor(&c, PARE_BF16, DIMS(NORM_ROWS, n));
    for (int i = DX; i < LOW; i++) c.out[i] = (PareTensor){0};
    must(&c, PARE_OP_LAYERNORMGRAD);
    near(&c.out[LOW], &low, 0, "the copy in bf16 alone");
  }
}

/* y = (x - mean)·scale/sqrt(var + eps) + bias by the channels of axis 1, given or of each plane's own. */
Test(norm, channels_have_their_mean_and_deviation) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  static const struct {
    int rank;
    int64_t dim[4], channels, n;
  } all[] = {{4, {2, 3, 5, 7}, 3, 35}, {3, {2, 2, 600}, 2, 600}, {2, {7, 5}, 5, 1},
             {1, {9}, 1, 1},           {3, {0, 3, 4}, 3, 4},     {3, {2, 3, 0}, 3, 0}};
  EACH_LEVEL(c) for (int k = 0; k < 6; k++) for (int d = 0; d < 3; d++) for (int own = 0; own < 2; own++) {
    int64_t n = all[k].n, C = all[k].channels;
    PareDtype stats = d == 2 && !own ? PARE_F32 : types[d]; /* a model may keep them wide */
    if (own && all[k].rank < 3) continue;
    clear(&c);
    pare_attr_set(&c.attr, epsilon, 1e-3);
    PareTensor *x = filled(input(&c, types[d], all[k].rank, all[k].dim), 1, -1, 5);
    PareTensor *scale = filled(input(&c, stats, DIMS(C)), 2, -2, 2);
    PareTensor *bias = filled(input(&c, stats, DIMS(C)), 3, -2, 2);
    PareTensor *mean = own ? NULL : filled(input(&c, stats, DIMS(C)), 4, -2, 2);
    PareTensor *var = own ? NULL : filled(input(&c, stats, DIMS(C)), 5, 0.5, 2);
    PareTensor *y = like(&c, x), want = tensor(&c, PARE_F64, all[k].rank, all[k].dim);
    must(&c, own ? PARE_OP_INSTANCENORM : PARE_OP_BATCHNORM);
    for (int64_t i = 0; i < count(x); i++) {
      int64_t channel = i / n % C, first = i / n * n;
      double m = own ? 0 : get(mean, channel), v = own ? 0 : get(var, channel);
      for (int64_t j = 0; own && j < n; j++) m += get(x, first + j) / (double)n;
      for (int64_t j = 0; own && j < n; j++) v += (get(x, first + j) - m) * (get(x, first + j) - m) / (double)n;
      put(&want, i, (get(x, i) - m) / sqrt(v + 1e-3) * get(scale, channel) + get(bias, channel));
    }
    near(y, &want, d ? 2 : 64, own ? "InstanceNormalization" : "BatchNormalization"); /* sums of n numbers in double */
  }
}

/* op, of floats alone, the numbers' range, start, step by an element, what is made of s, the sum of `each` */
#define REDUCERS(X)                                                           \
  X(REDUCESUM, false, -9, 9, 0, s + v, s)                                     \
  X(REDUCEMEAN, true, -9, 9, 0, s + v, s / (double)each)                      \
  X(REDUCEPROD, false, 1, 1.0078125, 1, s *v, s)                              \
  X(REDUCEMAX, false, -9, 9, -INFINITY, fmax(s, v), s)                        \
  X(REDUCEMIN, false, -9, 9, INFINITY, fmin(s, v), s)                         \
  X(REDUCEL1, false, -9, 9, 0, s + fabs(v), s)                                \
  X(REDUCEL2, true, -9, 9, 0, s + v * v, sqrt(s))                             \
  X(REDUCELOGSUM, true, 2, 9, 0, s + v, log(s))                               \
  X(REDUCELOGSUMEXP, true, -9, 9, 0, s + exp(v), log(s))                      \
  X(REDUCESUMSQUARE, false, -9, 9, 0, s + v * v, s)

Test(reduce, folds_every_choice_of_axes_in_every_type) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  const int64_t dim[] = {3, 4, 2, 150};
  EACH_LEVEL(c) for (int mask = 0; mask < 16; mask++) for (int d = 0; d < 5; d++) {
    int64_t kept[4], axes[4], n = 0, each = 1;
    for (int i = 0; i < 4; i++) {
      bool fold = mask >> i & 1;
      kept[i] = fold ? 1 : dim[i];
      if (fold) axes[n++] = i % 2 ? i - 4 : i, each *= dim[i];
    }
#define X(id, floats, lo, hi, start, step, end)                                                   \
  if (pare_dtype_is_float(types[d]) || !floats) {                                                 \
    clear(&c);                                                                                    \
    pare_attr_set(&c.attr, noop_with_empty_axes, 1);                                              \
    PareTensor *x = filled(input(&c, types[d], 4, dim), 8, lo, hi), *a = input(&c, PARE_I64, 1, &n); \
    for (int64_t i = 0; i < n; i++) put(a, i, (double)axes[i]);                                   \
    PareTensor *y = output(&c, types[d], 4, kept), want = tensor(&c, PARE_F64, 4, kept);          \
    must(&c, PARE_OP_##id);                                                                       \
    for (int64_t i = 0; i < count(&want); i++) put(&want, i, start);                              \
    for (int64_t i = 0; i < count(x); i++) {                                                      \
      int64_t o = broadcast(&want.type, &x->type, i);                                             \
      double s = get(&want, o), v = get(x, i);                                                    \
      put(&want, o, step);                                                                        \
    }                                                                                             \
    for (int64_t i = 0; i < count(&want); i++) {                                                  \
      double s = get(&want, i);                                                                   \
      put(&want, i, end);                                                                         \
    }                                                                                             \
    near(y, &want, pare_dtype_is_int(types[d]) ? 0 : types[d] == PARE_F64 ? (double)each : 2, #id); \
  }
    REDUCERS(X)
#undef X
  }
}

/* v as an integer of type d holds it. */
static double cut(PareDtype d, uint64_t v) {
  return d == PARE_I8 ? (double)(int8_t)v : d == PARE_I16 ? (double)(int16_t)v : (double)(uint8_t)v;
}
Test(reduce, and_cumsum_of_small_integers_wrap_around) {
  enum { N = 41 };
  const PareDtype types[] = {PARE_I8, PARE_I16, PARE_U8};
  const PareOp ops[] = {PARE_OP_REDUCESUM, PARE_OP_REDUCEPROD, PARE_OP_REDUCEL1, PARE_OP_REDUCESUMSQUARE,
                        PARE_OP_REDUCEMAX, PARE_OP_REDUCEMIN,  PARE_OP_CUMSUM,   PARE_OP_CUMPROD};
  EACH_LEVEL(c) for (int d = 0; d < 3; d++) for (int k = 0; k < 8; k++) {
    clear(&c);
    PareTensor *x = input(&c, types[d], DIMS(N));
    for (int i = 0; i < N; i++) put(x, i, cut(types[d], pare_rng_u64(3, (uint64_t)i) | 1));
    put(x, 7, d == 2 ? 255 : d ? -32768 : -128);
    bool runs = k >= 6;
    if (runs) listed(input(&c, PARE_I64, SCALAR), LIST(0));
    PareTensor *y = runs ? output(&c, types[d], DIMS(N)) : output(&c, types[d], DIMS(1));
    int64_t most = INT64_MIN, least = INT64_MAX;
    uint64_t sum = 0, product = 1, l1 = 0, squares = 0;
    must(&c, ops[k]);
    for (int i = 0; i < N; i++) {
      int64_t v = (int64_t)get(x, i);
      most = v > most ? v : most, least = v < least ? v : least;
      sum += (uint64_t)v, product *= (uint64_t)v, l1 += (uint64_t)(v < 0 ? -v : v), squares += (uint64_t)(v * v);
      if (!runs) continue;
      double want = cut(types[d], k == 6 ? sum : product);
      cr_assert_eq(get(y, i), want, "op %d at %d: got %g, want %g", k, i, get(y, i), want);
    }
    double want[] = {cut(types[d], sum), cut(types[d], product), cut(types[d], l1), cut(types[d], squares),
                     (double)most, (double)least};
    if (!runs) cr_assert_eq(get(y, 0), want[k], "op %d, type %d: got %g, want %g", k, d, get(y, 0), want[k]);
  }
}

Test(reduce, of_nothing_gives_the_neutral_element_and_nan_stays) {
  EACH_LEVEL(c) {
    input(&c, PARE_F32, DIMS(2, 0));
    PareTensor *y = output(&c, PARE_F32, DIMS(1, 1));
    const struct {
      PareOp op;
      double want;
    } all[] = {
        {PARE_OP_REDUCESUM, 0}, {PARE_OP_REDUCEPROD, 1}, {PARE_OP_REDUCEMAX, -INFINITY}, {PARE_OP_REDUCEMIN, INFINITY},
        {PARE_OP_REDUCEL1, 0}, {PARE_OP_REDUCEL2, 0}, {PARE_OP_REDUCELOGSUM, -INFINITY},
        {PARE_OP_REDUCELOGSUMEXP, -INFINITY}, {PARE_OP_REDUCESUMSQUARE, 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
      must(&c, all[i].op);
      cr_assert_eq(get(y, 0), all[i].want, "op %d: got %g, want %g", (int)all[i].op, get(y, 0), all[i].want);
    }
    clear(&c);
    PareTensor *x = filled(input(&c, PARE_F32, DIMS(77)), 1, 0, 1);
    y = output(&c, PARE_F32, SCALAR);
    put(x, 40, NAN);
    must(&c, PARE_OP_REDUCEMAX);
    cr_assert(isnan(get(y, 0)), "max: got %g", get(y, 0));
    must(&c, PARE_OP_REDUCEMIN);
    cr_assert(isnan(get(y, 0)), "min: got %g", get(y, 0));
    must(&c, PARE_OP_REDUCELOGSUMEXP);
    cr_assert(isnan(get(y, 0)), "log of the sum of exponentials: got %g", get(y, 0));
    clear(&c);
    input(&c, PARE_I32, DIMS(2, 0)), y = output(&c, PARE_I32, DIMS(1, 1));
    must(&c, PARE_OP_REDUCEMAX);
    cr_assert_eq(get(y, 0), INT32_MIN, "max of no integers: got %g", get(y, 0));
    must(&c, PARE_OP_REDUCEMIN);
    cr_assert_eq(get(y, 0), INT32_MAX, "min of no integers: got %g", get(y, 0));
  }
}

Test(reduce, log_of_a_sum_of_exponentials_neither_overflows_nor_vanishes) {
  EACH_LEVEL(c) for (int k = 0; k < 4; k++) {
    static const double at[] = {1000, -1000, -INFINITY, INFINITY};
    clear(&c);
    PareTensor *x = input(&c, PARE_F32, DIMS(4096)), *y = output(&c, PARE_F32, DIMS(1));
    for (int64_t i = 0; i < 4096; i++) put(x, i, at[k]);
    must(&c, PARE_OP_REDUCELOGSUMEXP);
    double want = at[k] + log(4096);
    cr_assert(get(y, 0) == want || fabs(get(y, 0) - want) < 1e-3, "of 4096 times %g: got %g", at[k], get(y, 0));
  }
}

/* Does x come before y? NaN is larger than any number. */
static bool larger(double x, double y) { return isnan(x) ? !isnan(y) : x > y; }

/* Lines of few different numbers, of which one or two may be NaNs; the reference sorts by insertion. */
Test(order, argmax_argmin_topk_and_hardmax_take_the_first_of_equal_elements) {
  static const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32, PARE_U8, PARE_I8};
  static const int64_t dims[][3] = {{3, 5, 4}, {2, 1, 7}, {1, 300, 3}, {2, 90, 1}, {0, 4, 3}};
  static const int64_t ks[] = {0, 1, 4, 70, 300};
  int64_t order[300];
  EACH_LEVEL(c) for (int s = 0; s < 5; s++) for (int d = 0; d < 7; d++) for (int mode = 0; mode < 8; mode++) {
    const int64_t *dim = dims[s], n = dim[1], inner = dim[2], lines = dim[0] * inner, kept[] = {dim[0], 1, inner};
    bool most = mode & 1, last = mode & 2, nan = (mode & 4) && d < 3;
    clear(&c);
    pare_attr_set(&c.attr, axis, mode & 4 ? -2 : 1);
    pare_attr_set(&c.attr, largest, most);
    PareTensor *x = input(&c, types[d], 3, dim);
    for (int64_t i = 0; i < count(x); i++) put(x, i, (double)(pare_rng_u64(8, (uint64_t)i) % 90));
    for (int64_t l = 0; nan && l < lines; l += 2) put(x, l / inner * n * inner + (l * 5 % n) * inner + l % inner, NAN);
    for (int64_t l = 0; nan && l < lines; l += 4) put(x, l / inner * n * inner + (l * 7 + 1) % n * inner + l % inner, NAN);
    PareTensor chosen = *output(&c, PARE_I64, 3, kept), hard = tensor(&c, types[d], 3, dim), top[5], at[5];
    pare_attr_set(&c.attr, select_last_index, last);
    must(&c, most ? PARE_OP_ARGMAX : PARE_OP_ARGMIN);
    c.nout = 2;
    listed(input(&c, PARE_I64, DIMS(1)), LIST(0));
    for (int i = 0; i < 5; i++) {
      int64_t to[] = {dim[0], ks[i], inner};
      if (ks[i] > n) continue;
      put(&c.in[1], 0, (double)ks[i]);
      c.out[0] = top[i] = tensor(&c, types[d], 3, to), c.out[1] = at[i] = tensor(&c, PARE_I64, 3, to);
      must(&c, PARE_OP_TOPK);
    }
    c.nin = c.nout = 1, c.out[0] = hard;
    if (d < 3) must(&c, PARE_OP_HARDMAX);
    for (int64_t l = 0; l < lines; l++) {
      int64_t from = l / inner * n * inner + l % inner, hot = 0, best;
      for (int64_t j = 0; j < n; j++) {
        double v = get(x, from + j * inner);
        int64_t i = j;
        for (; i > 0; i--) {
          double u = get(x, from + order[i - 1] * inner);
          if (!(most ? larger(v, u) : larger(u, v))) break;
          order[i] = order[i - 1];
        }
        order[i] = j;
        if (v > get(x, from + hot * inner)) hot = j;
      }
      best = order[0];
      for (int64_t j = 0; last && j < n; j++)
        if (get(x, from + j * inner) == get(x, from + best * inner)) best = j;
      cr_assert_eq(get(&chosen, l), (double)best, "shape %d type %d mode %d line %" PRId64 ": got %g, want %" PRId64, s,
                   d, mode, l, get(&chosen, l), best);
      for (int i = 0; i < 5; i++)
        for (int64_t r = 0; ks[i] <= n && r < ks[i]; r++) {
          int64_t o = l / inner * ks[i] * inner + r * inner + l % inner;
          double v = get(&top[i], o), want = get(x, from + order[r] * inner);
          cr_assert(get(&at[i], o) == (double)order[r] && (v == want || isnan(want)),
                    "shape %d type %d mode %d line %" PRId64 ": number %" PRId64 " is %g at %g, want %g at %" PRId64, s,
                    d, mode, l, r, v, get(&at[i], o), want, order[r]);
        }
      for (int64_t j = 0; d < 3 && j < n; j++)
        cr_assert_eq(get(&hard, from + j * inner), j == hot, "Hardmax: shape %d, line %" PRId64, s, l);
    }
  }
}

Test(order, argmax_of_an_empty_axis_is_refused_unless_there_are_no_lines) {
  EACH_LEVEL(c) {
    input(&c, PARE_F32, DIMS(2, 0)), output(&c, PARE_I64, DIMS(2, 1));
    pare_attr_set(&c.attr, axis, 1);
    cr_assert_eq(run(&c, PARE_OP_ARGMAX), PARE_DATA);
    clear(&c);
    input(&c, PARE_F32, DIMS(0, 3)), output(&c, PARE_I64, DIMS(0, 1));
    pare_attr_set(&c.attr, axis, 1);
    must(&c, PARE_OP_ARGMAX);
    clear(&c);
    listed(input(&c, PARE_F32, SCALAR), LIST(3));
    PareTensor *y = filled(output(&c, PARE_I64, SCALAR), 1, 4, 5);
    must(&c, PARE_OP_ARGMIN);
    cr_assert_eq(get(y, 0), 0, "of a scalar: got %g", get(y, 0));
  }
}

Test(reduce, cumsum_and_cumprod_run_both_ways) {
  static const PareOp ops[] = {PARE_OP_CUMSUM, PARE_OP_CUMPROD};
  static const double want[2][4][6] = {
      {{1, 3, 6, 4, 9, 15}, {0, 1, 3, 0, 4, 9}, {6, 5, 3, 15, 11, 6}, {5, 3, 0, 11, 6, 0}},
      {{1, 2, 6, 4, 20, 120}, {1, 1, 2, 1, 4, 20}, {6, 6, 3, 120, 30, 6}, {6, 3, 1, 30, 6, 1}}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  EACH_LEVEL(c) for (int op = 0; op < 2; op++) for (int mode = 0; mode < 4; mode++) for (int d = 0; d < 5; d++) {
    clear(&c);
    pare_attr_set(&c.attr, exclusive, mode & 1);
    pare_attr_set(&c.attr, reverse, mode >> 1);
    listed(input(&c, types[d], DIMS(2, 3)), LIST(1, 2, 3, 4, 5, 6));
    listed(input(&c, PARE_I64, SCALAR), LIST(-1));
    PareTensor *y = output(&c, types[d], DIMS(2, 3));
    must(&c, ops[op]);
    for (int i = 0; i < 6; i++)
      cr_assert_eq(get(y, i), want[op][mode][i], "op %d mode %d at %d: got %g", op, mode, i, get(y, i));
  }
}
