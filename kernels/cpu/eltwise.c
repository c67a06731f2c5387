/* eltwise.c - two operands and Where, with broadcasting: arithmetic, comparison,
 * logic. One row an op in the tables below; the walking is bcast.c's. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
/* op, of floats, of integers. Min and Max pass a NaN on; Mod has the divisor's sign, FMod the dividend's. */
#define PARE_ARITHMETIC(X)                                                \
  X(ADD, x + y, (C)((U)x + (U)y))                                         \
  X(SUB, x - y, (C)((U)x - (U)y))                                         \
  X(MUL, x * y, (C)((U)x * (U)y))                                         \
  X(DIV, x / y, MINUS_ONE(y) ? (C)(0 - (U)x) : (C)(x / y))                \
  X(MOD, FN(modulo)(x, y), (C)(FMOD_INT + (FMOD_INT != 0 && (x < 0) != (y < 0) ? y : 0))) \
  X(FMOD, MATH(fmod)(x, y), FMOD_INT)                                     \
  X(PRELU, x < 0 ? x * y : x, x < 0 ? (C)((U)x * (U)y) : x)               \
  X(MIN, x < y || x != x ? x : y, x < y ? x : y)                          \
  X(MAX, x > y || x != x ? x : y, x > y ? x : y)
/* INT_MIN / -1 overflows, and traps. */
#define MINUS_ONE(y) (C_MIN < 0 && (y) == (C)-1)
#define FMOD_INT (MINUS_ONE(y) ? (C)0 : (C)(x % y))
/* op, of integers. A shift by the width or more leaves nothing but the sign. */
#define PARE_BITS(X)                                                            \
  X(BITAND, (C)(x & y))                                                         \
  X(BITOR, (C)(x | y))                                                          \
  X(BITXOR, (C)(x ^ y))                                                         \
  X(SHIFT_LEFT, (U)y < 8 * sizeof(C) ? (C)((U)x << y) : (C)0)                   \
  X(SHIFT_RIGHT, (U)y < 8 * sizeof(C) ? (C)(x >> y) : x < 0 ? (C)-1 : (C)0)
/* op, condition */
#define PARE_COMPARE(X) \
  X(EQUAL, x == y)      \
  X(LESS, x < y)        \
  X(LESSEQ, x <= y)     \
  X(GREATER, x > y)     \
  X(GREATEREQ, x >= y)

/* A row function for the four ways in which two operands can step. A run in
 * place (out is x or y) is fine: each element is read before it is written. */
#define PARE_ROW(NAME, TX, Z, CX, LD, ST, EXPR)                                                             \
  static void NAME(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {      \
    const TX *xp = in[0], *yp = in[1];                                                                       \
    Z *z = zp;                                                                                               \
    (void)arg;                                                                                               \
    if (step[0] && step[1]) {                                                                                \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                  \
        CX x = LD(xp[i]), y = LD(yp[i]);                                                                     \
        z[i] = ST(EXPR);                                                                                     \
      }                                                                                                      \
    } else if (step[0]) {                                                                                    \
      CX y = LD(*yp);                                                                                        \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                  \
        CX x = LD(xp[i]);                                                                                    \
        z[i] = ST(EXPR);                                                                                     \
      }                                                                                                      \
    } else if (step[1]) {                                                                                    \
      CX x = LD(*xp);                                                                                        \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                  \
        CX y = LD(yp[i]);                                                                                    \
        z[i] = ST(EXPR);                                                                                     \
      }                                                                                                      \
    } else {                                                                                                 \
      CX x = LD(*xp), y = LD(*yp);                                                                           \
      for (int64_t i = 0; i < n; i++) z[i] = ST(EXPR);                                                       \
    }                                                                                                        \
  }
#define PARE_AS_BOOL(v) ((uint8_t)(v))
#define PARE_PLAIN(v) (v)

#define PARE_TEMPLATE "kernels/cpu/eltwise.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"
#include "kernels/cpu/otherints.h"

static PareStatus binary(PareKernelArgs *a, PareRowFn *row) {
  if (!row) return pare_bad_type(a);
  PARE_CPU(rows)(&a->out[0], 2, a->in, row, NULL);
  return PARE_OK;
}

#define PARE_BINARY(ID) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return binary(a, PARE_PICK_ANY(a->in[0].type.dtype, ID)); }
PARE_BINARY(PRELU)
PARE_BINARY(ADD)
PARE_BINARY(SUB)
PARE_BINARY(MUL)
PARE_BINARY(LESS)
PARE_BINARY(LESSEQ)
PARE_BINARY(GREATER)
PARE_BINARY(GREATEREQ)

/* Integer quotients are truncated toward zero. */
static PareStatus divide(PareKernelArgs *a, PareRowFn *row) {
  if (pare_dtype_is_int(a->in[1].type.dtype) && pare_count(&a->out[0]))
    for (int64_t i = 0, n = pare_count(&a->in[1]); i < n; i++)
      if (!pare_get_int(&a->in[1], i)) return pare_bad(a, "division of an integer by zero");
  return binary(a, row);
}
PareStatus PARE_CPU(DIV)(PareKernelArgs *a) { return divide(a, PARE_PICK_ANY(a->in[0].type.dtype, DIV)); }
PareStatus PARE_CPU(MOD)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  return divide(a, a->attr->fmod ? PARE_PICK_ANY(d, FMOD) : PARE_PICK_ANY(d, MOD));
}

#define PARE_BINARY_INT(ID) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return binary(a, PARE_PICK_ANY_INT(a->in[0].type.dtype, ID)); }
PARE_BINARY_INT(BITAND)
PARE_BINARY_INT(BITOR)
PARE_BINARY_INT(BITXOR)

