/* linear_merge.h - W' = m∘(W + s·A·B) of a linear layer, tile by tile, for the products that merge it as they multiply:
 * linear_bf16.c and linear_parts.c. W comes from memory meanwhile: whoever multiplies asks for what is merged next. */
#ifndef PARE_KERNELS_CPU_LINEAR_MERGE_H
#define PARE_KERNELS_CPU_LINEAR_MERGE_H

#include <string.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/tile.h"

enum { STRIP = 2 * PARE_TILE, LANES = 16, LINE = 64 };

typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef float Loose __attribute__((vector_size(64), aligned(1), may_alias));

/* S[rows, cols] is W as it is stored; the product reads it as [from, to], or turned. W' = W + left·right, times a factor
 * for each row or column of S. */
typedef struct Merge {
  int64_t rows, cols, r, from, to, depth; /* depth: from, in whole PARE_TILE_DEPTHs */
  const float *w, *left, *right, *row_mask, *col_mask; /* w may lie at any address */
  bool turned;
} Merge;

/* Floats that left and right take. */
static inline int64_t factor_words(const PareLinear *l) { return pare_tile_up((l->k + l->n + STRIP) * l->r, LANES); }

/* left [rows, r] and, in strips [r, STRIP], right; the scale goes with left. */
static inline void factor(const PareLinear *l, float *left, float *right) {
  const float *a = l->a->data, *b = l->b->data;
  float s = (float)l->scale;
  for (int64_t t = 0; t < l->r; t++) {
    for (int64_t i = 0; i < l->k; i++)
      if (l->transposed) right[(i / STRIP * l->r + t) * STRIP + i % STRIP] = a[i * l->r + t];
      else left[i * l->r + t] = s * a[i * l->r + t];
    for (int64_t i = 0; i < l->n; i++)
      if (l->transposed) left[i * l->r + t] = s * b[t * l->n + i];
      else right[(i / STRIP * l->r + t) * STRIP + i % STRIP] = b[t * l->n + i];
  }
}

/* Half a tile, [8, STRIP] of S at (i, j), of which nothing lies beyond S. */
static inline void merge_half(const Merge *g, int64_t i, int64_t j, float *tile) {
  enum { ROWS = PARE_TILE / 2 };
  Vec sum[ROWS][2], col[2] = {(Vec){0} + 1, (Vec){0} + 1};
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < 2; v++) sum[r][v] = *(const Loose *)(uintptr_t)(g->w + (i + r) * g->cols + j + v * LANES);
  const float *left = g->left + i * g->r, *right = g->right + j * g->r;
  for (int64_t t = 0; t < g->r; t++, right += STRIP) {
    Vec b0 = *(const Vec *)right, b1 = *(const Vec *)(right + LANES);
    for (int r = 0; r < ROWS; r++) {
      float a = left[r * g->r + t];
      sum[r][0] += a * b0, sum[r][1] += a * b1;
    }
  }
  for (int v = 0; g->col_mask && v < 2; v++) col[v] = *(const Vec *)(g->col_mask + j + v * LANES);
  for (int r = 0; r < ROWS; r++) {
    float scale = g->row_mask ? g->row_mask[i + r] : 1;
    for (int v = 0; v < 2; v++) *(Vec *)(tile + r * STRIP + v * LANES) = sum[r][v] * col[v] * scale;
  }
}

/* The tile [PARE_TILE, STRIP] of S at (i, j), zeros beyond S. */
static inline void merge_tile(const Merge *g, int64_t i, int64_t j, float *tile) {
  if (i + PARE_TILE <= g->rows && j + STRIP <= g->cols) {
    merge_half(g, i, j, tile);
    merge_half(g, i + PARE_TILE / 2, j, tile + PARE_TILE / 2 * STRIP);
    return;
  }
  for (int64_t at = 0; at < PARE_TILE * STRIP; at++) {
    int64_t r = i + at / STRIP, c = j + at % STRIP;
    float sum = 0;
    if (r < g->rows && c < g->cols) {
      memcpy(&sum, g->w + r * g->cols + c, sizeof sum);
      for (int64_t t = 0; t < g->r; t++)
        sum += g->left[r * g->r + t] * g->right[(c / STRIP * g->r + t) * STRIP + c % STRIP];
      sum *= (g->row_mask ? g->row_mask[r] : 1) * (g->col_mask ? g->col_mask[c] : 1);
    }
    tile[at] = sum;
  }
}

/* Asks for [rows, bytes] at p, `next` apart, which will be read, or written. */
static PARE_INLINE void ask(const void *p, int64_t rows, int64_t bytes, int64_t next, bool written) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t at = 0; at < bytes; at += LINE) {
      const char *line = (const char *)p + i * next + at;
      if (written) __builtin_prefetch(line, 1, 3);
      else __builtin_prefetch(line, 0, 2);
    }
}
/* The weights of S [rows, cols] at (i, j), as far as they are there. */
static inline void ask_weights(const Merge *g, int64_t i, int64_t j, int64_t rows, int64_t cols) {
  enum { F = sizeof(float) };
  rows = pare_min_i64(rows, g->rows - i), cols = pare_min_i64(cols, g->cols - j);
  if (rows > 0 && cols > 0) ask(g->w + i * g->cols + j, rows, cols * F, g->cols * F, false);
}

/* g of l and its product; factors: factor_words(l) of them, which are filled. */
static inline Merge merge_of(const PareLinear *l, bool backward, float *factors) {
  const float *mask = l->mask ? l->mask->data : NULL;
  Merge g = {.rows = l->transposed ? l->n : l->k, .cols = l->transposed ? l->k : l->n, .r = l->r, .w = l->w->data,
             .from = backward ? l->n : l->k, .to = backward ? l->k : l->n, .turned = backward != l->transposed,
             .row_mask = l->transposed ? NULL : mask, .col_mask = l->transposed ? mask : NULL, .left = factors};
  g.right = factors + g.rows * g.r;
  g.depth = pare_tile_up(g.from, PARE_TILE_DEPTH);
  if (l->r) factor(l, factors, factors + g.rows * g.r);
  return g;
}

#endif
