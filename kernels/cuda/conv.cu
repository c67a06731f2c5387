/* conv.cu - Conv in one to three spatial axes: the patches of some images and one group are laid out as a matrix
 * (im2col) in the workspace and multiplied. Where patches do not overlap (a transformer's first layer) a patch is a row
 * of that matrix, made of 16 bytes at a time: one pass over the images. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "base/arena.h"
}

enum { SPACE = 3, UNIT = 16, SPACE_BYTES = 256 << 20 }; /* what the patches may take, more than one image's only */

/* x[n, c, in] * w[m, c/groups, k] -> y[n, m, out]; fewer spatial axes have ones in front. */
struct Conv {
  int64_t n, c, m, groups, rows, cols; /* patches: [rows = c/groups · k, cols = out] */
  int64_t in[SPACE], k[SPACE], out[SPACE], stride[SPACE], dilation[SPACE], pad[SPACE];
};
struct ConvState {
  PareArena *arena;
  int64_t images;       /* at a time */
  bool by_patch;        /* patches lie one after the other: [images, cols, rows] instead of [images, rows, cols] */
  PareGemm *most, *last; /* for so many, and for those at the end */
};

/* Padding before the axis: explicit, or half of what SAME needs. */
static int64_t pad_before(const PareAttrs *attr, const Conv *c, int axis, int i) {
  int mode = attr->auto_pad; /* NOTSET SAME_UPPER SAME_LOWER VALID */
  if (mode == 0) return attr->pads.n ? attr->pads.at[axis] : 0;
  if (mode == 3) return 0;
  int64_t need = (c->out[i] - 1) * c->stride[i] + (c->k[i] - 1) * c->dilation[i] + 1 - c->in[i];
  need = pare_max(need, 0);
  return mode == 1 ? need / 2 : need - need / 2;
}

/* False when there are more axes than we do. */
static bool conv_of(const PareKernelArgs *a, Conv *c) {
  const PareType *x = &a->in[0].type, *w = &a->in[1].type, *y = &a->out[0].type;
  int space = x->rank - 2;
  if (space < 1 || space > SPACE) return false;
  *c = {};
  c->n = x->dim[0], c->c = x->dim[1], c->m = w->dim[0], c->groups = pare_attr_get(a->attr, group, 1);
  for (int i = 0; i < SPACE; i++) {
    int axis = i - (SPACE - space);
    bool there = axis >= 0;
    c->in[i] = there ? x->dim[axis + 2] : 1;
    c->k[i] = there ? w->dim[axis + 2] : 1;
    c->out[i] = there ? y->dim[axis + 2] : 1;
    c->stride[i] = there && a->attr->strides.n ? a->attr->strides.at[axis] : 1;
    c->dilation[i] = there && a->attr->dilations.n ? a->attr->dilations.at[axis] : 1;
    c->pad[i] = there ? pad_before(a->attr, c, axis, i) : 0;
  }
  c->rows = w->dim[1] * c->k[0] * c->k[1] * c->k[2];
  c->cols = c->out[0] * c->out[1] * c->out[2];
  return true;
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
  int64_t taps = c.k[0] * c.k[1] * c.k[2], plane = c.in[0] * c.in[1] * c.in[2];
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

PareStatus pare_cuda_plan_CONV(PareKernelArgs *a) {
  Conv c;
  PareDtype d = a->in[0].type.dtype;
  if (!conv_of(a, &c)) return pare_why(a, PARE_UNSUPPORTED, "Conv has one to three spatial axes here");
  if (d != PARE_F32 && d != PARE_F64 && d != PARE_BF16) return pare_bad_type(a);
  PareArena *arena = pare_arena_new(sizeof(ConvState) + 64);
  ConvState *s = arena ? PARE_NEW(arena, ConvState) : NULL;
  if (!s) return pare_arena_free(arena), PARE_NOMEM;
  s->arena = arena;
  a->state = s;
  int64_t each = c.rows * c.cols * (int64_t)pare_dtype_size(d);
  s->images = pare_max(1, pare_min(c.n, each ? SPACE_BYTES / each : c.n));
  a->workspace_bytes = (size_t)(s->images * each);
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
  conv_of(a, &c);
  ConvState *s = (ConvState *)a->state;
  if (!pare_count(&a->out[0])) return PARE_OK;
  PARE_TRY(start_outputs(a, &c));
  if (!c.rows) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    int64_t plane = c.in[0] * c.in[1] * c.in[2], part = c.m / c.groups;
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
