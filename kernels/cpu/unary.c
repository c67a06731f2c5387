/* unary.c - one operand, element by element: one row an op in the tables below. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
/* op, value at x */
#define PARE_UNARY(X)                                                        \
  X(FLOOR, MATH(floor)(x))                                                   \
  X(CEIL, MATH(ceil)(x))                                                     \
  X(SQRT, MATH(sqrt)(x))                                                     \
  X(RECIPROCAL, 1 / x)                                                       \
  X(EXP, MATH(exp)(x))                                                       \
  X(LOG, MATH(log)(x))                                                       \
  X(SIN, MATH(sin)(x))                                                       \
  X(COS, MATH(cos)(x))                                                       \
  X(ERF, MATH(erf)(x))                                                       \
  X(TANH, MATH(tanh)(x))                                                     \
  X(SIGMOID, 1 / (1 + MATH(exp)(-x)))                                        \
  X(RELU, x > 0 || x != x ? x : 0)                                           \
  X(GELU, x *ROUGH(normal_cdf)(x))                                            \
  X(GELU_TANH, x * (C)0.5 * (1 + MATH(tanh)((C)0.79788456080286535588 * (x + (C)0.044715 * x * x * x))))
/* op, of floats, of integers */
#define PARE_UNARY_NUMBER(X)                \
  X(NEG, -x, (C)(0 - (U)x))                 \
  X(ABS, MATH(fabs)(x), x < 0 ? (C)(0 - (U)x) : x)
#define PARE_UNARY_ROW(NAME, EXPR)                                                                          \
  static void NAME(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {      \
    const T *xp = in[0];                                                                                     \
    T *z = zp;                                                                                               \
    (void)step, (void)arg;                                                                                   \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                    \
      C x = LOAD(xp[i]);                                                                                     \
      z[i] = STORE(EXPR);                                                                                    \
    }                                                                                                        \
  }

#define PARE_TEMPLATE "kernels/cpu/unary.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"

static PareStatus unary(PareKernelArgs *a, PareRowFn *row) {
  if (!row) return pare_bad_type(a);
  /* One axis of all elements: a scalar's step is 1 too. */
  PareTensor x = a->in[0], z = a->out[0];
  x.type.rank = z.type.rank = 1;
  x.type.dim[0] = z.type.dim[0] = pare_count(&a->out[0]);
  PARE_CPU(rows)(&z, 1, &x, row, NULL);
  return PARE_OK;
}

#define PARE_UNARY_FLOAT(ID) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return unary(a, PARE_PICK_FLOAT(a->in[0].type.dtype, ID)); }
PARE_UNARY_FLOAT(FLOOR)
PARE_UNARY_FLOAT(CEIL)
PARE_UNARY_FLOAT(SQRT)
PARE_UNARY_FLOAT(RECIPROCAL)
PARE_UNARY_FLOAT(EXP)
PARE_UNARY_FLOAT(LOG)
PARE_UNARY_FLOAT(SIN)
PARE_UNARY_FLOAT(COS)
PARE_UNARY_FLOAT(ERF)
PARE_UNARY_FLOAT(TANH)
PARE_UNARY_FLOAT(SIGMOID)
PARE_UNARY_FLOAT(RELU)

PareStatus PARE_CPU(NEG)(PareKernelArgs *a) { return unary(a, PARE_PICK_NUMBER(a->in[0].type.dtype, NEG)); }
PareStatus PARE_CPU(ABS)(PareKernelArgs *a) { return unary(a, PARE_PICK_NUMBER(a->in[0].type.dtype, ABS)); }

/* approximate: 0 none (erf), 1 tanh. */
PareStatus PARE_CPU(GELU)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  return unary(a, a->attr->approximate ? PARE_PICK_FLOAT(d, GELU_TANH) : PARE_PICK_FLOAT(d, GELU));
}

static void not_row(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const uint8_t *x = in[0];
  uint8_t *z = zp;
  (void)step, (void)arg;
  for (int64_t i = 0; i < n; i++) z[i] = !x[i];
}
PareStatus PARE_CPU(NOT)(PareKernelArgs *a) { return unary(a, a->in[0].type.dtype == PARE_BOOL ? not_row : NULL); }

#else /* the template */
#ifndef U
#define X(id, f) PARE_UNARY_ROW(FN(id), f)
PARE_UNARY(X)
#undef X
#endif
#define X(id, f, i) PARE_UNARY_ROW(FN(id), PICK(f, i))
PARE_UNARY_NUMBER(X)
#undef X
#endif
