/* attention.cu - Attention and AttentionGrad: y = softmax(scale·q·k' + mask)·v by tiles of keys, with the running
 * maximum and sum of each row (Dao et al., FlashAttention, 2022): no matrix of scores is stored. Backward makes the
 * probabilities again from the saved log-sum-exp, once by tiles of keys for dq, once by tiles of queries for dk and dv,
 * so that every sum has one owner and a fixed order. Plain multiply-adds in f32 (f64), for all shapes and
 * types; those of bf16 that fit the tensor cores go to attention_mma.cu and attention_grad_mma.cu. */
#include "kernels/cuda/attention.cuh"

/* A block has WARPS·ROWS rows of its own, a warp ROWS of them; the other side passes by in tiles, a lane a line. */
enum { TILE = PARE_WARP, ROWS = 4, WARPS = 8, OWN = WARPS * ROWS, THREADS = WARPS * PARE_WARP };
enum { MAX_WIDTH = 256 };

static PareSide side_of(const PareType *t, int64_t heads) {
  int64_t h = t->dim[heads], rows = t->dim[3 - heads], w = t->dim[3];
  bool inside = heads == 2;
  return {rows, w, h * rows * w, inside ? w : rows * w, inside ? h * w : w};
}

static PareAttention attention_of(const PareKernelArgs *a, bool backward) {
  const PareInts *heads = &a->attr->heads;
  const PareType *y = backward ? &a->in[PARE_Y].type : &a->out[0].type;
  int mask = backward ? PARE_GRAD_MASK : PARE_MASK;
  PareAttention t = {};
  t.batches = y->dim[0], t.heads = y->dim[heads->at[3]], t.scale = pare_attr_get(a->attr, scale, 1.0);
  t.q = side_of(&a->in[PARE_Q].type, heads->at[0]);
  t.k = side_of(&a->in[PARE_K].type, heads->at[1]);
  t.v = side_of(&a->in[PARE_V].type, heads->at[2]);
  t.y = side_of(y, heads->at[3]);
  if (!pare_given(a, mask)) return t;
  const PareTensor *m = &a->in[mask];
  t.mask = m->data;
  int64_t n = 1;
  for (int i = m->type.rank - 1; i >= 0; i--) {
    int64_t d = m->type.dim[i];
    t.step[4 - m->type.rank + i] = d == 1 ? 0 : n;
    n *= d;
  }
  return t;
}

/* Lines lo..lo+n-1 of a head's matrix into shared memory, zeros behind its end. */
template <class T>
static __device__ inline void fetch(const PareSide &s, const T *x, int64_t lo, int n, int pitch, PARE_C *to) {
  int w = (int)s.width;
  for (int i = (int)threadIdx.x; i < n * w; i += THREADS) {
    int64_t r = lo + i / w;
    to[i / w * pitch + i % w] = r < s.rows ? pare_load(x[r * s.row + i % w]) : 0;
  }
}
/* The warp's rows times the lane's line. */
template <class C>
static __device__ inline void dots(int width, const C *row, const C *line, C out[ROWS]) {
  for (int i = 0; i < ROWS; i++) out[i] = 0;
  for (int d = 0; d < width; d++) {
    C v = line[d];
    for (int i = 0; i < ROWS; i++) out[i] += row[i * width + d] * v;
  }
}
/* acc[i] += sum over the tile's lines j of p[i] of lane j times line j */
template <int COLS, class C>
static __device__ inline void mix(int width, int pitch, const C p[ROWS], const C *tile, C acc[ROWS][COLS]) {
  int lane = (int)threadIdx.x % PARE_WARP;
  for (int j = 0; j < TILE; j++) {
    C at[ROWS];
    for (int i = 0; i < ROWS; i++) at[i] = __shfl_sync(0xffffffffu, p[i], j);
    for (int c = 0; c < COLS; c++) {
      C v = c * PARE_WARP + lane < width ? tile[j * pitch + c * PARE_WARP + lane] : 0;
      for (int i = 0; i < ROWS; i++) acc[i][c] += at[i] * v;
    }
  }
}

/* The score of a query and a key. */
template <class C>
static __device__ inline C score(const PareAttention &t, int64_t b, int64_t h, int64_t query, int64_t key, C dot) {
  C s = (C)t.scale * dot;
  if (!t.mask || query >= t.q.rows || key >= t.k.rows) return s;
  return s + ((const C *)t.mask)[b * t.step[0] + h * t.step[1] + query * t.step[2] + key * t.step[3]];
}

