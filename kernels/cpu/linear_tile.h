/* linear_tile.h - W' of a linear layer a tile at a time, for the products that merge it as they multiply: linear_bf16.c
 * and linear_parts.c. W comes from memory meanwhile: whoever multiplies asks for what is merged next. */
#ifndef PARE_KERNELS_CPU_LINEAR_TILE_H
#define PARE_KERNELS_CPU_LINEAR_TILE_H

#include <string.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/tile.h"

enum { STRIP = PARE_STRIP, LANES = 16, LINE = 64 };
_Static_assert(STRIP == 2 * PARE_TILE, "a strip is two tiles");

typedef float Vec_f32 __attribute__((vector_size(64), aligned(4), may_alias));
typedef float Loose_f32 __attribute__((vector_size(64), aligned(1), may_alias));

#define C float
#define FN(name) name##_f32
#define VEC(p) (*(Vec_f32 *)(uintptr_t)(p))
#define LOOSE(p) (*(const Loose_f32 *)(uintptr_t)(p))
#include "kernels/cpu/linear_merge.h"
#undef C
#undef FN
#undef VEC
#undef LOOSE

/* The product reads S as [from, to], or turned. */
typedef struct Merge {
  Merge_f32 of;
  int64_t from, to, depth; /* depth: from, in whole PARE_TILE_DEPTHs */
  bool turned;
} Merge;

/* Floats that left and right take. */
static inline int64_t factor_words(const PareLinear *l) { return pare_tile_up((l->k + l->n + STRIP) * l->r, LANES); }

/* The tile [PARE_TILE, STRIP] of S at (i, j), zeros beyond S. */
static inline void merge_tile(const Merge *g, int64_t i, int64_t j, float *tile) {
  Tile_f32 t = {i, j, pare_min_i64(PARE_TILE, g->of.rows - i), pare_min_i64(STRIP, g->of.cols - j), STRIP, tile};
  if (t.rows < PARE_TILE || t.cols < STRIP) memset(tile, 0, PARE_TILE * STRIP * sizeof *tile);
  if (t.rows > 0 && t.cols > 0) merge_tile_f32(&g->of, &t);
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
  const Merge_f32 *m = &g->of;
  rows = pare_min_i64(rows, m->rows - i), cols = pare_min_i64(cols, m->cols - j);
  if (rows > 0 && cols > 0) ask(m->w + i * m->cols + j, rows, cols * F, m->cols * F, false);
}

/* Of l and its product; factors: factor_words(l) of them, which are filled. */
static inline Merge merge_of(const PareLinear *l, bool backward, float *factors) {
  Merge g = {.of = merge_of_f32(l, STRIP, factors), .from = backward ? l->n : l->k, .to = backward ? l->k : l->n,
             .turned = backward != l->transposed};
  g.depth = pare_tile_up(g.from, PARE_TILE_DEPTH);
  return g;
}

#endif
