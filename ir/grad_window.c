/* grad_window.c - the gradient column, windows that slide over the axes of space: each has a
 * kernel of its own that lays dy back. */
#include "ir/grad.h"

/* x[n, g·c, ...] -> [c, g·n, ...] */
static PareStatus swap_channels(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, int64_t groups, PareValue **out) {
  const PareType was = x->type;
  int space = was.rank - 2;
  int64_t dim[PARE_MAX_RANK] = {was.dim[0], groups, was.dim[1] / groups};
  PareAttrs attr = {0};
  PareInts perm = {was.rank + 1, {2, 1, 0}};
  if (was.rank == PARE_MAX_RANK) return pare_fail(c, n, PARE_UNSUPPORTED, "no gradient of its weight at this rank");
  for (int i = 0; i < space; i++) dim[3 + i] = was.dim[2 + i], perm.at[3 + i] = 3 + i;
  PARE_TRY(reshape(c, g, n, x, was.rank + 1, dim, &x));
  pare_attr_set(&attr, perm, perm);
  EMIT(turned, TRANSPOSE, &attr, x);
  int64_t to[PARE_MAX_RANK] = {dim[2], groups * dim[0]};
  memcpy(to + 2, was.dim + 2, (size_t)space * sizeof *to);
  return reshape(c, g, n, turned, was.rank, to, out);
}

/* Of one axis of space, for y[o] = Σ_k w[k]·x[o·stride + k·dilation - pad]. */
typedef struct Slide {
  int64_t in, out, kernel, stride, dilation, pad;
} Slide;

static Slide slide_of(const PareNode *n, int i) {
  enum { NOTSET, SAME_UPPER, SAME_LOWER };
  const PareAttrs *a = &n->attr;
  Slide s = {.in = n->in[0]->type.dim[2 + i], .out = n->out[0]->type.dim[2 + i], .kernel = n->in[1]->type.dim[2 + i]};
  int64_t mode = pare_attr_get(a, auto_pad, NOTSET);
  s.stride = a->strides.n ? a->strides.at[i] : 1;
  s.dilation = a->dilations.n ? a->dilations.at[i] : 1;
  int64_t need = (s.out - 1) * s.stride + (s.kernel - 1) * s.dilation + 1 - s.in;
  if (mode == NOTSET) s.pad = a->pads.n ? a->pads.at[i] : 0;
  else if ((mode == SAME_UPPER || mode == SAME_LOWER) && need > 0) s.pad = mode == SAME_UPPER ? need / 2 : need - need / 2;
  return s;
}

/* dw[k] = Σ_o x[o·stride + k·dilation - pad]·dy[o], summed over the batch: a convolution of x by dy in which strides and
 * dilations change places, and so do samples and channels. It may yield more than the kernel's places. */
static PareStatus conv_dw(PareCtx *c, PareGraph *g, PareNode *n, PareValue *dy, PareValue **out) {
  int64_t group = pare_attr_get(&n->attr, group, 1), zero[PARE_MAX_RANK] = {0}, axes[PARE_MAX_RANK];
  int space = n->in[1]->type.rank - 2;
  PareInts strides = {.n = space}, dilations = {.n = space}, pads = {.n = 2 * space};
  PareAttrs attr = {0};
  PareValue *x = n->in[0];
  for (int i = 0; i < space; i++) {
    Slide s = slide_of(n, i);
    int64_t behind = (s.kernel - 1) * s.dilation + (s.out - 1) * s.stride + 1 - s.in - s.pad;
    strides.at[i] = s.dilation, dilations.at[i] = s.stride;
    pads.at[i] = s.pad, pads.at[space + i] = behind > 0 ? behind : 0;
    axes[i] = 2 + i;
  }
  pare_attr_set(&attr, strides, strides);
  pare_attr_set(&attr, dilations, dilations);
  pare_attr_set(&attr, pads, pads);
  pare_attr_set(&attr, group, group);
  PARE_TRY(swap_channels(c, g, n, x, group, &x));
  PARE_TRY(swap_channels(c, g, n, dy, 1, &dy));
  EMIT(wide, CONV, &attr, x, dy);
  PareValue *begin = pare_const_ints(c, g, n->name, space, zero), *along = pare_const_ints(c, g, n->name, space, axes);
  PareValue *end = pare_const_ints(c, g, n->name, space, n->in[1]->type.dim + 2);
  if (!begin || !along || !end) return c->diag.code;
  EMIT(kernel, SLICE, NULL, wide, begin, end, along);
  return swap_channels(c, g, n, kernel, 1, out);
}

RULE(conv) {
  if (want[0]) {
    EMIT(d, CONVGRAD, &n->attr, dout[0], n->in[1], n->in[0]);
    din[0] = d;
  }
  if (want[1]) PARE_TRY(conv_dw(c, g, n, dout[0], &din[1]));
  return n->nin > 2 && want[2] ? channel_sum(c, g, n, dout[0], &din[2]) : PARE_OK;
}

RULE(averagepool) {
  (void)want;
  EMIT(d, AVERAGEPOOLGRAD, &n->attr, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(maxpool) {
  (void)want;
  EMIT(d, MAXPOOLGRAD, &n->attr, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}
