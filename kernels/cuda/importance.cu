/* importance.cu - LoRAPrune's score of a weight from its adapters alone, summed over rows and columns, in one pass over
 * W.
 *
 * y = x·W, W[K,N], adapters A[K,r], B[r,N] (the paper's eq. 7 transposed):
 *   G = A·dB + dA·B - eta·dA·dB,   I = |G·(W + s·A·B)|^power,   row_k = sum_n I, col_n = sum_k I.
 * For a line of W as it is stored, with a number of the line times a vector over its positions:
 *   G = sum u_r·P_r + v_r·Q_r,  A·B = sum w_r·Q_r
 *   W[K,N], line k:  P = dB, Q = B,   u = A_k - eta·dA_k, v = dA_k, w = A_k
 *   W[N,K], line n:  P = dA', Q = A', u = B_n - eta·dB_n, v = dB_n, w = B_n   (A' is A transposed)
 * With dA and dB left out G is 1: the magnitude of the merged weights. */
#include "kernels/cuda/factor.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/rows.cuh"

/* --- any types, rank and address --- */
enum { CHUNK = 8, LINES = 64, COLUMNS = 128 };

struct Scores {
  int64_t lines, width, r, strips; /* strips of LINES lines */
  int64_t line_parts;              /* sums that make up one of a line */
  int square, gradient;
  double scale, eta;
  PareFactor line, dline, across, dacross;
};

static Scores scores_of(const PareKernelArgs *a) {
  const PareType *w = &a->in[0].type;
  bool t = a->attr->transB;
  Scores s = {};
  s.lines = w->dim[0], s.width = w->dim[1], s.r = a->in[1].type.dim[1];
  s.strips = pare_ceil_div(s.lines, LINES);
  s.line_parts = pare_ceil_div(s.width, COLUMNS) * (COLUMNS / PARE_WARP);
  s.square = a->attr->power == 2, s.gradient = pare_given(a, 4);
  s.scale = pare_attr_get(a->attr, scale, 1.0), s.eta = pare_attr_get(a->attr, alpha, 1.0);
  int64_t n = t ? s.lines : s.width; /* B is [r, n] */
  PareFactor A = pare_factor(&a->in[1], s.r, 1), B = pare_factor(&a->in[2], 1, n);
  s.line = t ? B : A, s.across = t ? A : B;
  if (!s.gradient) return s;
  PareFactor dA = pare_factor(&a->in[3], s.r, 1), dB = pare_factor(&a->in[4], 1, n);
  s.dline = t ? dB : dA, s.dacross = t ? dA : dB;
  return s;
}

/* A block has LINES lines of COLUMNS positions, a thread a position, whose numbers of up to CHUNK ranks stay in
 * registers. by_line[4·tile + warp][line]: sums over a warp's positions; by_position[strip][position]. */
template <class T>
static __global__ void score(Scores s, const T *x, PARE_C *by_line, PARE_C *by_position) {
  int64_t tiles = (s.width + COLUMNS - 1) / COLUMNS;
  int lane = (int)threadIdx.x % PARE_WARP;
  for (int64_t b = blockIdx.x; b < tiles * s.strips; b += gridDim.x) {
    int64_t strip = b / tiles, i = b % tiles * COLUMNS + threadIdx.x;
    int64_t warp = b % tiles * (COLUMNS / PARE_WARP) + threadIdx.x / PARE_WARP;
    int64_t hi = (strip + 1) * LINES < s.lines ? (strip + 1) * LINES : s.lines;
    bool inside = i < s.width;
    PARE_C p[CHUNK], q[CHUNK], sum = 0;
    for (int j = 0; j < CHUNK; j++) {
      bool there = inside && j < s.r;
      p[j] = there && s.gradient ? pare_factor_at<PARE_C>(s.dacross, i, j) : 0;
      q[j] = there ? pare_factor_at<PARE_C>(s.across, i, j) : 0;
    }
    for (int64_t k = strip * LINES; k < hi; k++) {
      PARE_C g = s.gradient ? 0 : 1, d = 0;
      for (int j = 0; j < CHUNK; j++) {
        if (j >= s.r) break;
        PARE_C w = pare_factor_at<PARE_C>(s.line, k, j), v = s.gradient ? pare_factor_at<PARE_C>(s.dline, k, j) : 0;
        if (s.gradient) g += (w - (PARE_C)s.eta * v) * p[j] + v * q[j];
        d += w * q[j];
      }
      for (int64_t j = CHUNK; inside && j < s.r; j++) { /* higher ranks are read again for each line */
        PARE_C w = pare_factor_at<PARE_C>(s.line, k, j), v = s.gradient ? pare_factor_at<PARE_C>(s.dline, k, j) : 0;
        PARE_C qj = pare_factor_at<PARE_C>(s.across, i, j);
        if (s.gradient) g += (w - (PARE_C)s.eta * v) * pare_factor_at<PARE_C>(s.dacross, i, j) + v * qj;
        d += w * qj;
      }
      PARE_C e = inside ? fabs(g * (pare_load(x[k * s.width + i]) + (PARE_C)s.scale * d)) : 0;
      e = s.square ? e * e : e;
      sum += e;
      e = pare_warp_sum(e);
      if (lane == 0) by_line[warp * s.lines + k] = e;
    }
    if (inside) by_position[strip * s.width + i] = sum;
  }
}

