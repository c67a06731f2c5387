/* reduce.cu - ReduceSum, Mean, Prod, Max, Min, SumTo and CumSum. Floats are folded in double, integers in 64 bits. The
 * folded elements of an output are cut into parts by the shapes alone; parts are combined in order. */
#include "kernels/cuda/cuda.cuh"

enum { SUM, PROD, MAX, MIN, MAX_PARTS = 256, ENOUGH = 1 << 17 };

/* Output o folds x[kept(o) + folded(r)] over r < each. */
struct Fold {
  PareWalk kept, folded;
  int64_t outs, each, parts;
  int along; /* the folded elements are neighbours: threads go along them, else along the outputs */
};

static Fold fold_init(const PareType *x, unsigned axes) {
  Fold f = {};
  f.outs = f.each = 1;
  for (int i = 0; i < x->rank; i++) {
    bool folded = axes >> i & 1u;
    int64_t stride[PARE_OPERANDS] = {pare_span(x, i + 1, x->rank)};
    *(folded ? &f.each : &f.outs) *= x->dim[i];
    pare_walk_add(folded ? &f.folded : &f.kept, x->dim[i], stride);
    if (x->dim[i] != 1) f.along = folded;
  }
  pare_walk_end(&f.kept, f.outs);
  pare_walk_end(&f.folded, f.each);
  int64_t threads = f.along ? f.outs * PARE_THREADS : f.outs, want = pare_ceil_div(ENOUGH, pare_max(1, threads));
  int64_t least = f.along ? 4 * PARE_THREADS : 16; /* elements that are worth a part */
  f.parts = pare_max(1, pare_min(pare_min(want, MAX_PARTS), f.each / least));
  return f;
}

/* Axes from input 1; none given means all, or none with noop_with_empty_axes. */
static PareStatus fold_axes(PareKernelArgs *a, Fold *f) {
  const PareType *t = &a->in[0].type;
  PARE_TRY(pare_need_known(a, 1));
  int64_t n = pare_given(a, 1) ? pare_count(&a->in[1]) : 0;
  unsigned axes = n || a->attr->noop_with_empty_axes ? 0 : ~0u;
  for (int64_t i = 0; i < n; i++) {
    int64_t axis = pare_known_int(a, 1, i);
    if (axis < -t->rank || axis >= t->rank) return pare_why(a, PARE_DATA, "axis is out of range");
    axes |= 1u << pare_axis(axis, t->rank);
  }
  *f = fold_init(t, axes);
  return PARE_OK;
}

static Fold fold_to(const PareType *x, const PareType *like) {
  unsigned axes = 0;
  for (int i = 0; i < x->rank; i++) {
    int k = i - (x->rank - like->rank);
    if (k < 0 || like->dim[k] != x->dim[i]) axes |= 1u << i;
  }
  return fold_init(x, axes);
}

/* --- folding: S is double for floats and int64 for integers --- */
template <class T> struct Sum {
  typedef double S;
};
template <> struct Sum<int64_t> {
  typedef int64_t S;
};
template <> struct Sum<int32_t> {
  typedef int64_t S;
};

static __device__ inline double start_of(int op, double) {
  return op == PROD ? 1.0 : op == MAX ? -INFINITY : op == MIN ? INFINITY : 0.0;
}
static __device__ inline int64_t start_of(int op, int64_t) {
  return op == PROD ? 1 : op == MAX ? INT64_MIN : op == MIN ? INT64_MAX : 0;
}
/* Max and Min pass a NaN on. */
static __device__ inline double fold_of(int op, double s, double v) {
  if (op == SUM) return s + v;
  if (op == PROD) return s * v;
  return v != v || (op == MAX ? v > s : v < s) ? v : s;
}
static __device__ inline int64_t fold_of(int op, int64_t s, int64_t v) { /* sums and products wrap around */
  if (op == SUM) return (int64_t)((uint64_t)s + (uint64_t)v);
  if (op == PROD) return (int64_t)((uint64_t)s * (uint64_t)v);
  return (op == MAX ? v > s : v < s) ? v : s;
}
template <class S> static __device__ inline S team_fold(int op, S v, S *part) {
  for (int m = PARE_WARP / 2; m; m /= 2) v = fold_of(op, v, __shfl_xor_sync(0xffffffffu, v, m));
  __syncthreads();
  if (threadIdx.x % PARE_WARP == 0) part[threadIdx.x / PARE_WARP] = v;
  __syncthreads();
  v = part[0];
  for (int i = 1; i < PARE_THREADS / PARE_WARP; i++) v = fold_of(op, v, part[i]);
  return v;
}

