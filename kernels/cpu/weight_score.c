/* weight_score.c - the score of every element of an adapted weight from its true gradient, its adapters' gradients or
 * its inputs' norms, and sums of the scores by row and column; SampleSum, a mask's gradient sample by sample. */
#include "kernels/cpu/cpu.h"

/* W' = W + s·A·B [K,N], and G of the same shape is, by what is given:
 *   pairs x [M,K], dy [M,N]:  alpha·sum over the pairs of x'·dy, the gradient itself
 *   dA, dB:                   A·dB + dA·B - alpha·dA·dB (METHOD 2, in our orientation)
 *   norm [K]:                 norm_k in row k
 *   nothing:                  1
 * The score is |G·W'|^power or, of power 0, -G·W'. The columns go in tiles [K, TILE]: nothing of W's size is held but
 * the scores themselves, where they are asked for. W, A, B and all scores have the type of the arithmetic. */
#ifndef T
enum { W, A, B, DA, DB, NORM, PAIRS, TILE = 128, CHUNK = 256 };

typedef struct WeightScore {
  int64_t k, n, r;
  bool transposed; /* W is stored [n, k] */
  int power;
} WeightScore;

static WeightScore weight_score_of(const PareKernelArgs *a) {
  bool t = a->attr->transB;
  const PareType *w = &a->in[W].type;
  return (WeightScore){.k = w->dim[t], .n = w->dim[!t], .r = a->in[A].type.dim[1], .transposed = t,
                       .power = (int)pare_attr_get(a->attr, power, 0)};
}

static PareDtype pair_type(const PareKernelArgs *a) { return a->in[a->nin > PAIRS ? PAIRS : W].type.dtype; }

/* G and W' of a tile; sums of its columns by part; rows of x and dy that must be widened. */
PareStatus PARE_CPU(plan_WEIGHTSCORE)(PareKernelArgs *a) {
  WeightScore s = weight_score_of(a);
  int64_t elements = 2 * s.k * TILE + PARE_PARTS * TILE;
  if (pair_type(a) == PARE_BF16) elements += CHUNK * (s.k + TILE);
  a->workspace_bytes = (size_t)elements * (a->in[W].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float));
  return PARE_OK;
}

#define PARE_TEMPLATE "kernels/cpu/weight_score.c"
#include "kernels/cpu/floats.h"

PareStatus PARE_CPU(WEIGHTSCORE)(PareKernelArgs *a) {
  PareDtype d = pair_type(a), w = a->in[W].type.dtype;
  if (w != (d == PARE_F64 ? PARE_F64 : PARE_F32)) return pare_bad_type(a);
  return pare_call(PARE_PICK_FLOAT(d, weight_score), a);
}

PARE_FLOAT_KERNEL(SAMPLESUM, sample_sum)

#else /* the template */
/* out[rows, w] = the first w of each row of x as numbers of the arithmetic. */
static void FN(widen_rows)(int64_t rows, int64_t w, const T *x, int64_t ldx, C *out) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < w; j++) out[i * w + j] = LOAD(x[i * ldx + j]);
}

/* g[K, n] (+)= alpha·x'·dy of the columns n0..n0+n-1. */
static PareStatus FN(add_pair)(const PareKernelArgs *a, const WeightScore *s, int pair, int64_t n0, int64_t n, C *wide,
                               C *g) {
  const PareTensor *x = &a->in[PAIRS + 2 * pair], *dy = x + 1;
  int64_t m = pare_span(&x->type, 0, x->type.rank - 1);
  double alpha = pare_attr_get(a->attr, alpha, 1.0);
  if (sizeof(T) == sizeof(C))
    return GEMM(true, false, s->k, n, m, alpha, x->data, s->k, (const C *)dy->data + n0, s->n, pair > 0, g, n);
  for (int64_t i = 0; i < m; i += CHUNK) {
    int64_t rows = pare_min_i64(CHUNK, m - i);
    C *wx = wide, *wdy = wide + CHUNK * s->k;
    FN(widen_rows)(rows, s->k, (const T *)x->data + i * s->k, s->k, wx);
    FN(widen_rows)(rows, n, (const T *)dy->data + i * s->n + n0, s->n, wdy);
    PareStatus status = GEMM(true, false, s->k, n, rows, alpha, wx, s->k, wdy, n, pair > 0 || i > 0, g, n);
    if (status != PARE_OK) return status;
  }
  return PARE_OK;
}

static PareStatus FN(adapter_gradient)(const PareKernelArgs *a, const WeightScore *s, int64_t n0, int64_t n, C *g) {
  const C *pa = a->in[A].data, *pb = (const C *)a->in[B].data + n0;
  const C *da = a->in[DA].data, *db = (const C *)a->in[DB].data + n0;
  double eta = pare_attr_get(a->attr, alpha, 1.0);
  PareStatus status = GEMM(false, false, s->k, n, s->r, 1, pa, s->r, db, s->n, 0, g, n);
  if (status == PARE_OK) status = GEMM(false, false, s->k, n, s->r, 1, da, s->r, pb, s->n, 1, g, n);
  if (status == PARE_OK) status = GEMM(false, false, s->k, n, s->r, -eta, da, s->r, db, s->n, 1, g, n);
  return status;
}

static PareStatus FN(gradient_tile)(const PareKernelArgs *a, const WeightScore *s, int64_t n0, int64_t n, C *wide,
                                    C *g) {
  PareStatus status = PARE_OK;
  if (a->nin > PAIRS) {
    for (int p = 0; PAIRS + 2 * p + 1 < a->nin && status == PARE_OK; p++)
      status = FN(add_pair)(a, s, p, n0, n, wide, g);
    return status;
  }
  if (pare_given(a, DA)) return FN(adapter_gradient)(a, s, n0, n, g);
  const C *norm = pare_given(a, NORM) ? a->in[NORM].data : NULL;
  for (int64_t k = 0; k < s->k; k++)
    for (int64_t j = 0; j < n; j++) g[k * n + j] = norm ? norm[k] : 1;
  return PARE_OK;
}

