/* gemm_tune.cu - which of the library's ways of a product is fastest on this GPU, by trying them on random operands. A
 * way counts only if its result is that of the library's own choice bit by bit: times differ from run to run, and what
 * a product gives must not (ways that do not split the inner axis add in the same order: on an H200 all of them agree).
 * Nothing is kept but the choice; where memory is short, the library's own stands. */
#include "kernels/cuda/gemm.cuh"

enum { RUNS = 4, MEMO = 256 };
static const double WORTH = 1 << 27; /* multiply-adds below which trying costs more than it gains */

/* --- what is known already: shapes come again with every layer --- */

struct Known {
  PareGemmSpec spec;
  bool tf32;
  cublasLtMatmulAlgo_t algo;
};
struct PareGemmMemo {
  int n, next; /* the oldest goes first */
  Known at[MEMO];
};

PareGemmMemo *pare_gemm_memo_new(void) { return (PareGemmMemo *)calloc(1, sizeof(PareGemmMemo)); }
void pare_gemm_memo_free(PareGemmMemo *m) { free(m); }

static bool same(const PareGemmSpec *a, const PareGemmSpec *b) {
  return a->m == b->m && a->n == b->n && a->k == b->k && a->in == b->in && a->out == b->out && a->ta == b->ta &&
         a->tb == b->tb && a->bias == b->bias && a->lda == b->lda && a->ldb == b->ldb && a->ldc == b->ldc &&
         (a->beta != 0) == (b->beta != 0) && a->abegin == b->abegin && a->bbegin == b->bbegin && a->cbegin == b->cbegin;
}
static const Known *find(const PareGemmMemo *m, const PareGemmSpec *s, bool tf32) {
  for (int i = 0; m && i < m->n; i++)
    if (m->at[i].tf32 == tf32 && same(&m->at[i].spec, s)) return &m->at[i];
  return NULL;
}
static void keep(PareGemmMemo *m, const PareGemmSpec *s, bool tf32, const cublasLtMatmulAlgo_t *algo) {
  if (!m) return;
  m->at[m->next] = {*s, tf32, *algo};
  m->next = (m->next + 1) % MEMO;
  if (m->n < MEMO) m->n++;
}

/* --- operands and results --- */

/* Uniform in [-1, 1). */
template <class T> static __global__ void random_numbers(int64_t n, T *x) {
  PARE_EACH(i, n) {
    uint32_t u = (uint32_t)i * 2654435761u;
    u = (u ^ u >> 16) * 0x85ebca6bu;
    u ^= u >> 13;
    x[i] = pare_store<T>((PARE_C)(u & 0xffffu) / 32768 - 1);
  }
}
static __global__ void compare(int64_t n, const uint16_t *x, const uint16_t *y, uint32_t *differ) {
  PARE_EACH(i, n) if (x[i] != y[i]) *differ = 1;
}

/* Everything that a trial needs, in one block. */
struct Trial {
  char *block;
  void *a, *b, *bias, *c, *first, *other;
  uint32_t *differ;
  int64_t out; /* elements of a result */
  cudaEvent_t begin, end;
};

static bool trial_new(PareKernelArgs *args, const PareGemmSpec *s, Trial *t) {
  int64_t in = (int64_t)pare_dtype_size(s->in), out = (int64_t)pare_dtype_size(s->out);
  int64_t a = (s->ta ? s->k : s->m) * s->lda, b = (s->tb ? s->n : s->k) * s->ldb;
  cudaStream_t stream = pare_cuda(args)->stream;
  *t = {};
  t->out = s->m * s->ldc;
  int64_t sizes[] = {a * in, b * in, s->n * out, t->out * out, t->out * out, t->out * out, (int64_t)sizeof *t->differ};
  size_t total = 0;
  for (int64_t size : sizes) total += pare_part_bytes((size_t)size);
  if (cudaMalloc((void **)&t->block, total) != cudaSuccess) return cudaGetLastError(), false;
  void **at[] = {&t->a, &t->b, &t->bias, &t->c, &t->first, &t->other};
  char *next = t->block;
  for (int i = 0; i < 6; next += pare_part_bytes((size_t)sizes[i++])) *at[i] = next;
  t->differ = (uint32_t *)(void *)next;
  auto fill = [&](PareDtype d, int64_t n, void *x) {
    return pare_by_float(args, d, [&](auto zero) {
      typedef decltype(zero) T;
      PARE_LAUNCH(random_numbers<T>, pare_blocks(args, n, PARE_THREADS), PARE_THREADS, 0, stream, n, (T *)x);
      return pare_launched(args);
    });
  };
  return fill(s->in, a, t->a) == PARE_OK && fill(s->in, b, t->b) == PARE_OK && fill(s->out, s->n, t->bias) == PARE_OK &&
         fill(s->out, t->out, t->c) == PARE_OK && cudaEventCreateWithFlags(&t->begin, cudaEventDefault) == cudaSuccess &&
         cudaEventCreateWithFlags(&t->end, cudaEventDefault) == cudaSuccess;
}
static void trial_free(Trial *t) {
  if (t->begin) cudaEventDestroy(t->begin);
  if (t->end) cudaEventDestroy(t->end);
  if (t->block) cudaFree(t->block);
}

