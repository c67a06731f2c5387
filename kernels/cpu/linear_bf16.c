/* linear_bf16.c - Linear and dx of LinearGrad in bf16 whose sums are long, by small products (tile.h). The columns of
 * the result are shared out among the threads. A thread merges W' = m∘(W + s·A·B) a panel of columns at a time, straight
 * into pairs that stay in its cache, and multiplies all rows by it; meanwhile the next panel's weights come from memory,
 * so that the frozen f32 weights, more bytes than all else, are read at no cost. Of short sums oneDNN makes more. */
#include "kernels/cpu/linear_tile.h"

/* A panel is some strips of STRIP columns, [depth/2, STRIP] pairs each: as many as PANEL bytes hold, but never so few
 * that x is read all too often. BLOCK rows of x are multiplied at a time. */
enum { FEW = 4, PANEL = 100 << 10, BLOCK = 2 * PARE_TILE };

/* Rows of the tile in pairs: out [PARE_TILE / 2, STRIP]. */
static void put_rows(const float *tile, uint32_t *out) {
  for (int64_t t = 0; t < PARE_TILE / 2; t++, tile += 2 * STRIP, out += STRIP)
#pragma omp simd
    for (int64_t q = 0; q < STRIP; q++)
      out[q] = pare_f32_to_bf16(tile[q]) | (uint32_t)pare_f32_to_bf16(tile[STRIP + q]) << 16;
}

/* Columns of the tile in pairs: out [STRIP / 2, PARE_TILE], rows STRIP apart. */
static void put_columns(const float *tile, uint32_t *out) {
  uint16_t low[PARE_TILE * STRIP];
#pragma omp simd
  for (int64_t i = 0; i < PARE_TILE * STRIP; i++) low[i] = pare_f32_to_bf16(tile[i]);
  PARE_CPU(tile_turn)(low, STRIP / 2, out, STRIP);
}

/* Columns q0 to q0 + strips·STRIP - 1 of the product's W'. */
static void merge_panel(const Merge *g, int64_t q0, int64_t strips, uint32_t *panel) {
  float tile[PARE_TILE * STRIP];
  int64_t each = g->depth / 2 * STRIP;
  if (g->turned) {
    for (int64_t q = 0; q < strips * STRIP; q += PARE_TILE)
      for (int64_t p = 0; p < g->depth; p += STRIP) {
        ask_weights(g, q0 + q + PARE_TILE, p, PARE_TILE, STRIP);
        merge_tile(g, q0 + q, p, tile);
        put_columns(tile, panel + q / STRIP * each + p / 2 * STRIP + q % STRIP);
      }
    return;
  }
  for (int64_t p = 0; p < g->depth; p += PARE_TILE)
    for (int64_t s = 0; s < strips; s++) {
      ask_weights(g, p + PARE_TILE, q0 + s * STRIP, PARE_TILE, STRIP);
      merge_tile(g, p, q0 + s * STRIP, tile);
      put_rows(tile, panel + s * each + p / 2 * STRIP);
    }
}

/* Asks for part i of n of the weights that `width` columns, q0 and following, are made of. */
static void ask_part(const Merge *g, int64_t q0, int64_t width, int64_t i, int64_t n) {
  int64_t lo, hi;
  pare_part(g->turned ? width : g->of.rows, n, i, &lo, &hi);
  if (g->turned) ask_weights(g, q0 + lo, 0, hi - lo, g->of.cols);
  else ask_weights(g, lo, q0, hi - lo, width);
}

/* out [rows, cols] = c + bias, or c + add, whose rows are as far apart as out's and which may be out */
static void store(int64_t rows, int64_t cols, const float *c, const float *bias, const uint16_t *add, uint16_t *out,
                  int64_t ldo) {
  for (int64_t i = 0; i < rows; i++, c += STRIP, out += ldo)
    if (add) {
      const uint16_t *row = add + i * ldo;
#pragma omp simd
      for (int64_t j = 0; j < cols; j++) out[j] = pare_f32_to_bf16(c[j] + pare_bf16_to_f32(row[j]));
    } else if (bias)
#pragma omp simd
      for (int64_t j = 0; j < cols; j++) out[j] = pare_f32_to_bf16(c[j] + bias[j]);
    else
#pragma omp simd
      for (int64_t j = 0; j < cols; j++) out[j] = pare_f32_to_bf16(c[j]);
}

