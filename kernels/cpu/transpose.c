/* transpose.c - Transpose. Axes that stay neighbours are merged; what is left
 * either keeps its innermost axis (heads out of and into rows: runs are copied)
 * or swaps it with another (tiles that fit the cache). */
#include "kernels/cpu/cpu.h"

enum { TILE = 32 };

/* In the order of the output's axes. */
typedef struct Order {
  int rank;
  int64_t dim[PARE_MAX_RANK], from[PARE_MAX_RANK], to[PARE_MAX_RANK]; /* strides in x and in y */
} Order;

static Order order_of(const PareKernelArgs *a) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  const PareInts *perm = &a->attr->perm;
  Order o = {0};
  for (int i = 0; i < x->rank; i++) {
    int k = perm->n ? pare_axis(perm->at[i], x->rank) : x->rank - 1 - i;
    int64_t stride = pare_span(x, k + 1, x->rank);
    if (x->dim[k] == 1) continue;
    if (o.rank && o.from[o.rank - 1] == stride * x->dim[k]) o.dim[o.rank - 1] *= x->dim[k];
    else o.dim[o.rank++] = x->dim[k];
    o.from[o.rank - 1] = stride;
    o.to[o.rank - 1] = pare_span(y, i + 1, y->rank);
  }
  return o;
}

/* Takes axis `i` out of the order. */
static void order_drop(Order *o, int i) {
  o->rank--;
  for (; i < o->rank; i++) o->dim[i] = o->dim[i + 1], o->from[i] = o->from[i + 1], o->to[i] = o->to[i + 1];
}

static void order_at(const Order *o, int64_t i, int64_t *from, int64_t *to) {
  *from = *to = 0;
  for (int k = o->rank - 1; k >= 0; k--) {
    *from += i % o->dim[k] * o->from[k];
    *to += i % o->dim[k] * o->to[k];
    i /= o->dim[k];
  }
}

/* to[j·to_row + i] = from[i·from_row + j] for i < rows, j < cols. */
#define PARE_TILE(NAME, E)                                                                                    \
  static void NAME(int64_t rows, int64_t cols, void *to, int64_t to_row, const void *from, int64_t from_row) { \
    for (int64_t j = 0; j < cols; j++)                                                                         \
      for (int64_t i = 0; i < rows; i++) ((E *)to)[j * to_row + i] = ((const E *)from)[i * from_row + j];      \
  }
PARE_TILE(tile_1, uint8_t)
PARE_TILE(tile_2, uint16_t)
PARE_TILE(tile_4, uint32_t)
PARE_TILE(tile_8, uint64_t)

static void copy_runs(const Order *o, int64_t total, size_t run, size_t size, char *y, const char *x) {
  int64_t n = total * (int64_t)size / (int64_t)run;
#pragma omp parallel for schedule(static) if (pare_threaded(total))
  for (int64_t i = 0; i < n; i++) {
    int64_t from, to;
    order_at(o, i, &from, &to);
    memcpy(y + (size_t)to * size, x + (size_t)from * size, run);
  }
}

/* x's innermost axis is y's axis `last`; y's innermost axis is rows of x. */
static void swap_tiles(Order o, int last, int64_t total, size_t size, char *y, const char *x) {
  int64_t rows = o.dim[o.rank - 1], from_row = o.from[o.rank - 1], cols = o.dim[last], to_row = o.to[last];
  order_drop(&o, o.rank - 1);
  order_drop(&o, last);
  int64_t outer = total / rows / cols, high = pare_ceil_div(rows, TILE), wide = pare_ceil_div(cols, TILE);
#pragma omp parallel for collapse(3) schedule(static) if (pare_threaded(total))
  for (int64_t k = 0; k < outer; k++)
    for (int64_t c = 0; c < wide; c++)
      for (int64_t r = 0; r < high; r++) {
        int64_t from, to;
        order_at(&o, k, &from, &to);
        from += r * TILE * from_row + c * TILE, to += c * TILE * to_row + r * TILE;
        int64_t m = pare_min_i64(TILE, rows - r * TILE), n = pare_min_i64(TILE, cols - c * TILE);
        void *p = y + (size_t)to * size;
        const void *q = x + (size_t)from * size;
        if (size == 4) tile_4(m, n, p, to_row, q, from_row);
        else if (size == 2) tile_2(m, n, p, to_row, q, from_row);
        else if (size == 8) tile_8(m, n, p, to_row, q, from_row);
        else tile_1(m, n, p, to_row, q, from_row);
      }
}

PareStatus PARE_CPU(TRANSPOSE)(PareKernelArgs *a) {
  Order o = order_of(a);
  int64_t total = pare_count(&a->out[0]);
  size_t size = pare_esize(&a->in[0]);
  char *y = a->out[0].data;
  const char *x = a->in[0].data;
  if (!total) return PARE_OK;
  int last = 0; /* the axis that is innermost in x */
  while (last < o.rank && o.from[last] != 1) last++;
  if (o.rank <= 1) memcpy(y, x, (size_t)total * size);
  else if (last == o.rank - 1) {
    size_t run = (size_t)o.dim[last] * size;
    order_drop(&o, last);
    copy_runs(&o, total, run, size, y, x);
  } else swap_tiles(o, last, total, size, y, x);
  return PARE_OK;
}
