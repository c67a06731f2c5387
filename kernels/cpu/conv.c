/* conv.c - Conv in one to three spatial axes and its gradient by x: image by image and group by group, the patches
 * are laid out as a matrix (im2col) in the workspace and multiplied; the gradient's product is laid back. */
#include "kernels/cpu/cpu.h"
#include "kernels/window.h"

#ifndef T
enum { SPACE = PARE_SPACE };

/* x[n, c, in] * w[m, c/groups, k] -> y[n, m, out] */
typedef struct Conv {
  PareWindow w;
  int64_t n, c, m, groups, rows, cols; /* patches: [rows = c/groups · k, cols = out] */
} Conv;

static bool conv_of(const PareAttrs *attr, const PareType *x, const PareType *w, const PareType *y, Conv *c) {
  *c = (Conv){.n = x->dim[0], .c = x->dim[1], .m = w->dim[0], .groups = pare_attr_get(attr, group, 1)};
  if (!pare_window_of(x, w->dim + 2, y, attr, &c->w)) return false;
  c->rows = w->dim[1] * pare_places(c->w.k);
  c->cols = pare_places(c->w.out);
  return true;
}

#define PARE_TEMPLATE "kernels/cpu/conv.c"
#include "kernels/cpu/floats.h"

/* The patches; for bf16 also w and one group's y (and x, in the gradient) as f32. */
static PareStatus plan(PareKernelArgs *a, const PareType *x, const PareType *w, const PareType *y, bool back) {
  Conv c;
  if (!conv_of(a->attr, x, w, y, &c)) return a->why = pare_too_much_space, PARE_UNSUPPORTED;
  bool wide = x->dtype == PARE_F64, extra = x->dtype == PARE_BF16;
  int64_t own = c.m * c.rows + c.m / c.groups * c.cols + (back ? c.c / c.groups * pare_places(c.w.in) : 0);
  size_t patches, total, size = wide ? sizeof(double) : sizeof(float);
  if (!pare_mul_size((size_t)c.rows, (size_t)c.cols, &patches) ||
      !pare_add_size(patches, extra ? (size_t)own : 0, &total) || !pare_mul_size(total, size, &a->workspace_bytes))
    return a->why = "the patches of one image do not fit in memory", PARE_NOMEM;
  return PARE_OK;
}

PareStatus PARE_CPU(plan_CONV)(PareKernelArgs *a) {
  return plan(a, &a->in[0].type, &a->in[1].type, &a->out[0].type, false);
}
PARE_FLOAT_KERNEL(CONV, conv)

/* dy, w, like x -> dx */
PareStatus PARE_CPU(plan_CONVGRAD)(PareKernelArgs *a) {
  return plan(a, &a->out[0].type, &a->in[1].type, &a->in[0].type, true);
}
PARE_FLOAT_KERNEL(CONVGRAD, conv_grad)

#else /* the template */
/* One row of patches: channel plane x, kernel position k, all output positions. */
static void FN(patch_row)(const Conv *c, const T *x, const int64_t k[SPACE], C *row) {
  int64_t step = c->w.stride[2], from = k[2] * c->w.dilation[2] - c->w.pad[2]; /* x position of output 0 */
  /* outputs lo..hi-1 read inside of the image */
  int64_t lo = pare_min_i64(c->w.out[2], from < 0 ? pare_ceil_div(-from, step) : 0);
  int64_t hi = pare_max_i64(lo, pare_min_i64(c->w.out[2], from < c->w.in[2] ? (c->w.in[2] - from - 1) / step + 1 : 0));
  for (int64_t z = 0; z < c->w.out[0]; z++)
    for (int64_t y = 0; y < c->w.out[1]; y++, row += c->w.out[2]) {
      int64_t iz = z * c->w.stride[0] - c->w.pad[0] + k[0] * c->w.dilation[0];
      int64_t iy = y * c->w.stride[1] - c->w.pad[1] + k[1] * c->w.dilation[1];
      bool inside = iz >= 0 && iz < c->w.in[0] && iy >= 0 && iy < c->w.in[1];
      int64_t l = inside ? lo : c->w.out[2], h = inside ? hi : c->w.out[2];
      for (int64_t i = 0; i < l; i++) row[i] = 0;
      for (int64_t i = l, at = (iz * c->w.in[1] + iy) * c->w.in[2] + from; i < h; i++) row[i] = LOAD(x[at + i * step]);
      for (int64_t i = h; i < c->w.out[2]; i++) row[i] = 0;
    }
}

/* x: the group's first channel. */
static void FN(patches)(const Conv *c, const T *x, C *col) {
  int64_t taps = pare_places(c->w.k), plane = pare_places(c->w.in);
#pragma omp parallel for schedule(static) if (pare_threaded(c->rows * c->cols))
  for (int64_t r = 0; r < c->rows; r++) {
    int64_t t = r % taps, k[SPACE] = {t / (c->w.k[1] * c->w.k[2]), t / c->w.k[2] % c->w.k[1], t % c->w.k[2]};
    FN(patch_row)(c, x + r / taps * plane, k, col + r * c->cols);
  }
}

