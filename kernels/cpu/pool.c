/* pool.c - MaxPool, AveragePool, the global forms and their gradients: plane by plane of x[n, c, space...]. A window
 * sees what lies inside of the plane; pads count for the mean only with count_include_pad. */
#include "kernels/cpu/cpu.h"
#include "kernels/window.h"

#include <math.h>

#ifndef T
typedef struct Pool {
  PareWindow w;
  int64_t planes, in, out; /* places of a plane */
} Pool;

/* Without kernel_shape the window is the plane. */
static PareStatus pool_of(PareKernelArgs *a, const PareType *x, const PareType *y, Pool *p) {
  const PareAttrs *attr = a->attr;
  const int64_t *kernel = pare_attr_has(attr, kernel_shape) ? attr->kernel_shape.at : x->dim + 2;
  if (!pare_window_of(x, kernel, y, attr, &p->w)) return a->why = pare_too_much_space, PARE_UNSUPPORTED;
  p->planes = x->dim[0] * x->dim[1];
  p->in = pare_places(p->w.in), p->out = pare_places(p->w.out);
  return PARE_OK;
}

/* The taps of one window along axis i that lie inside: first + step·t for t < count; `counted` with the pads. */
typedef struct Taps {
  int64_t first, count, counted;
} Taps;

static inline Taps taps_of(const Pool *p, int i, int64_t out) {
  int64_t start = out * p->w.stride[i] - p->w.pad[i], d = p->w.dilation[i], k = p->w.k[i];
  int64_t lo = start < 0 ? pare_ceil_div(-start, d) : 0;
  int64_t hi = pare_min_i64(k, start < p->w.in[i] ? (p->w.in[i] - start - 1) / d + 1 : 0);
  int64_t last = pare_min_i64(k, start < p->w.end[i] ? (p->w.end[i] - start - 1) / d + 1 : 0);
  return (Taps){start + lo * d, pare_max_i64(0, hi - lo), pare_max_i64(0, last)};
}

static inline void window_at(const Pool *p, int64_t o, Taps t[PARE_SPACE]) {
  t[0] = taps_of(p, 0, o / (p->w.out[1] * p->w.out[2]));
  t[1] = taps_of(p, 1, o / p->w.out[2] % p->w.out[1]);
  t[2] = taps_of(p, 2, o % p->w.out[2]);
}

/* Number of taps, and the place in the plane of one of them. */
static inline int64_t taps(const Taps t[PARE_SPACE]) { return t[0].count * t[1].count * t[2].count; }
static inline int64_t tap_place(const Pool *p, const Taps t[PARE_SPACE], int64_t i) {
  int64_t x = t[2].first + i % t[2].count * p->w.dilation[2], rest = i / t[2].count;
  int64_t y = t[1].first + rest % t[1].count * p->w.dilation[1], z = t[0].first + rest / t[1].count * p->w.dilation[0];
  return (z * p->w.in[1] + y) * p->w.in[2] + x;
}

/* A place counted with the first axis of space running fastest. */
static int64_t column_major(const Pool *p, int64_t at) {
  int64_t x = at % p->w.in[2], y = at / p->w.in[2] % p->w.in[1], z = at / p->w.in[2] / p->w.in[1];
  return p->w.in[0] > 1 ? z + p->w.in[0] * (y + p->w.in[1] * x) : y + p->w.in[1] * x;
}

/* In double: pads may be longer than any plane. */
static double divisor(const PareAttrs *attr, const Taps t[PARE_SPACE]) {
  double padded = (double)t[0].counted * (double)t[1].counted * (double)t[2].counted;
  double count = attr->count_include_pad ? padded : (double)taps(t);
  return count > 1 ? count : 1;
}

#define PARE_TEMPLATE "kernels/cpu/pool.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"
#include "kernels/cpu/otherints.h"

PareStatus PARE_CPU(MAXPOOL)(PareKernelArgs *a) { return pare_call(PARE_PICK_ANY(a->in[0].type.dtype, max_pool), a); }
PareStatus PARE_CPU(GLOBALMAXPOOL)(PareKernelArgs *a) { return PARE_CPU(MAXPOOL)(a); }
PARE_FLOAT_KERNEL(AVERAGEPOOL, mean_pool)
PARE_FLOAT_KERNEL(GLOBALAVERAGEPOOL, mean_pool)
PARE_FLOAT_KERNEL(MAXPOOLGRAD, max_pool_grad)
PARE_FLOAT_KERNEL(AVERAGEPOOLGRAD, mean_pool_grad)

