/* attention_bf16.c - Attention and AttentionGrad of bf16: as attention.c, by small products (tile.h). A head's operands
 * are brought into order once and stay in the cache, scores are made and used a block of rows at a time. Heads are
 * shared out among the threads. */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vmath.h"

#include <string.h>

enum { BLOCK = PARE_TILE_DEPTH };

/* To bf16. NaNs need no care here: those of bf16 have 16 zeros and those that arithmetic makes are the processor's own;
 * rounding leaves both what they are. */
static PARE_INLINE uint16_t rounded(float f) {
  uint32_t u = pare_f32_bits(f);
  return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* Sizes of a head, and the same in whole PARE_TILE_DEPTHs. */
typedef struct Sizes {
  int64_t m, n, qk, v, mp, np, qp, vp;
} Sizes;

static Sizes sizes_of(const PareAttention *t) {
  Sizes s = {.m = t->q.rows, .n = t->k.rows, .qk = t->q.width, .v = t->v.width};
  s.mp = pare_tile_up(s.m, PARE_TILE_DEPTH), s.np = pare_tile_up(s.n, PARE_TILE_DEPTH);
  s.qp = pare_tile_up(s.qk, PARE_TILE_DEPTH), s.vp = pare_tile_up(s.v, PARE_TILE_DEPTH);
  return s;
}

/* What one thread works with: its part of the workspace, cut up. Names in capitals: pairs (tile.h). */
typedef struct Desk {
  uint16_t *q, *k, *v, *kt, *p, *ds; /* [.., qp], [np, qp], [np, vp]; k' [qp, np]; [BLOCK, np or mp] */
  uint32_t *QT, *KT, *V, *Q, *DYT, *DY, *DS;
  float *s, *dp, *y, *dk, *dqt, *delta; /* [BLOCK, np or mp] twice, [BLOCK, vp], [BLOCK, qp], [qp, mp], [mp] */
} Desk;

/* Cuts count·size bytes from *at on, 64-aligned. */
static void *cut(uintptr_t *at, int64_t count, size_t size) {
  uintptr_t p = *at;
  *at += ((size_t)count * size + 63) & ~(size_t)63;
  return (void *)p;
}
#define WORDS(n) cut(&at, n, sizeof(uint32_t))
#define HALVES(n) cut(&at, n, sizeof(uint16_t))

/* The desk that begins at `at`; returns its end. */
static uintptr_t desk_of(const Sizes *z, bool backward, uintptr_t at, Desk *d) {
  *d = (Desk){0};
  if (!backward) {
    d->q = HALVES(BLOCK * z->qp), d->p = HALVES(BLOCK * z->np);
    d->KT = WORDS(z->qp / 2 * z->np), d->V = WORDS(z->np / 2 * z->vp);
    d->s = WORDS(BLOCK * z->np), d->y = WORDS(BLOCK * z->vp);
    return at;
  }
  d->k = HALVES(z->np * z->qp), d->v = HALVES(z->np * z->vp), d->kt = HALVES(z->qp * z->np);
  d->p = HALVES(BLOCK * z->mp), d->ds = HALVES(BLOCK * z->mp);
  d->QT = WORDS(z->qp / 2 * z->mp), d->DYT = WORDS(z->vp / 2 * z->mp);
  d->Q = WORDS(z->mp / 2 * z->qp), d->DY = WORDS(z->mp / 2 * z->vp);
  d->DS = WORDS(BLOCK / 2 * z->mp);
  d->s = WORDS(BLOCK * z->mp), d->dp = WORDS(BLOCK * z->mp);
  d->y = WORDS(BLOCK * z->vp), d->dk = WORDS(BLOCK * z->qp);
  d->dqt = WORDS(z->qp * pare_max_i64(z->mp, z->np)), d->delta = WORDS(z->mp);
  return at;
}

static size_t desk_bytes(const Sizes *z, bool backward) {
  Desk d;
  return desk_of(z, backward, 0, &d);
}

size_t PARE_CPU(attention_bf16_bytes)(const PareAttention *t, bool backward) {
  Sizes z = sizes_of(t);
  return (size_t)omp_get_max_threads() * desk_bytes(&z, backward);
}

typedef struct Head {
  const PareKernelArgs *a;
  const PareAttention *t;
  const PareTiles *tiles;
  Sizes z;
  Desk d;
  int64_t b, h;
} Head;

static const uint16_t *operand(const Head *w, int input, const PareSide *s) {
  return (const uint16_t *)w->a->in[input].data + pare_at_head(s, w->b, w->h);
}
static uint16_t *result(const Head *w, int output, const PareSide *s) {
  return (uint16_t *)w->a->out[output].data + pare_at_head(s, w->b, w->h);
}

/* out [rows, cols] = x [rows, cols]·scale */
static void store(int64_t rows, int64_t cols, const float *x, int64_t ldx, float scale, uint16_t *out, int64_t ldo) {
  for (int64_t i = 0; i < rows; i++)
#pragma omp simd
    for (int64_t j = 0; j < cols; j++) out[i * ldo + j] = rounded(x[i * ldx + j] * scale);
}

/* out [rows, cols] = x'·scale, x [cols, rows] */
static void store_turned(int64_t rows, int64_t cols, const float *x, int64_t ldx, float scale, uint16_t *out,
                         int64_t ldo) {
  float tile[PARE_TILE][PARE_TILE];
  for (int64_t i0 = 0; i0 < rows; i0 += PARE_TILE)
    for (int64_t j0 = 0; j0 < cols; j0 += PARE_TILE) {
      PARE_CPU(tile_turn)(x + j0 * ldx + i0, ldx, tile, PARE_TILE);
      store(pare_min_i64(PARE_TILE, rows - i0), pare_min_i64(PARE_TILE, cols - j0), tile[0], PARE_TILE, scale,
            out + i0 * ldo + j0, ldo);
    }
}

/* --- forward --- */

/* p = exp(scale·s + mask - max) / sum, zeros up to np; returns max + log(sum). mask may be NULL. */
static float normalise(const Sizes *z, float scale, const float *mask, bool along, float *s, uint16_t *p) {
  float max = -INFINITY, sum = 0;
  int64_t n = z->n;
  if (mask && along)
#pragma omp simd
    for (int64_t j = 0; j < n; j++) s[j] = s[j] * scale + mask[j];
  else {
    float all = mask ? *mask : 0;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) s[j] = s[j] * scale + all;
  }
#pragma omp simd reduction(max : max)
  for (int64_t j = 0; j < n; j++) max = s[j] > max ? s[j] : max;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    s[j] = vh_exp(s[j] - max);
    sum += s[j];
  }
  float part = 1 / sum;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) p[j] = rounded(s[j] * part);
  memset(p + n, 0, (size_t)(z->np - n) * sizeof *p);
  return max + logf(sum);
}