static PareStatus FN(conv)(PareKernelArgs *a) {
  Conv c;
  conv_of(a->attr, &a->in[0].type, &a->in[1].type, &a->out[0].type, &c);
  int64_t plane = pare_places(c.w.in), m = c.m / c.groups;
  bool narrow = sizeof(T) != sizeof(C); /* bf16 works on f32 copies */
  C *col = a->workspace, *wide = col + c.rows * c.cols, *sums = wide + c.m * c.rows;
  for (int64_t i = 0; narrow && i < c.m * c.rows; i++) wide[i] = LOAD(((const T *)a->in[1].data)[i]);
  const C *w = narrow ? wide : a->in[1].data;
  for (int64_t i = 0; i < c.n * c.groups; i++) { /* image and group */
    int64_t g = i % c.groups;
    T *y = (T *)a->out[0].data + i * m * c.cols;
    C *out = narrow ? sums : (void *)y;
    FN(patches)(&c, (const T *)a->in[0].data + i * (c.c / c.groups) * plane, col);
    for (int64_t r = 0; r < m; r++) {
      C bias = pare_given(a, 2) ? LOAD(((const T *)a->in[2].data)[g * m + r]) : 0;
      for (int64_t j = 0; j < c.cols; j++) out[r * c.cols + j] = bias;
    }
    PARE_TRY(GEMM(false, false, m, c.cols, c.rows, 1, w + g * m * c.rows, c.rows, col, c.cols, 1, out, c.cols));
    for (int64_t j = 0; narrow && j < m * c.cols; j++) y[j] = STORE(out[j]);
  }
  return PARE_OK;
}

/* Adds one row of patches to the places of plane x that it was read from. */
static void FN(add_row)(const Conv *c, const C *row, const int64_t k[SPACE], C *x) {
  int64_t step = c->w.stride[2], from = k[2] * c->w.dilation[2] - c->w.pad[2];
  for (int64_t z = 0; z < c->w.out[0]; z++)
    for (int64_t y = 0; y < c->w.out[1]; y++, row += c->w.out[2]) {
      int64_t iz = z * c->w.stride[0] - c->w.pad[0] + k[0] * c->w.dilation[0];
      int64_t iy = y * c->w.stride[1] - c->w.pad[1] + k[1] * c->w.dilation[1];
      if (iz < 0 || iz >= c->w.in[0] || iy < 0 || iy >= c->w.in[1]) continue;
      C *to = x + (iz * c->w.in[1] + iy) * c->w.in[2] + from;
      for (int64_t i = 0; i < c->w.out[2]; i++)
        if (from + i * step >= 0 && from + i * step < c->w.in[2]) to[i * step] += row[i];
    }
}

/* All rows of a group; a channel's planes are one thread's. */
static void FN(add_patches)(const Conv *c, const C *col, C *x) {
  int64_t taps = pare_places(c->w.k), plane = pare_places(c->w.in);
#pragma omp parallel for schedule(static) if (pare_threaded(c->rows * c->cols))
  for (int64_t channel = 0; channel < c->c / c->groups; channel++) {
    for (int64_t i = 0; i < plane; i++) x[channel * plane + i] = 0;
    for (int64_t t = 0; t < taps; t++) {
      int64_t k[SPACE] = {t / (c->w.k[1] * c->w.k[2]), t / c->w.k[2] % c->w.k[1], t % c->w.k[2]};
      FN(add_row)(c, col + (channel * taps + t) * c->cols, k, x + channel * plane);
    }
  }
}

/* The patches' gradient is wᵀ[rows, m]·dy[m, cols]. */
static PareStatus FN(conv_grad)(PareKernelArgs *a) {
  Conv c;
  conv_of(a->attr, &a->out[0].type, &a->in[1].type, &a->in[0].type, &c);
  int64_t plane = pare_places(c.w.in), m = c.m / c.groups, channels = c.c / c.groups;
  bool narrow = sizeof(T) != sizeof(C); /* bf16 works on f32 copies */
  C *col = a->workspace, *wide = col + c.rows * c.cols, *wide_dy = wide + c.m * c.rows, *sums = wide_dy + m * c.cols;
  for (int64_t i = 0; narrow && i < c.m * c.rows; i++) wide[i] = LOAD(((const T *)a->in[1].data)[i]);
  const C *w = narrow ? wide : a->in[1].data;
  for (int64_t i = 0; i < c.n * c.groups; i++) { /* image and group */
    const T *dy = (const T *)a->in[0].data + i * m * c.cols;
    T *dx = (T *)a->out[0].data + i * channels * plane;
    for (int64_t j = 0; narrow && j < m * c.cols; j++) wide_dy[j] = LOAD(dy[j]);
    PARE_TRY(GEMM(true, false, c.rows, c.cols, m, 1, w + i % c.groups * m * c.rows, c.rows,
                  narrow ? wide_dy : (const void *)dy, c.cols, 0, col, c.cols));
    FN(add_patches)(&c, col, narrow ? sums : (void *)dx);
    for (int64_t j = 0; narrow && j < channels * plane; j++) dx[j] = STORE(sums[j]);
  }
  return PARE_OK;
}
#endif
