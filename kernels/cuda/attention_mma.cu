/* attention_mma.cu - Attention and AttentionGrad of bf16 on the tensor cores (mma.cuh), for heads of up to 128 columns.
 * A warp owns 16 rows and keeps their sums in registers (Dao, FlashAttention-2, 2023): a tile of scores, rounded and
 * packed, is the left operand of the next product. Sums and softmax are f32; probabilities and the scores' gradient are
 * rounded to bf16 for the products that read them. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

/* OWN: rows of a warp; KEYS: of a tile that passes by. */
enum { OWN = 16, KEYS = 64, FORWARD_WARPS = 8, STAGES = 2 };
/* Lines in shared memory are 16 bytes longer than they need be: ldmatrix's eight then lie in different banks. */
enum { PAD = 8 };
#define LOG2E 1.4426950408889634f

/* --- a lane's place: which addresses it gives for 16x16 elements, and which elements of a product it has --- */

/* Of A from its rows, of B from its own (by ldmatrix_t). */
static __device__ inline int along(int pitch) {
  int lane = (int)threadIdx.x % PARE_WARP;
  return lane % 16 * pitch + lane / 16 * 8;
}
/* Of B from the rows of B', of A from those of A' (by ldmatrix_t). */
static __device__ inline int across(int pitch) {
  int lane = (int)threadIdx.x % PARE_WARP;
  return (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
}
static __device__ inline int place_row() { return (int)threadIdx.x % PARE_WARP / 4; }
static __device__ inline int place_col() { return (int)threadIdx.x % 4 * 2; }

/* Lines lo..lo+n-1 of a head's matrix to shared memory, not waited for; zeros behind its end and its width. */
template <int WIDTH>
static __device__ inline void fetch(const PareSide &s, const PareBf16 *x, int lo, int n, PareBf16 *to) {
  enum { PARTS = WIDTH / 8 };
  for (int i = (int)threadIdx.x; i < n * PARTS; i += (int)blockDim.x) {
    int r = i / PARTS, c = i % PARTS * 8;
    bool there = lo + r < s.rows && c < s.width;
    pare_copy(to + r * (WIDTH + PAD) + c, there ? x + (lo + r) * s.row + c : x, there);
  }
}

/* The greatest, or the sum, over the four lanes that share a row. */
static __device__ inline float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
static __device__ inline float row_sum(float v) {
  v += __shfl_xor_sync(0xffffffffu, v, 1);
  return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

/* Two C tiles side by side, times f[0] (rows 0..7) and f[1] (rows 8..15), to rows lo.. and columns col.. of a matrix.
 * Lanes swap halves in pairs, so that each stores four columns of one tile and a row's 32 bytes go at once. */
static __device__ inline void put(const float left[4], const float right[4], const float f[2], const PareSide &s, int lo,
                                  int col, PareBf16 *to) {
  bool odd = threadIdx.x % 2;
  col += odd * 8 + (int)threadIdx.x % 4 / 2 * 4;
  for (int i = 0; i < 2; i++) {
    uint32_t a = pare_pack2(left[2 * i] * f[i], left[2 * i + 1] * f[i]);
    uint32_t b = pare_pack2(right[2 * i] * f[i], right[2 * i + 1] * f[i]);
    uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? a : b, 1);
    int r = lo + place_row() + 8 * i;
    uint64_t four = odd ? (uint64_t)b << 32 | other : (uint64_t)other << 32 | a;
    if (r < s.rows && col < s.width) *(uint64_t *)(to + r * s.row + col) = four;
  }
}

/* What the mask adds to a query's scores: a row of it, which has an element for each key. */
static __device__ inline const float *mask_row(const PareAttention &t, int64_t b, int64_t h, int query) {
  return (const float *)t.mask + b * t.step[0] + h * t.step[1] + query * t.step[2];
}

/* --- forward: a block has 16 queries a warp, keys pass by in tiles --- */

/* The tile's scores of the warp's queries: s = scale·q·k' + mask, -INFINITY behind the last key. mask[h] is
 * at the tile's first key for the lane's two queries; `left` keys are left. */
template <int WIDTH, bool MASK>
static __device__ inline void scores(const PareAttention &t, const float *const mask[2],
                                     const uint32_t q[WIDTH / 16][4], const PareBf16 *k, int left,
                                     float s[KEYS / 8][4]) {
  float scale = (float)t.scale;
  PARE_UNROLL for (int p = 0; p < KEYS / 16; p++) {
    if (p * 16 >= left) {
      PARE_UNROLL for (int i = 0; i < 8; i++) s[2 * p + i / 4][i % 4] = -INFINITY;
      continue;
    }
    PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++) {
      uint32_t b[4];
      pare_ldmatrix(b, k + p * 16 * (WIDTH + PAD) + across(WIDTH + PAD) + c * 16);
      pare_mma(s[2 * p], q[c], b);
      pare_mma(s[2 * p + 1], q[c], b + 2);
    }
    PARE_UNROLL for (int n = 2 * p; n < 2 * p + 2; n++)
      PARE_UNROLL for (int i = 0; i < 4; i++) {
        int j = n * 8 + place_col() + i % 2;
        s[n][i] *= scale;
        if (MASK && j < left) s[n][i] += mask[i / 2][j];
        if (j >= left) s[n][i] = -INFINITY;
      }
  }
}

