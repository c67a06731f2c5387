/* norm.cu - Softmax, LogSoftmax, LayerNormalization and AddNorm along axes, and their gradients. A line is what is
 * normalised together; a warp has a short one, a block a long one. Rows of f32 of the usual widths are held in
 * registers: each operand is read once, and they run at the memory's speed. */
#include "kernels/cuda/mma.cuh"

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

/* --- LayerNormalization: y = (x - mean)·rstd·gamma + beta, rstd = 1/sqrt(var + eps), of x + branch --- */
struct Rows {
  int64_t rows, n;
};
static Rows rows_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  return {pare_span(t, 0, axis), pare_span(t, axis, t->rank)};
}
/* [rows] of a float type. */
struct Stats {
  void *mean, *rstd;
  int mean_type, rstd_type;
};
/* Of x's type, or of bf16 where `low`; p NULL: left out. */
struct Operand {
  const void *p;
  int low;
};
static Operand operand_of(const PareKernelArgs *a, int i) {
  if (!pare_given(a, i)) return {NULL, 0};
  return {a->in[i].data, a->in[i].type.dtype == PARE_BF16};
}
template <class T> static __device__ inline PARE_C at(const Operand &o, int64_t i) {
  return o.low ? (PARE_C)pare_load(((const PareBf16 *)o.p)[i]) : pare_load(((const T *)o.p)[i]);
}

/* x is normed by these before anything else; gamma NULL: it is not. */
template <class T> struct First {
  Stats st;
  const T *gamma, *beta;
};
/* Results are NULL where nobody wants them. sum may lie over x or the branch. */
template <class T> struct Norm {
  Rows s;
  const T *x, *gamma, *beta;
  First<T> first;
  Operand branch;
  double eps;
  T *sum, *y;
  PareBf16 *low; /* y in bf16 */
  Stats st;
};
/* dx may lie over x, dy, dy2 or add. */
template <class T> struct NormGrad {
  Rows s;
  const T *x, *gamma;
  Operand dy, dy2;
  const T *add;
  Stats st;
  T *dx;
  PareBf16 *low; /* dx in bf16 */
};

/* Row r's element v at column i, normed before. */
template <class T> static __device__ inline PARE_C first_norm(const First<T> &f, PARE_C v, int64_t r, int64_t i) {
  if (!f.gamma) return v;
  PARE_C mean = (PARE_C)pare_get_float(f.st.mean, f.st.mean_type, r);
  v = (v - mean) * (PARE_C)pare_get_float(f.st.rstd, f.st.rstd_type, r) * pare_load(f.gamma[i]);
  return pare_load(pare_store<T>(f.beta ? v + pare_load(f.beta[i]) : v));
}

template <class T, int TEAM> static __global__ void norm(Norm<T> g) {
  Team<TEAM> t;
  auto made = [&](int64_t r, int64_t i) { /* x + branch */
    PARE_C v = first_norm(g.first, pare_load(g.x[i]), r, i - r * g.s.n);
    return g.branch.p ? v + at<T>(g.branch, i) : v;
  };
  EACH_LINE(t, r, g.s.rows) {
    int64_t lo = r * g.s.n, hi = lo + g.s.n;
    PARE_C sum = 0, square = 0;
    for (int64_t i = lo + t.lane; g.sum && i < hi; i += TEAM) g.sum[i] = pare_store<T>(made(r, i));
    auto value = [&](int64_t i) { return pare_load(g.sum ? g.sum[i] : pare_store<T>(made(r, i))); };
    for (int64_t i = lo + t.lane; i < hi; i += TEAM) sum += value(i);
    PARE_C mean = pare_team_sum<TEAM>(sum) / (PARE_C)g.s.n;
    for (int64_t i = lo + t.lane; i < hi; i += TEAM) square += (value(i) - mean) * (value(i) - mean);
    PARE_C rstd = 1 / sqrt(pare_team_sum<TEAM>(square) / (PARE_C)g.s.n + (PARE_C)g.eps);
    for (int64_t i = lo + t.lane; i < hi; i += TEAM) {
      PARE_C v = (value(i) - mean) * rstd * pare_load(g.gamma[i - lo]);
      if (g.beta) v += pare_load(g.beta[i - lo]);
      if (g.y) g.y[i] = pare_store<T>(v);
      if (g.low) g.low[i] = pare_store<PareBf16>((float)v);
    }
    if (t.lane == 0 && g.st.mean) pare_put_float(g.st.mean, g.st.mean_type, r, mean);
    if (t.lane == 0 && g.st.rstd) pare_put_float(g.st.rstd, g.st.rstd_type, r, rstd);
  }
}

