/* cpu.h - what the CPU kernels share. Every file of this folder but dispatch.c
 * is compiled once for each level of the instruction set, so each external name
 * goes through PARE_CPU. A kernel is PARE_CPU(ID), ID being its row in ops.def.
 *
 * Kernels for several element types are templates: a file includes itself by
 * way of floats.h (f32, f64, bf16), ints.h (i64, i32) or otherints.h (the rest), which set
 *   T     storage type          C        type of the arithmetic
 *   U     unsigned C (ints)     FN(x)    x_f32, x_f64, ...
 *   LOAD, STORE  T to C, C to T
 *   PICK(f, i)   f for floats, i for integers
 *   MATH(f)      exp, erf, ... of C           GEMM   gemm_f32 or gemm_f64, by C
 *
 * Sums are cut into a fixed number of parts and combined in a fixed order:
 * results do not depend on the number of threads. */
#ifndef PARE_KERNELS_CPU_H
#define PARE_KERNELS_CPU_H

#include <omp.h>

#include "base/num.h"
#include "kernels/kernel.h"

#ifndef PARE_CPU_LEVEL
#define PARE_CPU_LEVEL generic
#endif
#define PARE_CPU_PASTE_(level, name) pare_cpu_##level##_##name
#define PARE_CPU_PASTE(level, name) PARE_CPU_PASTE_(level, name)
#define PARE_CPU(name) PARE_CPU_PASTE(PARE_CPU_LEVEL, name)

#define DECLARE_ANY(id) PareKernelFn PARE_CPU(id);
#define DECLARE_CPU(id) DECLARE_ANY(id)
#define DECLARE_VIEW(id)
#define DECLARE_NONE(id)
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  DECLARE_##kernel(id)
#include "ir/ops.def"
#undef OP

/* Kernels that need a workspace or keep a state: op, plan, release. */
#define PARE_PLANNED(X)                                              \
  X(MATMUL, PARE_CPU(plan_MATMUL), PARE_CPU(release_MATMUL))         \
  X(FUSEDMATMUL, PARE_CPU(plan_MATMUL), PARE_CPU(release_MATMUL))    \
  X(GEMM, PARE_CPU(plan_GEMM), PARE_CPU(release_MATMUL))             \
  X(MATMULINTEGER, PARE_CPU(plan_MATMULINTEGER), NULL)               \
  X(CONV, PARE_CPU(plan_CONV), NULL)                                 \
  X(CONVGRAD, PARE_CPU(plan_CONVGRAD), NULL)                         \
  X(EINSUM, PARE_CPU(plan_EINSUM), NULL)                             \
  X(RESIZE, PARE_CPU(plan_RESIZE), NULL)                             \
  X(ADDNORM, PARE_CPU(plan_ADDNORM), NULL)                           \
  X(LAYERNORMGRAD, PARE_CPU(plan_LAYERNORMGRAD), NULL)               \
  X(IMPORTANCE, PARE_CPU(plan_IMPORTANCE), NULL)                     \
  X(WEIGHTSCORE, PARE_CPU(plan_WEIGHTSCORE), NULL)                   \
  X(MASKGRAD, PARE_CPU(plan_MASKGRAD), NULL)                         \
  X(GELUGRAD, PARE_CPU(plan_GELUGRAD), NULL)                         \
  X(LINEAR, PARE_CPU(plan_LINEAR), PARE_CPU(release_LINEAR))         \
  X(LINEARGRAD, PARE_CPU(plan_LINEARGRAD), PARE_CPU(release_LINEAR)) \
  X(MERGEDWEIGHT, PARE_CPU(plan_MERGEDWEIGHT), NULL)                 \
  X(ATTENTION, PARE_CPU(plan_ATTENTION), PARE_CPU(release_ATTENTION)) \
  X(ATTENTIONGRAD, PARE_CPU(plan_ATTENTIONGRAD), PARE_CPU(release_ATTENTION))
