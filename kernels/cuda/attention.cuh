/* attention.cuh - what the plain kernels of attention (attention.cu) and those on the tensor cores
 * (attention_mma.cuh) share: the operands' shapes and strides. */
#ifndef PARE_KERNELS_CUDA_ATTENTION_CUH
#define PARE_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/cuda.cuh"

/* Inputs of Attention: q, k, v, mask; of AttentionGrad: these, the first's outputs y and the log-sum-exp of each row of
 * scores [B, heads, rows], and dy. */
enum { PARE_Q, PARE_K, PARE_V, PARE_MASK, PARE_Y = 3, PARE_LSE, PARE_DY, PARE_GRAD_MASK };

/* A tensor [B, heads, rows, width], or [B, rows, heads, width]: elements from a batch, a head, a row to the next. */
struct PareSide {
  int64_t rows, width, batch, head, row;
};
struct PareAttention {
  int64_t batches, heads;
  PareSide q, k, v, y;
  double scale;
  const void *mask; /* NULL: none; of the type of the arithmetic */
  int64_t step[4];  /* of the mask along batch, head, row, column */
};

static __host__ __device__ inline int64_t pare_at_head(const PareSide &s, int64_t b, int64_t h) {
  return b * s.batch + h * s.head;
}

/* More than 48 KiB of shared memory must be asked for. */
template <class Kernel> static PareStatus pare_allow_shared(PareKernelArgs *a, Kernel kernel, size_t bytes) {
  return pare_cuda_status(a, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                  (int)bytes));
}

/* --- on the tensor cores: bf16 --- */
/* Do the shapes fit? Operands must begin at multiples of 16 bytes besides. */
bool pare_attention_mma_fits(const PareKernelArgs *a, const PareAttention *t);
bool pare_attention_grad_mma_fits(const PareKernelArgs *a, const PareAttention *t);
/* Bytes of workspace. */
size_t pare_attention_grad_mma_workspace(const PareKernelArgs *a, const PareAttention *t);
PareStatus pare_attention_mma(PareKernelArgs *a, const PareAttention *t);
PareStatus pare_attention_grad_mma(PareKernelArgs *a, const PareAttention *t);

#endif
