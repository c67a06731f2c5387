/* importance.cu - LoRAPrune's score of a weight from its adapters alone, summed over rows and columns, in one pass over
 * W; and sums by group.
 *
 * y = x·W, W[K,N], adapters A[K,r], B[r,N] (the paper's eq. 7 transposed):
 *   G = A·dB + dA·B - eta·dA·dB,   I = |G·(W + s·A·B)|^power,   row_k = sum_n I, col_n = sum_k I.
 * For a line of W as it is stored, with a number of the line times a vector over its positions:
 *   G = sum u_r·P_r + v_r·Q_r,  A·B = sum w_r·Q_r
 *   W[K,N], line k:  P = dB, Q = B,   u = A_k - eta·dA_k, v = dA_k, w = A_k
 *   W[N,K], line n:  P = dA', Q = A', u = B_n - eta·dB_n, v = dB_n, w = B_n   (A' is A transposed)
 * With dA and dB left out G is 1: the magnitude of the merged weights. */
#include "kernels/cuda/cuda.cuh"

enum { CHUNK = 8, LINES = 64, COLUMNS = 128 };

/* Element [i, j] of a factor is at[i·step + j·rank_step]. */
struct Factor {
  const void *at;
  int type;
  int64_t step, rank_step;
};
struct Scores {
  int64_t lines, width, r, strips; /* strips of LINES lines */
  int square, gradient;
  double scale, eta;
  Factor line, dline, across, dacross;
};

static Factor factor_of(const PareTensor *t, int64_t step, int64_t rank_step) {
  return {t->data, (int)t->type.dtype, step, rank_step};
}
static Scores scores_of(const PareKernelArgs *a) {
  const PareType *w = &a->in[0].type;
  bool t = a->attr->transB;
  Scores s = {};
  s.lines = w->dim[0], s.width = w->dim[1], s.r = a->in[1].type.dim[1];
  s.strips = pare_ceil_div(s.lines, LINES);
  s.square = a->attr->power == 2, s.gradient = pare_given(a, 4);
  s.scale = pare_attr_get(a->attr, scale, 1.0), s.eta = pare_attr_get(a->attr, alpha, 1.0);
  int64_t n = t ? s.lines : s.width; /* B is [r, n] */
  Factor A = factor_of(&a->in[1], s.r, 1), B = factor_of(&a->in[2], 1, n);
  s.line = t ? B : A, s.across = t ? A : B;
  if (!s.gradient) return s;
  Factor dA = factor_of(&a->in[3], s.r, 1), dB = factor_of(&a->in[4], 1, n);
  s.dline = t ? dB : dA, s.dacross = t ? dA : dB;
  return s;
}
template <class C> static __device__ inline C get(const Factor &f, int64_t i, int64_t j) {
  return (C)pare_get_float(f.at, f.type, i * f.step + j * f.rank_step);
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
      p[j] = there && s.gradient ? get<PARE_C>(s.dacross, i, j) : 0;
      q[j] = there ? get<PARE_C>(s.across, i, j) : 0;
    }
    for (int64_t k = strip * LINES; k < hi; k++) {
      PARE_C g = s.gradient ? 0 : 1, d = 0;
      for (int j = 0; j < CHUNK; j++) {
        if (j >= s.r) break;
        PARE_C w = get<PARE_C>(s.line, k, j), v = s.gradient ? get<PARE_C>(s.dline, k, j) : 0;
        if (s.gradient) g += (w - (PARE_C)s.eta * v) * p[j] + v * q[j];
        d += w * q[j];
      }
      for (int64_t j = CHUNK; inside && j < s.r; j++) { /* higher ranks are read again for each line */
        PARE_C w = get<PARE_C>(s.line, k, j), v = s.gradient ? get<PARE_C>(s.dline, k, j) : 0;
        PARE_C qj = get<PARE_C>(s.across, i, j);
        if (s.gradient) g += (w - (PARE_C)s.eta * v) * get<PARE_C>(s.dacross, i, j) + v * qj;
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
/* out[i] = sum of part[p][i] over p, in double. */
template <class C> static __global__ void add_parts(int64_t n, int64_t parts, const C *part, void *out, int type) {
  PARE_EACH(i, n) {
    double s = 0;
    for (int64_t p = 0; p < parts; p++) s += (double)part[p * n + i];
    pare_put_float(out, type, i, s);
  }
}

static int64_t warps_of(const Scores *s) { return pare_ceil_div(s->width, COLUMNS) * (COLUMNS / PARE_WARP); }

PareStatus pare_cuda_plan_IMPORTANCE(PareKernelArgs *a) {
  Scores s = scores_of(a);
  size_t size = a->in[0].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float);
  a->workspace_bytes = size * (size_t)(warps_of(&s) * s.lines + s.strips * s.width);
  return PARE_OK;
}
/* Outputs: row[K], col[N]; a transposed W's lines are columns. */
PareStatus pare_cuda_IMPORTANCE(PareKernelArgs *a) {
  Scores s = scores_of(a);
  const PareTensor *line = &a->out[a->attr->transB ? 1 : 0], *position = &a->out[a->attr->transB ? 0 : 1];
  cudaStream_t stream = pare_cuda(a)->stream;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    typedef PARE_C C;
    C *by_line = (C *)a->workspace, *by_position = by_line + warps_of(&s) * s.lines;
    PARE_LAUNCH(score<T>, pare_blocks(a, pare_ceil_div(s.width, COLUMNS) * s.strips, 1), COLUMNS, 0, stream, s,
                (const T *)a->in[0].data, by_line, by_position);
    PARE_LAUNCH(add_parts<C>, pare_blocks(a, s.lines, 128), 128, 0, stream, s.lines, warps_of(&s), (const C *)by_line,
                (void *)line->data, (int)line->type.dtype);
    PARE_LAUNCH(add_parts<C>, pare_blocks(a, s.width, 128), 128, 0, stream, s.width, s.strips,
                (const C *)by_position, (void *)position->data, (int)position->type.dtype);
    return pare_launched(a);
  });
}

/* --- GroupSum: out[g] = sum of vec_k over gid_k = g; -1 belongs to no group. A warp a group, which reads them all --- */
template <class T>
static __global__ void group_sum(int64_t n, int64_t groups, const T *x, const void *gid, int type, T *y,
                                 uint32_t *fault) {
  int lane = (int)threadIdx.x % PARE_WARP;
  for (int64_t g = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; g < groups;
       g += (int64_t)gridDim.x * blockDim.x / PARE_WARP) {
    PARE_C s = 0;
    for (int64_t k = lane; k < n; k += PARE_WARP) {
      int64_t at = pare_get_int(gid, type, k);
      if (at < -1 || at >= groups) *fault = PARE_FAULT_GROUP;
      if (at == g) s += pare_load(x[k]);
    }
    s = pare_warp_sum(s);
    if (lane == 0) y[g] = pare_store<T>(s);
  }
}
/* Inputs: vec, gid, like. */
PareStatus pare_cuda_GROUPSUM(PareKernelArgs *a) {
  int64_t groups = pare_count(&a->out[0]);
  if (!pare_is_index(&a->in[1])) return pare_bad_type(a);
  if (!groups) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(group_sum<T>, pare_blocks(a, groups, PARE_THREADS / PARE_WARP), PARE_THREADS, 0, pare_cuda(a)->stream,
                pare_count(&a->in[0]), groups, (const T *)a->in[0].data, (const void *)a->in[1].data,
                (int)a->in[1].type.dtype, (T *)a->out[0].data, a->fault);
    return pare_launched(a);
  });
}
