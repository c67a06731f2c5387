/* test_tile.c - the small products against plain sums in double, at every level and by every unit that this machine
 * has. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/rng.h"
#include "kernels/cpu/tile.h"

typedef const PareTiles *AtFn(int i);
typedef void PairsFn(int64_t rows, int64_t cols, const uint16_t *x, int64_t ldx, int64_t width, uint32_t *out,
                     int64_t ldo);
typedef struct Level {
  const char *name;
  AtFn *at;
  PairsFn *pairs, *turned;
} Level;
#define LEVEL(l) {#l, pare_cpu_##l##_tiles_at, pare_cpu_##l##_tile_pairs, pare_cpu_##l##_tile_pairs_turned}
AtFn pare_cpu_v3_tiles_at, pare_cpu_v4_tiles_at;
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