static const float *mask_row(const Head *w, int64_t row, int64_t col) {
  const PareAttention *t = w->t;
  if (!t->mask) return NULL;
  return (const float *)t->mask->data + w->b * t->step[0] + w->h * t->step[1] + row * t->step[2] + col * t->step[3];
}

static void forward(const Head *w) {
  const PareAttention *t = w->t;
  const Sizes *z = &w->z;
  const Desk *d = &w->d;
  const uint16_t *q = operand(w, PARE_Q, &t->q);
  uint16_t *y = result(w, 0, &t->y);
  float *lse = (float *)w->a->out[1].data + (w->b * t->heads + w->h) * z->m;
  PARE_CPU(tile_pairs_turned)(z->n, z->qk, operand(w, PARE_K, &t->k), t->k.row, z->np, d->KT, z->np);
  PARE_CPU(tile_pairs)(z->n, z->v, operand(w, PARE_V, &t->v), t->v.row, z->vp, d->V, z->vp);
  for (int64_t i = 0; i < z->m; i += BLOCK) {
    int64_t rows = pare_min_i64(BLOCK, z->m - i), m = pare_tile_up(rows, PARE_TILE);
    PARE_CPU(tile_copy)(rows, z->qk, q + i * t->q.row, t->q.row, m, z->qp, d->q);
    w->tiles->multiply(&(PareTileArgs){m, pare_tile_up(z->n, PARE_TILE), z->qp, d->q, d->KT, d->s, z->qp, z->np, z->np,
                                       false});
    for (int64_t r = 0; r < rows; r++)
      lse[i + r] = normalise(z, (float)t->scale, mask_row(w, i + r, 0), t->step[3] != 0, d->s + r * z->np,
                             d->p + r * z->np);
    w->tiles->multiply(&(PareTileArgs){m, pare_tile_up(z->v, PARE_TILE), z->np, d->p, d->V, d->y, z->np, z->vp, z->vp,
                                       false});
    store(rows, z->v, d->y, z->vp, 1, y + i * t->y.row, t->y.row);
  }
}

