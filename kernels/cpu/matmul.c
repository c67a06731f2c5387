/* matmul.c - MatMul, FusedMatMul and Gemm. f32 and bf16 are products made in plan
 * (product.h); f64 and integers go through gemm.c, a matrix at a time, and so do f32
 * shapes that have no primitive; bf16, on a CPU without it, as f32 copies in the workspace. */
#include "kernels/cpu/product.h"

/* y[batch][m,n] = alpha·op(a)·op(b) + beta·y. Batch axes broadcast: step 0. */
typedef struct Product {
  int64_t m, n, k, batch;
  bool ta, tb;
  double alpha, beta;
  int rank; /* batch axes */
  int64_t dim[PARE_MAX_RANK], astep[PARE_MAX_RANK], bstep[PARE_MAX_RANK]; /* in matrices */
} Product;

/* Matrices of t's batch up to but not including axis i from the right, and the step along that axis. */
static void batch_axes(const PareType *t, int rank, int64_t *step) {
  int64_t n = 1;
  for (int i = rank - 1; i >= 0; i--) {
    int k = i - (rank - (t->rank - 2));
    int64_t d = k < 0 ? 1 : t->dim[k];
    step[i] = d == 1 ? 0 : n;
    n *= d;
  }
}

/* numpy's matmul: vectors are a row on the left and a column on the right. */
static Product matmul_of(const PareKernelArgs *args) {
  PareType a = args->in[0].type, b = args->in[1].type;
  Product p = {.ta = args->attr->transA, .tb = args->attr->transB, .alpha = pare_attr_get(args->attr, alpha, 1.0)};
  if (a.rank == 1) a = (PareType){a.dtype, 2, {1, a.dim[0]}}, p.ta = false;
  if (b.rank == 1) b = (PareType){b.dtype, 2, {b.dim[0], 1}}, p.tb = false;
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
  return p;
}

static Product gemm_of(const PareKernelArgs *args) {
  const int64_t *a = args->in[0].type.dim, *b = args->in[1].type.dim;
  bool ta = args->attr->transA, tb = args->attr->transB;
  double beta = args->nin > 2 ? pare_attr_get(args->attr, beta, 1.0) : 0; /* plan has no data to ask */
  return (Product){.m = a[ta], .k = a[!ta], .n = b[!tb], .batch = 1, .ta = ta, .tb = tb,
                   .alpha = pare_attr_get(args->attr, alpha, 1.0), .beta = beta};
}

static void matrix_of(const Product *p, int64_t i, int64_t *a, int64_t *b) {
  *a = *b = 0;
  for (int k = p->rank - 1; k >= 0; k--) {
    *a += i % p->dim[k] * p->astep[k];
    *b += i % p->dim[k] * p->bstep[k];
    i /= p->dim[k];
  }
}

/* Matrix i of the batch. */
static PareStatus product_at(const Product *p, int64_t i, PareDtype d, const void *a, const void *b, void *y) {
  int64_t ia, ib, lda = p->ta ? p->m : p->k, ldb = p->tb ? p->k : p->n;
  matrix_of(p, i, &ia, &ib);
  ia *= p->m * p->k, ib *= p->k * p->n, i *= p->m * p->n;
#define CALL(E, f)                                                                                            \
  PARE_CPU(f)(p->ta, p->tb, p->m, p->n, p->k, p->alpha, (const E *)a + ia, lda, (const E *)b + ib, ldb, p->beta, \
              (E *)y + i, p->n)
  switch (d) {
  case PARE_F32: return CALL(float, gemm_f32);
  case PARE_F64: return CALL(double, gemm_f64);
  case PARE_I64: return CALL(int64_t, gemm_i64);
  default: return CALL(int32_t, gemm_i32);
  }
#undef CALL
}

/* Many small matrices go one to a thread; few or large ones are threaded inside. */
static PareStatus product(const Product *p, PareDtype d, const void *a, const void *b, void *y) {
  int64_t threads = omp_get_max_threads(), work = p->m * p->n * p->k;
  bool outside = p->batch >= 4 * threads || (p->batch >= threads && work < 1 << 22);
  int failed = PARE_OK;
#pragma omp parallel for schedule(static) reduction(max : failed) if (outside && pare_threaded(p->batch * work))
  for (int64_t i = 0; i < p->batch; i++) {
    int s = (int)product_at(p, i, d, a, b, y);
    if (s > failed) failed = s;
  }
  return (PareStatus)failed;
}

/* --- f32 and bf16 --- */

void PARE_CPU(release_MATMUL)(void *state) { PARE_CPU(product_free)(state); }

/* Matrices [rows, cols], stored the other way round when `transposed`, with batch axes in front. */
static PareView view(const Product *p, PareDtype d, const int64_t *step, int64_t rows, int64_t cols, bool transposed) {
  PareView v = {.dtype = d, .rank = p->rank + 2};
  for (int i = 0; i < p->rank; i++) {
    v.dim[i] = step[i] ? p->dim[i] : 1;
    v.stride[i] = (step[i] ? step[i] : 1) * rows * cols;
  }
  v.dim[p->rank] = rows, v.dim[p->rank + 1] = cols;
  v.stride[p->rank] = transposed ? 1 : cols, v.stride[p->rank + 1] = transposed ? rows : 1;
  return v;
}

