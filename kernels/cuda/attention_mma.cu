/* attention_mma.cu - Attention of bf16 on the tensor cores: a block has 16 queries a warp, keys and values pass by in
 * tiles. See attention_mma.cuh. */
#include "kernels/cuda/attention_mma.cuh"

enum { KEYS = 64, MAX_WARPS = 8 };

/* The greatest, or the sum, over the four lanes that share a row. */
static __device__ inline float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
static __device__ inline float row_sum(float v) {
  v += __shfl_xor_sync(0xffffffffu, v, 1);
  return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

/* The tile's scores of the warp's queries, -INFINITY behind the last key: s = scale·q·k' + mask, or q·k' where there is
 * no mask. mask[h] is at the tile's first key for the lane's two queries; `left` keys are left. */
template <int WIDTH, bool MASK, bool WHOLE>
static __device__ inline void scores(float scale, const float *const mask[2], const uint32_t q[WIDTH / 16][4],
                                     const PareBf16 *k, int left, float s[KEYS / 8][4]) {
  PARE_UNROLL for (int p = 0; p < KEYS / 16; p++) {
    if (!WHOLE && p * 16 >= left) continue;
    PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++) {
      uint32_t b[4];
      pare_ldmatrix(b, k + p * 16 * (WIDTH + PARE_PAD) + pare_across(WIDTH + PARE_PAD) + c * 16);
      pare_mma(s[2 * p], q[c], b);
      pare_mma(s[2 * p + 1], q[c], b + 2);
    }
  }
  if constexpr (MASK || !WHOLE)
    PARE_UNROLL for (int n = 0; n < KEYS / 8; n++)
      PARE_UNROLL for (int i = 0; i < 4 && (WHOLE || n / 2 * 16 < left); i++) {
        int j = n * 8 + pare_place_col() + i % 2;
        if (!WHOLE && j >= left) s[n][i] = -INFINITY;
        else if (MASK) s[n][i] = s[n][i] * scale + mask[i / 2][j];
      }
}

/* 2^(unit·(score - max)). With a mask the difference comes first: its numbers may be the greatest that there are. */
template <bool MASK> static __device__ inline float power(float score, float max, float unit) {
  return pare_exp2(MASK ? (score - max) * unit : score * unit - max * unit);
}

/* Scores to probabilities times a number that is the same for a row, with the running maximum of the lane's two rows and
 * its part of their sums; acc is brought to the new maximum. Of the tile, `left` keys are there. */
template <int WIDTH, bool MASK, bool WHOLE>
static __device__ inline void soften(float unit, int left, float s[KEYS / 8][4], float max[2], float sum[2],
                                     float acc[WIDTH / 8][4]) {
  PARE_UNROLL for (int h = 0; h < 2; h++) {
    float m = max[h];
    PARE_UNROLL for (int n = 0; n < KEYS / 8; n++)
      if (WHOLE || n / 2 * 16 < left) m = fmaxf(m, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
    m = row_max(m);
    float from = m == -INFINITY ? 0 : m; /* all masked so far: nothing to keep */
    float keep = pare_exp2((max[h] - from) * unit);
    sum[h] *= keep;
    max[h] = m;
    PARE_UNROLL for (int n = 0; n < KEYS / 8; n++)
      PARE_UNROLL for (int i = 2 * h; i < 2 * h + 2 && (WHOLE || n / 2 * 16 < left); i++) {
        s[n][i] = power<MASK>(s[n][i], from, unit);
        sum[h] += s[n][i];
      }
    PARE_UNROLL for (int n = 0; n < WIDTH / 8; n++) acc[n][2 * h] *= keep, acc[n][2 * h + 1] *= keep;
  }
}

/* acc += p·v for the tile's first `left` keys */
template <int WIDTH, bool WHOLE>
static __device__ inline void mix(const float p[KEYS / 8][4], const PareBf16 *v, int left, float acc[WIDTH / 8][4]) {
  PARE_UNROLL for (int j = 0; j < KEYS / 16; j++) {
    if (!WHOLE && j * 16 >= left) continue;
    uint32_t a[4];
    for (int i = 0; i < 4; i++) a[i] = pare_pack2(p[2 * j + i / 2][i % 2 * 2], p[2 * j + i / 2][i % 2 * 2 + 1]);
    PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++) {
      uint32_t b[4];
      pare_ldmatrix_t(b, v + j * 16 * (WIDTH + PARE_PAD) + pare_along(WIDTH + PARE_PAD) + c * 16);
      pare_mma(acc[2 * c], a, b);
      pare_mma(acc[2 * c + 1], a, b + 2);
    }
  }
}

