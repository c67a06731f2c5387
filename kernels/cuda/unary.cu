/* unary.cu - one operand, element by element, and the gradients of activations: dx from dy and the activation's input
 * x or output y. One row an op in the tables. */
#include "kernels/cuda/gelu.cuh"

/* op, value at x; C is the type of the arithmetic */
#define UNARY(X)                                                           \
  X(FLOOR, floor(x))                                                       \
  X(CEIL, ceil(x))                                                         \
  X(SQRT, sqrt(x))                                                         \
  X(RECIPROCAL, 1 / x)                                                     \
  X(EXP, exp(x))                                                           \
  X(LOG, log(x))                                                           \
  X(SIN, sin(x))                                                           \
  X(COS, cos(x))                                                           \
  X(ERF, erf(x))                                                           \
  X(TANH, tanh(x))                                                         \
  X(SIGMOID, 1 / (1 + exp(-x)))                                            \
  X(RELU, x > 0 || x != x ? x : 0)                                         \
  X(GELU_ERF, x * (C)0.5 * (1 + erf(x * (C)0.70710678118654752440)))       \
  X(GELU_TANH, x * (C)0.5 * (1 + tanh((C)0.79788456080286535588 * (x + (C)0.044715 * x * x * x))))
/* op, of floats, of integers */
#define UNARY_NUMBER(X)         \
  X(NEG, -x, (C)(0 - (U)x))     \
  X(ABS, fabs(x), x < 0 ? (C)(0 - (U)x) : x)
/* op, gradient at x with dy; slopes are d/dx of x·Phi(x), Phi(x) + x·phi(x), and of its approximation by tanh */
#define GRADS(X)                                                             \
  X(RELUGRAD, x > 0 ? dy : 0)                                                \
  X(ERFGRAD, dy *(C)1.12837916709551257390 * exp(-x * x))                    \
  X(TANHGRAD, dy *(1 - x * x))                                               \
  X(SIGMOIDGRAD, dy *x *(1 - x))                                             \
  X(GELUGRAD_ERF, dy *gelu_slope(x))                                         \
  X(GELUGRAD_TANH, dy *gelu_tanh_slope(x))

template <class C> static __device__ inline C gelu_slope(C x) {
  return (C)0.5 * (1 + erf(x * (C)0.70710678118654752440)) + x * (C)0.39894228040143267794 * exp(-(C)0.5 * x * x);
}
/* u = sqrt(2/pi)·(x + 0.044715·x³) */
template <class C> static __device__ inline C gelu_tanh_slope(C x) {
  C k = (C)0.79788456080286535588, t = tanh(k * (x + (C)0.044715 * x * x * x));
  return (C)0.5 * (1 + t) + (C)0.5 * x * (1 - t * t) * k * (1 + (C)0.134145 * x * x);
}

#define X(id, f)                                                         \
  struct id {                                                            \
    template <class C> static __device__ inline C of(C x) { return f; }  \
  };
UNARY(X)
#undef X
template <class C> struct Unsigned {};
template <> struct Unsigned<int64_t> { typedef uint64_t U; };
template <> struct Unsigned<int32_t> { typedef uint32_t U; };
#define X(id, f, i)                                                        \
  struct id {                                                              \
    static __device__ inline float of(float x) { return f; }               \
    static __device__ inline double of(double x) { return f; }             \
    template <class C> static __device__ inline C of(C x) {                \
      typedef typename Unsigned<C>::U U;                                   \
      return i;                                                            \
    }                                                                      \
  };
UNARY_NUMBER(X)
#undef X
#define X(id, f)                                                                \
  struct id {                                                                   \
    template <class C> static __device__ inline C of(C x, C dy) { return f; }   \
  };
GRADS(X)
#undef X

template <class F, class T> static __device__ inline ParePack<T> unary_pack(ParePack<T> p) {
  for (int k = 0; k < ParePack<T>::N; k++) p.at[k] = pare_store<T>(F::of(pare_load(p.at[k])));
  return p;
}
template <class F, class T> static __device__ inline ParePack<T> gradient_pack(ParePack<T> p, ParePack<T> q) {
  for (int k = 0; k < ParePack<T>::N; k++) p.at[k] = pare_store<T>(F::of(pare_load(p.at[k]), pare_load(q.at[k])));
  return p;
}