static PareStatus run_any(PareKernelArgs *a, const Scores &s) {
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    typedef PARE_C C;
    C *by_line = (C *)a->workspace, *by_position = by_line + s.line_parts * s.lines;
    PARE_LAUNCH(score<T>, pare_blocks(a, pare_ceil_div(s.width, COLUMNS) * s.strips, 1), COLUMNS, 0,
                pare_cuda(a)->stream, s, (const T *)a->in[0].data, by_line, by_position);
    return pare_launched(a);
  });
}

/* --- all in f32, lines of W aligned to 16 bytes: many weights by one launch ---
 * A block has TILE positions of TILE lines; its share of the factors lies in shared memory. A warp takes SIDE lines at
 * a time, a lane QUAD neighbours of each: for a rank, 2 QUAD + 2 SIDE numbers are read and 3 QUAD SIDE are multiplied
 * and added. W comes by copies to shared memory, SIDE lines ahead of those that are worked on. */
enum { TILE = 128, SIDE = 8, QUAD = 4, WARPS = 4, ROW = TILE + 4, AHEAD = 2 }; /* ROW: no two of 8 ranks share a bank */
static_assert(TILE == QUAD * PARE_WARP && TILE == WARPS * PARE_WARP && TILE % (SIDE * WARPS) == 0, "");

struct Weight {
  const float *w, *line, *dline, *across, *dacross; /* dline and dacross may be NULL */
  float *by_line, *by_position;                     /* [tile][line], [strip of TILE lines][position] */
  int lines, width, r, transposed, square;
  float scale, eta;
};

/* to[j·ROW + i] = the factor's element [from + i, j], zero behind its end and where there is none. It is stored
 * [n, r], or else [r, n]. */
static __device__ inline void take_factor(const float *x, bool ranks_inside, int from, int n, int r, float *to) {
  for (int e = (int)threadIdx.x; e < r * TILE; e += WARPS * PARE_WARP) {
    int i = ranks_inside ? e / r : e % TILE, j = ranks_inside ? e % r : e / TILE;
    int64_t at = ranks_inside ? (int64_t)(from + i) * r + j : (int64_t)j * n + from + i;
    to[j * ROW + i] = x && from + i < n ? x[at] : 0.f;
  }
}

/* This lane's part of SIDE lines; those behind the end of W are zero. */
static __device__ inline void ask_lines(const Weight &m, int line, int position, float *stage) {
  PARE_UNROLL for (int l = 0; l < SIDE; l++) {
    bool there = line + l < m.lines && position < m.width;
    pare_copy(stage + l * TILE, m.w + (there ? (int64_t)(line + l) * m.width + position : 0), there);
  }
  pare_copy_commit();
}

/* e[0] of lane i becomes the sum over the warp of e[i / 4]. */
static __device__ inline void sum_lines(float e[SIDE], int lane) {
  PARE_UNROLL for (int half = SIDE / 2, m = PARE_WARP / 2; half; half /= 2, m /= 2)
    PARE_UNROLL for (int i = 0; i < half; i++) {
      bool upper = lane & m;
      float mine = upper ? e[i + half] : e[i], other = upper ? e[i] : e[i + half];
      e[i] = mine + __shfl_xor_sync(0xffffffffu, other, m);
    }
  for (int m = PARE_WARP / SIDE / 2; m; m /= 2) e[0] += __shfl_xor_sync(0xffffffffu, e[0], m);
}

