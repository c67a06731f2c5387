/* einsum.cu - Einsum of one or two operands. What is summed over in one operand alone goes first. Two operands are then
 * a batch of matrix products a[b, m, k]·b[b, k, n] of the library's, for which they are brought into that order where
 * they do not lie so; or, where those products would be of numbers, a sum for each element. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "ir/einsum.h"
}

enum { A, B, OUT = PARE_EINSUM_OUT, TENSORS, ENOUGH = 1 << 15 };

/* An index. kind: 'b' batch, 'm' a's and the result's, 'n' b's and the result's, 'k' common to both operands, 'x' a's
 * alone, 'y' b's alone. step: how far each tensor moves when it grows by one. */
struct Label {
  char kind;
  int64_t size, step[TENSORS];
};
struct Equation {
  int n, outs; /* the first `outs` are the result's, in its order */
  Label label[2 * PARE_MAX_RANK];
};

/* A diagonal moves along all its axes. */
static int64_t step_of(const PareEinsum *e, int k, const PareType *t, int l) {
  int64_t s = 0;
  for (int i = 0; i < e->rank[k]; i++)
    if (e->label[k][i] == l && t->dim[i] != 1) s += pare_span(t, i + 1, t->rank);
  return s;
}
static void add_label(Equation *to, const PareEinsum *e, const PareType *const type[TENSORS], int l) {
  bool in[TENSORS];
  Label *x = &to->label[to->n++];
  *x = {};
  x->size = e->size[l];
  for (int k = 0; k < TENSORS; k++) {
    in[k] = type[k] && pare_einsum_axis(e, k, l) >= 0;
    if (in[k]) x->step[k] = step_of(e, k, type[k], l);
  }
  if (in[OUT]) x->kind = in[A] && in[B] ? 'b' : in[A] ? 'm' : 'n';
  else x->kind = in[A] && in[B] ? 'k' : in[A] ? 'x' : 'y';
}
static const char *read(const PareKernelArgs *a, Equation *to) {
  const PareType *type[TENSORS] = {&a->in[A].type, a->nin > 1 ? &a->in[B].type : NULL, &a->out[0].type};
  static const int order[] = {OUT, A, B};
  bool seen[PARE_EINSUM_LABELS] = {};
  PareEinsum e;
  const char *why = pare_einsum_parse(pare_attr_get(a->attr, equation, ""), a->nin, type, &e);
  if (why) return why;
  to->n = 0;
  for (int k : order)
    for (int i = 0; type[k] && i < e.rank[k]; i++)
      if (!seen[e.label[k][i]]) seen[e.label[k][i]] = true, add_label(to, &e, type, e.label[k][i]);
  to->outs = e.rank[OUT];
  return NULL;
}

static int64_t size_of(const Equation *e, const char *kinds) {
  int64_t n = 1;
  for (; *kinds; kinds++)
    for (int i = 0; i < e->n; i++)
      if (e->label[i].kind == *kinds) n *= e->label[i].size;
  return n;
}
/* Whether tensor k lies in the order of these kinds of indices. */
static bool lies(const Equation *e, const char *kinds, int k) {
  int64_t step = size_of(e, kinds);
  for (; *kinds; kinds++)
    for (int i = 0; i < e->n; i++) {
      const Label *l = &e->label[i];
      if (l->kind != *kinds || l->size == 1) continue;
      if (l->size == 0) return true;
      step /= l->size;
      if (l->step[k] != step) return false;
    }
  return true;
}
/* From now on it does. */
static void pack(Equation *e, const char *kinds, int k) {
  int64_t step = size_of(e, kinds);
  for (; *kinds; kinds++)
    for (int i = 0; i < e->n; i++) {
      Label *l = &e->label[i];
      if (l->kind == *kinds && l->size) l->step[k] = step /= l->size;
    }
}

