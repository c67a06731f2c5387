/* conv.c - Conv in one to three spatial axes: image by image and group by group,
 * the patches are laid out as a matrix (im2col) in the workspace and multiplied. */
#include "kernels/cpu/cpu.h"

#ifndef T
enum { SPACE = 3 };

/* x[n, c, in] * w[m, c/groups, k] -> y[n, m, out]; fewer spatial axes have ones in front. */
typedef struct Conv {
  int64_t n, c, m, groups, rows, cols; /* patches: [rows = c/groups · k, cols = out] */
  int64_t in[SPACE], k[SPACE], out[SPACE], stride[SPACE], dilation[SPACE], pad[SPACE];
} Conv;

/* Padding before the axis: explicit, or half of what SAME needs. */
static int64_t pad_before(const PareAttrs *attr, const Conv *c, int axis, int i) {
  int mode = attr->auto_pad; /* NOTSET SAME_UPPER SAME_LOWER VALID */
  if (mode == 0) return attr->pads.n ? attr->pads.at[axis] : 0;
  if (mode == 3) return 0;
  int64_t need = (c->out[i] - 1) * c->stride[i] + (c->k[i] - 1) * c->dilation[i] + 1 - c->in[i];
  need = pare_max_i64(need, 0);
  return mode == 1 ? need / 2 : need - need / 2;
}

/* False when there are more axes than we do. */
static bool conv_of(const PareKernelArgs *a, Conv *c) {
  const PareType *x = &a->in[0].type, *w = &a->in[1].type, *y = &a->out[0].type;
  int space = x->rank - 2;
  if (space < 1 || space > SPACE) return false;
  *c = (Conv){.n = x->dim[0], .c = x->dim[1], .m = w->dim[0], .groups = pare_attr_get(a->attr, group, 1)};
  for (int i = 0; i < SPACE; i++) {
    int axis = i - (SPACE - space);
    bool real = axis >= 0;
    c->in[i] = real ? x->dim[axis + 2] : 1;
    c->k[i] = real ? w->dim[axis + 2] : 1;
    c->out[i] = real ? y->dim[axis + 2] : 1;
    c->stride[i] = real && a->attr->strides.n ? a->attr->strides.at[axis] : 1;
    c->dilation[i] = real && a->attr->dilations.n ? a->attr->dilations.at[axis] : 1;
    c->pad[i] = real ? pad_before(a->attr, c, axis, i) : 0;
  }
  c->rows = w->dim[1] * c->k[0] * c->k[1] * c->k[2];
  c->cols = c->out[0] * c->out[1] * c->out[2];
  return true;
}

#define PARE_TEMPLATE "kernels/cpu/conv.c"
#include "kernels/cpu/floats.h"

static const char too_many[] = "Conv has one to three spatial axes here";

/* The patches; for bf16 also w and one group's y as f32. */
PareStatus PARE_CPU(plan_CONV)(PareKernelArgs *a) {
  Conv c;
  if (!conv_of(a, &c)) return a->why = too_many, PARE_UNSUPPORTED;
  bool wide = a->in[0].type.dtype == PARE_F64, extra = a->in[0].type.dtype == PARE_BF16;
  size_t patches, total, size = wide ? sizeof(double) : sizeof(float);
  if (!pare_mul_size((size_t)c.rows, (size_t)c.cols, &patches) ||
      !pare_add_size(patches, extra ? (size_t)(c.m * c.rows + c.m / c.groups * c.cols) : 0, &total) ||
      !pare_mul_size(total, size, &a->workspace_bytes))
    return a->why = "the patches of one image do not fit in memory", PARE_NOMEM;
  return PARE_OK;
}

PareStatus PARE_CPU(CONV)(PareKernelArgs *a) {
  Conv c;
  if (!conv_of(a, &c)) return a->why = too_many, PARE_UNSUPPORTED;
  return pare_call(PARE_PICK_FLOAT(a->in[0].type.dtype, conv), a);
}

#else /* the template */
/* One row of patches: channel plane x, kernel position k, all output positions. */
static void FN(patch_row)(const Conv *c, const T *x, const int64_t k[SPACE], C *row) {
  int64_t step = c->stride[2], from = k[2] * c->dilation[2] - c->pad[2]; /* x position of output 0 */
  /* outputs lo..hi-1 read inside of the image */
  int64_t lo = pare_min_i64(c->out[2], from < 0 ? pare_ceil_div(-from, step) : 0);
  int64_t hi = pare_max_i64(lo, pare_min_i64(c->out[2], from < c->in[2] ? (c->in[2] - from - 1) / step + 1 : 0));
  for (int64_t z = 0; z < c->out[0]; z++)
    for (int64_t y = 0; y < c->out[1]; y++, row += c->out[2]) {
      int64_t iz = z * c->stride[0] - c->pad[0] + k[0] * c->dilation[0];
      int64_t iy = y * c->stride[1] - c->pad[1] + k[1] * c->dilation[1];
      bool inside = iz >= 0 && iz < c->in[0] && iy >= 0 && iy < c->in[1];
      int64_t l = inside ? lo : c->out[2], h = inside ? hi : c->out[2];
      for (int64_t i = 0; i < l; i++) row[i] = 0;
      for (int64_t i = l, at = (iz * c->in[1] + iy) * c->in[2] + from; i < h; i++) row[i] = LOAD(x[at + i * step]);
      for (int64_t i = h; i < c->out[2]; i++) row[i] = 0;
    }
}

/* x: the group's first channel. */
static void FN(patches)(const Conv *c, const T *x, C *col) {
  int64_t taps = c->k[0] * c->k[1] * c->k[2], plane = c->in[0] * c->in[1] * c->in[2];
#pragma omp parallel for schedule(static) if (pare_threaded(c->rows * c->cols))
  for (int64_t r = 0; r < c->rows; r++) {
    int64_t t = r % taps, k[SPACE] = {t / (c->k[1] * c->k[2]), t / c->k[2] % c->k[1], t % c->k[2]};
    FN(patch_row)(c, x + r / taps * plane, k, col + r * c->cols);
  }
}

static PareStatus FN(conv)(PareKernelArgs *a) {
  Conv c;
  conv_of(a, &c);
  int64_t plane = c.in[0] * c.in[1] * c.in[2], m = c.m / c.groups;
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
#endif
