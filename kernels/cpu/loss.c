/* loss.c - losses, each a mean and one number, and their gradients. Sums are in
 * double, by parts. Formulas: docs/ir.md. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
/* Rows of `classes` numbers. */
static int64_t classes_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  return t->rank ? t->dim[t->rank - 1] : 1;
}
static int64_t rows_of(const PareKernelArgs *a) { return pare_span(&a->in[0].type, 0, a->in[0].type.rank - 1); }

/* Labels that count: those not negative. */
static PareStatus labels_check(PareKernelArgs *a, int64_t rows, int64_t classes, int64_t *valid) {
  if (!pare_is_index(&a->in[1])) return pare_bad_type(a);
  *valid = 0;
  for (int64_t r = 0; r < rows; r++) {
    int64_t label = pare_get_int(&a->in[1], r);
    if (label >= classes) return pare_bad(a, "a label is not below the number of classes");
    *valid += label >= 0;
  }
  return PARE_OK;
}

static double add_up(const double part[PARE_PARTS]) {
  double sum = 0;
  for (int p = 0; p < PARE_PARTS; p++) sum += part[p];
  return sum;
}
static inline double mean_scale(int64_t n) { return n ? 1 / (double)n : 0; }

#define PARE_TEMPLATE "kernels/cpu/loss.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(CROSSENTROPY, cross_entropy)
PARE_FLOAT_KERNEL(CROSSENTROPYGRAD, cross_entropy_grad)
PARE_FLOAT_KERNEL(DISTILL, distill)
PARE_FLOAT_KERNEL(DISTILLGRAD, distill_grad)
PARE_FLOAT_KERNEL(MSE, mse)
PARE_FLOAT_KERNEL(MSEGRAD, mse_grad)
PARE_FLOAT_KERNEL(BCE, bce)
PARE_FLOAT_KERNEL(BCEGRAD, bce_grad)

#else /* the template */
/* log of the sum of e^(scale·x) and, by the way, the greatest scale·x. */
static C FN(log_sum_exp)(int64_t n, const T *x, C scale) {
  C max = -INFINITY, sum = 0;
#pragma omp simd reduction(max : max)
  for (int64_t i = 0; i < n; i++) max = scale * LOAD(x[i]) > max ? scale * LOAD(x[i]) : max;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += MATH(exp)(scale * LOAD(x[i]) - max);
  return max + MATH(log)(sum);
}

static PareStatus FN(cross_entropy)(PareKernelArgs *a) {
  int64_t rows = rows_of(a), n = classes_of(a), valid;
  PARE_TRY(labels_check(a, rows, n, &valid));
  const T *x = a->in[0].data;
  double part[PARE_PARTS] = {0};
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int p = 0; p < PARE_PARTS; p++) {
    int64_t lo, hi;
    pare_part(rows, PARE_PARTS, p, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
      int64_t label = pare_get_int(&a->in[1], r);
      if (label >= 0) part[p] += (double)FN(log_sum_exp)(n, x + r * n, 1) - (double)LOAD(x[r * n + label]);
    }
  }
  pare_put_float(&a->out[0], 0, add_up(part) * mean_scale(valid));
  return PARE_OK;
}

/* (softmax - one-hot)·dloss/valid; zero where the label is left out. */
static PareStatus FN(cross_entropy_grad)(PareKernelArgs *a) {
  int64_t rows = rows_of(a), n = classes_of(a), valid;
  PARE_TRY(labels_check(a, rows, n, &valid));
  const T *x = a->in[0].data;
  T *dx = a->out[0].data;
  C scale = (C)(pare_get_float(&a->in[2], 0) * mean_scale(valid));
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int64_t r = 0; r < rows; r++) {
    int64_t label = pare_get_int(&a->in[1], r);
    C lse = label >= 0 ? FN(log_sum_exp)(n, x + r * n, 1) : 0, s = label >= 0 ? scale : 0;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      C p = MATH(exp)(LOAD(x[r * n + i]) - lse) - (i == label ? 1 : 0);
      dx[r * n + i] = STORE(s != 0 ? s * p : 0);
    }
  }
  return PARE_OK;
}

