/* importance.c - LoRAPrune's score of a weight from its adapters alone, summed
 * over rows and columns, in one pass over W; and sums by group. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

/* Our orientation is y = x·W, W[K,N], adapters A[K,r], B[r,N] (the paper's eq. 7 transposed):
 *   G = A·dB + dA·B - eta·dA·dB,   I = |G·(W + s·A·B)|^power,   row_k = sum_n I, col_n = sum_k I.
 * For a line of W as it is stored, G and A·B are sums over r of a number of the line times a vector over its
 * positions:  G = sum u_r·P_r + v_r·Q_r,  s·A·B = sum w_r·Q_r.
 *   W[K,N], line k:  P = dB, Q = B,   u = A_k - eta·dA_k, v = dA_k, w = s·A_k
 *   W[N,K], line n:  P = dA', Q = A', u = B_n - eta·dB_n, v = dB_n, w = s·B_n   (A' is A transposed)
 * With dA and dB left out G is 1: the magnitude of the merged weights. Adapters and sums have the type of the
 * arithmetic (f32 for W in bf16). */
#ifndef T
/* So many lines of W are read side by side, a vector of each while P and Q stay in registers. */
enum { LINES = 16, TERMS = 8 };

typedef struct Scores {
  int64_t lines, width, r, parts; /* of W as it is stored */
  int64_t terms, padded;          /* r and width with zeros up to whole groups of TERMS and whole vectors */
  bool square, gradient;
  double scale;
} Scores;

static size_t sum_bytes(PareDtype d) { return d == PARE_F64 ? sizeof(double) : sizeof(float); }

static Scores scores_of(const PareKernelArgs *a) {
  const PareType *w = &a->in[0].type;
  Scores s = {.lines = w->dim[0], .width = w->dim[1], .r = a->in[1].type.dim[1], .square = a->attr->power == 2,
              .gradient = pare_given(a, 4), .scale = pare_attr_get(a->attr, scale, 1.0)};
  int64_t lanes = 64 / (int64_t)sum_bytes(w->dtype);
  s.parts = pare_min_i64(PARE_PARTS, s.lines);
  s.terms = pare_ceil_div(s.r, TERMS) * TERMS;
  s.padded = pare_ceil_div(s.width, lanes) * lanes;
  return s;
}

/* u, v, w [lines, terms]; P, Q [vectors, terms, lanes]; sums of the lines; by parts, of the positions. */
PareStatus PARE_CPU(plan_IMPORTANCE)(PareKernelArgs *a) {
  Scores s = scores_of(a);
  a->workspace_bytes = sum_bytes(a->in[0].type.dtype) *
                       (size_t)(3 * s.terms * s.lines + 2 * s.terms * s.padded + s.lines + PARE_PARTS * s.padded);
  return PARE_OK;
}

#define PARE_TEMPLATE "kernels/cpu/importance.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(IMPORTANCE, importance)
PARE_FLOAT_KERNEL(GROUPSUM, group_sum)

#else /* the template */
/* u, v, w of the lines lo..hi-1. The stored line of W runs along B's rows unless it is transposed. */
static void FN(pack_lines)(const PareKernelArgs *a, const Scores *s, int64_t lo, int64_t hi, C *u, C *v, C *w) {
  C eta = (C)pare_attr_get(a->attr, alpha, 1.0), scale = (C)s->scale;
  bool t = a->attr->transB;
  const C *x = a->in[t ? 2 : 1].data, *d = s->gradient ? a->in[t ? 4 : 3].data : NULL;
  for (int64_t i = lo; i < hi; i++)
    for (int64_t j = 0; j < s->terms; j++) {
      int64_t at = t ? j * s->lines + i : i * s->r + j, to = i * s->terms + j;
      bool real = j < s->r;
      w[to] = real ? scale * x[at] : 0;
      v[to] = real && d ? d[at] : 0;
      u[to] = real && d ? x[at] - eta * d[at] : 0;
    }
}

