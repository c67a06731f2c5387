/* attention_grad_mma.cu - AttentionGrad of bf16 on the tensor cores: a block has a head, a warp 16 of its keys; queries
 * pass by in tiles. See attention_mma.cuh.
 *
 * With P = exp(S - lse) and dS = P∘(dy·v' - delta), delta = sum over the columns of y∘dy: dv = P'·dy, dk = scale·dS'·q,
 * dq = scale·dS·k. A warp makes S' and dP' = v·dy' for its keys, so P' and dS' are the left operands of its dv and dk;
 * dS' goes to shared memory besides, from where the warps share out the tile's dq, each element a sum over all keys of
 * the block by one warp. Keys that have no room take another turn: the same lane then adds to its dq in the
 * workspace. */
#include "kernels/cuda/attention_mma.cuh"

enum { QUERIES = 64, DQ_COLS = 32 };

/* All tensors' or, in shared memory, a head's: registers are for the sums. */
struct alignas(16) Operands {
  const PareBf16 *q, *k, *v, *y, *dy;
  const float *lse, *mask;
  float *partial; /* dq of the turns but the last, [rows, width] a head */
  PareBf16 *dq, *dk, *dv;
};
static __device__ inline Operands of_head(const PareAttention &t, const Operands &x, int64_t b, int64_t h) {
  int64_t q = pare_at_head(t.q, b, h), k = pare_at_head(t.k, b, h), v = pare_at_head(t.v, b, h);
  int64_t y = pare_at_head(t.y, b, h), row = (b * t.heads + h) * t.q.rows;
  return {x.q + q, x.k + k, x.v + v, x.y + y, x.dy + y, x.lse + row, x.mask + b * t.step[0] + h * t.step[1],
          x.partial + row * t.q.width, x.dq + q, x.dk + k, x.dv + v};
}

/* What registers allow. */
static constexpr int max_warps(int width) { return width <= 64 ? 16 : 8; }

template <int WIDTH> struct Back {
  enum {
    PITCH = WIDTH + PARE_PAD,
    TILE = QUERIES * PITCH,
    PARTS = WIDTH / 16,
    SCORES = QUERIES + PARE_PAD, /* from a key to the next in dS' */
    WARPS = max_warps(WIDTH),
  };
  const Operands *head;
  PareBf16 *k, *v;  /* [keys, PITCH] */
  PareBf16 *q, *dy; /* PARE_STAGES tiles each */
  PareBf16 *ds;     /* PARE_STAGES of [keys, SCORES] */
  float *stats;     /* of each query lse (times log2(e) where there is no mask), delta; +INFINITY, 0 behind the last: P
                     * is 0 there */
  int keys, warp;   /* keys of the block in a turn; the warp */
};

/* Bytes of shared memory, in Back's order. */
static size_t shared_bytes(const PareAttention *t, int64_t warps, int64_t width) {
  int64_t keys = warps * PARE_OWN, halves = 2 * (keys + PARE_STAGES * QUERIES) * (width + PARE_PAD);
  halves += PARE_STAGES * keys * (QUERIES + PARE_PAD);
  size_t stats = (size_t)pare_ceil_div(t->q.rows, PARE_OWN) * PARE_OWN * 2 * sizeof(float);
  return sizeof(Operands) + (size_t)halves * sizeof(PareBf16) + stats;
}
template <int WIDTH> static __device__ inline Back<WIDTH> lay_out(Operands *head) {
  typedef Back<WIDTH> B;
  B s;
  s.keys = (int)blockDim.x / PARE_WARP * PARE_OWN, s.warp = (int)threadIdx.x / PARE_WARP;
  s.head = head, s.k = (PareBf16 *)(head + 1), s.v = s.k + s.keys * B::PITCH;
  s.q = s.v + s.keys * B::PITCH, s.dy = s.q + PARE_STAGES * B::TILE;
  s.ds = s.dy + PARE_STAGES * B::TILE, s.stats = (float *)(s.ds + PARE_STAGES * s.keys * B::SCORES);
  return s;
}

