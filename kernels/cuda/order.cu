/* order.cu - ArgMax, ArgMin, TopK and Hardmax: which elements of a line are the largest. A NaN is larger than any
 * number; of equal elements the first comes first. */
#include "kernels/cuda/types.cuh"

enum { SHORT = 64, MANY = 1 << 15, FEW = 64 };

/* [outer, n, inner]: a line is n elements, `inner` apart. */
struct Lines {
  int64_t n, inner, count;
  int largest, last; /* last: of equal numbers the last comes first */
  int numbers;       /* a NaN counts in the line's first place alone */
};

/* flatten: before opset 13, all axes from `axis` on are one line and the default axis is 1. */
static Lines lines_of(const PareKernelArgs *a, int64_t dflt) {
  const PareType *t = &a->in[0].type;
  bool flat = a->attr->flatten;
  int64_t axis = pare_attr_get(a->attr, axis, flat ? 1 : dflt);
  if (t->rank == 0) return {1, 1, 1, 1, 0, 0};
  int k = axis == t->rank ? t->rank : pare_axis(axis, t->rank), end = flat ? t->rank : k + 1;
  int64_t inner = pare_span(t, end, t->rank);
  return {pare_span(t, k, end), inner, pare_span(t, 0, k) * inner, 1, 0, 0};
}
static __device__ inline int64_t line_start(const Lines &o, int64_t line, int64_t n) {
  return line / o.inner * n * o.inner + line % o.inner;
}

template <class T> static __device__ inline bool is_nan(T v) {
  if constexpr (PareNum<T>::integer) return false;
  else return pare_load(v) != pare_load(v);
}
/* Does element i of the line at x come before j? */
template <class T> static __device__ inline bool comes(const Lines &o, const T *x, int64_t i, int64_t j) {
  T p = x[i * o.inner], q = x[j * o.inner];
  PARE_C u = pare_load(p), v = pare_load(q);
  if (u == v) return (i < j) != (bool)o.last;
  if (is_nan(p) || is_nan(q)) return is_nan(p) && is_nan(q) ? i < j : is_nan(p) == (bool)o.largest;
  return o.largest ? u > v : u < v;
}
/* The one of two that comes first; -1 is none. */
template <class T> static __device__ inline int64_t first_of(const Lines &o, const T *x, int64_t i, int64_t j) {
  if (i < 0 || j < 0) return i < 0 ? j : i;
  return comes(o, x, j, i) ? j : i;
}
/* What comes first of the line at x, or first behind element `prev`; all the team's threads get it. */
template <int TEAM, class T>
static __device__ inline int64_t team_first(const Lines &o, const T *x, int64_t prev) {
  int64_t best = -1;
  for (int64_t j = threadIdx.x % TEAM; j < o.n; j += TEAM)
    if ((prev < 0 || comes(o, x, prev, j)) && !(o.numbers && j && is_nan(x[j * o.inner])))
      best = first_of(o, x, best, j);
  if constexpr (TEAM > 1) {
    __shared__ int64_t part[TEAM / PARE_WARP];
    for (int m = PARE_WARP / 2; m; m /= 2) best = first_of(o, x, best, __shfl_xor_sync(0xffffffffu, best, m));
    __syncthreads(); /* part may still be read */
    if (threadIdx.x % PARE_WARP == 0) part[threadIdx.x / PARE_WARP] = best;
    __syncthreads();
    for (int i = 0; i < TEAM / PARE_WARP; i++) best = first_of(o, x, best, part[i]);
  }
  return best;
}

/* Of each line the first's place to index or, without, 1 to its place in y, which is zero. */
template <class T, int TEAM>
static __global__ void extreme(Lines o, const T *x, int64_t *index, T *y) {
  int64_t step = (int64_t)gridDim.x * blockDim.x / TEAM;
  for (int64_t l = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / TEAM; l < o.count; l += step) {
    int64_t at = line_start(o, l, o.n), best = team_first<TEAM>(o, x + at, -1);
    if (threadIdx.x % TEAM) continue;
    if (index) index[l] = best;
    else y[at + best * o.inner] = pare_store<T>(1);
  }
}
/* A thread has a line where that keeps enough of them busy, else a block. */
template <class T> static PareStatus extreme_run(PareKernelArgs *a, const Lines &o, int64_t *index, T *y) {
  const T *x = (const T *)a->in[0].data;
  cudaStream_t stream = pare_cuda(a)->stream;
  if (o.n <= SHORT || (o.inner > 1 && o.count >= MANY))
    PARE_LAUNCH((extreme<T, 1>), pare_blocks(a, o.count, PARE_THREADS), PARE_THREADS, 0, stream, o, x, index, y);
  else
    PARE_LAUNCH((extreme<T, PARE_THREADS>), pare_blocks(a, o.count, 1), PARE_THREADS, 0, stream, o, x, index, y);
  return pare_launched(a);
}

