/* reduce.cu - the reductions, SumTo, CumSum and CumProd. Floats are folded in double, integers in 64 bits. The folded
 * elements of an output are cut into parts by the shapes alone; parts are combined in order. */
#include "kernels/cuda/types.cuh"

enum { MAX_PARTS = 256, ENOUGH = 1 << 17 };

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

/* --- folding: S is double for floats and 64 bits for integers --- */
enum { SUM, PROD, MAX, MIN, AS_IS, MAGNITUDE, SQUARE, ROOT, LOG };
/* op, how two are folded, what of an element, what of the result; roots and logs are of floats alone */
#define REDUCTIONS(X)                    \
  X(REDUCESUM, SUM, AS_IS, AS_IS)        \
  X(REDUCEPROD, PROD, AS_IS, AS_IS)      \
  X(REDUCEMAX, MAX, AS_IS, AS_IS)        \
  X(REDUCEMIN, MIN, AS_IS, AS_IS)        \
  X(REDUCEL1, SUM, MAGNITUDE, AS_IS)     \
  X(REDUCEL2, SUM, SQUARE, ROOT)         \
  X(REDUCELOGSUM, SUM, AS_IS, LOG)       \
  X(REDUCESUMSQUARE, SUM, SQUARE, AS_IS)

/* scale: of the result. shift, by output: of an element x, e^(x - shift) is folded, and the result gets it back. */
struct How {
  int step, of, then;
  double scale;
  const double *shift;
};

template <class T> struct Sum {
  typedef std::conditional_t<std::is_same<T, uint64_t>::value, uint64_t, int64_t> Whole;
  typedef std::conditional_t<(bool)PareNum<T>::integer, Whole, double> S;
};

template <class T, class S> static __device__ inline S start_of(int step) {
  if constexpr (PareNum<T>::integer) {
    S most = (S)(~(uint64_t)0 >> (64 - 8 * sizeof(T) + std::is_signed<T>::value));
    return step == PROD ? 1 : step == MAX ? std::is_signed<T>::value ? (S)~(uint64_t)most : 0 : step == MIN ? most : 0;
  } else {
    return step == PROD ? 1.0 : step == MAX ? -INFINITY : step == MIN ? INFINITY : 0.0;
  }
}
/* Max and Min pass a NaN on. */
static __device__ inline double fold_of(int step, double s, double v) {
  if (step == SUM) return s + v;
  if (step == PROD) return s * v;
  return v != v || (step == MAX ? v > s : v < s) ? v : s;
}
/* Sums and products wrap around. */
template <class S> static __device__ inline S fold_of(int step, S s, S v) {
  if (step == SUM) return (S)((uint64_t)s + (uint64_t)v);
  if (step == PROD) return (S)((uint64_t)s * (uint64_t)v);
  return (step == MAX ? v > s : v < s) ? v : s;
}
static __device__ inline double element_of(int of, double v) {
  return of == AS_IS ? v : of == SQUARE ? v * v : fabs(v);
}
static __device__ inline uint64_t element_of(int of, uint64_t v) { return of == SQUARE ? v * v : v; }
static __device__ inline int64_t element_of(int of, int64_t v) {
  if (of == SQUARE) return (int64_t)((uint64_t)v * (uint64_t)v);
  return of == MAGNITUDE && v < 0 ? (int64_t)(0 - (uint64_t)v) : v;
}
/* The greatest, where it is finite. */
static __device__ inline double shift_of(const How &h, int64_t o) { return isfinite(h.shift[o]) ? h.shift[o] : 0; }

