/* quantize.cu - floats to small integers and back, with one scale or one for each index of an axis:
 *   QuantizeLinear    q = clamp(round(x / s) + z), round half to even, NaN becomes the least
 *   DequantizeLinear  y = (q - z) * s
 *   DynamicQuantizeLinear  the same to u8, with s and z from the least and the greatest x
 *   FakeQuantize      both in one, on floats; QuantizeMask is 1 where it does not clamp, else 0 */
#include "kernels/cuda/cuda.cuh"

#include <limits>

/* dtype, C type */
#define QUANTIZED(X) X(I8, int8_t) X(U8, uint8_t) X(I16, int16_t) X(U16, uint16_t)
#define DEQUANTIZED(X) QUANTIZED(X) X(I32, int32_t)

struct Bounds {
  double lo, hi;
};
static Bounds bounds_of(PareDtype d) {
  switch (d) {
#define X(id, type) \
  case PARE_##id: return {(double)std::numeric_limits<type>::min(), (double)std::numeric_limits<type>::max()};
    QUANTIZED(X)
#undef X
    default: return {0, UINT16_MAX};
  }
}

/* Calls f(T()) for the small integer that d names; i32 is only taken back to floats. */
template <class F> static PareStatus by_quantized(PareKernelArgs *a, PareDtype d, F f) {
#define X(id, type) \
  if (d == PARE_##id) return f(type());
  QUANTIZED(X)
#undef X
  return pare_bad_type(a);
}
template <class F> static PareStatus by_dequantized(PareKernelArgs *a, PareDtype d, F f) {
  return d == PARE_I32 ? f(int32_t()) : by_quantized(a, d, f);
}

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
/* Places of x, scale and zero point; of one that is left out, 0. */
static PareWalk walk_scaled(const PareKernelArgs *a) {
  int rank = a->in[0].type.rank;
  int64_t axis = pare_attr_get(a->attr, axis, 1);
  PareTensor none = {};
  PareTensor in[3] = {a->in[0], along(&a->in[1], rank, axis), pare_given(a, 2) ? along(&a->in[2], rank, axis) : none};
  return pare_walk_broadcast(&a->out[0], 3, in);
}

/* --- to integers and back: z may be NULL --- */
template <class Q>
static __global__ void quantize(PareWalk w, int64_t n, Bounds r, const float *x, const float *s, const Q *z, Q *q) {
  float lo = (float)r.lo, hi = (float)r.hi;
  PARE_EACH(i, n) {
    int64_t at[3] = {0, 0, 0};
    pare_walk_at<3>(w, i, at);
    float v = rintf(x[at[0]] / s[at[1]]) + (z ? (float)z[at[2]] : 0);
    q[i] = (Q)(v > lo ? v < hi ? v : hi : lo);
  }
}
template <class Q>
static __global__ void dequantize(PareWalk w, int64_t n, const Q *q, const float *s, const Q *z, float *y) {
  PARE_EACH(i, n) {
    int64_t at[3] = {0, 0, 0};
    pare_walk_at<3>(w, i, at);
    y[i] = (float)((int64_t)q[at[0]] - (z ? z[at[2]] : 0)) * s[at[1]];
  }
}

PareStatus pare_cuda_QUANTIZELINEAR(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  PareDtype d = a->out[0].type.dtype;
  if (a->in[0].type.dtype != PARE_F32 || a->in[1].type.dtype != PARE_F32) return pare_bad_type(a);
  PareWalk w = walk_scaled(a);
  return by_quantized(a, d, [&](auto zero) {
    typedef decltype(zero) Q;
    if (!n) return PARE_OK;
    PARE_LAUNCH(quantize<Q>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                bounds_of(d), (const float *)a->in[0].data, (const float *)a->in[1].data,
                (const Q *)(pare_given(a, 2) ? a->in[2].data : NULL), (Q *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_DEQUANTIZELINEAR(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  if (a->out[0].type.dtype != PARE_F32 || a->in[1].type.dtype != PARE_F32) return pare_bad_type(a);
  PareWalk w = walk_scaled(a);
  return by_dequantized(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) Q;
    if (!n) return PARE_OK;
    PARE_LAUNCH(dequantize<Q>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                (const Q *)a->in[0].data, (const float *)a->in[1].data,
                (const Q *)(pare_given(a, 2) ? a->in[2].data : NULL), (float *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- DynamicQuantizeLinear: s = (max - min) / 255 with 0 between min and max, z = round(-min / s) --- */
enum { MAX_PARTS = PARE_THREADS };
struct Fit {
  float scale;
  uint8_t zero;
};

/* part[0][b]: minus the least number that block b sees, or 0; part[1][b]: the greatest. NaN is passed over. */
static __global__ void extremes(int64_t n, const float *x, float *part) {
  float lo = 0, hi = 0;
  PARE_EACH(i, n) {
    lo = -x[i] > lo ? -x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  lo = pare_team_max<PARE_THREADS>(lo);
  hi = pare_team_max<PARE_THREADS>(hi);
  if (threadIdx.x == 0) part[blockIdx.x] = lo, part[MAX_PARTS + blockIdx.x] = hi;
}
static __global__ void fit(int parts, const float *part, Fit *out, float *scale, uint8_t *zero) {
  bool has = (int)threadIdx.x < parts;
  float lo = pare_team_max<PARE_THREADS>(has ? part[threadIdx.x] : 0);
  float hi = pare_team_max<PARE_THREADS>(has ? part[MAX_PARTS + threadIdx.x] : 0);
  if (threadIdx.x) return;
  Fit f = {hi + lo > 0 ? (hi + lo) / 255 : 1, 0};
  f.zero = (uint8_t)fminf(fmaxf(rintf(lo / f.scale), 0), 255);
  *out = f;
  if (scale) *scale = f.scale;
  if (zero) *zero = f.zero;
}

PareStatus pare_cuda_plan_DYNAMICQUANTIZELINEAR(PareKernelArgs *a) {
  a->workspace_bytes = pare_part_bytes(sizeof(Fit)) + 2 * MAX_PARTS * sizeof(float);
  return PARE_OK;
}
PareStatus pare_cuda_DYNAMICQUANTIZELINEAR(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]), parts = pare_max(1, pare_min(MAX_PARTS, pare_ceil_div(n, 16 * PARE_THREADS)));
  Fit *made = (Fit *)a->workspace;
  float *part = (float *)((char *)a->workspace + pare_part_bytes(sizeof(Fit)));
  const float *x = (const float *)a->in[0].data;
  cudaStream_t stream = pare_cuda(a)->stream;
  if (a->in[0].type.dtype != PARE_F32) return pare_bad_type(a);
  PARE_LAUNCH(extremes, parts, PARE_THREADS, 0, stream, n, x, part);
  PARE_LAUNCH(fit, 1, PARE_THREADS, 0, stream, (int)parts, (const float *)part, made,
              (float *)(pare_wanted(a, 1) ? a->out[1].data : NULL),
              (uint8_t *)(pare_wanted(a, 2) ? a->out[2].data : NULL));
  PareTensor in[3] = {a->in[0], {}, {}};
  PareWalk w = pare_walk_broadcast(&a->out[0], 3, in);
  if (n)
    PARE_LAUNCH(quantize<uint8_t>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, stream, w, n, bounds_of(PARE_U8),
                x, (const float *)&made->scale, (const uint8_t *)&made->zero, (uint8_t *)a->out[0].data);
  return pare_launched(a);
}

/* --- FakeQuantize and its mask --- */
template <class T>
static __global__ void fake(PareWalk w, int64_t n, Bounds r, int rounds, int mask, const T *x, const T *s, const T *z,
                            T *y) {
  typedef PARE_C C;
  C lo = (C)r.lo, hi = (C)r.hi;
  PARE_EACH(i, n) {
    int64_t at[3] = {0, 0, 0};
    pare_walk_at<3>(w, i, at);
    C scale = pare_load(s[at[1]]), zero = pare_load(z[at[2]]), q = pare_load(x[at[0]]) / scale;
    C v = (rounds ? rint(q) : q) + zero;
    if (mask) y[i] = pare_store<T>((C)(v >= lo && v <= hi));
    else y[i] = pare_store<T>(((v > lo ? v < hi ? v : hi : lo) - zero) * scale);
  }
}
static PareStatus fake_run(PareKernelArgs *a, int mask) {
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  PareWalk w = pare_walk_broadcast(&a->out[0], 3, a->in);
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(fake<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                bounds_of(a->attr->output_dtype), !pare_attr_get(a->attr, unrounded, 0), mask,
                (const T *)a->in[0].data, (const T *)a->in[1].data, (const T *)a->in[2].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_FAKEQUANTIZE(PareKernelArgs *a) { return fake_run(a, 0); }
PareStatus pare_cuda_QUANTIZEMASK(PareKernelArgs *a) { return fake_run(a, 1); }
