/* reduce.c - ReduceSum, Mean, Prod, Max, Min, SumTo and CumSum. Sums and
 * products of floats are kept in double until they are stored. */
#include "kernels/cpu/cpu.h"

#include <math.h>

#ifndef T
enum { LANES = 32, BLOCK = 128 };

/* How x is folded. Neighbouring axes that are both kept or both folded are one. */
typedef struct Fold {
  int rank; /* axes outside of the innermost */
  int64_t dim[PARE_MAX_RANK], stride[PARE_MAX_RANK];
  bool folded[PARE_MAX_RANK];
  int64_t inner;     /* the innermost axis */
  bool inner_folded;
  int64_t outs, runs; /* products of the outer kept and of the outer folded axes */
  int64_t each;      /* elements folded into one output */
} Fold;

/* name, type of the accumulator, its start, the step from s by v. Max and Min pass a NaN on. */
#define PARE_REDUCERS(X)                                                             \
  X(sum, PICK(double, U), 0, s + v)                                                  \
  X(prod, PICK(double, U), 1, s * v)                                                 \
  X(max, C, PICK(-INFINITY, C_MIN), v > s || PICK(v != v, false) ? v : s)            \
  X(min, C, PICK(INFINITY, C_MAX), v < s || PICK(v != v, false) ? v : s)

/* _fold_run: a contiguous run, in LANES independent chains.
 * _fold_columns: n <= BLOCK neighbouring outputs, `runs` rows of them.
 * Both leave accumulators in acc; _reduce walks the outputs. */