/* stats of all queries: a warp takes 16 of them at once, some lanes a row of y and dy. */
template <int WIDTH, PareMask MASK> static __device__ inline void make_stats(const PareSide &side, const Back<WIDTH> &s) {
  enum { LANES = WIDTH <= 32 ? 4 : WIDTH <= 64 ? 8 : 16, ROWS = PARE_WARP / LANES, TURNS = PARE_OWN / ROWS };
  int lane = (int)threadIdx.x % PARE_WARP, col = lane % LANES * 8;
  for (int lo = s.warp * PARE_OWN + lane / LANES; lo < (side.rows + PARE_OWN - 1) / PARE_OWN * PARE_OWN; lo += s.keys) {
    ParePack<PareBf16> a[TURNS] = {}, b[TURNS] = {};
    PARE_UNROLL for (int i = 0; i < TURNS; i++) {
      int64_t r = lo + i * ROWS, at = r * side.row + col;
      if (r >= side.rows || col >= side.width) continue;
      a[i] = *(const ParePack<PareBf16> *)(s.head->y + at);
      b[i] = *(const ParePack<PareBf16> *)(s.head->dy + at);
    }
    PARE_UNROLL for (int i = 0; i < TURNS; i++) {
      int r = lo + i * ROWS;
      float sum = 0;
      for (int j = 0; j < 8; j++) sum += pare_load(a[i].at[j]) * pare_load(b[i].at[j]);
      for (int m = LANES / 2; m; m /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, m);
      if (col) continue;
      s.stats[2 * r] = r < side.rows ? s.head->lse[r] * (MASK == PARE_MASK_NONE ? PARE_LOG2E : 1) : INFINITY;
      s.stats[2 * r + 1] = sum;
    }
  }
}

/* A warp's keys: the first, and what a mask of keys adds to the scores of the lane's two. */
struct Own {
  int first;
  float mask[2];
};

/* P of a score q·k'. With a mask the difference comes first: its numbers may be the greatest that there are. */
template <PareMask MASK>
static __device__ inline float probability(float score, float scale, float mask, float lse) {
  if (MASK == PARE_MASK_NONE) return pare_exp2(score * (scale * PARE_LOG2E) - lse);
  return pare_exp2((score * scale + mask - lse) * PARE_LOG2E);
}

/* S' to P' and dP' to dS', both rounded and packed to left operands, for the warp's keys and queries `query`..+15. */
template <int WIDTH, PareMask MASK>
static __device__ inline void soften(const PareAttention &t, const Back<WIDTH> &s, const Own &own, int query,
                                          const float score[2][4], const float dp[2][4], uint32_t p[4],
                                          uint32_t ds[4]) {
  PARE_UNROLL for (int n = 0; n < 2; n++) {
    int r = query + 8 * n + pare_place_col();
    ParePack<float> stat = *(const ParePack<float> *)(s.stats + 2 * r); /* lse and delta of two queries */
    PARE_UNROLL for (int h = 0; h < 2; h++) {
      float e[2], d[2];
      int key = own.first + pare_place_row() + 8 * h;
      PARE_UNROLL for (int i = 0; i < 2; i++) {
        float add = MASK == PARE_MASK_KEYS ? own.mask[h] : 0;
        if (MASK == PARE_MASK_FULL && key < t.k.rows && r + i < t.q.rows) add = s.head->mask[(r + i) * t.step[2] + key];
        e[i] = key < t.k.rows ? probability<MASK>(score[n][2 * h + i], (float)t.scale, add, stat.at[2 * i]) : 0;
        d[i] = e[i] * (dp[n][2 * h + i] - stat.at[2 * i + 1]);
      }
      p[2 * n + h] = pare_pack2(e[0], e[1]);
      ds[2 * n + h] = pare_pack2(d[0], d[1]);
    }
  }
}

/* The warp's keys and 16 queries, lines `line`.. of the tiles q and dy, `query`.. of the head: dv and dk grow, dS' goes
 * to shared memory. */
template <int WIDTH, PareMask MASK>
static __device__ inline void strip(const PareAttention &t, const Back<WIDTH> &s, const Own &own, const PareBf16 *q,
                                    const PareBf16 *dy, PareBf16 *ds, int line, int query, float dk[WIDTH / 8][4],
                                    float dv[WIDTH / 8][4]) {
  typedef Back<WIDTH> B;
  float score[2][4] = {}, dp[2][4] = {};
  uint32_t a[4], b[4], p[4], d[4];
  q += line * B::PITCH, dy += line * B::PITCH;
  PARE_UNROLL for (int c = 0; c < B::PARTS; c++) {
    pare_ldmatrix(a, s.k + s.warp * PARE_OWN * B::PITCH + pare_along(B::PITCH) + c * 16);
    pare_ldmatrix(b, q + pare_across(B::PITCH) + c * 16);
    pare_mma(score[0], a, b), pare_mma(score[1], a, b + 2);
    pare_ldmatrix(a, s.v + s.warp * PARE_OWN * B::PITCH + pare_along(B::PITCH) + c * 16);
    pare_ldmatrix(b, dy + pare_across(B::PITCH) + c * 16);
    pare_mma(dp[0], a, b), pare_mma(dp[1], a, b + 2);
  }
  soften<WIDTH, MASK>(t, s, own, query, score, dp, p, d);
  for (int i = 0; i < 4; i++) {
    int key = s.warp * PARE_OWN + pare_place_row() + i % 2 * 8;
    *(uint32_t *)(ds + key * B::SCORES + line + i / 2 * 8 + pare_place_col()) = d[i];
  }
  PARE_UNROLL for (int c = 0; c < B::PARTS; c++) {
    pare_ldmatrix_t(b, dy + pare_along(B::PITCH) + c * 16);
    pare_mma(dv[2 * c], p, b), pare_mma(dv[2 * c + 1], p, b + 2);
    pare_ldmatrix_t(b, q + pare_along(B::PITCH) + c * 16);
    pare_mma(dk[2 * c], d, b), pare_mma(dk[2 * c + 1], d, b + 2);
  }
}