static PareStatus arg(PareKernelArgs *a, bool largest) {
  Lines o = lines_of(a, 0);
  o.largest = largest, o.last = a->attr->select_last_index != 0;
  if (!o.count) return PARE_OK;
  if (!o.n) return pare_why(a, PARE_DATA, "the axis is empty: none of its elements is the largest");
  return pare_by_any(a, a->in[0].type.dtype, [&](auto zero) {
    return extreme_run<decltype(zero)>(a, o, (int64_t *)a->out[0].data, NULL);
  });
}
PareStatus pare_cuda_ARGMAX(PareKernelArgs *a) { return arg(a, true); }
PareStatus pare_cuda_ARGMIN(PareKernelArgs *a) { return arg(a, false); }

PareStatus pare_cuda_HARDMAX(PareKernelArgs *a) {
  Lines o = lines_of(a, -1);
  o.numbers = 1;
  if (!o.count || !o.n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    size_t bytes = (size_t)(o.count * o.n) * sizeof(T);
    PARE_TRY(pare_cuda_status(a, cudaMemsetAsync(a->out[0].data, 0, bytes, pare_cuda(a)->stream)));
    return extreme_run<T>(a, o, NULL, (T *)a->out[0].data);
  });
}

/* --- TopK, in order --- */
template <class T> static __device__ inline void put(int64_t at, T v, int64_t j, T *y, int64_t *index) {
  y[at] = v;
  if (index) index[at] = j;
}
/* Few: a block looks for one after the other. */
template <class T> static __global__ void top_few(Lines o, int64_t k, const T *x, T *y, int64_t *index) {
  for (int64_t l = blockIdx.x; l < o.count; l += gridDim.x) {
    const T *from = x + line_start(o, l, o.n);
    int64_t to = line_start(o, l, k), best = -1;
    for (int64_t r = 0; r < k; r++) {
      best = team_first<PARE_THREADS>(o, from, best);
      if (threadIdx.x == 0) put(to + r * o.inner, from[best * o.inner], best, y, index);
    }
  }
}
/* Many: a thread counts what comes before its element. */
template <class T> static __global__ void top_many(Lines o, int64_t k, const T *x, T *y, int64_t *index) {
  PARE_EACH(e, o.count * o.n) {
    int64_t l = e / o.n, j = e % o.n, rank = 0;
    const T *from = x + line_start(o, l, o.n);
    for (int64_t i = 0; i < o.n && rank < k; i++) rank += comes(o, from, i, j);
    if (rank < k) put(line_start(o, l, k) + rank * o.inner, from[j * o.inner], j, y, index);
  }
}
PareStatus pare_cuda_TOPK(PareKernelArgs *a) {
  Lines o = lines_of(a, -1);
  const PareType *t = &a->out[0].type;
  int64_t k = t->rank ? t->dim[pare_axis(pare_attr_get(a->attr, axis, -1), t->rank)] : 1;
  int64_t *index = pare_wanted(a, 1) ? (int64_t *)a->out[1].data : NULL;
  o.largest = pare_attr_get(a->attr, largest, 1) != 0;
  if (!o.count || !k) return PARE_OK;
  return pare_by_any(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    const T *x = (const T *)a->in[0].data;
    T *y = (T *)a->out[0].data;
    cudaStream_t stream = pare_cuda(a)->stream;
    if (k <= FEW) PARE_LAUNCH(top_few<T>, pare_blocks(a, o.count, 1), PARE_THREADS, 0, stream, o, k, x, y, index);
    else
      PARE_LAUNCH(top_many<T>, pare_blocks(a, o.count * o.n, PARE_THREADS), PARE_THREADS, 0, stream, o, k, x, y, index);
    return pare_launched(a);
  });
}
