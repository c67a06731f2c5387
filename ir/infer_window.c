/* infer_window.c - the infer column, windows that slide over the axes of space. */
#include <math.h>

#include "ir/infer.h"

/* One spatial axis of a convolution. */
typedef struct Window {
  int64_t size, kernel, stride, dilation, before, pad; /* pad: before and after together */
  bool ceil;                                           /* a last window may reach over the end */
} Window;

/* An attribute of `count` numbers for the spatial axes, each at least `least`; absent is fine. */
static PareStatus check_spatial(PareCtx *c, const PareNode *n, const char *name, bool has, const PareInts *v, int count,
                                int64_t least) {
  if (!has) return PARE_OK;
  if (v->n != count)
    return pare_fail(c, n, PARE_FORMAT, "attribute '%s' has %d numbers; input 0 '%s' needs %d", name, v->n,
                     n->in[0]->name, count);
  for (int i = 0; i < count; i++)
    if (v->at[i] < least)
      return pare_fail(c, n, PARE_UNSUPPORTED, "attribute '%s' holds %" PRId64 "; the least is %" PRId64, name,
                       v->at[i], least);
  return PARE_OK;
}

static PareStatus check_window_attrs(PareCtx *c, const PareNode *n, int spatial) {
  const PareAttrs *a = &n->attr;
  PARE_TRY(check_spatial(c, n, "kernel_shape", pare_attr_has(a, kernel_shape), &a->kernel_shape, spatial, 1));
  PARE_TRY(check_spatial(c, n, "strides", pare_attr_has(a, strides), &a->strides, spatial, 1));
  PARE_TRY(check_spatial(c, n, "dilations", pare_attr_has(a, dilations), &a->dilations, spatial, 1));
  PARE_TRY(check_spatial(c, n, "pads", pare_attr_has(a, pads), &a->pads, 2 * spatial, 0));
  return PARE_OK;
}

static PareStatus check_kernel_shape(PareCtx *c, const PareNode *n, int spatial) {
  const PareAttrs *a = &n->attr;
  for (int i = 0; pare_attr_has(a, kernel_shape) && i < spatial; i++)
    if (a->kernel_shape.at[i] != n->in[1]->type.dim[i + 2])
      return bad_input(c, n, 1, "the attribute 'kernel_shape' says otherwise");
  return PARE_OK;
}

enum { AUTO_NOTSET, AUTO_SAME_UPPER, AUTO_SAME_LOWER, AUTO_VALID }; /* the words of auto_pad */

/* floor((size + pad - ((kernel - 1) * dilation + 1)) / stride) + 1; for SAME: ceil(size / stride). A window that ceil
 * adds begins before the pads behind. */
static PareStatus window_out(PareCtx *c, const PareNode *n, int axis, const Window *w, bool same, int64_t *out) {
  int64_t reach, padded;
  bool fits = w->kernel >= 1 && pare_mul_i64(w->kernel - 1, w->dilation, &reach) && reach < INT64_MAX / 2;
  if (fits && same) { /* the kernels add what SAME pads */
    *out = w->size == 0 ? 0 : (w->size - 1) / w->stride + 1;
    fits = w->size < INT64_MAX / 2;
    if (fits) return PARE_OK;
  }
  if (!fits || __builtin_add_overflow(w->size, w->pad, &padded) || padded < reach + 1)
    return pare_fail(c, n, PARE_FORMAT,
                     "the kernel (%" PRId64 ", dilated by %" PRId64 ") does not fit axis %d of '%s' (%" PRId64
                     ", padded by %" PRId64 ")",
                     w->kernel, w->dilation, axis, n->in[0]->name, w->size, w->pad);
  int64_t room = padded - reach - 1;
  *out = room / w->stride + 1;
  int64_t next; /* where one more window would begin */
  bool inside = pare_mul_i64(*out, w->stride, &next) && next < w->size + w->before;
  if (w->ceil && room % w->stride && inside) ++*out;
  return PARE_OK;
}

static PareStatus window_at(PareCtx *c, const PareNode *n, int i, int spatial, int64_t kernel, Window *w) {
  const PareAttrs *a = &n->attr;
  *w = (Window){.size = n->in[0]->type.dim[i + 2], .kernel = kernel, .stride = 1, .dilation = 1};
  w->ceil = pare_attr_get(a, ceil_mode, 0) != 0;
  if (pare_attr_has(a, strides)) w->stride = a->strides.at[i];
  if (pare_attr_has(a, dilations)) w->dilation = a->dilations.at[i];
  if (!pare_attr_has(a, pads) || pare_attr_get(a, auto_pad, AUTO_NOTSET) != AUTO_NOTSET) return PARE_OK;
  w->before = a->pads.at[i];
  if (__builtin_add_overflow(a->pads.at[i], a->pads.at[i + spatial], &w->pad))
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'pads' overflows");
  int64_t whole;
  return __builtin_add_overflow(w->size, w->pad, &whole) ? pare_fail(c, n, PARE_FORMAT, "the attribute 'pads' overflows")
                                                         : PARE_OK;
}

/* The axes of space of the result. */
static PareStatus slide(PareCtx *c, const PareNode *n, const int64_t *kernel, PareType *t) {
  int mode = pare_attr_get(&n->attr, auto_pad, AUTO_NOTSET), spatial = t->rank - 2;
  bool same = mode == AUTO_SAME_UPPER || mode == AUTO_SAME_LOWER;
  for (int i = 0; i < spatial; i++) {
    Window w;
    PARE_TRY(window_at(c, n, i, spatial, kernel[i], &w));
    PARE_TRY(window_out(c, n, i + 2, &w, same, &t->dim[i + 2]));
  }
  return PARE_OK;
}

