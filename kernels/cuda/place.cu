/* place.cu - Tile, Pad, Trilu, EyeLike, DepthToSpace and SpaceToDepth: elements in other places, and what is put where
 * there are none. Told apart by size alone. */
#include "kernels/cuda/cuda.cuh"

/* --- Tile and Pad: along each axis, of `wide` elements, y shows x's n from `before` on, and about them what the mode
 * says --- */
struct Frame {
  int rank, mode;
  int64_t wide[PARE_MAX_RANK], n[PARE_MAX_RANK], before[PARE_MAX_RANK], stride[PARE_MAX_RANK];
};
static Frame frame_of(const PareType *x, const PareType *y, int mode) {
  Frame f = {};
  f.rank = x->rank, f.mode = mode;
  for (int i = 0; i < x->rank; i++)
    f.wide[i] = y->dim[i], f.n[i] = x->dim[i], f.stride[i] = pare_span(x, i + 1, x->rank);
  return f;
}

/* The place in an axis of n elements that place i shows, or -1: none. */
static __device__ inline int64_t shown(int mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case PARE_MODE_EDGE: return i < 0 ? 0 : n - 1;
    case PARE_MODE_WRAP: return (i % n + n) % n;
    case PARE_MODE_REFLECT: return i < 0 ? -i : 2 * (n - 1) - i;
  }
  return -1;
}
/* x's element that y's element i shows, or -1. */
static __device__ inline int64_t framed(const Frame &f, int64_t i) {
  int64_t off = 0;
  for (int k = f.rank - 1; k >= 0; k--) {
    int64_t at = shown(f.mode, i % f.wide[k] - f.before[k], f.n[k]);
    if (at < 0) return -1;
    off += at * f.stride[k];
    i /= f.wide[k];
  }
  return off;
}
/* value NULL: zero. */
template <class E> static __global__ void frame(Frame f, int64_t n, const E *x, const E *value, E *y) {
  PARE_EACH(i, n) {
    int64_t at = framed(f, i);
    y[i] = at >= 0 ? x[at] : value ? *value : E();
  }
}
static PareStatus frame_run(PareKernelArgs *a, const Frame &f, const void *value) {
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(frame<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, f, n,
                (const E *)a->in[0].data, (const E *)value, (E *)a->out[0].data);
    return pare_launched(a);
  });
}

PareStatus pare_cuda_TILE(PareKernelArgs *a) {
  return frame_run(a, frame_of(&a->in[0].type, &a->out[0].type, PARE_MODE_WRAP), NULL);
}

/* pads [before.., after..], value, axes at inputs 1..3, the latter two optional. */
static PareStatus pads_of(PareKernelArgs *a, Frame *f) {
  int64_t naxes = pare_count(&a->in[1]) / 2, after[PARE_MAX_RANK] = {0};
  PARE_TRY(pare_need_known(a, 1));
  PARE_TRY(pare_need_known(a, 3));
  for (int64_t i = 0; i < naxes; i++) {
    int64_t axis = pare_given(a, 3) ? pare_known_int(a, 3, i) : i;
    if (axis < -f->rank || axis >= f->rank) return pare_why(a, PARE_DATA, "axis is out of range");
    f->before[pare_axis(axis, f->rank)] = pare_known_int(a, 1, i);
    after[pare_axis(axis, f->rank)] = pare_known_int(a, 1, naxes + i);
  }
  for (int i = 0; i < f->rank; i++)
    if (f->before[i] + after[i] != f->wide[i] - f->n[i])
      return pare_why(a, PARE_DATA, "the pads do not give the planned shape");
  return PARE_OK;
}
PareStatus pare_cuda_plan_PAD(PareKernelArgs *a) { /* the value in x's type */
  a->workspace_bytes = sizeof(double);
  return PARE_OK;
}
PareStatus pare_cuda_PAD(PareKernelArgs *a) {
  Frame f = frame_of(&a->in[0].type, &a->out[0].type, a->attr->mode);
  PARE_TRY(pads_of(a, &f));
  if (!pare_given(a, 2)) return frame_run(a, f, NULL);
  PARE_TRY(pare_cuda_cast(a, 1, a->in[2].type.dtype, a->in[2].data, a->in[0].type.dtype, a->workspace));
  return frame_run(a, f, a->workspace);
}

