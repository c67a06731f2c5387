/* tile.c - the three products of tile.h. The plain one is the others' reference and serves processors without bf16. */
#define _DEFAULT_SOURCE /* syscall */
#include "kernels/cpu/tile.h"

#include <string.h>

/* --- plain: pairs widened, rows of a side by side --- */
typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(64), aligned(4), may_alias));

static void nothing(void) {}

/* ROWS rows of c, one vector. */
static void plain_block(const PareTileArgs *p, int64_t i, int64_t j) {
  enum { ROWS = 8 };
  Vec sum[ROWS] = {0};
  float *c = p->c + i * p->ldc + j;
  const uint16_t *a = p->a + i * p->lda;
  for (int r = 0; p->add && r < ROWS; r++) sum[r] = *(const Vec *)(c + r * p->ldc);
  for (int64_t t = 0; t < p->k / 2; t++) {
    Bits pair = *(const Bits *)(p->b + t * p->ldb + j);
    Vec even = (Vec)(pair << 16), odd = (Vec)(pair & 0xffff0000u);
    for (int r = 0; r < ROWS; r++) {
      const uint16_t *at = a + r * p->lda + 2 * t;
      sum[r] += pare_bf16_to_f32(at[0]) * even;
      sum[r] += pare_bf16_to_f32(at[1]) * odd;
    }
  }
  for (int r = 0; r < ROWS; r++) *(Vec *)(c + r * p->ldc) = sum[r];
}

static void plain_multiply(const PareTileArgs *p) {
  for (int64_t i = 0; i < p->m; i += 8)
    for (int64_t j = 0; j < p->n; j += PARE_TILE) plain_block(p, i, j);
}

static const PareTiles plain = {"plain", nothing, plain_multiply, nothing, false, NULL};

#if defined __AVX512BW__ && defined __x86_64__
#include <immintrin.h>

/* --- dot products of pairs --- */
#define DOT __attribute__((target("avx512bf16")))

/* 8 rows of c, one or two vectors of each. */
DOT static PARE_INLINE void dot_block(const PareTileArgs *p, int vectors, int64_t i, int64_t j) {
  enum { ROWS = 8 };
  __m512 sum[ROWS][2];
  float *c = p->c + i * p->ldc + j;
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < vectors; v++)
      sum[r][v] = p->add ? _mm512_loadu_ps(c + r * p->ldc + PARE_TILE * v) : _mm512_setzero_ps();
  const uint16_t *a = p->a + i * p->lda;
  for (int64_t t = 0; t < p->k; t += 2) {
    const uint32_t *b = p->b + t / 2 * p->ldb + j;
    __m512bh pair[2];
    for (int v = 0; v < vectors; v++) pair[v] = (__m512bh)_mm512_loadu_si512(b + PARE_TILE * v);
    for (int r = 0; r < ROWS; r++) {
      int32_t both;
      memcpy(&both, a + r * p->lda + t, sizeof both);
      __m512bh x = (__m512bh)_mm512_set1_epi32(both);
      for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, pair[v]);
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < vectors; v++) _mm512_storeu_ps(c + r * p->ldc + PARE_TILE * v, sum[r][v]);
}

DOT static void dot_multiply(const PareTileArgs *p) {
  for (int64_t i = 0; i < p->m; i += 8) {
    int64_t j = 0;
    for (; j + 2 * PARE_TILE <= p->n; j += 2 * PARE_TILE) dot_block(p, 2, i, j);
    if (j < p->n) dot_block(p, 1, i, j);
  }
}

static const PareTiles dot = {"avx512_bf16", nothing, dot_multiply, nothing, false, NULL};

/* --- AMX: tiles of 16 rows of 64 bytes: 0 to 3 hold two by two blocks of c, 4 and 5 rows of a, 6 and 7 pairs of b --- */
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-bf16")))

AMX static void amx_open(void) {
  static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&config);
}
AMX static void amx_close(void) { _tile_release(); }