/* g = G and d = A·B of SIDE lines and QUAD positions. P, Q at the lane's first position, w, v at the first line. */
static __device__ inline void multiply(const Weight &m, const float *P, const float *Q, const float *w, const float *v,
                                       float g[SIDE][QUAD], float d[SIDE][QUAD]) {
  typedef ParePack<float> Pack;
  PARE_UNROLL for (int l = 0; l < SIDE; l++)
    PARE_UNROLL for (int k = 0; k < QUAD; k++) g[l][k] = m.dline ? 0.f : 1.f, d[l][k] = 0.f;
  for (int j = 0; j < m.r * ROW; j += ROW) {
    Pack p = *(const Pack *)(P + j), q = *(const Pack *)(Q + j);
    PARE_UNROLL for (int l0 = 0; l0 < SIDE; l0 += QUAD) {
      Pack ws = *(const Pack *)(w + j + l0), vs = *(const Pack *)(v + j + l0);
      PARE_UNROLL for (int i = 0; i < QUAD; i++) {
        float u = ws.at[i] - m.eta * vs.at[i];
        PARE_UNROLL for (int k = 0; k < QUAD; k++) {
          g[l0 + i][k] += u * p.at[k];
          g[l0 + i][k] += vs.at[i] * q.at[k];
          d[l0 + i][k] += ws.at[i] * q.at[k];
        }
      }
    }
  }
}

static __global__ void __launch_bounds__(WARPS *PARE_WARP, 4)
    score_weights(const __grid_constant__ PareTable<Weight> t) {
  typedef ParePack<float> Pack;
  PARE_SHARED(float, shared);
  PareShare share = pare_share(t);
  const Weight &m = t.at[share.row];
  int tiles = (m.width + TILE - 1) / TILE, tile = (int)(share.block % tiles), strip = (int)(share.block / tiles);
  int lane = (int)threadIdx.x % PARE_WARP, warp = (int)threadIdx.x / PARE_WARP;
  int mine = QUAD * lane, position = tile * TILE + mine, first = strip * TILE;
  float *P = shared, *Q = P + m.r * ROW, *w = Q + m.r * ROW, *v = w + m.r * ROW;
  float *stage = v + m.r * ROW + warp * AHEAD * SIDE * TILE + mine, sum[QUAD] = {0};
  ask_lines(m, first + warp * SIDE, position, stage);
  take_factor(m.across, m.transposed, tile * TILE, m.width, m.r, Q);
  take_factor(m.dacross, m.transposed, tile * TILE, m.width, m.r, P);
  take_factor(m.line, !m.transposed, first, m.lines, m.r, w);
  take_factor(m.dline, !m.transposed, first, m.lines, m.r, v);
  __syncthreads();
  for (int i = 0; i < TILE / (SIDE * WARPS); i++) {
    int at = (i * WARPS + warp) * SIDE, line = first + at;
    float g[SIDE][QUAD], d[SIDE][QUAD], e[SIDE];
    if (line >= m.lines) break;
    ask_lines(m, line + SIDE * WARPS, position, stage + (i + 1) % AHEAD * SIDE * TILE);
    multiply(m, P + mine, Q + mine, w + at, v + at, g, d);
    pare_copy_wait<1>();
    PARE_UNROLL for (int l = 0; l < SIDE; l++) {
      Pack x = *(const Pack *)(stage + (i % AHEAD * SIDE + l) * TILE);
      e[l] = 0;
      PARE_UNROLL for (int k = 0; k < QUAD; k++) {
        float y = g[l][k] * (x.at[k] + m.scale * d[l][k]);
        y = m.square ? y * y : fabsf(y);
        sum[k] += y;
        e[l] += y;
      }
    }
    sum_lines(e, lane);
    int l = lane / (PARE_WARP / SIDE);
    if (lane % (PARE_WARP / SIDE) == 0 && line + l < m.lines) m.by_line[(int64_t)tile * m.lines + line + l] = e[0];
  }
  __syncthreads(); /* the factors have been read */
  PARE_UNROLL for (int k = 0; k < QUAD; k++) shared[warp * TILE + mine + k] = sum[k];
  __syncthreads();
  int i = (int)threadIdx.x;
  float total = 0;
  for (int k = 0; k < WARPS; k++) total += shared[k * TILE + i];
  if (tile * TILE + i < m.width) m.by_position[(int64_t)strip * m.width + tile * TILE + i] = total;
}

static size_t shared_of(int64_t r) { return sizeof(float) * (size_t)(4 * r * ROW + WARPS * AHEAD * SIDE * TILE); }