/* Scores to exp(score - max), with the running maximum of the lane's two rows and its part of their sums; acc is brought
 * to the new maximum. */
template <int WIDTH>
static __device__ inline void soften(float s[KEYS / 8][4], float max[2], float sum[2], float acc[WIDTH / 8][4]) {
  PARE_UNROLL for (int h = 0; h < 2; h++) {
    float m = max[h];
    PARE_UNROLL for (int n = 0; n < KEYS / 8; n++) m = fmaxf(m, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
    m = row_max(m);
    float from = m == -INFINITY ? 0 : m; /* all masked so far: nothing to keep */
    float keep = pare_exp2((max[h] - from) * LOG2E);
    sum[h] *= keep;
    max[h] = m;
    PARE_UNROLL for (int n = 0; n < KEYS / 8; n++)
      PARE_UNROLL for (int i = 2 * h; i < 2 * h + 2; i++) {
        s[n][i] = pare_exp2((s[n][i] - from) * LOG2E);
        sum[h] += s[n][i];
      }
    PARE_UNROLL for (int n = 0; n < WIDTH / 8; n++) acc[n][2 * h] *= keep, acc[n][2 * h + 1] *= keep;
  }
}

/* acc += p·v for the tile's first `left` keys */
template <int WIDTH>
static __device__ inline void mix(const float p[KEYS / 8][4], const PareBf16 *v, int left, float acc[WIDTH / 8][4]) {
  PARE_UNROLL for (int j = 0; j < KEYS / 16; j++) {
    if (j * 16 >= left) continue;
    uint32_t a[4];
    for (int i = 0; i < 4; i++) a[i] = pare_pack2(p[2 * j + i / 2][i % 2 * 2], p[2 * j + i / 2][i % 2 * 2 + 1]);
    PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++) {
      uint32_t b[4];
      pare_ldmatrix_t(b, v + j * 16 * (WIDTH + PAD) + along(WIDTH + PAD) + c * 16);
      pare_mma(acc[2 * c], a, b);
      pare_mma(acc[2 * c + 1], a, b + 2);
    }
  }
}