/* c's block at (i, j), `down` by `across` tiles. */
AMX static PARE_INLINE void amx_block(const PareTileArgs *p, bool down, bool across, int64_t i, int64_t j) {
  float *c = p->c + i * p->ldc + j, *c1 = c + PARE_TILE * p->ldc;
  const uint16_t *a = p->a + i * p->lda;
  const uint32_t *b = p->b + j;
  int64_t sc = p->ldc * (int64_t)sizeof *c, sa = p->lda * (int64_t)sizeof *a, sb = p->ldb * (int64_t)sizeof *b;
  if (p->add) {
    _tile_loadd(0, c, sc);
    if (across) _tile_loadd(1, c + PARE_TILE, sc);
    if (down) _tile_loadd(2, c1, sc);
    if (down && across) _tile_loadd(3, c1 + PARE_TILE, sc);
  } else {
    _tile_zero(0);
    if (across) _tile_zero(1);
    if (down) _tile_zero(2);
    if (down && across) _tile_zero(3);
  }
  for (int64_t t = 0; t < p->k; t += PARE_TILE_DEPTH, a += PARE_TILE_DEPTH, b += PARE_TILE * p->ldb) {
    _tile_loadd(4, a, sa);
    _tile_loadd(6, b, sb);
    _tile_dpbf16ps(0, 4, 6);
    if (across) {
      _tile_loadd(7, b + PARE_TILE, sb);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (down) {
      _tile_loadd(5, a + PARE_TILE * p->lda, sa);
      _tile_dpbf16ps(2, 5, 6);
    }
    if (down && across) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, sc);
  if (across) _tile_stored(1, c + PARE_TILE, sc);
  if (down) _tile_stored(2, c1, sc);
  if (down && across) _tile_stored(3, c1 + PARE_TILE, sc);
}

AMX static PARE_INLINE void amx_rows(const PareTileArgs *p, bool down, int64_t i) {
  int64_t j = 0;
  for (; j + 2 * PARE_TILE <= p->n; j += 2 * PARE_TILE) amx_block(p, down, true, i, j);
  if (j < p->n) amx_block(p, down, false, i, j);
}

/* The compiler does not know that tiles are loaded from and stored to memory. */
#define FENCE __asm__ volatile("" ::: "memory")
AMX static void amx_multiply(const PareTileArgs *p) {
  int64_t i = 0;
  FENCE;
  for (; i + 2 * PARE_TILE <= p->m; i += 2 * PARE_TILE) amx_rows(p, true, i);
  if (i < p->m) amx_rows(p, false, i);
  FENCE;
}

/* Two by two tiles of c stay in 0 to 3; of a's parts p and b's parts q, both tiles are in 4 and 5, 6 and 7. From one
 * product to the next one of p and q changes. */
#define LOAD(one, two, from, next, part)                        \
  do {                                                          \
    _tile_loadd(one, (from) + (part) * PARE_PART, 64);          \
    _tile_loadd(two, (from) + (next) + (part) * PARE_PART, 64); \
  } while (0)
#define LOAD_A(part) LOAD(4, 5, a, p->next_a, part)
#define LOAD_B(part) LOAD(6, 7, b, p->next_b, part)
#define MULTIPLY             \
  do {                       \
    _tile_dpbf16ps(0, 4, 6); \
    _tile_dpbf16ps(1, 4, 7); \
    _tile_dpbf16ps(2, 5, 6); \
    _tile_dpbf16ps(3, 5, 7); \
  } while (0)
AMX static void amx_multiply_parts(const ParePartsArgs *p) {
  enum { HIGH, MIDDLE, LOW, STEP = PARE_PARTS_OF_F32 * PARE_PART };
  const uint16_t *a = p->a, *b = p->b;
  float *c = p->c, *c1 = c + PARE_TILE * p->ldc;
  int64_t next = p->ldc * (int64_t)sizeof *c;
  FENCE;
  if (p->add) {
    _tile_loadd(0, c, next);
    _tile_loadd(1, c + PARE_TILE, next);
    _tile_loadd(2, c1, next);
    _tile_loadd(3, c1 + PARE_TILE, next);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t t = 0; t < p->depth; t++, a += STEP, b += STEP) {
    LOAD_A(HIGH);
    LOAD_B(LOW);
    MULTIPLY;
    LOAD_B(MIDDLE);
    MULTIPLY;
    LOAD_A(MIDDLE);
    MULTIPLY;
    LOAD_B(HIGH);
    MULTIPLY;
    LOAD_A(LOW);
    MULTIPLY;
    LOAD_A(HIGH);
    MULTIPLY;
  }
  _tile_stored(0, c, next);
  _tile_stored(1, c + PARE_TILE, next);
  _tile_stored(2, c1, next);
  _tile_stored(3, c1 + PARE_TILE, next);
  FENCE;
}

static const PareTiles amx = {"amx", amx_open, amx_multiply, amx_close, true, amx_multiply_parts};

/* Linux keeps the tiles from a process until it asks (arch_prctl(2)), and refuses where there are none; asking again
 * costs nothing. Whatever has tiles multiplies bf16 in them. */
static bool amx_permitted(void) {
  enum { ARCH_REQ_XCOMP_PERM_ = 0x1023, XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_, XTILEDATA) == 0;
}
#endif

const PareTiles *PARE_CPU(tiles_at)(int i) {
  const PareTiles *all[3] = {&plain};
  int n = 1;
  if (__builtin_cpu_supports("avx512bf16")) all[n++] = &dot;
#ifdef __linux__
  if (n == 2 && amx_permitted()) all[n++] = &amx;
#endif
  return i < n ? all[i] : NULL;
}
#else
const PareTiles *PARE_CPU(tiles_at)(int i) { return i ? NULL : &plain; }
#endif

const PareTiles *PARE_CPU(tiles)(void) {
  int i = 2;
  while (!PARE_CPU(tiles_at)(i)) i--;
  return PARE_CPU(tiles_at)(i);
}

/* --- bringing operands into order --- */
void PARE_CPU(tile_pairs)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t width, uint32_t *out,
                          int64_t ldo) {
  int64_t up = pare_tile_up(rows, PARE_TILE_DEPTH);
  for (int64_t i = 0; i < up; i += 2, out += ldo) {
    const uint16_t *even = x + i * ldx, *odd = even + ldx;
    int64_t n = i < rows ? cols : 0;
    if (i + 1 < rows)
#pragma omp simd
      for (int64_t j = 0; j < n; j++) out[j] = even[j] | (uint32_t)odd[j] << 16;
    else
      for (int64_t j = 0; j < n; j++) out[j] = even[j];
    memset(out + n, 0, (size_t)(width - n) * sizeof *out);
  }
}