/* direction: 0 left, 1 right */
PareStatus PARE_CPU(BITSHIFT)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  return binary(a, a->attr->direction ? PARE_PICK_ANY_INT(d, SHIFT_RIGHT) : PARE_PICK_ANY_INT(d, SHIFT_LEFT));
}

/* Any number of operands, folded from the left into the output. */
static PareStatus fold(PareKernelArgs *a, PareRowFn *row) {
  if (!row) return pare_bad_type(a);
  if (a->nin == 1) PARE_CPU(expand)(&a->out[0], &a->in[0]);
  else PARE_CPU(rows)(&a->out[0], 2, a->in, row, NULL);
  for (int i = 2; i < a->nin; i++) {
    PareTensor pair[2] = {a->out[0], a->in[i]};
    PARE_CPU(rows)(&a->out[0], 2, pair, row, NULL);
  }
  return PARE_OK;
}
PareStatus PARE_CPU(MIN)(PareKernelArgs *a) { return fold(a, PARE_PICK_ANY(a->in[0].type.dtype, MIN)); }
PareStatus PARE_CPU(MAX)(PareKernelArgs *a) { return fold(a, PARE_PICK_ANY(a->in[0].type.dtype, MAX)); }
PareStatus PARE_CPU(SUM)(PareKernelArgs *a) { return fold(a, PARE_PICK_FLOAT(a->in[0].type.dtype, ADD)); }
PareStatus PARE_CPU(MEAN)(PareKernelArgs *a) {
  PARE_TRY(fold(a, PARE_PICK_FLOAT(a->in[0].type.dtype, ADD)));
  return pare_call(PARE_PICK_FLOAT(a->in[0].type.dtype, part_of), a);
}

PARE_ROW(equal_bytes, uint8_t, uint8_t, int, PARE_PLAIN, PARE_AS_BOOL, x == y)
PARE_ROW(both, uint8_t, uint8_t, int, PARE_PLAIN, PARE_AS_BOOL, x && y)
PARE_ROW(either, uint8_t, uint8_t, int, PARE_PLAIN, PARE_AS_BOOL, x || y)
PARE_ROW(unlike, uint8_t, uint8_t, int, PARE_PLAIN, PARE_AS_BOOL, !x != !y)

PareStatus PARE_CPU(EQUAL)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  return binary(a, pare_dtype_size(d) == 1 ? equal_bytes : PARE_PICK_ANY(d, EQUAL));
}
PareStatus PARE_CPU(AND)(PareKernelArgs *a) { return binary(a, a->in[0].type.dtype == PARE_BOOL ? both : NULL); }
PareStatus PARE_CPU(OR)(PareKernelArgs *a) { return binary(a, a->in[0].type.dtype == PARE_BOOL ? either : NULL); }
PareStatus PARE_CPU(XOR)(PareKernelArgs *a) { return binary(a, a->in[0].type.dtype == PARE_BOOL ? unlike : NULL); }

/* Where: elements of any type, told apart by size alone. */
#define PARE_WHERE(NAME, E)                                                                              \
  static void NAME(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {   \
    const uint8_t *c = in[0];                                                                             \
    const E *x = in[1], *y = in[2];                                                                       \
    E *z = zp;                                                                                            \
    (void)arg;                                                                                            \
    if (step[0] && step[1] && step[2]) {                                                                  \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) z[i] = c[i] ? x[i] : y[i];                      \
    } else if (step[0] && step[1]) {                                                                      \
      E v = *y;                                                                                           \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) z[i] = c[i] ? x[i] : v;                         \
    } else if (step[0] && step[2]) {                                                                      \
      E v = *x;                                                                                           \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) z[i] = c[i] ? v : y[i];                         \
    } else if (step[0]) {                                                                                 \
      E v = *x, w = *y;                                                                                   \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) z[i] = c[i] ? v : w;                            \
    } else {                                                                                              \
      const E *from = *c ? x : y;                                                                         \
      int64_t by = (*c ? step[1] : step[2]) ? 1 : 0;                                                      \
      for (int64_t i = 0; i < n; i++) z[i] = from[i * by];                                                \
    }                                                                                                     \
  }
PARE_WHERE(where_1, uint8_t)
PARE_WHERE(where_2, uint16_t)
PARE_WHERE(where_4, uint32_t)
PARE_WHERE(where_8, uint64_t)

PareStatus PARE_CPU(WHERE)(PareKernelArgs *a) {
  size_t size = pare_esize(&a->out[0]);
  PareRowFn *row = size == 1 ? where_1 : size == 2 ? where_2 : size == 4 ? where_4 : where_8;
  PARE_CPU(rows)(&a->out[0], 3, a->in, row, NULL);
  return PARE_OK;
}

#else /* the template */
#ifndef U
static inline C FN(modulo)(C x, C y) {
  C r = MATH(fmod)(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
#endif
#define X(id, f, i) PARE_ROW(FN(id), T, T, C, LOAD, STORE, PICK(f, i))
PARE_ARITHMETIC(X)
#undef X
#define X(id, cond) PARE_ROW(FN(id), T, uint8_t, C, LOAD, PARE_AS_BOOL, cond)
PARE_COMPARE(X)
#undef X
#ifdef U
#define X(id, f) PARE_ROW(FN(id), T, T, C, LOAD, STORE, f)
PARE_BITS(X)
#undef X
#else
/* The output, a sum of nin operands, becomes their mean. */
static PareStatus FN(part_of)(PareKernelArgs *a) {
  T *y = a->out[0].data;
  int64_t n = pare_count(&a->out[0]);
#pragma omp parallel for simd schedule(static) if (pare_threaded(n))
  for (int64_t i = 0; i < n; i++) y[i] = STORE(LOAD(y[i]) / (C)a->nin);
  return PARE_OK;
}
#endif
#endif
