/* test_scores.c - the kernels that score weights and groups, against their definitions in float64. */
#include "kernel_call.h"

/* Sums over the rows and the columns of |G·(W + s·A·B)|^power, G = A·dB + dA·B - eta·dA·dB, or 1 without gradients
 * (arXiv 2305.18403, equation 7): row [K], col [N] in float64. */
static void define_scores(Call *c, const PareTensor *W, const PareTensor *A, const PareTensor *B, const PareTensor *dA,
                          const PareTensor *dB, PareTensor *row, PareTensor *col) {
  int64_t K = A->type.dim[0], N = B->type.dim[1], r = A->type.dim[1];
  bool t = pare_attr_get(&c->attr, transB, 0);
  double s = pare_attr_get(&c->attr, scale, 1.0), eta = pare_attr_get(&c->attr, alpha, 1.0);
  *row = tensor(c, PARE_F64, DIMS(K)), *col = tensor(c, PARE_F64, DIMS(N));
  for (int64_t i = 0; i < K; i++)
    for (int64_t j = 0; j < N; j++) {
      double g = 0, ab = 0;
      for (int64_t q = 0; q < r; q++) {
        double a = get(A, i * r + q), b = get(B, q * N + j);
        double da = dA ? get(dA, i * r + q) : 0, db = dA ? get(dB, q * N + j) : 0;
        g += a * db + da * b - eta * da * db;
        ab += a * b;
      }
      double e = fabs((dA ? g : 1) * (get(W, t ? j * K + i : i * N + j) + s * ab));
      e = pare_attr_get(&c->attr, power, 2) == 2 ? e * e : e;
      put(row, i, get(row, i) + e), put(col, j, get(col, j) + e);
    }
}

/* With and without gradients, W stored both ways round, both powers. */
Test(importance, agrees_with_the_definition_in_float64) {
  const struct { int64_t K, N, r; } all[] = {{37, 61, 3}, {64, 300, 8}, {300, 64, 4}, {5, 1, 1}, {1, 600, 6}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < 5; k++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 8; mode++) {
    bool t = mode & 1, gradient = mode & 2;
    int64_t K = all[k].K, N = all[k].N, r = all[k].r;
    PareDtype adapters = types[d] == PARE_F64 ? PARE_F64 : PARE_F32;
    PareTensor wrow, wcol;
    clear(&c);
    pare_attr_set(&c.attr, scale, 0.5);
    pare_attr_set(&c.attr, alpha, 0.25);
    pare_attr_set(&c.attr, power, mode & 4 ? 2 : 1);
    pare_attr_set(&c.attr, transB, t);
    PareTensor *W = filled(t ? input(&c, types[d], DIMS(N, K)) : input(&c, types[d], DIMS(K, N)), 1, -1, 1);
    PareTensor *A = filled(input(&c, adapters, DIMS(K, r)), 2, -1, 1);
    PareTensor *B = filled(input(&c, adapters, DIMS(r, N)), 3, -1, 1);
    PareTensor *dA = filled(input(&c, adapters, DIMS(K, r)), 4, -1, 1);
    PareTensor *dB = filled(input(&c, adapters, DIMS(r, N)), 5, -1, 1);
    PareTensor *row = output(&c, adapters, DIMS(K)), *col = output(&c, adapters, DIMS(N));
    define_scores(&c, W, A, B, gradient ? dA : NULL, dB, &wrow, &wcol);
    if (!gradient) c.nin = 3, c.in[3] = c.in[4] = (PareTensor){0};
    must(&c, PARE_OP_IMPORTANCE);
    near(row, &wrow, 32, "row"), near(col, &wcol, 32, "col");
  }
}

#ifndef PARE_TEST_CUDA /* which scores weights by themselves */
/* In all ways that W is merged: by tiles, of long sums in bf16 and in parts in f32, for oneDNN, for f64; masks or none.
 * dx, dA and dB are what they are without scores, and scores are of that dA and dB. */
