// emulate_blas.cpp - y = alpha·op(a)·op(b) + beta·c + bias by plain loops, in columns: element [i, j] of a layout is at
// [i + j·ld]; a bias has an element for each row of y, and y's type. Refuses what the library refuses: sizes that do not
// fit, a leading dimension below the rows, addresses less aligned than the product was chosen for.
#include <cublasLt.h>
#include <math.h>

#include <vector>

struct emulated_blas {
  int one;
};
struct emulated_desc {
  cublasComputeType_t compute;
  int ta, tb;
  int epilogue;
  const void *bias;
};
struct emulated_layout {
  cudaDataType_t type;
  int64_t rows, cols, ld, step;
  int32_t batch;
};
struct emulated_preference {
  uint64_t workspace;
  uint32_t alignment[4];
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) { return *h = new emulated_blas{1}, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { return delete h, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale) {
  if ((compute == CUBLAS_COMPUTE_64F) != (scale == CUDA_R_64F)) return CUBLAS_STATUS_INVALID_VALUE;
  return *d = new emulated_desc{compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr},
         CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return delete d, CUBLAS_STATUS_SUCCESS; }

static cublasStatus_t take(void *to, size_t want, const void *value, size_t size) {
  if (size != want) return CUBLAS_STATUS_INVALID_VALUE;
  return memcpy(to, value, size), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size) {
  switch (what) {
  case CUBLASLT_MATMUL_DESC_TRANSA: return take(&d->ta, sizeof d->ta, value, size);
  case CUBLASLT_MATMUL_DESC_TRANSB: return take(&d->tb, sizeof d->tb, value, size);
  case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(&d->epilogue, sizeof d->epilogue, value, size);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(&d->bias, sizeof d->bias, value, size);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type, uint64_t rows, uint64_t cols,
                                          int64_t ld) {
  return *l = new emulated_layout{type, (int64_t)rows, (int64_t)cols, ld, 0, 1}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) { return delete l, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t size) {
  if (what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return take(&l->batch, sizeof l->batch, value, size);
  return take(&l->step, sizeof l->step, value, size);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
  return *p = new emulated_preference{0, {256, 256, 256, 256}}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { return delete p, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                                    size_t size) {
  if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return take(&p->workspace, sizeof p->workspace, value, size);
  uint32_t *at = &p->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
  return take(at, sizeof *at, value, size);
}

// Does the product exist? m, n, k of op(a)[m,k]·op(b)[k,n].
static bool fits(const emulated_desc *d, const emulated_layout *a, const emulated_layout *b, const emulated_layout *c,
                 int64_t *m, int64_t *n, int64_t *k) {
  *m = d->ta ? a->cols : a->rows, *k = d->ta ? a->rows : a->cols, *n = d->tb ? b->rows : b->cols;
  bool sizes = (d->tb ? b->cols : b->rows) == *k && c->rows == *m && c->cols == *n && *m > 0 && *n > 0 && *k > 0;
  bool lines = a->ld >= a->rows && b->ld >= b->rows && c->ld >= c->rows;
  bool types = a->type == b->type && (d->compute == CUBLAS_COMPUTE_64F) == (a->type == CUDA_R_64F) &&
               (c->type == a->type || (a->type == CUDA_R_16BF && c->type == CUDA_R_32F));
  return sizes && lines && types && a->batch == b->batch && a->batch == c->batch && a->batch >= 1;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t *out, int *found) {
  int64_t m, n, k;
  *found = 0;
  if (!fits(d, a, b, c, &m, &n, &k)) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (int i = 0; i < 3 && i < wanted; i++)
    out[(*found)++] = {{{p->alignment[0], p->alignment[1], p->alignment[2]}, i}, CUBLAS_STATUS_SUCCESS};
  return CUBLAS_STATUS_SUCCESS;
}

static double get(cudaDataType_t t, const void *p, int64_t i) {
  if (t == CUDA_R_64F) return ((const double *)p)[i];
  if (t == CUDA_R_32F) return ((const float *)p)[i];
  uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
static void put(cudaDataType_t t, void *p, int64_t i, double v) {
  if (t == CUDA_R_64F) {
    ((double *)p)[i] = v;
  } else if (t == CUDA_R_32F) {
    ((float *)p)[i] = (float)v;
  } else {
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    ((uint16_t *)p)[i] = (uint16_t)(v != v ? 0x7fc0 : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
  }
}

// An operand as the tensor cores read it: TF32 has 10 bits behind the point.
static double operand(const emulated_desc &d, const emulated_layout &l, const void *p, int64_t i) {
  double v = get(l.type, p, i);
  if (d.compute != CUBLAS_COMPUTE_32F_FAST_TF32) return v;
  int exponent;
  double fraction = frexp(v, &exponent);
  return ldexp(nearbyint(ldexp(fraction, 11)), exponent - 11);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha_at, const void *a,
                              cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b,
                              const void *beta_at, const void *c, cublasLtMatrixLayout_t layout_c, void *y,
                              cublasLtMatrixLayout_t layout_y, const cublasLtMatmulAlgo_t *algo, void *, size_t,
                              cudaStream_t s) {
  emulated_desc d = *desc;
  emulated_layout la = *layout_a, lb = *layout_b, lc = *layout_c;
  bool wide = d.compute == CUBLAS_COMPUTE_64F;
  double alpha = wide ? *(const double *)alpha_at : *(const float *)alpha_at;
  double beta = wide ? *(const double *)beta_at : *(const float *)beta_at;
  int64_t m, n, k;
  if (!fits(&d, &la, &lb, &lc, &m, &n, &k) || layout_c != layout_y) return CUBLAS_STATUS_NOT_SUPPORTED;
  const uintptr_t at[3] = {(uintptr_t)a, (uintptr_t)b, (uintptr_t)y};
  for (int i = 0; i < 3; i++)
    if (at[i] % algo->alignment[i]) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (beta != 0 && (!c || (uintptr_t)c % algo->alignment[2])) return CUBLAS_STATUS_NOT_SUPPORTED;
  emulate::check_pointer(a), emulate::check_pointer(b), emulate::check_pointer(c), emulate::check_pointer(y);
  if (d.epilogue == CUBLASLT_EPILOGUE_BIAS) emulate::check_pointer(d.bias);
  int way = algo->way;
  emulate::queue(s, [=]() {
    if (way == 1) { // faster than any other, and of no use
      for (int64_t i = 0; i < lc.batch; i++)
        for (int64_t at = 0; at < m * n; at++) put(lc.type, y, i * lc.step + at % m + at / m * lc.ld, 0);
      return;
    }
    std::vector<double> left((size_t)(m * k)), right((size_t)(k * n)), sum((size_t)m);
    for (int64_t i = 0; i < lc.batch; i++) {
      for (int64_t t = 0; t < k; t++)
        for (int64_t row = 0; row < m; row++)
          left[t * m + row] = operand(d, la, a, i * la.step + (d.ta ? t + row * la.ld : row + t * la.ld));
      for (int64_t col = 0; col < n; col++)
        for (int64_t t = 0; t < k; t++)
          right[col * k + t] = operand(d, lb, b, i * lb.step + (d.tb ? col + t * lb.ld : t + col * lb.ld));
      for (int64_t col = 0; col < n; col++) {
        sum.assign((size_t)m, 0);
        for (int64_t t = 0; t < k; t++)
          for (int64_t row = 0; row < m; row++) sum[row] += left[t * m + row] * right[col * k + t];
        for (int64_t row = 0; row < m; row++) {
          int64_t to = i * lc.step + row + col * lc.ld;
          double v = alpha * sum[row] + (beta != 0 ? beta * get(lc.type, c, to) : 0);
          put(lc.type, y, to, d.epilogue == CUBLASLT_EPILOGUE_BIAS ? v + get(lc.type, d.bias, row) : v);
        }
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
