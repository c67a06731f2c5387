/* factor.cuh - an adapter's A [K, r] or B [r, N], or its gradient, as a factor of the lines of a weight as it is stored or
 * of the positions in them. */
#ifndef PARE_KERNELS_CUDA_FACTOR_CUH
#define PARE_KERNELS_CUDA_FACTOR_CUH

#include "kernels/cuda/cuda.cuh"

/* Element [i, j], of rank j, is at[i·step + j·rank_step]. */
struct PareFactor {
  const void *at;
  int type;
  int64_t step, rank_step;
};
static inline PareFactor pare_factor(const PareTensor *t, int64_t step, int64_t rank_step) {
  return {t->data, (int)t->type.dtype, step, rank_step};
}
template <class C> static __device__ inline C pare_factor_at(const PareFactor &f, int64_t i, int64_t j) {
  return (C)pare_get_float(f.at, f.type, i * f.step + j * f.rank_step);
}

#endif