Test(importance, of_a_layer_agrees_with_the_definition_where_its_gradient_merges_the_weight) {
  static const int64_t all[][4] = {{7, 33, 20, 3}, {65, 70, 300, 8}, {1, 1, 1, 1}, {70, 96, 64, 5},
                                   {5, 50, 2111, 8}, {3, 2100, 40, 2}, {64, 70, 900, 8}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 3; d++)
  for (int mode = 0; mode < 8; mode++) {
    int64_t m = all[k][0], K = all[k][1], N = all[k][2], r = all[k][3];
    bool t = mode & 1, masked = mode & 2;
    PareDtype sums = types[d] == PARE_F64 ? PARE_F64 : PARE_F32;
    PareTensor wrow, wcol, plain[3], *out[3];
    clear(&c);
    pare_attr_set(&c.attr, scale, 0.5);
    pare_attr_set(&c.attr, alpha, 0.25);
    pare_attr_set(&c.attr, power, mode & 4 ? 2 : 1);
    pare_attr_set(&c.attr, transB, t);
    PareTensor *x = filled(input(&c, types[d], DIMS(m, K)), 1, -1, 1);
    PareTensor *W = filled(t ? input(&c, sums, DIMS(N, K)) : input(&c, sums, DIMS(K, N)), 2, -1, 1);
    filled(input(&c, types[d], DIMS(m, N)), 3, -1, 1);
    PareTensor *A = filled(input(&c, sums, DIMS(K, r)), 4, -1, 1), *B = filled(input(&c, sums, DIMS(r, N)), 5, -1, 1);
    if (masked) {
      PareTensor *mask = filled(input(&c, sums, DIMS(K)), 6, 0, 1);
      for (int64_t i = 0; i < K; i += 3) put(mask, i, 0);
    }
    out[0] = like(&c, x), out[1] = like(&c, A), out[2] = like(&c, B);
    for (int i = 0; i < 3; i++) plain[i] = *out[i];
    must(&c, PARE_OP_LINEARGRAD);
    c.nout = 0;
    out[0] = like(&c, x), out[1] = like(&c, A), out[2] = like(&c, B);
    c.out[c.nout++] = (PareTensor){0};
    PareTensor *row = output(&c, sums, DIMS(K)), *col = output(&c, sums, DIMS(N));
    must(&c, PARE_OP_LINEARGRAD);
    for (int i = 0; i < 3; i++)
      for (int64_t at = 0; at < count(out[i]); at++)
        cr_assert_eq(get(out[i], at), get(&plain[i], at), "result %d at %" PRId64 ": %g, without scores %g", i, at,
                     get(out[i], at), get(&plain[i], at));
    define_scores(&c, W, A, B, out[1], out[2], &wrow, &wcol);
    near(row, &wrow, 32, "row"), near(col, &wcol, 32, "col");
  }
}
#endif

Test(importance, groups_add_their_members) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_F32, DIMS(5)), LIST(1, 2, 4, 8, 16));
    PareTensor *gid = listed(input(&c, PARE_I32, DIMS(5)), LIST(1, -1, 0, 1, 1));
    input(&c, PARE_F32, DIMS(3));
    PareTensor *y = output(&c, PARE_F32, DIMS(3));
    must(&c, PARE_OP_GROUPSUM);
    cr_assert(get(y, 0) == 4 && get(y, 1) == 25 && get(y, 2) == 0, "%g %g %g", get(y, 0), get(y, 1), get(y, 2));
    put(gid, 0, 3);
    cr_assert_eq(run(&c, PARE_OP_GROUPSUM), PARE_DATA);
  }
}

