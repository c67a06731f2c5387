/* test_tile.c - the small products against plain sums in double, at every level and by every unit that this machine
 * has. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "kernels/cpu/tile.h"
#include "tests/unit/support.h"

typedef const PareTiles *AtFn(int i);
typedef void PairsFn(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t width, uint32_t *out,
                     int64_t ldo);
typedef void PartsFn(int64_t rows, int64_t cols, const float *x, int64_t ldx, uint16_t *out);
typedef void PartsPairsFn(const float *x, uint16_t *out, int64_t next);
typedef void PartsTurnedFn(const float *x, uint16_t *out);
typedef struct Level {
  const char *name;
  AtFn *at;
  PairsFn *pairs, *turned;
  PartsFn *parts;
  PartsPairsFn *parts_pairs;
  PartsTurnedFn *parts_turned;
} Level;
#define LEVEL(l) {#l, pare_cpu_##l##_tiles_at, pare_cpu_##l##_tile_pairs, pare_cpu_##l##_tile_pairs_turned, \
                  pare_cpu_##l##_tile_parts, pare_cpu_##l##_tile_parts_pairs, pare_cpu_##l##_tile_parts_turned}
AtFn pare_cpu_v3_tiles_at, pare_cpu_v4_tiles_at;
PartsFn pare_cpu_v3_tile_parts, pare_cpu_v4_tile_parts;
PartsPairsFn pare_cpu_v3_tile_parts_pairs, pare_cpu_v4_tile_parts_pairs;
PartsTurnedFn pare_cpu_v3_tile_parts_turned, pare_cpu_v4_tile_parts_turned;
PairsFn pare_cpu_v3_tile_pairs, pare_cpu_v3_tile_pairs_turned, pare_cpu_v4_tile_pairs, pare_cpu_v4_tile_pairs_turned;
extern const PareKernel pare_cpu_generic_table[PARE_OP_COUNT];
#ifdef __x86_64__
extern const PareKernel pare_cpu_v3_table[PARE_OP_COUNT];
#endif

/* The i-th that this machine can run, or NULL. */
static const Level *level(int i) {
  static const Level all[] = {LEVEL(generic),
#ifdef __x86_64__
                              LEVEL(v3), LEVEL(v4)
#endif
  };
  int n = 1;
#ifdef __x86_64__
  const PareKernel *best = pare_cpu_kernels();
  n = best == pare_cpu_generic_table ? 1 : best == pare_cpu_v3_table ? 2 : 3;
#endif
  return i < n ? &all[i] : NULL;
}

static void *room(int64_t count, size_t size) {
  void *p = calloc((size_t)count, size);
  cr_assert(p != NULL);
  return p;
}

/* Random bf16 in [rows, cols], the rows ld apart. */
static uint16_t *filled(int64_t rows, int64_t ld, uint64_t key) {
  uint16_t *x = room(rows * ld, sizeof *x);
  for (int64_t i = 0; i < rows * ld; i++)
    x[i] = pare_f32_to_bf16((float)(2 * pare_rng_uniform(key, (uint64_t)i) - 1));
  return x;
}
static double value(uint16_t v) { return (double)pare_bf16_to_f32(v); }

/* Products of bf16 are exact in f32: what errs are the sums, by (k + 1) roundings of 2^-24 of the sum of magnitudes,
 * and flushed subnormals, which are nothing here. */
static void check(const Level *l, const PareTiles *t, int64_t m, int64_t n, int64_t k, bool add) {
  int64_t lda = k + 6, ldb = n + 3, ldc = n + 5;
  uint16_t *a = filled(m, lda, 1), *b = filled(k, n, 2);
  uint32_t *pairs = room(k / 2 * ldb, sizeof *pairs);
  float *c = room(m * ldc, sizeof *c);
  for (int64_t i = 0; i < m * ldc; i++) c[i] = 7;
  l->pairs(k, n, b, n, n, pairs, ldb);
  t->open();
  t->multiply(&(PareTileArgs){m, n, k, a, pairs, c, lda, ldb, ldc, add});
  t->close();
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < ldc; j++) {
      double want = j < n && !add ? 0 : 7, size = want;
      for (int64_t s = 0; j < n && s < k; s++) {
        double v = value(a[i * lda + s]) * value(b[s * n + j]);
        want += v, size += fabs(v);
      }
      double got = (double)c[i * ldc + j];
      cr_assert(fabs(got - want) <= (double)(k + 1) * 0x1p-24 * size,
                "%s, %s, [%" PRId64 ", %" PRId64 ", %" PRId64 "] at %" PRId64 ", %" PRId64 ": got %.9g, want %.9g",
                l->name, t->name, m, n, k, i, j, got, want);
    }
  free(a), free(b), free(pairs), free(c);
}

