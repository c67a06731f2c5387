/* resize.cu - Resize by nearest, linear or cubic interpolation: each element from one, two or four others along every
 * axis that changes. A thread has an element, and adds up in double, the first axis innermost. */
#include "kernels/cuda/types.cuh"

enum { TAPS = 4 };
enum { HALF_PIXEL, PYTORCH_HALF_PIXEL, ALIGN_CORNERS, ASYMMETRIC, HALF_PIXEL_SYMMETRIC }; /* the words */
enum { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL };

struct Axis {
  int64_t n, m, stride; /* stride: of x */
  double scale, wide, shift; /* wide: the output's size before it is rounded; shift: HALF_PIXEL_SYMMETRIC's */
  int changes;
};
/* Neighbouring axes that do not change are one. */
struct Resize {
  int rank, taps, coordinates, nearest, exclude;
  double cubic;
  Axis axis[PARE_MAX_RANK];
};

/* Where output i lies among the inputs: no product is added to, so that there is nothing to contract, and ties are the
 * CPU's. */
static __device__ inline double source(const Resize &r, const Axis &x, int64_t i) {
  double half = ((double)i + 0.5) / x.scale - 0.5;
  switch (r.coordinates) {
    case PYTORCH_HALF_PIXEL: return x.m > 1 ? half : 0;
    case ALIGN_CORNERS: return x.wide > 1 ? (double)i * (double)(x.n - 1) / (x.wide - 1) : 0;
    case ASYMMETRIC: return (double)i / x.scale;
    case HALF_PIXEL_SYMMETRIC: return x.shift + half;
  }
  return half;
}
static __device__ inline int64_t nearest(const Resize &r, double at) {
  double low = floor(at);
  switch (r.nearest) {
    case PREFER_CEIL: return (int64_t)(at - low >= 0.5 ? low + 1 : low);
    case FLOOR: return (int64_t)low;
    case CEIL: return (int64_t)ceil(at);
  }
  return (int64_t)(at - low > 0.5 ? low + 1 : low);
}
/* Keys' cubic convolution: weights of the four neighbours at distance r from the second. */
static __device__ inline void cubic(double r, double a, double w[TAPS]) {
  double s = 1 - r;
  w[0] = ((a * (r + 1) - 5 * a) * (r + 1) + 8 * a) * (r + 1) - 4 * a;
  w[1] = ((a + 2) * r - (a + 3)) * r * r + 1;
  w[2] = ((a + 2) * s - (a + 3)) * s * s + 1;
  w[3] = ((a * (s + 1) - 5 * a) * (s + 1) + 8 * a) * (s + 1) - 4 * a;
}

/* The elements of x that make output i of an axis: offsets and weights. */
struct Taps {
  int n;
  int64_t from[TAPS];
  double w[TAPS];
};
/* What lies outside shows the edge, or nothing with exclude_outside. */
static __device__ inline void taps_of(const Resize &r, const Axis &x, int64_t i, Taps *t) {
  if (!x.changes) {
    t->n = 1, t->from[0] = i * x.stride, t->w[0] = 1;
    return;
  }
  double at = source(r, x, i), sum = 0;
  int64_t low = r.taps == 1 ? nearest(r, at) : (int64_t)floor(at);
  t->n = r.taps;
  if (r.taps == 1) t->w[0] = 1;
  if (r.taps == 2) t->w[1] = at - (double)low, t->w[0] = 1 - t->w[1];
  if (r.taps == 4) cubic(at - (double)low, r.cubic, t->w), low--;
  for (int k = 0; k < r.taps; k++) {
    int64_t place = low + k < 0 ? 0 : low + k >= x.n ? x.n - 1 : low + k;
    if (r.exclude && place != low + k) t->w[k] = 0;
    t->from[k] = place * x.stride;
    sum += t->w[k];
  }
  for (int k = 0; r.exclude && sum != 0 && k < r.taps; k++) t->w[k] /= sum;
}

/* The sum over axis 0's taps, of these sums over axis 1's, and so on. */
template <class T> static __device__ inline double interpolate(int rank, const Taps *axis, const T *x) {
  int tap[PARE_MAX_RANK] = {};
  double sum[PARE_MAX_RANK] = {};
  for (;;) {
    int64_t at = 0;
    int d = 0;
    for (int k = 0; k < rank; k++) at += axis[k].from[tap[k]];
    double v = (double)pare_load(x[at]);
    for (; d < rank; d++) {
      sum[d] += axis[d].w[tap[d]] * v;
      if (++tap[d] < axis[d].n) break;
      v = sum[d];
      tap[d] = 0, sum[d] = 0;
    }
    if (d == rank) return v;
  }
}