static PareStatus check_conv_channels(PareCtx *c, const PareNode *n) {
  const PareType *x = &n->in[0]->type, *w = &n->in[1]->type;
  int64_t group = pare_attr_get(&n->attr, group, 1), channels;
  if (group < 1 || w->dim[0] % group || !pare_mul_i64(w->dim[1], group, &channels) || channels != x->dim[1]) {
    char t[PARE_TYPE_TEXT], u[PARE_TYPE_TEXT];
    return pare_fail(c, n, PARE_FORMAT, "the weight '%s' %s in %" PRId64 " groups does not fit the channels of '%s' %s",
                     n->in[1]->name, pare_type_text(w, t), group, n->in[0]->name, pare_type_text(x, u));
  }
  if (!given(n, 2)) return PARE_OK;
  const PareType *b = &n->in[2]->type;
  PARE_TRY(same_dtype(c, n, 0, 2));
  return b->rank == 1 && b->dim[0] == w->dim[0] ? PARE_OK : clash(c, n, 1, 2, "the bias has not one number a channel");
}

/* X[N, C, D...], W[M, C/group, K...] -> Y[N, M, ...] */
PareStatus pare_infer_conv(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type, *w = &n->in[1]->type;
  PARE_TRY(same_dtype(c, n, 0, 1));
  if (x->rank < 3) return bad_input(c, n, 0, "Conv needs a batch, channels and at least one more axis");
  if (w->rank != x->rank) return clash(c, n, 0, 1, "the ranks differ");
  int spatial = x->rank - 2;
  PARE_TRY(check_window_attrs(c, n, spatial));
  PARE_TRY(check_kernel_shape(c, n, spatial));
  PARE_TRY(check_conv_channels(c, n));
  PareType t = {.dtype = x->dtype, .rank = x->rank, .dim = {x->dim[0], w->dim[0]}};
  PARE_TRY(slide(c, n, w->dim + 2, &t));
  return set_out(c, n, 0, t);
}

/* x[n, c, space...]; MaxPool may yield where its elements came from. */
PareStatus pare_infer_pool(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  if (t.rank < 3) return bad_input(c, n, 0, "a pool needs a batch, channels and at least one more axis");
  if (!pare_attr_has(&n->attr, kernel_shape))
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'kernel_shape' is missing");
  PARE_TRY(check_window_attrs(c, n, t.rank - 2));
  PARE_TRY(slide(c, n, n->attr.kernel_shape.at, &t));
  PARE_TRY(set_out(c, n, 0, t));
  t.dtype = PARE_I64;
  return n->nout > 1 ? set_out(c, n, 1, t) : PARE_OK;
}

PareStatus pare_infer_globalpool(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  if (t.rank < 3) return bad_input(c, n, 0, "a pool needs a batch, channels and at least one more axis");
  for (int a = 2; a < t.rank; a++) t.dim[a] = 1;
  return set_out(c, n, 0, t);
}

/* Gradients of windows: like the tensor that the window slides over, whose number is `like`. */
PareStatus pare_infer_convgrad(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 3; i++) PARE_TRY(need_input(c, n, i));
  return set_out(c, n, 0, n->in[2]->type);
}
PareStatus pare_infer_poolgrad(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 2; i++) PARE_TRY(need_input(c, n, i));
  return set_out(c, n, 0, n->in[0]->type);
}

/* --- Resize: x, roi, scales, sizes, axes --- */

static PareStatus resize_dim(PareCtx *c, const PareNode *n, int64_t i, bool by_scale, int64_t *dim) {
  if (!by_scale) {
    int64_t size = pare_data_int(n->in[3], i);
    if (size < 0 || (size > 0 && *dim == 0)) return bad_input(c, n, 3, "a size is negative, or made from nothing");
    *dim = size;
    return PARE_OK;
  }
  double scale = pare_data_float(n->in[2], i), size = floor((double)*dim * scale);
  if (!(scale > 0) || !(size < 0x1p53)) return bad_input(c, n, 2, "a scale is not positive or too large");
  *dim = (int64_t)size;
  return PARE_OK;
}

PareStatus pare_infer_resize(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  bool by_scale = given(n, 2) && pare_type_count(&n->in[2]->type) > 0;
  int64_t count, naxes = t.rank;
  unsigned seen = 0;
  int mode = pare_attr_get(&n->attr, mode, PARE_MODE_NEAREST), from = by_scale ? 2 : 3;
  if (mode != PARE_MODE_NEAREST && mode != PARE_MODE_LINEAR && mode != PARE_MODE_CUBIC)
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'mode' is not one of Resize");
  PARE_TRY(need_input(c, n, from));
  if (!by_scale) PARE_TRY(known_ints(c, n, 3, &count));
  else if (!pare_dtype_is_float(n->in[2]->type.dtype)) return bad_input(c, n, 2, "scales are floats");
  else if (!is_known(n->in[2])) return bad_input(c, n, 2, "the shape cannot be computed from the input shapes");
  else count = pare_type_count(&n->in[2]->type);
  if (given(n, 4)) PARE_TRY(known_ints(c, n, 4, &naxes));
  if (count != naxes) return bad_input(c, n, from, "there is not one number an axis");
  for (int64_t i = 0; i < naxes; i++) {
    int axis;
    PARE_TRY(wrap_axis(c, n, 0, given(n, 4) ? pare_data_int(n->in[4], i) : i, t.rank, &axis));
    if (seen >> axis & 1u) return bad_input(c, n, 4, "an axis is named twice");
    seen |= 1u << axis;
    PARE_TRY(resize_dim(c, n, i, by_scale, &t.dim[axis]));
  }
  return set_out(c, n, 0, t);
}
