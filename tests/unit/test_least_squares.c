/* test_least_squares.c - moments and least squares against closed forms in plain double loops. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/rng.h"
#include "runtime/least_squares.h"
#include "support.h"

static double number(uint64_t key, int64_t i) { return 2 * pare_rng_uniform(key, (uint64_t)i) - 1; }

/* Sums of n products of numbers below 1, in f32 by blocks of 1024 and in f64 over blocks. */
static double moment_tolerance(double n) { return n * 1024 * 6e-8; }

Test(second_moments, are_the_weighted_sums_of_products_and_skip_rows_of_weight_zero) {
  enum { K = 7, ROWS = 2500, PART = 1100 };
  Fix f;
  PareSecondMoments *m;
  const double *h, *mean;
  int64_t rows, counted = 0;
  fix_init(&f);
  float *x = PARE_NEW_N(f.arena, ROWS * K, float), *w = PARE_NEW_N(f.arena, ROWS, float);
  double want[K][K] = {{0}}, sum[K] = {0}, total = 0;
  for (int64_t r = 0; r < ROWS; r++) {
    w[r] = r % 3 ? (float)(number(2, r) + 1) : 0;
    counted += w[r] != 0;
    total += (double)w[r];
    for (int64_t j = 0; j < K; j++) x[r * K + j] = (float)(number(1, r * K + j) + 0.5);
    for (int64_t i = 0; i < K; i++) {
      sum[i] += (double)w[r] * (double)x[r * K + i];
      for (int64_t j = 0; j < K; j++) want[i][j] += (double)w[r] * (double)x[r * K + i] * (double)x[r * K + j];
    }
  }
  MUST(&f, pare_second_moments_new(&f.c, K, &m));
  for (int64_t at = 0; at < ROWS; at += PART)
    MUST(&f, pare_second_moments_add(&f.c, m, ROWS - at < PART ? ROWS - at : PART, x + at * K, w + at));
  for (int centred = 0; centred < 2; centred++) {
    MUST(&f, pare_second_moments_get(&f.c, m, centred, &h, &mean, &rows));
    cr_expect_eq(rows, counted, "%lld rows counted, not %lld", (long long)rows, (long long)counted);
    for (int64_t i = 0; i < K; i++)
      for (int64_t j = 0; j < K; j++) {
        double is = h[i * K + j], right = want[i][j] - (centred ? sum[i] * sum[j] / total : 0);
        cr_expect_leq(fabs(is - right), moment_tolerance(4 * total), "[%d, %d] centred %d: %g, not %g", (int)i, (int)j,
                      centred, is, right);
      }
  }
  for (int64_t i = 0; i < K; i++)
    cr_expect_float_eq(mean[i], sum[i] / total, 1e-9, "mean %d: %g, not %g", (int)i, mean[i], sum[i] / total);
  pare_second_moments_free(m);
  fix_free(&f);
}

/* A = B'·B + I: its condition is below n + 1. */
static double *positive(Fix *f, int64_t n) {
  double *b = PARE_NEW_N(f->arena, n * n, double), *a = PARE_NEW_N(f->arena, n * n, double);
  for (int64_t i = 0; i < n * n; i++) b[i] = number(5, i);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      a[i * n + j] = i == j;
      for (int64_t t = 0; t < n; t++) a[i * n + j] += b[t * n + i] * b[t * n + j];
    }
  return a;
}

Test(cholesky, solves_systems_of_every_size_around_its_tiles) {
  static const int64_t sizes[] = {1, 2, 5, 63, 64, 65, 128, 150};
  enum { RHS = 3 };
  Fix f;
  fix_init(&f);
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s];
    double *a = positive(&f, n), *l = PARE_NEW_N(f.arena, n * n, double), *x = PARE_NEW_N(f.arena, n * RHS, double);
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) l[i * n + j] = a[i * n + j];
    for (int64_t i = 0; i < n * RHS; i++) x[i] = number(6, i);
    MUST(&f, pare_cholesky(&f.c, n, l));
    pare_cholesky_solve(n, l, RHS, x);
    for (int64_t r = 0; r < RHS; r++)
      for (int64_t i = 0; i < n; i++) {
        double is = 0, scale = 0;
        for (int64_t j = 0; j < n; j++) is += a[i * n + j] * x[r * n + j], scale += fabs(a[i * n + j] * x[r * n + j]);
        double right = number(6, r * n + i), limit = 4 * (double)n * 2.2e-16 * (scale + fabs(right)) * (double)(n + 1);
        cr_expect_leq(fabs(is - right), limit, "n %d, row %d of A·x is %.17g, not %.17g", (int)n, (int)i, is, right);
      }
  }
  fix_free(&f);
}

Test(cholesky, refuses_what_is_not_positive_definite) {
  Fix f;
  fix_init(&f);
  double a[] = {1, 0, 2, 1};
  cr_expect_eq(pare_cholesky(&f.c, 2, a), PARE_DATA);
  fix_free(&f);
}

/* Structured OBS: removing inputs with the best update of the rest costs the Schur complement's form, which no other
 * update is below; at the optimum the error is orthogonal to the kept inputs. */
Test(least_squares, leaves_an_error_that_the_kept_inputs_know_nothing_of) {
  enum { K = 9, N = 4, KEPT = 5, LOST = 4 };
  Fix f;
  fix_init(&f);
  double *h = positive(&f, K), w[LOST * N], g[KEPT * N];
  const int64_t kept[KEPT] = {0, 2, 3, 6, 8}, lost[LOST] = {1, 4, 5, 7};
  for (int64_t i = 0; i < LOST * N; i++) w[i] = number(8, i);
  MUST(&f, pare_least_squares(&f.c, K, h, KEPT, kept, LOST, lost, N, w, 0, g));
  for (int64_t i = 0; i < KEPT; i++)
    for (int64_t j = 0; j < N; j++) { /* E[x_kept·(x_lost·W - x_kept·G)] */
      double e = 0, scale = 0;
      for (int64_t t = 0; t < LOST; t++) e += h[kept[i] * K + lost[t]] * w[t * N + j];
      for (int64_t t = 0; t < LOST; t++) scale += fabs(h[kept[i] * K + lost[t]] * w[t * N + j]);
      for (int64_t t = 0; t < KEPT; t++) e -= h[kept[i] * K + kept[t]] * g[t * N + j];
      cr_expect_leq(fabs(e), 1e3 * 2.2e-16 * scale, "[%d, %d]: the error has %g of a kept input", (int)i, (int)j, e);
    }
  fix_free(&f);
}

Test(least_squares, takes_over_all_that_a_copy_of_an_input_carried) {
  enum { K = 3, N = 2 };
  Fix f;
  fix_init(&f);
  const double h[K * K] = {2, 0, 2, 0, 3, 0, 2, 0, 2}, w[N] = {5, -7}; /* input 2 is input 0 */
  const int64_t kept[] = {0, 1}, lost[] = {2};
  double g[2 * N];
  MUST(&f, pare_least_squares(&f.c, K, h, 2, kept, 1, lost, N, w, 0, g));
  const double want[2 * N] = {5, -7, 0, 0};
  for (int i = 0; i < 2 * N; i++) cr_expect_float_eq(g[i], want[i], 1e-12, "%d: %g, not %g", i, g[i], want[i]);
  fix_free(&f);
}