/* With h = (x - mean)·rstd and g = dy·gamma: dx = rstd·(g - mean(g) - h·mean(g·h)) + add. */
template <class T, int TEAM> static __global__ void norm_dx(NormGrad<T> g) {
  Team<TEAM> t;
  auto grad = [&](int64_t i) { return g.dy2.p ? at<T>(g.dy, i) + at<T>(g.dy2, i) : at<T>(g.dy, i); };
  EACH_LINE(t, r, g.s.rows) {
    int64_t lo = r * g.s.n, hi = lo + g.s.n;
    PARE_C mean = (PARE_C)pare_get_float(g.st.mean, g.st.mean_type, r), sum = 0, dot = 0;
    PARE_C rstd = (PARE_C)pare_get_float(g.st.rstd, g.st.rstd_type, r);
    for (int64_t i = lo + t.lane; i < hi; i += TEAM) {
      PARE_C v = grad(i) * pare_load(g.gamma[i - lo]);
      sum += v;
      dot += v * ((pare_load(g.x[i]) - mean) * rstd);
    }
    sum = pare_team_sum<TEAM>(sum) / (PARE_C)g.s.n;
    dot = pare_team_sum<TEAM>(dot) / (PARE_C)g.s.n;
    for (int64_t i = lo + t.lane; i < hi; i += TEAM) {
      PARE_C h = (pare_load(g.x[i]) - mean) * rstd;
      PARE_C v = rstd * (grad(i) * pare_load(g.gamma[i - lo]) - sum - h * dot);
      if (g.add) v += pare_load(g.add[i]);
      if (g.dx) g.dx[i] = pare_store<T>(v);
      if (g.low) g.low[i] = pare_store<PareBf16>((float)v);
    }
  }
}

/* --- the same of rows of f32 that a team holds in registers: its thread has the packs of four numbers lane,
 * lane + TEAM, ... --- */
enum { FOUR = 4, LONGEST = 4096, HELD_THREADS = 128 };

struct alignas(8) Pairs {
  uint32_t at[2];
};
/* The bits of a thread's part of a row, of f32 or, in the first half, of bf16; zeros beyond the row. */
template <int CHUNKS> struct Held {
  uint32_t bits[CHUNKS][FOUR];
};
template <int TEAM, int CHUNKS>
static __device__ inline Held<CHUNKS> fetch(const Operand &o, int64_t begin, int packs, int lane) {
  Held<CHUNKS> h = {};
  if (o.low) {
    const Pairs *p = (const Pairs *)((const PareBf16 *)o.p + begin);
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
      if (c * TEAM + lane >= packs) continue;
      Pairs v = p[c * TEAM + lane];
      h.bits[c][0] = v.at[0], h.bits[c][1] = v.at[1];
    }
  } else if (o.p) {
    const ParePack<uint32_t> *p = (const ParePack<uint32_t> *)((const float *)o.p + begin);
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
      if (c * TEAM + lane >= packs) continue;
      ParePack<uint32_t> v = p[c * TEAM + lane];
      for (int k = 0; k < FOUR; k++) h.bits[c][k] = v.at[k];
    }
  }
  return h;
}
template <int CHUNKS> static __device__ inline void add_to(float v[CHUNKS][FOUR], int low, const Held<CHUNKS> &h) {
  PARE_UNROLL
  for (int c = 0; c < CHUNKS; c++) {
    if (low) {
      v[c][0] += pare_low(h.bits[c][0]), v[c][1] += pare_high(h.bits[c][0]);
      v[c][2] += pare_low(h.bits[c][1]), v[c][3] += pare_high(h.bits[c][1]);
    } else {
      for (int k = 0; k < FOUR; k++) v[c][k] += pare_bits_to_float(h.bits[c][k]);
    }
  }
}
/* Pack k of the row at `begin`, in f32, in bf16, or both. */
static __device__ inline void put_pack(float *full, PareBf16 *low, int64_t begin, int k, const float v[FOUR]) {
  if (full) {
    ParePack<float> p;
    for (int i = 0; i < FOUR; i++) p.at[i] = v[i];
    ((ParePack<float> *)(full + begin))[k] = p;
  }
  if (low) ((Pairs *)(low + begin))[k] = Pairs{{pare_pack2(v[0], v[1]), pare_pack2(v[2], v[3])}};
}

