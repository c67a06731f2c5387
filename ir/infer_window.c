/* infer_window.c - the infer column, windows that slide over the axes of space. */
#include "ir/infer.h"

/* One spatial axis of a convolution. */
typedef struct Window {
  int64_t size, kernel, stride, dilation, pad; /* pad: before and after together */
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

static PareStatus check_conv_attrs(PareCtx *c, const PareNode *n, int spatial) {
  const PareAttrs *a = &n->attr;
  PARE_TRY(check_spatial(c, n, "kernel_shape", pare_attr_has(a, kernel_shape), &a->kernel_shape, spatial, 1));
  PARE_TRY(check_spatial(c, n, "strides", pare_attr_has(a, strides), &a->strides, spatial, 1));
  PARE_TRY(check_spatial(c, n, "dilations", pare_attr_has(a, dilations), &a->dilations, spatial, 1));
  PARE_TRY(check_spatial(c, n, "pads", pare_attr_has(a, pads), &a->pads, 2 * spatial, 0));
  for (int i = 0; pare_attr_has(a, kernel_shape) && i < spatial; i++)
    if (a->kernel_shape.at[i] != n->in[1]->type.dim[i + 2])
      return bad_input(c, n, 1, "the attribute 'kernel_shape' says otherwise");
  return PARE_OK;
}

enum { AUTO_NOTSET, AUTO_SAME_UPPER, AUTO_SAME_LOWER, AUTO_VALID }; /* the words of auto_pad */

/* floor((size + pad - ((kernel - 1) * dilation + 1)) / stride) + 1; for SAME: ceil(size / stride). */
static PareStatus conv_out(PareCtx *c, const PareNode *n, int axis, const Window *w, bool same, int64_t *out) {
  int64_t reach, padded;
  if (same) {
    *out = w->size == 0 ? 0 : (w->size - 1) / w->stride + 1;
    return PARE_OK;
  }
  if (w->kernel < 1 || !pare_mul_i64(w->kernel - 1, w->dilation, &reach) || reach == INT64_MAX ||
      __builtin_add_overflow(w->size, w->pad, &padded) || padded < reach + 1)
    return pare_fail(c, n, PARE_FORMAT,
                     "the kernel of '%s' (%" PRId64 ", dilated by %" PRId64 ") does not fit axis %d of '%s' (%" PRId64
                     ", padded by %" PRId64 ")",
                     n->in[1]->name, w->kernel, w->dilation, axis, n->in[0]->name, w->size, w->pad);
  *out = (padded - reach - 1) / w->stride + 1;
  return PARE_OK;
}

static PareStatus conv_window(PareCtx *c, const PareNode *n, int i, int spatial, Window *w) {
  const PareAttrs *a = &n->attr;
  *w = (Window){n->in[0]->type.dim[i + 2], n->in[1]->type.dim[i + 2], 1, 1, 0};
  if (pare_attr_has(a, strides)) w->stride = a->strides.at[i];
  if (pare_attr_has(a, dilations)) w->dilation = a->dilations.at[i];
  if (!pare_attr_has(a, pads) || pare_attr_get(a, auto_pad, AUTO_NOTSET) != AUTO_NOTSET) return PARE_OK;
  if (__builtin_add_overflow(a->pads.at[i], a->pads.at[i + spatial], &w->pad))
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'pads' overflows");
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
  PARE_TRY(check_conv_attrs(c, n, spatial));
  PARE_TRY(check_conv_channels(c, n));
  int mode = pare_attr_get(&n->attr, auto_pad, AUTO_NOTSET);
  bool same = mode == AUTO_SAME_UPPER || mode == AUTO_SAME_LOWER;
  PareType t = {.dtype = x->dtype, .rank = x->rank, .dim = {x->dim[0], w->dim[0]}};
  for (int i = 0; i < spatial; i++) {
    Window win;
    PARE_TRY(conv_window(c, n, i, spatial, &win));
    PARE_TRY(conv_out(c, n, i + 2, &win, same, &t.dim[i + 2]));
  }
  return set_out(c, n, 0, t);
}