/* --- Trilu: column j of row i stays where j - i >= k (upper) or <= k; k NULL: 0 --- */
template <class E>
static __global__ void trilu(int64_t n, int64_t rows, int64_t cols, int upper, const int64_t *k, const E *x, E *y) {
  int64_t edge = k ? *k : 0;
  PARE_EACH(i, n) {
    int64_t off = i % cols - i / cols % rows;
    y[i] = (upper ? off >= edge : off <= edge) ? x[i] : E();
  }
}
PareStatus pare_cuda_TRILU(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t n = pare_count(&a->in[0]), rows = t->dim[t->rank - 2], cols = t->dim[t->rank - 1];
  int upper = pare_attr_get(a->attr, upper, 1) != 0;
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(trilu<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n, rows, cols, upper,
                (const int64_t *)(pare_given(a, 1) ? a->in[1].data : NULL), (const E *)a->in[0].data,
                (E *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- EyeLike: ones on diagonal k --- */
template <class E> static __global__ void eye(int64_t n, int64_t cols, int64_t k, E one, E *y) {
  PARE_EACH(i, n) y[i] = i % cols - i / cols == k ? one : E();
}
/* The bits of 1. */
static uint64_t one_of(PareDtype d) {
  switch (d) {
    case PARE_F64: return 0x3ff0000000000000u;
    case PARE_F32: return 0x3f800000u;
    case PARE_F16: return 0x3c00u;
    case PARE_BF16: return 0x3f80u;
    default: return 1;
  }
}
PareStatus pare_cuda_EYELIKE(PareKernelArgs *a) {
  const PareType *t = &a->out[0].type;
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->out[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(eye<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n, t->dim[1],
                a->attr->k, (E)one_of(t->dtype), (E *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- blocks of b·b pixels that become channels, and back: the large image [., c, h·b, w·b] and the small one
 * [., c·b·b, h, w], whose channels are [b, b, c] (depth first) or [c, b, b] --- */
struct Blocks {
  int64_t b, c, h, w;
  int depth_first, to_space;
};
/* The place in the small image of the large one's element i. */
static __device__ inline int64_t small_place(const Blocks &k, int64_t i) {
  int64_t x = i % (k.w * k.b), y = i / (k.w * k.b) % (k.h * k.b), c = i / (k.w * k.b) / (k.h * k.b);
  int64_t image = c / k.c, in = y % k.b * k.b + x % k.b;
  c %= k.c;
  int64_t channel = k.depth_first ? in * k.c + c : c * k.b * k.b + in;
  return ((image * k.c * k.b * k.b + channel) * k.h + y / k.b) * k.w + x / k.b;
}
template <class E> static __global__ void move_blocks(Blocks k, int64_t n, const E *x, E *y) {
  PARE_EACH(i, n) {
    int64_t s = small_place(k, i);
    if (k.to_space) y[i] = x[s];
    else y[s] = x[i];
  }
}
static PareStatus blocks_run(PareKernelArgs *a, const PareType *large, const PareType *small, int to_space) {
  Blocks k = {a->attr->blocksize, large->dim[1], small->dim[2], small->dim[3], pare_depth_first(a->attr), to_space};
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(move_blocks<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, k, n,
                (const E *)a->in[0].data, (E *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_DEPTHTOSPACE(PareKernelArgs *a) { return blocks_run(a, &a->out[0].type, &a->in[0].type, 1); }
PareStatus pare_cuda_SPACETODEPTH(PareKernelArgs *a) { return blocks_run(a, &a->in[0].type, &a->out[0].type, 0); }
