/* kernel_call.h - one call of a kernel on plain buffers, for suites of kernels: at every level of the instruction set that
 * this machine has or, with PARE_TEST_CUDA, on an emulated or a real GPU. Tolerances are derived here, for all of them. */
#ifndef PARE_TESTS_KERNEL_CALL_H
#define PARE_TESTS_KERNEL_CALL_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>

#include "base/num.h"
#include "base/rng.h"
#include "cuda_device.h"
#include "kernels/kernel.h"

/* --- a call --- */
enum { MAX_TENSORS = 10 };

typedef struct Call {
  PareArena *arena;
  const PareKernel *kernels;
  PareAttrs attr;
  PareTensor in[MAX_TENSORS], out[MAX_TENSORS];
  int nin, nout;
  const char *why;
} Call;

extern const PareKernel pare_cpu_generic_table[PARE_OP_COUNT];
#ifdef __x86_64__
extern const PareKernel pare_cpu_v3_table[PARE_OP_COUNT];
#endif

/* The i-th table that this machine can run, or NULL. */
#ifdef PARE_TEST_CUDA
static inline const PareKernel *level(int i) { return i ? NULL : cuda_device()->kernels; }
#else
static inline const PareKernel *level(int i) {
  const PareKernel *best = pare_cpu_kernels(), *all[4] = {pare_cpu_generic_table};
  int n = 1;
#ifdef __x86_64__
  if (best != pare_cpu_generic_table) all[n++] = pare_cpu_v3_table;
  if (best != pare_cpu_generic_table && best != pare_cpu_v3_table) all[n++] = best;
#endif
  return i < n ? all[i] : NULL;
}
#endif
#define EACH_LEVEL(c)                                                                    \
  for (int level_ = 0; level(level_); level_++)                                          \
    for (Call c = {.arena = pare_arena_new(1 << 16), .kernels = level(level_)}; c.arena; \
         pare_arena_free(c.arena), c.arena = NULL)

#define DIMS(...) \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }
#define SCALAR 0, NULL

static inline PareTensor tensor(Call *c, PareDtype d, int rank, const int64_t *dim) {
  PareTensor t = {.type = {.dtype = d, .rank = rank}};
  for (int i = 0; i < rank; i++) t.type.dim[i] = dim[i];
  size_t bytes;
  cr_assert(pare_type_bytes(&t.type, &bytes));
  t.data = pare_arena_alloc(c->arena, bytes + 1, 1);
  return t;
}
static inline PareTensor *input(Call *c, PareDtype d, int rank, const int64_t *dim) {
  c->in[c->nin] = tensor(c, d, rank, dim);
  return &c->in[c->nin++];
}
static inline PareTensor *output(Call *c, PareDtype d, int rank, const int64_t *dim) {
  c->out[c->nout] = tensor(c, d, rank, dim);
  return &c->out[c->nout++];
}
static inline void left_out(Call *c) { c->in[c->nin++] = (PareTensor){0}; }
static inline void clear(Call *c) {
  c->nin = c->nout = 0;
  c->attr = (PareAttrs){0};
}

static inline double get(const PareTensor *t, int64_t i) {
  switch (t->type.dtype) {
    case PARE_F64:
      return ((double *)t->data)[i];
    case PARE_F32:
      return (double)((float *)t->data)[i];
    case PARE_BF16:
      return (double)pare_bf16_to_f32(((uint16_t *)t->data)[i]);
    case PARE_F16:
      return (double)pare_f16_to_f32(((uint16_t *)t->data)[i]);
    case PARE_I64:
      return (double)((int64_t *)t->data)[i];
    case PARE_I32:
      return (double)((int32_t *)t->data)[i];
    case PARE_I16:
      return (double)((int16_t *)t->data)[i];
    case PARE_I8:
      return (double)((int8_t *)t->data)[i];
    case PARE_U16:
      return (double)((uint16_t *)t->data)[i];
    default:
      return (double)((uint8_t *)t->data)[i];
  }
}
static inline void put(const PareTensor *t, int64_t i, double v) {
  switch (t->type.dtype) {
    case PARE_F64:
      ((double *)t->data)[i] = v;
      break;
    case PARE_F32:
      ((float *)t->data)[i] = (float)v;
      break;
    case PARE_BF16:
      ((uint16_t *)t->data)[i] = pare_f32_to_bf16((float)v);
      break;
    case PARE_F16:
      ((uint16_t *)t->data)[i] = pare_f32_to_f16((float)v);
      break;
    case PARE_I64:
      ((int64_t *)t->data)[i] = (int64_t)v;
      break;
    case PARE_I32:
      ((int32_t *)t->data)[i] = (int32_t)v;
      break;
    case PARE_I16:
      ((int16_t *)t->data)[i] = (int16_t)v;
      break;
    case PARE_I8:
      ((int8_t *)t->data)[i] = (int8_t)v;
      break;
    case PARE_U16:
      ((uint16_t *)t->data)[i] = (uint16_t)v;
      break;
    default:
      ((uint8_t *)t->data)[i] = (uint8_t)v;
  }
}
static inline int64_t count(const PareTensor *t) { return pare_type_count(&t->type); }

