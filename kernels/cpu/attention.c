/* attention.c - Attention and AttentionGrad: y = softmax(scale·q·k' + mask)·v, one head at a time, so that a head's
 * scores stay in the cache. Backward makes the probabilities again from the saved log-sum-exp of each row (Dao et al.,
 * FlashAttention, 2022). Heads are shared out among the threads; the products of a head run on one. f32 and f64 here,
 * by gemm.c and product.h; bf16 in attention_bf16.c. */
#include "base/arena.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/vmath.h"

#ifndef T
enum { MAX_THREADS = 256 };
/* scores = q·k', y = P·v; backward: dP = dy·v', dq = dS·k, dk = dS'·q, dv = P'·dy */
enum { SCORES, MIX, DPROB = 1, DQ, DK, DV, NPRODUCTS };

static PareSide side_of(const PareType *t, int64_t heads) {
  int64_t h = t->dim[heads], rows = t->dim[3 - heads], w = t->dim[3];
  bool inside = heads == 2;
  return (PareSide){rows, w, h * rows * w, inside ? w : rows * w, inside ? h * w : w};
}

PareAttention PARE_CPU(attention_of)(const PareKernelArgs *a, bool backward) {
  const PareInts *heads = &a->attr->heads;
  const PareType *y = backward ? &a->in[PARE_Y].type : &a->out[0].type;
  int mask = backward ? PARE_DY + 1 : PARE_V + 1;
  PareAttention t = {.batches = y->dim[0], .heads = y->dim[heads->at[3]], .scale = pare_attr_get(a->attr, scale, 1.0)};
  t.q = side_of(&a->in[PARE_Q].type, heads->at[0]);
  t.k = side_of(&a->in[PARE_K].type, heads->at[1]);
  t.v = side_of(&a->in[PARE_V].type, heads->at[2]);
  t.y = side_of(y, heads->at[3]);
  if (a->nin <= mask || a->in[mask].type.rank == 0) return t;
  t.mask = &a->in[mask];
  int64_t n = 1;
  for (int i = t.mask->type.rank - 1; i >= 0; i--) {
    int64_t d = t.mask->type.dim[i];
    t.step[4 - t.mask->type.rank + i] = d == 1 ? 0 : n;
    n *= d;
  }
  return t;
}

/* --- what a thread has --- */
typedef struct Bench {
  PareProduct *product[NPRODUCTS]; /* NULL: f64 */
} Bench;

typedef struct State {
  PareArena *arena; /* holds this struct */
  int threads;
  Bench *bench;
  size_t scratch; /* of the hungriest product */
} State;

void PARE_CPU(release_ATTENTION)(void *state) {
  State *s = state;
  if (!s) return;
  for (int i = 0; s->bench && i < s->threads; i++)
    for (int k = 0; k < NPRODUCTS; k++) PARE_CPU(product_free)(s->bench[i].product[k]);
  pare_arena_free(s->arena);
}

/* A head's matrix, or its transpose. */
static PareView head_view(PareDtype d, const PareSide *s, bool transposed) {
  int64_t rows = transposed ? s->width : s->rows, cols = transposed ? s->rows : s->width;
  return (PareView){d, 2, {rows, cols}, {transposed ? 1 : s->row, transposed ? s->row : 1}};
}

static void specs_of(const PareAttention *t, PareDtype d, bool backward, PareProductSpec *s) {
  int64_t m = t->q.rows, n = t->k.rows;
  PareView p = pare_view2(d, m, n, false), pt = pare_view2(d, n, m, true), sum = pare_view2(PARE_F32, m, n, false);
  s[SCORES] = (PareProductSpec){head_view(d, &t->q, false), head_view(d, &t->k, true), sum, .alpha = t->scale};
  if (!backward) {
    s[MIX] = (PareProductSpec){p, head_view(d, &t->v, false), head_view(d, &t->y, false), .alpha = 1};
    return;
  }
  s[DPROB] = (PareProductSpec){head_view(d, &t->y, false), head_view(d, &t->v, true), sum, .alpha = 1};
  s[DQ] = (PareProductSpec){p, head_view(d, &t->k, false), head_view(d, &t->q, false), .alpha = t->scale};
  s[DK] = (PareProductSpec){pt, head_view(d, &t->q, false), head_view(d, &t->k, false), .alpha = t->scale};
  s[DV] = (PareProductSpec){pt, head_view(d, &t->y, false), head_view(d, &t->v, false), .alpha = 1};
}