/* A block: queries of one head, 16 a warp. Shared memory: these, then PARE_STAGES tiles of k and v. */
template <int WIDTH, bool MASK>
static __global__ void __launch_bounds__(MAX_WARPS *PARE_WARP, WIDTH <= 64 ? 2 : 1)
    forward(PareAttention t, const PareBf16 *q, const PareBf16 *k, const PareBf16 *v, PareBf16 *y, float *lse) {
  enum { PITCH = WIDTH + PARE_PAD, TILE = KEYS * PITCH };
  PARE_SHARED(PareBf16, own);
  int warp = (int)threadIdx.x / PARE_WARP, rows = (int)blockDim.x / PARE_WARP * PARE_OWN;
  int queries = (int)t.q.rows, keys = (int)t.k.rows, parts = (queries + rows - 1) / rows;
  int64_t h = blockIdx.x / parts % t.heads, b = blockIdx.x / parts / t.heads;
  int r0 = (int)(blockIdx.x % parts) * rows, mine = r0 + warp * PARE_OWN, r = mine + pare_place_row();
  PareBf16 *tiles = own + rows * PITCH;
  const float *mask[2]; /* behind the last query as for the last */
  for (int i = 0; MASK && i < 2; i++) mask[i] = pare_mask_row(t, b, h, r + 8 * i < queries ? r + 8 * i : queries - 1);
  k += pare_at_head(t.k, b, h), v += pare_at_head(t.v, b, h);
  pare_fetch<WIDTH>(t.q, q + pare_at_head(t.q, b, h), r0, rows, own);
  for (int i = 0; i < PARE_STAGES; i++) { /* a group may be empty */
    if (i * KEYS < keys) pare_fetch<WIDTH>(t.k, k, i * KEYS, KEYS, tiles + 2 * i * TILE);
    if (i * KEYS < keys) pare_fetch<WIDTH>(t.v, v, i * KEYS, KEYS, tiles + (2 * i + 1) * TILE);
    pare_copy_commit();
  }
  /* Without a mask scores are not scaled but their differences, which wants a positive scale: q may change its sign. */
  float scale = (float)t.scale, unit = MASK ? PARE_LOG2E : fmaxf(fabsf(scale), FLT_MIN) * PARE_LOG2E;
  uint32_t a[WIDTH / 16][4], sign = !MASK && scale < 0 ? 0x80008000u : 0;
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {}, acc[WIDTH / 8][4] = {};
  for (int j0 = 0, stage = 0; j0 < keys; j0 += KEYS, stage ^= 1) {
    PareBf16 *tile = tiles + 2 * stage * TILE;
    float s[KEYS / 8][4] = {};
    pare_copy_wait<PARE_STAGES - 1>();
    __syncthreads();
    if (j0 == 0)
      PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++) {
        pare_ldmatrix(a[c], own + warp * PARE_OWN * PITCH + pare_along(PITCH) + c * 16);
        for (int i = 0; i < 4; i++) a[c][i] ^= sign;
      }
    auto take = [&](auto whole) { /* without branches, loads go ahead of products */
      constexpr bool WHOLE = decltype(whole)::value;
      scores<WIDTH, MASK, WHOLE>(scale, mask, a, tile, keys - j0, s);
      soften<WIDTH, MASK, WHOLE>(unit, keys - j0, s, max, sum, acc);
      mix<WIDTH, WHOLE>(s, tile + TILE, keys - j0, acc);
    };
    if (keys - j0 >= KEYS) take(std::true_type());
    else take(std::false_type());
    for (int i = 0; MASK && i < 2; i++) mask[i] += KEYS;
    if (j0 + PARE_STAGES * KEYS < keys) {
      __syncthreads();
      pare_fetch<WIDTH>(t.k, k, j0 + PARE_STAGES * KEYS, KEYS, tile);
      pare_fetch<WIDTH>(t.v, v, j0 + PARE_STAGES * KEYS, KEYS, tile + TILE);
    }
    pare_copy_commit();
  }
  for (int i = 0; i < 2; i++) sum[i] = row_sum(sum[i]);
  float inverse[2] = {1 / sum[0], 1 / sum[1]};
  PARE_UNROLL for (int c = 0; c < WIDTH / 16; c++)
    pare_put(acc[2 * c], acc[2 * c + 1], inverse, t.y, mine, c * 16, y + pare_at_head(t.y, b, h));
  lse += (b * t.heads + h) * queries;
  for (int i = 0; i < 2; i++)
    if (r + 8 * i < queries && pare_place_col() == 0) lse[r + 8 * i] = max[i] * (unit / PARE_LOG2E) + logf(sum[i]);
}

/* --- the launch --- */
/* Blocks of a head and their warps: as even as it goes. */
static int64_t parts_of(const PareAttention *t) { return pare_ceil_div(t->q.rows, MAX_WARPS * PARE_OWN); }
static int64_t warps_of(const PareAttention *t) {
  return pare_ceil_div(pare_ceil_div(t->q.rows, PARE_OWN), parts_of(t));
}
static size_t shared_bytes(const PareAttention *t) {
  int64_t lines = warps_of(t) * PARE_OWN + 2 * PARE_STAGES * KEYS;
  return (size_t)(lines * (pare_head_width(t) + PARE_PAD)) * sizeof(PareBf16);
}

bool pare_attention_mma_fits(const PareKernelArgs *a, const PareAttention *t) {
  return pare_mma_shapes(a, t) && shared_bytes(t) <= (size_t)pare_cuda(a)->shared;
}

PareStatus pare_attention_mma(PareKernelArgs *a, const PareAttention *t) {
  int64_t blocks = t->batches * t->heads * parts_of(t);
  if (!blocks) return PARE_OK;
  return pare_by_head(t, [&](auto width, auto mask) {
    auto kernel = forward<decltype(width)::value, decltype(mask)::value != PARE_MASK_NONE>;
    PARE_TRY(pare_allow_shared(a, kernel, shared_bytes(t)));
    PARE_LAUNCH(kernel, blocks, warps_of(t) * PARE_WARP, shared_bytes(t), pare_cuda(a)->stream, *t,
                (const PareBf16 *)a->in[PARE_Q].data, (const PareBf16 *)a->in[PARE_K].data,
                (const PareBf16 *)a->in[PARE_V].data, (PareBf16 *)a->out[0].data, (float *)a->out[1].data);
    return pare_launched(a);
  });
}