#define X(id, plan, release) PareKernelFn plan;
PARE_PLANNED(X)
#undef X
/* Op, bits of the inputs that are read at any address: frozen weights, which would else be copied. */
#define PARE_LOOSE(X) \
  X(LINEAR, 1u << 1) X(LINEARGRAD, 1u << 1) X(MERGEDWEIGHT, 1u << 0) X(IMPORTANCE, 1u << 0) X(WEIGHTSCORE, 1u << 0) \
  X(GATHER, 1u << 0) X(FETCH, 1u << 0) X(MATMUL, 1u << 1) X(FUSEDMATMUL, 1u << 1) X(GEMM, 1u << 1)
void PARE_CPU(release_MATMUL)(void *state);
void PARE_CPU(release_LINEAR)(void *state);
void PARE_CPU(release_ATTENTION)(void *state);

#define PARE_INLINE inline __attribute__((always_inline))

/* --- types --- */
#define PARE_PICK_FLOAT(d, f) \
  ((d) == PARE_F32 ? f##_f32 : (d) == PARE_F64 ? f##_f64 : (d) == PARE_BF16 ? f##_bf16 : NULL)
#define PARE_PICK_INT(d, f) ((d) == PARE_I64 ? f##_i64 : (d) == PARE_I32 ? f##_i32 : NULL)
#define PARE_PICK_NUMBER(d, f) (pare_dtype_is_float(d) ? PARE_PICK_FLOAT(d, f) : PARE_PICK_INT(d, f))
/* Where a family is made for every integer type. */
#define PARE_PICK_ANY_INT(d, f)                                                                              \
  ((d) == PARE_I8 ? f##_i8 : (d) == PARE_U8 ? f##_u8 : (d) == PARE_I16 ? f##_i16 : (d) == PARE_U16 ? f##_u16 \
   : (d) == PARE_U32 ? f##_u32 : (d) == PARE_U64 ? f##_u64 : PARE_PICK_INT(d, f))
#define PARE_PICK_ANY(d, f) (pare_dtype_is_float(d) ? PARE_PICK_FLOAT(d, f) : PARE_PICK_ANY_INT(d, f))

static inline PareStatus pare_bad(PareKernelArgs *a, const char *why) {
  a->why = why;
  return PARE_DATA;
}
static inline PareStatus pare_bad_type(PareKernelArgs *a) {
  a->why = "the CPU has no kernel for this element type";
  return PARE_UNSUPPORTED;
}
static inline PareStatus pare_call(PareKernelFn *fn, PareKernelArgs *a) { return fn ? fn(a) : pare_bad_type(a); }
/* Defines kernel ID as the template `f` by the type of input 0. */
#define PARE_FLOAT_KERNEL(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return pare_call(PARE_PICK_FLOAT(a->in[0].type.dtype, f), a); }
#define PARE_NUMBER_KERNEL(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return pare_call(PARE_PICK_NUMBER(a->in[0].type.dtype, f), a); }

static inline int64_t pare_count(const PareTensor *t) { return pare_type_count(&t->type); }
static inline size_t pare_esize(const PareTensor *t) { return pare_dtype_size(t->type.dtype); }
static inline bool pare_given(const PareKernelArgs *a, int i) { return i < a->nin && a->in[i].data; }
static inline bool pare_wanted(const PareKernelArgs *a, int i) { return i < a->nout && a->out[i].data; }
/* 0 <= axis < rank, counting from the end when negative; the caller's rank is at least 1. */
static inline int pare_axis(int64_t axis, int rank) { return (int)(axis < 0 ? axis + rank : axis); }
/* Product of dims lo..hi-1. */
static inline int64_t pare_span(const PareType *t, int lo, int hi) {
  int64_t n = 1;
  for (int i = lo; i < hi; i++) n *= t->dim[i];
  return n;
}

/* Element i of any float type as double, of any integer type or BOOL as int64: for scalars and steering operands. */
static inline double pare_get_float(const PareTensor *t, int64_t i) {
  switch (t->type.dtype) {
  case PARE_F64: return ((const double *)t->data)[i];
  case PARE_BF16: return (double)pare_bf16_to_f32(((const uint16_t *)t->data)[i]);
  case PARE_F16: return (double)pare_f16_to_f32(((const uint16_t *)t->data)[i]);
  default: return (double)((const float *)t->data)[i];
  }
}
static inline int64_t pare_get_int(const PareTensor *t, int64_t i) {
  switch (t->type.dtype) {
  case PARE_I8: return ((const int8_t *)t->data)[i];
  case PARE_I16: return ((const int16_t *)t->data)[i];
  case PARE_I32: return ((const int32_t *)t->data)[i];
  case PARE_U8:
  case PARE_BOOL: return ((const uint8_t *)t->data)[i];
  case PARE_U16: return ((const uint16_t *)t->data)[i];
  case PARE_U32: return ((const uint32_t *)t->data)[i];
  default: return ((const int64_t *)t->data)[i];
  }
}
static inline void pare_put_float(const PareTensor *t, int64_t i, double v) {
  switch (t->type.dtype) {
  case PARE_F64: ((double *)t->data)[i] = v; break;
  case PARE_BF16: ((uint16_t *)t->data)[i] = pare_f32_to_bf16((float)v); break;
  default: ((float *)t->data)[i] = (float)v;
  }
}
static inline bool pare_is_index(const PareTensor *t) {
  return t->type.dtype == PARE_I64 || t->type.dtype == PARE_I32;
}

/* |e| ^ 2 or 1 of a vector of floats that is a variable: what scores of weights are sums of. */
#define PARE_POWER(square, e) \
  ((square) ? (e) * (e) : (e) - 2 * (__typeof__(e))((__typeof__((e) < 0))(e) & ((e) < 0)))

/* --- threads --- */
/* Work (elements touched, roughly) under which a second thread costs more than it brings. */
enum { PARE_GRAIN = 1 << 15 };
static inline bool pare_threaded(int64_t work) { return work >= PARE_GRAIN && omp_get_max_threads() > 1; }

enum { PARE_PARTS = 32 };
/* Part p of 0..n-1 when it is cut into `parts`. */
static inline void pare_part(int64_t n, int64_t parts, int64_t p, int64_t *lo, int64_t *hi) {
  *lo = n / parts * p + (p < n % parts ? p : n % parts);
  *hi = *lo + n / parts + (p < n % parts ? 1 : 0);
}
static inline int64_t pare_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pare_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t pare_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* --- element-wise work with broadcasting: bcast.c --- */
/* n elements of out from the inputs' rows; step[i] is 1, or 0 when input i is one number. */
typedef void PareRowFn(int64_t n, void *out, const void *const in[3], const bool step[3], const void *arg);

/* Calls fn for runs of out's elements, with up to three inputs broadcast to its shape. */
void PARE_CPU(rows)(const PareTensor *out, int nin, const PareTensor *in, PareRowFn *fn, const void *arg);

/* out = x broadcast to out's shape; same element size: move.c. */
void PARE_CPU(expand)(const PareTensor *out, const PareTensor *x);

/* n elements from one type to another: cast.c. One thread. */
void PARE_CPU(cast_run)(int64_t n, PareDtype from, const void *x, PareDtype to, void *z);

/* --- products: gemm.c --- */
/* c[m,n] = alpha·op(a)[m,k]·op(b)[k,n] + beta·c, row-major; op transposes when the flag is set.
 * Threads inside, unless it is called by one of several threads. */
PareStatus PARE_CPU(gemm_f32)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const float *a,
                              int64_t lda, const float *b, int64_t ldb, double beta, float *c, int64_t ldc);
PareStatus PARE_CPU(gemm_f64)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                              int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
PareStatus PARE_CPU(gemm_i64)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const int64_t *a,
                              int64_t lda, const int64_t *b, int64_t ldb, double beta, int64_t *c, int64_t ldc);
PareStatus PARE_CPU(gemm_i32)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const int32_t *a,
                              int64_t lda, const int32_t *b, int64_t ldb, double beta, int32_t *c, int64_t ldc);

#endif