static size_t up(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* A thread's part of the workspace: [scores, then P][dP, then dS, backward][scratch]. */
static size_t matrix_bytes(const PareAttention *t, PareDtype d) {
  return up((size_t)(t->q.rows * t->k.rows) * (d == PARE_F64 ? sizeof(double) : sizeof(float)));
}
static size_t thread_bytes(const PareAttention *t, PareDtype d, bool backward, size_t scratch) {
  return (size_t)(backward ? 2 : 1) * matrix_bytes(t, d) + up(scratch);
}

static PareStatus plan(PareKernelArgs *a, bool backward) {
  PareAttention t = PARE_CPU(attention_of)(a, backward);
  PareDtype d = a->in[PARE_Q].type.dtype;
  PareProductSpec spec[NPRODUCTS];
  if (d == PARE_BF16) return a->workspace_bytes = PARE_CPU(attention_bf16_bytes)(&t, backward), PARE_OK;
  PareArena *arena = pare_arena_new(1 << 12);
  State *s = arena ? PARE_NEW(arena, State) : NULL;
  if (!s) return pare_arena_free(arena), PARE_NOMEM;
  s->arena = arena;
  s->threads = omp_get_max_threads() < MAX_THREADS ? omp_get_max_threads() : MAX_THREADS;
  s->bench = PARE_NEW_N(arena, s->threads, Bench);
  PareStatus status = s->bench ? PARE_OK : PARE_NOMEM;
  specs_of(&t, d, backward, spec);
  for (int i = 0; i < s->threads && d != PARE_F64; i++)
    for (int k = 0; k < (backward ? NPRODUCTS : MIX + 1) && status == PARE_OK; k++) {
      spec[k].alone = true;
      status = PARE_CPU(product_new)(&spec[k], &s->bench[i].product[k]);
      if (status != PARE_OK) break;
      size_t scratch = PARE_CPU(product_scratch)(s->bench[i].product[k]);
      if (scratch > s->scratch) s->scratch = scratch;
    }
  if (status == PARE_UNSUPPORTED) a->why = "this CPU has no product of this shape";
  if (status != PARE_OK) return PARE_CPU(release_ATTENTION)(s), status;
  a->state = s;
  a->workspace_bytes = (size_t)s->threads * thread_bytes(&t, d, backward, s->scratch);
  return PARE_OK;
}
PareStatus PARE_CPU(plan_ATTENTION)(PareKernelArgs *a) { return plan(a, false); }
PareStatus PARE_CPU(plan_ATTENTIONGRAD)(PareKernelArgs *a) { return plan(a, true); }

#define PARE_TEMPLATE "kernels/cpu/attention.c"
#define PARE_NO_BF16
#include "kernels/cpu/floats.h"

#define attention_bf16 PARE_CPU(attention_bf16)
#define attention_grad_bf16 PARE_CPU(attention_grad_bf16)
PARE_FLOAT_KERNEL(ATTENTION, attention)
PARE_FLOAT_KERNEL(ATTENTIONGRAD, attention_grad)

#else /* the template */

/* What one thread works with: its products and its part of the workspace. */
typedef struct FN(Desk) {
  const PareAttention *t;
  Bench *bench;
  C *scores, *dprob;
  void *scratch;
} FN(Desk);

static FN(Desk) FN(desk)(const PareKernelArgs *a, const PareAttention *t, bool backward, int thread) {
  State *s = a->state;
  PareDtype d = a->in[PARE_Q].type.dtype;
  size_t each = matrix_bytes(t, d);
  char *at = (char *)a->workspace + (size_t)thread * thread_bytes(t, d, backward, s->scratch);
  FN(Desk) k = {.t = t, .bench = &s->bench[thread], .scores = (C *)at};
  at += each;
  if (backward) k.dprob = (C *)at, at += each;
  k.scratch = at;
  return k;
}

/* c[m, n] = alpha·a·b, by the primitive or plainly (f64). */
static PareStatus FN(product)(const FN(Desk) *k, int which, const T *a, bool ta, int64_t lda, const T *b, bool tb,
                              int64_t ldb, T *c, int64_t ldc, int64_t m, int64_t n, int64_t inner, double alpha) {
  if (k->bench->product[which]) return PARE_CPU(product_run)(k->bench->product[which], a, b, NULL, c, k->scratch);
  return GEMM(ta, tb, m, n, inner, alpha, a, lda, b, ldb, 0, c, ldc);
}

/* A row of the scores plus the mask. */
static PARE_INLINE void FN(add_mask)(const PareAttention *t, int64_t b, int64_t h, int64_t i, C *s) {
  if (!t->mask) return;
  const C *m = (const C *)t->mask->data + b * t->step[0] + h * t->step[1] + i * t->step[2];
  int64_t n = t->k.rows;
  if (t->step[3])
#pragma omp simd
    for (int64_t j = 0; j < n; j++) s[j] += m[j];
  else
    for (int64_t j = 0; j < n; j++) s[j] += m[0];
}

/* s becomes exp(s - max) / sum; returns max + log(sum). */
static PARE_INLINE C FN(normalise)(int64_t n, C *s) {
  C max = -INFINITY, sum = 0;
#pragma omp simd reduction(max : max)
  for (int64_t j = 0; j < n; j++) max = s[j] > max ? s[j] : max;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    s[j] = MATH(exp)(s[j] - max);
    sum += s[j];
  }
  C scale = 1 / sum;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) s[j] *= scale;
  return max + MATH(log)(sum);
}

