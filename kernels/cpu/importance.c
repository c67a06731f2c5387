/* importance.c - LoRAPrune's score of a weight from its adapters alone, summed
 * over rows and columns, in one pass over W; and sums by group. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

/* Our orientation is y = x·W, W[K,N], adapters A[K,r], B[r,N] (the paper's eq. 7 transposed):
 *   G = A·dB + dA·B - eta·dA·dB,   I = |G·(W + s·A·B)|^power,   row_k = sum_n I, col_n = sum_k I.
 * For a line of W as it is stored, G and A·B are sums over r of a number of the line times a vector over its
 * positions:  G = sum u_r·P_r + v_r·Q_r,  A·B = sum w_r·Q_r.
 *   W[K,N], line k:  P = dB, Q = B,   u = A_k - eta·dA_k, v = dA_k, w = A_k
 *   W[N,K], line n:  P = dA', Q = A', u = B_n - eta·dB_n, v = dB_n, w = B_n   (A' is A transposed)
 * With dA and dB left out G is 1: the magnitude of the merged weights. */
#ifndef T
enum { BLOCK = 256 };

typedef struct Scores {
  int64_t lines, width, r, parts; /* of W as it is stored */
  bool square, gradient;
  double scale;
} Scores;

static Scores scores_of(const PareKernelArgs *a) {
  const PareType *w = &a->in[0].type, *adapter = &a->in[1].type;
  return (Scores){.lines = w->dim[0], .width = w->dim[1], .r = adapter->dim[1],
                  .parts = pare_min_i64(PARE_PARTS, w->dim[0]), .square = a->attr->power == 2,
                  .gradient = pare_given(a, 4), .scale = pare_attr_get(a->attr, scale, 1.0)};
}

/* P and Q are stored in blocks of positions, each block [r, BLOCK]: rows of a power of two apart would fight for the
 * same sets of the cache. */
static size_t blocked(const Scores *s) { return (size_t)(pare_ceil_div(s->width, BLOCK) * BLOCK * s->r); }

/* u, v, w [lines, r]; P, Q; sums of the lines [lines]; by parts, of the positions [parts, width]. */
PareStatus PARE_CPU(plan_IMPORTANCE)(PareKernelArgs *a) {
  Scores s = scores_of(a);
  size_t size = a->in[0].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float);
  a->workspace_bytes = size * (2 * blocked(&s) + (size_t)((3 * s.r + 1) * s.lines + PARE_PARTS * s.width));
  return PARE_OK;
}

#define PARE_TEMPLATE "kernels/cpu/importance.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(IMPORTANCE, importance)
PARE_FLOAT_KERNEL(GROUPSUM, group_sum)

#else /* the template */
/* u, v, w of all lines and P, Q from the adapters; the stored line of W runs along `b` unless it is transposed. */
static void FN(pack)(const PareKernelArgs *a, const Scores *s, C *u, C *v, C *w, C *p, C *q) {
  double eta = pare_attr_get(a->attr, alpha, 1.0);
  bool t = a->attr->transB;
  const PareTensor *A = &a->in[1], *B = &a->in[2], *dA = &a->in[3], *dB = &a->in[4];
  const PareTensor *line = t ? B : A, *dline = t ? dB : dA, *across = t ? A : B, *dacross = t ? dA : dB;
  for (int64_t i = 0; i < s->lines; i++)
    for (int64_t j = 0; j < s->r; j++) {
      int64_t at = t ? j * s->lines + i : i * s->r + j;
      double x = pare_get_float(line, at), d = s->gradient ? pare_get_float(dline, at) : 0;
      u[i * s->r + j] = s->gradient ? (C)(x - eta * d) : 0;
      v[i * s->r + j] = (C)d;
      w[i * s->r + j] = (C)x;
    }
  for (int64_t j = 0; j < s->r; j++)
    for (int64_t i = 0; i < s->width; i++) {
      int64_t at = t ? i * s->r + j : j * s->width + i, to = (i / BLOCK * s->r + j) * BLOCK + i % BLOCK;
      p[to] = s->gradient ? (C)pare_get_float(dacross, at) : 0;
      q[to] = (C)pare_get_float(across, at);
    }
}