/* Integers: to the nearest one of lo..hi. */
template <class T> static __device__ inline T rounded(double v, T lo, T hi) {
  if constexpr (PareNum<T>::integer) {
    double r = rint(v);
    return r >= (double)hi ? hi : r > (double)lo ? (T)r : lo;
  } else {
    return pare_store<T>((PARE_C)v);
  }
}

template <class T> static __global__ void resize(Resize r, int64_t count, T lo, T hi, const T *x, T *y) {
  PARE_EACH(i, count) {
    Taps axis[PARE_MAX_RANK];
    int64_t rest = i;
    for (int d = r.rank - 1; d >= 0; d--) {
      taps_of(r, r.axis[d], rest % r.axis[d].m, &axis[d]);
      rest /= r.axis[d].m;
    }
    y[i] = rounded<T>(interpolate(r.rank, axis, x), lo, hi);
  }
}

static double known_float(const PareKernelArgs *a, int k, int64_t i) {
  const char *at = (const char *)a->known[k] + (size_t)i * pare_esize(&a->in[k]);
  float narrow;
  double wide;
  uint16_t half;
  switch (a->in[k].type.dtype) {
    case PARE_F64: return memcpy(&wide, at, sizeof wide), wide;
    case PARE_BF16: return memcpy(&half, at, sizeof half), pare_bits_to_float((uint32_t)half << 16);
    default: return memcpy(&narrow, at, sizeof narrow), narrow;
  }
}
/* The scale of axis d: from input 2, scales, or from the sizes; axes of input 4 or all. */
static double scale_of(const PareKernelArgs *a, int d) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  if (!pare_given(a, 2) || !pare_count(&a->in[2])) return (double)y->dim[d] / (double)x->dim[d];
  if (!pare_given(a, 4)) return known_float(a, 2, d);
  for (int64_t i = 0; i < pare_count(&a->in[4]); i++)
    if (pare_axis(pare_known_int(a, 4, i), x->rank) == d) return known_float(a, 2, i);
  return 1;
}

static PareStatus resize_of(PareKernelArgs *a, Resize *r) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  const PareAttrs *attr = a->attr;
  *r = {};
  PARE_TRY(pare_need_known(a, 2));
  PARE_TRY(pare_need_known(a, 4));
  r->taps = attr->mode == PARE_MODE_CUBIC ? 4 : attr->mode == PARE_MODE_LINEAR ? 2 : 1;
  r->coordinates = (int)attr->coordinate_transformation_mode, r->nearest = (int)attr->nearest_mode;
  r->exclude = attr->exclude_outside != 0, r->cubic = pare_attr_get(attr, cubic_coeff_a, -0.75);
  for (int d = 0; d < x->rank; d++) {
    Axis axis = {x->dim[d], y->dim[d], pare_span(x, d + 1, x->rank), scale_of(a, d), 0, 0, 0};
    axis.wide = pare_given(a, 2) && pare_count(&a->in[2]) ? axis.scale * (double)axis.n : (double)axis.m;
    axis.shift = (double)axis.n / 2 * (1 - (double)axis.m / axis.wide);
    axis.changes = axis.n != axis.m || axis.scale != 1;
    Axis *last = r->rank ? &r->axis[r->rank - 1] : NULL;
    if (!last || last->changes || axis.changes) r->axis[r->rank++] = axis;
    else last->n *= axis.n, last->m *= axis.m, last->stride = axis.stride;
  }
  return PARE_OK;
}

PareStatus pare_cuda_RESIZE(PareKernelArgs *a) {
  Resize r;
  int64_t count = pare_count(&a->out[0]);
  if (!count) return PARE_OK;
  PARE_TRY(resize_of(a, &r));
  return pare_by_any(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    T lo = {}, hi = {};
    if constexpr (PareNum<T>::integer) lo = std::numeric_limits<T>::lowest(), hi = std::numeric_limits<T>::max();
    PARE_LAUNCH(resize<T>, pare_blocks(a, count, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, r, count, lo, hi,
                (const T *)a->in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
