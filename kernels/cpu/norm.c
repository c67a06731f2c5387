/* norm.c - Softmax, LogSoftmax, Hardmax, LpNormalization, LayerNormalization and AddNorm along
 * axes, and gradients. A line is what is normalised together. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
typedef struct Lines {
  int64_t outer, n, inner;
} Lines;

/* flatten: before opset 13, all axes from `axis` on are one line and the default axis is 1. */
static Lines lines_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  if (t->rank == 0) return (Lines){1, 1, 1};
  if (a->attr->flatten) {
    int64_t axis = pare_attr_get(a->attr, axis, 1);
    int k = axis == t->rank ? t->rank : pare_axis(axis, t->rank);
    return (Lines){pare_span(t, 0, k), pare_span(t, k, t->rank), 1};
  }
  int k = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  return (Lines){pare_span(t, 0, k), t->dim[k], pare_span(t, k + 1, t->rank)};
}

#define PARE_TEMPLATE "kernels/cpu/norm.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(SOFTMAX, softmax)
PARE_FLOAT_KERNEL(LOGSOFTMAX, log_softmax)
PARE_FLOAT_KERNEL(HARDMAX, hardmax)
PARE_FLOAT_KERNEL(LPNORM, lp_norm)
PARE_FLOAT_KERNEL(SOFTMAXGRAD, softmax_grad)
PARE_FLOAT_KERNEL(LAYERNORM, layernorm)
PARE_FLOAT_KERNEL(ADDNORM, addnorm)
PARE_FLOAT_KERNEL(LAYERNORMGRAD, layernorm_grad)

/* Workspace: [parts, 2, n] of each of two kinds: rows that no result holds, and sums. */
static size_t rows_bytes(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  return (size_t)PARE_PARTS * 2 * (size_t)pare_span(t, axis, t->rank) * sizeof(double);
}
PareStatus PARE_CPU(plan_ADDNORM)(PareKernelArgs *a) {
  a->workspace_bytes = rows_bytes(a);
  return PARE_OK;
}
PareStatus PARE_CPU(plan_LAYERNORMGRAD)(PareKernelArgs *a) {
  a->workspace_bytes = 2 * rows_bytes(a);
  return PARE_OK;
}

#else /* the template */
/* --- softmax: y = exp(x - max) / sum. stride: distance of the line's elements --- */
static PARE_INLINE void FN(softmax_line)(int64_t n, int64_t stride, const T *x, T *y, bool as_log) {
  C max = -INFINITY, sum = 0;
#pragma omp simd reduction(max : max)
  for (int64_t i = 0; i < n; i++) max = LOAD(x[i * stride]) > max ? LOAD(x[i * stride]) : max;
  bool keep = sizeof(T) == sizeof(C) && !as_log; /* bf16 would round the exponentials before they are summed */
  if (keep) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
      C e = MATH(exp)(LOAD(x[i * stride]) - max);
      y[i * stride] = STORE(e);
      sum += e;
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += MATH(exp)(LOAD(x[i * stride]) - max);
  }
  C scale = 1 / sum, log_sum = MATH(log)(sum);
  if (as_log) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i * stride] = STORE(LOAD(x[i * stride]) - max - log_sum);
  } else if (keep) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i * stride] = STORE(LOAD(y[i * stride]) * scale);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i * stride] = STORE(MATH(exp)(LOAD(x[i * stride]) - max) * scale);
  }
}

/* dx = y·(dy - sum(y·dy)) */
static PARE_INLINE void FN(softmax_grad_line)(int64_t n, int64_t stride, const T *y, const T *dy, T *dx) {
  C dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; i++) dot += LOAD(y[i * stride]) * LOAD(dy[i * stride]);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) dx[i * stride] = STORE(LOAD(y[i * stride]) * (LOAD(dy[i * stride]) - dot));
}

/* Inlined twice: for stride 1, which becomes vector code, and for any stride. */
static PareStatus FN(softmax_lines)(PareKernelArgs *a, bool as_log) {
  Lines l = lines_of(a);
  const T *x = a->in[0].data;
  T *y = a->out[0].data;
#pragma omp parallel for schedule(static) if (pare_threaded(l.outer * l.n * l.inner))
  for (int64_t i = 0; i < l.outer * l.inner; i++) {
    int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
    if (l.inner == 1) FN(softmax_line)(l.n, 1, x + at, y + at, as_log);
    else FN(softmax_line)(l.n, l.inner, x + at, y + at, as_log);
  }
  return PARE_OK;
}

