/* tile.h - products of small bf16 matrices that lie in the cache, sums in f32, by the best that the processor has:
 * AMX tiles, AVX-512's dot products of pairs, or plain vector code.
 *
 * b is in pairs, the order that all three read: word [t][j] of [k/2, n] holds b[2t][j] in its low half, b[2t+1][j] in
 * its high half. m and n are multiples of PARE_TILE, k is one of PARE_TILE_DEPTH: pad with zeros. */
#ifndef PARE_KERNELS_CPU_TILE_H
#define PARE_KERNELS_CPU_TILE_H

#include "kernels/cpu/cpu.h"

enum { PARE_TILE = 16, PARE_TILE_DEPTH = 32 };

typedef struct PareTileArgs {
  int64_t m, n, k;
  const uint16_t *a; /* [m, k], rows lda elements apart */
  const uint32_t *b; /* pairs, [k/2, n], rows ldb words apart */
  float *c;          /* [m, n], rows ldc apart */
  int64_t lda, ldb, ldc;
  bool add; /* c += a·b, else c = a·b */
} PareTileArgs;

typedef struct PareTiles {
  const char *name;
  void (*open)(void); /* a thread calls it before its first product and close after its last one */
  void (*multiply)(const PareTileArgs *p);
  void (*close)(void);
  bool wide; /* multiplies as much a cycle as oneDNN's best: large products gain by it too */
} PareTiles;

/* The i-th that this level and this machine have, the slowest first; NULL: no more. */
const PareTiles *PARE_CPU(tiles_at)(int i);
/* The best of them. */
const PareTiles *PARE_CPU(tiles)(void);

static inline int64_t pare_tile_up(int64_t n, int64_t unit) { return pare_ceil_div(n, unit) * unit; }

/* out [rows up to PARE_TILE_DEPTH / 2, ldo] = x [rows, cols] in pairs of its rows, zeros in words up to width. */
void PARE_CPU(tile_pairs)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t width, uint32_t *out,
                          int64_t ldo);
/* The same of x's transpose [cols, rows]: cols up to PARE_TILE_DEPTH. */
void PARE_CPU(tile_pairs_turned)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t width,
                                 uint32_t *out, int64_t ldo);
/* out [16, 16] = x', words of 4 bytes, rows ldx and ldo apart. */
void PARE_CPU(tile_turn)(const void *x, int64_t ldx, void *out, int64_t ldo);
/* out = x [rows, cols], padded with zeros to [up, width]. */
void PARE_CPU(tile_copy)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t up, int64_t width,
                         uint16_t *out);

#endif
