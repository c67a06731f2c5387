/* optim.c - what runs on states: Accumulate, SumSquares, AdamW, Ema. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
#define PARE_TEMPLATE "kernels/cpu/optim.c"
#include "kernels/cpu/floats.h"

static PareStatus accumulate_wide(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  float *acc = a->in[0].data;
  const uint16_t *g = a->in[1].data;
#pragma omp parallel for simd schedule(static) if (parallel : pare_threaded(n))
  for (int64_t i = 0; i < n; i++) acc[i] += pare_bf16_to_f32(g[i]);
  return PARE_OK;
}

/* acc += g. A gradient in bf16 may be added to an f32 sum. */
PareStatus PARE_CPU(ACCUMULATE)(PareKernelArgs *a) {
  PareDtype acc = a->in[0].type.dtype, g = a->in[1].type.dtype;
  if (acc == PARE_F32 && g == PARE_BF16) return accumulate_wide(a);
  return acc == g ? pare_call(PARE_PICK_FLOAT(acc, accumulate), a) : pare_bad_type(a);
}

PareStatus PARE_CPU(SUMSQUARES)(PareKernelArgs *a) {
  double sum = 0;
  for (int i = 0; i < a->nin; i++) {
    PareDtype d = a->in[i].type.dtype;
    if (!pare_given(a, i)) continue;
    if (d == PARE_F32) sum += sum_squares_f32(&a->in[i]);
    else if (d == PARE_F64) sum += sum_squares_f64(&a->in[i]);
    else if (d == PARE_BF16) sum += sum_squares_bf16(&a->in[i]);
    else return pare_bad_type(a);
  }
  pare_put_float(&a->out[0], 0, sum);
  return PARE_OK;
}

PARE_FLOAT_KERNEL(ADAMW, adamw)
PARE_FLOAT_KERNEL(EMA, ema)

#else /* the template */
static PareStatus FN(accumulate)(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  T *acc = a->in[0].data;
  const T *g = a->in[1].data;
#pragma omp parallel for simd schedule(static) if (parallel : pare_threaded(n))
  for (int64_t i = 0; i < n; i++) acc[i] = STORE(LOAD(acc[i]) + LOAD(g[i]));
  return PARE_OK;
}

static double FN(sum_squares)(const PareTensor *g) {
  int64_t n = pare_count(g);
  const T *x = g->data;
  double part[PARE_PARTS], sum = 0;
#pragma omp parallel for schedule(static) if (pare_threaded(n))
  for (int p = 0; p < PARE_PARTS; p++) {
    int64_t lo, hi;
    double s = 0;
    pare_part(n, PARE_PARTS, p, &lo, &hi);
#pragma omp simd reduction(+ : s)
    for (int64_t i = lo; i < hi; i++) s += (double)LOAD(x[i]) * (double)LOAD(x[i]);
    part[p] = s;
  }
  for (int p = 0; p < PARE_PARTS; p++) sum += part[p];
  return sum;
}

/* Inputs: param, grad, m, v, hyper {lr, beta1, beta2, eps, weight_decay, 1/(1-beta1^t), 1/(1-beta2^t), max_norm},
 * sumsq. Decoupled weight decay (Loshchilov and Hutter 2019); the gradient is clipped by its norm over all
 * parameters and is zero afterwards. */
static PareStatus FN(adamw)(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  T *param = a->in[0].data, *grad = a->in[1].data, *m = a->in[2].data, *v = a->in[3].data;
  C h[8];
  for (int i = 0; i < 8; i++) h[i] = (C)pare_get_float(&a->in[4], i);
  double norm = sqrt(pare_get_float(&a->in[5], 0)), max_norm = (double)h[7];
  C clip = max_norm > 0 && norm > max_norm ? (C)(max_norm / norm) : 1;
  C lr = h[0], b1 = h[1], b2 = h[2], eps = h[3], decay = h[4], c1 = h[5], c2 = h[6];
#pragma omp parallel for simd schedule(static) if (parallel : pare_threaded(n))
  for (int64_t i = 0; i < n; i++) {
    C g = LOAD(grad[i]) * clip, x = LOAD(param[i]);
    C m1 = b1 * LOAD(m[i]) + (1 - b1) * g, v1 = b2 * LOAD(v[i]) + (1 - b2) * g * g;
    m[i] = STORE(m1);
    v[i] = STORE(v1);
    param[i] = STORE(x - lr * (m1 * c1 / (MATH(sqrt)(v1 * c2) + eps) + decay * x));
    grad[i] = STORE(0);
  }
  return PARE_OK;
}

/* state = alpha·state + (1 - alpha)·x */
static PareStatus FN(ema)(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  T *state = a->in[0].data;
  const T *x = a->in[1].data;
  C keep = (C)a->attr->alpha, take = (C)(1 - a->attr->alpha);
#pragma omp parallel for simd schedule(static) if (parallel : pare_threaded(n))
  for (int64_t i = 0; i < n; i++) state[i] = STORE(keep * LOAD(state[i]) + take * LOAD(x[i]));
  return PARE_OK;
}
#endif
