/* gemm.cu - matrix products by cuBLASLt. It thinks in columns: a row-major y[m,n] = a·b is its y'[n,m] = b'·a', so the
 * operands change places and a row-major matrix is a transposed one of columns. */
#include "kernels/cuda/gemm.cuh"

static const char no_product[] = "cuBLASLt has no product of this type and size";

static cudaDataType_t type_of(PareDtype d) {
  return d == PARE_F64 ? CUDA_R_64F : d == PARE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

void pare_gemm_free(PareGemm *g) {
  if (!g) return;
  if (g->op) cublasLtMatmulDescDestroy(g->op);
  if (g->a) cublasLtMatrixLayoutDestroy(g->a);
  if (g->b) cublasLtMatrixLayoutDestroy(g->b);
  if (g->c) cublasLtMatrixLayoutDestroy(g->c);
  pare_arena_free(g->arena);
}

static bool set(cublasLtMatmulDesc_t op, cublasLtMatmulDescAttributes_t what, const void *value, size_t size) {
  return cublasLtMatmulDescSetAttribute(op, what, value, size) == CUBLAS_STATUS_SUCCESS;
}

/* rows and cols of the row-major matrix. */
static bool make_layout(cublasLtMatrixLayout_t *out, PareDtype d, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
                        int64_t step) {
  int32_t count = (int32_t)batch;
  if (cublasLtMatrixLayoutCreate(out, type_of(d), (uint64_t)cols, (uint64_t)rows, ld) != CUBLAS_STATUS_SUCCESS)
    return *out = NULL, false;
  return cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count) ==
             CUBLAS_STATUS_SUCCESS &&
         cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step) ==
             CUBLAS_STATUS_SUCCESS;
}