template <class T, int COLS>
static __global__ void forward(PareAttention t, const T *q, const T *k, const T *v, T *y, PARE_C *lse) {
  typedef PARE_C C;
  PARE_SHARED(C, tile);
  int qw = (int)t.q.width, vw = (int)t.v.width, pitch = (qw > vw ? qw : vw) + 1;
  int lane = (int)threadIdx.x % PARE_WARP, warp = (int)threadIdx.x / PARE_WARP;
  C *own = tile + TILE * pitch;
  int64_t tiles = (t.q.rows + OWN - 1) / OWN;
  for (int64_t block = blockIdx.x; block < t.batches * t.heads * tiles; block += gridDim.x) {
    int64_t h = block / tiles % t.heads, b = block / tiles / t.heads, r0 = block % tiles * OWN;
    C max[ROWS], sum[ROWS] = {}, acc[ROWS][COLS] = {};
    for (int i = 0; i < ROWS; i++) max[i] = -INFINITY;
    __syncthreads();
    fetch(t.q, q + pare_at_head(t.q, b, h), r0, OWN, qw, own);
    for (int64_t j0 = 0; j0 < t.k.rows; j0 += TILE) {
      C p[ROWS];
      __syncthreads();
      fetch(t.k, k + pare_at_head(t.k, b, h), j0, TILE, pitch, tile);
      __syncthreads();
      dots(qw, own + warp * ROWS * qw, tile + lane * pitch, p);
      for (int i = 0; i < ROWS; i++) {
        C s = score(t, b, h, r0 + warp * ROWS + i, j0 + lane, p[i]);
        if (j0 + lane >= t.k.rows) s = -INFINITY;
        C m = pare_warp_max(s);
        m = m > max[i] ? m : max[i];
        C from = m == -INFINITY ? 0 : m, keep = exp(max[i] - from); /* all masked so far: nothing to keep */
        p[i] = exp(s - from);
        sum[i] = sum[i] * keep + pare_warp_sum(p[i]);
        max[i] = m;
        for (int c = 0; c < COLS; c++) acc[i][c] *= keep;
      }
      __syncthreads();
      fetch(t.v, v + pare_at_head(t.v, b, h), j0, TILE, pitch, tile);
      __syncthreads();
      mix<COLS>(vw, pitch, p, tile, acc);
    }
    for (int i = 0; i < ROWS; i++) {
      int64_t r = r0 + warp * ROWS + i;
      if (r >= t.q.rows) break;
      if (lane == 0) lse[(b * t.heads + h) * t.q.rows + r] = max[i] + log(sum[i]);
      for (int c = 0; c < COLS; c++)
        if (c * PARE_WARP + lane < vw)
          y[pare_at_head(t.y, b, h) + r * t.y.row + c * PARE_WARP + lane] = pare_store<T>(acc[i][c] / sum[i]);
    }
  }
}

/* delta = sum over the columns of y·dy, [B, heads, rows]; a warp a row. */
template <class T> static __global__ void make_delta(PareAttention t, const T *y, const T *dy, PARE_C *delta) {
  int lane = (int)threadIdx.x % PARE_WARP;
  int64_t n = t.batches * t.heads * t.q.rows, warps = (int64_t)gridDim.x * blockDim.x / PARE_WARP;
  for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; i < n; i += warps) {
    int64_t r = i % t.q.rows, h = i / t.q.rows % t.heads, b = i / t.q.rows / t.heads;
    int64_t at = pare_at_head(t.y, b, h) + r * t.y.row;
    PARE_C s = 0;
    for (int64_t j = lane; j < t.y.width; j += PARE_WARP) s += pare_load(y[at + j]) * pare_load(dy[at + j]);
    s = pare_warp_sum(s);
    if (lane == 0) delta[i] = s;
  }
}

/* With P = exp(S - lse) and dS = P∘(dy·v' - delta): dq = scale·dS·k, dk = scale·dS'·q, dv = P'·dy. The block's own rows
 * are queries (q, dy -> dq, the tiles k, v) or, with KEYS, keys (k, v -> dk, dv, the tiles q, dy). */
