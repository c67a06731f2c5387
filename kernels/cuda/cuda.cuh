/* cuda.cuh - what the CUDA kernels share. Of CUDA the files use <cuda_runtime.h> and <cublasLt.h> alone, launch by
 * PARE_LAUNCH and take shared memory by PARE_SHARED: tests/cuda has stand-ins for both headers with which the same
 * files are compiled for the host and every kernel is run without a GPU.
 *
 * A kernel of ops.def is pare_cuda_ID(a). Its tensors lie in the device's memory: it reads types and what is `known`,
 * and queues work. Sums have a fixed order and no atomics: the same bytes each time. Indices are 64 bits wide. */
#ifndef PARE_KERNELS_CUDA_CUH
#define PARE_KERNELS_CUDA_CUH

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <type_traits>

extern "C" {
#include "kernels/device.h"
}

#ifdef __CUDACC__
#define PARE_LAUNCH(kernel, grid, block, shared, stream, ...) \
  kernel<<<(unsigned)(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
/* The block's dynamic shared memory as `name`. */
#define PARE_SHARED(T, name)                            \
  extern __shared__ __align__(16) unsigned char pare_shared_[]; \
  T *name = reinterpret_cast<T *>(pare_shared_)
#define PARE_UNROLL _Pragma("unroll")
#define PARE_ROLL _Pragma("unroll 1") /* a body so long that copies of it would crowd out instructions */
#endif

/* --- the device, as kernels see it: PareKernelArgs.queue --- */
struct PareCuda {
  const PareDevice *device; /* for what callers have set */
  cudaStream_t stream;
  cublasLtHandle_t blas;
  void *blas_space;
  size_t blas_bytes;
  struct PareGemmMemo *memo; /* gemm_tune.cu */
  int processors; /* multiprocessors */
  int shared;     /* bytes of shared memory that a block may ask for */
};
static inline const PareCuda *pare_cuda(const PareKernelArgs *a) { return (const PareCuda *)a->queue; }

enum { PARE_THREADS = 256, PARE_WARP = 32 };

static inline int64_t pare_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pare_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t pare_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Bytes of a part of a workspace, so that the next one is aligned too. */
static inline size_t pare_part_bytes(size_t bytes) { return (bytes + 255) & ~(size_t)255; }

/* Blocks for n items, `each` of them a block; a kernel loops where that is fewer than n needs. */
static inline int64_t pare_blocks(const PareKernelArgs *a, int64_t n, int64_t each) {
  return pare_max(1, pare_min(pare_ceil_div(n, each), (int64_t)pare_cuda(a)->processors * 32));
}
#define PARE_EACH(i, n)                                                                            \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

static inline PareStatus pare_why(PareKernelArgs *a, PareStatus s, const char *why) { return a->why = why, s; }
static inline PareStatus pare_bad_type(PareKernelArgs *a) {
  return pare_why(a, PARE_UNSUPPORTED, "the GPU has no kernel for this element type: take --device cpu");
}
static inline PareStatus pare_cuda_status(PareKernelArgs *a, cudaError_t e) {
  return e == cudaSuccess ? PARE_OK : pare_why(a, PARE_DEVICE, cudaGetErrorString(e));
}
static inline PareStatus pare_launched(PareKernelArgs *a) { return pare_cuda_status(a, cudaGetLastError()); }

/* --- operands --- */
static inline int64_t pare_count(const PareTensor *t) { return pare_type_count(&t->type); }
static inline size_t pare_esize(const PareTensor *t) { return pare_dtype_size(t->type.dtype); }
static inline bool pare_given(const PareKernelArgs *a, int i) { return i < a->nin && a->in[i].data; }
static inline bool pare_wanted(const PareKernelArgs *a, int i) { return i < a->nout && a->out[i].data; }
static inline int pare_axis(int64_t axis, int rank) { return (int)(axis < 0 ? axis + rank : axis); }
static inline int64_t pare_span(const PareType *t, int lo, int hi) {
  int64_t n = 1;
  for (int i = lo; i < hi; i++) n *= t->dim[i];
  return n;
}
static inline bool pare_is_index(const PareTensor *t) {
  return t->type.dtype == PARE_I64 || t->type.dtype == PARE_I32;
}

/* Operands that steer a shape must be known on the host. */
static inline PareStatus pare_need_known(PareKernelArgs *a, int i) {
  if (!pare_given(a, i) || !pare_count(&a->in[i]) || (a->known && a->known[i])) return PARE_OK;
  return pare_why(a, PARE_UNSUPPORTED, "its axes, starts or sizes come from data, which a GPU cannot do: take --device cpu");
}
static inline int64_t pare_known_int(const PareKernelArgs *a, int k, int64_t i) {
  const char *at = (const char *)a->known[k] + (size_t)i * pare_esize(&a->in[k]);
  int64_t wide;
  int32_t narrow;
  if (a->in[k].type.dtype == PARE_I64) return memcpy(&wide, at, sizeof wide), wide;
  return memcpy(&narrow, at, sizeof narrow), narrow;
}

/* --- element types --- */
struct PareBf16 {
  uint16_t bits;
};

/* C: type of the arithmetic; U: the same without a sign, of integers. */
template <class T> struct PareNum;
template <> struct PareNum<float> {
  typedef float C;
  enum { integer = 0 };
};
template <> struct PareNum<double> {
  typedef double C;
  enum { integer = 0 };
};
template <> struct PareNum<PareBf16> {
  typedef float C;
  enum { integer = 0 };
};
template <> struct PareNum<int64_t> {
  typedef int64_t C;
  typedef uint64_t U;
  enum { integer = 1 };
};
template <> struct PareNum<int32_t> {
  typedef int32_t C;
  typedef uint32_t U;
  enum { integer = 1 };
};
#define PARE_C typename PareNum<T>::C

static __host__ __device__ inline float pare_bits_to_float(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
static __host__ __device__ inline uint32_t pare_float_to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

template <class T> static __device__ inline PARE_C pare_load(T v) { return v; }
template <> __device__ inline float pare_load<PareBf16>(PareBf16 v) {
  return pare_bits_to_float((uint32_t)v.bits << 16);
}
template <class T> static __device__ inline T pare_store(PARE_C v) { return v; }
/* Round to nearest, ties to even; NaN stays NaN. */
template <> __device__ inline PareBf16 pare_store<PareBf16>(float v) {
  PareBf16 z;
#ifdef __CUDA_ARCH__
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(z.bits) : "f"(v));
  return z;
#endif
  uint32_t u = pare_float_to_bits(v);
  z.bits = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
  return z;
}

/* 16 bytes at once; addresses must be aligned to it. */
template <class T> struct alignas(16) ParePack {
  enum { N = 16 / sizeof(T) };
  T at[N];
};
static inline bool pare_aligned(const void *p) { return (uintptr_t)p % 16 == 0; }

/* Element i of a float tensor of any type. */
static __device__ inline double pare_get_float(const void *p, int dtype, int64_t i) {
  if (dtype == PARE_F64) return ((const double *)p)[i];
  if (dtype == PARE_BF16) return pare_load(((const PareBf16 *)p)[i]);
  return ((const float *)p)[i];
}
static __device__ inline void pare_put_float(void *p, int dtype, int64_t i, double v) {
  if (dtype == PARE_F64) ((double *)p)[i] = v;
  else if (dtype == PARE_BF16) ((PareBf16 *)p)[i] = pare_store<PareBf16>((float)v);
  else ((float *)p)[i] = (float)v;
}
/* Element i of a tensor of integers or of bools, widened; u64 keeps its bits. */
static __device__ inline int64_t pare_get_int(const void *p, int dtype, int64_t i) {
  switch (dtype) {
    case PARE_I64: return ((const int64_t *)p)[i];
    case PARE_I32: return ((const int32_t *)p)[i];
    case PARE_I16: return ((const int16_t *)p)[i];
    case PARE_I8: return ((const int8_t *)p)[i];
    case PARE_U64: return (int64_t)((const uint64_t *)p)[i];
    case PARE_U32: return ((const uint32_t *)p)[i];
    case PARE_U16: return ((const uint16_t *)p)[i];
  }
  return ((const uint8_t *)p)[i];
}
/* The low bits of v, of `size` bytes. */
static __device__ inline void pare_put_int(void *p, int size, int64_t i, int64_t v) {
  if (size == 8) ((int64_t *)p)[i] = v;
  else if (size == 4) ((int32_t *)p)[i] = (int32_t)v;
  else if (size == 2) ((int16_t *)p)[i] = (int16_t)v;
  else ((int8_t *)p)[i] = (int8_t)v;
}

/* Calls f(T()) for the type that d names. */
template <class F> static PareStatus pare_by_float(PareKernelArgs *a, PareDtype d, F f) {
  if (d == PARE_F32) return f(float());
  if (d == PARE_F64) return f(double());
  if (d == PARE_BF16) return f(PareBf16());
  return pare_bad_type(a);
}
template <class F> static PareStatus pare_by_number(PareKernelArgs *a, PareDtype d, F f) {
  if (d == PARE_I64) return f(int64_t());
  if (d == PARE_I32) return f(int32_t());
  return pare_by_float(a, d, f);
}
/* By size alone, for what is only moved. */
template <class F> static PareStatus pare_by_size(PareKernelArgs *a, size_t size, F f) {
  if (size == 1) return f(uint8_t());
  if (size == 2) return f(uint16_t());
  if (size == 4) return f(uint32_t());
  if (size == 8) return f(uint64_t());
  return pare_bad_type(a);
}

/* --- sums and maxima over the lanes of a warp, or over a block of TEAM threads, which all get the result --- */
template <class C> static __device__ inline C pare_warp_sum(C v) {
  for (int m = PARE_WARP / 2; m; m /= 2) v += __shfl_xor_sync(0xffffffffu, v, m);
  return v;
}
template <class C> static __device__ inline C pare_warp_max(C v) {
  for (int m = PARE_WARP / 2; m; m /= 2) {
    C w = __shfl_xor_sync(0xffffffffu, v, m);
    v = w > v ? w : v;
  }
  return v;
}
template <int TEAM, class C> static __device__ inline C pare_team_sum(C v) {
  __shared__ C part[TEAM / PARE_WARP];
  v = pare_warp_sum(v);
  if (TEAM == PARE_WARP) return v;
  __syncthreads(); /* part may still be read */
  if (threadIdx.x % PARE_WARP == 0) part[threadIdx.x / PARE_WARP] = v;
  __syncthreads();
  v = part[0];
  for (int i = 1; i < TEAM / PARE_WARP; i++) v += part[i];
  return v;
}
template <int TEAM, class C> static __device__ inline C pare_team_max(C v) {
  __shared__ C part[TEAM / PARE_WARP];
  v = pare_warp_max(v);
  if (TEAM == PARE_WARP) return v;
  __syncthreads();
  if (threadIdx.x % PARE_WARP == 0) part[threadIdx.x / PARE_WARP] = v;
  __syncthreads();
  v = part[0];
  for (int i = 1; i < TEAM / PARE_WARP; i++) v = part[i] > v ? part[i] : v;
  return v;
}

/* --- walking an output with operands broadcast or strided along its axes --- */
enum { PARE_OPERANDS = 3 };

/* Division by a number that is known before the launch, of numbers below 2^31 (Granlund and Montgomery 1994). */
struct PareAxis {
  int64_t dim, stride[PARE_OPERANDS];
  uint32_t factor, shift;
};
struct PareWalk {
  int rank;
  int small; /* positions are below 2^31 */
  PareAxis axis[PARE_MAX_RANK];
};

/* Takes axis (dim, strides of the operands) into the walk, merged with the last where all step alike. */
void pare_walk_add(PareWalk *w, int64_t dim, const int64_t stride[PARE_OPERANDS]);
/* Makes the walk ready for positions 0..n-1. */
void pare_walk_end(PareWalk *w, int64_t n);
/* Inputs lo..lo+n-1 of the kernel, broadcast to its output 0. */
PareWalk pare_walk_broadcast(const PareTensor *out, int n, const PareTensor *in);

/* off[j] += operand j's element at position i. */
template <int N> static __device__ inline void pare_walk_at(const PareWalk &w, int64_t i, int64_t off[N]) {
  for (int k = w.rank - 1; k > 0; k--) {
    const PareAxis &x = w.axis[k];
    int64_t q = w.small ? (int64_t)((__umulhi(x.factor, (uint32_t)i) + (uint32_t)i) >> x.shift) : i / x.dim;
    for (int j = 0; j < N; j++) off[j] += (i - q * x.dim) * x.stride[j];
    i = q;
  }
  for (int j = 0; w.rank && j < N; j++) off[j] += i * w.axis[0].stride[j];
}

/* --- work that several families share --- */
/* What an attribute makes another function of an op. */
enum { PARE_OP_FMOD = PARE_OP_COUNT, PARE_OP_SHIFT_LEFT, PARE_OP_SHIFT_RIGHT };
/* z = x op y, broadcast, of any one type of integers (eltwise_int.cu). */
PareStatus pare_cuda_integers(PareKernelArgs *a, int op, const PareTensor *x, const PareTensor *y);
/* z = op x, of any type of integers. */
PareStatus pare_cuda_integer(PareKernelArgs *a, int op);
/* out = x broadcast to out's shape. */
PareStatus pare_cuda_expand(PareKernelArgs *a, const PareTensor *out, const PareTensor *x);
PareKernelFn pare_cuda_GELU, pare_cuda_GELUGRAD;
/* n numbers from one float type to another. */
PareStatus pare_cuda_cast(PareKernelArgs *a, int64_t n, PareDtype from, const void *x, PareDtype to, void *z);

/* y[i][m,n] = alpha·op(a[i])·op(b[i]) + beta·c[i] + bias[n], row-major, i < batch; ld: elements from a row to the
 * next; step: elements from a matrix to the next. a and b have one type, f32, f64 or bf16; sums are f32 (f64). */
struct PareGemmSpec {
  int64_t m, n, k;
  PareDtype in, out;
  bool ta, tb, bias; /* the bias has y's type; c its type, ld and step */
  int64_t lda, ldb, ldc;
  int64_t batch, astep, bstep, cstep;
  int64_t abegin, bbegin, cbegin; /* operands may begin at multiples of so many elements; 0: where tensors do */
  double alpha, beta;
};
struct PareGemm;
/* In plan. PARE_UNSUPPORTED with why when the library has no such product. Pair: pare_gemm_free. */
PareStatus pare_gemm_new(PareKernelArgs *args, const PareGemmSpec *s, PareGemm **out);
/* c may be y; it is not read where beta is 0. */
PareStatus pare_gemm_run(PareKernelArgs *args, PareGemm *g, const void *a, const void *b, const void *bias,
                         const void *c, void *y);
void pare_gemm_free(PareGemm *g);

/* Which way of a product was found fastest, for a device; NULL where memory is out, which costs time alone. */
struct PareGemmMemo *pare_gemm_memo_new(void);
void pare_gemm_memo_free(struct PareGemmMemo *m);

/* out = W' = mask∘(W + scale·A·B) in the type `to` and in W's order, the mask by rows of W[k, n]; and, where a bias[n] is
 * given, bias_out, the same in that type. The operands have the type of its arithmetic; A, B, mask and bias may be NULL. */
struct PareMerge {
  int64_t k, n, r;
  int transposed; /* W is stored [n, k] */
  double scale;
  const void *w, *a, *b, *mask, *bias;
  PareDtype to;
  void *out, *bias_out;
};
PareStatus pare_cuda_merge(PareKernelArgs *a, const PareMerge *m);

/* None, x·Phi(x), its approximation by tanh. */
enum PareGeluKind { PARE_GELU_NONE, PARE_GELU_ERF, PARE_GELU_TANH };
/* dA [k, r] and dB [r, n], NULL where not wanted, of y[m, n] = x[m, k]·mask∘(W + scale·A·B), the mask by W's rows or
 * NULL, x and dy in bf16: on the tensor cores, where the sizes fit. With `gelu`, gelu(x) takes the place of x; with
 * `slope`, dy·gelu'(h) that of dy, and goes to `made` [m, n], which may be dy. work: pare_cuda_lora_bytes of them. */
struct PareLora {
  int64_t m, k, n, r;
  double scale;
  const PareBf16 *x, *dy;
  const float *a, *b, *mask;
  float *da, *db;
  PareGeluKind gelu, slope;
  const PareBf16 *h;
  PareBf16 *made;
};
bool pare_cuda_lora_fits(const PareKernelArgs *a, const PareLora *l);
size_t pare_cuda_lora_bytes(const PareKernelArgs *a, const PareLora *l);
PareStatus pare_cuda_lora_grad(PareKernelArgs *a, const PareLora *l, void *work);

/* table[PARE_OP_COUNT] gets what there is in table.cu. */
void pare_cuda_table(PareKernel *table);

#endif
