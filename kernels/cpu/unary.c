/* unary.c - one operand, element by element: one row an op in the tables below. */
#include "ir/activation.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
/* op, value at x */
#define PARE_UNARY(X)                                                        \
  X(FLOOR, MATH(floor)(x))                                                   \
  X(CEIL, MATH(ceil)(x))                                                     \
  X(ROUND, MATH(rint)(x))                                                    \
  X(SQRT, MATH(sqrt)(x))                                                     \
  X(RECIPROCAL, 1 / x)                                                       \
  X(EXP, MATH(exp)(x))                                                       \
  X(LOG, MATH(log)(x))                                                       \
  X(SIN, MATH(sin)(x))                                                       \
  X(COS, MATH(cos)(x))                                                       \
  X(TAN, MATH(tan)(x))                                                       \
  X(ASIN, MATH(asin)(x))                                                     \
  X(ACOS, MATH(acos)(x))                                                     \
  X(ATAN, MATH(atan)(x))                                                     \
  X(SINH, MATH(sinh)(x))                                                     \
  X(COSH, MATH(cosh)(x))                                                     \
  X(ASINH, MATH(asinh)(x))                                                   \
  X(ACOSH, MATH(acosh)(x))                                                   \
  X(ATANH, MATH(atanh)(x))                                                   \
  X(ERF, MATH(erf)(x))                                                       \
  X(TANH, MATH(tanh)(x))                                                     \
  X(SIGMOID, 1 / (1 + MATH(exp)(-x)))                                        \
  X(SOFTPLUS, SOFTPLUS_OF(x))                                                \
  X(SOFTSIGN, x / (1 + MATH(fabs)(x)))                                       \
  X(HARDSWISH, x * (x < -3 ? 0 : x > 3 ? 1 : x / 6 + (C)0.5))                \
  X(MISH, x * MATH(tanh)(SOFTPLUS_OF(x)))
#define SOFTPLUS_OF(x) (MATH(log1p)(MATH(exp)(-MATH(fabs)(x))) + (x < 0 ? 0 : x))

/* The others of approximate; activations with numbers p and q (ir/activation.h). */
#define PARE_UNARY_WITH(X)                                                   \
  X(GELU, x *ROUGH(normal_cdf)(x))                                            \
  X(GELU_TANH, x * (C)0.5 * (1 + MATH(tanh)((C)0.79788456080286535588 * (x + (C)0.044715 * x * x * x)))) \
  X(LEAKYRELU, x < 0 ? p * x : x)                                            \
  X(ELU, x < 0 ? p * MATH(expm1)(x) : x)                                     \
  X(SELU, q * (x < 0 ? p * MATH(expm1)(x) : x))                              \
  X(CELU, x < 0 ? p * MATH(expm1)(x / p) : x)                                \
  X(HARDSIGMOID, p * x + q < 0 ? 0 : p * x + q > 1 ? 1 : p * x + q)          \
  X(THRESHOLDEDRELU, x > p || x != x ? x : 0)                                \
  X(SHRINK, x < -p ? x + q : x > p ? x - q : x != x ? x : 0)                 \
  X(SWISH, x / (1 + MATH(exp)(-p * x)))

/* op, of floats, of integers */
#define PARE_UNARY_NUMBER(X)                                              \
  X(NEG, -x, (C)(0 - (U)x))                                               \
  X(ABS, MATH(fabs)(x), x < 0 ? (C)(0 - (U)x) : x)                        \
  X(SIGN, x != x ? x : (C)((x > 0) - (x < 0)), (C)((x > 0) - (x < 0)))    \
  X(RELU, x > 0 || x != x ? x : 0, x > 0 ? x : 0)                         \
  X(CLIP, CLIP_OF(x), CLIP_OF(x))
/* Bounds that are left out hold nothing; the upper one wins where they cross. */
#define CLIP_OF(x) (has_hi && (has_lo && x < lo ? lo : x) > hi ? hi : has_lo && x < lo ? lo : x)

#define PARE_UNARY_ROW(NAME, BEFORE, EXPR)                                                                          \
  static void NAME(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {      \
    const T *xp = in[0];                                                                                     \
    T *z = zp;                                                                                               \
    (void)step, (void)arg;                                                                                   \
    BEFORE                                                                                                   \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                    \
      C x = LOAD(xp[i]);                                                                                     \
      z[i] = STORE(EXPR);                                                                                    \
    }                                                                                                        \
  }

/* Bounds may be of another float type than x: those of old opsets are. */
typedef struct Bounds {
  PareTensor lo, hi; /* data NULL: none */
} Bounds;

#define PARE_TEMPLATE "kernels/cpu/unary.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"
#include "kernels/cpu/otherints.h"

static PareStatus unary_with(PareKernelArgs *a, PareRowFn *row, const void *arg) {
  if (!row) return pare_bad_type(a);
  /* One axis of all elements: a scalar's step is 1 too. */
  PareTensor x = a->in[0], z = a->out[0];
  x.type.rank = z.type.rank = 1;
  x.type.dim[0] = z.type.dim[0] = pare_count(&a->out[0]);
  PARE_CPU(rows)(&z, 1, &x, row, arg);
  return PARE_OK;
}
static PareStatus unary(PareKernelArgs *a, PareRowFn *row) { return unary_with(a, row, NULL); }

