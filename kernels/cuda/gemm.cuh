/* gemm.cuh - a product as gemm.cu makes it and gemm_tune.cu tries it. */
#ifndef PARE_KERNELS_CUDA_GEMM_CUH
#define PARE_KERNELS_CUDA_GEMM_CUH

#include <stdlib.h>

#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "base/arena.h"
}

struct PareGemm {
  PareArena *arena; /* holds this struct */
  PareGemmSpec spec;
  bool empty; /* an axis has no elements */
  cublasLtMatmulDesc_t op;
  cublasLtMatrixLayout_t a, b, c; /* the library's a is our b */
  cublasLtMatmulAlgo_t algo;
};

enum { PARE_GEMM_WAYS = 8 };
/* Sets g->algo to the fastest of the n ways, best first by the library's own measure, that give what the first gives. In
 * plan; waits for the device. */
void pare_gemm_tune(PareKernelArgs *args, PareGemm *g, int n, const cublasLtMatmulHeuristicResult_t *way);

#endif
