/* conv.cu - Conv in one to three spatial axes and its gradient by x: the patches of some images and one group are laid
 * out as a matrix (im2col) in the workspace and multiplied; the gradient's product is laid back. Where patches do not
 * overlap (a transformer's first layer) a patch is a row of that matrix, made of 16 bytes at a time: one pass over the
 * images. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "base/arena.h"
#include "kernels/window.h"
}

enum { SPACE = PARE_SPACE, UNIT = 16, SPACE_BYTES = 256 << 20 }; /* what patches may take, more than one image's only */

/* x[n, c, in] * w[m, c/groups, k] -> y[n, m, out] */
struct Conv : PareWindow {
  int64_t n, c, m, groups, rows, cols; /* patches: [rows = c/groups · k, cols = out] */
};
struct ConvState {
  PareArena *arena;
  int64_t images;       /* at a time */
  bool by_patch;        /* patches lie one after the other: [images, cols, rows] instead of [images, rows, cols] */
  PareGemm *most, *last; /* for so many, and for those at the end */
};

static PareStatus conv_of(PareKernelArgs *a, const PareType *x, const PareType *w, const PareType *y, Conv *c) {
  *c = {};
  c->n = x->dim[0], c->c = x->dim[1], c->m = w->dim[0], c->groups = pare_attr_get(a->attr, group, 1);
  if (!pare_window_of(x, w->dim + 2, y, a->attr, c)) return pare_why(a, PARE_UNSUPPORTED, pare_too_much_space);
  c->rows = w->dim[1] * pare_places(c->k);
  c->cols = pare_places(c->out);
  return PARE_OK;
}
static PareStatus forward_of(PareKernelArgs *a, Conv *c) {
  return conv_of(a, &a->in[0].type, &a->in[1].type, &a->out[0].type, c);
}

/* Patches cover the images' axes without overlap, and so do packs of so many elements their last axis. */
static bool is_tiling(const Conv *c, int64_t pack) {
  for (int i = 0; i < SPACE; i++)
    if (c->k[i] != c->stride[i] || c->pad[i] || (c->dilation[i] != 1 && c->k[i] != 1) ||
        c->out[i] * c->k[i] > c->in[i])
      return false;
  return c->groups == 1 && c->k[SPACE - 1] % pack == 0 && c->in[SPACE - 1] % pack == 0 &&
         c->rows * c->cols / pack < INT32_MAX;
}

/* col[image][position][row] of a tiling, a pack at a time. */
template <class T> static __global__ void tiles(Conv c, int64_t packs, const T *x, T *col) {
  typedef ParePack<T> Pack;
  uint32_t k0 = (uint32_t)c.k[0], k1 = (uint32_t)c.k[1], wide = (uint32_t)(c.k[2] / Pack::N), channels = (uint32_t)c.c;
  uint32_t out1 = (uint32_t)c.out[1], out2 = (uint32_t)c.out[2], cols = (uint32_t)c.cols;
  PARE_EACH(i, packs) {
    uint32_t q = (uint32_t)i, u = q % wide, y = (q /= wide) % k1, z = (q /= k1) % k0, channel = (q /= k0) % channels;
    uint32_t at = (q /= channels) % cols, image = q / cols, ox = at % out2, oy = at / out2 % out1, oz = at / out2 / out1;
    int64_t row = (((int64_t)image * channels + channel) * c.in[0] + oz * k0 + z) * c.in[1] + oy * k1 + y;
    ((Pack *)col)[i] = *(const Pack *)(x + row * c.in[2] + ox * c.k[2] + u * Pack::N);
  }
}

/* col[image][row][position], or by patch; x: the first image's first channel of the group, c.c channels an image. */
template <class T> static __global__ void patches(Conv c, int by_patch, int64_t images, const T *x, T *col) {
  int64_t taps = pare_places(c.k), plane = pare_places(c.in);
  PARE_EACH(i, images * c.rows * c.cols) {
    int64_t at = by_patch ? i / c.rows % c.cols : i % c.cols, r = by_patch ? i % c.rows : i / c.cols % c.rows;
    int64_t image = i / (c.cols * c.rows), t = r % taps;
    int64_t z = at / (c.out[1] * c.out[2]) * c.stride[0] - c.pad[0] + t / (c.k[1] * c.k[2]) * c.dilation[0];
    int64_t y = at / c.out[2] % c.out[1] * c.stride[1] - c.pad[1] + t / c.k[2] % c.k[1] * c.dilation[1];
    int64_t w = at % c.out[2] * c.stride[2] - c.pad[2] + t % c.k[2] * c.dilation[2];
    bool inside = z >= 0 && z < c.in[0] && y >= 0 && y < c.in[1] && w >= 0 && w < c.in[2];
    col[i] = inside ? x[(image * c.c + r / taps) * plane + (z * c.in[1] + y) * c.in[2] + w] : pare_store<T>(0);
  }
}

