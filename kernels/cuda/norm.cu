/* norm.cu - Softmax, LogSoftmax and LayerNormalization along axes, and their gradients. A line is what is normalised
 * together; a warp has a short one, a block a long one. */
#include "kernels/cuda/cuda.cuh"

enum { SHORT = 1024, PARTS = 64 };

struct Lines {
  int64_t outer, n, inner;
};

/* flatten: before opset 13, all axes from `axis` on are one line and the default axis is 1. */
static Lines lines_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  if (t->rank == 0) return {1, 1, 1};
  if (a->attr->flatten) {
    int64_t axis = pare_attr_get(a->attr, axis, 1);
    int k = axis == t->rank ? t->rank : pare_axis(axis, t->rank);
    return {pare_span(t, 0, k), pare_span(t, k, t->rank), 1};
  }
  int k = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  return {pare_span(t, 0, k), t->dim[k], pare_span(t, k + 1, t->rank)};
}

/* The team's lane, and its lines: line, line + step, ... */
template <int TEAM> struct Team {
  int lane;
  int64_t line, step;
  __device__ Team() {
    int teams = (int)blockDim.x / TEAM;
    lane = (int)threadIdx.x % TEAM;
    line = (int64_t)blockIdx.x * teams + (int)threadIdx.x / TEAM;
    step = (int64_t)gridDim.x * teams;
  }
};
#define EACH_LINE(team, i, lines) for (int64_t i = (team).line; i < (lines); i += (team).step)

/* Launches `kernel`, a template of element type and TEAM, on `lines` lines of n elements. */
#define LAUNCH_LINES(kernel, T, lines, n, ...)                                                                       \
  do {                                                                                                               \
    if ((n) <= SHORT)                                                                                                \
      PARE_LAUNCH((kernel<T, PARE_WARP>), pare_blocks(a, (lines), PARE_THREADS / PARE_WARP), PARE_THREADS, 0,       \
                  pare_cuda(a)->stream, __VA_ARGS__);                                                                \
    else                                                                                                             \
      PARE_LAUNCH((kernel<T, PARE_THREADS>), pare_blocks(a, (lines), 1), PARE_THREADS, 0, pare_cuda(a)->stream,      \
                  __VA_ARGS__);                                                                                      \
  } while (0)