/* g[i] += u·P + v·Q and d[i] += w·Q over `r` (1 or 4) terms. */
static PARE_INLINE void FN(terms)(int r, int64_t n, const C *u, const C *v, const C *w, const C *p,
                                  const C *q, C *g, C *d) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    C gi = g[i], di = d[i];
    for (int j = 0; j < r; j++) {
      C pj = p[j * BLOCK + i], qj = q[j * BLOCK + i];
      gi += u[j] * pj;
      gi += v[j] * qj;
      di += w[j] * qj;
    }
    g[i] = gi;
    d[i] = di;
  }
}

/* Adds the scores of n <= BLOCK elements of a line to col; returns their sum. */
static C FN(score)(const Scores *s, int64_t n, const T *x, const C *u, const C *v, const C *w, const C *p, const C *q,
                   C *col) {
  C g[BLOCK], d[BLOCK] = {0}, sum = 0, scale = (C)s->scale;
  for (int i = 0; i < BLOCK; i++) g[i] = s->gradient ? 0 : 1;
  int64_t j = 0;
  for (; j + 4 <= s->r; j += 4) FN(terms)(4, n, u + j, v + j, w + j, p + j * BLOCK, q + j * BLOCK, g, d);
  for (; j < s->r; j++) FN(terms)(1, n, u + j, v + j, w + j, p + j * BLOCK, q + j * BLOCK, g, d);
  bool square = s->square;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) {
    C e = MATH(fabs)(g[i] * (LOAD(x[i]) + scale * d[i]));
    e = square ? e * e : e;
    col[i] += e;
    sum += e;
  }
  return sum;
}

/* Lines lo..hi-1: their sums, and their share of the positions' sums. P and Q stay in the cache for a block. */
static void FN(score_part)(const Scores *s, int64_t lo, int64_t hi, const T *x, const C *u, const C *v, const C *w,
                           const C *p, const C *q, C *line, C *col) {
  for (int64_t i = 0; i < s->width; i++) col[i] = 0;
  for (int64_t k = lo; k < hi; k++) line[k] = 0;
  for (int64_t at = 0; at < s->width; at += BLOCK)
    for (int64_t k = lo; k < hi; k++)
      line[k] += FN(score)(s, pare_min_i64(BLOCK, s->width - at), x + k * s->width + at, u + k * s->r, v + k * s->r,
                           w + k * s->r, p + at * s->r, q + at * s->r, col + at);
}

/* Outputs: row[K], col[N]; a transposed W's lines are columns. */
static PareStatus FN(importance)(PareKernelArgs *a) {
  Scores s = scores_of(a);
  C *u = a->workspace, *v = u + s.lines * s.r, *w = v + s.lines * s.r, *p = w + s.lines * s.r;
  C *q = p + blocked(&s), *line = q + blocked(&s), *col = line + s.lines;
  int by_line = a->attr->transB ? 1 : 0, by_position = 1 - by_line;
  const T *x = a->in[0].data;
  FN(pack)(a, &s, u, v, w, p, q);
#pragma omp parallel for schedule(static) if (pare_threaded(s.lines * s.width))
  for (int64_t k = 0; k < s.parts; k++) {
    int64_t lo, hi;
    pare_part(s.lines, s.parts, k, &lo, &hi);
    FN(score_part)(&s, lo, hi, x, u, v, w, p, q, line, col + k * s.width);
  }
  for (int64_t i = 0; i < s.lines; i++) pare_put_float(&a->out[by_line], i, (double)line[i]);
  for (int64_t i = 0; i < s.width; i++) {
    double sum = 0;
    for (int64_t k = 0; k < s.parts; k++) sum += (double)col[k * s.width + i];
    pare_put_float(&a->out[by_position], i, sum);
  }
  return PARE_OK;
}

/* out[g] = sum of vec_k over gid_k = g; -1 belongs to no group. Inputs: vec, gid, like. Vectors are short:
 * one thread. */
static PareStatus FN(group_sum)(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]), groups = pare_count(&a->out[0]);
  const T *x = a->in[0].data;
  T *y = a->out[0].data;
  for (int64_t g = 0; g < groups; g++) y[g] = STORE(0);
  for (int64_t k = 0; k < n; k++) {
    int64_t g = pare_get_int(&a->in[1], k);
    if (g < -1 || g >= groups) return pare_bad(a, "a group number is out of range");
    if (g >= 0) y[g] = STORE(LOAD(y[g]) + LOAD(x[k]));
  }
  return PARE_OK;
}
#endif
