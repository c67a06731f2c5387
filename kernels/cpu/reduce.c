/* reduce.c - the reductions, SumTo, CumSum and CumProd. Sums and products of floats
 * are kept in double until they are stored. */
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

/* name, type of the accumulator, its start, what element e adds, the step from s by v, what is stored of s.
 * Max and Min pass a NaN on. */
#define PARE_REDUCERS(X)                                                                                  \
  X(sum, PICK(double, U), 0, e, s + v, (ACC)scale * s)                                                    \
  X(prod, PICK(double, U), 1, e, s * v, s)                                                                \
  X(max, C, PICK(-INFINITY, C_MIN), e, v > s || PICK(v != v, false) ? v : s, s)                           \
  X(min, C, PICK(INFINITY, C_MAX), e, v < s || PICK(v != v, false) ? v : s, s)                            \
  X(l1, PICK(double, U), 0, e < 0 ? PICK(-e, (C)(0 - (U)e)) : e, s + v, s)                                \
  X(squares, PICK(double, U), 0, PICK((double)e * (double)e, (U)e * (U)e), s + v, s)
#define PARE_REDUCERS_FLOAT(X)                                                                            \
  X(l2, double, 0, (double)e * (double)e, s + v, sqrt(s))                                                 \
  X(log_sum, double, 0, e, s + v, log(s))

/* _fold_run: a contiguous run, in LANES independent chains.
 * _fold_columns: n <= BLOCK neighbouring outputs, `runs` rows of them.
 * Both leave accumulators in acc; _reduce walks the outputs. */
