/* quantize.c - floats to small integers and back, with one scale or one for each index of an axis:
 *   QuantizeLinear    q = clamp(round(x / s) + z), round half to even, NaN becomes the least
 *   DequantizeLinear  y = (q - z) * s
 *   DynamicQuantizeLinear  the same to u8, with s and z from the least and the greatest x
 *   FakeQuantize      both in one, on floats; QuantizeMask is 1 where it does not clamp, else 0 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
typedef struct Range {
  double lo, hi;
  bool rounds;
} Range;

static Range range_of(PareDtype d) {
  switch (d) {
  case PARE_I8: return (Range){INT8_MIN, INT8_MAX, true};
  case PARE_U8: return (Range){0, UINT8_MAX, true};
  case PARE_I16: return (Range){INT16_MIN, INT16_MAX, true};
  default: return (Range){0, UINT16_MAX, true};
  }
}

/* dtype, C type */
#define PARE_QUANTIZED(X) X(I8, int8_t) X(U8, uint8_t) X(I16, int16_t) X(U16, uint16_t)
#define PARE_DEQUANTIZED(X) PARE_QUANTIZED(X) X(I32, int32_t)

#define X(id, type)                                                                                            \
  static void quantize_##id(int64_t n, void *out, const void *const in[3], const bool step[3], const void *arg) { \
    const float *x = in[0], *s = in[1];                                                                        \
    const type *z = in[2];                                                                                     \
    const Range *r = arg;                                                                                      \
    float lo = (float)r->lo, hi = (float)r->hi;                                                                \
    for (int64_t i = 0; i < n; i++) {                                                                          \
      float v = rintf(x[i] / s[step[1] ? i : 0]) + (float)z[step[2] ? i : 0];                                  \
      ((type *)out)[i] = (type)(v > lo ? v < hi ? v : hi : lo);                                                \
    }                                                                                                          \
  }
PARE_QUANTIZED(X)
#undef X

#define X(id, type)                                                                                              \
  static void dequantize_##id(int64_t n, void *out, const void *const in[3], const bool step[3], const void *arg) { \
    const type *q = in[0], *z = in[2];                                                                           \
    const float *s = in[1];                                                                                      \
    (void)arg;                                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                                            \
      int64_t v = (int64_t)q[step[0] ? i : 0] - z[step[2] ? i : 0];                                              \
      ((float *)out)[i] = (float)v * s[step[1] ? i : 0];                                                         \
    }                                                                                                            \
  }
PARE_DEQUANTIZED(X)
#undef X

#define PARE_TEMPLATE "kernels/cpu/quantize.c"
#include "kernels/cpu/floats.h"

/* Scale or zero point as it broadcasts to a tensor of this rank: along the axis, if there are several. */
static PareTensor along(const PareTensor *t, int rank, int64_t axis) {
  PareTensor out = *t;
  int64_t count = pare_count(t);
  out.type.rank = 0;
  if (count == 1) return out;
  out.type.rank = rank - pare_axis(axis, rank);
  for (int i = 0; i < out.type.rank; i++) out.type.dim[i] = i ? 1 : count;
  return out;
}

/* Calls row with x, scale and zero point; one that is left out is 0. */
static PareStatus run(PareKernelArgs *a, PareDtype quantized, PareRowFn *row, const Range *r) {
  static const int64_t nothing;
  if (!row || (a->in[0].type.dtype != PARE_F32 && a->out[0].type.dtype != PARE_F32) || a->in[1].type.dtype != PARE_F32)
    return pare_bad_type(a);
  int rank = a->in[0].type.rank;
  int64_t axis = pare_attr_get(a->attr, axis, 1);
  PareTensor zero = {(void *)(uintptr_t)&nothing, {.dtype = quantized}};
  if (pare_given(a, 2)) zero = along(&a->in[2], rank, axis);
  PareTensor in[3] = {a->in[0], along(&a->in[1], rank, axis), zero};
  PARE_CPU(rows)(&a->out[0], 3, in, row, r);
  return PARE_OK;
}

