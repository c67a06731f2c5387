/* table.cu - the kernels of a GPU by op. A row of ops.def that promises one is pare_cuda_ID, in the file of its family; one
 * that does not exist does not link. */
#include "kernels/cuda/cuda.cuh"

/* op, the kernel that plans for it (the same workspace), what frees its state */
#define PARE_CUDA_PLANNED(X)                                                                                    \
  X(MATMUL, MATMUL, pare_cuda_release_MATMUL) X(FUSEDMATMUL, MATMUL, pare_cuda_release_MATMUL)                  \
  X(GEMM, GEMM, pare_cuda_release_MATMUL) X(CONV, CONV, pare_cuda_release_CONV)                                 \
  X(LINEAR, LINEAR, pare_cuda_release_LINEAR) X(LINEARGRAD, LINEARGRAD, pare_cuda_release_LINEAR)               \
  X(ATTENTION, ATTENTION, NULL) X(ATTENTIONGRAD, ATTENTIONGRAD, NULL) X(LAYERNORMGRAD, LAYERNORMGRAD, NULL)     \
  X(REDUCEMEAN, REDUCE, NULL) X(REDUCESUM, REDUCE, NULL) X(REDUCEPROD, REDUCE, NULL) X(REDUCEMAX, REDUCE, NULL) \
  X(REDUCEMIN, REDUCE, NULL) X(SUMTO, SUMTO, NULL) X(CROSSENTROPY, CROSSENTROPY, NULL)                          \
  X(CROSSENTROPYGRAD, CROSSENTROPY, NULL) X(DISTILL, ROWLOSS, NULL) X(DISTILLGRAD, ROWLOSS, NULL)               \
  X(MSE, MEANLOSS, NULL) X(MSEGRAD, MEANLOSS, NULL) X(BCE, MEANLOSS, NULL) X(BCEGRAD, MEANLOSS, NULL)           \
  X(SUMSQUARES, SUMSQUARES, NULL) X(IMPORTANCE, IMPORTANCE, NULL)                                               \
  X(WEIGHTSCORE, WEIGHTSCORE, pare_cuda_release_WEIGHTSCORE) X(SAMPLESUM, SAMPLESUM, NULL)                      \
  X(MASKGRAD, MASKGRAD, NULL) X(GELUGRAD, GELUGRAD, NULL) X(CONVGRAD, CONVGRAD, pare_cuda_release_CONV) X(MAXPOOLGRAD, MAXPOOLGRAD, NULL)   \
  X(REDUCEL1, REDUCE, NULL) X(REDUCEL2, REDUCE, NULL) X(REDUCELOGSUM, REDUCE, NULL)                             \
  X(REDUCESUMSQUARE, REDUCE, NULL) X(REDUCELOGSUMEXP, REDUCELOGSUMEXP, NULL) X(PAD, PAD, NULL)                  \
  X(SCATTERELEMENTS, SCATTERELEMENTS, NULL) X(SCATTERND, SCATTERND, NULL)                                       \
  X(EINSUM, EINSUM, pare_cuda_release_MATMUL) X(DYNAMICQUANTIZELINEAR, DYNAMICQUANTIZELINEAR, NULL)

/* ops whose nodes can share a launch: run_many is pare_cuda_many_ID (kernels/cuda/rows.cuh) */
#define PARE_CUDA_MANY(X) \
  X(ADD) X(MUL) X(ACCUMULATE) X(ADAMW) X(EMA) X(IMPORTANCE) X(GROUPSUM) X(LPNORM) X(MERGEDWEIGHT)

#define DECLARE_ANY(id) PareKernelFn pare_cuda_##id;
#define DECLARE_CPU(id)
#define DECLARE_VIEW(id)
#define DECLARE_NONE(id)
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  DECLARE_##kernel(id)
#include "ir/ops.def"
#undef OP
#define X(id) PareStatus pare_cuda_many_##id(PareKernelArgs *const *a, int n);
PARE_CUDA_MANY(X)
#undef X
#define X(id, plan, release) PareKernelFn pare_cuda_plan_##plan;
PARE_CUDA_PLANNED(X)
#undef X
void pare_cuda_release_MATMUL(void *state);
void pare_cuda_release_CONV(void *state);
void pare_cuda_release_LINEAR(void *state);
void pare_cuda_release_WEIGHTSCORE(void *state);

void pare_cuda_table(PareKernel *table) {
#define SLOT_ANY(id) table[PARE_OP_##id].run = pare_cuda_##id;
#define SLOT_CPU(id)
#define SLOT_VIEW(id)
#define SLOT_NONE(id)
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) SLOT_##kernel(id)
#include "ir/ops.def"
#undef OP
#define X(id, planned, freed)                       \
  table[PARE_OP_##id].plan = pare_cuda_plan_##planned; \
  table[PARE_OP_##id].release = freed;
  PARE_CUDA_PLANNED(X)
#undef X
#define X(id) table[PARE_OP_##id].run_many = pare_cuda_many_##id;
  PARE_CUDA_MANY(X)
#undef X
}
