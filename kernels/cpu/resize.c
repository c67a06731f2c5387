/* resize.c - Resize by nearest, linear or cubic interpolation, one axis after another: [outer, n, inner] becomes
 * [outer, m, inner], each element from one, two or four others. */
#include "kernels/cpu/cpu.h"

#include <math.h>

#ifndef T
enum { TAPS = 4 };
enum { HALF_PIXEL, PYTORCH_HALF_PIXEL, ALIGN_CORNERS, ASYMMETRIC, HALF_PIXEL_SYMMETRIC }; /* the words */
enum { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL };

typedef struct Axis {
  int64_t n, m;
  double scale, wide; /* wide: m before it is rounded */
} Axis;

/* Where output i lies among the inputs. */
static double source(const PareAttrs *attr, const Axis *x, int64_t i) {
  double half = ((double)i + 0.5) / x->scale - 0.5;
  switch (attr->coordinate_transformation_mode) {
  case PYTORCH_HALF_PIXEL: return x->m > 1 ? half : 0;
  case ALIGN_CORNERS: return x->wide > 1 ? (double)i * (double)(x->n - 1) / (x->wide - 1) : 0;
  case ASYMMETRIC: return (double)i / x->scale;
  case HALF_PIXEL_SYMMETRIC: return (double)x->n / 2 * (1 - (double)x->m / x->wide) + half;
  default: return half;
  }
}

static int64_t nearest(const PareAttrs *attr, double at) {
  double low = floor(at);
  switch (attr->nearest_mode) {
  case PREFER_CEIL: return (int64_t)(at - low >= 0.5 ? low + 1 : low);
  case FLOOR: return (int64_t)low;
  case CEIL: return (int64_t)ceil(at);
  default: return (int64_t)(at - low > 0.5 ? low + 1 : low);
  }
}

/* Keys' cubic convolution: weights of the four neighbours at distance r from the second. */
static void cubic(double r, double a, double w[TAPS]) {
  double s = 1 - r;
  w[0] = ((a * (r + 1) - 5 * a) * (r + 1) + 8 * a) * (r + 1) - 4 * a;
  w[1] = ((a + 2) * r - (a + 3)) * r * r + 1;
  w[2] = ((a + 2) * s - (a + 3)) * s * s + 1;
  w[3] = ((a * (s + 1) - 5 * a) * (s + 1) + 8 * a) * (s + 1) - 4 * a;
}

/* Inputs and weights of output i; what lies outside shows the edge, or nothing with exclude_outside. Returns how many. */
static int taps_of(const PareAttrs *attr, const Axis *x, int64_t i, int64_t from[TAPS], double w[TAPS]) {
  double at = source(attr, x, i), sum = 0;
  int64_t low = (int64_t)floor(at);
  int count = attr->mode == PARE_MODE_CUBIC ? 4 : attr->mode == PARE_MODE_LINEAR ? 2 : 1;
  if (count == 1) low = nearest(attr, at), w[0] = 1;
  if (count == 2) w[1] = at - (double)low, w[0] = 1 - w[1];
  if (count == 4) cubic(at - (double)low, pare_attr_get(attr, cubic_coeff_a, -0.75), w), low--;
  for (int t = 0; t < count; t++) {
    from[t] = pare_min_i64(pare_max_i64(low + t, 0), x->n - 1);
    if (attr->exclude_outside && from[t] != low + t) w[t] = 0;
    sum += w[t];
  }
  for (int t = 0; attr->exclude_outside && sum != 0 && t < count; t++) w[t] /= sum;
  return count;
}

/* The scale of axis d: from input 2, scales, or from the sizes; axes of input 4 or all. */
static double scale_of(const PareKernelArgs *a, int d) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  if (!pare_given(a, 2) || !pare_count(&a->in[2])) return (double)y->dim[d] / (double)x->dim[d];
  if (!pare_given(a, 4)) return pare_get_float(&a->in[2], d);
  for (int64_t i = 0; i < pare_count(&a->in[4]); i++)
    if (pare_axis(pare_get_int(&a->in[4], i), x->rank) == d) return pare_get_float(&a->in[2], i);
  return 1;
}

static Axis axis_of(const PareKernelArgs *a, int d) {
  Axis x = {a->in[0].type.dim[d], a->out[0].type.dim[d], scale_of(a, d), 0};
  x.wide = pare_given(a, 2) && pare_count(&a->in[2]) ? x.scale * (double)x.n : (double)x.m;
  return x;
}

#define PARE_TEMPLATE "kernels/cpu/resize.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"
#include "kernels/cpu/otherints.h"

/* Two tensors in double, between one axis and the next. */
PareStatus PARE_CPU(plan_RESIZE)(PareKernelArgs *a) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  size_t most = 1;
  for (int d = 0; d < x->rank; d++)
    if (!pare_mul_size(most, (size_t)pare_max_i64(x->dim[d], y->dim[d]), &most))
      return a->why = "its tensors do not fit in memory", PARE_NOMEM;
  return pare_mul_size(most, 2 * sizeof(double), &a->workspace_bytes) ? PARE_OK : PARE_NOMEM;
}

PareStatus PARE_CPU(RESIZE)(PareKernelArgs *a) { return pare_call(PARE_PICK_ANY(a->in[0].type.dtype, resize), a); }

static void resize_axis(const PareAttrs *attr, const Axis *axis, int64_t outer, int64_t inner, const double *x, double *y) {
#pragma omp parallel for schedule(static) if (pare_threaded(outer * axis->m * inner))
  for (int64_t r = 0; r < outer * axis->m; r++) {
    int64_t from[TAPS];
    double w[TAPS];
    int count = taps_of(attr, axis, r % axis->m, from, w);
    const double *row = x + r / axis->m * axis->n * inner;
    for (int64_t j = 0; j < inner; j++) {
      double sum = 0;
      for (int t = 0; t < count; t++) sum += w[t] * row[from[t] * inner + j];
      y[r * inner + j] = sum;
    }
  }
}

#else /* the template */
static void resize_axis(const PareAttrs *attr, const Axis *axis, int64_t outer, int64_t inner, const double *x, double *y);

#ifdef U
/* C_MAX as a double may be one more than it, which no C holds. */
static inline C FN(nearest)(double v) {
  v = rint(v);
  return v >= (double)C_MAX ? C_MAX : v > (double)C_MIN ? (C)v : C_MIN;
}
#endif

static PareStatus FN(resize)(PareKernelArgs *a) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  int64_t n = pare_count(&a->in[0]), m = pare_count(&a->out[0]), outer = 1;
  size_t half = a->workspace_bytes / 2 / sizeof(double);
  double *now = a->workspace, *next = now + half;
  if (!m) return PARE_OK;
  for (int64_t i = 0; i < n; i++) now[i] = (double)LOAD(((const T *)a->in[0].data)[i]);
  for (int d = 0; d < x->rank; d++) {
    Axis axis = axis_of(a, d);
    if (axis.n != axis.m || axis.scale != 1) {
      resize_axis(a->attr, &axis, outer, pare_span(x, d + 1, x->rank), now, next);
      double *swap = now;
      now = next, next = swap;
    }
    outer *= y->dim[d];
  }
  for (int64_t i = 0; i < m; i++) ((T *)a->out[0].data)[i] = STORE(PICK((C)now[i], FN(nearest)(now[i])));
  return PARE_OK;
}
#endif
