/* pool.cu - MaxPool, AveragePool, the global forms and their gradients, plane by plane of x[n, c, space...]. A window
 * sees what lies inside of the plane; pads count for the mean only with count_include_pad. A thread has a window, of a
 * large one a warp; in the gradients a place, to which the windows that hold it add in their order. */
#include "kernels/cuda/types.cuh"

extern "C" {
#include "kernels/window.h"
}

enum { SPACE = PARE_SPACE, LARGE = 128 }; /* taps that are worth a warp */

struct Pool : PareWindow {
  int64_t planes, places, outs; /* places, windows: of a plane */
  int with_pads, column_major;
};

/* Without kernel_shape the window is the plane. */
static PareStatus pool_of(PareKernelArgs *a, const PareType *x, const PareType *y, Pool *p) {
  const PareAttrs *attr = a->attr;
  *p = {};
  const int64_t *kernel = pare_attr_has(attr, kernel_shape) ? attr->kernel_shape.at : x->dim + 2;
  if (!pare_window_of(x, kernel, y, attr, p)) return pare_why(a, PARE_UNSUPPORTED, pare_too_much_space);
  p->planes = x->dim[0] * x->dim[1];
  p->places = pare_places(p->in), p->outs = pare_places(p->out);
  p->with_pads = attr->count_include_pad != 0, p->column_major = attr->storage_order != 0;
  return PARE_OK;
}

/* --- the taps of a window --- */

/* Along an axis: those that lie inside are first + dilation·t for t < count; `counted` with the pads. */
struct Taps {
  int64_t first, count, counted;
};
/* Taps from `start` on that lie before `end`, k at most. */
static __device__ inline int64_t taps_before(int64_t end, int64_t start, int64_t dilation, int64_t k) {
  int64_t n = start < end ? (end - start - 1) / dilation + 1 : 0;
  return n < k ? n : k;
}
static __device__ inline Taps taps_of(const Pool &p, int i, int64_t out) {
  int64_t d = p.dilation[i], start = out * p.stride[i] - p.pad[i], lo = start < 0 ? (d - 1 - start) / d : 0;
  int64_t count = taps_before(p.in[i], start, d, p.k[i]) - lo;
  return {start + lo * d, count > 0 ? count : 0, taps_before(p.end[i], start, d, p.k[i])};
}
static __device__ inline void window_at(const Pool &p, int64_t o, Taps t[SPACE]) {
  t[0] = taps_of(p, 0, o / (p.out[1] * p.out[2]));
  t[1] = taps_of(p, 1, o / p.out[2] % p.out[1]);
  t[2] = taps_of(p, 2, o % p.out[2]);
}

/* In double: pads may be longer than any plane. */
static __device__ inline double divisor(const Pool &p, const Taps t[SPACE]) {
  double padded = (double)t[0].counted * (double)t[1].counted * (double)t[2].counted;
  double count = p.with_pads ? padded : (double)(t[0].count * t[1].count * t[2].count);
  return count > 1 ? count : 1;
}

/* f(place) for the lane's taps, in order. */
template <int TEAM, class F> static __device__ inline void each_tap(const Pool &p, const Taps t[SPACE], int lane, F f) {
  for (int64_t z = 0; z < t[0].count; z++)
    for (int64_t y = 0; y < t[1].count; y++) {
      int64_t row = (t[0].first + z * p.dilation[0]) * p.in[1] + t[1].first + y * p.dilation[1];
      for (int64_t x = lane; x < t[2].count; x += TEAM) f(row * p.in[2] + t[2].first + x * p.dilation[2]);
    }
}

/* The windows of all planes, each a team's. */
#define EACH_WINDOW(o, p)                                                                                  \
  for (int64_t o = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / TEAM; o < (p).planes * (p).outs; \
       o += (int64_t)gridDim.x * blockDim.x / TEAM)