/* --- backward, a block of keys at a time. With delta_i = dy_i·y_i: dS = P∘(dP - delta), dq = scale·dS·k,
 *     dk = scale·dS'·q, dv = P'·dy. What is made is S', P' and dS', so that dk and dv read them as they are. --- */

static void deltas(const Head *w, float *delta) {
  const PareSide *side = &w->t->y;
  const uint16_t *y = operand(w, PARE_Y, side), *dy = operand(w, PARE_DY, side);
  for (int64_t i = 0; i < w->z.m; i++, y += side->row, dy += side->row) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < w->z.v; j++) sum += pare_bf16_to_f32(y[j]) * pare_bf16_to_f32(dy[j]);
    delta[i] = sum;
  }
}

/* k' as rows: the halves of its pairs. */
static void split_pairs(const Sizes *z, const uint32_t *pairs, uint16_t *out) {
  for (int64_t t = 0; t < z->qp / 2; t++, pairs += z->np, out += 2 * z->np)
#pragma omp simd
    for (int64_t j = 0; j < z->np; j++) {
      out[j] = (uint16_t)pairs[j];
      out[z->np + j] = (uint16_t)(pairs[j] >> 16);
    }
}

static void prepare(const Head *w) {
  const PareAttention *t = w->t;
  const Sizes *z = &w->z;
  const Desk *d = &w->d;
  const uint16_t *q = operand(w, PARE_Q, &t->q), *k = operand(w, PARE_K, &t->k), *dy = operand(w, PARE_DY, &t->y);
  PARE_CPU(tile_copy)(z->n, z->qk, k, t->k.row, z->np, z->qp, d->k);
  PARE_CPU(tile_copy)(z->n, z->v, operand(w, PARE_V, &t->v), t->v.row, z->np, z->vp, d->v);
  uint32_t *kt = (uint32_t *)d->dqt; /* dq is made later */
  PARE_CPU(tile_pairs_turned)(z->n, z->qk, k, t->k.row, z->np, kt, z->np);
  split_pairs(z, kt, d->kt);
  PARE_CPU(tile_pairs_turned)(z->m, z->qk, q, t->q.row, z->mp, d->QT, z->mp);
  PARE_CPU(tile_pairs)(z->m, z->qk, q, t->q.row, z->qp, d->Q, z->qp);
  PARE_CPU(tile_pairs_turned)(z->m, z->v, dy, t->y.row, z->mp, d->DYT, z->mp);
  PARE_CPU(tile_pairs)(z->m, z->v, dy, t->y.row, z->vp, d->DY, z->vp);
  deltas(w, d->delta);
}

/* Scores of a key plus the mask. */
static void add_mask(const Head *w, int64_t key, float *s) {
  float scale = (float)w->t->scale;
  const float *mask = mask_row(w, 0, key);
  int64_t m = w->z.m, step = w->t->step[2];
  if (mask && step)
    for (int64_t i = 0; i < m; i++) s[i] = s[i] * scale + mask[i * step];
  else {
    float all = mask ? *mask : 0;
#pragma omp simd
    for (int64_t i = 0; i < m; i++) s[i] = s[i] * scale + all;
  }
}

/* Rows r and r + 1 of S' and dP' become rows of P' and of dS', zeros up to mp, and a row of its pairs. */
static void gradients(const Desk *d, const Sizes *z, const float *lse, int64_t r) {
  const float *s = d->s + r * z->mp, *dp = d->dp + r * z->mp, *delta = d->delta;
  uint16_t *p = d->p + r * z->mp, *ds = d->ds + r * z->mp;
  uint32_t *pairs = d->DS + r / 2 * z->mp;
  int64_t ld = z->mp;
#pragma omp simd
  for (int64_t i = 0; i < z->m; i++) {
    float p0 = vh_exp(s[i] - lse[i]), p1 = vh_exp(s[ld + i] - lse[i]);
    uint16_t d0 = rounded(p0 * (dp[i] - delta[i])), d1 = rounded(p1 * (dp[ld + i] - delta[i]));
    p[i] = rounded(p0), p[ld + i] = rounded(p1);
    ds[i] = d0, ds[ld + i] = d1;
    pairs[i] = d0 | (uint32_t)d1 << 16;
  }
  for (int64_t i = z->m; i < ld; i++) p[i] = p[ld + i] = ds[i] = ds[ld + i] = 0;
}