/* Swaps what stands off the diagonal in each square of 2·S by 2·S words, rows i and i + S. */
#define BELOW(S, c) ((c) & (S) ? 16 + (c) - (S) : (c))
#define ABOVE(S, c) ((c) & (S) ? 16 + (c) : (c) + (S))
#define EACH16(F, S) F(S, 0), F(S, 1), F(S, 2), F(S, 3), F(S, 4), F(S, 5), F(S, 6), F(S, 7), F(S, 8), F(S, 9), \
  F(S, 10), F(S, 11), F(S, 12), F(S, 13), F(S, 14), F(S, 15)
#define SWAP(S)                                                          \
  for (int i = 0; i < PARE_TILE; i++) {                                  \
    if (i & (S)) continue;                                               \
    Bits up = row[i], low = row[i + (S)];                                \
    row[i] = __builtin_shufflevector(up, low, EACH16(BELOW, S));         \
    row[i + (S)] = __builtin_shufflevector(up, low, EACH16(ABOVE, S));   \
  }

void PARE_CPU(tile_turn)(const void *x, int64_t ldx, void *out, int64_t ldo) {
  Bits row[PARE_TILE];
  for (int64_t i = 0; i < PARE_TILE; i++) row[i] = *(const Bits *)((const uint32_t *)x + i * ldx);
  SWAP(8) SWAP(4) SWAP(2) SWAP(1)
  for (int64_t i = 0; i < PARE_TILE; i++) *(Bits *)((uint32_t *)out + i * ldo) = row[i];
}