template <class S> static __device__ inline S team_fold(int step, S v, S *part) {
  for (int m = PARE_WARP / 2; m; m /= 2) v = fold_of(step, v, __shfl_xor_sync(0xffffffffu, v, m));
  __syncthreads();
  if (threadIdx.x % PARE_WARP == 0) part[threadIdx.x / PARE_WARP] = v;
  __syncthreads();
  v = part[0];
  for (int i = 1; i < PARE_THREADS / PARE_WARP; i++) v = fold_of(step, v, part[i]);
  return v;
}
/* Part b of the folded elements, every `by`th from `first` on. */
template <class T, bool EXP, class S>
static __device__ inline S fold_part(const How &h, const Fold &f, const T *x, int64_t b, int64_t first, int64_t by) {
  int64_t o = b % f.outs, p = b / f.outs, from[1] = {0};
  int64_t lo = f.each / f.parts * p, hi = p + 1 == f.parts ? f.each : lo + f.each / f.parts;
  pare_walk_at<1>(f.kept, o, from);
  S s = start_of<T, S>(h.step);
  double shift = EXP ? shift_of(h, o) : 0;
  for (int64_t r = lo + first; r < hi; r += by) {
    int64_t at[1] = {from[0]};
    pare_walk_at<1>(f.folded, r, at);
    S v = (S)pare_load(x[at[0]]);
    if constexpr (EXP) s += exp(v - shift);
    else s = fold_of(h.step, s, element_of(h.of, v));
  }
  return s;
}

/* out[part][o]. A block folds a part of an output. */
template <class T, bool EXP, class S> static __global__ void fold_along(How h, Fold f, const T *x, S *out) {
  __shared__ S shared[PARE_THREADS / PARE_WARP];
  for (int64_t b = blockIdx.x; b < f.outs * f.parts; b += gridDim.x) {
    S s = team_fold(h.step, fold_part<T, EXP, S>(h, f, x, b, threadIdx.x, PARE_THREADS), shared);
    if (threadIdx.x == 0) out[b] = s;
  }
}
/* A thread folds a part of an output. */
template <class T, bool EXP, class S> static __global__ void fold_across(How h, Fold f, const T *x, S *out) {
  PARE_EACH(b, f.outs * f.parts) out[b] = fold_part<T, EXP, S>(h, f, x, b, 0, 1);
}
template <class T, class S>
static __global__ void combine(How h, int64_t outs, int64_t parts, const S *part, T *y) {
  PARE_EACH(o, outs) {
    S s = part[o];
    for (int64_t p = 1; p < parts; p++) s = fold_of(h.step, s, part[p * outs + o]);
    if constexpr (PareNum<T>::integer) {
      y[o] = (T)s;
    } else {
      s = h.scale * (h.then == ROOT ? sqrt(s) : h.then == LOG ? log(s) : s);
      y[o] = pare_store<T>((PARE_C)(h.shift ? s + shift_of(h, o) : s));
    }
  }
}

