/* window.cuh - a window that slides over one to three axes of space: what Conv and the pools share. Tensors are
 * [n, c, space...]; fewer axes of space have ones in front. */
#ifndef PARE_KERNELS_CUDA_WINDOW_CUH
#define PARE_KERNELS_CUDA_WINDOW_CUH

#include "kernels/cuda/cuda.cuh"

enum { PARE_SPACE = 3 };

struct PareWindow {
  int64_t in[PARE_SPACE], k[PARE_SPACE], out[PARE_SPACE], stride[PARE_SPACE], dilation[PARE_SPACE], pad[PARE_SPACE];
};

/* Padding before axis i of space: explicit, or half of what SAME needs. */
static inline int64_t pare_pad_before(const PareAttrs *attr, const PareWindow *w, int axis, int i) {
  int mode = attr->auto_pad; /* NOTSET SAME_UPPER SAME_LOWER VALID */
  if (mode == 0) return attr->pads.n ? attr->pads.at[axis] : 0;
  if (mode == 3) return 0;
  int64_t need = (w->out[i] - 1) * w->stride[i] + (w->k[i] - 1) * w->dilation[i] + 1 - w->in[i];
  need = pare_max(need, 0);
  return mode == 1 ? need / 2 : need - need / 2;
}

/* kernel: the window's extents. */
static inline PareStatus pare_window_of(PareKernelArgs *a, const PareType *x, const int64_t *kernel, const PareType *y,
                                        PareWindow *w) {
  int space = x->rank - 2;
  const PareAttrs *attr = a->attr;
  if (space < 1 || space > PARE_SPACE)
    return pare_why(a, PARE_UNSUPPORTED, "windows have one to three axes of space here");
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
  return PARE_OK;
}

/* Places of space: those of a plane, the taps of a window. */
static __host__ __device__ inline int64_t pare_places(const int64_t dim[PARE_SPACE]) {
  return dim[0] * dim[1] * dim[2];
}

#endif
