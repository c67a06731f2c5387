/* test_svd.c - singular triples and eigenvalues against matrices that are made of known ones: the vectors are those of
 * the discrete cosine transform, which are orthonormal. */
#include <criterion/criterion.h>
#include <math.h>

#include "runtime/svd.h"
#include "support.h"

static double cosine(int64_t n, int64_t j, int64_t i) {
  double scale = j ? sqrt(2.0 / (double)n) : sqrt(1.0 / (double)n);
  return scale * cos(acos(-1) * ((double)i + 0.5) * (double)j / (double)n);
}

/* W [k, n] = sum over j < count of value(j)·u_j·v_j'. */
static float *made_of(Fix *f, int64_t k, int64_t n, int64_t count, double (*value)(int64_t)) {
  float *w = PARE_NEW_N(f->arena, k * n, float);
  for (int64_t i = 0; i < k; i++)
    for (int64_t q = 0; q < n; q++) {
      double sum = 0;
      for (int64_t j = 0; j < count; j++) sum += value(j) * cosine(k, j, i) * cosine(n, j, q);
      w[i * n + q] = (float)sum;
    }
  return w;
}

static double halving(int64_t j) { return 8 * pow(0.5, (double)j); }
static double slow(int64_t j) { return 3 - 0.05 * (double)j; }

/* Rounding W to f32 moves a singular value by no more than the norm of what was rounded. */
static double rounding(int64_t k, int64_t n, double largest) { return 6e-8 * largest * sqrt((double)(k < n ? k : n)); }

static void check_triples(int64_t k, int64_t n, int64_t r) {
  Fix f;
  fix_init(&f);
  float *w = made_of(&f, k, n, k < n ? k : n, halving);
  double *u = PARE_NEW_N(f.arena, k * r, double), *s = PARE_NEW_N(f.arena, r, double);
  double *vt = PARE_NEW_N(f.arena, r * n, double), tolerance = rounding(k, n, 8);
  MUST(&f, pare_svd_top(&f.c, k, n, w, r, 1, u, s, vt));
  for (int64_t j = 0; j < r; j++) {
    double along_u = 0, along_v = 0;
    for (int64_t i = 0; i < k; i++) along_u += u[i * r + j] * cosine(k, j, i);
    for (int64_t i = 0; i < n; i++) along_v += vt[j * n + i] * cosine(n, j, i);
    cr_expect_float_eq(s[j], halving(j), tolerance, "[%d, %d] value %d is %g, not %g", (int)k, (int)n, (int)j, s[j],
                       halving(j));
    /* vectors turn by the rounding over the gap to the next value, which is half of this one */
    double turn = 2 * tolerance / halving(j), cos2 = 1 - turn * turn - 1e-9;
    cr_expect_geq(along_u * along_v, cos2, "[%d, %d] vectors %d: %g, not 1", (int)k, (int)n, (int)j, along_u * along_v);
  }
  fix_free(&f);
}

Test(svd, gives_the_largest_triples_of_a_wide_a_tall_and_a_small_matrix) {
  check_triples(40, 90, 6);
  check_triples(90, 40, 6);
  check_triples(12, 9, 9);
}

Test(svd, holds_nearly_all_that_can_be_held_where_values_lie_close_together) {
  enum { K = 60, N = 50, R = 5 };
  Fix f;
  fix_init(&f);
  float *w = made_of(&f, K, N, N, slow);
  double u[K * R], s[R], vt[R * N], held = 0, best = 0;
  MUST(&f, pare_svd_top(&f.c, K, N, w, R, 1, u, s, vt));
  for (int64_t j = 0; j < R; j++) held += s[j] * s[j], best += slow(j) * slow(j);
  cr_expect_geq(held, 0.99 * best, "%g of %g", held, best);
  cr_expect_leq(held, best * (1 + 1e-6), "more than there is: %g of %g", held, best);
  fix_free(&f);
}

Test(svd, says_so_when_a_weight_is_not_finite) {
  Fix f;
  float w[4] = {1, 2, NAN, 3};
  double u[2], s[1], vt[2];
  fix_init(&f);
  cr_expect_eq(pare_svd_top(&f.c, 2, 2, w, 1, 0, u, s, vt), PARE_DATA);
  fix_free(&f);
}

Test(eigenvalues, of_a_symmetric_matrix_are_those_that_it_was_made_of) {
  enum { N = 7 };
  double a[N * N], value[N], vector[N * N];
  for (int i = 0; i < N; i++)
    for (int k = 0; k < N; k++) {
      a[i * N + k] = 0;
      for (int j = 0; j < N; j++) a[i * N + k] += (4 - j) * cosine(N, j, i) * cosine(N, j, k);
    }
  pare_eigen_symmetric(N, a, value, vector);
  for (int j = 0; j < N; j++) {
    double along = 0;
    for (int i = 0; i < N; i++) along += vector[j * N + i] * cosine(N, j, i);
    cr_expect_float_eq(value[j], 4 - j, 1e-12, "value %d is %g, not %d", j, value[j], 4 - j);
    cr_expect_float_eq(fabs(along), 1, 1e-12, "vector %d: %g, not 1", j, along);
  }
}