/* acc = dS·k for 16 queries (lines `line`.. of dS') and DQ_COLS columns, over the first n keys. */
template <int WIDTH>
static __device__ inline void mix(const PareBf16 *ds, const PareBf16 *k, int line, int col, int n,
                                       float acc[DQ_COLS / 8][4]) {
  typedef Back<WIDTH> B;
  ds += pare_across(B::SCORES) + line, k += pare_along(B::PITCH) + col;
  for (int j = 0; j < n; j += 16) {
    uint32_t a[4], b[4];
    pare_ldmatrix_t(a, ds + j * B::SCORES);
    PARE_UNROLL for (int c = 0; c < DQ_COLS / 16; c++) {
      pare_ldmatrix_t(b, k + j * B::PITCH + c * 16);
      pare_mma(acc[2 * c], a, b), pare_mma(acc[2 * c + 1], a, b + 2);
    }
  }
}

/* acc += what earlier turns left in the workspace (but for the first) and, but for the last, back there. */
static __device__ inline void carry(const PareSide &s, float *to, int lo, int col, bool first, bool last,
                                    float acc[DQ_COLS / 8][4]) {
  PARE_UNROLL for (int n = 0; n < DQ_COLS / 8; n++)
    PARE_UNROLL for (int i = 0; i < 4; i++) {
      int r = lo + pare_place_row() + i / 2 * 8, c = col + n * 8 + pare_place_col() + i % 2;
      if (r >= s.rows || c >= s.width) continue;
      if (!first) acc[n][i] += to[r * s.width + c];
      if (!last) to[r * s.width + c] = acc[n][i];
    }
}

/* Which of a head's turns it is. */
struct Turn {
  bool first, last;
  int keys; /* of the head in this turn */
};

/* dq of a tile's queries, `query`.. of the head, in parts of 16 by DQ_COLS. */
template <int WIDTH>
static __device__ inline void make_dq(const PareAttention &t, const Back<WIDTH> &s, const Turn &turn,
                                      const PareBf16 *ds, int query) {
  int left = (int)t.q.rows - query, strips = ((left < QUERIES ? left : QUERIES) + PARE_OWN - 1) / PARE_OWN;
  float scale[2] = {(float)t.scale, (float)t.scale};
  for (int i = s.warp; i < strips * (WIDTH / DQ_COLS); i += s.keys / PARE_OWN) {
    int line = i % strips * PARE_OWN, col = i / strips * DQ_COLS;
    float acc[DQ_COLS / 8][4] = {};
    mix<WIDTH>(ds, s.k, line, col, turn.keys, acc);
    if (!turn.first || !turn.last) carry(t.q, s.head->partial, query + line, col, turn.first, turn.last, acc);
    if (!turn.last) continue;
    PARE_UNROLL for (int c = 0; c < DQ_COLS / 16; c++)
      pare_put(acc[2 * c], acc[2 * c + 1], scale, t.q, query + line, col + c * 16, s.head->dq);
  }
}