template <int TEAM, int CHUNKS>
static __device__ inline void norm_first(const First<float> &f, int64_t r, int packs, int lane, float v[CHUNKS][FOUR]) {
  float mean = (float)pare_get_float(f.st.mean, f.st.mean_type, r);
  float rstd = (float)pare_get_float(f.st.rstd, f.st.rstd_type, r);
  const ParePack<float> *gamma = (const ParePack<float> *)f.gamma, *beta = (const ParePack<float> *)f.beta;
  PARE_UNROLL
  for (int c = 0; c < CHUNKS; c++) {
    int at = c * TEAM + lane;
    if (at >= packs) continue;
    ParePack<float> by = gamma[at], off = {};
    if (beta) off = beta[at];
    for (int k = 0; k < FOUR; k++) v[c][k] = (v[c][k] - mean) * rstd * by.at[k] + off.at[k];
  }
}

template <int TEAM, int CHUNKS> static __global__ void __launch_bounds__(HELD_THREADS) norm_held(Norm<float> g) {
  Team<TEAM> t;
  int packs = (int)(g.s.n / FOUR);
  float each = 1 / (float)g.s.n;
  const ParePack<float> *gamma = (const ParePack<float> *)g.gamma, *beta = (const ParePack<float> *)g.beta;
  EACH_LINE(t, r, g.s.rows) {
    int64_t begin = r * g.s.n;
    Held<CHUNKS> x = fetch<TEAM, CHUNKS>(Operand{g.x, 0}, begin, packs, t.lane);
    Held<CHUNKS> branch = fetch<TEAM, CHUNKS>(g.branch, begin, packs, t.lane);
    float v[CHUNKS][FOUR] = {}, sum = 0, square = 0;
    add_to<CHUNKS>(v, 0, x);
    if (g.first.gamma) norm_first<TEAM, CHUNKS>(g.first, r, packs, t.lane, v);
    add_to<CHUNKS>(v, g.branch.low, branch);
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
      if (c * TEAM + t.lane >= packs) continue;
      put_pack(g.sum, NULL, begin, c * TEAM + t.lane, v[c]);
      sum += (v[c][0] + v[c][1]) + (v[c][2] + v[c][3]);
    }
    float mean = pare_team_sum<TEAM>(sum) * each;
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++)
      for (int k = 0; k < FOUR && c * TEAM + t.lane < packs; k++) square += (v[c][k] - mean) * (v[c][k] - mean);
    float rstd = 1 / sqrtf(pare_team_sum<TEAM>(square) * each + (float)g.eps);
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
      int at = c * TEAM + t.lane;
      if (at >= packs) continue;
      ParePack<float> by = gamma[at], off = {};
      if (beta) off = beta[at];
      for (int k = 0; k < FOUR; k++) v[c][k] = (v[c][k] - mean) * rstd * by.at[k] + off.at[k];
      put_pack(g.y, g.low, begin, at, v[c]);
    }
    if (t.lane == 0 && g.st.mean) pare_put_float(g.st.mean, g.st.mean_type, r, mean);
    if (t.lane == 0 && g.st.rstd) pare_put_float(g.st.rstd, g.st.rstd_type, r, rstd);
  }
}

template <int TEAM, int CHUNKS> static __global__ void __launch_bounds__(HELD_THREADS) norm_dx_held(NormGrad<float> g) {
  Team<TEAM> t;
  int packs = (int)(g.s.n / FOUR);
  float each = 1 / (float)g.s.n;
  const ParePack<float> *gamma = (const ParePack<float> *)g.gamma;
  EACH_LINE(t, r, g.s.rows) {
    int64_t begin = r * g.s.n;
    Held<CHUNKS> x = fetch<TEAM, CHUNKS>(Operand{g.x, 0}, begin, packs, t.lane);
    Held<CHUNKS> dy = fetch<TEAM, CHUNKS>(g.dy, begin, packs, t.lane);
    Held<CHUNKS> dy2 = fetch<TEAM, CHUNKS>(g.dy2, begin, packs, t.lane);
    Held<CHUNKS> add = fetch<TEAM, CHUNKS>(Operand{g.add, 0}, begin, packs, t.lane);
    float mean = (float)pare_get_float(g.st.mean, g.st.mean_type, r), sum = 0, dot = 0;
    float rstd = (float)pare_get_float(g.st.rstd, g.st.rstd_type, r), v[CHUNKS][FOUR] = {};
    add_to<CHUNKS>(v, g.dy.low, dy);
    add_to<CHUNKS>(v, g.dy2.low, dy2);
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
      if (c * TEAM + t.lane >= packs) continue;
      ParePack<float> by = gamma[c * TEAM + t.lane];
      for (int k = 0; k < FOUR; k++) {
        v[c][k] *= by.at[k];
        sum += v[c][k];
        dot += v[c][k] * ((pare_bits_to_float(x.bits[c][k]) - mean) * rstd);
      }
    }
    sum = pare_team_sum<TEAM>(sum) * each;
    dot = pare_team_sum<TEAM>(dot) * each;
    PARE_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
      if (c * TEAM + t.lane >= packs) continue;
      for (int k = 0; k < FOUR; k++) {
        float h = (pare_bits_to_float(x.bits[c][k]) - mean) * rstd;
        v[c][k] = rstd * (v[c][k] - sum - h * dot) + pare_bits_to_float(add.bits[c][k]);
      }
      put_pack(g.dx, g.low, begin, c * TEAM + t.lane, v[c]);
    }
  }
}