/* out[i] = sum over r < each of the operands' product, at kept(i) + summed(r) */
struct Sums {
  PareWalk kept, summed;
  int64_t outs, each;
};
/* The first operand of the walk is tensor k, the second is b. */
static void add_axis(PareWalk *w, const Label *l, int k) {
  int64_t step[PARE_OPERANDS] = {l->step[k], l->step[B]};
  pare_walk_add(w, l->size, step);
}
static PareWalk walk_kinds(const Equation *e, const char *kinds, int k) {
  PareWalk w = {};
  int64_t n = size_of(e, kinds);
  for (; *kinds; kinds++)
    for (int i = 0; i < e->n; i++)
      if (e->label[i].kind == *kinds) add_axis(&w, &e->label[i], k);
  pare_walk_end(&w, n);
  return w;
}
static Sums sums_packed(const Equation *e, const char *kinds, const char *summed, int k) {
  return {walk_kinds(e, kinds, k), walk_kinds(e, summed, k), size_of(e, kinds), size_of(e, summed)};
}
static Sums sums_out(const Equation *e, const char *summed, int k) {
  Sums s = sums_packed(e, "", summed, k);
  for (int i = 0; i < e->outs; i++) add_axis(&s.kept, &e->label[i], k), s.outs *= e->label[i].size;
  pare_walk_end(&s.kept, s.outs);
  return s;
}

/* --- how it is done --- */
struct Way {
  bool packs[TENSORS]; /* the operand is brought into order, the result out of it, by way of the workspace */
  PareDtype type;      /* of the workspace and of products: bf16 is f32 where sums of it are operands */
  bool products, ta, tb;
  int64_t batch, m, n, k;
  size_t begin[TENSORS], bytes; /* in the workspace; `fits`: they can be counted */
  bool fits;
  Sums first[OUT], last; /* packs the operands; makes the result */
};
static const char *way_of(const PareKernelArgs *a, Way *w) {
  static const char *const order[TENSORS] = {"bmk", "bkn", "bmn"}, *const turned[OUT] = {"bkm", "bnk"};
  static const char *const own[OUT] = {"x", "y"};
  Equation e;
  const char *why = read(a, &e);
  if (why) return why;
  *w = {};
  w->fits = true;
  w->type = a->in[A].type.dtype;
  w->batch = size_of(&e, "b"), w->m = size_of(&e, "m"), w->n = size_of(&e, "n"), w->k = size_of(&e, "k");
  if (a->nin == 1) return w->last = sums_out(&e, "x", A), nullptr;
  w->products = w->k > 1 && w->m * w->n > 1 && w->batch > 0 && w->batch <= INT32_MAX;
  bool *turns[OUT] = {&w->ta, &w->tb}, wide = w->type == PARE_BF16 && (size_of(&e, "x") != 1 || size_of(&e, "y") != 1);
  if (wide) w->type = PARE_F32;
  for (int k = A; k <= B; k++) {
    bool must = wide || size_of(&e, own[k]) != 1, straight = lies(&e, order[k], k);
    *turns[k] = w->products && !must && !straight && lies(&e, turned[k], k);
    w->packs[k] = must || (w->products && !straight && !*turns[k]);
    if (w->packs[k]) w->first[k] = sums_packed(&e, order[k], own[k], k), pack(&e, order[k], k);
  }
  w->packs[OUT] = w->products && (wide || !lies(&e, order[OUT], OUT));
  if (w->packs[OUT]) pack(&e, order[OUT], OUT), w->last = sums_out(&e, "", OUT);
  else if (!w->products) w->last = sums_out(&e, "k", A);
  const PareType packed[TENSORS] = {
      {w->type, 3, {w->batch, w->m, w->k}}, {w->type, 3, {w->batch, w->k, w->n}}, {w->type, 3, {w->batch, w->m, w->n}}};
  for (int k = 0; k < TENSORS; k++) {
    size_t more = 0;
    if (w->packs[k] && (!pare_type_bytes(&packed[k], &more) || more > SIZE_MAX / 8)) return w->fits = false, nullptr;
    w->begin[k] = w->bytes;
    w->bytes += pare_part_bytes(more);
  }
  return NULL;
}

PareStatus pare_cuda_plan_EINSUM(PareKernelArgs *a) {
  Way w;
  if ((a->why = way_of(a, &w))) return PARE_DATA;
  if (!w.fits) return pare_why(a, PARE_NOMEM, "its operands do not fit in memory twice");
  a->workspace_bytes = w.bytes;
  if (!w.products) return PARE_OK;
  PareGemmSpec s = {};
  s.m = w.m, s.n = w.n, s.k = w.k, s.in = s.out = w.type, s.ta = w.ta, s.tb = w.tb, s.alpha = 1;
  s.lda = w.ta ? w.m : w.k, s.ldb = w.tb ? w.k : w.n, s.ldc = w.n;
  s.batch = w.batch, s.astep = w.m * w.k, s.bstep = w.k * w.n, s.cstep = w.m * w.n;
  PareGemm *made;
  PARE_TRY(pare_gemm_new(a, &s, &made));
  a->state = made;
  return PARE_OK;
}

