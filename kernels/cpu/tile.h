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

/* A float is the sum of three bf16, of which each is the rest of what went before, rounded: all 24 bits, but for what
 * is below bf16's smallest normal number. A product of two sums is nine products; the six that matter are made, the others
 * are 2^-24 of it at most, with either sign: as exact as products in f32, at six times the cost of one in bf16.
 * An operand lies in tiles of parts, 16 rows (columns) by PARE_TILE_DEPTH each: [tile][depth / PARE_TILE_DEPTH]
 * [PARE_PARTS_OF_F32][16][32], b's in pairs [16][16 words]. */
enum { PARE_PARTS_OF_F32 = 3, PARE_PART = PARE_TILE * PARE_TILE_DEPTH };

typedef struct ParePartsArgs {
  int64_t depth;            /* PARE_TILE_DEPTHs that are summed over */
  const uint16_t *a, *b;    /* two tiles of rows, two of columns */
  int64_t next_a, next_b;   /* elements from the first of them to the second */
  float *c;                 /* [32, 32], rows ldc apart */
  int64_t ldc;
  bool add;
} ParePartsArgs;

typedef struct PareTiles {
  const char *name;
  void (*open)(void); /* a thread calls it before its first product and close after its last one */
  void (*multiply)(const PareTileArgs *p);
  void (*close)(void);
  bool wide; /* multiplies as much a cycle as oneDNN's best: large products gain by it too */
  void (*multiply_parts)(const ParePartsArgs *p); /* NULL: products in f32 are faster */
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
/* The tile [rows, cols] of x, padded with zeros, in parts: out [PARE_PARTS_OF_F32][16][32]. */
void PARE_CPU(tile_parts)(int64_t rows, int64_t cols, const float *x, int64_t ldx, uint16_t *out);
/* The same of x [16, 32], whose rows are the sum's: pairs of them, half of a tile, for two tiles of columns, `next`
 * elements apart. */
void PARE_CPU(tile_parts_pairs)(const float *x, uint16_t *out, int64_t next);
/* The same of x [16, 32], whose rows are columns: a whole tile of pairs. */
void PARE_CPU(tile_parts_turned)(const float *x, uint16_t *out);
/* out = x [rows, cols], padded with zeros to [up, width]. */
void PARE_CPU(tile_copy)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t up, int64_t width,
                         uint16_t *out);

#endif