void pare_cuda_release_CONV(void *state) {
  ConvState *s = (ConvState *)state;
  if (!s) return;
  pare_gemm_free(s->most);
  pare_gemm_free(s->last);
  pare_arena_free(s->arena);
}

/* y[image][m/groups, cols] += w[m/groups, rows]·patches[image]; y has the bias. */
static PareStatus product_new(PareKernelArgs *a, const Conv *c, bool by_patch, int64_t images, PareGemm **out) {
  PareGemmSpec s = {};
  s.m = c->m / c->groups, s.n = c->cols, s.k = c->rows;
  s.in = s.out = a->in[0].type.dtype;
  s.tb = by_patch;
  s.lda = c->rows, s.ldb = by_patch ? c->rows : c->cols, s.ldc = c->cols;
  s.batch = images, s.bstep = c->rows * c->cols, s.cstep = c->m * c->cols;
  if (c->groups > 1) s.abegin = s.m * s.k;
  s.cbegin = s.m * s.n; /* of a group of an image */
  s.alpha = s.beta = 1;
  return pare_gemm_new(a, &s, out);
}

/* Images at a time, whose patches have this type; makes a->state. */
static PareStatus plan_images(PareKernelArgs *a, const Conv *c, PareDtype d, ConvState **out) {
  PareArena *arena = pare_arena_new(sizeof(ConvState) + 64);
  ConvState *s = arena ? PARE_NEW(arena, ConvState) : NULL;
  if (!s) return pare_arena_free(arena), PARE_NOMEM;
  s->arena = arena;
  a->state = *out = s;
  int64_t each = c->rows * c->cols * (int64_t)pare_dtype_size(d);
  s->images = pare_max(1, pare_min(c->n, each ? SPACE_BYTES / each : c->n));
  a->workspace_bytes = (size_t)(s->images * each);
  return PARE_OK;
}

PareStatus pare_cuda_plan_CONV(PareKernelArgs *a) {
  Conv c;
  ConvState *s;
  PareDtype d = a->in[0].type.dtype;
  if (d != PARE_F32 && d != PARE_F64 && d != PARE_BF16) return pare_bad_type(a);
  PARE_TRY(forward_of(a, &c));
  PARE_TRY(plan_images(a, &c, d, &s));
  s->by_patch = is_tiling(&c, UNIT / (int64_t)pare_dtype_size(d));
  PARE_TRY(product_new(a, &c, s->by_patch, s->images, &s->most));
  return c.n % s->images ? product_new(a, &c, s->by_patch, c.n % s->images, &s->last) : PARE_OK;
}

/* The bias is spread over y. */
static PareStatus start_outputs(PareKernelArgs *a, const Conv *c) {
  PareTensor y = a->out[0], bias;
  if (!pare_given(a, 2)) {
    size_t bytes = (size_t)pare_count(&y) * pare_esize(&y);
    return pare_cuda_status(a, cudaMemsetAsync(y.data, 0, bytes, pare_cuda(a)->stream));
  }
  bias = a->in[2];
  y.type.rank = 3, y.type.dim[0] = c->n, y.type.dim[1] = c->m, y.type.dim[2] = c->cols;
  bias.type.rank = 2, bias.type.dim[0] = c->m, bias.type.dim[1] = 1;
  return pare_cuda_expand(a, &y, &bias);
}

template <class T>
static PareStatus patches_run(PareKernelArgs *a, const Conv *c, bool by_patch, int64_t images, const T *x) {
  int64_t n = images * c->rows * c->cols;
  cudaStream_t stream = pare_cuda(a)->stream;
  if (by_patch && pare_aligned(x))
    PARE_LAUNCH(tiles<T>, pare_blocks(a, n / ParePack<T>::N, PARE_THREADS), PARE_THREADS, 0, stream, *c,
                n / ParePack<T>::N, x, (T *)a->workspace);
  else
    PARE_LAUNCH(patches<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, stream, *c, (int)by_patch, images, x,
                (T *)a->workspace);
  return pare_launched(a);
}

PareStatus pare_cuda_CONV(PareKernelArgs *a) {
  Conv c;
  PARE_TRY(forward_of(a, &c));
  ConvState *s = (ConvState *)a->state;
  if (!pare_count(&a->out[0])) return PARE_OK;
  PARE_TRY(start_outputs(a, &c));
  if (!c.rows) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    int64_t plane = pare_places(c.in), part = c.m / c.groups;
    for (int64_t i = 0; i < c.n; i += s->images)
      for (int64_t g = 0; g < c.groups; g++) {
        int64_t images = pare_min(s->images, c.n - i);
        const T *x = (const T *)a->in[0].data + (i * c.c + g * (c.c / c.groups)) * plane;
        T *y = (T *)a->out[0].data + (i * c.m + g * part) * c.cols;
        PARE_TRY(patches_run(a, &c, s->by_patch, images, x));
        PARE_TRY(pare_gemm_run(a, images == s->images ? s->most : s->last, (const T *)a->in[1].data + g * part * c.rows,
                               a->workspace, NULL, y, y));
      }
    return PARE_OK;
  });
}