static bool is_plain(const PareKernelArgs *a) {
  Scores s = scores_of(a);
  for (int i = 0; i < a->nin; i++)
    if (pare_given(a, i) && a->in[i].type.dtype != PARE_F32) return false;
  return pare_aligned(a->in[0].data) && s.width % QUAD == 0 && s.lines < INT32_MAX / 2 && s.width < INT32_MAX / 2 &&
         s.r >= 1 && shared_of(s.r) <= (size_t)pare_cuda(a)->shared;
}

/* Blocks; none where the weight takes the other way. */
static int64_t weight_row(const PareKernelArgs *a, Weight *m) {
  Scores s = scores_of(a);
  if (!is_plain(a)) return 0;
  *m = {(const float *)a->in[0].data, (const float *)s.line.at, (const float *)s.dline.at, (const float *)s.across.at,
        (const float *)s.dacross.at, (float *)a->workspace, NULL, (int)s.lines, (int)s.width, (int)s.r,
        (int)a->attr->transB, s.square, (float)s.scale, (float)s.eta};
  m->by_position = m->by_line + pare_ceil_div(s.width, TILE) * s.lines;
  return pare_ceil_div(s.width, TILE) * pare_ceil_div(s.lines, TILE);
}

static PareStatus launch_weights(PareKernelArgs *a, const PareTable<Weight> &t, int64_t blocks) {
  int r = 0;
  for (int i = 0; i < t.n; i++) r = t.at[i].r > r ? t.at[i].r : r;
  PARE_TRY(pare_cuda_status(a, cudaFuncSetAttribute((const void *)score_weights,
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_of(r))));
  PARE_LAUNCH(score_weights, blocks, WARPS * PARE_WARP, shared_of(r), pare_cuda(a)->stream, t);
  return pare_launched(a);
}

/* --- out[i] = sum of part[p][i] over p, in double --- */
struct Parts {
  const void *part;
  void *out;
  int64_t n, parts;
  int wide, type; /* parts are doubles; the type of out */
};
static __global__ void add_parts(const __grid_constant__ PareTable<Parts> t) {
  PareShare share = pare_share(t);
  const Parts &r = t.at[share.row];
  PARE_EACH_SHARED(i, r.n, share) {
    double s = 0;
    for (int64_t p = 0; p < r.parts; p++)
      s += r.wide ? ((const double *)r.part)[p * r.n + i] : (double)((const float *)r.part)[p * r.n + i];
    pare_put_float(r.out, r.type, i, s);
  }
}
/* The sums by line, or else by position. A transposed W's lines are columns. */
static int64_t parts_row(const PareKernelArgs *a, bool by_line, Parts *p) {
  Scores s = scores_of(a);
  bool plain = is_plain(a), wide = a->in[0].type.dtype == PARE_F64;
  int64_t line_parts = plain ? pare_ceil_div(s.width, TILE) : s.line_parts;
  int64_t strips = plain ? pare_ceil_div(s.lines, TILE) : s.strips;
  const PareTensor *out = &a->out[by_line == !a->attr->transB ? 0 : 1];
  size_t before = by_line ? 0 : (size_t)(line_parts * s.lines) * (wide ? sizeof(double) : sizeof(float));
  *p = {(const char *)a->workspace + before, out->data, by_line ? s.lines : s.width, by_line ? line_parts : strips,
        wide, (int)out->type.dtype};
  return p->n ? pare_blocks(a, p->n, PARE_THREADS) : 0;
}

/* Room for either way: the first has fewer parts. */
PareStatus pare_cuda_plan_IMPORTANCE(PareKernelArgs *a) {
  Scores s = scores_of(a);
  size_t size = a->in[0].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float);
  a->workspace_bytes = size * (size_t)(s.line_parts * s.lines + s.strips * s.width);
  return PARE_OK;
}
/* Outputs: row[K], col[N]. */
PareStatus pare_cuda_many_IMPORTANCE(PareKernelArgs *const *a, int n) {
  for (int i = 0; i < n; i++)
    if (!is_plain(a[i])) PARE_TRY(run_any(a[i], scores_of(a[i])));
  PARE_TRY(pare_each_table<Weight>(
      n, [&](int64_t i, Weight *m) { return weight_row(a[i], m); },
      [&](const PareTable<Weight> &t, int64_t blocks) { return launch_weights(a[0], t, blocks); }));
  return pare_each_table<Parts>(
      2 * n, [&](int64_t i, Parts *p) { return parts_row(a[i / 2], i % 2 == 0, p); },
      [&](const PareTable<Parts> &t, int64_t blocks) {
        PARE_LAUNCH(add_parts, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_IMPORTANCE(PareKernelArgs *a) { return pare_cuda_many_IMPORTANCE(&a, 1); }