#define PARE_UNARY_FLOAT(ID) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return unary(a, PARE_PICK_FLOAT(a->in[0].type.dtype, ID)); }
#define X(id, f) PARE_UNARY_FLOAT(id)
PARE_UNARY(X)
#undef X

#define X(id, ...)                                                                \
  PareStatus PARE_CPU(id)(PareKernelArgs *a) {                                    \
    PareActivation numbers = pare_activation_##id(a->attr);                       \
    return unary_with(a, PARE_PICK_FLOAT(a->in[0].type.dtype, id), &numbers);     \
  }
PARE_ACTIVATIONS(X)
#undef X

#define PARE_UNARY_ANY(ID) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return unary(a, PARE_PICK_ANY(a->in[0].type.dtype, ID)); }
PARE_UNARY_ANY(NEG)
PARE_UNARY_ANY(ABS)
PARE_UNARY_ANY(SIGN)
PARE_UNARY_ANY(RELU)

PareStatus PARE_CPU(CLIP)(PareKernelArgs *a) {
  Bounds b = {pare_given(a, 1) ? a->in[1] : (PareTensor){0}, pare_given(a, 2) ? a->in[2] : (PareTensor){0}};
  return unary_with(a, PARE_PICK_ANY(a->in[0].type.dtype, CLIP), &b);
}

/* approximate: 0 none (erf), 1 tanh. */
PareStatus PARE_CPU(GELU)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  return unary(a, a->attr->approximate ? PARE_PICK_FLOAT(d, GELU_TANH) : PARE_PICK_FLOAT(d, GELU));
}

PareStatus PARE_CPU(ISNAN)(PareKernelArgs *a) { return unary(a, PARE_PICK_FLOAT(a->in[0].type.dtype, is_nan)); }
PareStatus PARE_CPU(ISINF)(PareKernelArgs *a) {
  return unary_with(a, PARE_PICK_FLOAT(a->in[0].type.dtype, is_inf), a->attr);
}
PareStatus PARE_CPU(BITNOT)(PareKernelArgs *a) { return unary(a, PARE_PICK_ANY_INT(a->in[0].type.dtype, bit_not)); }

static void not_row(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const uint8_t *x = in[0];
  uint8_t *z = zp;
  (void)step, (void)arg;
  for (int64_t i = 0; i < n; i++) z[i] = !x[i];
}
PareStatus PARE_CPU(NOT)(PareKernelArgs *a) { return unary(a, a->in[0].type.dtype == PARE_BOOL ? not_row : NULL); }

#else /* the template */
#ifndef U
#define X(id, f) PARE_UNARY_ROW(FN(id), , f)
PARE_UNARY(X)
#undef X
#define NUMBERS                                                    \
  const PareActivation *numbers = arg;                             \
  C p = numbers ? (C)numbers->p : 0, q = numbers ? (C)numbers->q : 0; \
  (void)p, (void)q;
#define X(id, f) PARE_UNARY_ROW(FN(id), NUMBERS, f)
PARE_UNARY_WITH(X)
#undef X
#undef NUMBERS

static void FN(is_nan)(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0];
  uint8_t *z = zp;
  (void)step, (void)arg;
  for (int64_t i = 0; i < n; i++) z[i] = LOAD(x[i]) != LOAD(x[i]);
}
static void FN(is_inf)(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0];
  uint8_t *z = zp;
  const PareAttrs *attr = arg;
  bool up = pare_attr_get(attr, detect_positive, 1) != 0, down = pare_attr_get(attr, detect_negative, 1) != 0;
  (void)step;
  for (int64_t i = 0; i < n; i++) {
    C v = LOAD(x[i]);
    z[i] = (up && v == (C)INFINITY) || (down && v == -(C)INFINITY);
  }
}
#else
static void FN(bit_not)(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0];
  T *z = zp;
  (void)step, (void)arg;
  for (int64_t i = 0; i < n; i++) z[i] = (T)~x[i];
}
#endif
/* What CLIP reads of its bounds; the others of the table do not look. */
#define BOUNDS                                                                                           \
  const Bounds *b = arg;                                                                                 \
  bool has_lo = b && b->lo.data, has_hi = b && b->hi.data;                                               \
  C lo = has_lo ? (C)PICK(pare_get_float, pare_get_int)(&b->lo, 0) : 0;                                  \
  C hi = has_hi ? (C)PICK(pare_get_float, pare_get_int)(&b->hi, 0) : 0;                                  \
  (void)has_lo, (void)has_hi, (void)lo, (void)hi;
#define X(id, f, i) PARE_UNARY_ROW(FN(id), BOUNDS, PICK(f, i))
PARE_UNARY_NUMBER(X)
#undef X
#undef BOUNDS
#endif