/* Keys j to j + rows - 1: P', dS' and its pairs. */
static void score_block(const Head *w, const float *lse, int64_t j, int64_t rows) {
  const Sizes *z = &w->z;
  const Desk *d = &w->d;
  int64_t m = pare_tile_up(z->m, PARE_TILE), keys = pare_tile_up(rows, PARE_TILE);
  w->tiles->multiply(&(PareTileArgs){keys, m, z->qp, d->k + j * z->qp, d->QT, d->s, z->qp, z->mp, z->mp, false});
  w->tiles->multiply(&(PareTileArgs){keys, m, z->vp, d->v + j * z->vp, d->DYT, d->dp, z->vp, z->mp, z->mp, false});
  int64_t r = 0;
  for (; r < rows; r++) add_mask(w, j + r, d->s + r * z->mp);
  if (r % 2)
    for (int64_t i = 0; i < z->m; i++) d->s[r * z->mp + i] = -INFINITY; /* the other of the last pair: P = 0 */
  for (r = 0; r < rows; r += 2) gradients(d, z, lse, r);
  memset(d->DS + r / 2 * z->mp, 0, (size_t)((BLOCK - r) / 2 * z->mp) * sizeof *d->DS);
}

static void backward(const Head *w) {
  const PareAttention *t = w->t;
  const Sizes *z = &w->z;
  const Desk *d = &w->d;
  const float *lse = (const float *)w->a->in[PARE_LSE].data + (w->b * t->heads + w->h) * z->m;
  uint16_t *dk = result(w, 1, &t->k), *dv = result(w, 2, &t->v);
  prepare(w);
  for (int64_t j = 0; j < z->n; j += BLOCK) {
    int64_t rows = pare_min_i64(BLOCK, z->n - j), keys = pare_tile_up(rows, PARE_TILE);
    score_block(w, lse, j, rows);
    w->tiles->multiply(&(PareTileArgs){keys, pare_tile_up(z->v, PARE_TILE), z->mp, d->p, d->DY, d->y, z->mp, z->vp,
                                       z->vp, false});
    store(rows, z->v, d->y, z->vp, 1, dv + j * t->v.row, t->v.row);
    w->tiles->multiply(&(PareTileArgs){keys, pare_tile_up(z->qk, PARE_TILE), z->mp, d->ds, d->Q, d->dk, z->mp, z->qp,
                                       z->qp, false});
    store(rows, z->qk, d->dk, z->qp, (float)t->scale, dk + j * t->k.row, t->k.row);
    w->tiles->multiply(&(PareTileArgs){z->qp, pare_tile_up(z->m, PARE_TILE), BLOCK, d->kt + j, d->DS, d->dqt, z->np,
                                       z->mp, z->mp, j > 0});
  }
  store_turned(z->m, z->qk, d->dqt, z->mp, (float)t->scale, result(w, 0, &t->q), t->q.row);
}

static PareStatus all_heads(PareKernelArgs *a, bool back) {
  PareAttention t = PARE_CPU(attention_of)(a, back);
  Head shared = {.a = a, .t = &t, .tiles = PARE_CPU(tiles)(), .z = sizes_of(&t)};
  size_t each = desk_bytes(&shared.z, back);
  int threads = (int)pare_min_i64(omp_get_max_threads(), (int64_t)(a->workspace_bytes / each)); /* as planned */
#pragma omp parallel num_threads(threads)
  {
    Head w = shared;
    desk_of(&w.z, back, (uintptr_t)a->workspace + (size_t)omp_get_thread_num() * each, &w.d);
    w.tiles->open();
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < t.batches * t.heads; i++) {
      w.b = i / t.heads, w.h = i % t.heads;
      if (back) backward(&w);
      else forward(&w);
    }
    w.tiles->close();
  }
  return PARE_OK;
}

PareStatus PARE_CPU(attention_bf16)(PareKernelArgs *a) { return all_heads(a, false); }
PareStatus PARE_CPU(attention_grad_bf16)(PareKernelArgs *a) { return all_heads(a, true); }
