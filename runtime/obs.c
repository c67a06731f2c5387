/* obs.c - see obs.h. With H = L·L', columns of L^-1 are all that is needed: (H^-1)_SS = Y'·Y, Y the columns of S. */
#include "runtime/obs.h"

#include <math.h>
#include <string.h>

#include "runtime/least_squares.h"

/* y [K] <- column j of L^-1; zero above j. */
static void inverse_column(int64_t k, const double *l, int64_t j, double *y) {
  memset(y, 0, (size_t)j * sizeof *y);
  y[j] = 1 / l[j * k + j];
  for (int64_t i = j + 1; i < k; i++) {
    const double *row = l + i * k;
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t t = j; t < i; t++) s += row[t] * y[t];
    y[i] = -s / row[i];
  }
}

/* m [s, s], lower triangle <- the factor of Y·Y', the rows of Y [s, K] being columns of L^-1. */
static bool factor_inverse(int64_t s, int64_t k, const double *y, double *m) {
  for (int64_t i = 0; i < s; i++)
    for (int64_t j = 0; j <= i; j++) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t t = 0; t < k; t++) sum += y[i * k + t] * y[j * k + t];
      for (int64_t t = 0; t < j; t++) sum -= m[i * s + t] * m[j * s + t];
      if (i == j && !(sum > 0)) return false;
      m[i * s + j] = i == j ? sqrt(sum) : sum / m[j * s + j];
    }
  return true;
}

/* Sum over the columns of |F^-1·W_S|², F the factor m; v: [s]. */
static double error_of(int64_t s, const double *m, int64_t n, const double *w, const int64_t *member, double *v) {
  double sum = 0;
  for (int64_t c = 0; c < n; c++)
    for (int64_t i = 0; i < s; i++) {
      v[i] = w[member[i] * n + c];
      for (int64_t t = 0; t < i; t++) v[i] -= m[i * s + t] * v[t];
      v[i] /= m[i * s + i];
      sum += v[i] * v[i];
    }
  return sum;
}

/* The inputs of the groups, group after group: first[g] .. first[g + 1] of member. The largest group's size. */
static int64_t list_members(int64_t k, int64_t ngroups, const int64_t *group, int64_t *first, int64_t *member) {
  int64_t most = 0, n = 0;
  for (int64_t g = 0; g < ngroups; g++) {
    first[g] = n;
    for (int64_t i = 0; i < k; i++)
      if (group[i] == g) member[n++] = i;
    if (n - first[g] > most) most = n - first[g];
  }
  first[ngroups] = n;
  return most;
}

static double *damped_factor(PareCtx *c, int64_t k, const double *h, double ridge) {
  double *l = PARE_NEW_N(c->scratch, k * k + 1, double);
  if (!l) return (void)pare_nomem(c), NULL;
  memcpy(l, h, (size_t)(k * k) * sizeof *l);
  for (int64_t i = 0; i < k; i++) l[i * k + i] += ridge + 1e-30; /* inputs may all be zero */
  return pare_cholesky(c, k, l) == PARE_OK ? l : NULL;
}

PareStatus pare_obs_scores(PareCtx *c, int64_t k, const double *h, double ridge, int64_t n, const double *w,
                           int64_t ngroups, const int64_t *group, double *score) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *first = PARE_NEW_N(c->scratch, ngroups + 1, int64_t), *member = PARE_NEW_N(c->scratch, k + 1, int64_t);
  if (!first || !member) return pare_nomem(c);
  int64_t most = list_members(k, ngroups, group, first, member), each = most * k + most * most + most;
  const double *l = damped_factor(c, k, h, ridge);
  double *work = l ? PARE_NEW_N(c->scratch, ngroups * each + 1, double) : NULL;
  if (!work) return c->diag.code ? c->diag.code : pare_nomem(c);
  bool definite = true;
#pragma omp parallel for schedule(dynamic, 1) reduction(&& : definite)
  for (int64_t g = 0; g < ngroups; g++) {
    int64_t s = first[g + 1] - first[g];
    double *y = work + g * each, *m = y + s * k, *v = m + s * s;
    for (int64_t i = 0; i < s; i++) inverse_column(k, l, member[first[g] + i], y + i * k);
    bool ok = factor_inverse(s, k, y, m);
    if (ok) score[g] += error_of(s, m, n, w, member + first[g], v);
    definite = definite && ok;
  }
  pare_arena_rewind(c->scratch, mark);
  return definite ? PARE_OK : pare_error(c, PARE_DATA, "the moments are not positive definite");
}
