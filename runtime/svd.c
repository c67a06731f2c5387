#include "runtime/svd.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"

enum { MORE = 8, ITERATIONS = 60, SWEEPS = 40 }; /* columns beyond those wanted; at most */
static const double GROWTH = 1e-6;

/* --- small symmetric matrices --- */

/* Turns rows and columns p and q so that a[p][q] is zero. */
static void rotate(int64_t n, double *a, double *vector, int64_t p, int64_t q) {
  double apq = a[p * n + q];
  if (apq == 0) return;
  double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
  double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
  double cs = 1 / sqrt(t * t + 1), sn = t * cs;
  for (int64_t i = 0; i < n; i++) {
    double x = a[i * n + p], y = a[i * n + q];
    a[i * n + p] = cs * x - sn * y;
    a[i * n + q] = sn * x + cs * y;
  }
  for (int64_t i = 0; i < n; i++) {
    double x = a[p * n + i], y = a[q * n + i];
    a[p * n + i] = cs * x - sn * y;
    a[q * n + i] = sn * x + cs * y;
  }
  for (int64_t i = 0; vector && i < n; i++) {
    double x = vector[p * n + i], y = vector[q * n + i];
    vector[p * n + i] = cs * x - sn * y;
    vector[q * n + i] = sn * x + cs * y;
  }
}

static double off_diagonal(int64_t n, const double *a) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < i; j++) sum += a[i * n + j] * a[i * n + j];
  return sum;
}

static void swap_rows(int64_t n, double *m, int64_t i, int64_t j) {
  for (int64_t k = 0; k < n; k++) {
    double x = m[i * n + k];
    m[i * n + k] = m[j * n + k];
    m[j * n + k] = x;
  }
}

static void sort_falling(int64_t n, double *value, double *vector) {
  for (int64_t i = 0; i < n; i++) {
    int64_t best = i;
    for (int64_t j = i + 1; j < n; j++)
      if (value[j] > value[best]) best = j;
    double x = value[i];
    value[i] = value[best];
    value[best] = x;
    if (vector && best != i) swap_rows(n, vector, i, best);
  }
}

void pare_eigen_symmetric(int64_t n, double *a, double *value, double *vector) {
  double all = off_diagonal(n, a);
  for (int64_t i = 0; i < n; i++) all += a[i * n + i] * a[i * n + i];
  for (int64_t i = 0; vector && i < n * n; i++) vector[i] = i % (n + 1) == 0;
  for (int sweep = 0; sweep < SWEEPS && off_diagonal(n, a) > 1e-30 * all; sweep++)
    for (int64_t p = 0; p < n; p++)
      for (int64_t q = p + 1; q < n; q++) rotate(n, a, vector, p, q);
  for (int64_t i = 0; i < n; i++) value[i] = a[i * n + i];
  sort_falling(n, value, vector);
}

/* --- tall matrices: columns in rows of memory, [p, rows] --- */

/* y [p, k] = x [p, n] · W' */
static void apply(int64_t k, int64_t n, const float *w, int64_t p, const double *x, double *y) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < k; i++)
    for (int64_t c = 0; c < p; c++) {
      double sum = 0;
      const double *col = x + c * n;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < n; j++) sum += (double)w[i * n + j] * col[j];
      y[c * k + i] = sum;
    }
}

/* x [p, n] = y [p, k] · W */
static void apply_transposed(int64_t k, int64_t n, const float *w, int64_t p, const double *y, double *x) {
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < p; c++) {
    double *col = x + c * n;
    memset(col, 0, (size_t)n * sizeof *col);
    for (int64_t i = 0; i < k; i++) {
      double f = y[c * k + i];
#pragma omp simd
      for (int64_t j = 0; j < n; j++) col[j] += f * (double)w[i * n + j];
    }
  }
}

static double dot(int64_t n, const double *a, const double *b) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

/* Gram and Schmidt, each column twice; one that depends on those before it becomes zero. */
static void orthonormalise(int64_t p, int64_t rows, double *q) {
  for (int64_t c = 0; c < p; c++) {
    double *col = q + c * rows, before = sqrt(dot(rows, col, col));
    for (int pass = 0; pass < 2; pass++)
      for (int64_t d = 0; d < c; d++) {
        double f = dot(rows, col, q + d * rows);
        for (int64_t i = 0; i < rows; i++) col[i] -= f * q[d * rows + i];
      }
    double norm = sqrt(dot(rows, col, col)), scale = norm > 1e-12 * before ? 1 / norm : 0;
    for (int64_t i = 0; i < rows; i++) col[i] *= scale;
  }
}

typedef struct Room {
  int64_t k, n, p;
  double *q, *z, *gram, *value, *vector; /* [p, k], [p, n], [p, p], [p], [p, p] */
} Room;

static PareStatus make_room(PareCtx *c, int64_t k, int64_t n, int64_t p, Room *r) {
  *r = (Room){k, n, p, PARE_NEW_N(c->scratch, p * k, double), PARE_NEW_N(c->scratch, p * n, double),
              PARE_NEW_N(c->scratch, p * p, double), PARE_NEW_N(c->scratch, p, double),
              PARE_NEW_N(c->scratch, p * p, double)};
  return r->q && r->z && r->gram && r->value && r->vector ? PARE_OK : pare_nomem(c);
}

/* q: an orthonormal basis of what W maps most onto; z = q·W. */
static PareStatus find_range(PareCtx *c, const float *w, uint64_t seed, int64_t r, Room *m) {
  double held = 0;
  for (int64_t i = 0; i < m->p * m->n; i++) m->z[i] = 2 * pare_rng_uniform(seed, (uint64_t)i) - 1;
  for (int step = 0; step < ITERATIONS; step++) {
    double now = 0;
    apply(m->k, m->n, w, m->p, m->z, m->q);
    orthonormalise(m->p, m->k, m->q);
    apply_transposed(m->k, m->n, w, m->p, m->q, m->z);
    for (int64_t i = 0; i < m->p; i++)
      for (int64_t j = 0; j < m->p; j++) m->gram[i * m->p + j] = dot(m->n, m->z + i * m->n, m->z + j * m->n);
    pare_eigen_symmetric(m->p, m->gram, m->value, m->vector);
    for (int64_t i = 0; i < r; i++) now += m->value[i];
    if (!isfinite(now)) return pare_error(c, PARE_DATA, "a weight has elements that are not finite");
    if (now - held <= GROWTH * now) break;
    held = now;
  }
  return PARE_OK;
}

PareStatus pare_svd_top(PareCtx *c, int64_t k, int64_t n, const float *w, int64_t r, uint64_t seed, double *u,
                        double *s, double *vt) {
  int64_t least = k < n ? k : n, p = r + MORE < least ? r + MORE : least;
  PareMark mark = pare_arena_mark(c->scratch);
  Room m;
  PARE_TRY(make_room(c, k, n, p, &m));
  PARE_TRY(find_range(c, w, seed, r, &m));
  for (int64_t j = 0; j < r; j++) {
    const double *e = m.vector + j * p;
    s[j] = sqrt(m.value[j] > 0 ? m.value[j] : 0);
    for (int64_t i = 0; i < k; i++) {
      u[i * r + j] = 0;
      for (int64_t q = 0; q < p; q++) u[i * r + j] += e[q] * m.q[q * k + i];
    }
    for (int64_t i = 0; i < n; i++) {
      vt[j * n + i] = 0;
      for (int64_t q = 0; q < p && s[j] > 0; q++) vt[j * n + i] += e[q] * m.z[q * n + i] / s[j];
    }
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