/* Do rows of n f32 at these addresses, each NULL or the beginning of a tensor, fit? */
static bool can_hold(int64_t n, std::initializer_list<const void *> p) {
  bool fits = n % FOUR == 0 && n <= LONGEST;
  for (const void *q : p) fits = fits && pare_aligned(q);
  return fits;
}
/* Launches `kernel`, a template of TEAM and CHUNKS, on g's rows. */
#define LAUNCH_HELD_BY(kernel, TEAM, CHUNKS, g)                                                                  \
  PARE_LAUNCH((kernel<TEAM, CHUNKS>), pare_blocks(a, (g).s.rows, HELD_THREADS / TEAM), HELD_THREADS, 0,          \
              pare_cuda(a)->stream, g)
#define LAUNCH_HELD(kernel, g)                                                                                   \
  do {                                                                                                           \
    if ((g).s.n <= 2 * FOUR * PARE_WARP) LAUNCH_HELD_BY(kernel, PARE_WARP, 2, g);                                \
    else if ((g).s.n <= 4 * FOUR * PARE_WARP) LAUNCH_HELD_BY(kernel, PARE_WARP, 4, g);                           \
    else if ((g).s.n <= 6 * FOUR * PARE_WARP) LAUNCH_HELD_BY(kernel, PARE_WARP, 6, g);                           \
    else if ((g).s.n <= 8 * FOUR * PARE_WARP) LAUNCH_HELD_BY(kernel, PARE_WARP, 8, g);                           \
    else if ((g).s.n <= 4 * FOUR * HELD_THREADS) LAUNCH_HELD_BY(kernel, HELD_THREADS, 4, g);                     \
    else LAUNCH_HELD_BY(kernel, HELD_THREADS, 8, g);                                                             \
  } while (0)

/* Result i, NULL where nobody wants it, or where i is -1: the op has none. */
template <class T> static T *result(const PareKernelArgs *a, int i) {
  return i >= 0 && pare_wanted(a, i) ? (T *)a->out[i].data : NULL;
}

/* Inputs i..i+3: mean, rstd, gamma, beta. */
template <class T> static First<T> first_of(const PareKernelArgs *a, int i) {
  if (!pare_given(a, i)) return {};
  return {{a->in[i].data, a->in[i + 1].data, (int)a->in[i].type.dtype, (int)a->in[i + 1].type.dtype},
          (const T *)a->in[i + 2].data, (const T *)(pare_given(a, i + 3) ? a->in[i + 3].data : NULL)};
}

