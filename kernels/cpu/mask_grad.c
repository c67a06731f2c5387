/* mask_grad.c - MaskGrad: what the loss would change by if a mask on a layer's input went from one to nothing, taken
 * from the input and its gradient: out[k] = sum over the rows of x[i, k]·dx[i, k]. Inputs: x, dx [.., K] of one float
 * type, like. The result has the type of the arithmetic. */
#include "kernels/cpu/cpu.h"

#ifndef T
#define PARE_TEMPLATE "kernels/cpu/mask_grad.c"
#include "kernels/cpu/floats.h"

/* Sums of each part of the rows. */
PareStatus PARE_CPU(plan_MASKGRAD)(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)(PARE_PARTS * pare_count(&a->out[0])) * pare_esize(&a->out[0]);
  return PARE_OK;
}
PareStatus PARE_CPU(MASKGRAD)(PareKernelArgs *a) {
  PareDtype d = a->in[0].type.dtype;
  if (a->out[0].type.dtype != (d == PARE_F64 ? PARE_F64 : PARE_F32)) return pare_bad_type(a);
  return pare_call(PARE_PICK_FLOAT(d, mask_grad), a);
}

#else /* the template */
static PareStatus FN(mask_grad)(PareKernelArgs *a) {
  const T *x = a->in[0].data, *dx = a->in[1].data;
  C *part = a->workspace, *out = a->out[0].data;
  int64_t k = pare_count(&a->out[0]), rows = k ? pare_count(&a->in[0]) / k : 0;
#pragma omp parallel for schedule(static) if (pare_threaded(rows * k))
  for (int64_t p = 0; p < PARE_PARTS; p++) {
    int64_t lo, hi;
    C *sum = part + p * k;
    pare_part(rows, PARE_PARTS, p, &lo, &hi);
    for (int64_t j = 0; j < k; j++) sum[j] = 0;
    for (int64_t i = lo; i < hi; i++) {
      const T *u = x + i * k, *v = dx + i * k;
      _Pragma("omp simd") for (int64_t j = 0; j < k; j++) sum[j] += LOAD(u[j]) * LOAD(v[j]);
    }
  }
  for (int64_t j = 0; j < k; j++) {
    out[j] = 0;
    for (int64_t p = 0; p < PARE_PARTS; p++) out[j] += part[p * k + j];
  }
  return PARE_OK;
}
#endif
