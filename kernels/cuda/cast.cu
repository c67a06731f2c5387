/* cast.cu - Cast between all element types, by way of the widest of its class: every float is exact as double, every
 * integer as int64 or uint64. Floats go to integers truncated and saturated, NaN to 0; anything goes to bool by != 0.
 * The two pairs that mixed precision runs through at each step are kernels of their own. */
#include "kernels/cuda/cuda.cuh"

static __device__ inline double half_to_double(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 1023u;
  if (exp == 31) return pare_bits_to_float(sign | 0x7f800000u | man << 13);
  if (exp) return pare_bits_to_float(sign | (exp + 112u) << 23 | man << 13);
  double f = (double)man * 0x1p-24;
  return sign ? -f : f;
}
/* Rounds to nearest, ties to even; overflow goes to infinity. */
static __device__ inline uint16_t half_of(float f) {
  uint32_t u = pare_float_to_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (a >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
  if (a < 0x38800000u) /* subnormal: the sum rounds on the grid of 2^-24 */
    return (uint16_t)(sign | (pare_float_to_bits(pare_bits_to_float(a) + 0.5f) - 0x3f000000u));
  return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}
/* Rounds to odd, so that rounding again to a 16-bit format is as rounding once. */
static __device__ inline float odd(double v) {
  float f = (float)v;
  if ((double)f == v || f != f || isinf(v)) return f;
  uint32_t u = pare_float_to_bits(f);
  if (fabs((double)f) > fabs(v)) u--; /* toward zero */
  return pare_bits_to_float(u | 1u);
}
static __device__ inline int64_t saturate(double v, double lo, double hi) { /* hi: the first that does not fit */
  if (!(v > lo)) return v == v ? (int64_t)lo : 0;
  return v < hi ? (int64_t)v : hi == 0x1p63 ? INT64_MAX : (int64_t)hi - 1;
}
static __device__ inline uint64_t saturate_u64(double v) {
  if (!(v > 0)) return 0;
  return v < 0x1p64 ? (uint64_t)v : UINT64_MAX;
}

/* A number of any type: as a double, or as an integer's 64 bits. */
struct Wide {
  bool real, positive; /* positive: the bits are a uint64 */
  double f;
  int64_t i;
};
static __device__ inline Wide real(double f) { return Wide{true, false, f, 0}; }
static __device__ inline Wide whole(int64_t i) { return Wide{false, false, 0, i}; }

/* dtype, C type, value of element x */
#define WIDEN(X)                            \
  X(F32, float, real(x))                    \
  X(F64, double, real(x))                   \
  X(F16, uint16_t, real(half_to_double(x))) \
  X(BF16, PareBf16, real(pare_load(x)))     \
  X(I8, int8_t, whole(x))                   \
  X(I16, int16_t, whole(x))                 \
  X(I32, int32_t, whole(x))                 \
  X(I64, int64_t, whole(x))                 \
  X(U8, uint8_t, whole(x))                  \
  X(U16, uint16_t, whole(x))                \
  X(U32, uint32_t, whole(x))                \
  X(U64, uint64_t, (Wide{false, true, 0, (int64_t)x})) \
  X(BOOL, uint8_t, whole(x != 0))
/* dtype, C type, from a double v, from an integer w.i; `as_double` is the integer's value */
#define NARROW(X)                                                                                    \
  X(F32, float, (float)w.f, w.positive ? (float)(uint64_t)w.i : (float)w.i)                          \
  X(F64, double, w.f, as_double)                                                                     \
  X(F16, uint16_t, half_of(odd(w.f)), half_of(odd(as_double)))                                       \
  X(BF16, PareBf16, pare_store<PareBf16>(odd(w.f)), pare_store<PareBf16>(odd(as_double)))            \
  X(I8, int8_t, (int8_t)saturate(w.f, -0x1p7, 0x1p7), (int8_t)w.i)                                   \
  X(I16, int16_t, (int16_t)saturate(w.f, -0x1p15, 0x1p15), (int16_t)w.i)                             \
  X(I32, int32_t, (int32_t)saturate(w.f, -0x1p31, 0x1p31), (int32_t)w.i)                             \
  X(I64, int64_t, saturate(w.f, -0x1p63, 0x1p63), w.i)                                               \
  X(U8, uint8_t, (uint8_t)saturate(w.f, 0, 0x1p8), (uint8_t)w.i)                                     \
  X(U16, uint16_t, (uint16_t)saturate(w.f, 0, 0x1p16), (uint16_t)w.i)                                \
  X(U32, uint32_t, (uint32_t)saturate(w.f, 0, 0x1p32), (uint32_t)w.i)                                \
  X(U64, uint64_t, saturate_u64(w.f), (uint64_t)w.i)                                                 \
  X(BOOL, uint8_t, w.f != 0, w.i != 0)

static __device__ inline Wide widen(int dtype, const void *p, int64_t i) {
  switch (dtype) {
#define X(id, type, value)           \
  case PARE_##id: {                  \
    type x = ((const type *)p)[i];   \
    return value;                    \
  }
    WIDEN(X)
#undef X
  }
  return whole(0);
}
static __device__ inline void narrow(int dtype, void *p, int64_t i, Wide w) {
  double as_double = w.positive ? (double)(uint64_t)w.i : (double)w.i;
  switch (dtype) {
#define X(id, type, from_real, from_whole)      \
  case PARE_##id:                               \
    if (w.real) ((type *)p)[i] = from_real;     \
    else ((type *)p)[i] = from_whole;           \
    break;
    NARROW(X)
#undef X
  }
}