/* The primitive, unless there is none for this shape and type: then *out is NULL. */
static PareStatus primitive(const PareKernelArgs *args, const Product *p, PareProduct **out) {
  int64_t ystep[PARE_MAX_RANK], n = 1;
  PareDtype d = args->in[0].type.dtype;
  *out = NULL;
  if (p->batch * p->m * p->n * p->k == 0 || p->rank + 2 > PARE_MAX_RANK) return PARE_OK;
  for (int i = p->rank - 1; i >= 0; i--) ystep[i] = n, n *= p->dim[i];
  PareProductSpec s = {.a = view(p, d, p->astep, p->m, p->k, p->ta),
                       .b = view(p, d, p->bstep, p->k, p->n, p->tb),
                       .c = view(p, args->out[0].type.dtype, ystep, p->m, p->n, false),
                       .alpha = p->alpha, .beta = p->beta};
  PareStatus status = PARE_CPU(product_new)(&s, out);
  return status == PARE_UNSUPPORTED ? PARE_OK : status;
}

static size_t round_up(int64_t floats) { return ((size_t)floats * sizeof(float) + 63) & ~(size_t)63; }

static PareStatus bf16_widened(PareKernelArgs *args, const Product *p) {
  int64_t na = pare_count(&args->in[0]), nb = pare_count(&args->in[1]), ny = pare_count(&args->out[0]);
  PareDtype out = args->out[0].type.dtype;
  float *a = args->workspace, *b = (float *)((char *)args->workspace + round_up(na));
  float *y = (float *)((char *)b + round_up(nb));
  PARE_CPU(cast_run)(na, PARE_BF16, args->in[0].data, PARE_F32, a);
  PARE_CPU(cast_run)(nb, PARE_BF16, args->in[1].data, PARE_F32, b);
  if (p->beta != 0) PARE_CPU(cast_run)(ny, out, args->out[0].data, PARE_F32, y);
  PareStatus s = product(p, PARE_F32, a, b, y);
  PARE_CPU(cast_run)(ny, PARE_F32, y, out, args->out[0].data);
  return s;
}

/* --- the kernels --- */
/* The right operand may be a weight that lies at any address. oneDNN and copies take it there, plain code a copy. */
static PareStatus plain(PareKernelArgs *args, const Product *p) {
  const PareTensor *b = &args->in[1];
  const void *at = b->data;
  if ((uintptr_t)at % pare_esize(b))
    at = memcpy(args->workspace, at, (size_t)pare_count(b) * pare_esize(b));
  return product(p, args->in[0].type.dtype, args->in[0].data, at, args->out[0].data);
}

static PareStatus plan(PareKernelArgs *args, const Product *p) {
  PareDtype d = args->in[0].type.dtype;
  args->workspace_bytes = (size_t)pare_count(&args->in[1]) * pare_esize(&args->in[1]);
  if (d != PARE_F32 && d != PARE_BF16) return PARE_OK;
  PareProduct *made;
  PareStatus s = primitive(args, p, &made);
  if (s != PARE_OK) return s;
  args->state = made;
  if (made) args->workspace_bytes = PARE_CPU(product_scratch)(made);
  else if (d == PARE_BF16)
    args->workspace_bytes = round_up(pare_count(&args->in[0])) + round_up(pare_count(&args->in[1])) +
                            round_up(pare_count(&args->out[0]));
  return PARE_OK;
}
static PareStatus run(PareKernelArgs *args, const Product *p) {
  PareDtype d = args->in[0].type.dtype;
  const void *a = args->in[0].data, *b = args->in[1].data;
  if (args->state) return PARE_CPU(product_run)(args->state, a, b, NULL, args->out[0].data, args->workspace);
  if (d == PARE_BF16) return bf16_widened(args, p);
  if (d != PARE_F32 && d != PARE_F64 && !pare_is_index(&args->in[0])) return pare_bad_type(args);
  return plain(args, p);
}

PareStatus PARE_CPU(plan_MATMUL)(PareKernelArgs *args) {
  Product p = matmul_of(args);
  return plan(args, &p);
}
PareStatus PARE_CPU(MATMUL)(PareKernelArgs *args) {
  Product p = matmul_of(args);
  return run(args, &p);
}
PareStatus PARE_CPU(FUSEDMATMUL)(PareKernelArgs *args) { return PARE_CPU(MATMUL)(args); }

PareStatus PARE_CPU(plan_GEMM)(PareKernelArgs *args) {
  Product p = gemm_of(args);
  return plan(args, &p);
}
/* The bias is spread over y first and the product added to it. */
PareStatus PARE_CPU(GEMM)(PareKernelArgs *args) {
  Product p = gemm_of(args);
  const PareTensor *y = &args->out[0];
  if (pare_given(args, 2)) PARE_CPU(expand)(y, &args->in[2]);
  else if (p.beta != 0) memset(y->data, 0, (size_t)pare_count(y) * pare_esize(y));
  return run(args, &p);
}