#define PARE_REDUCER(NAME, ACC_, START, ELEMENT, STEP, STORED)                                                \
  static ACC_ FN(NAME##_fold_run)(const Fold *f, const T *x) {                                                \
    typedef ACC_ ACC;                                                                                         \
    ACC acc[LANES], s;                                                                                        \
    for (int j = 0; j < LANES; j++) acc[j] = START;                                                           \
    for (int64_t r = 0; r < f->runs; r++) {                                                                   \
      const T *p = x + offset_of(f, true, r);                                                                 \
      int64_t i = 0;                                                                                          \
      for (; i + LANES <= f->inner; i += LANES)                                                               \
        for (int j = 0; j < LANES; j++) {                                                                     \
          C e = LOAD(p[i + j]);                                                                               \
          ACC v = (ACC)(ELEMENT);                                                                             \
          s = acc[j];                                                                                         \
          acc[j] = STEP;                                                                                      \
        }                                                                                                     \
      for (; i < f->inner; i++) {                                                                             \
        C e = LOAD(p[i]);                                                                                     \
        ACC v = (ACC)(ELEMENT);                                                                               \
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
  static void FN(NAME##_fold_columns)(const Fold *f, const T *x, int64_t n, ACC_ acc[BLOCK]) {                \
    typedef ACC_ ACC;                                                                                         \
    for (int64_t j = 0; j < n; j++) acc[j] = START;                                                           \
    for (int64_t r = 0; r < f->runs; r++) {                                                                   \
      const T *p = x + offset_of(f, true, r);                                                                 \
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                   \
        C e = LOAD(p[j]);                                                                                     \
        ACC v = (ACC)(ELEMENT), s = acc[j];                                                                   \
        acc[j] = STEP;                                                                                        \
      }                                                                                                       \
    }                                                                                                         \
  }                                                                                                           \
  static void FN(NAME##_reduce)(const Fold *f, const T *x, T *y, double scale) {                              \
    typedef ACC_ ACC;                                                                                         \
    (void)scale;                                                                                              \
    int64_t blocks = f->inner_folded ? 1 : pare_ceil_div(f->inner, BLOCK);                                    \
    _Pragma("omp parallel for collapse(2) schedule(static) if (pare_threaded(f->outs * f->runs * f->inner))") \
    for (int64_t o = 0; o < f->outs; o++)                                                                     \
      for (int64_t b = 0; b < blocks; b++) {                                                                  \
        const T *p = x + offset_of(f, false, o);                                                              \
        if (f->inner_folded) {                                                                                \
          ACC s = FN(NAME##_fold_run)(f, p);                                                                  \
          y[o] = STORE((C)(STORED));                                                                          \
          continue;                                                                                           \
        }                                                                                                     \
        ACC acc[BLOCK];                                                                                       \
        int64_t n = pare_min_i64(BLOCK, f->inner - b * BLOCK);                                                \
        FN(NAME##_fold_columns)(f, p + b * BLOCK, n, acc);                                                    \
        for (int64_t j = 0; j < n; j++) {                                                                     \
          ACC s = acc[j];                                                                                     \
          y[o * f->inner + b * BLOCK + j] = STORE((C)(STORED));                                               \
        }                                                                                                     \
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
#include "kernels/cpu/otherints.h"

static PareStatus reduce(PareKernelArgs *a, PareKernelFn *fn) {
  const PareType *t = &a->in[0].type;
  for (int64_t i = 0, n = pare_given(a, 1) ? pare_count(&a->in[1]) : 0; i < n; i++) {
    int64_t axis = pare_get_int(&a->in[1], i);
    if (axis < -t->rank || axis >= t->rank) return pare_bad(a, "axis is out of range");
  }
  return pare_call(fn, a);
}
#define PARE_REDUCE(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return reduce(a, PARE_PICK_ANY(a->in[0].type.dtype, f)); }
PARE_REDUCE(REDUCESUM, sum)
PARE_REDUCE(REDUCEPROD, prod)
PARE_REDUCE(REDUCEL1, l1)
PARE_REDUCE(REDUCESUMSQUARE, squares)
/* Of truths: any, all. */
#define PARE_REDUCE_EXTREME(ID, f)                                                      \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) {                                          \
    PareDtype d = a->in[0].type.dtype;                                                  \
    return reduce(a, d == PARE_BOOL ? f##_u8 : PARE_PICK_ANY(d, f));                    \
  }
PARE_REDUCE_EXTREME(REDUCEMAX, max)
PARE_REDUCE_EXTREME(REDUCEMIN, min)
#define PARE_REDUCE_FLOAT(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return reduce(a, PARE_PICK_FLOAT(a->in[0].type.dtype, f)); }
PARE_REDUCE_FLOAT(REDUCEMEAN, mean)
PARE_REDUCE_FLOAT(REDUCEL2, l2)
PARE_REDUCE_FLOAT(REDUCELOGSUM, log_sum)
PARE_REDUCE_FLOAT(REDUCELOGSUMEXP, log_sum_exp)
PareStatus PARE_CPU(CUMSUM)(PareKernelArgs *a) { return pare_call(PARE_PICK_ANY(a->in[0].type.dtype, cumsum), a); }
PareStatus PARE_CPU(CUMPROD)(PareKernelArgs *a) { return pare_call(PARE_PICK_ANY(a->in[0].type.dtype, cumprod), a); }
PARE_FLOAT_KERNEL(SUMTO, sum_to)

#else /* the template */
#define X(...) PARE_REDUCER(__VA_ARGS__)
PARE_REDUCERS(X)
#ifndef U
PARE_REDUCERS_FLOAT(X)
#endif
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
REDUCE(l1)
REDUCE(squares)

#ifndef U
REDUCE(l2)
REDUCE(log_sum)

/* log Σ e^x = m + log Σ e^(x-m), m the largest where it is finite. Output o, an element of the inner axis if that is
 * kept. */
static void FN(log_sum_exp_one)(const Fold *f, const T *x, T *y) {
  int64_t n = f->inner_folded ? f->inner : 1;
  double m = -INFINITY, sum = 0;
  for (int64_t r = 0; r < f->runs; r++) {
    const T *p = x + offset_of(f, true, r);
    for (int64_t i = 0; i < n; i++) m = (double)LOAD(p[i]) > m ? (double)LOAD(p[i]) : m;
  }
  double shift = isfinite(m) ? m : 0;
  for (int64_t r = 0; r < f->runs; r++) {
    const T *p = x + offset_of(f, true, r);
    for (int64_t i = 0; i < n; i++) sum += exp((double)LOAD(p[i]) - shift);
  }
  *y = STORE((C)(log(sum) + shift));
}
static PareStatus FN(log_sum_exp)(PareKernelArgs *a) {
  Fold f = fold_axes(a);
  int64_t each = f.inner_folded ? 1 : f.inner, outs = pare_count(&a->out[0]);
#pragma omp parallel for schedule(static) if (pare_threaded(outs * f.each))
  for (int64_t o = 0; o < outs; o++)
    FN(log_sum_exp_one)(&f, (const T *)a->in[0].data + offset_of(&f, false, o / each) + o % each,
                        (T *)a->out[0].data + o);
  return PARE_OK;
}

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

#undef REDUCE

/* y_i = sum (product) of x_j over j <= i (exclusive: j < i), from the far end when `reverse`. */
#define CUMULATIVE(NAME, START, OP)                                                                            \
  static PareStatus FN(NAME)(PareKernelArgs *a) {                                                              \
    const PareType *t = &a->in[0].type;                                                                        \
    int64_t at = pare_get_int(&a->in[1], 0);                                                                   \
    if (at < -t->rank || at >= t->rank) return pare_bad(a, "axis is out of range");                            \
    int axis = pare_axis(at, t->rank);                                                                         \
    int64_t outer = pare_span(t, 0, axis), n = t->dim[axis], inner = pare_span(t, axis + 1, t->rank);          \
    for (int64_t o = 0; o < outer * inner; o++) {                                                              \
      const T *x = (const T *)a->in[0].data + o / inner * n * inner + o % inner;                               \
      T *y = (T *)a->out[0].data + o / inner * n * inner + o % inner;                                          \
      PICK(double, U) s = START;                                                                               \
      for (int64_t i = 0; i < n; i++) {                                                                        \
        int64_t k = (a->attr->reverse ? n - 1 - i : i) * inner;                                                \
        PICK(double, U) v = (PICK(double, U))LOAD(x[k]);                                                       \
        y[k] = STORE((C)(a->attr->exclusive ? s : s OP v));                                                    \
        s = s OP v;                                                                                            \
      }                                                                                                        \
    }                                                                                                          \
    return PARE_OK;                                                                                            \
  }
CUMULATIVE(cumsum, 0, +)
CUMULATIVE(cumprod, 1, *)
#undef CUMULATIVE
#endif