/* T²·mean over rows of sum p_t·(log p_t - log p_s), p = softmax(x/T). A class with p_t = 0 adds nothing. */
static PareStatus FN(distill)(PareKernelArgs *a) {
  int64_t rows = rows_of(a), n = classes_of(a);
  const T *student = a->in[0].data, *teacher = a->in[1].data;
  double temperature = pare_attr_get(a->attr, temperature, 1.0), part[PARE_PARTS] = {0};
  C k = (C)(1 / temperature);
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int p = 0; p < PARE_PARTS; p++) {
    int64_t lo, hi;
    pare_part(rows, PARE_PARTS, p, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
      const T *s = student + r * n, *t = teacher + r * n;
      C ls = FN(log_sum_exp)(n, s, k), lt = FN(log_sum_exp)(n, t, k);
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < n; i++) {
        C log_t = k * LOAD(t[i]) - lt, q = MATH(exp)(log_t);
        sum += q > 0 ? (double)(q * (log_t - (k * LOAD(s[i]) - ls))) : 0.0;
      }
      part[p] += sum;
    }
  }
  pare_put_float(&a->out[0], 0, temperature * temperature * add_up(part) * mean_scale(rows));
  return PARE_OK;
}

/* T/rows·(p_s - p_t)·dloss */
static PareStatus FN(distill_grad)(PareKernelArgs *a) {
  int64_t rows = rows_of(a), n = classes_of(a);
  const T *student = a->in[0].data, *teacher = a->in[1].data;
  T *dx = a->out[0].data;
  double temperature = pare_attr_get(a->attr, temperature, 1.0);
  C k = (C)(1 / temperature), scale = (C)(temperature * mean_scale(rows) * pare_get_float(&a->in[2], 0));
#pragma omp parallel for schedule(static) if (pare_threaded(rows * n))
  for (int64_t r = 0; r < rows; r++) {
    const T *s = student + r * n, *t = teacher + r * n;
    C ls = FN(log_sum_exp)(n, s, k), lt = FN(log_sum_exp)(n, t, k);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
      dx[r * n + i] = STORE(scale * (MATH(exp)(k * LOAD(s[i]) - ls) - MATH(exp)(k * LOAD(t[i]) - lt)));
  }
  return PARE_OK;
}

/* log(1 + e^-|x|) + max(x, 0) - x·t */
static inline C FN(bce_at)(C x, C t) { return (x > 0 ? x : 0) - x * t + MATH(log1p)(MATH(exp)(-MATH(fabs)(x))); }

#define MEAN_LOSS(NAME, EXPR)                                                                      \
  static PareStatus FN(NAME)(PareKernelArgs *a) {                                                  \
    int64_t n = pare_count(&a->in[0]);                                                             \
    const T *xp = a->in[0].data, *tp = a->in[1].data;                                              \
    double part[PARE_PARTS] = {0};                                                                 \
    _Pragma("omp parallel for schedule(static) if (pare_threaded(n))") for (int p = 0; p < PARE_PARTS; p++) { \
      int64_t lo, hi;                                                                              \
      double sum = 0;                                                                              \
      pare_part(n, PARE_PARTS, p, &lo, &hi);                                                       \
      _Pragma("omp simd reduction(+ : sum)") for (int64_t i = lo; i < hi; i++) {                   \
        C x = LOAD(xp[i]), t = LOAD(tp[i]);                                                        \
        sum += (double)(EXPR);                                                                     \
      }                                                                                            \
      part[p] = sum;                                                                               \
    }                                                                                              \
    pare_put_float(&a->out[0], 0, add_up(part) * mean_scale(n));                                   \
    return PARE_OK;                                                                                \
  }
/* scale = dloss/n */
#define MEAN_LOSS_GRAD(NAME, EXPR)                                                                 \
  static PareStatus FN(NAME)(PareKernelArgs *a) {                                                  \
    int64_t n = pare_count(&a->in[0]);                                                             \
    const T *xp = a->in[0].data, *tp = a->in[1].data;                                              \
    T *dx = a->out[0].data;                                                                        \
    C scale = (C)(pare_get_float(&a->in[2], 0) * mean_scale(n));                                   \
    _Pragma("omp parallel for simd schedule(static) if (parallel : pare_threaded(n))")             \
    for (int64_t i = 0; i < n; i++) {                                                              \
      C x = LOAD(xp[i]), t = LOAD(tp[i]);                                                          \
      dx[i] = STORE(scale * (EXPR));                                                               \
    }                                                                                              \
    return PARE_OK;                                                                                \
  }
MEAN_LOSS(mse, (x - t) * (x - t))
MEAN_LOSS(bce, FN(bce_at)(x, t))
MEAN_LOSS_GRAD(mse_grad, 2 * (x - t))
MEAN_LOSS_GRAD(bce_grad, 1 / (1 + MATH(exp)(-x)) - t)
#undef MEAN_LOSS
#undef MEAN_LOSS_GRAD
#endif
