/* linear_parts.c - Linear and dx of LinearGrad in f32 as products of bf16 parts (tile.h), where a processor has tiles
 * for those: AVX-512 makes two thirds as many products of floats a second. x is taken apart first, by all threads. Then
 * the columns of the result are shared out among them; a thread merges and takes apart W' = m∘(W + s·A·B), a panel of
 * some columns and a part of the sum at a time, which stays in its cache while all rows are multiplied by it. */
#include "kernels/cpu/linear_tile.h"

/* A panel is STRIPS strips of STRIP columns, CHUNK deep: 576 KB. BLOCK rows are multiplied at a time. */
enum { STRIPS = 4, CHUNK = 768, BLOCK = 2 * PARE_TILE, STEP = PARE_PARTS_OF_F32 * PARE_PART };

/* A product, and where x lies taken apart: tiles of 16 rows, `next` elements each. */
typedef struct Product {
  Merge merge;
  const PareTiles *tiles;
  int64_t m, next;
  uint16_t *x;
  const float *bias, *add; /* one at most */
  float *out;
} Product;

/* Columns q0 to q0 + strips·STRIP - 1, of the sum p0 to p0 + depth - 1. */
typedef struct Panel {
  int64_t q0, strips, p0, depth;
  uint16_t *parts; /* [2·strips tiles of columns][depth / PARE_TILE_DEPTH] */
} Panel;

static int64_t tile_next(int64_t depth) { return depth / PARE_TILE_DEPTH * STEP; }
static int64_t chunk_of(int64_t depth) { return pare_min_i64(depth, CHUNK); }
static int64_t panel_words(int64_t depth) { return STRIPS * 2 * tile_next(chunk_of(depth)) / 2; }
static int64_t x_words(int64_t m, int64_t depth) { return pare_tile_up(m, BLOCK) / PARE_TILE * tile_next(depth) / 2; }

bool PARE_CPU(linear_fits_parts)(const PareLinear *l) {
  enum { FEWEST = 64 }; /* less is padding, or is gone before it is worth taking apart */
  return PARE_CPU(tiles)()->multiply_parts && l->m >= FEWEST && l->k >= FEWEST && l->n >= FEWEST;
}

size_t PARE_CPU(linear_bytes_parts)(const PareLinear *l, bool backward) {
  int64_t depth = pare_tile_up(backward ? l->n : l->k, PARE_TILE_DEPTH);
  return (size_t)(factor_words(l) + x_words(l->m, depth) + omp_get_max_threads() * panel_words(depth)) * sizeof(float);
}

/* Tile i of x's rows. */
static void take_apart(const Product *p, const float *in, int64_t i) {
  const Merge *g = &p->merge;
  for (int64_t k = 0; k < g->depth; k += PARE_TILE_DEPTH)
    PARE_CPU(tile_parts)(pare_max_i64(p->m - i * PARE_TILE, 0), g->from - k, in + i * PARE_TILE * g->from + k, g->from,
                         p->x + i * p->next + k / PARE_TILE_DEPTH * STEP);
}

static void merge_panel(const Merge *g, const Panel *panel) {
  float tile[PARE_TILE * STRIP];
  int64_t next = tile_next(panel->depth);
  if (g->turned) {
    for (int64_t q = 0; q < panel->strips * STRIP; q += PARE_TILE)
      for (int64_t p = 0; p < panel->depth; p += STRIP) {
        merge_tile(g, panel->q0 + q, panel->p0 + p, tile);
        PARE_CPU(tile_parts_turned)(tile, panel->parts + q / PARE_TILE * next + p / PARE_TILE_DEPTH * STEP);
      }
    return;
  }
  for (int64_t p = 0; p < panel->depth; p += PARE_TILE)
    for (int64_t s = 0; s < panel->strips; s++) {
      merge_tile(g, panel->p0 + p, panel->q0 + s * STRIP, tile);
      uint16_t *to = panel->parts + 2 * s * next + p / PARE_TILE_DEPTH * STEP + p % PARE_TILE_DEPTH / 2 * 2 * PARE_TILE;
      PARE_CPU(tile_parts_pairs)(tile, to, next);
    }
}

/* Asks for part i of n of the weights that panel `at` is made of. */
static void ask_panel(const Merge *g, const Panel *at, int64_t i, int64_t n) {
  int64_t lo, hi, width = at->strips * STRIP;
  pare_part(g->turned ? width : at->depth, n, i, &lo, &hi);
  if (g->turned) ask_weights(g, at->q0 + lo, at->p0, hi - lo, at->depth);
  else ask_weights(g, at->p0 + lo, at->q0, hi - lo, width);
}

