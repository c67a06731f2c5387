/* gemm.c - one matrix product. f32 is oneDNN's; f64 (gradient checks) and the
 * integers (shape arithmetic) are plain loops over rows of c. */
#include <oneapi/dnnl/dnnl.h>

#include "kernels/cpu/cpu.h"

#ifndef T
PareStatus PARE_CPU(gemm_f32)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const float *a,
                              int64_t lda, const float *b, int64_t ldb, double beta, float *c, int64_t ldc) {
  if (m == 0 || n == 0) return PARE_OK;
  if (k == 0) { /* oneDNN leaves c as it was */
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) c[i * ldc + j] = beta != 0 ? (float)beta * c[i * ldc + j] : 0;
    return PARE_OK;
  }
  char at = ta ? 'T' : 'N', bt = tb ? 'T' : 'N';
  dnnl_status_t s = dnnl_sgemm(at, bt, m, n, k, (float)alpha, a, lda, b, ldb, (float)beta, c, ldc);
  return s == dnnl_success ? PARE_OK : s == dnnl_out_of_memory ? PARE_NOMEM : PARE_DEVICE;
}

#define T double
#define FN(name) name##_f64
#include "kernels/cpu/gemm.c"
#undef T
#undef FN
#define T int64_t
#define FN(name) name##_i64
#include "kernels/cpu/gemm.c"
#undef T
#undef FN
#define T int32_t
#define FN(name) name##_i32
#include "kernels/cpu/gemm.c"
#undef T
#undef FN

#else /* the template */
PareStatus PARE_CPU(FN(gemm))(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const T *a, int64_t lda,
                              const T *b, int64_t ldb, double beta, T *c, int64_t ldc) {
  int64_t ai = ta ? 1 : lda, ak = ta ? lda : 1;
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && pare_threaded(m * n * k))
  for (int64_t i = 0; i < m; i++) {
    T *row = c + i * ldc;
    for (int64_t j = 0; j < n; j++) row[j] = beta != 0 ? (T)((T)beta * row[j]) : 0;
    if (tb) {
      for (int64_t j = 0; j < n; j++) {
        T dot = 0;
        for (int64_t t = 0; t < k; t++) dot += a[i * ai + t * ak] * b[j * ldb + t];
        row[j] += (T)alpha * dot;
      }
      continue;
    }
    for (int64_t t = 0; t < k; t++) {
      T v = (T)alpha * a[i * ai + t * ak];
#pragma omp simd
      for (int64_t j = 0; j < n; j++) row[j] += v * b[t * ldb + j];
    }
  }
  return PARE_OK;
}
#endif
