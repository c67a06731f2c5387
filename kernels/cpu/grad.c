/* grad.c - gradients of activations: dx from dy and the activation's input x or
 * output y. Both operands have one shape. SumTo is in reduce.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
#define PARE_TEMPLATE "kernels/cpu/grad.c"
#include "kernels/cpu/floats.h"

static PareStatus activation_grad(PareKernelArgs *a, PareRowFn *row) {
  if (!row) return pare_bad_type(a);
  PareTensor in[2] = {a->in[0], a->in[1]}, out = a->out[0];
  in[0].type.rank = in[1].type.rank = out.type.rank = 1;
  in[0].type.dim[0] = in[1].type.dim[0] = out.type.dim[0] = pare_count(&a->out[0]);
  PARE_CPU(rows)(&out, 2, in, row, NULL);
  return PARE_OK;
}

#define PARE_ACTIVATION(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return activation_grad(a, PARE_PICK_FLOAT(a->in[0].type.dtype, f)); }
PARE_ACTIVATION(RELUGRAD, relu_grad)
PARE_ACTIVATION(ERFGRAD, erf_grad)
PARE_ACTIVATION(TANHGRAD, tanh_grad)
PARE_ACTIVATION(SIGMOIDGRAD, sigmoid_grad)

/* The gradient of a mask behind it: sums of each part of the rows. */
static bool has_mask(const PareKernelArgs *a) { return a->nout > 1; }
PareStatus PARE_CPU(plan_GELUGRAD)(PareKernelArgs *a) {
  if (has_mask(a)) a->workspace_bytes = (size_t)(PARE_PARTS * pare_count(&a->out[1])) * pare_esize(&a->out[1]);
  return PARE_OK;
}
/* Inputs: h, dy and, for its type alone, a mask[k] on Gelu(h): then the mask's gradient, the sum over the rows of
 * Gelu(h)·dy, is result 1. */
PareStatus PARE_CPU(GELUGRAD)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  if (has_mask(a) && a->out[1].type.dtype != (d == PARE_F64 ? PARE_F64 : PARE_F32)) return pare_bad_type(a);
  if (has_mask(a)) return pare_call(PARE_PICK_FLOAT(d, gelu_mask_grad), a);
  return activation_grad(a, a->attr->approximate ? PARE_PICK_FLOAT(d, gelu_tanh_grad) : PARE_PICK_FLOAT(d, gelu_grad));
}

#else /* the template */
/* d/dx of x·Phi(x): Phi(x) + x·phi(x). */
static inline C FN(gelu_slope)(C x) {
  return ROUGH(normal_cdf)(x) + x * (C)0.39894228040143267794 * ROUGH(exp)(-(C)0.5 * x * x);
}
/* Of the approximation x/2·(1 + tanh u), u = sqrt(2/pi)·(x + 0.044715·x³). */
static inline C FN(gelu_tanh_slope)(C x) {
  C k = (C)0.79788456080286535588, t = MATH(tanh)(k * (x + (C)0.044715 * x * x * x));
  return (C)0.5 * (1 + t) + (C)0.5 * x * (1 - t * t) * k * (1 + (C)0.134145 * x * x);
}

/* n elements of a row: dh in out, and Gelu(h)·dy added to sum; GELU itself, or its approximation by tanh. */
static inline void FN(gelu_sums)(int64_t n, bool by_tanh, const T *h, const T *dy, T *out, C *sum) {
  const C k = (C)0.79788456080286535588;
  if (by_tanh) {
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {
      C x = LOAD(h[j]), d = LOAD(dy[j]);
      sum[j] += d * x * (C)0.5 * (1 + MATH(tanh)(k * (x + (C)0.044715 * x * x * x)));
      out[j] = STORE(d * FN(gelu_tanh_slope)(x));
    }
    return;
  }
  _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {
    C x = LOAD(h[j]), d = LOAD(dy[j]);
    sum[j] += d * x * ROUGH(normal_cdf)(x);
    out[j] = STORE(d * FN(gelu_slope)(x));
  }
}
static PareStatus FN(gelu_mask_grad)(PareKernelArgs *a) {
  const T *h = a->in[0].data, *dy = a->in[1].data;
  T *out = a->out[0].data;
  C *part = a->workspace, *dmask = a->out[1].data;
  int64_t k = pare_count(&a->out[1]), rows = k ? pare_count(&a->in[0]) / k : 0;
#pragma omp parallel for schedule(static) if (pare_threaded(rows * k))
  for (int64_t p = 0; p < PARE_PARTS; p++) {
    int64_t lo, hi;
    pare_part(rows, PARE_PARTS, p, &lo, &hi);
    for (int64_t j = 0; j < k; j++) part[p * k + j] = 0;
    for (int64_t i = lo * k; i < hi * k; i += k)
      FN(gelu_sums)(k, a->attr->approximate != 0, h + i, dy + i, out + i, part + p * k);
  }
  for (int64_t j = 0; j < k; j++) {
    dmask[j] = 0;
    for (int64_t p = 0; p < PARE_PARTS; p++) dmask[j] += part[p * k + j];
  }
  return PARE_OK;
}

#define ROW(NAME, EXPR)                                                                                  \
  static void FN(NAME)(int64_t n, void *out, const void *const in[3], const bool step[3], const void *arg) { \
    const T *xp = in[0], *dp = in[1];                                                                    \
    T *z = out;                                                                                          \
    (void)step, (void)arg;                                                                               \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                \
      C x = LOAD(xp[i]), dy = LOAD(dp[i]);                                                               \
      z[i] = STORE(EXPR);                                                                                \
    }                                                                                                    \
  }
ROW(relu_grad, x > 0 ? dy : 0)
ROW(gelu_grad, dy *FN(gelu_slope)(x))
ROW(gelu_tanh_grad, dy *FN(gelu_tanh_slope)(x))
ROW(erf_grad, dy *(C)1.12837916709551257390 * MATH(exp)(-x * x))
ROW(tanh_grad, dy *(1 - x * x))
ROW(sigmoid_grad, dy *x *(1 - x))
#undef ROW
#endif