Test(tile, every_unit_multiplies) {
  static const int64_t sizes[][3] = {{16, 16, 32}, {32, 32, 32}, {48, 80, 96}, {16, 64, 128}, {64, 16, 224}};
  for (int l = 0; level(l); l++)
    for (int i = 0; level(l)->at(i); i++) {
      cr_log_info("level %s: %s", level(l)->name, level(l)->at(i)->name);
      for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int add = 0; add < 2; add++)
          check(level(l), level(l)->at(i), sizes[k][0], sizes[k][1], sizes[k][2], add);
    }
}

static uint32_t pair_of(const uint16_t *x, int64_t ld, int64_t rows, int64_t cols, int64_t r, int64_t c, bool turned) {
  uint32_t low = r < rows && c < cols ? x[r * ld + c] : 0;
  if (turned) c++;
  else r++;
  return low | (r < rows && c < cols ? (uint32_t)x[r * ld + c] << 16 : 0);
}

Test(tile, operands_come_into_pairs_with_zeros_around_them) {
  enum { LD = 131 };
  static const int64_t sizes[][2] = {{1, 1}, {5, 7}, {32, 64}, {33, 31}, {64, 130}, {18, 96}};
  uint16_t *x = filled(64, LD, 3);
  for (int l = 0; level(l); l++)
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
      for (int turned = 0; turned < 2; turned++) {
        int64_t rows = sizes[k][0], cols = sizes[k][1], depth = turned ? cols : rows, across = turned ? rows : cols;
        int64_t up = pare_tile_up(depth, PARE_TILE_DEPTH), width = pare_tile_up(across, PARE_TILE), ld = width + 1;
        uint32_t *out = room(up / 2 * ld, sizeof *out);
        memset(out, 0x55, (size_t)(up / 2 * ld) * sizeof *out);
        (turned ? level(l)->turned : level(l)->pairs)(rows, cols, x, LD, width, out, ld);
        for (int64_t t = 0; t < up / 2; t++)
          for (int64_t j = 0; j < ld; j++) {
            uint32_t got = out[t * ld + j], want = 0x55555555u;
            if (j < width) want = pair_of(x, LD, rows, cols, turned ? j : 2 * t, turned ? 2 * t : j, turned);
            cr_assert_eq(got, want, "%s, [%" PRId64 ", %" PRId64 "]%s, pair %" PRId64 " of %" PRId64 ": %08x, not %08x",
                         level(l)->name, rows, cols, turned ? " turned" : "", t, j, got, want);
          }
        free(out);
      }
  free(x);
}

/* --- floats in parts --- */

static float *floats(int64_t n, uint64_t key) {
  float *x = room(n, sizeof *x);
  for (int64_t i = 0; i < n; i++) /* magnitudes from 2^-20 to 2^20 */
    x[i] = (float)ldexp(2 * pare_rng_uniform(key, (uint64_t)i) - 1,
                        (int)(pare_rng_uniform(key + 1, (uint64_t)i) * 41) - 20);
  return x;
}

static double whole(const uint16_t *part, int64_t at) {
  double sum = 0;
  for (int p = PARE_PARTS_OF_F32 - 1; p >= 0; p--) sum += value(part[p * PARE_PART + at]);
  return sum;
}

Test(tile, a_float_is_the_sum_of_its_parts_in_every_order) {
  enum { D = PARE_TILE_DEPTH };
  float *x = floats(PARE_TILE * D, 3);
  uint16_t *out = room(4 * PARE_PARTS_OF_F32 * PARE_PART, sizeof *out);
  for (int i = 0; level(i); i++) {
    const Level *l = level(i);
    l->parts(PARE_TILE, D, x, D, out);
    for (int64_t at = 0; at < PARE_TILE * D; at++)
      cr_assert_eq(whole(out, at), (double)x[at], "%s: %.9g, not %.9g", l->name, whole(out, at), (double)x[at]);
    l->parts(5, 7, x, D, out);
    for (int64_t at = 0; at < PARE_TILE * D; at++) {
      double want = at / D < 5 && at % D < 7 ? (double)x[at] : 0;
      cr_assert_eq(whole(out, at), want, "%s, padded: %.9g, not %.9g", l->name, whole(out, at), want);
    }
    l->parts_turned(x, out); /* [pair][column] of two */
    for (int64_t r = 0; r < PARE_TILE; r++)
      for (int64_t k = 0; k < D; k++)
        cr_assert_eq(whole(out, (k / 2 * PARE_TILE + r) * 2 + k % 2), (double)x[r * D + k], "%s, turned", l->name);
    int64_t next = PARE_PARTS_OF_F32 * PARE_PART;
    l->parts_pairs(x, out, next); /* [pair of rows][column] of two, columns 16 and up a tile further on */
    for (int64_t k = 0; k < PARE_TILE; k++)
      for (int64_t j = 0; j < D; j++)
        cr_assert_eq(whole(out + j / PARE_TILE * next, (k / 2 * PARE_TILE + j % PARE_TILE) * 2 + k % 2),
                     (double)x[k * D + j], "%s, in pairs", l->name);
  }
  free(x), free(out);
}