static cublasComputeType_t compute_of(PareDtype d, const PareCuda *cuda) {
  if (d == PARE_F64) return CUBLAS_COMPUTE_64F;
  return d == PARE_F32 && cuda->device->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

static bool make_op(PareGemm *g, const PareCuda *cuda) {
  const PareGemmSpec *s = &g->spec;
  cublasOperation_t ta = s->tb ? CUBLAS_OP_T : CUBLAS_OP_N, tb = s->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  const void *somewhere = (const void *)(uintptr_t)256; /* not read; says how the bias will be aligned */
  if (cublasLtMatmulDescCreate(&g->op, compute_of(s->in, cuda), s->in == PARE_F64 ? CUDA_R_64F : CUDA_R_32F) !=
      CUBLAS_STATUS_SUCCESS)
    return g->op = NULL, false;
  return set(g->op, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta) &&
         set(g->op, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb) &&
         (!s->bias || (set(g->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
                       set(g->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &somewhere, sizeof somewhere)));
}

/* The greatest power of two up to 64 that divides the place of every matrix. */
static uint32_t alignment(int64_t begin, int64_t step, PareDtype d) {
  uint64_t size = pare_dtype_size(d), at = 64;
  while ((uint64_t)begin * size % at || (uint64_t)step * size % at) at /= 2;
  return (uint32_t)at;
}

static bool choose_algo(PareKernelArgs *args, PareGemm *g) {
  const PareCuda *cuda = pare_cuda(args);
  const PareGemmSpec *s = &g->spec;
  cublasLtMatmulPreference_t pref;
  cublasLtMatmulHeuristicResult_t found[PARE_GEMM_WAYS];
  int n = 0;
  uint64_t space = cuda->blas_bytes;
  uint32_t a = alignment(s->bbegin, s->bstep, s->in), b = alignment(s->abegin, s->astep, s->in);
  uint32_t c = alignment(s->cbegin, s->cstep, s->out);
  if (cublasLtMatmulPreferenceCreate(&pref) != CUBLAS_STATUS_SUCCESS) return false;
  const struct {
    cublasLtMatmulPreferenceAttributes_t what;
    const void *value;
    size_t size;
  } wish[] = {
      {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &space, sizeof space},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c, sizeof c},
  };
  bool ok = true;
  for (size_t i = 0; i < sizeof wish / sizeof *wish && ok; i++)
    ok = cublasLtMatmulPreferenceSetAttribute(pref, wish[i].what, wish[i].value, wish[i].size) == CUBLAS_STATUS_SUCCESS;
  ok = ok && cublasLtMatmulAlgoGetHeuristic(cuda->blas, g->op, g->a, g->b, g->c, g->c, pref, PARE_GEMM_WAYS, found,
                                             &n) == CUBLAS_STATUS_SUCCESS && n >= 1 && found[0].state == CUBLAS_STATUS_SUCCESS;
  if (ok) pare_gemm_tune(args, g, n, found);
  cublasLtMatmulPreferenceDestroy(pref);
  return ok;
}

PareStatus pare_gemm_new(PareKernelArgs *args, const PareGemmSpec *s, PareGemm **out) {
  *out = NULL;
  if (s->batch > INT32_MAX) return pare_why(args, PARE_UNSUPPORTED, "there are more than 2^31 matrices");
  PareArena *arena = pare_arena_new(sizeof(PareGemm) + 64);
  PareGemm *g = arena ? PARE_NEW(arena, PareGemm) : NULL;
  if (!g) return pare_arena_free(arena), PARE_NOMEM;
  g->arena = arena;
  g->spec = *s;
  g->empty = s->m * s->n * s->k * s->batch == 0;
  *out = g;
  if (g->empty) return PARE_OK;
  bool ok = make_op(g, pare_cuda(args)) &&
            make_layout(&g->a, s->in, s->tb ? s->n : s->k, s->tb ? s->k : s->n, s->ldb, s->batch, s->bstep) &&
            make_layout(&g->b, s->in, s->ta ? s->k : s->m, s->ta ? s->m : s->k, s->lda, s->batch, s->astep) &&
            make_layout(&g->c, s->out, s->m, s->n, s->ldc, s->batch, s->cstep) && choose_algo(args, g);
  if (ok) return PARE_OK;
  *out = NULL;
  return pare_gemm_free(g), pare_why(args, PARE_UNSUPPORTED, no_product);
}

/* Sums of nothing: y is beta·c, with beta 0 or 1, plus the bias. */
static PareStatus run_empty(PareKernelArgs *args, const PareGemmSpec *s, const void *bias, const void *c, void *y) {
  if (s->m * s->n * s->batch == 0 || (s->beta == 1 && c == y)) return PARE_OK;
  if ((s->beta != 0 && (s->beta != 1 || bias)) || s->batch != 1 || s->ldc != s->n)
    return pare_why(args, PARE_UNSUPPORTED, "a product over an empty axis");
  PareTensor out = {y, {s->out, 2, {s->m, s->n}}}, row = {(void *)bias, {s->out, 1, {s->n}}};
  if (bias) return pare_cuda_expand(args, &out, &row);
  size_t bytes = (size_t)(s->m * s->n) * pare_dtype_size(s->out);
  cudaStream_t stream = pare_cuda(args)->stream;
  return pare_cuda_status(args, s->beta == 1 ? cudaMemcpyAsync(y, c, bytes, cudaMemcpyDeviceToDevice, stream)
                                             : cudaMemsetAsync(y, 0, bytes, stream));
}

PareStatus pare_gemm_run(PareKernelArgs *args, PareGemm *g, const void *a, const void *b, const void *bias,
                         const void *c, void *y) {
  const PareCuda *cuda = pare_cuda(args);
  const PareGemmSpec *s = &g->spec;
  float alpha = (float)s->alpha, beta = (float)s->beta;
  bool wide = s->in == PARE_F64;
  if (g->empty) return run_empty(args, s, bias, c, y);
  if (s->bias && !set(g->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias))
    return pare_why(args, PARE_DEVICE, no_product);
  cublasStatus_t status = cublasLtMatmul(cuda->blas, g->op, wide ? (const void *)&s->alpha : &alpha, b, g->a, a, g->b,
                                         wide ? (const void *)&s->beta : &beta, s->beta != 0 ? c : y, g->c, y, g->c, &g->algo,
                                         cuda->blas_space, cuda->blas_bytes, cuda->stream);
  return status == CUBLAS_STATUS_SUCCESS ? PARE_OK : pare_why(args, PARE_DEVICE, "cuBLASLt failed in a matrix product");
}