/* A block: queries of one head, 16 a warp. Shared memory: these, then STAGES tiles of k and v. */
template <int WIDTH, bool MASK>
static __global__ void __launch_bounds__(FORWARD_WARPS *PARE_WARP, WIDTH <= 64 ? 2 : 1)
    forward(PareAttention t, const PareBf16 *q, const PareBf16 *k, const PareBf16 *v, PareBf16 *y, float *lse) {
  enum { PITCH = WIDTH + PAD, TILE = KEYS * PITCH };
  PARE_SHARED(PareBf16, own);
  int warp = (int)threadIdx.x / PARE_WARP, rows = (int)blockDim.x / PARE_WARP * OWN;
  int parts = ((int)t.q.rows + rows - 1) / rows;
  int64_t h = blockIdx.x / parts % t.heads, b = blockIdx.x / parts / t.heads;
  int r0 = (int)(blockIdx.x % parts) * rows, mine = r0 + warp * OWN, r = mine + place_row(), keys = (int)t.k.rows;
  PareBf16 *tiles = own + rows * PITCH;
  const float *mask[2]; /* behind the last query as for the last */
  for (int i = 0; MASK && i < 2; i++) mask[i] = mask_row(t, b, h, r + 8 * i < t.q.rows ? r + 8 * i : (int)t.q.rows - 1);
  k += pare_at_head(t.k, b, h), v += pare_at_head(t.v, b, h);
  fetch<WIDTH>(t.q, q + pare_at_head(t.q, b, h), r0, rows, own);
  for (int i = 0; i < STAGES; i++) { /* a group may be empty */
    if (i * KEYS < keys) fetch<WIDTH>(t.k, k, i * KEYS, KEYS, tiles + 2 * i * TILE);
    if (i * KEYS < keys) fetch<WIDTH>(t.v, v, i * KEYS, KEYS, tiles + (2 * i + 1) * TILE);
    pare_copy_commit();
  }
  uint32_t a[WIDTH / 16][4];
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {}, acc[WIDTH / 8][4] = {};
  for (int j0 = 0, stage = 0; j0 < keys; j0 += KEYS, stage ^= 1) {
    PareBf16 *tile = tiles + 2 * stage * TILE;
    float s[KEYS / 8][4] = {};
    pare_copy_wait<STAGES - 1>();
    __syncthreads();
    if (j0 == 0)
      PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++)
        pare_ldmatrix(a[c], own + warp * OWN * PITCH + along(PITCH) + c * 16);
    scores<WIDTH, MASK>(t, mask, a, tile, keys - j0, s);
    for (int i = 0; MASK && i < 2; i++) mask[i] += KEYS;
    soften<WIDTH>(s, max, sum, acc);
    mix<WIDTH>(s, tile + TILE, keys - j0, acc);
    if (j0 + STAGES * KEYS < keys) {
      __syncthreads();
      fetch<WIDTH>(t.k, k, j0 + STAGES * KEYS, KEYS, tile);
      fetch<WIDTH>(t.v, v, j0 + STAGES * KEYS, KEYS, tile + TILE);
    }
    pare_copy_commit();
  }
  for (int i = 0; i < 2; i++) sum[i] = row_sum(sum[i]);
  float inverse[2] = {1 / sum[0], 1 / sum[1]};
  PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++)
    put(acc[2 * c], acc[2 * c + 1], inverse, t.y, mine, c * 16, y + pare_at_head(t.y, b, h));
  for (int i = 0; i < 2; i++)
    if (r + 8 * i < t.q.rows && place_col() == 0) lse[(b * t.heads + h) * t.q.rows + r + 8 * i] = max[i] + logf(sum[i]);
}

/* --- backward: a block has a head, a warp 16 of its keys; queries pass by in tiles ---
 *
 * With P = exp(S - lse) and dS = P∘(dy·v' - delta), delta = sum over the columns of y∘dy: dv = P'·dy, dk = scale·dS'·q,
 * dq = scale·dS·k. A warp makes S' and dP' = v·dy' for its keys, so P' and dS' are the left operands of its dv and dk; dS'
 * goes to shared memory besides, from where the warps share out the tile's dq, each element a sum over all keys of the
 * block by one warp. Keys that have no room take another turn: the same lane then adds to its dq in the workspace. */
enum { QUERIES = 64, DQ_COLS = 32 };
enum Mask { NONE, OF_KEYS, FULL }; /* OF_KEYS: the same for all queries */

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

template <int WIDTH> struct Back {
  enum {
    PITCH = WIDTH + PAD,
    TILE = QUERIES * PITCH,
    PARTS = WIDTH / 16,
    SCORES = QUERIES + PAD, /* from a key to the next in dS' */
    WARPS = WIDTH <= 64 ? 16 : 8,
  };
  const Operands *head;
  PareBf16 *k, *v;  /* [keys, PITCH] */
  PareBf16 *q, *dy; /* STAGES tiles each */
  PareBf16 *ds;     /* STAGES of [keys, SCORES] */
  float *stats;     /* of each query lse, delta; +INFINITY, 0 behind the last: P is 0 there */
  int keys, warp;   /* keys of the block in a turn; the warp */
};