template <class T, int COLS, bool KEYS>
static __global__ void backward(PareAttention t, const T *q, const T *k, const T *v, const T *dy, const PARE_C *lse,
                                const PARE_C *delta, T *da, T *db) {
  typedef PARE_C C;
  PARE_SHARED(C, tile_a);
  const PareSide &own_a = KEYS ? t.k : t.q, &own_b = KEYS ? t.v : t.y;
  const PareSide &side_a = KEYS ? t.q : t.k, &side_b = KEYS ? t.y : t.v;
  const T *from_a = KEYS ? k : q, *from_b = KEYS ? v : dy, *past_a = KEYS ? q : k, *past_b = KEYS ? dy : v;
  int wa = (int)t.q.width, wb = (int)t.v.width;
  int lane = (int)threadIdx.x % PARE_WARP, warp = (int)threadIdx.x / PARE_WARP;
  C *tile_b = tile_a + TILE * (wa + 1), *a = tile_b + TILE * (wb + 1), *b = a + OWN * wa;
  int64_t tiles = (own_a.rows + OWN - 1) / OWN;
  for (int64_t block = blockIdx.x; block < t.batches * t.heads * tiles; block += gridDim.x) {
    int64_t h = block / tiles % t.heads, n = block / tiles / t.heads, r0 = block % tiles * OWN;
    int64_t stats = (n * t.heads + h) * t.q.rows;
    C acc_a[ROWS][COLS] = {}, acc_b[ROWS][COLS] = {};
    __syncthreads();
    fetch(own_a, from_a + pare_at_head(own_a, n, h), r0, OWN, wa, a);
    fetch(own_b, from_b + pare_at_head(own_b, n, h), r0, OWN, wb, b);
    for (int64_t j0 = 0; j0 < side_a.rows; j0 += TILE) {
      C p[ROWS], ds[ROWS];
      int64_t j = j0 + lane;
      __syncthreads();
      fetch(side_a, past_a + pare_at_head(side_a, n, h), j0, TILE, wa + 1, tile_a);
      fetch(side_b, past_b + pare_at_head(side_b, n, h), j0, TILE, wb + 1, tile_b);
      __syncthreads();
      dots(wa, a + warp * ROWS * wa, tile_a + lane * (wa + 1), p);
      dots(wb, b + warp * ROWS * wb, tile_b + lane * (wb + 1), ds);
      for (int i = 0; i < ROWS; i++) {
        int64_t r = r0 + warp * ROWS + i, query = KEYS ? j : r, key = KEYS ? r : j;
        bool inside = query < t.q.rows && key < t.k.rows;
        p[i] = inside ? exp(score(t, n, h, query, key, p[i]) - lse[stats + query]) : 0;
        ds[i] = inside ? p[i] * (ds[i] - delta[stats + query]) : 0;
      }
      mix<COLS>(wa, wa + 1, ds, tile_a, acc_a);
      if (KEYS) mix<COLS>(wb, wb + 1, p, tile_b, acc_b);
    }
    for (int i = 0; i < ROWS; i++) {
      int64_t r = r0 + warp * ROWS + i;
      if (r >= own_a.rows) break;
      for (int c = 0; c < COLS; c++) {
        int64_t j = c * PARE_WARP + lane;
        if (j < wa) da[pare_at_head(own_a, n, h) + r * own_a.row + j] = pare_store<T>((C)t.scale * acc_a[i][c]);
        if (KEYS && j < wb) db[pare_at_head(own_b, n, h) + r * own_b.row + j] = pare_store<T>(acc_b[i][c]);
      }
    }
  }
}

/* --- shared memory --- */
static int64_t shared_elements(const PareAttention *t, bool back) {
  int64_t w = pare_max(t->q.width, t->v.width);
  return back ? (TILE + OWN) * (t->q.width + t->v.width) + 2 * TILE : TILE * (w + 1) + OWN * t->q.width;
}
static size_t shared_bytes(const PareKernelArgs *a, const PareAttention *t, bool back) {
  return (size_t)shared_elements(t, back) * (a->in[PARE_Q].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float));
}

/* Calls f(COLS) with the least number of columns a lane that holds the widths. */
template <class F> static PareStatus by_width(const PareAttention *t, F f) {
  int64_t w = pare_max(t->q.width, t->v.width);
  if (w <= 2 * PARE_WARP) return f(std::integral_constant<int, 2>());
  if (w <= 4 * PARE_WARP) return f(std::integral_constant<int, 4>());
  return f(std::integral_constant<int, 8>());
}