/* What a thread has. */
typedef struct Desk {
  uint32_t *panel; /* [strips, depth/2, STRIP] */
  float *c;        /* [BLOCK, STRIP] */
  uint16_t *copy;  /* [BLOCK, depth], of rows that do not fill whole tiles */
} Desk;

static int64_t strips_of(int64_t depth) { return pare_max_i64(FEW, PANEL / (depth * STRIP * (int64_t)sizeof(uint16_t))); }
static int64_t desk_words(int64_t depth) {
  return strips_of(depth) * depth / 2 * STRIP + BLOCK * STRIP + BLOCK * depth / 2;
}

bool PARE_CPU(linear_fits_bf16)(const PareLinear *l, bool backward) {
  enum { LONG = 2048 }; /* BERT-base: 3072; of 768 oneDNN makes 1.4 times as many a second, of 3072 half as many */
  return (backward ? l->n : l->k) >= LONG && PARE_CPU(tiles)()->wide;
}

size_t PARE_CPU(linear_bytes_bf16)(const PareLinear *l, bool backward) {
  int64_t depth = pare_tile_up(backward ? l->n : l->k, PARE_TILE_DEPTH);
  return (size_t)(factor_words(l) + omp_get_max_threads() * desk_words(depth)) * sizeof(float);
}

/* Columns q0 and following, `strips` strips of them, of all rows. */
static void multiply_panel(const Merge *g, const PareTiles *tiles, const Desk *d, int64_t m, const uint16_t *in,
                           const float *bias, const uint16_t *add, int64_t q0, int64_t strips, uint16_t *out) {
  merge_panel(g, q0, strips, d->panel);
  for (int64_t i = 0; i < m; i += BLOCK) {
    int64_t rows = pare_min_i64(BLOCK, m - i), up = pare_tile_up(rows, PARE_TILE);
    PareTileArgs t = {up, STRIP, g->depth, in + i * g->from, d->panel, d->c, g->from, STRIP, STRIP, false};
    if (up != rows || g->depth != g->from) {
      PARE_CPU(tile_copy)(rows, g->from, t.a, g->from, up, g->depth, d->copy);
      t.a = d->copy, t.lda = g->depth;
    }
    for (int64_t s = 0; s < strips; s++, t.b += g->depth / 2 * STRIP) {
      int64_t q = q0 + s * STRIP, cols = pare_min_i64(STRIP, g->to - q);
      uint16_t *y = out + i * g->to + q;
      ask(y, rows, cols * (int64_t)sizeof *y, g->to * (int64_t)sizeof *y, true);
      ask_part(g, q0 + strips * STRIP, strips * STRIP, i / BLOCK * strips + s, pare_ceil_div(m, BLOCK) * strips);
      tiles->multiply(&t);
      store(rows, cols, d->c, bias ? bias + q : NULL, add ? add + i * g->to + q : NULL, y, g->to);
    }
  }
}

void PARE_CPU(linear_bf16)(const PareLinear *l, bool backward, const uint16_t *in, const float *bias,
                           const uint16_t *add, void *work, size_t bytes, uint16_t *out) {
  float *left = work, *desks = left + factor_words(l);
  Merge g = merge_of(l, backward, left);
  int64_t strips = pare_ceil_div(g.to, STRIP), most = strips_of(g.depth), each = desk_words(g.depth);
  int64_t planned = ((int64_t)(bytes / sizeof *left) - factor_words(l)) / each;
  int64_t threads = pare_min_i64(strips, pare_min_i64(omp_get_max_threads(), planned));
  const PareTiles *tiles = PARE_CPU(tiles)();
#pragma omp parallel num_threads((int)threads) if (pare_threaded(g.from * g.to))
  {
    int64_t lo, hi, n = omp_get_num_threads();
    float *at = desks + omp_get_thread_num() * each;
    Desk d = {(uint32_t *)(void *)at, at + most * g.depth / 2 * STRIP, NULL};
    d.copy = (uint16_t *)(void *)(d.c + BLOCK * STRIP);
    pare_part(strips, n, omp_get_thread_num(), &lo, &hi);
    tiles->open();
    for (; lo < hi; lo += most)
      multiply_panel(&g, tiles, &d, l->m, in, bias, add, lo * STRIP, pare_min_i64(most, hi - lo), out);
    tiles->close();
  }
}
