/* matmul.cu - MatMul, FusedMatMul and Gemm. Floats are products made in plan (gemm.cu); integers, which shape
 * arithmetic has, are plain loops. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "base/arena.h"
}

/* y[batch][m,n] = alpha·op(a)·op(b) + beta·y. Batch axes broadcast: step 0. */
struct Product {
  int64_t m, n, k, batch;
  bool ta, tb;
  double alpha, beta;
  int rank; /* batch axes */
  int64_t dim[PARE_MAX_RANK], astep[PARE_MAX_RANK], bstep[PARE_MAX_RANK]; /* in matrices */
};

static void batch_axes(const PareType *t, int rank, int64_t *step) {
  int64_t n = 1;
  for (int i = rank - 1; i >= 0; i--) {
    int k = i - (rank - (t->rank - 2));
    int64_t d = k < 0 ? 1 : t->dim[k];
    step[i] = d == 1 ? 0 : n;
    n *= d;
  }
}

/* Axes along which both operands step as along one axis become one. */
static void merge_axes(Product *p) {
  int to = 0;
  for (int i = 0; i < p->rank; i++) {
    if (p->dim[i] == 1) continue;
    bool merge = to && p->astep[to - 1] == p->astep[i] * p->dim[i] && p->bstep[to - 1] == p->bstep[i] * p->dim[i];
    int64_t before = merge ? p->dim[--to] : 1;
    p->dim[to] = before * p->dim[i];
    p->astep[to] = p->astep[i];
    p->bstep[to++] = p->bstep[i];
  }
  p->rank = to;
}

/* numpy's matmul: vectors are a row on the left and a column on the right. */
static Product matmul_of(const PareKernelArgs *args) {
  PareType a = args->in[0].type, b = args->in[1].type;
  Product p = {};
  p.ta = args->attr->transA, p.tb = args->attr->transB, p.alpha = pare_attr_get(args->attr, alpha, 1.0);
  if (a.rank == 1) a.rank = 2, a.dim[1] = a.dim[0], a.dim[0] = 1, p.ta = false;
  if (b.rank == 1) b.rank = 2, b.dim[1] = 1, p.tb = false;
  const int64_t *ad = a.dim + a.rank - 2, *bd = b.dim + b.rank - 2;
  p.m = ad[p.ta], p.k = ad[!p.ta], p.n = bd[!p.tb], p.batch = 1;
  p.rank = (a.rank > b.rank ? a.rank : b.rank) - 2;
  batch_axes(&a, p.rank, p.astep);
  batch_axes(&b, p.rank, p.bstep);
  for (int i = 0; i < p.rank; i++) {
    int ka = i - (p.rank - (a.rank - 2)), kb = i - (p.rank - (b.rank - 2));
    int64_t da = ka < 0 ? 1 : a.dim[ka], db = kb < 0 ? 1 : b.dim[kb];
    p.dim[i] = da == 1 ? db : da;
    p.batch *= p.dim[i];
  }
  bool shared = !p.ta && pare_span(&b, 0, b.rank - 2) == 1 && pare_span(&a, 0, a.rank - 2) == p.batch;
  if (shared) p.m *= p.batch, p.batch = 1, p.rank = 0; /* one right operand: the batch is more rows */
  merge_axes(&p);
  return p;
}

static Product gemm_of(const PareKernelArgs *args) {
  const int64_t *a = args->in[0].type.dim, *b = args->in[1].type.dim;
  Product p = {};
  p.ta = args->attr->transA, p.tb = args->attr->transB, p.batch = 1;
  p.m = a[p.ta], p.k = a[!p.ta], p.n = b[!p.tb];
  p.alpha = pare_attr_get(args->attr, alpha, 1.0);
  p.beta = pare_given(args, 2) ? pare_attr_get(args->attr, beta, 1.0) : 0;
  return p;
}

void pare_cuda_release_MATMUL(void *state) { pare_gemm_free((PareGemm *)state); }

/* The innermost batch axis goes to the library, those outside of it are calls of their own. */
static PareStatus plan(PareKernelArgs *args, const Product *p) {
  PareDtype d = args->in[0].type.dtype;
  if (d != PARE_F32 && d != PARE_F64 && d != PARE_BF16)
    return pare_is_index(&args->in[0]) ? PARE_OK : pare_bad_type(args);
  PareGemmSpec s = {};
  s.m = p->m, s.n = p->n, s.k = p->k, s.in = d, s.out = args->out[0].type.dtype, s.ta = p->ta, s.tb = p->tb;
  s.lda = p->ta ? p->m : p->k, s.ldb = p->tb ? p->k : p->n, s.ldc = p->n;
  s.batch = p->rank ? p->dim[p->rank - 1] : 1;
  s.astep = p->rank ? p->astep[p->rank - 1] * p->m * p->k : 0;
  s.bstep = p->rank ? p->bstep[p->rank - 1] * p->k * p->n : 0;
  s.cstep = p->m * p->n;
  if (p->rank > 1) s.abegin = p->m * p->k, s.bbegin = p->k * p->n, s.cbegin = p->m * p->n;
  s.alpha = p->alpha, s.beta = p->beta;
  PareGemm *made;
  PARE_TRY(pare_gemm_new(args, &s, &made));
  args->state = made;
  return PARE_OK;
}