/* Bytes of shared memory, in Back's order. */
static size_t backward_shared(const PareAttention *t, int64_t warps, int64_t width) {
  int64_t keys = warps * OWN, halves = 2 * (keys + STAGES * QUERIES) * (width + PAD) + STAGES * keys * (QUERIES + PAD);
  size_t stats = (size_t)pare_ceil_div(t->q.rows, OWN) * OWN * 2 * sizeof(float);
  return sizeof(Operands) + (size_t)halves * sizeof(PareBf16) + stats;
}
template <int WIDTH> static __device__ inline Back<WIDTH> lay_out(Operands *head) {
  typedef Back<WIDTH> B;
  B s;
  s.keys = (int)blockDim.x / PARE_WARP * OWN, s.warp = (int)threadIdx.x / PARE_WARP;
  s.head = head, s.k = (PareBf16 *)(head + 1), s.v = s.k + s.keys * B::PITCH;
  s.q = s.v + s.keys * B::PITCH, s.dy = s.q + STAGES * B::TILE;
  s.ds = s.dy + STAGES * B::TILE, s.stats = (float *)(s.ds + STAGES * s.keys * B::SCORES);
  return s;
}

/* stats of all queries: a warp takes 16 of them at once, some lanes a row of y and dy. */
template <int WIDTH> static __device__ inline void make_stats(const PareSide &side, const Back<WIDTH> &s) {
  enum { LANES = WIDTH <= 32 ? 4 : WIDTH <= 64 ? 8 : 16, ROWS = PARE_WARP / LANES, TURNS = OWN / ROWS };
  int lane = (int)threadIdx.x % PARE_WARP, col = lane % LANES * 8;
  for (int lo = s.warp * OWN + lane / LANES; lo < (side.rows + OWN - 1) / OWN * OWN; lo += s.keys) {
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
      s.stats[2 * r] = r < side.rows ? s.head->lse[r] : INFINITY;
      s.stats[2 * r + 1] = sum;
    }
  }
}

/* A warp's keys: the first, and what a mask of keys adds to the scores of the lane's two. */
struct Own {
  int first;
  float mask[2];
};

/* S' to P and dP' to dS', both rounded and packed to left operands, for the warp's keys and 16 queries from `query` on. */
template <int WIDTH, Mask MASK>
static __device__ inline void soften_back(const PareAttention &t, const Back<WIDTH> &s, const Own &own, int query,
                                          const float score[2][4], const float dp[2][4], uint32_t p[4],
                                          uint32_t ds[4]) {
  PARE_UNROLL for (int n = 0; n < 2; n++) {
    int r = query + 8 * n + place_col();
    ParePack<float> stat = *(const ParePack<float> *)(s.stats + 2 * r); /* lse and delta of two queries */
    PARE_UNROLL for (int h = 0; h < 2; h++) {
      float e[2], d[2];
      int key = own.first + place_row() + 8 * h;
      PARE_UNROLL for (int i = 0; i < 2; i++) {
        float x = score[n][2 * h + i] * (float)t.scale;
        if (MASK == OF_KEYS) x += own.mask[h];
        if (MASK == FULL && key < t.k.rows && r + i < t.q.rows) x += s.head->mask[(r + i) * t.step[2] + key];
        e[i] = key < t.k.rows ? pare_exp2((x - stat.at[2 * i]) * LOG2E) : 0;
        d[i] = e[i] * (dp[n][2 * h + i] - stat.at[2 * i + 1]);
      }
      p[2 * n + h] = pare_pack2(e[0], e[1]);
      ds[2 * n + h] = pare_pack2(d[0], d[1]);
    }
  }
}

/* The warp's keys and 16 queries, lines `line`.. of the tiles q and dy, `query`.. of the head: dv and dk grow, dS' goes to
 * shared memory. */
