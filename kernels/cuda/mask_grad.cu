/* mask_grad.cu - what a mask's gradient is summed from: out[k] = sum over the rows of x[i, k]·dx[i, k], by itself (MaskGrad)
 * or, behind a GELU, where its gradient is made of the same numbers. A thread has a pack of neighbouring columns and a strip
 * of the rows, which depends on the sizes alone; strips are added up in order. */
#include "kernels/cuda/gelu.cuh"

enum { LEAST = 64, STRIPS = 256, TEAM = 128 }; /* rows of a strip; strips at most; threads of a block */

struct Dots {
  int64_t rows, k, strips;
};
static Dots dots_of(const PareKernelArgs *a, int result) {
  Dots d = {};
  d.k = pare_count(&a->out[result]);
  d.rows = d.k ? pare_count(&a->in[0]) / d.k : 0;
  d.strips = pare_max(1, pare_min(STRIPS, d.rows / LEAST));
  return d;
}

/* What is summed of u and v, and what is written in the place of element z. */
struct Plain {
  enum { writes = 0 };
  template <class C> static __device__ inline C of(C u, C v, C *) { return u * v; }
};
template <class Value, class Slope> struct Gelu {
  enum { writes = 1 };
  template <class C> static __device__ inline C of(C u, C v, C *z) { return *z = Slope::of(u, v), Value::of(u) * v; }
};

template <class T, int N> struct alignas(N * sizeof(T)) Columns {
  T at[N];
};

/* part[strip][k], N columns a thread; z may be x or y. */
template <class F, class T, int N> static __global__ void dot_strips(Dots d, const T *x, const T *y, T *z, PARE_C *part) {
  typedef Columns<T, N> Pack;
  int64_t packs = d.k / N;
  PARE_EACH(at, packs * d.strips) {
    int64_t strip = at / packs, j = at % packs * N, lo = d.rows / d.strips * strip;
    int64_t hi = strip + 1 == d.strips ? d.rows : lo + d.rows / d.strips;
    PARE_C sum[N] = {};
    for (int64_t i = lo; i < hi; i++) {
      Pack u = *(const Pack *)(x + i * d.k + j), v = *(const Pack *)(y + i * d.k + j);
      PARE_UNROLL for (int n = 0; n < N; n++) {
        PARE_C made = 0;
        sum[n] += F::of(pare_load(u.at[n]), pare_load(v.at[n]), &made);
        if (F::writes) u.at[n] = pare_store<T>(made);
      }
      if (F::writes) *(Pack *)(z + i * d.k + j) = u;
    }
    PARE_UNROLL for (int n = 0; n < N; n++) part[strip * d.k + j + n] = sum[n];
  }
}
template <class C> static __global__ void add_strips(Dots d, const C *part, C *out) {
  PARE_EACH(j, d.k) {
    C sum = 0;
    for (int64_t s = 0; s < d.strips; s++) sum += part[s * d.k + j];
    out[j] = sum;
  }
}

template <class F, class T> static PareStatus run(PareKernelArgs *a, const Dots &d, T *z, PARE_C *out) {
  typedef PARE_C C;
  enum { N = ParePack<T>::N };
  const T *x = (const T *)a->in[0].data, *y = (const T *)a->in[1].data;
  C *part = (C *)a->workspace;
  cudaStream_t stream = pare_cuda(a)->stream;
  if (!d.k) return PARE_OK;
  if (d.k % N == 0 && pare_aligned(x) && pare_aligned(y) && pare_aligned(z))
    PARE_LAUNCH((dot_strips<F, T, N>), pare_blocks(a, d.k / N * d.strips, TEAM), TEAM, 0, stream, d, x, y, z, part);
  else PARE_LAUNCH((dot_strips<F, T, 1>), pare_blocks(a, d.k * d.strips, TEAM), TEAM, 0, stream, d, x, y, z, part);
  PARE_LAUNCH(add_strips<C>, pare_blocks(a, d.k, TEAM), TEAM, 0, stream, d, (const C *)part, out);
  return pare_launched(a);
}

static PareStatus plan(PareKernelArgs *a, int result) {
  Dots d = dots_of(a, result);
  a->workspace_bytes = (size_t)(d.strips * d.k) * pare_esize(&a->out[result]);
  return PARE_OK;
}
static bool fits(const PareKernelArgs *a, int result) {
  return a->out[result].type.dtype == (a->in[0].type.dtype == PARE_F64 ? PARE_F64 : PARE_F32);
}

PareStatus pare_cuda_plan_MASKGRAD(PareKernelArgs *a) { return plan(a, 0); }
PareStatus pare_cuda_MASKGRAD(PareKernelArgs *a) {
  if (!fits(a, 0)) return pare_bad_type(a);
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    return run<Plain, T>(a, dots_of(a, 0), NULL, (PARE_C *)a->out[0].data);
  });
}

PareStatus pare_cuda_plan_GELUGRAD(PareKernelArgs *a) { return a->nout > 1 ? plan(a, 1) : PARE_OK; }
/* Results: dh, the mask's gradient. */
PareStatus pare_cuda_gelu_mask_grad(PareKernelArgs *a) {
  bool tanh = a->attr->approximate != 0;
  if (!fits(a, 1)) return pare_bad_type(a);
  Dots d = dots_of(a, 1);
  if (a->in[0].type.dtype == PARE_BF16) {
    PareBf16 *z = (PareBf16 *)a->out[0].data;
    float *out = (float *)a->out[1].data;
    return tanh ? run<Gelu<GELU_TANH_LOW, GELUGRAD_TANH_LOW>>(a, d, z, out)
                : run<Gelu<GELU_ERF_LOW, GELUGRAD_ERF_LOW>>(a, d, z, out);
  }
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    T *z = (T *)a->out[0].data;
    PARE_C *out = (PARE_C *)a->out[1].data;
    return tanh ? run<Gelu<GELU_TANH, GELUGRAD_TANH>, T>(a, d, z, out) : run<Gelu<GELU_ERF, GELUGRAD_ERF>, T>(a, d, z, out);
  });
}