/* A gradient from two pairs, adapters' gradients, norms or nothing; W both ways round; signs, sizes and squares. */
Test(weight_score, agrees_with_the_definition_in_float64) {
  const struct { int64_t K, N, r, M; } all[] = {{37, 61, 3, 5}, {20, 300, 8, 300}, {300, 64, 4, 1}, {1, 129, 6, 70}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  enum { PAIRS_GIVEN, ADAPTERS_GIVEN, NORM_GIVEN, NOTHING_GIVEN };
  EACH_LEVEL(c) for (int k = 0; k < 4; k++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 24; mode++) {
    int given = mode % 4, power = mode / 4 % 3;
    bool t = mode >= 12;
    int64_t K = all[k].K, N = all[k].N, r = all[k].r, M = all[k].M;
    double s = 0.5, eta = 0.25;
    PareDtype type = types[d] == PARE_F64 ? PARE_F64 : PARE_F32;
    clear(&c);
    pare_attr_set(&c.attr, scale, s);
    pare_attr_set(&c.attr, alpha, eta);
    pare_attr_set(&c.attr, power, power);
    pare_attr_set(&c.attr, transB, t);
    PareTensor *W = filled(t ? input(&c, type, DIMS(N, K)) : input(&c, type, DIMS(K, N)), 1, -1, 1);
    PareTensor *A = filled(input(&c, type, DIMS(K, r)), 2, -1, 1), *B = filled(input(&c, type, DIMS(r, N)), 3, -1, 1);
    PareTensor *dA = filled(input(&c, type, DIMS(K, r)), 4, -1, 1), *dB = filled(input(&c, type, DIMS(r, N)), 5, -1, 1);
    PareTensor *norm = filled(input(&c, type, DIMS(K)), 6, 0, 1), *x[2], *dy[2];
    for (int p = 0; p < 2; p++) {
      x[p] = filled(input(&c, types[d], DIMS(M, K)), 7 + (uint64_t)p, -1, 1);
      dy[p] = filled(input(&c, types[d], DIMS(M, N)), 9 + (uint64_t)p, -1, 1);
    }
    PareTensor *row = output(&c, type, DIMS(K)), *col = output(&c, type, DIMS(N));
    PareTensor *each = t ? output(&c, type, DIMS(N, K)) : output(&c, type, DIMS(K, N));
    PareTensor wrow = tensor(&c, PARE_F64, DIMS(K)), wcol = tensor(&c, PARE_F64, DIMS(N));
    PareTensor weach = t ? tensor(&c, PARE_F64, DIMS(N, K)) : tensor(&c, PARE_F64, DIMS(K, N));
    for (int64_t i = 0; i < K; i++)
      for (int64_t j = 0; j < N; j++) {
        double g = given == NORM_GIVEN ? get(norm, i) : given == NOTHING_GIVEN ? 1 : 0, ab = 0;
        for (int64_t q = 0; q < r; q++) {
          double a = get(A, i * r + q), b = get(B, q * N + j), da = get(dA, i * r + q), db = get(dB, q * N + j);
          if (given == ADAPTERS_GIVEN) g += a * db + da * b - eta * da * db;
          ab += a * b;
        }
        for (int p = 0; p < 2 && given == PAIRS_GIVEN; p++)
          for (int64_t m = 0; m < M; m++) g += eta * get(x[p], m * K + i) * get(dy[p], m * N + j);
        int64_t at = t ? j * K + i : i * N + j;
        double e = -g * (get(W, at) + s * ab);
        e = power == 2 ? e * e : power == 1 ? fabs(e) : e;
        put(&wrow, i, get(&wrow, i) + e), put(&wcol, j, get(&wcol, j) + e), put(&weach, at, e);
      }
    if (given != PAIRS_GIVEN) c.nin = 6;
    if (given != ADAPTERS_GIVEN) c.in[3] = c.in[4] = (PareTensor){0};
    if (given != NORM_GIVEN) c.in[5] = (PareTensor){0};
    must(&c, PARE_OP_WEIGHTSCORE);
    near(row, &wrow, 32, "row"), near(col, &wcol, 32, "col"), near(each, &weach, 32, "elements");
  }
}

static double phi_times(double x) { return x * erfc(-x / sqrt(2)) / 2; }
static double tanh_gelu(double x) { return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x))); }

