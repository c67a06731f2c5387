/* place.c - Tile, Pad, Trilu, EyeLike, DepthToSpace, SpaceToDepth and Size: elements in
 * other places, and what is put where there are none. Told apart by size alone. */
#include "kernels/cpu/cpu.h"

/* --- Tile --- */

/* Output row r, its last axis left out, as the same row of x. */
static int64_t tile_row(const PareType *x, const PareType *y, int64_t r) {
  int64_t off = 0;
  for (int i = y->rank - 2; i >= 0; i--) {
    off += r % y->dim[i] % x->dim[i] * pare_span(x, i + 1, x->rank);
    r /= y->dim[i];
  }
  return off;
}

PareStatus PARE_CPU(TILE)(PareKernelArgs *a) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  int64_t total = pare_count(&a->out[0]), wide = y->rank ? y->dim[y->rank - 1] : 1;
  size_t size = pare_esize(&a->in[0]), run = (size_t)(x->rank ? x->dim[x->rank - 1] : 1) * size;
  if (!total) return PARE_OK;
#pragma omp parallel for schedule(static) if (pare_threaded(total))
  for (int64_t r = 0; r < total / wide; r++) {
    const char *from = (const char *)a->in[0].data + (size_t)tile_row(x, y, r) * size;
    char *to = (char *)a->out[0].data + (size_t)(r * wide) * size;
    for (size_t at = 0; at < (size_t)wide * size; at += run) memcpy(to + at, from, run);
  }
  return PARE_OK;
}

/* --- Pad --- */
/* The place in an axis of n elements that the padded place i - before shows, or -1: the value. */
static int64_t shown(int mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  switch (mode) {
  case PARE_MODE_EDGE: return i < 0 ? 0 : n - 1;
  case PARE_MODE_WRAP: return (i % n + n) % n;
  case PARE_MODE_REFLECT: return i < 0 ? -i : 2 * (n - 1) - i;
  default: return -1;
  }
}

/* before[] by axis. Fails where the data ask for another extent than the types say. */
static PareStatus pads_of(PareKernelArgs *a, int64_t before[PARE_MAX_RANK]) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  int64_t naxes = pare_count(&a->in[1]) / 2, after[PARE_MAX_RANK] = {0};
  for (int i = 0; i < x->rank; i++) before[i] = 0;
  for (int64_t i = 0; i < naxes; i++) {
    int64_t axis = pare_given(a, 3) ? pare_get_int(&a->in[3], i) : i;
    if (axis < -x->rank || axis >= x->rank) return pare_bad(a, "axis is out of range");
    before[pare_axis(axis, x->rank)] = pare_get_int(&a->in[1], i);
    after[pare_axis(axis, x->rank)] = pare_get_int(&a->in[1], naxes + i);
  }
  for (int i = 0; i < x->rank; i++)
    if (before[i] + after[i] != y->dim[i] - x->dim[i]) return pare_bad(a, "the pads do not give the planned shape");
  return PARE_OK;
}

/* The row of x that output row r shows, or -1. */
static int64_t pad_row(const PareKernelArgs *a, const int64_t *before, int64_t r) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  int64_t off = 0;
  for (int i = y->rank - 2; i >= 0; i--) {
    int64_t at = shown(a->attr->mode, r % y->dim[i] - before[i], x->dim[i]);
    if (at < 0) return -1;
    off += at * pare_span(x, i + 1, x->rank);
    r /= y->dim[i];
  }
  return off;
}

/* A row and what is put where it shows nothing. */
typedef struct PadRow {
  int mode;
  size_t size;
  int64_t n, before; /* of x's row */
  const char *from;  /* NULL: all is value */
  const char *value;
} PadRow;

static void pad_places(const PadRow *p, char *to, int64_t lo, int64_t hi) {
  for (int64_t j = lo; j < hi; j++) {
    int64_t at = p->from ? shown(p->mode, j - p->before, p->n) : -1;
    memcpy(to + (size_t)j * p->size, at < 0 ? p->value : p->from + at * (int64_t)p->size, p->size);
  }
}

PareStatus PARE_CPU(PAD)(PareKernelArgs *a) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  int64_t before[PARE_MAX_RANK], total = pare_count(&a->out[0]);
  size_t size = pare_esize(&a->in[0]);
  char value[8] = {0};
  PARE_TRY(pads_of(a, before));
  if (pare_given(a, 2)) PARE_CPU(cast_run)(1, a->in[2].type.dtype, a->in[2].data, x->dtype, value);
  int64_t wide = y->rank ? y->dim[y->rank - 1] : 1, n = x->rank ? x->dim[x->rank - 1] : 1;
  int64_t left = y->rank ? before[y->rank - 1] : 0;
  /* lo..hi-1 shows x in one piece */
  int64_t lo = pare_min_i64(wide, pare_max_i64(0, left)), hi = pare_max_i64(lo, pare_min_i64(wide, left + n));
  if (!total) return PARE_OK;
