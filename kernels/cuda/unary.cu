/* unary.cu - one operand, element by element, and the gradients of activations: dx from dy and the activation's input
 * x or output y. One row an op in the tables. */
#include "kernels/cuda/gelu.cuh"

extern "C" {
#include "ir/activation.h"
}

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
  X(SIGMOID, 1 / (1 + exp(-x)))
/* op, of floats, of integers */
#define UNARY_NUMBER(X)                                                  \
  X(NEG, -x, (C)(0 - (U)x))                                              \
  X(ABS, fabs(x), x < 0 ? (C)(0 - (U)x) : x)                             \
  X(SIGN, x != x ? x : (C)((x > 0) - (x < 0)), (C)((x > 0) - (x < 0)))   \
  X(RELU, x > 0 || x != x ? x : 0, x > 0 ? x : 0)
/* The rest, which one kernel has: op, value at x, of some with the numbers p and q (ir/activation.h). */
#define RARE(X)                                                            \
  X(ROUND, rint(x))                                                        \
  X(TAN, tan(x))                                                           \
  X(ASIN, asin(x))                                                         \
  X(ACOS, acos(x))                                                         \
  X(ATAN, atan(x))                                                         \
  X(SINH, sinh(x))                                                         \
  X(COSH, cosh(x))                                                         \
  X(ASINH, asinh(x))                                                       \
  X(ACOSH, acosh(x))                                                       \
  X(ATANH, atanh(x))                                                       \
  X(SOFTPLUS, softplus(x))                                                 \
  X(SOFTSIGN, x / (1 + fabs(x)))                                           \
  X(HARDSWISH, x * (x < -3 ? 0 : x > 3 ? 1 : x / 6 + (C)0.5))              \
  X(MISH, x * tanh(softplus(x)))
#define RARE_WITH(X)                                                       \
  X(LEAKYRELU, x < 0 ? p * x : x)                                          \
  X(ELU, x < 0 ? p * expm1(x) : x)                                         \
  X(SELU, q *(x < 0 ? p * expm1(x) : x))                                   \
  X(CELU, x < 0 ? p * expm1(x / p) : x)                                    \
  X(HARDSIGMOID, p *x + q < 0 ? 0 : p * x + q > 1 ? 1 : p * x + q)         \
  X(THRESHOLDEDRELU, x > p || x != x ? x : 0)                              \
  X(SHRINK, x < -p ? x + q : x > p ? x - q : x != x ? x : 0)               \
  X(SWISH, x / (1 + exp(-p * x)))
/* op, gradient at x with dy */
#define GRADS(X)                                                             \
  X(RELUGRAD, x > 0 ? dy : 0)                                                \
  X(ERFGRAD, dy *(C)1.12837916709551257390 * exp(-x * x))                    \
  X(TANHGRAD, dy *(1 - x * x))                                               \
  X(SIGMOIDGRAD, dy *x *(1 - x))

template <class C> static __device__ inline C softplus(C x) { return log1p(exp(-fabs(x))) + (x < 0 ? 0 : x); }

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
    template <class C> static __device__ inline C of_float(C x) { return f; } \
    static __device__ inline float of(float x) { return of_float(x); }     \
    static __device__ inline double of(double x) { return of_float(x); }   \
    template <class C, class U = typename Unsigned<C>::U>                  \
    static __device__ inline C of(C x) {                                   \
      return i;                                                            \
    }                                                                      \
  };
UNARY_NUMBER(X)
#undef X
struct Rare {
  int op;
  PareActivation numbers;
  template <class C> __device__ __attribute__((noinline)) C of(C x) {
    C p = (C)numbers.p, q = (C)numbers.q;
    switch (op) {
#define X(id, f) \
  case PARE_OP_##id: return f;
      RARE(X)
      RARE_WITH(X)
#undef X
    }
    return x;
  }
};
/* Bounds that are left out hold nothing, the upper one wins where they cross; they may be of another float type than x. */
struct CLIP {
  const void *lo, *hi;
  int lo_type, hi_type;
  template <class C> static __device__ inline C bound(const void *b, int type) {
    if constexpr (PareNum<C>::integer) return (C)pare_get_int(b, type, 0);
    else return (C)pare_get_float(b, type, 0);
  }
  template <class C> __device__ inline C of(C x) {
    if (lo && x < bound<C>(lo, lo_type)) x = bound<C>(lo, lo_type);
    if (hi && x > bound<C>(hi, hi_type)) x = bound<C>(hi, hi_type);
    return x;
  }
};
#define X(id, f)                                                                \
  struct id {                                                                   \
    template <class C> static __device__ inline C of(C x, C dy) { return f; }   \
  };
GRADS(X)
#undef X

template <class F, class T> static __device__ inline ParePack<T> unary_pack(F f, ParePack<T> p) {
  for (int k = 0; k < ParePack<T>::N; k++) p.at[k] = pare_store<T>(f.of(pare_load(p.at[k])));
  return p;
}
template <class F, class T> static __device__ inline ParePack<T> gradient_pack(ParePack<T> p, ParePack<T> q) {
  for (int k = 0; k < ParePack<T>::N; k++) p.at[k] = pare_store<T>(F::of(pare_load(p.at[k]), pare_load(q.at[k])));
  return p;
}

