/* optim.cu - what runs on states: Accumulate, SumSquares, AdamW, Ema. */
#include "kernels/cuda/cuda.cuh"

enum { PARTS = 64 };

/* acc += g. A gradient in bf16 may be added to an f32 sum. */
template <class T, class G> static __global__ void accumulate(int64_t n, T *acc, const G *g) {
  PARE_EACH(i, n) acc[i] = pare_store<T>(pare_load(acc[i]) + (PARE_C)pare_load(g[i]));
}
template <class T, class G> static PareStatus accumulate_run(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  if (!n) return PARE_OK;
  PARE_LAUNCH((accumulate<T, G>), pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n,
              (T *)a->in[0].data, (const G *)a->in[1].data);
  return pare_launched(a);
}
PareStatus pare_cuda_ACCUMULATE(PareKernelArgs *a) {
  PareDtype acc = a->in[0].type.dtype, g = a->in[1].type.dtype;
  if (acc == PARE_F32 && g == PARE_BF16) return accumulate_run<float, PareBf16>(a);
  if (acc != g) return pare_bad_type(a);
  return pare_by_float(a, acc, [&](auto zero) { return accumulate_run<decltype(zero), decltype(zero)>(a); });
}

/* --- SumSquares: parts of every input, cut by its size alone, then one block adds them up --- */
template <class T> static __global__ void square_parts(int64_t n, const T *x, double *part) {
  double s = 0;
  PARE_EACH(i, n) s += (double)pare_load(x[i]) * (double)pare_load(x[i]);
  s = pare_team_sum<PARE_THREADS>(s);
  if (threadIdx.x == 0) part[blockIdx.x] = s;
}
static __global__ void add_up(int64_t n, const double *part, void *out, int type) {
  double s = 0;
  for (int64_t i = threadIdx.x; i < n; i += PARE_THREADS) s += part[i];
  s = pare_team_sum<PARE_THREADS>(s);
  if (threadIdx.x == 0) pare_put_float(out, type, 0, s);
}
PareStatus pare_cuda_plan_SUMSQUARES(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)a->nin * PARTS * sizeof(double);
  return PARE_OK;
}
PareStatus pare_cuda_SUMSQUARES(PareKernelArgs *a) {
  double *part = (double *)a->workspace;
  int64_t used = 0;
  for (int i = 0; i < a->nin; i++) {
    int64_t n = pare_given(a, i) ? pare_count(&a->in[i]) : 0, parts = pare_min(PARTS, pare_ceil_div(n, 2 * PARE_THREADS));
    if (!n) continue;
    PARE_TRY(pare_by_float(a, a->in[i].type.dtype, [&](auto zero) {
      typedef decltype(zero) T;
      PARE_LAUNCH(square_parts<T>, parts, PARE_THREADS, 0, pare_cuda(a)->stream, n, (const T *)a->in[i].data,
                  part + used);
      return pare_launched(a);
    }));
    used += parts;
  }
  PARE_LAUNCH(add_up, 1, PARE_THREADS, 0, pare_cuda(a)->stream, used, (const double *)part, (void *)a->out[0].data,
              (int)a->out[0].type.dtype);
  return pare_launched(a);
}

/* --- AdamW. Inputs: param, grad, m, v, hyper {lr, beta1, beta2, eps, weight_decay, 1/(1-beta1^t), 1/(1-beta2^t),
 * max_norm}, sumsq. Decoupled weight decay (Loshchilov and Hutter 2019); the gradient is clipped by its norm over all
 * parameters and is zero afterwards --- */
template <class T>
static __global__ void adamw(int64_t n, T *param, T *grad, T *m, T *v, const void *hyper, int htype, const void *sumsq,
                             int stype) {
  PARE_C h[8];
  for (int i = 0; i < 8; i++) h[i] = (PARE_C)pare_get_float(hyper, htype, i);
  double norm = sqrt(pare_get_float(sumsq, stype, 0)), max_norm = (double)h[7];
  PARE_C clip = max_norm > 0 && norm > max_norm ? (PARE_C)(max_norm / norm) : 1;
  PARE_C lr = h[0], b1 = h[1], b2 = h[2], eps = h[3], decay = h[4], c1 = h[5], c2 = h[6];
  PARE_EACH(i, n) {
    PARE_C g = pare_load(grad[i]) * clip, x = pare_load(param[i]);
    PARE_C m1 = b1 * pare_load(m[i]) + (1 - b1) * g, v1 = b2 * pare_load(v[i]) + (1 - b2) * g * g;
    m[i] = pare_store<T>(m1);
    v[i] = pare_store<T>(v1);
    param[i] = pare_store<T>(x - lr * (m1 * c1 / (sqrt(v1 * c2) + eps) + decay * x));
    grad[i] = pare_store<T>(0);
  }
}
PareStatus pare_cuda_ADAMW(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(adamw<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n,
                (T *)a->in[0].data, (T *)a->in[1].data, (T *)a->in[2].data, (T *)a->in[3].data,
                (const void *)a->in[4].data, (int)a->in[4].type.dtype, (const void *)a->in[5].data,
                (int)a->in[5].type.dtype);
    return pare_launched(a);
  });
}

/* state = alpha·state + (1 - alpha)·x */
template <class T> static __global__ void ema(int64_t n, PARE_C keep, PARE_C take, T *state, const T *x) {
  PARE_EACH(i, n) state[i] = pare_store<T>(keep * pare_load(state[i]) + take * pare_load(x[i]));
}
PareStatus pare_cuda_EMA(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(ema<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n,
                (PARE_C)a->attr->alpha, (PARE_C)(1 - a->attr->alpha), (T *)a->in[0].data,
                (const T *)a->in[1].data);
    return pare_launched(a);
  });
}