/* w[K, n] = W' of the columns n0..n0+n-1; W may lie at any address. */
static PareStatus FN(weight_tile)(const PareKernelArgs *a, const WeightScore *s, int64_t n0, int64_t n, C *w) {
  const C *from = a->in[W].data;
  if (s->transposed)
    for (int64_t j = 0; j < n; j++)
      for (int64_t k = 0; k < s->k; k++) memcpy(&w[k * n + j], from + (n0 + j) * s->k + k, sizeof *w);
  else
    for (int64_t k = 0; k < s->k; k++) memcpy(w + k * n, from + k * s->n + n0, (size_t)n * sizeof *w);
  double scale = pare_attr_get(a->attr, scale, 1.0);
  return GEMM(false, false, s->k, n, s->r, scale, a->in[A].data, s->r, (const C *)a->in[B].data + n0, s->n, 1, w, n);
}

/* Scores of rows lo..hi-1 of a tile, in place of g: adds to the rows' sums, sets this part's sums of the columns. */
static void FN(score_rows)(int power, int64_t lo, int64_t hi, int64_t n, C *g, const C *w, C *row, C *col) {
  for (int64_t j = 0; j < n; j++) col[j] = 0;
  for (int64_t k = lo; k < hi; k++) {
    C sum = 0, *e = g + k * n;
    const C *v = w + k * n;
    for (int64_t j = 0; j < n; j++) {
      C x = -e[j] * v[j];
      e[j] = power == 0 ? x : power == 1 ? (x < 0 ? -x : x) : x * x;
      sum += e[j];
      col[j] += e[j];
    }
    if (row) row[k] += sum;
  }
}

/* elements [K, N], or [N, K] as W is stored. */
static void FN(put_elements)(const WeightScore *s, int64_t n0, int64_t n, const C *g, C *out) {
  for (int64_t k = 0; k < s->k; k++)
    for (int64_t j = 0; j < n; j++) out[s->transposed ? (n0 + j) * s->k + k : k * s->n + n0 + j] = g[k * n + j];
}

static PareStatus FN(weight_score)(PareKernelArgs *a) {
  WeightScore s = weight_score_of(a);
  C *g = a->workspace, *w = g + s.k * TILE, *part = w + s.k * TILE, *wide = part + PARE_PARTS * TILE;
  C *row = pare_wanted(a, 0) ? a->out[0].data : NULL, *col = pare_wanted(a, 1) ? a->out[1].data : NULL;
  for (int64_t k = 0; row && k < s.k; k++) row[k] = 0;
  for (int64_t n0 = 0; n0 < s.n; n0 += TILE) {
    int64_t n = pare_min_i64(TILE, s.n - n0);
    PareStatus status = FN(gradient_tile)(a, &s, n0, n, wide, g);
    if (status == PARE_OK) status = FN(weight_tile)(a, &s, n0, n, w);
    if (status != PARE_OK) return status;
#pragma omp parallel for schedule(static) if (pare_threaded(s.k * n))
    for (int64_t p = 0; p < PARE_PARTS; p++) {
      int64_t lo, hi;
      pare_part(s.k, PARE_PARTS, p, &lo, &hi);
      FN(score_rows)(s.power, lo, hi, n, g, w, row, part + p * TILE);
    }
    for (int64_t j = 0; col && j < n; j++) {
      col[n0 + j] = 0;
      for (int64_t p = 0; p < PARE_PARTS; p++) col[n0 + j] += part[p * TILE + j];
    }
    if (pare_wanted(a, 2)) FN(put_elements)(&s, n0, n, g, a->out[2].data);
  }
  return PARE_OK;
}

/* out[i, g] = sum of v·dv over the elements of sample i whose place along `axis` belongs to group g; -1 belongs to none.
 * Of the rows before the axis, `block_size` one after another are of one sample, then come the next sample's. Inputs:
 * v, dv of one shape, gid [dim of axis], like [groups]. */
static PareStatus FN(sample_sum)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(a->attr->axis, t->rank);
  int64_t rows = pare_span(t, 0, axis), k = t->dim[axis], rest = pare_span(t, axis + 1, t->rank);
  int64_t samples = a->out[0].type.dim[0], groups = a->out[0].type.dim[1];
  int64_t run = pare_attr_get(a->attr, block_size, 1);
  const T *v = a->in[0].data, *dv = a->in[1].data;
  T *out = a->out[0].data;
  for (int64_t j = 0; j < k; j++) {
    int64_t g = pare_get_int(&a->in[2], j);
    if (g < -1 || g >= groups) return pare_bad(a, "a group number is out of range");
  }
#pragma omp parallel for schedule(static) if (pare_threaded(rows * k * rest))
  for (int64_t i = 0; i < samples; i++) {
    T *sum = out + i * groups;
    for (int64_t g = 0; g < groups; g++) sum[g] = STORE(0);
    for (int64_t row = 0; row < rows; row++) {
      if (row / run % samples != i) continue;
      for (int64_t j = 0; j < k; j++) {
        int64_t g = pare_get_int(&a->in[2], j), at = (row * k + j) * rest;
        C part = 0;
        for (int64_t q = 0; g >= 0 && q < rest; q++) part += LOAD(v[at + q]) * LOAD(dv[at + q]);
        if (g >= 0) sum[g] = STORE(LOAD(sum[g]) + part);
      }
    }
  }
  return PARE_OK;
}
#endif