/* --- N operands of type S, a result of type T; sums are double --- */
template <int N, class S>
static __device__ inline double term(const Sums &s, const int64_t from[2], int64_t r, const S *x, const S *y) {
  int64_t at[2] = {from[0], from[1]};
  pare_walk_at<N>(s.summed, r, at);
  double v = (double)pare_load(x[at[0]]);
  if constexpr (N == 2) v *= (double)pare_load(y[at[1]]);
  return v;
}
/* A thread makes an element. */
template <int N, class S, class T> static __global__ void sums(Sums s, const S *x, const S *y, T *z) {
  PARE_EACH(i, s.outs) {
    int64_t from[2] = {0, 0};
    pare_walk_at<N>(s.kept, i, from);
    double v = 0;
    for (int64_t r = 0; r < s.each; r++) v += term<N>(s, from, r, x, y);
    z[i] = pare_store<T>((PARE_C)v);
  }
}
/* A block does. */
template <int N, class S, class T> static __global__ void team_sums(Sums s, const S *x, const S *y, T *z) {
  for (int64_t i = blockIdx.x; i < s.outs; i += gridDim.x) {
    int64_t from[2] = {0, 0};
    pare_walk_at<N>(s.kept, i, from);
    double v = 0;
    for (int64_t r = threadIdx.x; r < s.each; r += PARE_THREADS) v += term<N>(s, from, r, x, y);
    v = pare_team_sum<PARE_THREADS>(v);
    if (threadIdx.x == 0) z[i] = pare_store<T>((PARE_C)v);
  }
}
template <int N, class S, class T>
static PareStatus add_up(PareKernelArgs *a, const Sums &s, const S *x, const S *y, T *z) {
  cudaStream_t stream = pare_cuda(a)->stream;
  if (!s.outs) return PARE_OK;
  if (s.each >= PARE_THREADS && s.outs < ENOUGH)
    PARE_LAUNCH((team_sums<N, S, T>), pare_blocks(a, s.outs, 1), PARE_THREADS, 0, stream, s, x, y, z);
  else PARE_LAUNCH((sums<N, S, T>), pare_blocks(a, s.outs, 128), 128, 0, stream, s, x, y, z);
  return pare_launched(a);
}

/* Tensors of type T, work in type S. */
template <class S, class T> static PareStatus run(PareKernelArgs *a, const Way *w) {
  T *out = (T *)a->out[0].data;
  S *made = w->packs[OUT] ? (S *)((char *)a->workspace + w->begin[OUT]) : (S *)a->out[0].data;
  const S *x[OUT];
  for (int k = A; k <= B; k++) {
    S *packed = (S *)((char *)a->workspace + w->begin[k]);
    if (w->packs[k]) PARE_TRY((add_up<1, T, S>(a, w->first[k], (const T *)a->in[k].data, NULL, packed)));
    x[k] = w->packs[k] ? packed : (const S *)a->in[k].data;
  }
  if (!w->products) return add_up<2, S, T>(a, w->last, x[A], x[B], out);
  PARE_TRY(pare_gemm_run(a, (PareGemm *)a->state, x[A], x[B], NULL, made, made));
  return w->packs[OUT] ? add_up<1, S, T>(a, w->last, made, NULL, out) : PARE_OK;
}

PareStatus pare_cuda_EINSUM(PareKernelArgs *a) {
  Way w;
  if ((a->why = way_of(a, &w))) return PARE_DATA;
  return pare_by_float(a, a->in[A].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    if (a->nin == 1) return add_up<1, T, T>(a, w.last, (const T *)a->in[A].data, NULL, (T *)a->out[0].data);
    if (w.type == a->in[A].type.dtype) return run<T, T>(a, &w);
    return run<PARE_C, T>(a, &w);
  });
}