static PareStatus FN(softmax)(PareKernelArgs *a) { return FN(softmax_lines)(a, false); }
static PareStatus FN(log_softmax)(PareKernelArgs *a) { return FN(softmax_lines)(a, true); }

static PareStatus FN(softmax_grad)(PareKernelArgs *a) {
  Lines l = lines_of(a);
  const T *y = a->in[0].data, *dy = a->in[1].data;
  T *dx = a->out[0].data;
#pragma omp parallel for schedule(static) if (pare_threaded(l.outer * l.n * l.inner))
  for (int64_t i = 0; i < l.outer * l.inner; i++) {
    int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
    if (l.inner == 1) FN(softmax_grad_line)(l.n, 1, y + at, dy + at, dx + at);
    else FN(softmax_grad_line)(l.n, l.inner, y + at, dy + at, dx + at);
  }
  return PARE_OK;
}

/* y = 1 at the line's first largest element, 0 elsewhere */
static PareStatus FN(hardmax)(PareKernelArgs *a) {
  Lines l = lines_of(a);
#pragma omp parallel for schedule(static) if (pare_threaded(l.outer * l.n * l.inner))
  for (int64_t i = 0; i < (l.n ? l.outer * l.inner : 0); i++) {
    const T *x = (const T *)a->in[0].data + i / l.inner * l.n * l.inner + i % l.inner;
    T *y = (T *)a->out[0].data + i / l.inner * l.n * l.inner + i % l.inner;
    int64_t best = 0;
    for (int64_t j = 0; j < l.n; j++) {
      if (LOAD(x[j * l.inner]) > LOAD(x[best * l.inner])) best = j;
      y[j * l.inner] = STORE((C)0);
    }
    y[best * l.inner] = STORE((C)1);
  }
  return PARE_OK;
}

/* y = x / (Σ|x|^p)^(1/p), p 1 or 2; a line of zeros stays, one with a NaN becomes NaN */
static PareStatus FN(lp_norm)(PareKernelArgs *a) {
  Lines l = lines_of(a);
  bool one = pare_attr_get(a->attr, p, 2) == 1;
#pragma omp parallel for schedule(static) if (pare_threaded(l.outer * l.n * l.inner))
  for (int64_t i = 0; i < l.outer * l.inner; i++) {
    const T *x = (const T *)a->in[0].data + i / l.inner * l.n * l.inner + i % l.inner;
    T *y = (T *)a->out[0].data + i / l.inner * l.n * l.inner + i % l.inner;
    double sum = 0;
    for (int64_t j = 0; j < l.n; j++) {
      double v = (double)LOAD(x[j * l.inner]);
      sum += one ? fabs(v) : v * v;
    }
    double norm = one ? sum : sqrt(sum);
    for (int64_t j = 0; j < l.n; j++) y[j * l.inner] = STORE(norm == 0 ? 0 : (C)((double)LOAD(x[j * l.inner]) / norm));
  }
  return PARE_OK;
}

/* --- LayerNormalization: y = (x - mean)·rstd·gamma + beta, rstd = 1/sqrt(var + eps) --- */
static void FN(layernorm_line)(int64_t n, const T *x, const T *gamma, const T *beta, C eps, T *y, C *mean_out,
                               C *rstd_out) {
  C sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += LOAD(x[i]);
  C mean = sum / (C)n;
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < n; i++) square += (LOAD(x[i]) - mean) * (LOAD(x[i]) - mean);
  C rstd = 1 / MATH(sqrt)(square / (C)n + eps);
  if (beta) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = STORE((LOAD(x[i]) - mean) * rstd * LOAD(gamma[i]) + LOAD(beta[i]));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = STORE((LOAD(x[i]) - mean) * rstd * LOAD(gamma[i]));
  }
  *mean_out = mean;
  *rstd_out = rstd;
}