/* --- the gradient by x: dy, w, like x -> dx --- */

/* The output along an axis that reads this place by this tap; -1: none does. */
static __device__ inline int64_t output_of(const Conv &c, int axis, int64_t place, int64_t tap) {
  int64_t from = place + c.pad[axis] - tap * c.dilation[axis], o = from / c.stride[axis];
  return from >= 0 && from % c.stride[axis] == 0 && o < c.out[axis] ? o : -1;
}

/* dx: the first image's first channel of the group; col[image][row][position]: the gradient of its patches. */
template <class T> static __global__ void lay_back(Conv c, int64_t images, const PARE_C *col, T *dx) {
  int64_t taps = pare_places(c.k), plane = pare_places(c.in), channels = c.c / c.groups;
  PARE_EACH(i, images * channels * plane) {
    int64_t at = i % plane, channel = i / plane % channels, image = i / (plane * channels);
    const PARE_C *from = col + (image * c.rows + channel * taps) * c.cols;
    PARE_C sum = 0;
    for (int64_t tz = 0; tz < c.k[0]; tz++) {
      int64_t z = output_of(c, 0, at / (c.in[1] * c.in[2]), tz);
      for (int64_t ty = 0; z >= 0 && ty < c.k[1]; ty++) {
        int64_t y = output_of(c, 1, at / c.in[2] % c.in[1], ty);
        for (int64_t tx = 0; y >= 0 && tx < c.k[2]; tx++) {
          int64_t x = output_of(c, 2, at % c.in[2], tx), tap = (tz * c.k[1] + ty) * c.k[2] + tx;
          if (x >= 0) sum += from[tap * c.cols + (z * c.out[1] + y) * c.out[2] + x];
        }
      }
    }
    dx[(image * c.c + channel) * plane + at] = pare_store<T>(sum);
  }
}

static PareStatus backward_of(PareKernelArgs *a, Conv *c) {
  return conv_of(a, &a->out[0].type, &a->in[1].type, &a->in[0].type, c);
}

/* patches[image][rows, cols] = wᵀ[rows, m/groups]·dy[image][m/groups, cols] */
static PareStatus back_product_new(PareKernelArgs *a, const Conv *c, PareDtype sums, int64_t images, PareGemm **out) {
  PareGemmSpec s = {};
  s.m = c->rows, s.n = c->cols, s.k = c->m / c->groups;
  s.in = a->in[0].type.dtype, s.out = sums;
  s.ta = true;
  s.lda = c->rows, s.ldb = s.ldc = c->cols;
  s.batch = images, s.bstep = c->m * c->cols, s.cstep = c->rows * c->cols;
  if (c->groups > 1) s.abegin = s.k * s.m;
  s.bbegin = s.k * s.n; /* of a group of an image */
  s.alpha = 1;
  return pare_gemm_new(a, &s, out);
}

PareStatus pare_cuda_plan_CONVGRAD(PareKernelArgs *a) {
  Conv c;
  ConvState *s;
  PareDtype d = a->in[0].type.dtype, sums = d == PARE_F64 ? d : PARE_F32;
  if (d != PARE_F32 && d != PARE_F64 && d != PARE_BF16) return pare_bad_type(a);
  PARE_TRY(backward_of(a, &c));
  PARE_TRY(plan_images(a, &c, sums, &s));
  PARE_TRY(back_product_new(a, &c, sums, s->images, &s->most));
  return c.n % s->images ? back_product_new(a, &c, sums, c.n % s->images, &s->last) : PARE_OK;
}

PareStatus pare_cuda_CONVGRAD(PareKernelArgs *a) {
  Conv c;
  PARE_TRY(backward_of(a, &c));
  ConvState *s = (ConvState *)a->state;
  size_t bytes = (size_t)pare_count(&a->out[0]) * pare_esize(&a->out[0]);
  if (!bytes) return PARE_OK;
  if (!c.rows || !c.cols || !c.m)
    return pare_cuda_status(a, cudaMemsetAsync(a->out[0].data, 0, bytes, pare_cuda(a)->stream));
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    int64_t plane = pare_places(c.in), part = c.m / c.groups, channels = c.c / c.groups;
    for (int64_t i = 0; i < c.n; i += s->images)
      for (int64_t g = 0; g < c.groups; g++) {
        int64_t images = pare_min(s->images, c.n - i), n = images * channels * plane;
        PARE_TRY(pare_gemm_run(a, images == s->images ? s->most : s->last, (const T *)a->in[1].data + g * part * c.rows,
                               (const T *)a->in[0].data + (i * c.m + g * part) * c.cols, NULL, NULL, a->workspace));
        PARE_LAUNCH(lay_back<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, c, images,
                    (const PARE_C *)a->workspace, (T *)a->out[0].data + (i * c.c + g * channels) * plane);
        PARE_TRY(pare_launched(a));
      }
    return PARE_OK;
  });
}