/* P and Q of the positions at..at+LANES-1. */
static void FN(pack_positions)(const PareKernelArgs *a, const Scores *s, int64_t at, C *p, C *q) {
  bool t = a->attr->transB;
  const C *x = a->in[t ? 1 : 2].data, *d = s->gradient ? a->in[t ? 3 : 4].data : NULL;
  for (int64_t j = 0; j < s->terms; j++)
    for (int64_t i = 0; i < LANES; i++) {
      int64_t from = t ? (at + i) * s->r + j : j * s->width + at + i, to = at * s->terms + j * LANES + i;
      bool real = j < s->r && at + i < s->width;
      q[to] = real ? x[from] : 0;
      p[to] = real && d ? d[from] : 0;
    }
}

/* Vectors go by pointer: levels without AVX-512 have no registers to pass them in. */
static PARE_INLINE void FN(load_weights)(const T *x, int64_t n, FN(Vec) *out) {
  T raw[64 / sizeof(C)] = {0};
  C full[64 / sizeof(C)];
  memcpy(raw, x, (size_t)n * sizeof *raw); /* x may lie at any address */
  for (int64_t i = 0; i < LANES; i++) full[i] = LOAD(raw[i]);
  *out = VEC(full);
}

/* A vector of a line of W becomes e = |G·(W + s·A·B)| ^ power. Without gradients u and v are zero and G is 1. */
static PARE_INLINE void FN(score)(const Scores *s, int64_t terms, const C *u, const C *v, const C *w,
                                  const FN(Vec) *p, const FN(Vec) *q, FN(Vec) *x) {
  FN(Vec) g = (FN(Vec)){0} + (C)!s->gradient, h = {0}, d = *x;
  for (int64_t j = 0; j < terms; j++) g += u[j] * p[j];
  for (int64_t j = 0; j < terms; j++) h += v[j] * q[j];
  for (int64_t j = 0; j < terms; j++) d += w[j] * q[j];
  FN(Vec) e = (g + h) * d;
  *x = PARE_POWER(s->square, e);
}

/* The vector at `at` of the lines lo..hi-1: adds to a sum for each line, and to the sum over them. The lines are far
 * apart in memory, where no processor looks ahead by itself: the next group's are asked for. */
static PARE_INLINE void FN(score_column)(const Scores *s, int64_t terms, int64_t lo, int64_t hi, int64_t at,
                                            const T *x, const C *u, const C *v, const C *w, const FN(Vec) *p,
                                            const FN(Vec) *q, FN(Vec) *line, FN(Vec) *sum) {
  FN(Vec) col = {0};
  int64_t n = pare_min_i64(LANES, s->width - at);
  for (int64_t k = lo; k < hi; k++) {
    const T *from = x + k * s->width + at;
    FN(Vec) e;
    if (k + LINES < s->lines) __builtin_prefetch(from + LINES * s->width, 0, 2);
    if (n == LANES) FN(load_weights)(from, LANES, &e);
    else FN(load_weights)(from, n, &e);
    FN(score)(s, terms, u + k * terms, v + k * terms, w + k * terms, p, q, &e);
    col += e;
    line[k - lo] += e;
  }
  *sum += col;
}