static PareStatus FN(layernorm)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  int64_t rows = pare_span(t, 0, axis), n = pare_span(t, axis, t->rank);
  const T *x = a->in[0].data, *gamma = a->in[1].data, *beta = pare_given(a, 2) ? a->in[2].data : NULL;
  if (pare_count(&a->in[1]) != n || (beta && pare_count(&a->in[2]) != n))
    return pare_bad(a, "scale or bias has not the size of the normalised axes");
  C eps = (C)pare_attr_get(a->attr, epsilon, 1e-5);
  T *y = a->out[0].data;
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int64_t r = 0; r < rows; r++) {
    C mean, rstd;
    FN(layernorm_line)(n, x + r * n, gamma, beta, eps, y + r * n, &mean, &rstd);
    if (pare_wanted(a, 1)) pare_put_float(&a->out[1], r, (double)mean);
    if (pare_wanted(a, 2)) pare_put_float(&a->out[2], r, (double)rstd);
  }
  return PARE_OK;
}

/* out = x + v's n elements from `at` on; v has x's type or bf16. out may lie over either. */
static void FN(add_row)(int64_t n, const T *x, const PareTensor *v, int64_t at, T *out) {
  if (v->type.dtype == PARE_BF16) {
    const uint16_t *low = (const uint16_t *)v->data + at;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = STORE(LOAD(x[i]) + (C)pare_bf16_to_f32(low[i]));
    return;
  }
  const T *full = (const T *)v->data + at;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = STORE(LOAD(x[i]) + LOAD(full[i]));
}

/* Inputs: x, gamma, beta, branch. Outputs: x + branch, its norm, mean, rstd, the norm in bf16, each if wanted. */
/* y = norm of x by these statistics of its row r; it may lie over x. */
static void FN(renorm_row)(const PareKernelArgs *a, int first, int64_t n, int64_t r, const T *x, T *y) {
  const T *gamma = a->in[first + 2].data, *beta = pare_given(a, first + 3) ? a->in[first + 3].data : NULL;
  C mean = (C)pare_get_float(&a->in[first], r), rstd = (C)pare_get_float(&a->in[first + 1], r);
  for (int64_t i = 0; i < n; i++) {
    C v = (LOAD(x[i]) - mean) * rstd * LOAD(gamma[i]);
    y[i] = STORE(beta ? v + LOAD(beta[i]) : v);
  }
}
static PareStatus FN(addnorm)(PareKernelArgs *a) {
  enum { SUM, Y, MEAN, RSTD, LOW, FIRST = 4 };
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  int64_t rows = pare_span(t, 0, axis), n = pare_span(t, axis, t->rank), parts = pare_min_i64(PARE_PARTS, rows);
  const T *gamma = a->in[1].data, *beta = pare_given(a, 2) ? a->in[2].data : NULL;
  if (pare_count(&a->in[1]) != n || (beta && pare_count(&a->in[2]) != n))
    return pare_bad(a, "scale or bias has not the size of the normalised axes");
  C eps = (C)pare_attr_get(a->attr, epsilon, 1e-5);
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int64_t p = 0; p < parts; p++) {
    T *spare = (T *)a->workspace + 2 * n * p;
    int64_t lo, hi;
    pare_part(rows, parts, p, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
      const T *x = (const T *)a->in[0].data + r * n;
      T *sum = pare_wanted(a, SUM) ? (T *)a->out[SUM].data + r * n : spare;
      T *y = pare_wanted(a, Y) ? (T *)a->out[Y].data + r * n : spare + n;
      C mean, rstd;
      if (pare_given(a, FIRST)) FN(renorm_row)(a, FIRST, n, r, x, sum), x = sum;
      if (pare_given(a, 3)) FN(add_row)(n, x, &a->in[3], r * n, sum), x = sum;
      else if (sum != spare && sum != x) memmove(sum, x, (size_t)n * sizeof *x);
      FN(layernorm_line)(n, x, gamma, beta, eps, y, &mean, &rstd);
      if (pare_wanted(a, MEAN)) pare_put_float(&a->out[MEAN], r, (double)mean);
      if (pare_wanted(a, RSTD)) pare_put_float(&a->out[RSTD], r, (double)rstd);
      if (pare_wanted(a, LOW)) PARE_CPU(cast_run)(n, t->dtype, y, PARE_BF16, (uint16_t *)a->out[LOW].data + r * n);
    }
  }
  return PARE_OK;
}

/* With h = (x - mean)·rstd and g = dy·gamma: dx = rstd·(g - mean(g) - h·mean(g·h)) + add (NULL: nothing). dx may lie
 * over x, dy or add. */