/* `packs` packs of 16 bytes, two at once so that enough are on their way, then the elements behind them. */
template <class F, class T> static __global__ void unary(F f, int64_t packs, int64_t n, const T *x, T *z) {
  typedef ParePack<T> Pack;
  int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < packs; i += 2 * step) {
    int64_t j = i + step < packs ? i + step : i;
    Pack p = ((const Pack *)x)[i], q = ((const Pack *)x)[j];
    ((Pack *)z)[i] = unary_pack<F, T>(f, p);
    if (j != i) ((Pack *)z)[j] = unary_pack<F, T>(f, q);
  }
  PARE_EACH(i, n - packs * Pack::N) {
    int64_t k = packs * Pack::N + i;
    z[k] = pare_store<T>(f.of(pare_load(x[k])));
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

static bool is_other_integer(const PareKernelArgs *a) {
  return pare_dtype_is_int(a->in[0].type.dtype) && !pare_is_index(&a->in[0]);
}
template <class T, class F> static PareStatus unary_run(PareKernelArgs *a, F f) {
  int64_t n = pare_count(&a->out[0]), N = ParePack<T>::N;
  const T *x = (const T *)a->in[0].data;
  T *z = (T *)a->out[0].data;
  if (!n) return PARE_OK;
  int64_t packs = pare_aligned(x) && pare_aligned(z) ? n / N : 0;
  PARE_LAUNCH((unary<F, T>), pare_blocks(a, packs ? packs : n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream,
              f, packs, n, x, z);
  return pare_launched(a);
}
template <class F> static PareStatus unary_float(PareKernelArgs *a, F f) {
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) { return unary_run<decltype(zero)>(a, f); });
}
template <class F> static PareStatus unary_number(PareKernelArgs *a, F f) {
  return pare_by_number(a, a->in[0].type.dtype, [&](auto zero) { return unary_run<decltype(zero)>(a, f); });
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

#define FLOAT(id, f) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return unary_float(a, id()); }
UNARY(FLOAT)
#define NUMBER(id, f, i)                                                                                      \
  PareStatus pare_cuda_##id(PareKernelArgs *a) {                                                              \
    return is_other_integer(a) ? pare_cuda_integer(a, PARE_OP_##id) : unary_number(a, id());                  \
  }
UNARY_NUMBER(NUMBER)
#define ONE_OF_MANY(id, f) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return unary_float(a, Rare{PARE_OP_##id, {}}); }
RARE(ONE_OF_MANY)
#define WITH(id, ...) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return unary_float(a, Rare{PARE_OP_##id, pare_activation_##id(a->attr)}); }
PARE_ACTIVATIONS(WITH)

/* Of other types of integers one bound after the other. */
static PareStatus clip_integers(PareKernelArgs *a) {
  const PareTensor *x = &a->in[0];
  if (!pare_given(a, 1) && !pare_given(a, 2)) return pare_cuda_expand(a, &a->out[0], x);
  if (pare_given(a, 1)) PARE_TRY(pare_cuda_integers(a, PARE_OP_MAX, x, &a->in[1]));
  if (pare_given(a, 1)) x = &a->out[0];
  return pare_given(a, 2) ? pare_cuda_integers(a, PARE_OP_MIN, x, &a->in[2]) : PARE_OK;
}
PareStatus pare_cuda_CLIP(PareKernelArgs *a) {
  if (is_other_integer(a)) return clip_integers(a);
  for (int i = 1; i < 3; i++)
    if (pare_given(a, i) && a->in[i].type.dtype == PARE_F16) return pare_bad_type(a);
  CLIP f = {};
  if (pare_given(a, 1)) f.lo = a->in[1].data, f.lo_type = (int)a->in[1].type.dtype;
  if (pare_given(a, 2)) f.hi = a->in[2].data, f.hi_type = (int)a->in[2].type.dtype;
  return unary_number(a, f);
}
/* approximate: 0 none (erf), 1 tanh. */
PareStatus pare_cuda_GELU(PareKernelArgs *a) {
  bool tanh = a->attr->approximate != 0;
  if (a->in[0].type.dtype == PARE_BF16)
    return tanh ? unary_run<PareBf16>(a, GELU_TANH_LOW()) : unary_run<PareBf16>(a, GELU_ERF_LOW());
  return tanh ? unary_float(a, GELU_TANH()) : unary_float(a, GELU_ERF());
}

#define GRADIENT(id) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return gradient_float<id>(a); }
GRADIENT(RELUGRAD)
GRADIENT(ERFGRAD)
GRADIENT(TANHGRAD)
GRADIENT(SIGMOIDGRAD)
PareStatus pare_cuda_GELUGRAD(PareKernelArgs *a) {
  bool tanh = a->attr->approximate != 0;
  if (a->nout > 1) return pare_cuda_gelu_mask_grad(a);
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

/* --- floats of a kind --- */
template <class T> static __global__ void is_nan(int64_t n, const T *x, uint8_t *z) {
  PARE_EACH(i, n) z[i] = pare_load(x[i]) != pare_load(x[i]);
}
template <class T> static __global__ void is_inf(int64_t n, int up, int down, const T *x, uint8_t *z) {
  PARE_EACH(i, n) {
    PARE_C v = pare_load(x[i]);
    z[i] = (up && v == (PARE_C)INFINITY) || (down && v == -(PARE_C)INFINITY);
  }
}
PareStatus pare_cuda_ISNAN(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(is_nan<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n,
                (const T *)a->in[0].data, (uint8_t *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_ISINF(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  int up = pare_attr_get(a->attr, detect_positive, 1) != 0, down = pare_attr_get(a->attr, detect_negative, 1) != 0;
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(is_inf<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n, up, down,
                (const T *)a->in[0].data, (uint8_t *)a->out[0].data);
    return pare_launched(a);
  });
}
