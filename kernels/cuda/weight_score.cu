/* weight_score.cu - the score of every element of an adapted weight from its true gradient, its adapters' gradients or its
 * inputs' norms, and sums of the scores by row and column.
 *
 * W' = W + s·A·B [K, N], and G of the same shape is, by what is given:
 *   pairs x [M, K], dy [M, N]:  alpha·sum over the pairs of x'·dy, the gradient itself
 *   dA, dB:                     A·dB + dA·B - alpha·dA·dB (METHOD 2, in our orientation)
 *   norm [K]:                   norm_k in row k
 *   nothing:                    1
 * The score is |G·W'|^power or, of power 0, -G·W'. It is made where it is asked for, or in the workspace, as W is stored:
 * lines of `width` positions; sums are taken from there. */
#include "kernels/cuda/factor.cuh"
#include "kernels/cuda/gemm.cuh"

enum { W, A, B, DA, DB, NORM, PAIRS, ROW = 0, COL, ELEMENTS, STRIP = 64 };

struct Score {
  int64_t lines, width, r, strips; /* strips of STRIP lines */
  int power, transposed;           /* transposed: W is stored [N, K] */
  int pairs, adapters;             /* what G is made of; else norm, or 1 */
  double scale, alpha;
  PareFactor line, dline, across, dacross;
  const void *norm;
};

/* The products that make up G. */
struct Products {
  PareArena *arena; /* holds this struct */
  int n;
  PareGemm **of;
};

static Score score_of(const PareKernelArgs *a) {
  const PareType *w = &a->in[W].type;
  bool t = a->attr->transB;
  Score s = {};
  s.lines = w->dim[0], s.width = w->dim[1], s.r = a->in[A].type.dim[1];
  s.strips = pare_ceil_div(s.lines, STRIP);
  s.power = (int)pare_attr_get(a->attr, power, 0), s.transposed = t;
  s.pairs = a->nin > PAIRS, s.adapters = !s.pairs && pare_given(a, DA);
  s.scale = pare_attr_get(a->attr, scale, 1.0), s.alpha = pare_attr_get(a->attr, alpha, 1.0);
  s.norm = !s.pairs && !s.adapters && pare_given(a, NORM) ? a->in[NORM].data : NULL;
  int64_t n = w->dim[!t];
  PareFactor fa = pare_factor(&a->in[A], s.r, 1), fb = pare_factor(&a->in[B], 1, n);
  s.line = t ? fb : fa, s.across = t ? fa : fb;
  if (!s.adapters) return s;
  PareFactor da = pare_factor(&a->in[DA], s.r, 1), db = pare_factor(&a->in[DB], 1, n);
  s.dline = t ? db : da, s.dacross = t ? da : db;
  return s;
}

/* --- G from pairs, in W's order: x'·dy, or dy'·x --- */
void pare_cuda_release_WEIGHTSCORE(void *state) {
  Products *p = (Products *)state;
  for (int i = 0; p && i < p->n; i++) pare_gemm_free(p->of[i]);
  if (p) pare_arena_free(p->arena);
}
static PareStatus plan_pair(PareKernelArgs *a, const Score *s, int i, PareGemm **out) {
  const PareType *x = &a->in[PAIRS + 2 * i].type;
  PareGemmSpec g = {};
  g.m = s->lines, g.n = s->width, g.k = pare_span(x, 0, x->rank - 1);
  g.in = x->dtype, g.out = a->in[W].type.dtype;
  g.ta = true, g.lda = g.m, g.ldb = g.ldc = g.n;
  g.batch = 1, g.alpha = s->alpha, g.beta = i > 0;
  return pare_gemm_new(a, &g, out);
}
static PareStatus plan_pairs(PareKernelArgs *a, const Score *s) {
  int n = (a->nin - PAIRS) / 2;
  PareArena *arena = pare_arena_new(1 << 10);
  Products *p = arena ? PARE_NEW(arena, Products) : NULL;
  if (p) p->arena = arena, p->of = PARE_NEW_N(arena, n, PareGemm *);
  if (!p || !p->of) return pare_arena_free(arena), PARE_NOMEM;
  a->state = p;
  for (; p->n < n; p->n++) PARE_TRY(plan_pair(a, s, p->n, &p->of[p->n]));
  return PARE_OK;
}
static PareStatus run_pairs(PareKernelArgs *a, const Score *s, void *g) {
  Products *p = (Products *)a->state;
  for (int i = 0; i < p->n; i++) {
    const void *x = a->in[PAIRS + 2 * i].data, *dy = a->in[PAIRS + 2 * i + 1].data;
    PARE_TRY(pare_gemm_run(a, p->of[i], s->transposed ? dy : x, s->transposed ? x : dy, NULL, g, g));
  }
  return PARE_OK;
}