/* By itself, and behind a GELU, whose own gradient is the op's without a mask. What is summed is rounded to 2^-12 in bf16. */
Test(mask_grad, is_the_sum_over_the_rows_of_the_input_times_its_gradient) {
  static const int64_t all[][3] = {{1, 1, 1}, {2, 3, 8}, {3, 50, 31}, {2, 300, 64}, {5, 129, 24}, {1, 0, 16}, {0, 3, 8}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 3; d++)
  for (int gelu = 0; gelu < 3; gelu++) {
    const int64_t rows = all[k][0] * all[k][1], n = all[k][2];
    PareDtype sums = types[d] == PARE_F64 ? PARE_F64 : PARE_F32;
    clear(&c);
    if (gelu) pare_attr_set(&c.attr, approximate, gelu - 1);
    PareTensor *x = filled(input(&c, types[d], 3, all[k]), 1, -3, 3), *dx = filled(input(&c, types[d], 3, all[k]), 2, -1, 1);
    PareTensor *alone = gelu ? output(&c, types[d], 3, all[k]) : NULL, slope = {0}, want = tensor(&c, PARE_F64, DIMS(n));
    if (gelu) must(&c, PARE_OP_GELUGRAD), slope = *alone, c.nout = 0;
    input(&c, sums, DIMS(n)); /* whose type alone is read */
    PareTensor *dh = gelu ? output(&c, types[d], 3, all[k]) : NULL, *y = output(&c, sums, DIMS(n));
    must(&c, gelu ? PARE_OP_GELUGRAD : PARE_OP_MASKGRAD);
    for (int64_t i = 0; i < rows * n; i++) {
      double v = get(x, i), u = gelu == 0 ? v : gelu == 1 ? phi_times(v) : tanh_gelu(v);
      put(&want, i % n, get(&want, i % n) + u * get(dx, i));
    }
    near(y, &want, gelu && types[d] == PARE_BF16 ? 0x1p12 * sqrt((double)rows + 1) : 32, "mask");
    if (gelu) near(dh, &slope, 2, "gelu's gradient beside it"), in_place(&c, PARE_OP_GELUGRAD, 0), in_place(&c, PARE_OP_GELUGRAD, 1);
  }
}

/* Rows of three samples, two after each other, twice over; groups along axis 2, which an axis follows. */
Test(sample_sum, keeps_samples_apart) {
  EACH_LEVEL(c) {
    const int64_t groups[] = {1, -1, 0, 1};
    clear(&c);
    pare_attr_set(&c.attr, axis, 2);
    pare_attr_set(&c.attr, group, 3);
    pare_attr_set(&c.attr, block_size, 2);
    PareTensor *v = filled(input(&c, PARE_F32, DIMS(2, 6, 4, 5)), 1, -1, 1);
    PareTensor *dv = filled(input(&c, PARE_F32, DIMS(2, 6, 4, 5)), 2, -1, 1);
    PareTensor *gid = listed(input(&c, PARE_I32, DIMS(4)), LIST(1, -1, 0, 1));
    input(&c, PARE_F32, DIMS(2));
    PareTensor *y = output(&c, PARE_F32, DIMS(3, 2)), want = tensor(&c, PARE_F64, DIMS(3, 2));
    for (int64_t i = 0; i < 240; i++) {
      int64_t at = i / 20 / 2 % 3 * 2 + groups[i / 5 % 4];
      if (groups[i / 5 % 4] >= 0) put(&want, at, get(&want, at) + get(v, i) * get(dv, i));
    }
    must(&c, PARE_OP_SAMPLESUM);
    near(y, &want, 32, "sums");
    /* 12 rows of four samples of two, so that the second turn lacks the last two */
    pare_attr_set(&c.attr, group, 4);
    *y = tensor(&c, PARE_F32, DIMS(4, 2)), want = tensor(&c, PARE_F64, DIMS(4, 2));
    for (int64_t i = 0; i < 240; i++) {
      int64_t at = i / 20 / 2 % 4 * 2 + groups[i / 5 % 4];
      if (groups[i / 5 % 4] >= 0) put(&want, at, get(&want, at) + get(v, i) * get(dv, i));
    }
    must(&c, PARE_OP_SAMPLESUM);
    near(y, &want, 32, "sums of an unfinished turn");
    put(gid, 0, 2);
    cr_assert_eq(run(&c, PARE_OP_SAMPLESUM), PARE_DATA);
  }
}