/* The same with P and Q of a usual rank in registers, and sums of so many lines at once that no addition waits. */
static void FN(score_column_short)(const Scores *s, int64_t lo, int64_t hi, int64_t at, const T *x, const C *u,
                                   const C *v, const C *w, const FN(Vec) *p, const FN(Vec) *q, FN(Vec) *line,
                                   FN(Vec) *sum) {
  enum { SIDE = 2 };
  FN(Vec) pr[TERMS], qr[TERMS], col = {0};
  int64_t k = lo;
  for (int64_t j = 0; j < TERMS; j++) pr[j] = p[j], qr[j] = q[j];
  for (; at + LANES <= s->width && k + SIDE <= hi; k += SIDE) {
    FN(Vec) g[SIDE], h[SIDE] = {0}, d[SIDE];
    for (int i = 0; i < SIDE; i++) {
      const T *from = x + (k + i) * s->width + at;
      if (k + LINES < s->lines) __builtin_prefetch(from + LINES * s->width, 0, 2);
      g[i] = (FN(Vec)){0} + (C)!s->gradient;
      FN(load_weights)(from, LANES, &d[i]);
    }
    for (int j = 0; j < TERMS; j++)
      for (int i = 0; i < SIDE; i++) {
        int64_t t = (k + i) * TERMS + j;
        g[i] += u[t] * pr[j], h[i] += v[t] * qr[j], d[i] += w[t] * qr[j];
      }
    for (int i = 0; i < SIDE; i++) {
      FN(Vec) e = (g[i] + h[i]) * d[i];
      e = PARE_POWER(s->square, e);
      col += e;
      line[k - lo + i] += e;
    }
  }
  *sum += col;
  FN(score_column)(s, TERMS, k, hi, at, x, u, v, w, pr, qr, line + (k - lo), sum);
}

/* Lines lo..hi-1: their sums, and their share of the positions' sums. */
static void FN(score_part)(const Scores *s, int64_t lo, int64_t hi, const T *x, const C *u, const C *v, const C *w,
                           const C *p, const C *q, C *line, C *col) {
  FN(Vec) sum[LINES];
  for (int64_t i = 0; i < s->padded; i++) col[i] = 0;
  for (int64_t k0 = lo; k0 < hi; k0 += LINES) {
    int64_t k1 = pare_min_i64(hi, k0 + LINES);
    memset(sum, 0, sizeof sum);
    for (int64_t at = 0; at < s->width; at += LANES) {
      const FN(Vec) *pv = &VEC(p + at * s->terms), *qv = &VEC(q + at * s->terms);
      if (s->terms == TERMS) FN(score_column_short)(s, k0, k1, at, x, u, v, w, pv, qv, sum, &VEC(col + at));
      else FN(score_column)(s, s->terms, k0, k1, at, x, u, v, w, pv, qv, sum, &VEC(col + at));
    }
    for (int64_t k = k0; k < k1; k++) {
      line[k] = 0;
      for (int64_t i = 0; i < LANES; i++) line[k] += sum[k - k0][i];
    }
  }
}

/* Outputs: row[K], col[N]; a transposed W's lines are columns. */
static PareStatus FN(importance)(PareKernelArgs *a) {
  Scores s = scores_of(a);
  C *u = a->workspace, *v = u + s.lines * s.terms, *w = v + s.lines * s.terms, *p = w + s.lines * s.terms;
  C *q = p + s.padded * s.terms, *col = q + s.padded * s.terms;
  int by_line = a->attr->transB ? 1 : 0;
  C *line = a->out[by_line].data, *position = a->out[1 - by_line].data;
  const T *x = a->in[0].data;
#pragma omp parallel if (pare_threaded(s.lines * s.width))
  {
#pragma omp for schedule(static) nowait
    for (int64_t k = 0; k < s.parts; k++) {
      int64_t lo, hi;
      pare_part(s.lines, s.parts, k, &lo, &hi);
      FN(pack_lines)(a, &s, lo, hi, u, v, w);
    }
#pragma omp for schedule(static)
    for (int64_t at = 0; at < s.padded; at += LANES) FN(pack_positions)(a, &s, at, p, q);
#pragma omp for schedule(static)
    for (int64_t k = 0; k < s.parts; k++) {
      int64_t lo, hi;
      pare_part(s.lines, s.parts, k, &lo, &hi);
      FN(score_part)(&s, lo, hi, x, u, v, w, p, q, line, col + k * s.padded);
    }
  }
  for (int64_t i = 0; i < s.width; i++) position[i] = 0;
  for (int64_t k = 0; k < s.parts; k++)
    for (int64_t i = 0; i < s.width; i++) position[i] += col[k * s.padded + i];
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