static PareStatus norm_run(PareKernelArgs *a, int sum, int y, int mean, int rstd, int low) {
  Rows s = rows_of(a);
  bool bias = pare_given(a, 2);
  if (pare_count(&a->in[1]) != s.n || (bias && pare_count(&a->in[2]) != s.n))
    return pare_why(a, PARE_DATA, "scale or bias has not the size of the normalised axes");
  if (s.rows * s.n == 0) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    Norm<T> g = {s, (const T *)a->in[0].data, (const T *)a->in[1].data, (const T *)(bias ? a->in[2].data : NULL),
                 first_of<T>(a, 4), operand_of(a, 3), pare_attr_get(a->attr, epsilon, 1e-5), result<T>(a, sum), result<T>(a, y),
                 result<PareBf16>(a, low), {result<void>(a, mean), result<void>(a, rstd), 0, 0}};
    if (g.st.mean) g.st.mean_type = a->out[mean].type.dtype;
    if (g.st.rstd) g.st.rstd_type = a->out[rstd].type.dtype;
    if constexpr (std::is_same<T, float>::value)
      if (can_hold(s.n, {g.x, g.gamma, g.beta, g.first.gamma, g.first.beta, g.branch.p, g.sum, g.y, g.low})) {
        LAUNCH_HELD(norm_held, g);
        return pare_launched(a);
      }
    LAUNCH_LINES(norm, T, s.rows, s.n, g);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_LAYERNORM(PareKernelArgs *a) { return norm_run(a, -1, 0, 1, 2, -1); }
/* Inputs: x, gamma, beta, branch, and mean, rstd, gamma, beta of a norm of x that stands for x. Outputs: x + branch, its norm, mean, rstd, the norm in bf16, each if wanted. */
PareStatus pare_cuda_ADDNORM(PareKernelArgs *a) { return norm_run(a, 0, 1, 2, 3, 4); }

/* sums[part][2][n]: dgamma = sum(dy·h) and dbeta = sum(dy) of a part of the rows; a thread a column. */
template <class T> static __global__ void norm_sums(NormGrad<T> g, int64_t parts, PARE_C *sums) {
  int64_t n = g.s.n;
  PARE_EACH(k, parts * n) {
    int64_t p = k / n, i = k % n, lo = g.s.rows / parts * p, hi = p + 1 == parts ? g.s.rows : lo + g.s.rows / parts;
    PARE_C dgamma = 0, dbeta = 0;
    for (int64_t r = lo; r < hi; r++) {
      PARE_C d = at<T>(g.dy, r * n + i), mean = (PARE_C)pare_get_float(g.st.mean, g.st.mean_type, r);
      if (g.dy2.p) d += at<T>(g.dy2, r * n + i);
      dgamma += d * ((pare_load(g.x[r * n + i]) - mean) * (PARE_C)pare_get_float(g.st.rstd, g.st.rstd_type, r));
      dbeta += d;
    }
    sums[2 * p * n + i] = dgamma;
    sums[(2 * p + 1) * n + i] = dbeta;
  }
}
template <class T>
static __global__ void norm_combine(int64_t n, int64_t parts, const PARE_C *sums, T *dgamma, T *dbeta) {
  PARE_EACH(i, n) {
    PARE_C g = 0, b = 0;
    for (int64_t p = 0; p < parts; p++) g += sums[2 * p * n + i], b += sums[(2 * p + 1) * n + i];
    if (dgamma) dgamma[i] = pare_store<T>(g);
    if (dbeta) dbeta[i] = pare_store<T>(b);
  }
}
template <class T> static PareStatus sums_run(PareKernelArgs *a, const NormGrad<T> &g) {
  int64_t n = g.s.n, parts = pare_max(1, pare_min(PARTS, g.s.rows / 8));
  PARE_C *sums = (PARE_C *)a->workspace;
  PARE_LAUNCH(norm_sums<T>, pare_blocks(a, parts * n, 128), 128, 0, pare_cuda(a)->stream, g, parts, sums);
  PARE_LAUNCH(norm_combine<T>, pare_blocks(a, n, 128), 128, 0, pare_cuda(a)->stream, n, parts, (const PARE_C *)sums,
              result<T>(a, 1), result<T>(a, 2));
  return pare_launched(a);
}

PareStatus pare_cuda_plan_LAYERNORMGRAD(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)PARTS * 2 * (size_t)rows_of(a).n * sizeof(double);
  return PARE_OK;
}
/* Inputs: x, gamma, mean, rstd, dy, dy2, add. Outputs: dx, dgamma, dbeta, dx in bf16, each if wanted. */
PareStatus pare_cuda_LAYERNORMGRAD(PareKernelArgs *a) {
  Rows s = rows_of(a);
  if (!s.n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    Stats st = {a->in[2].data, a->in[3].data, (int)a->in[2].type.dtype, (int)a->in[3].type.dtype};
    NormGrad<T> g = {s, (const T *)a->in[0].data, (const T *)a->in[1].data, operand_of(a, 4), operand_of(a, 5),
                     (const T *)operand_of(a, 6).p, st, result<T>(a, 0), result<PareBf16>(a, 3)};
    if (pare_wanted(a, 1) || pare_wanted(a, 2)) PARE_TRY(sums_run(a, g)); /* before dx lies over x or dy */
    if (!s.rows || (!g.dx && !g.low)) return PARE_OK;
    if constexpr (std::is_same<T, float>::value)
      if (can_hold(s.n, {g.x, g.gamma, g.dy.p, g.dy2.p, g.add, g.dx, g.low})) {
        LAUNCH_HELD(norm_dx_held, g);
        return pare_launched(a);
      }
    LAUNCH_LINES(norm_dx, T, s.rows, s.n, g);
    return pare_launched(a);
  });
}