static PareStatus plan(PareKernelArgs *a, bool back) {
  PareAttention t = attention_of(a, back);
  if (t.q.width > MAX_WIDTH || t.v.width > MAX_WIDTH || shared_bytes(a, &t, back) > (size_t)pare_cuda(a)->shared)
    return pare_why(a, PARE_UNSUPPORTED, "the heads are too wide for this GPU's attention: take --device cpu");
  size_t size = a->in[PARE_Q].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float);
  if (!back) return PARE_OK;
  size_t plain = (size_t)(t.batches * t.heads * t.q.rows) * size, fast = pare_attention_grad_mma_workspace(a, &t);
  a->workspace_bytes = plain > fast ? plain : fast;
  return PARE_OK;
}
PareStatus pare_cuda_plan_ATTENTION(PareKernelArgs *a) { return plan(a, false); }
PareStatus pare_cuda_plan_ATTENTIONGRAD(PareKernelArgs *a) { return plan(a, true); }

/* Are the tensor cores to do it? */
static bool on_tensor_cores(const PareKernelArgs *a, const PareAttention *t, bool back) {
  bool aligned = true;
  for (int i = 0; i < a->nin; i++) aligned = aligned && pare_aligned(a->in[i].data);
  for (int i = 0; i < a->nout; i++) aligned = aligned && pare_aligned(a->out[i].data);
  return aligned && (back ? pare_attention_grad_mma_fits(a, t) : pare_attention_mma_fits(a, t));
}

/* Inputs: q, k, v, mask. Outputs: y, the log-sum-exp of each row of scores [B, heads, rows]. */
PareStatus pare_cuda_ATTENTION(PareKernelArgs *a) {
  PareAttention t = attention_of(a, false);
  if (on_tensor_cores(a, &t, false)) return pare_attention_mma(a, &t);
  size_t bytes = shared_bytes(a, &t, false);
  int64_t blocks = t.batches * t.heads * pare_ceil_div(t.q.rows, OWN);
  if (!blocks) return PARE_OK;
  return pare_by_float(a, a->in[PARE_Q].type.dtype, [&](auto zero) {
    return by_width(&t, [&](auto cols) {
      typedef decltype(zero) T;
      auto kernel = forward<T, decltype(cols)::value>;
      PARE_TRY(pare_allow_shared(a, kernel, bytes));
      PARE_LAUNCH(kernel, pare_blocks(a, blocks, 1), THREADS, bytes, pare_cuda(a)->stream, t,
                  (const T *)a->in[PARE_Q].data, (const T *)a->in[PARE_K].data, (const T *)a->in[PARE_V].data,
                  (T *)a->out[0].data, (PARE_C *)a->out[1].data);
      return pare_launched(a);
    });
  });
}

template <class T, int COLS, bool KEYS>
static PareStatus backward_run(PareKernelArgs *a, const PareAttention *t, void *da, void *db) {
  size_t bytes = shared_bytes(a, t, true);
  int64_t blocks = t->batches * t->heads * pare_ceil_div(KEYS ? t->k.rows : t->q.rows, OWN);
  auto kernel = backward<T, COLS, KEYS>;
  if (!blocks) return PARE_OK;
  PARE_TRY(pare_allow_shared(a, kernel, bytes));
  PARE_LAUNCH(kernel, pare_blocks(a, blocks, 1), THREADS, bytes, pare_cuda(a)->stream, *t,
              (const T *)a->in[PARE_Q].data, (const T *)a->in[PARE_K].data, (const T *)a->in[PARE_V].data,
              (const T *)a->in[PARE_DY].data, (const PARE_C *)a->in[PARE_LSE].data, (const PARE_C *)a->workspace,
              (T *)da, (T *)db);
  return pare_launched(a);
}

/* Inputs: q, k, v, y, lse, dy, mask. Outputs: dq, dk, dv. */
PareStatus pare_cuda_ATTENTIONGRAD(PareKernelArgs *a) {
  PareAttention t = attention_of(a, true);
  if (on_tensor_cores(a, &t, true)) return pare_attention_grad_mma(a, &t);
  int64_t rows = t.batches * t.heads * t.q.rows;
  return pare_by_float(a, a->in[PARE_Q].type.dtype, [&](auto zero) {
    return by_width(&t, [&](auto cols) {
      typedef decltype(zero) T;
      enum { COLS = decltype(cols)::value };
      if (rows)
        PARE_LAUNCH(make_delta<T>, pare_blocks(a, rows, WARPS), THREADS, 0, pare_cuda(a)->stream, t,
                    (const T *)a->in[PARE_Y].data, (const T *)a->in[PARE_DY].data, (PARE_C *)a->workspace);
      PARE_TRY(pare_launched(a));
      PARE_TRY((backward_run<T, COLS, false>(a, &t, a->out[0].data, NULL)));
      return backward_run<T, COLS, true>(a, &t, a->out[1].data, a->out[2].data);
    });
  });
}