/* Offset in x of the output's element i, x broadcast to it. */
static inline int64_t broadcast(const PareType *x, const PareType *out, int64_t i) {
  int64_t off = 0, stride = 1;
  for (int k = out->rank - 1, j = x->rank - 1; k >= 0; k--, j--) {
    int64_t at = i % out->dim[k];
    i /= out->dim[k];
    if (j < 0) continue;
    if (x->dim[j] != 1) off += at * stride;
    stride *= x->dim[j];
  }
  return off;
}

/* Uniform in [lo, hi), on bf16's grid so that all float types hold the same numbers. */
static inline PareTensor *filled(PareTensor *t, uint64_t key, double lo, double hi) {
  for (int64_t i = 0, n = count(t); i < n; i++) {
    double v = lo + (hi - lo) * pare_rng_uniform(key, (uint64_t)i);
    put(t, i, (double)pare_bf16_to_f32(pare_f32_to_bf16((float)v)));
  }
  return t;
}
static inline PareTensor *listed(PareTensor *t, const double *v) {
  for (int64_t i = 0, n = count(t); i < n; i++) put(t, i, v[i]);
  return t;
}
#define LIST(...) ((const double[]){__VA_ARGS__})

static inline PareStatus run(Call *c, PareOp op) {
  const PareKernel *k = &c->kernels[op];
  PareKernelArgs a = {.in = c->in, .out = c->out, .nin = c->nin, .nout = c->nout, .attr = &c->attr};
#ifdef PARE_TEST_CUDA
  PareStatus status = cuda_call(op, &a);
  c->why = a.why;
  return status;
#endif
  PareStatus s = k->plan ? k->plan(&a) : PARE_OK;
  if (s == PARE_OK) {
    a.workspace = pare_arena_alloc(c->arena, a.workspace_bytes + 64, 1);
    if (a.workspace_bytes) memset(a.workspace, 0x7f, a.workspace_bytes); /* whatever was there before */
    s = k->run(&a);
  }
  if (k->release) k->release(a.state);
  c->why = a.why;
  return s;
}
static inline void must(Call *c, PareOp op) {
  PareStatus s = run(c, op);
  cr_assert_eq(s, PARE_OK, "op %d: status %d (%s)", (int)op, (int)s, c->why ? c->why : "");
}

/* --- tolerances: the only place. Unit roundoff of the storage, times a factor for the length of sums, relative
 * to the greatest |value| of the tensor (norm-wise) --- */
static inline double unit(PareDtype d) { return d == PARE_F64 ? 0x1p-53 : d == PARE_F32 ? 0x1p-24 : 0x1p-9; }

static inline void near(const PareTensor *got, const PareTensor *want, double factor, const char *what) {
  double max = 0, tol;
  for (int64_t i = 0, n = count(want); i < n; i++) max = isfinite(get(want, i)) ? fmax(max, fabs(get(want, i))) : max;
  tol = factor * unit(got->type.dtype) * fmax(max, 1e-30);
  for (int64_t i = 0, n = count(want); i < n; i++) {
    double a = get(got, i), b = get(want, i);
    cr_assert(a == b || fabs(a - b) <= tol || (isnan(a) && isnan(b)),
              "%s (%s) at %" PRId64 ": got %.9g, want %.9g, tolerance %.3g", what, pare_dtype_name(got->type.dtype), i,
              a, b, tol);
  }
}

/* A result of the type of t. */
static inline PareTensor *like(Call *c, const PareTensor *t) { return output(c, t->type.dtype, t->type.rank, t->type.dim); }

/* Runs op again with result 0 in input i's place: the same bytes must come. */
static inline void in_place(Call *c, PareOp op, int i) {
  size_t bytes;
  if (!c->in[i].data || c->in[i].type.dtype != c->out[0].type.dtype) return;
  cr_assert(pare_type_bytes(&c->out[0].type, &bytes));
  PareTensor in = c->in[i], out = c->out[0];
  c->in[i] = c->out[0] = tensor(c, in.type.dtype, in.type.rank, in.type.dim);
  memcpy(c->in[i].data, in.data, bytes);
  must(c, op);
  cr_assert_eq(memcmp(c->out[0].data, out.data, bytes), 0, "op %d: other bytes in input %d's place", (int)op, i);
  c->in[i] = in, c->out[0] = out;
}

#endif
