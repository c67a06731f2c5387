/* window.h - a window that slides over one to three axes of space: what Conv and the pools share, on every device. Tensors
 * are [n, c, space...]; fewer axes of space have ones in front. */
#ifndef PARE_KERNELS_WINDOW_H
#define PARE_KERNELS_WINDOW_H

#include "kernels/kernel.h"

#ifdef __CUDACC__
#define PARE_EVERYWHERE static __host__ __device__ inline
#else
#define PARE_EVERYWHERE static inline
#endif

enum { PARE_SPACE = 3 };

typedef struct PareWindow {
  int64_t in[PARE_SPACE], k[PARE_SPACE], out[PARE_SPACE], stride[PARE_SPACE], dilation[PARE_SPACE], pad[PARE_SPACE];
  int64_t end[PARE_SPACE]; /* of the padded axis, where count_include_pad stops counting */
} PareWindow;

static const char pare_too_much_space[] = "windows have one to three axes of space here";

/* Padding before and behind axis i of space: explicit, or what SAME needs, of which the odd one is behind or before. */
static inline void pare_window_pad(const PareAttrs *attr, int space, int axis, int i, PareWindow *w) {
  enum { NOTSET, SAME_UPPER, SAME_LOWER };
  int mode = attr->auto_pad;
  int64_t need = (w->out[i] - 1) * w->stride[i] + (w->k[i] - 1) * w->dilation[i] + 1 - w->in[i], behind = 0;
  if (mode == NOTSET && attr->pads.n) w->pad[i] = attr->pads.at[axis], behind = attr->pads.at[axis + space];
  if ((mode == SAME_UPPER || mode == SAME_LOWER) && need > 0) {
    w->pad[i] = mode == SAME_UPPER ? need / 2 : need - need / 2;
    behind = need - w->pad[i];
  }
  w->end[i] = w->in[i] + behind;
}

/* kernel: the window's extents. False when there are more axes of space than we do. */
static inline bool pare_window_of(const PareType *x, const int64_t *kernel, const PareType *y, const PareAttrs *attr,
                                  PareWindow *w) {
  int space = x->rank - 2;
  if (space < 1 || space > PARE_SPACE) return false;
  for (int i = 0; i < PARE_SPACE; i++) {
    int axis = i - (PARE_SPACE - space);
    w->in[i] = w->k[i] = w->out[i] = w->stride[i] = w->dilation[i] = w->end[i] = 1, w->pad[i] = 0;
    if (axis < 0) continue;
    w->in[i] = x->dim[axis + 2], w->k[i] = kernel[axis], w->out[i] = y->dim[axis + 2];
    if (attr->strides.n) w->stride[i] = attr->strides.at[axis];
    if (attr->dilations.n) w->dilation[i] = attr->dilations.at[axis];
    pare_window_pad(attr, space, axis, i, w);
  }
  return true;
}

/* Places of space: those of a plane, the taps of a window. */
PARE_EVERYWHERE int64_t pare_places(const int64_t dim[PARE_SPACE]) { return dim[0] * dim[1] * dim[2]; }

#endif