template <int WIDTH, Mask MASK>
static __device__ inline void strip(const PareAttention &t, const Back<WIDTH> &s, const Own &own,
                                    const PareBf16 *q, const PareBf16 *dy, PareBf16 *ds, int line, int query,
                                    float dk[WIDTH / 8][4], float dv[WIDTH / 8][4]) {
  typedef Back<WIDTH> B;
  float score[2][4] = {}, dp[2][4] = {};
  uint32_t a[4], b[4], p[4], d[4];
  q += line * B::PITCH, dy += line * B::PITCH;
  PARE_UNROLL for (int c = 0; c < B::PARTS; c++) {
    pare_ldmatrix(a, s.k + s.warp * OWN * B::PITCH + along(B::PITCH) + c * 16);
    pare_ldmatrix(b, q + across(B::PITCH) + c * 16);
    pare_mma(score[0], a, b), pare_mma(score[1], a, b + 2);
    pare_ldmatrix(a, s.v + s.warp * OWN * B::PITCH + along(B::PITCH) + c * 16);
    pare_ldmatrix(b, dy + across(B::PITCH) + c * 16);
    pare_mma(dp[0], a, b), pare_mma(dp[1], a, b + 2);
  }
  soften_back<WIDTH, MASK>(t, s, own, query, score, dp, p, d);
  for (int i = 0; i < 4; i++) {
    int key = s.warp * OWN + place_row() + i % 2 * 8;
    *(uint32_t *)(ds + key * B::SCORES + line + i / 2 * 8 + place_col()) = d[i];
  }
  PARE_UNROLL for (int c = 0; c < B::PARTS; c++) {
    pare_ldmatrix_t(b, dy + along(B::PITCH) + c * 16);
    pare_mma(dv[2 * c], p, b), pare_mma(dv[2 * c + 1], p, b + 2);
    pare_ldmatrix_t(b, q + along(B::PITCH) + c * 16);
    pare_mma(dk[2 * c], d, b), pare_mma(dk[2 * c + 1], d, b + 2);
  }
}

