/* table.cu - which ops have a kernel here: a row each. A kernel is pare_cuda_ID, in the file of its family. */
#include "kernels/cuda/cuda.cuh"

/* ops that need no plan */
#define PARE_CUDA_PLAIN(X)                                                                                    \
  X(ADD) X(SUB) X(MUL) X(DIV) X(POW) X(MIN) X(MAX) X(EQUAL) X(LESS) X(LESSEQ) X(GREATER) X(GREATEREQ) X(AND)  \
  X(OR) X(WHERE) X(NOT) X(NEG) X(ABS) X(FLOOR) X(CEIL) X(SQRT) X(RECIPROCAL) X(EXP) X(LOG) X(SIN) X(COS)      \
  X(ERF) X(TANH) X(SIGMOID) X(RELU) X(GELU) X(CAST) X(SOFTMAX) X(LOGSOFTMAX) X(LAYERNORM) X(ADDNORM)          \
  X(TRANSPOSE) X(CONCAT) X(SPLIT) X(SLICE) X(GATHER) X(EXPAND) X(SHAPE) X(CONSTANTOFSHAPE) X(RANGE)           \
  X(RELUGRAD) X(GELUGRAD) X(ERFGRAD) X(TANHGRAD) X(SIGMOIDGRAD) X(SOFTMAXGRAD) X(GATHERGRAD) X(SLICEGRAD)     \
  X(ACCUMULATE) X(ADAMW) X(GROUPSUM) X(EMA) X(CUMSUM) X(LPNORM) X(MERGEDWEIGHT)
/* op, the kernel that plans for it (the same workspace), what frees its state */
#define PARE_CUDA_PLANNED(X)                                                                             \
  X(MATMUL, MATMUL, pare_cuda_release_MATMUL) X(FUSEDMATMUL, MATMUL, pare_cuda_release_MATMUL)           \
  X(GEMM, GEMM, pare_cuda_release_MATMUL) X(CONV, CONV, pare_cuda_release_CONV)                          \
  X(LINEAR, LINEAR, pare_cuda_release_LINEAR) X(LINEARGRAD, LINEARGRAD, pare_cuda_release_LINEAR)        \
  X(ATTENTION, ATTENTION, NULL) X(ATTENTIONGRAD, ATTENTIONGRAD, NULL)                                    \
  X(LAYERNORMGRAD, LAYERNORMGRAD, NULL) X(REDUCEMEAN, REDUCE, NULL) X(REDUCESUM, REDUCE, NULL)           \
  X(REDUCEPROD, REDUCE, NULL) X(REDUCEMAX, REDUCE, NULL) X(REDUCEMIN, REDUCE, NULL) X(SUMTO, SUMTO, NULL) \
  X(CROSSENTROPY, CROSSENTROPY, NULL) X(CROSSENTROPYGRAD, CROSSENTROPY, NULL) X(DISTILL, ROWLOSS, NULL)  \
  X(DISTILLGRAD, ROWLOSS, NULL) X(MSE, MEANLOSS, NULL) X(MSEGRAD, MEANLOSS, NULL) X(BCE, MEANLOSS, NULL) \
  X(BCEGRAD, MEANLOSS, NULL) X(SUMSQUARES, SUMSQUARES, NULL) X(IMPORTANCE, IMPORTANCE, NULL)

/* ops whose nodes can share a launch: run_many is pare_cuda_many_ID (kernels/cuda/rows.cuh) */
#define PARE_CUDA_MANY(X) \
  X(ADD) X(MUL) X(ACCUMULATE) X(ADAMW) X(EMA) X(IMPORTANCE) X(GROUPSUM) X(LPNORM) X(MERGEDWEIGHT)

#define X(id) PareKernelFn pare_cuda_##id;
PARE_CUDA_PLAIN(X)
#undef X
#define X(id) PareStatus pare_cuda_many_##id(PareKernelArgs *const *a, int n);
PARE_CUDA_MANY(X)
#undef X
#define X(id, plan, release) PareKernelFn pare_cuda_##id, pare_cuda_plan_##plan;
PARE_CUDA_PLANNED(X)
#undef X
void pare_cuda_release_MATMUL(void *state);
void pare_cuda_release_CONV(void *state);
void pare_cuda_release_LINEAR(void *state);

void pare_cuda_table(PareKernel *table) {
#define X(id) table[PARE_OP_##id].run = pare_cuda_##id;
  PARE_CUDA_PLAIN(X)
#undef X
#define X(id, planned, freed)                       \
  table[PARE_OP_##id].plan = pare_cuda_plan_##planned; \
  table[PARE_OP_##id].run = pare_cuda_##id;         \
  table[PARE_OP_##id].release = freed;
  PARE_CUDA_PLANNED(X)
#undef X
#define X(id) table[PARE_OP_##id].run_many = pare_cuda_many_##id;
  PARE_CUDA_MANY(X)
#undef X
}