/* c [32, 32] from or on top of 7, of rows in [-1, 1), against sums in double and against a sum of floats, one after
 * another: greatest error of each. */
static double parts_error(const Level *l, const PareTiles *t, int64_t depth, bool add, double *loop) {
  enum { BLOCK = 2 * PARE_TILE };
  int64_t k = depth * PARE_TILE_DEPTH, next = depth * PARE_PARTS_OF_F32 * PARE_PART;
  float *a = room(BLOCK * k, sizeof *a), *b = room(BLOCK * k, sizeof *b), *c = room(BLOCK * (BLOCK + 3), sizeof *c);
  uint16_t *pa = room(2 * next, sizeof *pa), *pb = room(2 * next, sizeof *pb);
  double err = 0;
  *loop = 0;
  for (int64_t i = 0; i < BLOCK * k; i++) {
    a[i] = (float)(2 * pare_rng_uniform(5, (uint64_t)i) - 1);
    b[i] = (float)(2 * pare_rng_uniform(6, (uint64_t)i) - 1);
  }
  for (int64_t i = 0; i < BLOCK * (BLOCK + 3); i++) c[i] = 7;
  for (int64_t i = 0; i < 2; i++)
    for (int64_t s = 0; s < depth; s++) {
      int64_t from = i * PARE_TILE * k + s * PARE_TILE_DEPTH, to = i * next + s * PARE_PARTS_OF_F32 * PARE_PART;
      float square[PARE_TILE * PARE_TILE_DEPTH];
      l->parts(PARE_TILE, PARE_TILE_DEPTH, a + from, k, pa + to);
      for (int64_t r = 0; r < PARE_TILE; r++)
        memcpy(square + r * PARE_TILE_DEPTH, b + from + r * k, PARE_TILE_DEPTH * sizeof *b);
      l->parts_turned(square, pb + to);
    }
  t->open();
  t->multiply_parts(&(ParePartsArgs){depth, pa, pb, next, next, c, BLOCK + 3, add});
  t->close();
  for (int64_t i = 0; i < BLOCK; i++)
    for (int64_t j = 0; j < BLOCK; j++) {
      double want = add ? 7 : 0;
      float sum = (float)want;
      for (int64_t s = 0; s < k; s++) {
        want += (double)a[i * k + s] * (double)b[j * k + s];
        sum += a[i * k + s] * b[j * k + s];
      }
      err = fmax(err, fabs((double)c[i * (BLOCK + 3) + j] - want)), *loop = fmax(*loop, fabs((double)sum - want));
    }
  for (int64_t i = 0; i < BLOCK; i++) cr_assert_eq(c[i * (BLOCK + 3) + BLOCK], 7, "wrote beyond a row");
  free(a), free(b), free(c), free(pa), free(pb);
  return err;
}

Test(tile, products_of_parts_are_as_exact_as_those_of_floats) {
  int tried = 0;
  for (int i = 0; level(i); i++) {
    for (int k = 0; level(i)->at(k); k++) {
      const PareTiles *t = level(i)->at(k);
      for (int64_t depth = 2; t->multiply_parts && depth <= 48; depth *= 2) {
        double loop, err = parts_error(level(i), t, depth, depth % 4 == 0, &loop);
        tried++;
        cr_expect(err <= loop, "%s, %s, sums of %" PRId64 ": %.3g away, a sum of floats %.3g", level(i)->name, t->name,
                  depth * PARE_TILE_DEPTH, err, loop);
      }
    }
  }
  if (!tried) skip("no unit of this machine multiplies floats in parts");
}