PareStatus PARE_CPU(QUANTIZELINEAR)(PareKernelArgs *a) {
  static PareRowFn *const row[PARE_DTYPE_COUNT] = {
#define X(id, type) [PARE_##id] = quantize_##id,
      PARE_QUANTIZED(X)
#undef X
  };
  PareDtype d = a->out[0].type.dtype;
  Range r = range_of(d);
  return run(a, d, row[d], &r);
}

PareStatus PARE_CPU(DEQUANTIZELINEAR)(PareKernelArgs *a) {
  static PareRowFn *const row[PARE_DTYPE_COUNT] = {
#define X(id, type) [PARE_##id] = dequantize_##id,
      PARE_DEQUANTIZED(X)
#undef X
  };
  PareDtype d = a->in[0].type.dtype;
  return run(a, d, row[d], NULL);
}

/* s = (max - min) / 255 with 0 between min and max, z = round(-min / s). */
PareStatus PARE_CPU(DYNAMICQUANTIZELINEAR)(PareKernelArgs *a) {
  const float *x = a->in[0].data;
  float lo = 0, hi = 0;
  if (a->in[0].type.dtype != PARE_F32) return pare_bad_type(a);
  for (int64_t i = 0, n = pare_count(&a->in[0]); i < n; i++) {
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  float scale = hi > lo ? (hi - lo) / 255 : 1;
  uint8_t zero = (uint8_t)fminf(fmaxf(rintf(-lo / scale), 0), 255);
  PareTensor in[3] = {a->in[0], {&scale, {.dtype = PARE_F32}}, {&zero, {.dtype = PARE_U8}}};
  Range r = range_of(PARE_U8);
  PARE_CPU(rows)(&a->out[0], 3, in, quantize_U8, &r);
  if (pare_wanted(a, 1)) *(float *)a->out[1].data = scale;
  if (pare_wanted(a, 2)) *(uint8_t *)a->out[2].data = zero;
  return PARE_OK;
}

static PareStatus fake(PareKernelArgs *a, PareRowFn *row) {
  if (!row) return pare_bad_type(a);
  Range r = range_of(a->attr->output_dtype);
  r.rounds = !pare_attr_get(a->attr, unrounded, 0);
  PARE_CPU(rows)(&a->out[0], 3, a->in, row, &r);
  return PARE_OK;
}

PareStatus PARE_CPU(FAKEQUANTIZE)(PareKernelArgs *a) { return fake(a, PARE_PICK_FLOAT(a->in[0].type.dtype, fake)); }
PareStatus PARE_CPU(QUANTIZEMASK)(PareKernelArgs *a) { return fake(a, PARE_PICK_FLOAT(a->in[0].type.dtype, mask)); }

#else

static void FN(fake)(int64_t n, void *out, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0], *s = in[1], *z = in[2];
  const Range *r = arg;
  C lo = (C)r->lo, hi = (C)r->hi;
  for (int64_t i = 0; i < n; i++) {
    C scale = LOAD(s[step[1] ? i : 0]), zero = LOAD(z[step[2] ? i : 0]), q = LOAD(x[step[0] ? i : 0]) / scale;
    C v = (r->rounds ? MATH(rint)(q) : q) + zero;
    ((T *)out)[i] = STORE(((v > lo ? v < hi ? v : hi : lo) - zero) * scale);
  }
}

static void FN(mask)(int64_t n, void *out, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0], *s = in[1], *z = in[2];
  const Range *r = arg;
  C lo = (C)r->lo, hi = (C)r->hi;
  for (int64_t i = 0; i < n; i++) {
    C q = LOAD(x[step[0] ? i : 0]) / LOAD(s[step[1] ? i : 0]);
    C v = (r->rounds ? MATH(rint)(q) : q) + LOAD(z[step[2] ? i : 0]);
    ((T *)out)[i] = STORE((C)(v >= lo && v <= hi));
  }
}

#endif
