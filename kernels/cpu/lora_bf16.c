/* lora_bf16.c - the gradients of A and B from x and dy in bf16, by small products (tile.h). What is not bf16 by itself
 * (A, B and the products U = x·A, V = dy·B') goes in as the sum of two bf16 numbers, which keeps 16 bits of it: with
 * r = 8 the two halves just fill a tile. Sums are f32. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/tile.h"

#include <string.h>

/* Rows and columns of x that are worked on at a time; parts that the rows are cut into. */
enum { ROWS = 4 * PARE_TILE_DEPTH, COLS = 128, PARTS = 16, HALF = PARE_TILE / 2 };

typedef struct Lora {
  const PareTiles *tiles;
  int64_t m, r, both;        /* both: columns of the upper and, as many, of the lower halves */
  int64_t k, n, kp, np, parts; /* kp, np: in whole PARE_TILE_DEPTHs */
  double scale;
} Lora;

/* Of one part. */
typedef struct Scratch {
  uint16_t copy[ROWS * COLS];  /* of x, where it does not fill whole tiles */
  uint32_t pairs[ROWS / 2 * COLS];
} Scratch;

static Lora lora_of(const PareLinear *l) {
  Lora p = {.m = l->m, .r = l->r, .both = 2 * pare_tile_up(l->r, HALF), .k = l->k, .n = l->n, .scale = l->scale};
  p.kp = pare_tile_up(l->k, PARE_TILE_DEPTH), p.np = pare_tile_up(l->n, PARE_TILE_DEPTH);
  p.parts = pare_max_i64(1, pare_min_i64(PARTS, pare_ceil_div(l->m, ROWS)));
  return p;
}

/* Words of 4 bytes: of A and B as pairs, of a part's two sums, of its U and V as they come and as they go in. */
static int64_t factor_words(const Lora *p) { return (p->kp + p->np) / 2 * p->both; }
static int64_t sum_words(const Lora *p) { return (p->kp + p->np) * p->both; }
static int64_t side_words(const Lora *p) { return ROWS * p->both + ROWS * p->both / 2; }

size_t PARE_CPU(lora_bytes_bf16)(const PareLinear *l) {
  Lora p = lora_of(l);
  int64_t words = factor_words(&p) + p.parts * (sum_words(&p) + 2 * side_words(&p));
  return (size_t)words * sizeof(uint32_t) + (size_t)p.parts * sizeof(Scratch);
}

typedef struct Split {
  uint16_t upper, lower;
} Split;
static PARE_INLINE Split split(float v) {
  uint16_t upper = pare_f32_to_bf16(v);
  return (Split){upper, pare_f32_to_bf16(v - pare_bf16_to_f32(upper))};
}

/* out [up/2, both]: pairs of f [count, r], element (i, t) at f[i·along + t·across], times mask[i]. */
static void factor(const Lora *p, int64_t count, int64_t up, const float *f, int64_t along, int64_t across,
                   const float *mask, uint32_t *out) {
  memset(out, 0, (size_t)(up / 2 * p->both) * sizeof *out);
  for (int64_t i = 0; i < count; i++)
    for (int64_t t = 0; t < p->r; t++) {
      Split s = split(f[i * along + t * across] * (mask ? mask[i] : 1));
      uint32_t *at = out + i / 2 * p->both + t;
      at[0] |= (uint32_t)s.upper << i % 2 * 16;
      at[p->both / 2] |= (uint32_t)s.lower << i % 2 * 16;
    }
}

/* out [both, ROWS] = the halves of scale·x·f, turned; x [rows, cols], f in pairs. u: ROWS·both floats. */
static void project(const Lora *p, int64_t rows, int64_t cols, const uint16_t *x, const uint32_t *f, Scratch *s,
                    float *u, uint16_t *out) {
  int64_t m = pare_tile_up(rows, PARE_TILE), half = p->both / 2;
  for (int64_t j = 0; j < cols; j += COLS) {
    int64_t n = pare_min_i64(COLS, cols - j), depth = pare_tile_up(n, PARE_TILE_DEPTH);
    PareTileArgs t = {m, p->both, depth, x + j, f + j / 2 * p->both, u, cols, p->both, p->both, j > 0};
    if (m != rows || depth != n) {
      PARE_CPU(tile_copy)(rows, n, x + j, cols, m, depth, s->copy);
      t.a = s->copy, t.lda = depth;
    }
    p->tiles->multiply(&t);
  }
  for (int64_t t = 0; t < half; t++)
    for (int64_t i = 0; i < ROWS; i++) {
      Split v = split(i < rows ? (float)p->scale * (u[i * p->both + t] + u[i * p->both + half + t]) : 0);
      out[t * ROWS + i] = v.upper, out[(half + t) * ROWS + i] = v.lower;
    }
}

