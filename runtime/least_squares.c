/* least_squares.c - see least_squares.h. The products of moments are the CPU's Gemm; the rest is in f64. */
#include "runtime/least_squares.h"

#include <math.h>
#include <string.h>

#include "runtime/program.h"

/* --- second moments --- */

enum { BLOCK_ROWS = 1024 };
/* Of f32's sums over a block, 2^-24 a row at most: what is left of inputs that hardly vary is no smaller than this. */
static const double ROUNDING = BLOCK_ROWS * 0x1p-24;

struct PareSecondMoments {
  PareArena *arena;
  int64_t k, rows;
  PareGraph *graph;
  PareProgram *program;
  PareValue *x, *weighted, *product; /* [BLOCK_ROWS, K] twice, their product [K, K] */
  int64_t filled;
  double *h, *centred, *sum, *mean, weight;
};

static PareStatus build(PareCtx *c, PareSecondMoments *m) {
  PareType rows = {PARE_F32, 2, {BLOCK_ROWS, m->k}};
  PareAttrs transposed = {0};
  pare_attr_set(&transposed, transA, 1);
  if (!(m->graph = pare_graph_new(c, m->arena))) return c->diag.code;
  m->x = pare_value_add(c, m->graph, PARE_INPUT, "x", rows);
  m->weighted = pare_value_add(c, m->graph, PARE_INPUT, "weighted", rows);
  if (!m->x || !m->weighted) return c->diag.code;
  m->product = PARE_EMIT(c, m->graph, NULL, PARE_OP_GEMM, "moments", &transposed, m->weighted, m->x);
  if (!m->product || !pare_vec_push(m->arena, &m->graph->outputs, m->product)) return c->diag.code;
  PARE_TRY(pare_program_new(c, m->graph, pare_cpu_kernels(), &m->program));
  m->h = PARE_NEW_N(m->arena, m->k * m->k, double);
  m->sum = PARE_NEW_N(m->arena, m->k, double);
  m->mean = PARE_NEW_N(m->arena, m->k, double);
  return m->h && m->sum && m->mean ? PARE_OK : pare_nomem(c);
}

PareStatus pare_second_moments_new(PareCtx *c, int64_t k, PareSecondMoments **out) {
  PareArena *a = pare_arena_new(1 << 16);
  PareSecondMoments *m = a ? PARE_NEW(a, PareSecondMoments) : NULL;
  if (!m) return pare_arena_free(a), pare_nomem(c);
  m->arena = a;
  m->k = k;
  PareStatus s = build(c, m);
  if (s == PARE_OK) *out = m;
  else pare_second_moments_free(m);
  return s;
}

void pare_second_moments_free(PareSecondMoments *m) {
  if (!m) return;
  pare_program_free(m->program);
  pare_arena_free(m->arena);
}

/* Takes the block in; rows that it lacks are zero. */
static PareStatus flush(PareCtx *c, PareSecondMoments *m) {
  if (!m->filled) return PARE_OK;
  size_t from = (size_t)(m->filled * m->k), bytes = (size_t)(BLOCK_ROWS * m->k) * sizeof(float) - from * sizeof(float);
  memset((float *)pare_program_buffer(m->program, m->x) + from, 0, bytes);
  memset((float *)pare_program_buffer(m->program, m->weighted) + from, 0, bytes);
  PARE_TRY(pare_program_run(c, m->program, -1));
  const float *p = pare_program_buffer(m->program, m->product);
  for (int64_t i = 0; i < m->k * m->k; i++) m->h[i] += (double)p[i];
  m->filled = 0;
  return PARE_OK;
}