static __global__ void cast_any(int64_t n, int from, const void *x, int to, void *z) {
  PARE_EACH(i, n) narrow(to, z, i, widen(from, x, i));
}
/* Four at once where so many packs are asked for, then the elements behind them. */
enum { FOUR = 4 };
template <class T> struct alignas(FOUR * sizeof(T)) Four {
  T at[FOUR];
};
template <class S, class T> static __global__ void cast_float(int64_t packs, int64_t n, const S *x, T *z) {
  PARE_EACH(i, packs) {
    Four<S> p = ((const Four<S> *)x)[i];
    Four<T> q;
    for (int k = 0; k < FOUR; k++) q.at[k] = pare_store<T>(pare_load(p.at[k]));
    ((Four<T> *)z)[i] = q;
  }
  PARE_EACH(i, n - packs * FOUR) z[packs * FOUR + i] = pare_store<T>(pare_load(x[packs * FOUR + i]));
}

PareStatus pare_cuda_cast(PareKernelArgs *a, int64_t n, PareDtype from, const void *x, PareDtype to, void *z) {
  cudaStream_t stream = pare_cuda(a)->stream;
  int64_t packs = pare_aligned(x) && pare_aligned(z) ? n / FOUR : 0, blocks = pare_blocks(a, n, PARE_THREADS);
  if (!n) return PARE_OK;
  if (from == to)
    return pare_cuda_status(a, cudaMemcpyAsync(z, x, (size_t)n * pare_dtype_size(to), cudaMemcpyDeviceToDevice, stream));
  if (from == PARE_F32 && to == PARE_BF16)
    PARE_LAUNCH((cast_float<float, PareBf16>), blocks, PARE_THREADS, 0, stream, packs, n, (const float *)x,
                (PareBf16 *)z);
  else if (from == PARE_BF16 && to == PARE_F32)
    PARE_LAUNCH((cast_float<PareBf16, float>), blocks, PARE_THREADS, 0, stream, packs, n, (const PareBf16 *)x,
                (float *)z);
  else PARE_LAUNCH(cast_any, blocks, PARE_THREADS, 0, stream, n, (int)from, x, (int)to, z);
  return pare_launched(a);
}

PareStatus pare_cuda_CAST(PareKernelArgs *a) {
  return pare_cuda_cast(a, pare_count(&a->in[0]), a->in[0].type.dtype, a->in[0].data, a->out[0].type.dtype,
                        a->out[0].data);
}
PareStatus pare_cuda_CASTLIKE(PareKernelArgs *a) { return pare_cuda_CAST(a); }