/* d [both, up] += v·x, v [both, ROWS], x [rows, cols] */
static void collect(const Lora *p, int64_t rows, int64_t cols, int64_t up, const uint16_t *x, const uint16_t *v,
                    Scratch *s, float *d) {
  int64_t depth = pare_tile_up(rows, PARE_TILE_DEPTH);
  for (int64_t j = 0; j < cols; j += COLS) {
    int64_t n = pare_min_i64(COLS, cols - j), width = pare_tile_up(n, PARE_TILE);
    PARE_CPU(tile_pairs)(rows, n, x + j, cols, width, s->pairs, COLS);
    p->tiles->multiply(&(PareTileArgs){p->both, width, depth, v, s->pairs, d + j, ROWS, COLS, up, true});
  }
}

/* The lower halves' sums [both/2, up] go to the upper ones'. */
static void join(const Lora *p, int64_t up, float *d) {
  int64_t n = p->both / 2 * up;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) d[i] += d[n + i];
}

/* One part's share: sums [both, kp] and [both, np], of which the upper half counts. */
static void part(const Lora *p, int64_t i, const uint16_t *x, const uint16_t *dy, const uint32_t *a, const uint32_t *b,
                 float *sums, float *sides, Scratch *s) {
  float *da = sums, *db = sums + p->both * p->kp, *u = sides, *v = sides + side_words(p);
  uint16_t *ut = (uint16_t *)(void *)(u + ROWS * p->both), *vt = (uint16_t *)(void *)(v + ROWS * p->both);
  int64_t lo, hi;
  pare_part(p->m, p->parts, i, &lo, &hi);
  memset(sums, 0, (size_t)sum_words(p) * sizeof *sums);
  for (; lo < hi; lo += ROWS) {
    int64_t rows = pare_min_i64(ROWS, hi - lo);
    project(p, rows, p->k, x + lo * p->k, a, s, u, ut);
    project(p, rows, p->n, dy + lo * p->n, b, s, v, vt);
    collect(p, rows, p->k, p->kp, x + lo * p->k, vt, s, da);
    collect(p, rows, p->n, p->np, dy + lo * p->n, ut, s, db);
  }
  join(p, p->kp, da);
  join(p, p->np, db);
}

/* Element j of row t over all parts, in their order. */
static PARE_INLINE float total(const Lora *p, const float *sums, int64_t at) {
  float v = 0;
  for (int64_t i = 0; i < p->parts; i++) v += sums[i * sum_words(p) + at];
  return v;
}

void PARE_CPU(lora_grad_bf16)(const PareLinear *l, const uint16_t *x, const uint16_t *dy, void *work, float *dA,
                              float *dB) {
  Lora lora = lora_of(l), *p = &lora;
  p->tiles = PARE_CPU(tiles)();
  const float *mask = l->mask ? l->mask->data : NULL;
  uint32_t *a = work, *b = a + p->kp / 2 * p->both;
  float *sums = (float *)(void *)(a + factor_words(p)), *sides = sums + p->parts * sum_words(p);
  Scratch *s = (Scratch *)(void *)(sides + p->parts * 2 * side_words(p));
  factor(p, p->k, p->kp, l->a->data, p->r, 1, mask, a);
  factor(p, p->n, p->np, l->b->data, 1, p->n, NULL, b);
#pragma omp parallel if (pare_threaded(p->m * (p->k + p->n)))
  {
    p->tiles->open();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p->parts; i++)
      part(p, i, x, dy, a, b, sums + i * sum_words(p), sides + i * 2 * side_words(p), s + i);
    p->tiles->close();
#pragma omp for schedule(static) nowait
    for (int64_t k = 0; k < (dA ? p->k : 0); k++)
      for (int64_t t = 0; t < p->r; t++)
        dA[k * p->r + t] = total(p, sums, t * p->kp + k) * (mask ? mask[k] : 1);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < (dB ? p->n : 0); n++)
      for (int64_t t = 0; t < p->r; t++) dB[t * p->n + n] = total(p, sums, p->both * p->kp + t * p->np + n);
  }
}