PareStatus pare_second_moments_add(PareCtx *c, PareSecondMoments *m, int64_t rows, const float *x,
                                   const float *weight) {
  float *plain = pare_program_buffer(m->program, m->x), *weighted = pare_program_buffer(m->program, m->weighted);
  for (int64_t r = 0; r < rows; r++) {
    float w = weight ? weight[r] : 1;
    if (w == 0) continue;
    float *to = plain + m->filled * m->k, *also = weighted + m->filled * m->k;
    for (int64_t j = 0; j < m->k; j++) {
      to[j] = x[r * m->k + j];
      also[j] = w * to[j];
      m->sum[j] += (double)w * (double)to[j];
    }
    m->weight += (double)w;
    m->rows++;
    if (++m->filled == BLOCK_ROWS) PARE_TRY(flush(c, m));
  }
  return PARE_OK;
}

PareStatus pare_second_moments_get(PareCtx *c, PareSecondMoments *m, bool centred, const double **h,
                                   const double **mean, int64_t *rows) {
  PARE_TRY(flush(c, m));
  int64_t k = m->k;
  for (int64_t i = 0; i < k; i++) m->mean[i] = m->weight > 0 ? m->sum[i] / m->weight : 0;
  if (centred && !m->centred && !(m->centred = PARE_NEW_N(m->arena, k * k, double))) return pare_nomem(c);
  for (int64_t i = 0; centred && i < k; i++) {
    for (int64_t j = 0; j < k; j++) m->centred[i * k + j] = m->h[i * k + j] - m->weight * m->mean[i] * m->mean[j];
    m->centred[i * k + i] += ROUNDING * m->h[i * k + i];
  }
  if (h) *h = centred ? m->centred : m->h;
  if (mean) *mean = m->mean;
  if (rows) *rows = m->rows;
  return PARE_OK;
}

/* --- Cholesky --- */

enum { TILE = 64 }; /* rows and columns of a tile: two of them and what they make stay in the second cache */

/* a·b', c -= it: rows of a [m, k] and b [n, k] are `stride` apart, as are c's. Four dots at once. */
static void subtract_product(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c,
                             int64_t stride) {
  for (int64_t i = 0; i < m; i++) {
    const double *x = a + i * stride;
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
      const double *y0 = b + j * stride, *y1 = y0 + stride, *y2 = y1 + stride, *y3 = y2 + stride;
      double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t t = 0; t < k; t++) s0 += x[t] * y0[t], s1 += x[t] * y1[t], s2 += x[t] * y2[t], s3 += x[t] * y3[t];
      double *to = c + i * stride + j;
      to[0] -= s0, to[1] -= s1, to[2] -= s2, to[3] -= s3;
    }
    for (; j < n; j++) {
      double s = 0;
#pragma omp simd reduction(+ : s)
      for (int64_t t = 0; t < k; t++) s += x[t] * b[j * stride + t];
      c[i * stride + j] -= s;
    }
  }
}

/* The tile on the diagonal, [m, m]. */
static bool factor_tile(int64_t m, double *a, int64_t stride) {
  for (int64_t j = 0; j < m; j++) {
    double *row = a + j * stride, d = row[j];
    for (int64_t t = 0; t < j; t++) d -= row[t] * row[t];
    if (!(d > 0) || !isfinite(d)) return false;
    row[j] = sqrt(d);
    for (int64_t i = j + 1; i < m; i++) {
      double s = a[i * stride + j];
      for (int64_t t = 0; t < j; t++) s -= a[i * stride + t] * row[t];
      a[i * stride + j] = s / row[j];
    }
  }
  return true;
}

/* x <- x·L'^-1 for each row x of [m, n], L the tile on the diagonal. */
static void solve_tile(int64_t m, int64_t n, const double *l, double *x, int64_t lstride, int64_t xstride) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double s = x[i * xstride + j];
      for (int64_t t = 0; t < j; t++) s -= x[i * xstride + t] * l[j * lstride + t];
      x[i * xstride + j] = s / l[j * lstride + j];
    }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

