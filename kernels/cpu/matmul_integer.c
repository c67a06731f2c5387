/* matmul_integer.c - MatMulInteger: (a - za)·(b - zb) of 8-bit integers, exact in i32. The
 * zero points are one number, or one for each row of a and for each column of b. */
#include "kernels/cpu/cpu.h"

static int32_t get(const PareTensor *t, int64_t i) {
  return t->type.dtype == PARE_U8 ? ((const uint8_t *)t->data)[i] : ((const int8_t *)t->data)[i];
}

/* x minus zero points that change every `each` elements. */
static void shift(const PareTensor *x, const PareTensor *zero, int64_t each, int32_t *out) {
  int64_t n = pare_count(x), zeros = zero ? pare_count(zero) : 0;
#pragma omp parallel for schedule(static) if (pare_threaded(n))
  for (int64_t i = 0; i < n; i++) out[i] = get(x, i) - (zeros ? get(zero, i / each % zeros) : 0);
}

static size_t room(const PareTensor *t) { return ((size_t)pare_count(t) * sizeof(int32_t) + 63) & ~(size_t)63; }

PareStatus PARE_CPU(plan_MATMULINTEGER)(PareKernelArgs *a) {
  a->workspace_bytes = room(&a->in[0]) + room(&a->in[1]);
  return PARE_OK;
}

PareStatus PARE_CPU(MATMULINTEGER)(PareKernelArgs *a) {
  PareTensor in[2] = {{a->workspace, a->in[0].type}, {(char *)a->workspace + room(&a->in[0]), a->in[1].type}};
  const PareType *x = &a->in[0].type;
  shift(&a->in[0], pare_given(a, 2) ? &a->in[2] : NULL, x->rank ? x->dim[x->rank - 1] : 1, in[0].data);
  shift(&a->in[1], pare_given(a, 3) ? &a->in[3] : NULL, 1, in[1].data);
  in[0].type.dtype = in[1].type.dtype = PARE_I32;
  PareKernelArgs product = {.in = in, .out = a->out, .nin = 2, .nout = 1, .attr = a->attr};
  PareStatus s = PARE_CPU(MATMUL)(&product);
  a->why = product.why;
  return s;
}