static PareStatus FN(forward_head)(PareKernelArgs *a, const FN(Desk) *k, int64_t b, int64_t h) {
  const PareAttention *t = k->t;
  int64_t m = t->q.rows, n = t->k.rows;
  const T *q = (const T *)a->in[PARE_Q].data + pare_at_head(&t->q, b, h);
  const T *key = (const T *)a->in[PARE_K].data + pare_at_head(&t->k, b, h);
  const T *v = (const T *)a->in[PARE_V].data + pare_at_head(&t->v, b, h);
  T *y = (T *)a->out[0].data + pare_at_head(&t->y, b, h);
  C *lse = (C *)a->out[1].data + (b * t->heads + h) * m;
  PARE_TRY(FN(product)(k, SCORES, q, false, t->q.row, key, true, t->k.row, k->scores, n, m, n, t->q.width, t->scale));
  for (int64_t i = 0; i < m; i++) {
    FN(add_mask)(t, b, h, i, k->scores + i * n);
    lse[i] = FN(normalise)(n, k->scores + i * n);
  }
  return FN(product)(k, MIX, k->scores, false, n, v, false, t->v.row, y, t->y.row, m, t->v.width, n, 1);
}

/* With delta_i = dy_i·y_i: dS = P∘(dP - delta), of which dq, dk are scale·dS·k, scale·dS'·q; dv = P'·dy. */
static PareStatus FN(backward_head)(PareKernelArgs *a, const FN(Desk) *k, int64_t b, int64_t h) {
  const PareAttention *t = k->t;
  int64_t m = t->q.rows, n = t->k.rows, qk = t->q.width, w = t->v.width;
  const T *q = (const T *)a->in[PARE_Q].data + pare_at_head(&t->q, b, h);
  const T *key = (const T *)a->in[PARE_K].data + pare_at_head(&t->k, b, h);
  const T *v = (const T *)a->in[PARE_V].data + pare_at_head(&t->v, b, h);
  const T *y = (const T *)a->in[PARE_Y].data + pare_at_head(&t->y, b, h);
  const T *dy = (const T *)a->in[PARE_DY].data + pare_at_head(&t->y, b, h);
  const C *lse = (const C *)a->in[PARE_LSE].data + (b * t->heads + h) * m;
  T *dq = (T *)a->out[0].data + pare_at_head(&t->q, b, h), *dk = (T *)a->out[1].data + pare_at_head(&t->k, b, h);
  T *dv = (T *)a->out[2].data + pare_at_head(&t->v, b, h);
  PARE_TRY(FN(product)(k, SCORES, q, false, t->q.row, key, true, t->k.row, k->scores, n, m, n, qk, t->scale));
  PARE_TRY(FN(product)(k, DPROB, dy, false, t->y.row, v, true, t->v.row, k->dprob, n, m, n, w, 1));
  for (int64_t i = 0; i < m; i++) {
    const T *yi = y + i * t->y.row, *di = dy + i * t->y.row;
    C *s = k->scores + i * n, *d = k->dprob + i * n, delta = 0, row = lse[i];
    FN(add_mask)(t, b, h, i, s);
#pragma omp simd reduction(+ : delta)
    for (int64_t j = 0; j < w; j++) delta += yi[j] * di[j];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      s[j] = MATH(exp)(s[j] - row);
      d[j] = s[j] * (d[j] - delta);
    }
  }
  PARE_TRY(FN(product)(k, DQ, k->dprob, false, n, key, false, t->k.row, dq, t->q.row, m, qk, n, t->scale));
  PARE_TRY(FN(product)(k, DK, k->dprob, true, n, q, false, t->q.row, dk, t->k.row, n, qk, m, t->scale));
  return FN(product)(k, DV, k->scores, true, n, dy, false, t->y.row, dv, t->v.row, n, w, m, 1);
}

static PareStatus FN(all_heads)(PareKernelArgs *a, bool backward) {
  PareAttention t = PARE_CPU(attention_of)(a, backward);
  State *s = a->state;
  int failed = PARE_OK;
#pragma omp parallel for schedule(dynamic) num_threads(s->threads) reduction(max : failed)
  for (int64_t i = 0; i < t.batches * t.heads; i++) {
    FN(Desk) k = FN(desk)(a, &t, backward, omp_get_thread_num());
    PareStatus status = backward ? FN(backward_head)(a, &k, i / t.heads, i % t.heads)
                                 : FN(forward_head)(a, &k, i / t.heads, i % t.heads);
    if ((int)status > failed) failed = (int)status;
  }
  return (PareStatus)failed;
}

/* Inputs: q, k, v, mask. Outputs: y, the log-sum-exp of each row of scores [B, heads, rows]. */
static PareStatus FN(attention)(PareKernelArgs *a) { return FN(all_heads)(a, false); }
/* Inputs: q, k, v, y, lse, dy, mask. Outputs: dq, dk, dv. */
static PareStatus FN(attention_grad)(PareKernelArgs *a) { return FN(all_heads)(a, true); }
#endif