PareStatus pare_cholesky(PareCtx *c, int64_t n, double *a) {
  for (int64_t j = 0; j < n; j += TILE) { /* left-looking: each tile is written once */
    int64_t width = least(TILE, n - j);
#pragma omp parallel for schedule(static, 1)
    for (int64_t i = j; i < n; i += TILE)
      subtract_product(least(TILE, n - i), width, j, a + i * n, a + j * n, a + i * n + j, n);
    if (!factor_tile(width, a + j * n + j, n)) return pare_error(c, PARE_DATA, "the moments are not positive definite");
#pragma omp parallel for schedule(static, 1)
    for (int64_t i = j + TILE; i < n; i += TILE)
      solve_tile(least(TILE, n - i), width, a + j * n + j, a + i * n + j, n, n);
  }
  return PARE_OK;
}

/* One right-hand side: L·y = b, then L'·x = y. */
static void solve_one(int64_t n, const double *l, double *b) {
  for (int64_t i = 0; i < n; i++) {
    const double *row = l + i * n;
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t t = 0; t < i; t++) s += row[t] * b[t];
    b[i] = (b[i] - s) / row[i];
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    const double *row = l + i * n;
    double x = b[i] /= row[i];
#pragma omp simd
    for (int64_t t = 0; t < i; t++) b[t] -= x * row[t];
  }
}

void pare_cholesky_solve(int64_t n, const double *l, int64_t rhs, double *b) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rhs; r++) solve_one(n, l, b + r * n);
}

/* --- the weights --- */

/* g [nkept, n] <- H[kept, lost]·W. */
static void lost_part(int64_t k, const double *h, int64_t nkept, const int64_t *kept, int64_t nlost,
                      const int64_t *lost, int64_t n, const double *w, double *g) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < nkept; i++) {
    double *row = g + i * n;
    for (int64_t j = 0; j < n; j++) row[j] = 0;
    for (int64_t d = 0; d < nlost; d++) {
      double x = h[kept[i] * k + lost[d]];
#pragma omp simd
      for (int64_t j = 0; j < n; j++) row[j] += x * w[d * n + j];
    }
  }
}

static void transpose(int64_t rows, int64_t cols, const double *from, double *to) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
}

/* a [nkept, nkept] <- the factor of H[kept, kept] + ridge·I, of which a ridge that is too small for H's rounding grows. */
static PareStatus factor_kept(PareCtx *c, int64_t k, const double *h, int64_t nkept, const int64_t *kept, double ridge,
                              double *a) {
  enum { TRIES = 12 };
  PareDiag before = c->diag;
  PareStatus s = PARE_DATA;
  for (int try = 0; try < TRIES && s == PARE_DATA; try++, ridge *= 10) {
    c->diag = before;
    for (int64_t i = 0; i < nkept; i++) {
      for (int64_t j = 0; j <= i; j++) a[i * nkept + j] = h[kept[i] * k + kept[j]];
      a[i * nkept + i] += ridge;
    }
    s = pare_cholesky(c, nkept, a);
  }
  return s;
}

PareStatus pare_least_squares(PareCtx *c, int64_t k, const double *h, int64_t nkept, const int64_t *kept,
                              int64_t nlost, const int64_t *lost, int64_t n, const double *w, double damping,
                              double *g) {
  PareMark mark = pare_arena_mark(c->scratch);
  double *a = PARE_NEW_N(c->scratch, nkept * nkept + 1, double), *b = PARE_NEW_N(c->scratch, n * nkept + 1, double);
  if (!a || !b) return pare_nomem(c);
  double trace = 0;
  for (int64_t i = 0; i < k; i++) trace += h[i * k + i];
  double ridge = damping * trace / (double)k + 1e-30; /* a layer whose inputs are all zero has nothing to give */
  PARE_TRY(factor_kept(c, k, h, nkept, kept, ridge, a));
  lost_part(k, h, nkept, kept, nlost, lost, n, w, g);
  transpose(nkept, n, g, b);
  pare_cholesky_solve(nkept, a, n, b);
  transpose(n, nkept, b, g);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
