/* test_obs.c - what dropping a group of inputs costs. Truth: the least squares that are left, solved by elimination. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "runtime/obs.h"
#include "support.h"

enum { ROWS = 60, K = 14, N = 5, GROUPS = 4 };

/* Sum over rows of (x·W - x_rest·V)², with a ridge on what changes, minimised over V: in the quadratic form H + ridge, the rest R of the inputs answers for the group S, d'·(H_SS - H_SR·H_RR^-1·H_RS)·d summed over W's columns. */
static double brute_force(const double *h, const double *w, const int64_t *group, int64_t g) {
  double a[K][K + N], error = 0;
  int64_t rest[K], nrest = 0;
  for (int64_t i = 0; i < K; i++)
    if (group[i] != g) rest[nrest++] = i;
  for (int64_t i = 0; i < nrest; i++) { /* H_RR·V = H_RS·W_S */
    for (int64_t j = 0; j < nrest; j++) a[i][j] = h[rest[i] * K + rest[j]];
    for (int64_t c = 0; c < N; c++) {
      a[i][nrest + c] = 0;
      for (int64_t s = 0; s < K; s++)
        if (group[s] == g) a[i][nrest + c] += h[rest[i] * K + s] * w[s * N + c];
    }
  }
  for (int64_t p = 0; p < nrest; p++) /* Gauss and Jordan; H is positive definite */
    for (int64_t i = 0; i < nrest; i++) {
      double f = i == p ? 0 : a[i][p] / a[p][p];
      for (int64_t j = 0; f != 0 && j < nrest + N; j++) a[i][j] -= f * a[p][j];
    }
  for (int64_t c = 0; c < N; c++) {
    double d[K]; /* the change of column c: what goes, and what the rest takes over */
    for (int64_t i = 0; i < K; i++) d[i] = group[i] == g ? -w[i * N + c] : 0;
    for (int64_t i = 0; i < nrest; i++) d[rest[i]] = a[i][nrest + c] / a[i][i];
    for (int64_t i = 0; i < K; i++)
      for (int64_t j = 0; j < K; j++) error += d[i] * h[i * K + j] * d[j];
  }
  return error;
}

Test(obs, scores_are_the_errors_that_the_best_of_the_rest_leaves) {
  Fix f;
  fix_init(&f);
  for (uint64_t seed = 0; seed < 20; seed++) {
    double h[K * K] = {0}, damped[K * K], w[K * N], score[GROUPS] = {0}, trace = 0, damping = seed % 2 ? 0.01 : 0.3;
    int64_t group[K];
    for (int r = 0; r < ROWS; r++) {
      double x[K];
      for (int i = 0; i < K; i++) x[i] = pare_rng_uniform(seed, (uint64_t)(r * K + i)) - 0.4 + (i ? 0.5 * x[i - 1] : 0);
      for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) h[i * K + j] += x[i] * x[j];
    }
    for (int i = 0; i < K * N; i++) w[i] = pare_rng_uniform(seed + 100, (uint64_t)i) - 0.5;
    for (int i = 0; i < K; i++) group[i] = i == 5 ? -1 : (i * 3 + (int64_t)seed) % GROUPS, trace += h[i * K + i];
    memcpy(damped, h, sizeof h);
    for (int i = 0; i < K; i++) damped[i * K + i] += damping * trace / K;
    MUST(&f, pare_obs_scores(&f.c, K, h, damping * trace / K, N, w, GROUPS, group, score));
    for (int64_t g = 0; g < GROUPS; g++) {
      double want = brute_force(damped, w, group, g);
      cr_assert(fabs(score[g] - want) <= 1e-9 * want, "seed %lu, group %ld: %.12g, not %.12g", (unsigned long)seed, (long)g,
                score[g], want);
    }
  }
  fix_free(&f);
}