#else /* the template */
/* The first largest of a window; a NaN is larger than any number. -1: the window holds pads alone. */
static int64_t FN(largest)(const Pool *p, const T *x, int64_t o) {
  Taps t[PARE_SPACE];
  window_at(p, o, t);
  int64_t best = -1;
  for (int64_t i = 0, n = taps(t); i < n; i++) {
    int64_t at = tap_place(p, t, i);
    C v = LOAD(x[at]), b = best < 0 ? v : LOAD(x[best]);
    if (best < 0 || v > b || PICK((v != v && b == b), false)) best = at;
  }
  return best;
}

static PareStatus FN(max_pool)(PareKernelArgs *a) {
  Pool p;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->out[0].type, &p));
#pragma omp parallel for schedule(static) if (pare_threaded(p.planes * p.in))
  for (int64_t c = 0; c < p.planes; c++)
    for (int64_t o = 0; o < p.out; o++) {
      const T *x = (const T *)a->in[0].data + c * p.in;
      int64_t at = FN(largest)(&p, x, o);
      ((T *)a->out[0].data)[c * p.out + o] = at < 0 ? STORE(PICK(-(C)INFINITY, C_MIN)) : x[at];
      if (pare_wanted(a, 1))
        ((int64_t *)a->out[1].data)[c * p.out + o] =
            at < 0 ? -1 : c * p.in + (a->attr->storage_order ? column_major(&p, at) : at);
    }
  return PARE_OK;
}

#ifndef U
static PareStatus FN(mean_pool)(PareKernelArgs *a) {
  Pool p;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->out[0].type, &p));
#pragma omp parallel for schedule(static) if (pare_threaded(p.planes * p.in))
  for (int64_t c = 0; c < p.planes; c++)
    for (int64_t o = 0; o < p.out; o++) {
      const T *x = (const T *)a->in[0].data + c * p.in;
      Taps t[PARE_SPACE];
      window_at(&p, o, t);
      double sum = 0;
      for (int64_t i = 0, n = taps(t); i < n; i++) sum += (double)LOAD(x[tap_place(&p, t, i)]);
      ((T *)a->out[0].data)[c * p.out + o] = STORE((C)(sum / divisor(a->attr, t)));
    }
  return PARE_OK;
}

/* x, dy */
static PareStatus FN(max_pool_grad)(PareKernelArgs *a) {
  Pool p;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->in[1].type, &p));
#pragma omp parallel for schedule(static) if (pare_threaded(p.planes * p.in))
  for (int64_t c = 0; c < p.planes; c++) {
    const T *x = (const T *)a->in[0].data + c * p.in, *dy = (const T *)a->in[1].data + c * p.out;
    T *dx = (T *)a->out[0].data + c * p.in;
    for (int64_t i = 0; i < p.in; i++) dx[i] = STORE((C)0);
    for (int64_t o = 0; o < p.out; o++) {
      int64_t at = FN(largest)(&p, x, o);
      if (at >= 0) dx[at] = STORE(LOAD(dx[at]) + LOAD(dy[o]));
    }
  }
  return PARE_OK;
}

/* like x, dy */
static PareStatus FN(mean_pool_grad)(PareKernelArgs *a) {
  Pool p;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->in[1].type, &p));
#pragma omp parallel for schedule(static) if (pare_threaded(p.planes * p.in))
  for (int64_t c = 0; c < p.planes; c++) {
    const T *dy = (const T *)a->in[1].data + c * p.out;
    T *dx = (T *)a->out[0].data + c * p.in;
    for (int64_t i = 0; i < p.in; i++) dx[i] = STORE((C)0);
    for (int64_t o = 0; o < p.out; o++) {
      Taps t[PARE_SPACE];
      window_at(&p, o, t);
      C share = LOAD(dy[o]) / (C)divisor(a->attr, t);
      for (int64_t i = 0, n = taps(t); i < n; i++) {
        T *to = dx + tap_place(&p, t, i);
        *to = STORE(LOAD(*to) + share);
      }
    }
  }
  return PARE_OK;
}
#endif
#endif
