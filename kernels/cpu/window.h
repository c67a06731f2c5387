/* window.h - a window that slides over one to three axes of space: what Conv and the pools share. Tensors are
 * [n, c, space...]; fewer axes of space have ones in front. */
#ifndef PARE_KERNELS_CPU_WINDOW_H
#define PARE_KERNELS_CPU_WINDOW_H

#include "kernels/cpu/cpu.h"

enum { PARE_SPACE = 3 };

typedef struct PareWindow {
  int64_t in[PARE_SPACE], k[PARE_SPACE], out[PARE_SPACE], stride[PARE_SPACE], dilation[PARE_SPACE], pad[PARE_SPACE];
} PareWindow;

static const char pare_too_much_space[] = "windows have one to three axes of space here";

/* Padding before axis i of space: explicit, or half of what SAME needs. */
static inline int64_t pare_pad_before(const PareAttrs *attr, const PareWindow *w, int axis, int i) {
  int mode = attr->auto_pad; /* NOTSET SAME_UPPER SAME_LOWER VALID */
  if (mode == 0) return attr->pads.n ? attr->pads.at[axis] : 0;
  if (mode == 3) return 0;
  int64_t need = (w->out[i] - 1) * w->stride[i] + (w->k[i] - 1) * w->dilation[i] + 1 - w->in[i];
  need = pare_max_i64(need, 0);
  return mode == 1 ? need / 2 : need - need / 2;
}

/* kernel: the window's extents. False when there are more axes of space than we do. */
static inline bool pare_window_of(const PareType *x, const int64_t *kernel, const PareType *y, const PareAttrs *attr,
                                  PareWindow *w) {
  int space = x->rank - 2;
  if (space < 1 || space > PARE_SPACE) return false;
  for (int i = 0; i < PARE_SPACE; i++) {
    int axis = i - (PARE_SPACE - space);
    bool real = axis >= 0;
    w->in[i] = real ? x->dim[axis + 2] : 1;
    w->k[i] = real ? kernel[axis] : 1;
    w->out[i] = real ? y->dim[axis + 2] : 1;
    w->stride[i] = real && attr->strides.n ? attr->strides.at[axis] : 1;
    w->dilation[i] = real && attr->dilations.n ? attr->dilations.at[axis] : 1;
    w->pad[i] = real ? pare_pad_before(attr, w, axis, i) : 0;
  }
  return true;
}

/* Places of space before axis 3: all of them. */
static inline int64_t pare_places(const int64_t dim[PARE_SPACE]) { return dim[0] * dim[1] * dim[2]; }

#endif
