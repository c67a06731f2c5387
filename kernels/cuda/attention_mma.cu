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

bool pare_attention_mma_fits(const PareKernelArgs *a, const PareAttention *t, bool backward) {
  if (backward || a->in[PARE_Q].type.dtype != PARE_BF16 || t->q.width % 8 || t->v.width % 8) return false;
  if (t->q.width > MAX_WIDTH || t->v.width > MAX_WIDTH || t->q.rows > MAX_ROWS || t->k.rows > MAX_ROWS) return false;
  if (t->mask && t->step[3] != 1 && t->k.rows > 1) return false; /* its rows must be */
  if (t->batches * t->heads * forward_parts(t) > INT32_MAX) return false;
  return forward_shared(t) <= (size_t)pare_cuda(a)->shared;
}

/* Calls f(WIDTH, MASK), constants. */
template <class F> static PareStatus by_width(const PareAttention *t, F f) {
  auto with = [&](auto width) { return t->mask ? f(width, std::true_type()) : f(width, std::false_type()); };
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
    auto kernel = forward<decltype(width)::value, decltype(mask)::value>;
    PARE_TRY(pare_allow_shared(a, kernel, forward_shared(t)));
    PARE_LAUNCH(kernel, blocks, forward_warps(t) * PARE_WARP, forward_shared(t), pare_cuda(a)->stream, *t,
                (const PareBf16 *)a->in[PARE_Q].data, (const PareBf16 *)a->in[PARE_K].data,
                (const PareBf16 *)a->in[PARE_V].data, (PareBf16 *)a->out[0].data, (float *)a->out[1].data);
    return pare_launched(a);
  });
}