/* --- trying --- */

/* The least time in ms of a few runs, INFINITY where the way fails or gives something else than `first`. */
static float time_way(PareKernelArgs *args, PareGemm *g, Trial *t, bool reference) {
  const PareCuda *cuda = pare_cuda(args);
  void *y = reference ? t->first : t->other;
  int64_t halves = t->out * (int64_t)pare_dtype_size(g->spec.out) / 2;
  uint32_t differ = 0;
  float best = INFINITY, ms;
  if (cudaMemsetAsync(t->differ, 0, sizeof differ, cuda->stream) != cudaSuccess) return INFINITY;
  if (cudaMemsetAsync(y, 0, (size_t)halves * 2, cuda->stream) != cudaSuccess) return INFINITY; /* between the rows */
  for (int i = 0; i < RUNS; i++) {
    if (cudaEventRecord(t->begin, cuda->stream) != cudaSuccess) return INFINITY;
    if (pare_gemm_run(args, g, t->a, t->b, t->bias, t->c, y) != PARE_OK) return INFINITY;
    if (cudaEventRecord(t->end, cuda->stream) != cudaSuccess) return INFINITY;
    if (i == 0 && !reference) {
      PARE_LAUNCH(compare, pare_blocks(args, halves, PARE_THREADS), PARE_THREADS, 0, cuda->stream, halves,
                  (const uint16_t *)t->first, (const uint16_t *)t->other, t->differ);
      if (cudaMemcpyAsync(&differ, t->differ, sizeof differ, cudaMemcpyDeviceToHost, cuda->stream) != cudaSuccess)
        return INFINITY;
    }
    if (cudaEventSynchronize(t->end) != cudaSuccess || cudaStreamSynchronize(cuda->stream) != cudaSuccess)
      return INFINITY;
    if (differ) return INFINITY;
    if (i && cudaEventElapsedTime(&ms, t->begin, t->end) == cudaSuccess && ms < best) best = ms;
  }
  return best;
}

static int fastest(PareKernelArgs *args, PareGemm *g, int n, const cublasLtMatmulHeuristicResult_t *way) {
  Trial t;
  int best = 0;
  float least = INFINITY;
  bool ready = trial_new(args, &g->spec, &t);
  for (int i = 0; i < n && ready; i++) {
    if (way[i].state != CUBLAS_STATUS_SUCCESS) continue;
    g->algo = way[i].algo;
    float ms = time_way(args, g, &t, i == 0);
    if (i == 0 && ms == INFINITY) break;
    if (ms < least) least = ms, best = i;
  }
  trial_free(&t);
  cudaGetLastError(); /* a way that failed is not taken */
  args->why = NULL;
  return best;
}

void pare_gemm_tune(PareKernelArgs *args, PareGemm *g, int n, const cublasLtMatmulHeuristicResult_t *way) {
  const PareGemmSpec *s = &g->spec;
  PareGemmMemo *memo = pare_cuda(args)->memo;
  bool tf32 = s->in == PARE_F32 && pare_cuda(args)->device->tf32;
  g->algo = way[0].algo;
  if (n < 2 || s->batch != 1 || (double)s->m * (double)s->n * (double)s->k < WORTH) return;
  if (const Known *k = find(memo, s, tf32)) {
    g->algo = k->algo;
    return;
  }
  g->algo = way[fastest(args, g, n, way)].algo;
  keep(memo, s, tf32, &g->algo);
}