#define PARE_REDUCER(NAME, ACC, START, STEP)                                                                  \
  static ACC FN(NAME##_fold_run)(const Fold *f, const T *x) {                                                 \
    ACC acc[LANES], s;                                                                                        \
    for (int j = 0; j < LANES; j++) acc[j] = START;                                                           \
    for (int64_t r = 0; r < f->runs; r++) {                                                                   \
      const T *p = x + offset_of(f, true, r);                                                                 \
      int64_t i = 0;                                                                                          \
      for (; i + LANES <= f->inner; i += LANES)                                                               \
        for (int j = 0; j < LANES; j++) {                                                                     \
          ACC v = (ACC)LOAD(p[i + j]);                                                                        \
          s = acc[j];                                                                                         \
          acc[j] = STEP;                                                                                      \
        }                                                                                                     \
      for (; i < f->inner; i++) {                                                                             \
        ACC v = (ACC)LOAD(p[i]);                                                                              \
        s = acc[0];                                                                                           \
        acc[0] = STEP;                                                                                        \
      }                                                                                                       \
    }                                                                                                         \
    s = acc[0];                                                                                               \
    for (int j = 1; j < LANES; j++) {                                                                         \
      ACC v = acc[j];                                                                                         \
      s = STEP;                                                                                               \
    }                                                                                                         \
    return s;                                                                                                 \
  }                                                                                                           \
  static void FN(NAME##_fold_columns)(const Fold *f, const T *x, int64_t n, ACC acc[BLOCK]) {                 \
    for (int64_t j = 0; j < n; j++) acc[j] = START;                                                           \
    for (int64_t r = 0; r < f->runs; r++) {                                                                   \
      const T *p = x + offset_of(f, true, r);                                                                 \
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                   \
        ACC v = (ACC)LOAD(p[j]), s = acc[j];                                                                  \
        acc[j] = STEP;                                                                                        \
      }                                                                                                       \
    }                                                                                                         \
  }                                                                                                           \
  static void FN(NAME##_reduce)(const Fold *f, const T *x, T *y, double scale) {                              \
    int64_t blocks = f->inner_folded ? 1 : pare_ceil_div(f->inner, BLOCK);                                    \
    _Pragma("omp parallel for collapse(2) schedule(static) if (pare_threaded(f->outs * f->runs * f->inner))") \
    for (int64_t o = 0; o < f->outs; o++)                                                                     \
      for (int64_t b = 0; b < blocks; b++) {                                                                  \
        const T *p = x + offset_of(f, false, o);                                                              \
        if (f->inner_folded) {                                                                                \
          y[o] = STORE((C)((ACC)scale * FN(NAME##_fold_run)(f, p)));                                            \
          continue;                                                                                           \
        }                                                                                                     \
        ACC acc[BLOCK];                                                                                       \
        int64_t n = pare_min_i64(BLOCK, f->inner - b * BLOCK);                                                \
        FN(NAME##_fold_columns)(f, p + b * BLOCK, n, acc);                                                    \
        for (int64_t j = 0; j < n; j++)                                                                       \
          y[o * f->inner + b * BLOCK + j] = STORE((C)((ACC)scale * acc[j]));                                  \
      }                                                                                                       \
  }

static int64_t offset_of(const Fold *f, bool folded, int64_t index) {
  int64_t off = 0;
  for (int i = f->rank - 1; i >= 0; i--) {
    if (f->folded[i] != folded) continue;
    off += index % f->dim[i] * f->stride[i];
    index /= f->dim[i];
  }
  return off;
}

static Fold fold_init(const PareType *x, unsigned axes) {
  Fold f = {.inner = 1, .outs = 1, .runs = 1, .each = 1};
  for (int i = 0; i < x->rank; i++) {
    bool folded = axes >> i & 1u;
    if (folded) f.each *= x->dim[i];
    if (x->dim[i] == 1) continue;
    if (f.rank && f.folded[f.rank - 1] == folded) f.dim[f.rank - 1] *= x->dim[i];
    else f.dim[f.rank] = x->dim[i], f.folded[f.rank++] = folded;
    f.stride[f.rank - 1] = pare_span(x, i + 1, x->rank);
  }
  if (f.rank) f.rank--, f.inner = f.dim[f.rank], f.inner_folded = f.folded[f.rank];
  for (int i = 0; i < f.rank; i++) *(f.folded[i] ? &f.runs : &f.outs) *= f.dim[i];
  return f;
}

/* Axes from input 1; none given means all, or none with noop_with_empty_axes. */
static Fold fold_axes(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t n = pare_given(a, 1) ? pare_count(&a->in[1]) : 0;
  unsigned axes = n || a->attr->noop_with_empty_axes ? 0 : ~0u;
  for (int64_t i = 0; i < n; i++) axes |= 1u << pare_axis(pare_get_int(&a->in[1], i), t->rank);
  return fold_init(t, axes);
}

static Fold fold_to(const PareType *x, const PareType *like) {
  unsigned axes = 0;
  for (int i = 0; i < x->rank; i++) {
    int k = i - (x->rank - like->rank);
    if (k < 0 || like->dim[k] != x->dim[i]) axes |= 1u << i;
  }
  return fold_init(x, axes);
}

#define PARE_TEMPLATE "kernels/cpu/reduce.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"

static PareStatus reduce(PareKernelArgs *a, PareKernelFn *fn) {
  const PareType *t = &a->in[0].type;
  for (int64_t i = 0, n = pare_given(a, 1) ? pare_count(&a->in[1]) : 0; i < n; i++) {
    int64_t axis = pare_get_int(&a->in[1], i);
    if (axis < -t->rank || axis >= t->rank) return pare_bad(a, "axis is out of range");
  }
  return pare_call(fn, a);
}
#define PARE_REDUCE(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return reduce(a, PARE_PICK_NUMBER(a->in[0].type.dtype, f)); }
PARE_REDUCE(REDUCESUM, sum)
PARE_REDUCE(REDUCEPROD, prod)
PARE_REDUCE(REDUCEMAX, max)
PARE_REDUCE(REDUCEMIN, min)
PARE_NUMBER_KERNEL(CUMSUM, cumsum)
PARE_FLOAT_KERNEL(SUMTO, sum_to)
PareStatus PARE_CPU(REDUCEMEAN)(PareKernelArgs *a) { return reduce(a, PARE_PICK_FLOAT(a->in[0].type.dtype, mean)); }

#else /* the template */
#define X(name, acc, start, step) PARE_REDUCER(name, acc, start, step)
PARE_REDUCERS(X)
#undef X

#define REDUCE(NAME)                                                   \
  static PareStatus FN(NAME)(PareKernelArgs *a) {                      \
    Fold f = fold_axes(a);                                             \
    FN(NAME##_reduce)(&f, a->in[0].data, a->out[0].data, 1);           \
    return PARE_OK;                                                    \
  }
REDUCE(sum)
REDUCE(prod)
REDUCE(max)
REDUCE(min)
#undef REDUCE

#ifndef U
static PareStatus FN(mean)(PareKernelArgs *a) {
  Fold f = fold_axes(a);
  FN(sum_reduce)(&f, a->in[0].data, a->out[0].data, 1 / (double)f.each);
  return PARE_OK;
}
static PareStatus FN(sum_to)(PareKernelArgs *a) {
  Fold f = fold_to(&a->in[0].type, &a->in[1].type);
  FN(sum_reduce)(&f, a->in[0].data, a->out[0].data, 1);
  return PARE_OK;
}
#endif

/* y_i = sum of x_j over j <= i (exclusive: j < i), from the far end when `reverse`. */
static PareStatus FN(cumsum)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t at = pare_get_int(&a->in[1], 0);
  if (at < -t->rank || at >= t->rank) return pare_bad(a, "axis is out of range");
  int axis = pare_axis(at, t->rank);
  int64_t outer = pare_span(t, 0, axis), n = t->dim[axis], inner = pare_span(t, axis + 1, t->rank);
  for (int64_t o = 0; o < outer * inner; o++) {
    const T *x = (const T *)a->in[0].data + o / inner * n * inner + o % inner;
    T *y = (T *)a->out[0].data + o / inner * n * inner + o % inner;
    PICK(double, U) s = 0;
    for (int64_t i = 0; i < n; i++) {
      int64_t k = (a->attr->reverse ? n - 1 - i : i) * inner;
      PICK(double, U) v = (PICK(double, U))LOAD(x[k]);
      y[k] = STORE((C)(a->attr->exclusive ? s : s + v));
      s += v;
    }
  }
  return PARE_OK;
}
#endif