#pragma omp parallel for schedule(static) if (pare_threaded(total))
  for (int64_t r = 0; r < total / wide; r++) {
    int64_t row = pad_row(a, before, r);
    char *to = (char *)a->out[0].data + (size_t)(r * wide) * size;
    PadRow p = {a->attr->mode, size, n, left, row < 0 ? NULL : (const char *)a->in[0].data + (size_t)row * size, value};
    pad_places(&p, to, 0, p.from ? lo : wide);
    if (!p.from) continue;
    if (hi > lo) memcpy(to + (size_t)lo * size, p.from + (lo - left) * (int64_t)size, (size_t)(hi - lo) * size);
    pad_places(&p, to, hi, wide);
  }
  return PARE_OK;
}

/* --- Trilu: column j of row i stays where j - i >= k (upper) or <= k --- */
PareStatus PARE_CPU(TRILU)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t cols = t->dim[t->rank - 1], rows = t->dim[t->rank - 2], total = pare_count(&a->in[0]);
  int64_t k = pare_given(a, 1) ? pare_get_int(&a->in[1], 0) : 0;
  bool upper = pare_attr_get(a->attr, upper, 1) != 0;
  size_t size = pare_esize(&a->in[0]);
  k = pare_min_i64(pare_max_i64(k, -rows - 1), cols + 1); /* as far, and sums cannot overflow */
  if (!total) return PARE_OK;
#pragma omp parallel for schedule(static) if (pare_threaded(total))
  for (int64_t r = 0; r < total / cols; r++) {
    int64_t edge = pare_min_i64(cols, pare_max_i64(0, r % rows + k + (upper ? 0 : 1)));
    int64_t lo = upper ? edge : 0, hi = upper ? cols : edge;
    char *to = (char *)a->out[0].data + (size_t)(r * cols) * size;
    memset(to, 0, (size_t)cols * size);
    memcpy(to + (size_t)lo * size, (const char *)a->in[0].data + (size_t)(r * cols + lo) * size, (size_t)(hi - lo) * size);
  }
  return PARE_OK;
}

/* Ones on diagonal k. */
PareStatus PARE_CPU(EYELIKE)(PareKernelArgs *a) {
  const PareType *t = &a->out[0].type;
  size_t size = pare_esize(&a->out[0]);
  int64_t k = a->attr->k, rows = t->dim[0], cols = t->dim[1], one = 1;
  char *y = a->out[0].data;
  if (rows * cols > 0) memset(y, 0, (size_t)(rows * cols) * size);
  k = pare_min_i64(pare_max_i64(k, -rows - 1), cols + 1);
  for (int64_t i = 0; i < rows; i++)
    if (i + k >= 0 && i + k < cols)
      PARE_CPU(cast_run)(1, PARE_I64, &one, t->dtype, y + (size_t)(i * cols + i + k) * size);
  return PARE_OK;
}

/* --- blocks of b·b pixels that become channels, and back --- */

/* For every pixel of the large image[n, c, h·b, w·b] its place in the small one[n, c·b·b, h, w]. */
static int64_t small_place(const PareType *small, int64_t channels, int64_t b, bool depth_first, int64_t n, int64_t c,
                           int64_t y, int64_t x) {
  int64_t in = y % b * b + x % b, at = depth_first ? in * channels + c : c * b * b + in;
  return ((n * small->dim[1] + at) * small->dim[2] + y / b) * small->dim[3] + x / b;
}

static void move_blocks(PareKernelArgs *a, const PareType *large, const PareType *small, bool depth_first, bool to_space) {
  int64_t b = a->attr->blocksize, rows = large->dim[0] * large->dim[1] * large->dim[2], wide = large->dim[3];
  size_t size = pare_esize(&a->in[0]);
#pragma omp parallel for schedule(static) if (pare_threaded(rows * wide))
  for (int64_t r = 0; r < rows; r++)
    for (int64_t x = 0; x < wide; x++) {
      int64_t y = r % large->dim[2], c = r / large->dim[2] % large->dim[1], n = r / large->dim[2] / large->dim[1];
      int64_t s = small_place(small, large->dim[1], b, depth_first, n, c, y, x), l = r * wide + x;
      memcpy((char *)a->out[0].data + (size_t)(to_space ? l : s) * size,
             (const char *)a->in[0].data + (size_t)(to_space ? s : l) * size, size);
    }
}

PareStatus PARE_CPU(DEPTHTOSPACE)(PareKernelArgs *a) {
  move_blocks(a, &a->out[0].type, &a->in[0].type, pare_depth_first(a->attr), true);
  return PARE_OK;
}
PareStatus PARE_CPU(SPACETODEPTH)(PareKernelArgs *a) {
  move_blocks(a, &a->in[0].type, &a->out[0].type, pare_depth_first(a->attr), false);
  return PARE_OK;
}

PareStatus PARE_CPU(SIZE)(PareKernelArgs *a) {
  *(int64_t *)a->out[0].data = pare_count(&a->in[0]);
  return PARE_OK;
}