/* --- softmax: y = exp(x - max) / sum --- */
template <class T, int TEAM> static __global__ void softmax(Lines l, int as_log, const T *x, T *y) {
  Team<TEAM> t;
  EACH_LINE(t, i, l.outer * l.inner) {
    int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
    PARE_C max = -INFINITY, sum = 0;
    for (int64_t k = t.lane; k < l.n; k += TEAM) max = fmax(max, pare_load(x[at + k * l.inner]));
    max = pare_team_max<TEAM>(max);
    for (int64_t k = t.lane; k < l.n; k += TEAM) sum += exp(pare_load(x[at + k * l.inner]) - max);
    sum = pare_team_sum<TEAM>(sum);
    PARE_C scale = 1 / sum, log_sum = log(sum);
    for (int64_t k = t.lane; k < l.n; k += TEAM) {
      PARE_C v = pare_load(x[at + k * l.inner]) - max;
      y[at + k * l.inner] = pare_store<T>(as_log ? v - log_sum : exp(v) * scale);
    }
  }
}
static PareStatus softmax_run(PareKernelArgs *a, bool as_log) {
  Lines l = lines_of(a);
  if (l.outer * l.n * l.inner == 0) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    LAUNCH_LINES(softmax, T, l.outer * l.inner, l.n, l, (int)as_log, (const T *)a->in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_SOFTMAX(PareKernelArgs *a) { return softmax_run(a, false); }
PareStatus pare_cuda_LOGSOFTMAX(PareKernelArgs *a) { return softmax_run(a, true); }

/* dx = y·(dy - sum(y·dy)) */
template <class T, int TEAM> static __global__ void softmax_grad(Lines l, const T *y, const T *dy, T *dx) {
  Team<TEAM> t;
  EACH_LINE(t, i, l.outer * l.inner) {
    int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
    PARE_C dot = 0;
    for (int64_t k = t.lane; k < l.n; k += TEAM) dot += pare_load(y[at + k * l.inner]) * pare_load(dy[at + k * l.inner]);
    dot = pare_team_sum<TEAM>(dot);
    for (int64_t k = t.lane; k < l.n; k += TEAM) {
      int64_t j = at + k * l.inner;
      dx[j] = pare_store<T>(pare_load(y[j]) * (pare_load(dy[j]) - dot));
    }
  }
}
PareStatus pare_cuda_SOFTMAXGRAD(PareKernelArgs *a) {
  Lines l = lines_of(a);
  if (l.outer * l.n * l.inner == 0) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    LAUNCH_LINES(softmax_grad, T, l.outer * l.inner, l.n, l, (const T *)a->in[0].data, (const T *)a->in[1].data,
                 (T *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- LayerNormalization: y = (x - mean)·rstd·gamma + beta, rstd = 1/sqrt(var + eps) --- */
struct Rows {
  int64_t rows, n;
};
static Rows rows_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  return {pare_span(t, 0, axis), pare_span(t, axis, t->rank)};
}
/* Optional outputs [rows] of a float type. */
struct Stats {
  void *mean, *rstd;
  int mean_type, rstd_type;
};

template <class T, int TEAM>
static __global__ void layernorm(Rows s, const T *x, const T *gamma, const T *beta, double eps, T *y, Stats st) {
  Team<TEAM> t;
  EACH_LINE(t, r, s.rows) {
    const T *xr = x + r * s.n;
    PARE_C sum = 0, square = 0;
    for (int64_t i = t.lane; i < s.n; i += TEAM) sum += pare_load(xr[i]);
    PARE_C mean = pare_team_sum<TEAM>(sum) / (PARE_C)s.n;
    for (int64_t i = t.lane; i < s.n; i += TEAM) square += (pare_load(xr[i]) - mean) * (pare_load(xr[i]) - mean);
    PARE_C rstd = 1 / sqrt(pare_team_sum<TEAM>(square) / (PARE_C)s.n + (PARE_C)eps);
    for (int64_t i = t.lane; i < s.n; i += TEAM) {
      PARE_C v = (pare_load(xr[i]) - mean) * rstd * pare_load(gamma[i]);
      y[r * s.n + i] = pare_store<T>(beta ? v + pare_load(beta[i]) : v);
    }
    if (t.lane == 0 && st.mean) pare_put_float(st.mean, st.mean_type, r, mean);
    if (t.lane == 0 && st.rstd) pare_put_float(st.rstd, st.rstd_type, r, rstd);
  }
}
PareStatus pare_cuda_LAYERNORM(PareKernelArgs *a) {
  Rows s = rows_of(a);
  bool bias = pare_given(a, 2);
  if (pare_count(&a->in[1]) != s.n || (bias && pare_count(&a->in[2]) != s.n))
    return pare_why(a, PARE_DATA, "scale or bias has not the size of the normalised axes");
  if (s.rows * s.n == 0) return PARE_OK;
  Stats st = {};
  if (pare_wanted(a, 1)) st.mean = a->out[1].data, st.mean_type = a->out[1].type.dtype;
  if (pare_wanted(a, 2)) st.rstd = a->out[2].data, st.rstd_type = a->out[2].type.dtype;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    LAUNCH_LINES(layernorm, T, s.rows, s.n, s, (const T *)a->in[0].data, (const T *)a->in[1].data,
                 (const T *)(bias ? a->in[2].data : NULL), (double)pare_attr_get(a->attr, epsilon, 1e-5),
                 (T *)a->out[0].data, st);
    return pare_launched(a);
  });
}

/* With h = (x - mean)·rstd and g = dy·gamma: dx = rstd·(g - mean(g) - h·mean(g·h)). */
template <class T, int TEAM>
static __global__ void layernorm_dx(Rows s, const T *x, const T *gamma, const T *dy, Stats st, T *dx) {
  Team<TEAM> t;
  EACH_LINE(t, r, s.rows) {
    const T *xr = x + r * s.n, *dr = dy + r * s.n;
    PARE_C mean = (PARE_C)pare_get_float(st.mean, st.mean_type, r), sum = 0, dot = 0;
    PARE_C rstd = (PARE_C)pare_get_float(st.rstd, st.rstd_type, r);
    for (int64_t i = t.lane; i < s.n; i += TEAM) {
      PARE_C g = pare_load(dr[i]) * pare_load(gamma[i]);
      sum += g;
      dot += g * ((pare_load(xr[i]) - mean) * rstd);
    }
    sum = pare_team_sum<TEAM>(sum) / (PARE_C)s.n;
    dot = pare_team_sum<TEAM>(dot) / (PARE_C)s.n;
    for (int64_t i = t.lane; i < s.n; i += TEAM) {
      PARE_C h = (pare_load(xr[i]) - mean) * rstd;
      dx[r * s.n + i] = pare_store<T>(rstd * (pare_load(dr[i]) * pare_load(gamma[i]) - sum - h * dot));
    }
  }
}
/* sums[part][2][n]: dgamma = sum(dy·h) and dbeta = sum(dy) of a part of the rows; a thread a column. */
template <class T>
static __global__ void layernorm_sums(Rows s, int64_t parts, const T *x, const T *dy, Stats st, PARE_C *sums) {
  PARE_EACH(k, parts * s.n) {
    int64_t p = k / s.n, i = k % s.n, lo = s.rows / parts * p, hi = p + 1 == parts ? s.rows : lo + s.rows / parts;
    PARE_C dgamma = 0, dbeta = 0;
    for (int64_t r = lo; r < hi; r++) {
      PARE_C d = pare_load(dy[r * s.n + i]), mean = (PARE_C)pare_get_float(st.mean, st.mean_type, r);
      dgamma += d * ((pare_load(x[r * s.n + i]) - mean) * (PARE_C)pare_get_float(st.rstd, st.rstd_type, r));
      dbeta += d;
    }
    sums[2 * p * s.n + i] = dgamma;
    sums[(2 * p + 1) * s.n + i] = dbeta;
  }
}
template <class T>
static __global__ void layernorm_combine(int64_t n, int64_t parts, const PARE_C *sums, T *dgamma, T *dbeta) {
  PARE_EACH(i, n) {
    PARE_C g = 0, b = 0;
    for (int64_t p = 0; p < parts; p++) g += sums[2 * p * n + i], b += sums[(2 * p + 1) * n + i];
    if (dgamma) dgamma[i] = pare_store<T>(g);
    if (dbeta) dbeta[i] = pare_store<T>(b);
  }
}

PareStatus pare_cuda_plan_LAYERNORMGRAD(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)PARTS * 2 * (size_t)rows_of(a).n * sizeof(double);
  return PARE_OK;
}
/* Inputs: x, gamma, mean, rstd, dy. Outputs: dx, dgamma, dbeta, each if wanted. */
PareStatus pare_cuda_LAYERNORMGRAD(PareKernelArgs *a) {
  Rows s = rows_of(a);
  Stats st = {a->in[2].data, a->in[3].data, (int)a->in[2].type.dtype, (int)a->in[3].type.dtype};
  int64_t parts = pare_max(1, pare_min(PARTS, s.rows / 8));
  if (!s.n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    const T *x = (const T *)a->in[0].data, *dy = (const T *)a->in[4].data;
    PARE_C *sums = (PARE_C *)a->workspace;
    if (pare_wanted(a, 0) && s.rows)
      LAUNCH_LINES(layernorm_dx, T, s.rows, s.n, s, x, (const T *)a->in[1].data, dy, st, (T *)a->out[0].data);
    if (!pare_wanted(a, 1) && !pare_wanted(a, 2)) return pare_launched(a);
    PARE_LAUNCH(layernorm_sums<T>, pare_blocks(a, parts * s.n, 128), 128, 0, pare_cuda(a)->stream, s, parts, x, dy, st,
                sums);
    PARE_LAUNCH(layernorm_combine<T>, pare_blocks(a, s.n, 128), 128, 0, pare_cuda(a)->stream, s.n, parts,
                (const PARE_C *)sums, (T *)(pare_wanted(a, 1) ? a->out[1].data : NULL),
                (T *)(pare_wanted(a, 2) ? a->out[2].data : NULL));
    return pare_launched(a);
  });
}
