/* eltwise_int.cu - element by element, integers of every type: bits and shifts, and arithmetic and comparison of the types
 * that eltwise.cu leaves out, which are no index's. One row an op in the tables; all is done in 64 bits and cut. */
#include "kernels/cuda/cuda.cuh"

/* op, value of x and y; W is int64_t, of u64 uint64_t, and U without a sign; `width` bits are an element's */
#define BINARY(X)                                                                        \
  X(ADD, (W)((U)x + (U)y))                                                               \
  X(SUB, (W)((U)x - (U)y))                                                               \
  X(MUL, (W)((U)x * (U)y))                                                               \
  X(DIV, quotient(x, y))                                                                 \
  X(MOD, modulo(x, y))                                                                   \
  X(FMOD, remainder_of(x, y))                                                            \
  X(PRELU, negative(x) ? (W)((U)x * (U)y) : x)                                           \
  X(MIN, x < y ? x : y)                                                                  \
  X(MAX, x > y ? x : y)                                                                  \
  X(EQUAL, x == y)                                                                       \
  X(LESS, x < y)                                                                         \
  X(LESSEQ, x <= y)                                                                      \
  X(GREATER, x > y)                                                                      \
  X(GREATEREQ, x >= y)                                                                   \
  X(BITAND, x & y)                                                                       \
  X(BITOR, x | y)                                                                        \
  X(BITXOR, x ^ y)                                                                       \
  X(SHIFT_LEFT, (U)y < (U)width ? (W)((U)x << y) : 0)                                    \
  X(SHIFT_RIGHT, (U)y < (U)width ? x >> y : negative(x) ? -1 : 0)
#define UNARY(X)                         \
  X(NEG, (W)(0 - (U)x))                  \
  X(ABS, negative(x) ? (W)(0 - (U)x) : x) \
  X(SIGN, (x != 0) - 2 * negative(x))    \
  X(RELU, negative(x) ? 0 : x)           \
  X(BITNOT, ~x)

static __device__ inline int negative(int64_t x) { return x < 0; }
static __device__ inline int negative(uint64_t) { return 0; }
static __device__ inline int64_t quotient(int64_t x, int64_t y) {
  return y == -1 ? (int64_t)(0 - (uint64_t)x) : y ? x / y : 0;
}
static __device__ inline uint64_t quotient(uint64_t x, uint64_t y) { return y ? x / y : 0; }
static __device__ inline int64_t remainder_of(int64_t x, int64_t y) { return y == -1 || y == 0 ? 0 : x % y; }
static __device__ inline uint64_t remainder_of(uint64_t x, uint64_t y) { return y ? x % y : 0; }
/* Has the divisor's sign. */
static __device__ inline int64_t modulo(int64_t x, int64_t y) {
  int64_t r = remainder_of(x, y);
  return r != 0 && (x < 0) != (y < 0) ? r + y : r;
}
static __device__ inline uint64_t modulo(uint64_t x, uint64_t y) { return remainder_of(x, y); }

template <class W> static __device__ inline W binary_of(int op, W x, W y, int width) {
  typedef uint64_t U;
  switch (op) {
#define X(id, f) \
  case PARE_OP_##id: return (W)(f);
    BINARY(X)
#undef X
  }
  return 0;
}
template <class W> static __device__ inline W unary_of(int op, W x) {
  typedef uint64_t U;
  switch (op) {
#define X(id, f) \
  case PARE_OP_##id: return (W)(f);
    UNARY(X)
#undef X
  }
  return 0;
}

static __global__ void binary(int op, PareWalk w, int64_t n, int type, int width, int out_size, const void *x,
                              const void *y, void *z, uint32_t *fault) {
  bool divides = op == PARE_OP_DIV || op == PARE_OP_MOD || op == PARE_OP_FMOD;
  PARE_EACH(i, n) {
    int64_t off[2] = {0, 0};
    pare_walk_at<2>(w, i, off);
    int64_t u = pare_get_int(x, type, off[0]), v = pare_get_int(y, type, off[1]);
    if (divides && v == 0) *fault = PARE_FAULT_DIVISION;
    int64_t r = type == PARE_U64 ? (int64_t)binary_of<uint64_t>(op, (uint64_t)u, (uint64_t)v, width)
                                 : binary_of<int64_t>(op, u, v, width);
    pare_put_int(z, out_size, i, r);
  }
}
static __global__ void unary(int op, int64_t n, int type, int size, const void *x, void *z) {
  PARE_EACH(i, n) {
    int64_t u = pare_get_int(x, type, i);
    pare_put_int(z, size, i, type == PARE_U64 ? (int64_t)unary_of<uint64_t>(op, (uint64_t)u) : unary_of<int64_t>(op, u));
  }
}

PareStatus pare_cuda_integers(PareKernelArgs *a, int op, const PareTensor *x, const PareTensor *y) {
  const PareTensor *z = &a->out[0];
  PareTensor in[2] = {*x, *y};
  int64_t n = pare_count(z);
  if (!pare_dtype_is_int(x->type.dtype)) return pare_bad_type(a);
  if (!n) return PARE_OK;
  PARE_LAUNCH(binary, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, op,
              pare_walk_broadcast(z, 2, in), n, (int)x->type.dtype, (int)(8 * pare_esize(x)), (int)pare_esize(z),
              (const void *)x->data, (const void *)y->data, (void *)z->data, a->fault);
  return pare_launched(a);
}
PareStatus pare_cuda_integer(PareKernelArgs *a, int op) {
  int64_t n = pare_count(&a->out[0]);
  if (!pare_dtype_is_int(a->in[0].type.dtype)) return pare_bad_type(a);
  if (!n) return PARE_OK;
  PARE_LAUNCH(unary, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, op, n,
              (int)a->in[0].type.dtype, (int)pare_esize(&a->in[0]), (const void *)a->in[0].data,
              (void *)a->out[0].data);
  return pare_launched(a);
}

#define BITS(id) \
  PareStatus pare_cuda_##id(PareKernelArgs *a) { return pare_cuda_integers(a, PARE_OP_##id, &a->in[0], &a->in[1]); }
BITS(BITAND)
BITS(BITOR)
BITS(BITXOR)
PareStatus pare_cuda_BITNOT(PareKernelArgs *a) { return pare_cuda_integer(a, PARE_OP_BITNOT); }
/* direction: 0 left, 1 right */
PareStatus pare_cuda_BITSHIFT(PareKernelArgs *a) {
  return pare_cuda_integers(a, a->attr->direction ? PARE_OP_SHIFT_RIGHT : PARE_OP_SHIFT_LEFT, &a->in[0], &a->in[1]);
}
