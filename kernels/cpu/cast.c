/* cast.c - Cast between all element types, by way of the widest of its class:
 * every float is exact as double, every integer as int64 or uint64. Floats go to
 * integers truncated and saturated, NaN to 0; anything goes to bool by != 0. */
#include "kernels/cpu/cpu.h"

#include <math.h>

enum { BLOCK = 512 };

static inline int64_t saturate(double v, int64_t lo, int64_t hi) {
  if (!(v > (double)lo)) return v == v ? lo : 0;
  return v < (double)hi ? (int64_t)v : hi;
}
static inline uint64_t saturate_u64(double v) {
  if (!(v > 0)) return 0;
  return v < 0x1p64 ? (uint64_t)v : UINT64_MAX;
}
/* Rounds to odd, so that rounding again to a 16-bit format is as rounding once. */
static inline float f32_odd(double v) {
  float f = (float)v;
  if ((double)f == v || f != f || isinf(v)) return f;
  uint32_t u = pare_f32_bits(f);
  if (fabs((double)f) > fabs(v)) u--; /* toward zero */
  return pare_f32_from_bits(u | 1u);
}

/* dtype, C type, class of the intermediate, value of element x */
#define WIDEN(X)                        \
  X(F32, float, F, x)                   \
  X(F64, double, F, x)                  \
  X(F16, uint16_t, F, pare_f16_to_f32(x))  \
  X(BF16, uint16_t, F, pare_bf16_to_f32(x)) \
  X(I8, int8_t, I, x)                   \
  X(I16, int16_t, I, x)                 \
  X(I32, int32_t, I, x)                 \
  X(I64, int64_t, I, x)                 \
  X(U8, uint8_t, I, x)                  \
  X(U16, uint16_t, I, x)                \
  X(U32, uint32_t, I, x)                \
  X(U64, uint64_t, U, x)                \
  X(BOOL, uint8_t, I, x != 0)

/* dtype, C type, from double v, from int64 or uint64 v */
#define NARROW(X)                                                                              \
  X(F32, float, (float)v, (float)v)                                                            \
  X(F64, double, v, (double)v)                                                                 \
  X(F16, uint16_t, pare_f32_to_f16(f32_odd(v)), pare_f32_to_f16(f32_odd((double)v)))           \
  X(BF16, uint16_t, pare_f32_to_bf16(f32_odd(v)), pare_f32_to_bf16(f32_odd((double)v)))        \
  X(I8, int8_t, (int8_t)saturate(v, INT8_MIN, INT8_MAX), (int8_t)v)                            \
  X(I16, int16_t, (int16_t)saturate(v, INT16_MIN, INT16_MAX), (int16_t)v)                      \
  X(I32, int32_t, (int32_t)saturate(v, INT32_MIN, INT32_MAX), (int32_t)v)                      \
  X(I64, int64_t, saturate(v, INT64_MIN, INT64_MAX), (int64_t)v)                               \
  X(U8, uint8_t, (uint8_t)saturate(v, 0, UINT8_MAX), (uint8_t)v)                               \
  X(U16, uint16_t, (uint16_t)saturate(v, 0, UINT16_MAX), (uint16_t)v)                          \
  X(U32, uint32_t, (uint32_t)saturate(v, 0, UINT32_MAX), (uint32_t)v)                          \
  X(U64, uint64_t, saturate_u64(v), (uint64_t)v)                                               \
  X(BOOL, uint8_t, v != 0, v != 0)

typedef enum Class { F, I, U } Class;
typedef union Wide {
  double f[BLOCK];
  int64_t i[BLOCK];
  uint64_t u[BLOCK];
} Wide;

#define WIDE_F w->f[i] = (double)
#define WIDE_I w->i[i] = (int64_t)
#define WIDE_U w->u[i] = (uint64_t)
#define X(id, type, class, value)                                        \
  static Class widen_##id(int64_t n, const void *from, Wide *w) {        \
    for (int64_t i = 0; i < n; i++) {                                    \
      type x = ((const type *)from)[i];                                  \
      WIDE_##class(value);                                               \
    }                                                                    \
    return class;                                                        \
  }
WIDEN(X)
#undef X

#define X(id, type, from_float, from_int)                                \
  static void narrow_##id(int64_t n, const Wide *w, Class c, void *to) { \
    type *z = to;                                                        \
    if (c == F) {                                                        \
      for (int64_t i = 0; i < n; i++) {                                  \
        double v = w->f[i];                                              \
        z[i] = from_float;                                               \
      }                                                                  \
    } else if (c == I) {                                                 \
      for (int64_t i = 0; i < n; i++) {                                  \
        int64_t v = w->i[i];                                             \
        z[i] = from_int;                                                 \
      }                                                                  \
    } else {                                                             \
      for (int64_t i = 0; i < n; i++) {                                  \
        uint64_t v = w->u[i];                                            \
        z[i] = from_int;                                                 \
      }                                                                  \
    }                                                                    \
  }
NARROW(X)
#undef X

typedef Class WidenFn(int64_t n, const void *from, Wide *w);
typedef void NarrowFn(int64_t n, const Wide *w, Class c, void *to);
static WidenFn *const widen[PARE_DTYPE_COUNT] = {
#define X(id, type, class, value) [PARE_##id] = widen_##id,
    WIDEN(X)
#undef X
};
static NarrowFn *const narrow[PARE_DTYPE_COUNT] = {
#define X(id, type, from_float, from_int) [PARE_##id] = narrow_##id,
    NARROW(X)
#undef X
};

/* The two pairs that mixed precision runs through at each step. */
static void f32_to_bf16(int64_t n, const float *x, uint16_t *z) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) z[i] = pare_f32_to_bf16(x[i]);
}
static void bf16_to_f32(int64_t n, const uint16_t *x, float *z) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) z[i] = pare_bf16_to_f32(x[i]);
}

void PARE_CPU(cast_run)(int64_t n, PareDtype from, const void *x, PareDtype to, void *z) {
  Wide w;
  if (from == to) memmove(z, x, (size_t)n * pare_dtype_size(to));
  else if (from == PARE_F32 && to == PARE_BF16) f32_to_bf16(n, x, z);
  else if (from == PARE_BF16 && to == PARE_F32) bf16_to_f32(n, x, z);
  else
    for (int64_t i = 0; i < n; i += BLOCK) {
      int64_t m = pare_min_i64(BLOCK, n - i);
      Class c = widen[from](m, (const char *)x + (size_t)i * pare_dtype_size(from), &w);
      narrow[to](m, &w, c, (char *)z + (size_t)i * pare_dtype_size(to));
    }
}

PareStatus PARE_CPU(CASTLIKE)(PareKernelArgs *a) { return PARE_CPU(CAST)(a); }

PareStatus PARE_CPU(CAST)(PareKernelArgs *a) {
  enum { RUN = 1 << 14 };
  PareDtype from = a->in[0].type.dtype, to = a->out[0].type.dtype;
  int64_t n = pare_count(&a->in[0]);
#pragma omp parallel for schedule(static) if (pare_threaded(n))
  for (int64_t i = 0; i < n; i += RUN)
    PARE_CPU(cast_run)(pare_min_i64(RUN, n - i), from, (const char *)a->in[0].data + (size_t)i * pare_dtype_size(from),
                       to, (char *)a->out[0].data + (size_t)i * pare_dtype_size(to));
  return PARE_OK;
}