/* What a block [rows, cols] at (i, q) begins with, to c. */
static void begin_block(const Product *p, int64_t i, int64_t q, int64_t rows, int64_t cols, float *c, int64_t ldc) {
  for (int64_t r = 0; r < rows; r++) {
    const float *from = p->bias ? p->bias + q : p->add + (i + r) * p->merge.to + q;
    if (from != c + r * ldc) memcpy(c + r * ldc, from, (size_t)cols * sizeof *c);
  }
}

/* Rows i and following, strip s of the panel. */
static void multiply_block(const Product *p, const Panel *panel, int64_t i, int64_t s) {
  const Merge *g = &p->merge;
  float edge[BLOCK * STRIP] = {0};
  int64_t q = panel->q0 + s * STRIP, rows = pare_min_i64(BLOCK, p->m - i), cols = pare_min_i64(STRIP, g->to - q);
  int64_t next = tile_next(panel->depth);
  bool whole = rows == BLOCK && cols == STRIP, first = !panel->p0, add = !first || p->bias || p->add;
  float *out = p->out + i * g->to + q, *c = whole ? out : edge;
  const uint16_t *x = p->x + i / PARE_TILE * p->next + panel->p0 / PARE_TILE_DEPTH * STEP;
  ParePartsArgs t = {panel->depth / PARE_TILE_DEPTH, x, panel->parts + 2 * s * next, p->next, next, c,
                     whole ? g->to : STRIP, add};
  if (first && add) begin_block(p, i, q, rows, cols, c, t.ldc);
  for (int64_t r = 0; !first && !whole && r < rows; r++)
    memcpy(c + r * STRIP, out + r * g->to, (size_t)cols * sizeof *c);
  p->tiles->multiply_parts(&t);
  for (int64_t r = 0; !whole && r < rows; r++) memcpy(out + r * g->to, c + r * STRIP, (size_t)cols * sizeof *c);
}

static void multiply_panel(const Product *p, const Panel *panel, const Panel *next) {
  int64_t blocks = pare_ceil_div(p->m, BLOCK);
  merge_panel(&p->merge, panel);
  for (int64_t i = 0; i < blocks; i++)
    for (int64_t s = 0; s < panel->strips; s++) {
      ask_panel(&p->merge, next, i * panel->strips + s, blocks * panel->strips);
      multiply_block(p, panel, i * BLOCK, s);
    }
}

/* Strips lo to hi - 1, a panel after the other. */
static void multiply_strips(const Product *p, int64_t lo, int64_t hi, uint16_t *parts) {
  const Merge *g = &p->merge;
  Panel panel = {lo * STRIP, pare_min_i64(STRIPS, hi - lo), 0, chunk_of(g->depth), parts};
  while (lo < hi) {
    Panel next = panel;
    next.p0 += panel.depth;
    if (next.p0 == g->depth) {
      lo += STRIPS;
      next.p0 = 0, next.q0 = lo * STRIP, next.strips = pare_min_i64(STRIPS, hi - lo);
    }
    next.depth = chunk_of(g->depth - next.p0);
    if (lo >= hi) next.strips = 0;
    multiply_panel(p, &panel, &next);
    panel = next;
  }
}

void PARE_CPU(linear_parts)(const PareLinear *l, bool backward, const float *in, const float *bias, const float *add,
                            void *work, size_t bytes, float *out) {
  Merge g = merge_of(l, backward, work);
  uint16_t *x = (uint16_t *)(void *)((float *)work + factor_words(l)), *panels = x + 2 * x_words(l->m, g.depth);
  Product p = {g, PARE_CPU(tiles)(), l->m, tile_next(g.depth), x, bias, add, out};
  int64_t strips = pare_ceil_div(g.to, STRIP), tiles = pare_tile_up(l->m, BLOCK) / PARE_TILE;
  int64_t each = panel_words(g.depth);
  int64_t planned = ((int64_t)(bytes / sizeof(float)) - factor_words(l) - x_words(l->m, g.depth)) / each;
  int64_t threads = pare_min_i64(strips, pare_min_i64(omp_get_max_threads(), planned));
#pragma omp parallel num_threads((int)threads) if (pare_threaded(g.from * g.to))
  {
    int64_t lo, hi;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tiles; i++) take_apart(&p, in, i);
    pare_part(strips, omp_get_num_threads(), omp_get_thread_num(), &lo, &hi);
    p.tiles->open();
    multiply_strips(&p, lo, hi, panels + 2 * omp_get_thread_num() * each);
    p.tiles->close();
  }
}