/* A block: one head. */
template <int WIDTH, PareMask MASK>
static __global__ void __launch_bounds__(Back<WIDTH>::WARPS *PARE_WARP, 1) backward(PareAttention t, Operands all) {
  typedef Back<WIDTH> B;
  PARE_SHARED(Operands, head);
  const B s = lay_out<WIDTH>(head);
  int queries = (int)t.q.rows, keys = (int)t.k.rows;
  if (threadIdx.x == 0) *head = of_head(t, all, blockIdx.x / t.heads, blockIdx.x % t.heads);
  for (int k0 = 0; k0 < keys; k0 += s.keys) {
    Turn turn = {k0 == 0, k0 + s.keys >= keys, keys - k0 < s.keys ? keys - k0 : s.keys};
    Own own = {k0 + s.warp * PARE_OWN, {}};
    float sum_k[WIDTH / 8][4] = {}, sum_v[WIDTH / 8][4] = {};
    __syncthreads(); /* head is there; nobody reads the last turn's keys any more */
    pare_fetch<WIDTH>(t.k, head->k, k0, s.keys, s.k);
    pare_fetch<WIDTH>(t.v, head->v, k0, s.keys, s.v);
    pare_fetch<WIDTH>(t.q, head->q, 0, QUERIES, s.q);
    pare_fetch<WIDTH>(t.y, head->dy, 0, QUERIES, s.dy);
    pare_copy_commit();
    if (turn.first) make_stats<WIDTH, MASK>(t.y, s);
    for (int i = 0; MASK == PARE_MASK_KEYS && i < 2; i++)
      if (own.first + pare_place_row() + 8 * i < keys) own.mask[i] = head->mask[own.first + pare_place_row() + 8 * i];
    for (int j0 = 0, stage = 0; j0 < queries + QUERIES; j0 += QUERIES, stage ^= 1) {
      pare_copy_wait<0>();
      __syncthreads();
      if (j0 + QUERIES < queries) {
        pare_fetch<WIDTH>(t.q, head->q, j0 + QUERIES, QUERIES, s.q + (stage ^ 1) * B::TILE);
        pare_fetch<WIDTH>(t.y, head->dy, j0 + QUERIES, QUERIES, s.dy + (stage ^ 1) * B::TILE);
      }
      pare_copy_commit();
      if (j0) make_dq<WIDTH>(t, s, turn, s.ds + (stage ^ 1) * s.keys * B::SCORES, j0 - QUERIES);
      if (own.first >= keys) continue;
      for (int line = 0; line < QUERIES && j0 + line < queries; line += PARE_OWN)
        strip<WIDTH, MASK>(t, s, own, s.q + stage * B::TILE, s.dy + stage * B::TILE, s.ds + stage * s.keys * B::SCORES,
                           line, j0 + line, sum_k, sum_v);
    }
    float scale[2] = {(float)t.scale, (float)t.scale}, one[2] = {1, 1};
    PARE_UNROLL for (int c = 0; c < B::PARTS; c++) {
      pare_put(sum_k[2 * c], sum_k[2 * c + 1], scale, t.k, own.first, c * 16, head->dk);
      pare_put(sum_v[2 * c], sum_v[2 * c + 1], one, t.v, own.first, c * 16, head->dv);
    }
  }
}

/* --- the launch --- */

/* The most keys a turn for which there is shared memory, 16 a warp; 0: there is none. Turns are as even as it goes. */
static int64_t warps_of(const PareKernelArgs *a, const PareAttention *t) {
  int64_t width = pare_head_width(t), tiles = pare_ceil_div(t->k.rows, PARE_OWN), warps = max_warps((int)width);
  while (warps && shared_bytes(t, warps, width) > (size_t)pare_cuda(a)->shared) warps--;
  return warps ? pare_ceil_div(tiles, pare_ceil_div(tiles, warps)) : 0;
}

bool pare_attention_grad_mma_fits(const PareKernelArgs *a, const PareAttention *t) {
  return pare_mma_shapes(a, t) && warps_of(a, t) > 0;
}

size_t pare_attention_grad_mma_workspace(const PareKernelArgs *a, const PareAttention *t) {
  if (!pare_attention_grad_mma_fits(a, t) || warps_of(a, t) * PARE_OWN >= t->k.rows) return 0;
  return (size_t)(t->batches * t->heads * t->q.rows * t->q.width) * sizeof(float);
}

PareStatus pare_attention_grad_mma(PareKernelArgs *a, const PareAttention *t) {
  int64_t blocks = t->batches * t->heads, warps = warps_of(a, t);
  size_t bytes = shared_bytes(t, warps, pare_head_width(t));
  const Operands all = {(const PareBf16 *)a->in[PARE_Q].data,  (const PareBf16 *)a->in[PARE_K].data,
                        (const PareBf16 *)a->in[PARE_V].data,  (const PareBf16 *)a->in[PARE_Y].data,
                        (const PareBf16 *)a->in[PARE_DY].data, (const float *)a->in[PARE_LSE].data,
                        (const float *)t->mask,                (float *)a->workspace,
                        (PareBf16 *)a->out[0].data,            (PareBf16 *)a->out[1].data,
                        (PareBf16 *)a->out[2].data};
  if (!blocks) return PARE_OK;
  return pare_by_head(t, [&](auto width, auto mask) {
    auto kernel = backward<decltype(width)::value, decltype(mask)::value>;
    PARE_TRY(pare_allow_shared(a, kernel, bytes));
    PARE_LAUNCH(kernel, blocks, warps * PARE_WARP, bytes, pare_cuda(a)->stream, *t, all);
    return pare_launched(a);
  });
}