/* Element [i, j] of op(a)·op(b), modulo 2^width. */
template <class T>
static __global__ void whole_product(int64_t m, int64_t n, int64_t k, int ta, int tb, T alpha, T beta, const T *a,
                                     const T *b, T *y) {
  typedef typename PareNum<T>::U U;
  PARE_EACH(i, m * n) {
    int64_t r = i / n, c = i % n;
    U dot = 0;
    for (int64_t t = 0; t < k; t++) dot += (U)a[ta ? t * m + r : r * k + t] * (U)b[tb ? c * k + t : t * n + c];
    y[i] = (T)((U)alpha * dot + (beta ? (U)beta * (U)y[i] : 0));
  }
}
static PareStatus whole_run(PareKernelArgs *args, const Product *p, const char *a, const char *b, char *y) {
  if (p->m * p->n == 0) return PARE_OK;
  int64_t blocks = pare_blocks(args, p->m * p->n, PARE_THREADS);
  cudaStream_t stream = pare_cuda(args)->stream;
  if (args->in[0].type.dtype == PARE_I64)
    PARE_LAUNCH(whole_product<int64_t>, blocks, PARE_THREADS, 0, stream, p->m, p->n, p->k, (int)p->ta, (int)p->tb,
                (int64_t)p->alpha, (int64_t)p->beta, (const int64_t *)a, (const int64_t *)b, (int64_t *)y);
  else
    PARE_LAUNCH(whole_product<int32_t>, blocks, PARE_THREADS, 0, stream, p->m, p->n, p->k, (int)p->ta, (int)p->tb,
                (int32_t)p->alpha, (int32_t)p->beta, (const int32_t *)a, (const int32_t *)b, (int32_t *)y);
  return pare_launched(args);
}

static PareStatus run(PareKernelArgs *args, const Product *p) {
  const char *a = (const char *)args->in[0].data, *b = (const char *)args->in[1].data;
  char *y = (char *)args->out[0].data;
  int64_t size = (int64_t)pare_esize(&args->in[0]), wide = (int64_t)pare_esize(&args->out[0]);
  int inner = args->state && p->rank ? p->rank - 1 : p->rank; /* axes that are calls of their own */
  int64_t each = args->state && p->rank ? p->dim[inner] : 1, calls = each ? p->batch / each : 0;
  for (int64_t i = 0; i < calls; i++) {
    int64_t ia = 0, ib = 0, rest = i;
    for (int k = inner - 1; k >= 0; k--) {
      ia += rest % p->dim[k] * p->astep[k];
      ib += rest % p->dim[k] * p->bstep[k];
      rest /= p->dim[k];
    }
    const char *at = a + ia * p->m * p->k * size, *bt = b + ib * p->k * p->n * size;
    char *yt = y + i * each * p->m * p->n * wide;
    if (args->state) PARE_TRY(pare_gemm_run(args, (PareGemm *)args->state, at, bt, NULL, yt, yt));
    else PARE_TRY(whole_run(args, p, at, bt, yt));
  }
  return PARE_OK;
}

PareStatus pare_cuda_plan_MATMUL(PareKernelArgs *args) {
  Product p = matmul_of(args);
  return plan(args, &p);
}
PareStatus pare_cuda_MATMUL(PareKernelArgs *args) {
  Product p = matmul_of(args);
  return run(args, &p);
}
PareStatus pare_cuda_FUSEDMATMUL(PareKernelArgs *args) { return pare_cuda_MATMUL(args); }

PareStatus pare_cuda_plan_GEMM(PareKernelArgs *args) {
  Product p = gemm_of(args);
  return plan(args, &p);
}
/* The bias is spread over y first and the product added to it. */
PareStatus pare_cuda_GEMM(PareKernelArgs *args) {
  Product p = gemm_of(args);
  if (pare_given(args, 2)) PARE_TRY(pare_cuda_expand(args, &args->out[0], &args->in[2]));
  return run(args, &p);
}