static void FN(layernorm_dx)(int64_t n, const T *x, const T *dy, const T *gamma, C mean, C rstd, const T *add, T *dx) {
  C sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t i = 0; i < n; i++) {
    C g = LOAD(dy[i]) * LOAD(gamma[i]);
    sum += g;
    dot += g * ((LOAD(x[i]) - mean) * rstd);
  }
  C a = sum / (C)n, b = dot / (C)n;
  if (add) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
      dx[i] = STORE(rstd * (LOAD(dy[i]) * LOAD(gamma[i]) - a - (LOAD(x[i]) - mean) * rstd * b) + LOAD(add[i]));
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    dx[i] = STORE(rstd * (LOAD(dy[i]) * LOAD(gamma[i]) - a - (LOAD(x[i]) - mean) * rstd * b));
}

/* The row of dy + dy2 at `at`: where it lies, or made in `spare`. */
static const T *FN(whole_dy)(const PareKernelArgs *a, int64_t n, int64_t at, T *spare) {
  const PareTensor *dy = &a->in[4], *dy2 = pare_given(a, 5) ? &a->in[5] : NULL;
  PareDtype d = a->in[0].type.dtype;
  if (dy->type.dtype != d && dy2 && dy2->type.dtype == d) dy = &a->in[5], dy2 = &a->in[4];
  const T *row = (const T *)dy->data + at;
  if (dy->type.dtype != d) {
    PARE_CPU(cast_run)(n, dy->type.dtype, (const uint16_t *)dy->data + at, d, spare);
    row = spare;
  }
  if (dy2) FN(add_row)(n, row, dy2, at, spare), row = spare;
  return row;
}

/* Inputs: x, gamma, mean, rstd, dy, dy2, add. Outputs: dx, dgamma, dbeta, dx in bf16, each if wanted. Each part of the
 * rows sums its own dgamma = sum(dy·h) and dbeta = sum(dy) in the workspace [parts, 2, n]. */
static PareStatus FN(layernorm_grad)(PareKernelArgs *a) {
  enum { DX, DGAMMA, DBETA, LOW };
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  int64_t rows = pare_span(t, 0, axis), n = pare_span(t, axis, t->rank), parts = pare_min_i64(PARE_PARTS, rows);
  const T *gamma = a->in[1].data, *add = pare_given(a, 6) ? a->in[6].data : NULL;
  bool sums = pare_wanted(a, DGAMMA) || pare_wanted(a, DBETA);
  C *ws = a->workspace;
  T *spares = (T *)(void *)(ws + 2 * n * parts);
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int64_t p = 0; p < parts; p++) {
    C *dgamma = ws + 2 * n * p, *dbeta = dgamma + n;
    T *spare = spares + 2 * n * p;
    int64_t lo, hi;
    pare_part(rows, parts, p, &lo, &hi);
    for (int64_t i = 0; sums && i < 2 * n; i++) dgamma[i] = 0;
    for (int64_t r = lo; r < hi; r++) {
      C mean = (C)pare_get_float(&a->in[2], r), rstd = (C)pare_get_float(&a->in[3], r);
      const T *xr = (const T *)a->in[0].data + r * n, *dr = FN(whole_dy)(a, n, r * n, spare);
#pragma omp simd
      for (int64_t i = 0; i < (sums ? n : 0); i++) {
        dgamma[i] += LOAD(dr[i]) * ((LOAD(xr[i]) - mean) * rstd);
        dbeta[i] += LOAD(dr[i]);
      }
      T *dx = pare_wanted(a, DX) ? (T *)a->out[DX].data + r * n : spare + n;
      if (!pare_wanted(a, DX) && !pare_wanted(a, LOW)) continue;
      FN(layernorm_dx)(n, xr, dr, gamma, mean, rstd, add ? add + r * n : NULL, dx);
      if (pare_wanted(a, LOW)) PARE_CPU(cast_run)(n, t->dtype, dx, PARE_BF16, (uint16_t *)a->out[LOW].data + r * n);
    }
  }
  for (int k = DGAMMA; k <= DBETA; k++) {
    if (!pare_wanted(a, k)) continue;
    for (int64_t i = 0; i < n; i++) {
      C sum = 0;
      for (int64_t p = 0; p < parts; p++) sum += ws[2 * n * p + (k - 1) * n + i];
      ((T *)a->out[k].data)[i] = STORE(sum);
    }
  }
  return PARE_OK;
}
#endif