/* out[part][o]. A block folds a part of an output. */
template <class T, class S> static __global__ void fold_along(int op, Fold f, const T *x, S *out) {
  __shared__ S shared[PARE_THREADS / PARE_WARP];
  for (int64_t b = blockIdx.x; b < f.outs * f.parts; b += gridDim.x) {
    int64_t o = b % f.outs, p = b / f.outs, from[1] = {0};
    int64_t lo = f.each / f.parts * p, hi = p + 1 == f.parts ? f.each : lo + f.each / f.parts;
    pare_walk_at<1>(f.kept, o, from);
    S s = start_of(op, S());
    for (int64_t r = lo + threadIdx.x; r < hi; r += PARE_THREADS) {
      int64_t at[1] = {from[0]};
      pare_walk_at<1>(f.folded, r, at);
      s = fold_of(op, s, (S)pare_load(x[at[0]]));
    }
    s = team_fold(op, s, shared);
    if (threadIdx.x == 0) out[b] = s;
  }
}
/* A thread folds a part of an output. */
template <class T, class S> static __global__ void fold_across(int op, Fold f, const T *x, S *out) {
  PARE_EACH(b, f.outs * f.parts) {
    int64_t o = b % f.outs, p = b / f.outs, from[1] = {0};
    int64_t lo = f.each / f.parts * p, hi = p + 1 == f.parts ? f.each : lo + f.each / f.parts;
    pare_walk_at<1>(f.kept, o, from);
    S s = start_of(op, S());
    for (int64_t r = lo; r < hi; r++) {
      int64_t at[1] = {from[0]};
      pare_walk_at<1>(f.folded, r, at);
      s = fold_of(op, s, (S)pare_load(x[at[0]]));
    }
    out[b] = s;
  }
}
template <class T, class S>
static __global__ void combine(int op, int64_t outs, int64_t parts, const S *part, double scale, T *y) {
  PARE_EACH(o, outs) {
    S s = part[o];
    for (int64_t p = 1; p < parts; p++) s = fold_of(op, s, part[p * outs + o]);
    if constexpr (PareNum<T>::integer) y[o] = (T)s;
    else y[o] = pare_store<T>((PARE_C)(scale * s));
  }
}

static PareStatus reduce(PareKernelArgs *a, int op, const Fold *f, double scale) {
  if (!f->outs) return PARE_OK;
  cudaStream_t stream = pare_cuda(a)->stream;
  int64_t n = f->outs * f->parts;
  return pare_by_number(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    typedef typename Sum<T>::S S;
    const T *x = (const T *)a->in[0].data;
    S *part = (S *)a->workspace;
    if (f->along)
      PARE_LAUNCH((fold_along<T, S>), pare_blocks(a, n, 1), PARE_THREADS, 0, stream, op, *f, x, part);
    else PARE_LAUNCH((fold_across<T, S>), pare_blocks(a, n, 128), 128, 0, stream, op, *f, x, part);
    PARE_LAUNCH((combine<T, S>), pare_blocks(a, f->outs, 128), 128, 0, stream, op, f->outs, f->parts,
                (const S *)part, scale, (T *)a->out[0].data);
    return pare_launched(a);
  });
}

PareStatus pare_cuda_plan_REDUCE(PareKernelArgs *a) {
  Fold f;
  PARE_TRY(fold_axes(a, &f));
  a->workspace_bytes = (size_t)(f.outs * f.parts) * sizeof(double);
  return PARE_OK;
}
PareStatus pare_cuda_plan_SUMTO(PareKernelArgs *a) {
  Fold f = fold_to(&a->in[0].type, &a->in[1].type);
  a->workspace_bytes = (size_t)(f.outs * f.parts) * sizeof(double);
  return PARE_OK;
}

static PareStatus reduce_axes(PareKernelArgs *a, int op) {
  Fold f;
  PARE_TRY(fold_axes(a, &f));
  return reduce(a, op, &f, 1);
}
PareStatus pare_cuda_REDUCESUM(PareKernelArgs *a) { return reduce_axes(a, SUM); }
PareStatus pare_cuda_REDUCEPROD(PareKernelArgs *a) { return reduce_axes(a, PROD); }
PareStatus pare_cuda_REDUCEMAX(PareKernelArgs *a) { return reduce_axes(a, MAX); }
PareStatus pare_cuda_REDUCEMIN(PareKernelArgs *a) { return reduce_axes(a, MIN); }
PareStatus pare_cuda_REDUCEMEAN(PareKernelArgs *a) {
  Fold f;
  if (!pare_dtype_is_float(a->in[0].type.dtype)) return pare_bad_type(a);
  PARE_TRY(fold_axes(a, &f));
  return reduce(a, SUM, &f, 1 / (double)f.each);
}
PareStatus pare_cuda_SUMTO(PareKernelArgs *a) {
  Fold f = fold_to(&a->in[0].type, &a->in[1].type);
  return reduce(a, SUM, &f, 1);
}

/* --- CumSum: y_i = sum of x_j over j <= i (exclusive: j < i), from the far end when `reverse`; a thread a line --- */
template <class T>
static __global__ void cumsum(int64_t lines, int64_t n, int64_t inner, int exclusive, int reverse, const T *x, T *y) {
  typedef typename Sum<T>::S S;
  PARE_EACH(l, lines) {
    int64_t at = l / inner * n * inner + l % inner;
    S s = 0;
    for (int64_t i = 0; i < n; i++) {
      int64_t k = at + (reverse ? n - 1 - i : i) * inner;
      S v = (S)pare_load(x[k]), after = fold_of(SUM, s, v);
      if constexpr (PareNum<T>::integer) y[k] = (T)(exclusive ? s : after);
      else y[k] = pare_store<T>((PARE_C)(exclusive ? s : after));
      s = after;
    }
  }
}
PareStatus pare_cuda_CUMSUM(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  PARE_TRY(pare_need_known(a, 1));
  int64_t axis = pare_known_int(a, 1, 0);
  if (axis < -t->rank || axis >= t->rank) return pare_why(a, PARE_DATA, "axis is out of range");
  int k = pare_axis(axis, t->rank);
  int64_t n = t->dim[k], inner = pare_span(t, k + 1, t->rank), lines = pare_span(t, 0, k) * inner;
  if (!lines || !n) return PARE_OK;
  return pare_by_number(a, t->dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(cumsum<T>, pare_blocks(a, lines, 128), 128, 0, pare_cuda(a)->stream, lines, n, inner,
                (int)a->attr->exclusive, (int)a->attr->reverse, (const T *)a->in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