/* acc = dS·k for 16 queries (lines `line`.. of dS') and DQ_COLS columns, over the first n keys. */
template <int WIDTH>
static __device__ inline void mix_back(const PareBf16 *ds, const PareBf16 *k, int line, int col, int n,
                                       float acc[DQ_COLS / 8][4]) {
  typedef Back<WIDTH> B;
  ds += across(B::SCORES) + line, k += along(B::PITCH) + col;
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
      int r = lo + place_row() + i / 2 * 8, c = col + n * 8 + place_col() + i % 2;
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
static __device__ inline void make_dq(const PareAttention &t, const Back<WIDTH> &s, const Turn &turn, const PareBf16 *ds,
                                      int query) {
  int left = (int)t.q.rows - query, strips = ((left < QUERIES ? left : QUERIES) + OWN - 1) / OWN;
  float scale[2] = {(float)t.scale, (float)t.scale};
  for (int i = s.warp; i < strips * (WIDTH / DQ_COLS); i += s.keys / OWN) {
    int line = i % strips * OWN, col = i / strips * DQ_COLS;
    float acc[DQ_COLS / 8][4] = {};
    mix_back<WIDTH>(ds, s.k, line, col, turn.keys, acc);
    if (!turn.first || !turn.last) carry(t.q, s.head->partial, query + line, col, turn.first, turn.last, acc);
    if (!turn.last) continue;
    PARE_UNROLL for (int c = 0; c < DQ_COLS / 16; c++)
      put(acc[2 * c], acc[2 * c + 1], scale, t.q, query + line, col + c * 16, s.head->dq);
  }
}

/* A block: one head. */
template <int WIDTH, Mask MASK>
static __global__ void __launch_bounds__(Back<WIDTH>::WARPS *PARE_WARP, 1) backward(PareAttention t, Operands all) {
  typedef Back<WIDTH> B;
  PARE_SHARED(Operands, head);
  const B s = lay_out<WIDTH>(head);
  int queries = (int)t.q.rows, keys = (int)t.k.rows;
  if (threadIdx.x == 0) *head = of_head(t, all, blockIdx.x / t.heads, blockIdx.x % t.heads);
  for (int k0 = 0; k0 < keys; k0 += s.keys) {
    Turn turn = {k0 == 0, k0 + s.keys >= keys, keys - k0 < s.keys ? keys - k0 : s.keys};
    Own own = {k0 + s.warp * OWN, {}};
    float sum_k[WIDTH / 8][4] = {}, sum_v[WIDTH / 8][4] = {};
    __syncthreads(); /* head is there; nobody reads the last turn's keys any more */
    fetch<WIDTH>(t.k, head->k, k0, s.keys, s.k);
    fetch<WIDTH>(t.v, head->v, k0, s.keys, s.v);
    fetch<WIDTH>(t.q, head->q, 0, QUERIES, s.q);
    fetch<WIDTH>(t.y, head->dy, 0, QUERIES, s.dy);
    pare_copy_commit();
    if (turn.first) make_stats<WIDTH>(t.y, s);
    for (int i = 0; MASK == OF_KEYS && i < 2; i++)
      if (own.first + place_row() + 8 * i < keys) own.mask[i] = head->mask[own.first + place_row() + 8 * i];
    for (int j0 = 0, stage = 0; j0 < queries + QUERIES; j0 += QUERIES, stage ^= 1) {
      pare_copy_wait<0>();
      __syncthreads();
      if (j0 + QUERIES < queries) {
        fetch<WIDTH>(t.q, head->q, j0 + QUERIES, QUERIES, s.q + (stage ^ 1) * B::TILE);
        fetch<WIDTH>(t.y, head->dy, j0 + QUERIES, QUERIES, s.dy + (stage ^ 1) * B::TILE);
      }
      pare_copy_commit();
      if (j0) make_dq<WIDTH>(t, s, turn, s.ds + (stage ^ 1) * s.keys * B::SCORES, j0 - QUERIES);
      if (own.first >= keys) continue;
      for (int line = 0; line < QUERIES && j0 + line < queries; line += OWN)
        strip<WIDTH, MASK>(t, s, own, s.q + stage * B::TILE, s.dy + stage * B::TILE, s.ds + stage * s.keys * B::SCORES,
                           line, j0 + line, sum_k, sum_v);
    }
    float scale[2] = {(float)t.scale, (float)t.scale}, one[2] = {1, 1};
    PARE_UNROLL for (int c = 0; c < B::PARTS; c++) {
      put(sum_k[2 * c], sum_k[2 * c + 1], scale, t.k, own.first, c * 16, head->dk);
      put(sum_v[2 * c], sum_v[2 * c + 1], one, t.v, own.first, c * 16, head->dv);
    }
  }
}

/* --- the launch --- */
enum { MAX_WIDTH = 128, MAX_ROWS = 1 << 24 };

static int64_t width_of(const PareAttention *t) {
  int64_t w = pare_max(t->q.width, t->v.width);
  return w <= 32 ? 32 : w <= 64 ? 64 : w <= 96 ? 96 : 128;
}
/* Blocks of a head and their warps: as even as it goes. */
static int64_t forward_parts(const PareAttention *t) { return pare_ceil_div(t->q.rows, FORWARD_WARPS * OWN); }
static int64_t forward_warps(const PareAttention *t) {
  return pare_ceil_div(pare_ceil_div(t->q.rows, OWN), forward_parts(t));
}
static size_t forward_shared(const PareAttention *t) {
  return (size_t)((forward_warps(t) * OWN + 2 * STAGES * KEYS) * (width_of(t) + PAD)) * sizeof(PareBf16);
}

/* The most keys a turn for which there is shared memory, 16 a warp; 0: there is none. Turns are as even as it goes. */
static int64_t backward_warps(const PareKernelArgs *a, const PareAttention *t) {
  int64_t width = width_of(t), tiles = pare_ceil_div(t->k.rows, OWN), warps = width <= 64 ? 16 : 8;
  while (warps && backward_shared(t, warps, width) > (size_t)pare_cuda(a)->shared) warps--;
  return warps && tiles ? pare_ceil_div(tiles, pare_ceil_div(tiles, warps)) : warps;
}

bool pare_attention_mma_fits(const PareKernelArgs *a, const PareAttention *t, bool backward) {
  if (a->in[PARE_Q].type.dtype != PARE_BF16 || t->q.width % 8 || t->v.width % 8) return false;
  if (t->q.rows < 1 || t->k.rows < 1) return false;
  if (t->q.width > MAX_WIDTH || t->v.width > MAX_WIDTH || t->q.rows > MAX_ROWS || t->k.rows > MAX_ROWS) return false;
  if (t->mask && t->step[3] != 1 && t->k.rows > 1) return false; /* its rows must be */
  if (t->batches * t->heads * forward_parts(t) > INT32_MAX) return false;
  return backward ? backward_warps(a, t) > 0 : forward_shared(t) <= (size_t)pare_cuda(a)->shared;
}

size_t pare_attention_mma_workspace(const PareKernelArgs *a, const PareAttention *t) {
  if (!pare_attention_mma_fits(a, t, true) || backward_warps(a, t) * OWN >= t->k.rows) return 0;
  return (size_t)(t->batches * t->heads * t->q.rows * t->q.width) * sizeof(float);
}

/* Calls f(WIDTH, MASK), constants. */
template <class F> static PareStatus by_width(const PareAttention *t, F f) {
  auto with = [&](auto width) {
    if (!t->mask) return f(width, std::integral_constant<Mask, NONE>());
    if (t->step[2]) return f(width, std::integral_constant<Mask, FULL>());
    return f(width, std::integral_constant<Mask, OF_KEYS>());
  };
  switch (width_of(t)) {
  case 32: return with(std::integral_constant<int, 32>());
  case 64: return with(std::integral_constant<int, 64>());
  case 96: return with(std::integral_constant<int, 96>());
  default: return with(std::integral_constant<int, 128>());
  }
}

PareStatus pare_attention_mma(PareKernelArgs *a, const PareAttention *t) {
  int64_t blocks = t->batches * t->heads * forward_parts(t);
  if (!blocks) return PARE_OK;
  return by_width(t, [&](auto width, auto mask) {
    auto kernel = forward<decltype(width)::value, decltype(mask)::value != NONE>;
    PARE_TRY(pare_allow_shared(a, kernel, forward_shared(t)));
    PARE_LAUNCH(kernel, blocks, forward_warps(t) * PARE_WARP, forward_shared(t), pare_cuda(a)->stream, *t,
                (const PareBf16 *)a->in[PARE_Q].data, (const PareBf16 *)a->in[PARE_K].data,
                (const PareBf16 *)a->in[PARE_V].data, (PareBf16 *)a->out[0].data, (float *)a->out[1].data);
    return pare_launched(a);
  });
}

PareStatus pare_attention_grad_mma(PareKernelArgs *a, const PareAttention *t) {
  int64_t blocks = t->batches * t->heads, warps = backward_warps(a, t);
  size_t bytes = backward_shared(t, warps, width_of(t));
  const Operands all = {(const PareBf16 *)a->in[PARE_Q].data,  (const PareBf16 *)a->in[PARE_K].data,
                        (const PareBf16 *)a->in[PARE_V].data,  (const PareBf16 *)a->in[PARE_Y].data,
                        (const PareBf16 *)a->in[PARE_DY].data, (const float *)a->in[PARE_LSE].data,
                        (const float *)t->mask,                (float *)a->workspace,
                        (PareBf16 *)a->out[0].data,            (PareBf16 *)a->out[1].data,
                        (PareBf16 *)a->out[2].data};
  if (!blocks) return PARE_OK;
  return by_width(t, [&](auto width, auto mask) {
    auto kernel = backward<decltype(width)::value, decltype(mask)::value>;
    PARE_TRY(pare_allow_shared(a, kernel, bytes));
    PARE_LAUNCH(kernel, blocks, warps * PARE_WARP, bytes, pare_cuda(a)->stream, *t, all);
    return pare_launched(a);
  });
}