/* x folded into y, by way of the workspace. */
template <class T, bool EXP, class Y> static PareStatus fold(PareKernelArgs *a, const How &h, const Fold &f, Y *y) {
  typedef typename Sum<T>::S S;
  cudaStream_t stream = pare_cuda(a)->stream;
  int64_t n = f.outs * f.parts;
  const T *x = (const T *)a->in[0].data;
  S *part = (S *)a->workspace;
  if (f.along) PARE_LAUNCH((fold_along<T, EXP, S>), pare_blocks(a, n, 1), PARE_THREADS, 0, stream, h, f, x, part);
  else PARE_LAUNCH((fold_across<T, EXP, S>), pare_blocks(a, n, 128), 128, 0, stream, h, f, x, part);
  PARE_LAUNCH((combine<Y, S>), pare_blocks(a, f.outs, 128), 128, 0, stream, h, f.outs, f.parts, (const S *)part, y);
  return pare_launched(a);
}
static PareStatus reduce(PareKernelArgs *a, const How &h, const Fold &f) {
  PareDtype d = a->in[0].type.dtype;
  if (h.then != AS_IS && !pare_dtype_is_float(d)) return pare_bad_type(a);
  if (d == PARE_BOOL && (h.step == MAX || h.step == MIN)) d = PARE_U8; /* any, all */
  if (!f.outs) return PARE_OK;
  return pare_by_any(a, d, [&](auto zero) {
    typedef decltype(zero) T;
    return fold<T, false>(a, h, f, (T *)a->out[0].data);
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

#define X(id, step, of, then)                      \
  PareStatus pare_cuda_##id(PareKernelArgs *a) {   \
    Fold f;                                        \
    PARE_TRY(fold_axes(a, &f));                    \
    return reduce(a, {step, of, then, 1, NULL}, f); \
  }
REDUCTIONS(X)
#undef X
PareStatus pare_cuda_REDUCEMEAN(PareKernelArgs *a) {
  Fold f;
  if (!pare_dtype_is_float(a->in[0].type.dtype)) return pare_bad_type(a);
  PARE_TRY(fold_axes(a, &f));
  return reduce(a, {SUM, AS_IS, AS_IS, 1 / (double)f.each, NULL}, f);
}
PareStatus pare_cuda_SUMTO(PareKernelArgs *a) {
  return reduce(a, {SUM, AS_IS, AS_IS, 1, NULL}, fold_to(&a->in[0].type, &a->in[1].type));
}

/* log of the sum of e^x = m + log of the sum of e^(x - m), m the greatest where it is finite. Workspace: parts, m. */
PareStatus pare_cuda_plan_REDUCELOGSUMEXP(PareKernelArgs *a) {
  Fold f;
  PARE_TRY(fold_axes(a, &f));
  a->workspace_bytes = pare_part_bytes((size_t)(f.outs * f.parts) * sizeof(double)) + (size_t)f.outs * sizeof(double);
  return PARE_OK;
}
PareStatus pare_cuda_REDUCELOGSUMEXP(PareKernelArgs *a) {
  Fold f;
  PARE_TRY(fold_axes(a, &f));
  if (!f.outs) return PARE_OK;
  double *m = (double *)((char *)a->workspace + pare_part_bytes((size_t)(f.outs * f.parts) * sizeof(double)));
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_TRY((fold<T, false>(a, {MAX, AS_IS, AS_IS, 1, NULL}, f, m)));
    return fold<T, true>(a, {SUM, AS_IS, LOG, 1, m}, f, (T *)a->out[0].data);
  });
}

/* --- CumSum, CumProd: y_i = sum, product of x_j over j <= i (exclusive: j < i), from the far end when `reverse`; a
 * thread a line --- */
template <class T>
static __global__ void cumulate(int step, int64_t lines, int64_t n, int64_t inner, int exclusive, int reverse,
                                const T *x, T *y) {
  typedef typename Sum<T>::S S;
  PARE_EACH(l, lines) {
    int64_t at = l / inner * n * inner + l % inner;
    S s = start_of<T, S>(step);
    for (int64_t i = 0; i < n; i++) {
      int64_t k = at + (reverse ? n - 1 - i : i) * inner;
      S v = (S)pare_load(x[k]), after = fold_of(step, s, v);
      if constexpr (PareNum<T>::integer) y[k] = (T)(exclusive ? s : after);
      else y[k] = pare_store<T>((PARE_C)(exclusive ? s : after));
      s = after;
    }
  }
}
static PareStatus cumulate_run(PareKernelArgs *a, int step) {
  const PareType *t = &a->in[0].type;
  PARE_TRY(pare_need_known(a, 1));
  int64_t axis = pare_known_int(a, 1, 0);
  if (axis < -t->rank || axis >= t->rank) return pare_why(a, PARE_DATA, "axis is out of range");
  int k = pare_axis(axis, t->rank);
  int64_t n = t->dim[k], inner = pare_span(t, k + 1, t->rank), lines = pare_span(t, 0, k) * inner;
  if (!lines || !n) return PARE_OK;
  return pare_by_any(a, t->dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(cumulate<T>, pare_blocks(a, lines, 128), 128, 0, pare_cuda(a)->stream, step, lines, n, inner,
                (int)a->attr->exclusive, (int)a->attr->reverse, (const T *)a->in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_CUMSUM(PareKernelArgs *a) { return cumulate_run(a, SUM); }
PareStatus pare_cuda_CUMPROD(PareKernelArgs *a) { return cumulate_run(a, PROD); }