/* --- scores in G's place --- */
template <class C> static __device__ inline C gradient_at(const Score &s, int64_t k, int64_t i, const C *e) {
  C g = 0;
  if (s.pairs) return *e;
  if (!s.adapters) return s.norm ? ((const C *)s.norm)[s.transposed ? i : k] : (C)1;
  for (int64_t j = 0; j < s.r; j++) {
    C w = pare_factor_at<C>(s.line, k, j), v = pare_factor_at<C>(s.dline, k, j);
    g += (w - (C)s.alpha * v) * pare_factor_at<C>(s.dacross, i, j) + v * pare_factor_at<C>(s.across, i, j);
  }
  return g;
}
template <class C> static __global__ void score(Score s, const C *w, C *e) {
  PARE_EACH(at, s.lines * s.width) {
    int64_t k = at / s.width, i = at % s.width;
    C d = 0;
    for (int64_t j = 0; j < s.r; j++) d += pare_factor_at<C>(s.line, k, j) * pare_factor_at<C>(s.across, i, j);
    C x = -gradient_at<C>(s, k, i, &e[at]) * (w[at] + (C)s.scale * d);
    e[at] = s.power == 0 ? x : s.power == 1 ? fabs(x) : x * x;
  }
}

/* --- sums, in double: of a line by a warp; of a position by strips of lines, then of these --- */
template <class C> static __global__ void sum_lines(Score s, const C *e, C *out) {
  int64_t warps = (int64_t)gridDim.x * blockDim.x / PARE_WARP, lane = threadIdx.x % PARE_WARP;
  for (int64_t k = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; k < s.lines; k += warps) {
    double sum = 0;
    for (int64_t i = lane; i < s.width; i += PARE_WARP) sum += (double)e[k * s.width + i];
    sum = pare_warp_sum(sum);
    if (lane == 0) out[k] = (C)sum;
  }
}
template <class C> static __global__ void sum_strips(Score s, const C *e, double *part) {
  PARE_EACH(at, s.strips * s.width) {
    int64_t strip = at / s.width, i = at % s.width, hi = (strip + 1) * STRIP < s.lines ? (strip + 1) * STRIP : s.lines;
    double sum = 0;
    for (int64_t k = strip * STRIP; k < hi; k++) sum += (double)e[k * s.width + i];
    part[at] = sum;
  }
}
template <class C> static __global__ void sum_parts(Score s, const double *part, C *out) {
  PARE_EACH(i, s.width) {
    double sum = 0;
    for (int64_t p = 0; p < s.strips; p++) sum += part[p * s.width + i];
    out[i] = (C)sum;
  }
}

/* Workspace: [sums of strips][scores, where they are not asked for] */
static size_t scores_at(const Score *s) { return pare_part_bytes((size_t)(s->strips * s->width) * sizeof(double)); }

PareStatus pare_cuda_plan_WEIGHTSCORE(PareKernelArgs *a) {
  Score s = score_of(a);
  a->workspace_bytes = scores_at(&s);
  if (!pare_wanted(a, ELEMENTS)) a->workspace_bytes += (size_t)(s.lines * s.width) * pare_esize(&a->in[W]);
  return s.pairs ? plan_pairs(a, &s) : PARE_OK;
}

template <class C> static PareStatus run(PareKernelArgs *a, const Score &s) {
  cudaStream_t stream = pare_cuda(a)->stream;
  double *part = (double *)a->workspace;
  C *e = pare_wanted(a, ELEMENTS) ? (C *)a->out[ELEMENTS].data : (C *)((char *)a->workspace + scores_at(&s));
  int by_line = s.transposed ? COL : ROW, by_position = s.transposed ? ROW : COL;
  if (s.pairs) PARE_TRY(run_pairs(a, &s, e));
  PARE_LAUNCH(score<C>, pare_blocks(a, s.lines * s.width, PARE_THREADS), PARE_THREADS, 0, stream, s,
              (const C *)a->in[W].data, e);
  if (pare_wanted(a, by_line))
    PARE_LAUNCH(sum_lines<C>, pare_blocks(a, s.lines, PARE_THREADS / PARE_WARP), PARE_THREADS, 0, stream, s,
                (const C *)e, (C *)a->out[by_line].data);
  if (!pare_wanted(a, by_position)) return pare_launched(a);
  PARE_LAUNCH(sum_strips<C>, pare_blocks(a, s.strips * s.width, PARE_THREADS), PARE_THREADS, 0, stream, s, (const C *)e,
              part);
  PARE_LAUNCH(sum_parts<C>, pare_blocks(a, s.width, PARE_THREADS), PARE_THREADS, 0, stream, s, (const double *)part,
              (C *)a->out[by_position].data);
  return pare_launched(a);
}

/* Outputs: sums by row [K] and by column [N], the scores as W is stored. W, A, B, norm and outputs have the type of the
 * arithmetic; x and dy have any float type. */
PareStatus pare_cuda_WEIGHTSCORE(PareKernelArgs *a) {
  Score s = score_of(a);
  for (int i = ROW; i <= COL && s.lines * s.width == 0; i++) /* sums of nothing */
    if (size_t bytes = pare_wanted(a, i) ? (size_t)pare_count(&a->out[i]) * pare_esize(&a->out[i]) : 0)
      PARE_TRY(pare_cuda_status(a, cudaMemsetAsync(a->out[i].data, 0, bytes, pare_cuda(a)->stream)));
  if (s.lines * s.width == 0) return PARE_OK;
  if (a->in[W].type.dtype == PARE_F64) return run<double>(a, s);
  return a->in[W].type.dtype == PARE_F32 ? run<float>(a, s) : pare_bad_type(a);
}