/* `packs` packs of 16 bytes, two at once so that enough are on their way, then the elements behind them. */
template <class F, class T> static __global__ void unary(int64_t packs, int64_t n, const T *x, T *z) {
  typedef ParePack<T> Pack;
  int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < packs; i += 2 * step) {
    int64_t j = i + step < packs ? i + step : i;
    Pack p = ((const Pack *)x)[i], q = ((const Pack *)x)[j];
    ((Pack *)z)[i] = unary_pack<F, T>(p);
    if (j != i) ((Pack *)z)[j] = unary_pack<F, T>(q);
  }
  PARE_EACH(i, n - packs * Pack::N) {
    int64_t k = packs * Pack::N + i;
    z[k] = pare_store<T>(F::of(pare_load(x[k])));
  }
}
template <class F, class T>
static __global__ void gradient(int64_t packs, int64_t n, const T *x, const T *dy, T *z) {
  typedef ParePack<T> Pack;
  int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < packs; i += 2 * step) {
    int64_t j = i + step < packs ? i + step : i;
    Pack p = ((const Pack *)x)[i], q = ((const Pack *)x)[j], dp = ((const Pack *)dy)[i], dq = ((const Pack *)dy)[j];
    ((Pack *)z)[i] = gradient_pack<F, T>(p, dp);
    if (j != i) ((Pack *)z)[j] = gradient_pack<F, T>(q, dq);
  }
  PARE_EACH(i, n - packs * Pack::N) {
    int64_t k = packs * Pack::N + i;
    z[k] = pare_store<T>(F::of(pare_load(x[k]), pare_load(dy[k])));
  }
}

template <class F, class T> static PareStatus unary_run(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]), N = ParePack<T>::N;
  const T *x = (const T *)a->in[0].data;
  T *z = (T *)a->out[0].data;
  if (!n) return PARE_OK;
  int64_t packs = pare_aligned(x) && pare_aligned(z) ? n / N : 0;
  PARE_LAUNCH((unary<F, T>), pare_blocks(a, packs ? packs : n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream,
              packs, n, x, z);
  return pare_launched(a);
}
template <class F> static PareStatus unary_float(PareKernelArgs *a) {
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) { return unary_run<F, decltype(zero)>(a); });
}
template <class F> static PareStatus unary_number(PareKernelArgs *a) {
  return pare_by_number(a, a->in[0].type.dtype, [&](auto zero) { return unary_run<F, decltype(zero)>(a); });
}
template <class F, class T> static PareStatus gradient_run(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]), N = ParePack<T>::N;
  const T *x = (const T *)a->in[0].data, *dy = (const T *)a->in[1].data;
  T *z = (T *)a->out[0].data;
  if (!n) return PARE_OK;
  int64_t packs = pare_aligned(x) && pare_aligned(dy) && pare_aligned(z) ? n / N : 0;
  PARE_LAUNCH((gradient<F, T>), pare_blocks(a, packs ? packs : n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream,
              packs, n, x, dy, z);
  return pare_launched(a);
}
template <class F> static PareStatus gradient_float(PareKernelArgs *a) {
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) { return gradient_run<F, decltype(zero)>(a); });
}

#define FLOAT(id) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return unary_float<id>(a); }
FLOAT(FLOOR)
FLOAT(CEIL)
FLOAT(SQRT)
FLOAT(RECIPROCAL)
FLOAT(EXP)
FLOAT(LOG)
FLOAT(SIN)
FLOAT(COS)
FLOAT(ERF)
FLOAT(TANH)
FLOAT(SIGMOID)
FLOAT(RELU)
PareStatus pare_cuda_NEG(PareKernelArgs *a) { return unary_number<NEG>(a); }
PareStatus pare_cuda_ABS(PareKernelArgs *a) { return unary_number<ABS>(a); }
/* approximate: 0 none (erf), 1 tanh. */
PareStatus pare_cuda_GELU(PareKernelArgs *a) {
  bool tanh = a->attr->approximate != 0;
  if (a->in[0].type.dtype == PARE_BF16)
    return tanh ? unary_run<GELU_TANH_LOW, PareBf16>(a) : unary_run<GELU_ERF_LOW, PareBf16>(a);
  return tanh ? unary_float<GELU_TANH>(a) : unary_float<GELU_ERF>(a);
}

#define GRADIENT(id) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return gradient_float<id>(a); }
GRADIENT(RELUGRAD)
GRADIENT(ERFGRAD)
GRADIENT(TANHGRAD)
GRADIENT(SIGMOIDGRAD)
PareStatus pare_cuda_GELUGRAD(PareKernelArgs *a) {
  bool tanh = a->attr->approximate != 0;
  if (a->in[0].type.dtype == PARE_BF16)
    return tanh ? gradient_run<GELUGRAD_TANH_LOW, PareBf16>(a) : gradient_run<GELUGRAD_ERF_LOW, PareBf16>(a);
  return tanh ? gradient_float<GELUGRAD_TANH>(a) : gradient_float<GELUGRAD_ERF>(a);
}

static __global__ void negate(int64_t n, const uint8_t *x, uint8_t *z) {
  PARE_EACH(i, n) z[i] = !x[i];
}
PareStatus pare_cuda_NOT(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  if (a->in[0].type.dtype != PARE_BOOL) return pare_bad_type(a);
  if (!n) return PARE_OK;
  PARE_LAUNCH(negate, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n,
              (const uint8_t *)a->in[0].data, (uint8_t *)a->out[0].data);
  return pare_launched(a);
}