void PARE_CPU(tile_pairs_turned)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t width,
                                 uint32_t *out, int64_t ldo) {
  uint16_t square[PARE_TILE][2 * PARE_TILE];
  for (int64_t k = 0; k < pare_tile_up(cols, PARE_TILE_DEPTH); k += 2 * PARE_TILE)
    for (int64_t j = 0; j < width; j += PARE_TILE) {
      int64_t n = pare_min_i64(PARE_TILE, rows - j), halves = pare_min_i64(2 * PARE_TILE, cols - k);
      if (n < PARE_TILE || halves < 2 * PARE_TILE) memset(square, 0, sizeof square);
      for (int64_t r = 0; r < n; r++) memcpy(square[r], x + (j + r) * ldx + k, (size_t)halves * sizeof *x);
      PARE_CPU(tile_turn)(square, PARE_TILE, out + k / 2 * ldo + j, ldo);
    }
}

void PARE_CPU(tile_copy)(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t up, int64_t width,
                         uint16_t *out) {
  for (int64_t i = 0; i < up; i++, out += width) {
    int64_t n = i < rows ? cols : 0;
    memcpy(out, x + i * ldx, (size_t)n * sizeof *x);
    memset(out + n, 0, (size_t)(width - n) * sizeof *out);
  }
}

/* --- floats in parts --- */
static PARE_INLINE uint16_t next_part(float *rest) {
  uint16_t part = pare_f32_to_bf16(*rest);
  *rest -= pare_bf16_to_f32(part);
  return part;
}

void PARE_CPU(tile_parts)(int64_t rows, int64_t cols, const float *x, int64_t ldx, uint16_t *out) {
  bool whole = rows >= PARE_TILE && cols >= PARE_TILE_DEPTH;
  float padded[PARE_TILE][PARE_TILE_DEPTH];
  if (!whole) {
    memset(padded, 0, sizeof padded);
    for (int64_t i = 0; i < pare_min_i64(rows, PARE_TILE); i++)
      memcpy(padded[i], x + i * ldx, (size_t)pare_min_i64(cols, PARE_TILE_DEPTH) * sizeof *x);
    x = padded[0], ldx = PARE_TILE_DEPTH;
  }
  for (int64_t i = 0; i < PARE_TILE; i++, x += ldx, out += PARE_TILE_DEPTH)
#pragma omp simd
    for (int64_t j = 0; j < PARE_TILE_DEPTH; j++) {
      float rest = x[j];
      out[j] = next_part(&rest);
      out[PARE_PART + j] = next_part(&rest);
      out[2 * PARE_PART + j] = next_part(&rest);
    }
}

void PARE_CPU(tile_parts_pairs)(const float *x, uint16_t *out, int64_t next) {
  enum { ROW = 2 * PARE_TILE, WORDS = PARE_PART / 2 };
  for (int64_t t = 0; t < PARE_TILE / 2; t++, x += 2 * ROW)
    for (int64_t c = 0; c < 2; c++) {
      uint32_t *to = (uint32_t *)(void *)(out + c * next) + t * PARE_TILE;
      const float *even = x + c * PARE_TILE, *odd = even + ROW;
#pragma omp simd
      for (int64_t j = 0; j < PARE_TILE; j++) {
        float low = even[j], high = odd[j];
        for (int64_t p = 0; p < PARE_PARTS_OF_F32; p++) {
          uint32_t word = next_part(&low);
          to[p * WORDS + j] = word | (uint32_t)next_part(&high) << 16;
        }
      }
    }
}

void PARE_CPU(tile_parts_turned)(const float *x, uint16_t *out) {
  uint16_t part[PARE_PARTS_OF_F32 * PARE_PART];
  PARE_CPU(tile_parts)(PARE_TILE, PARE_TILE_DEPTH, x, PARE_TILE_DEPTH, part);
  for (int64_t p = 0; p < PARE_PARTS_OF_F32; p++)
    PARE_CPU(tile_turn)(part + p * PARE_PART, PARE_TILE, out + p * PARE_PART, PARE_TILE);
}