/* Launches `kernel`, a template of element type and TEAM, on all windows. */
#define LAUNCH_WINDOWS(kernel, T, p, ...)                                                                           \
  do {                                                                                                              \
    int64_t windows = (p).planes * (p).outs;                                                                        \
    if (pare_places((p).k) >= LARGE)                                                                                \
      PARE_LAUNCH((kernel<T, PARE_WARP>), pare_blocks(a, windows, PARE_THREADS / PARE_WARP), PARE_THREADS, 0,       \
                  pare_cuda(a)->stream, p, __VA_ARGS__);                                                            \
    else                                                                                                            \
      PARE_LAUNCH((kernel<T, 1>), pare_blocks(a, windows, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, p, \
                  __VA_ARGS__);                                                                                     \
  } while (0)

/* --- the largest --- */

/* A NaN is larger than any number. */
template <class T> static __device__ inline bool is_larger(T v, T than) {
  PARE_C x = pare_load(v), y = pare_load(than);
  if constexpr (PareNum<T>::integer) return x > y;
  else return x > y || (x != x && y == y);
}
/* The first largest of a window, for all lanes; -1: the window holds pads alone. */
template <class T, int TEAM>
static __device__ inline int64_t largest(const Pool &p, const Taps t[SPACE], int lane, const T *x) {
  int64_t best = -1;
  each_tap<TEAM>(p, t, lane, [&](int64_t at) {
    if (best < 0 || is_larger(x[at], x[best])) best = at;
  });
  for (int m = TEAM / 2; m; m /= 2) {
    int64_t other = __shfl_xor_sync(0xffffffffu, best, m);
    bool better = best < 0 || (other >= 0 && (is_larger(x[other], x[best]) ||
                                              (other < best && !is_larger(x[best], x[other]))));
    if (better) best = other;
  }
  return best;
}

/* A place counted with the first axis of space running fastest. */
static __device__ inline int64_t column_major(const Pool &p, int64_t at) {
  int64_t x = at % p.in[2], y = at / p.in[2] % p.in[1], z = at / p.in[2] / p.in[1];
  return p.in[0] > 1 ? z + p.in[0] * (y + p.in[1] * x) : y + p.in[1] * x;
}

/* y, index: NULL where not wanted; `none` is the largest of pads alone. */
template <class T, int TEAM>
static __global__ void max_pool(Pool p, T none, const T *x, T *y, int64_t *index) {
  int lane = (int)threadIdx.x % TEAM;
  EACH_WINDOW(o, p) {
    Taps t[SPACE];
    int64_t plane = o / p.outs * p.places;
    window_at(p, o % p.outs, t);
    int64_t at = largest<T, TEAM>(p, t, lane, x + plane);
    if (lane == 0 && y) y[o] = at < 0 ? none : x[plane + at];
    if (lane == 0 && index) index[o] = at < 0 ? -1 : plane + (p.column_major ? column_major(p, at) : at);
  }
}

template <class T> static T least_of() {
  if constexpr (std::is_same<T, PareBf16>::value) return {0xff80}; /* minus infinity */
  else if constexpr (PareNum<T>::integer) return std::numeric_limits<T>::lowest();
  else return -(T)INFINITY;
}
PareStatus pare_cuda_MAXPOOL(PareKernelArgs *a) {
  Pool p;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->out[0].type, &p));
  if (!pare_count(&a->out[0])) return PARE_OK;
  return pare_by_any(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    LAUNCH_WINDOWS(max_pool, T, p, least_of<T>(), (const T *)a->in[0].data, (T *)a->out[0].data,
                   pare_wanted(a, 1) ? (int64_t *)a->out[1].data : (int64_t *)NULL);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_GLOBALMAXPOOL(PareKernelArgs *a) { return pare_cuda_MAXPOOL(a); }

/* --- the mean --- */
template <class T, int TEAM> static __global__ void mean_pool(Pool p, const T *x, T *y) {
  int lane = (int)threadIdx.x % TEAM;
  EACH_WINDOW(o, p) {
    Taps t[SPACE];
    const T *plane = x + o / p.outs * p.places;
    double sum = 0;
    window_at(p, o % p.outs, t);
    each_tap<TEAM>(p, t, lane, [&](int64_t at) { sum += (double)pare_load(plane[at]); });
    if constexpr (TEAM > 1) sum = pare_warp_sum(sum);
    if (lane == 0) y[o] = pare_store<T>((PARE_C)(sum / divisor(p, t)));
  }
}
PareStatus pare_cuda_AVERAGEPOOL(PareKernelArgs *a) {
  Pool p;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->out[0].type, &p));
  if (!pare_count(&a->out[0])) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    LAUNCH_WINDOWS(mean_pool, T, p, (const T *)a->in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_GLOBALAVERAGEPOOL(PareKernelArgs *a) { return pare_cuda_AVERAGEPOOL(a); }

/* --- gradients --- */

/* Windows lo..hi-1 along an axis hold the place, those with a tap on it. */
struct Holders {
  int64_t at, lo, hi; /* at: from where the first window would begin without stride */
};
static __device__ inline Holders holders_of(const Pool &p, int i, int64_t place) {
  int64_t at = place + p.pad[i], s = p.stride[i], from = at - (p.k[i] - 1) * p.dilation[i];
  int64_t hi = at < 0 ? 0 : at / s + 1;
  return {at, from > 0 ? (from + s - 1) / s : 0, hi < p.out[i] ? hi : p.out[i]};
}
static __device__ inline bool holds(const Pool &p, int i, const Holders &h, int64_t o) {
  return p.dilation[i] == 1 || (h.at - o * p.stride[i]) % p.dilation[i] == 0;
}
/* f(o) for the plane's windows that hold a place, in order. */
template <class F> static __device__ inline void each_holder(const Pool &p, int64_t place, F f) {
  Holders h[SPACE] = {holders_of(p, 0, place / (p.in[1] * p.in[2])), holders_of(p, 1, place / p.in[2] % p.in[1]),
                      holders_of(p, 2, place % p.in[2])};
  for (int64_t z = h[0].lo; z < h[0].hi; z++)
    for (int64_t y = h[1].lo; holds(p, 0, h[0], z) && y < h[1].hi; y++)
      for (int64_t x = h[2].lo; holds(p, 1, h[1], y) && x < h[2].hi; x++)
        if (holds(p, 2, h[2], x)) f((z * p.out[1] + y) * p.out[2] + x);
}

/* winner: by window, the place that it took. */
template <class T> static __global__ void max_pool_grad(Pool p, const int64_t *winner, const T *dy, T *dx) {
  PARE_EACH(i, p.planes * p.places) {
    int64_t plane = i / p.places * p.outs;
    PARE_C sum = 0;
    each_holder(p, i % p.places, [&](int64_t o) {
      if (winner[plane + o] == i) sum += pare_load(dy[plane + o]);
    });
    dx[i] = pare_store<T>(sum);
  }
}
template <class T> static __global__ void mean_pool_grad(Pool p, const T *dy, T *dx) {
  PARE_EACH(i, p.planes * p.places) {
    int64_t plane = i / p.places * p.outs;
    PARE_C sum = 0;
    each_holder(p, i % p.places, [&](int64_t o) {
      Taps t[SPACE];
      window_at(p, o, t);
      sum += pare_load(dy[plane + o]) / (PARE_C)divisor(p, t);
    });
    dx[i] = pare_store<T>(sum);
  }
}

PareStatus pare_cuda_plan_MAXPOOLGRAD(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)pare_count(&a->in[1]) * sizeof(int64_t);
  return PARE_OK;
}
/* x, dy */
PareStatus pare_cuda_MAXPOOLGRAD(PareKernelArgs *a) {
  Pool p;
  int64_t n = pare_count(&a->out[0]), *winner = (int64_t *)a->workspace;
  PARE_TRY(pool_of(a, &a->in[0].type, &a->in[1].type, &p));
  p.column_major = 0;
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    if (pare_count(&a->in[1]))
      LAUNCH_WINDOWS(max_pool, T, p, least_of<T>(), (const T *)a->in[0].data, (T *)NULL, winner);
    PARE_LAUNCH(max_pool_grad<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, p,
                (const int64_t *)winner, (const T *)a->in[1].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
/* like x, dy */
PareStatus pare_cuda_AVERAGEPOOLGRAD(PareKernelArgs *a) {
  Pool p;
  int64_t n = pare_count(&a->out[0]);
  PARE_TRY(pool_of(a, &a->in[0].type, &a->in[1].type, &p));
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(mean_pool_grad<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, p,
                (const T *)a->in[1].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
