/* attention_mma.cuh - what the forward and the backward kernel of attention on the tensor cores share: a lane's place
 * in the tiles, how lines come to shared memory and sums leave the registers, which shapes there are kernels for.
 *
 * A warp owns 16 rows and keeps their sums in registers (Dao, FlashAttention-2, 2023): a tile of scores, rounded and
 * packed, is the left operand of the next product (mma.cuh). Sums and softmax are f32; probabilities and the scores'
 * gradient are rounded to bf16 for the products that read them. */
#ifndef PARE_KERNELS_CUDA_ATTENTION_MMA_CUH
#define PARE_KERNELS_CUDA_ATTENTION_MMA_CUH

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

/* PARE_OWN: rows of a warp; PARE_STAGES: tiles of what passes by that are there or on their way. */
enum { PARE_OWN = 16, PARE_STAGES = 2 };
/* Lines in shared memory are 16 bytes longer than they need be: ldmatrix's eight then lie in different banks. */
enum { PARE_PAD = 8 };
#define PARE_LOG2E 1.4426950408889634f

/* --- a lane's place: which addresses it gives for 16x16 elements, and which elements of a product it has --- */

/* Of A from its rows, of B from its own (by ldmatrix_t). */
static __device__ inline int pare_along(int pitch) {
  int lane = (int)threadIdx.x % PARE_WARP;
  return lane % 16 * pitch + lane / 16 * 8;
}
/* Of B from the rows of B', of A from those of A' (by ldmatrix_t). */
static __device__ inline int pare_across(int pitch) {
  int lane = (int)threadIdx.x % PARE_WARP;
  return (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
}
static __device__ inline int pare_place_row() { return (int)threadIdx.x % PARE_WARP / 4; }
static __device__ inline int pare_place_col() { return (int)threadIdx.x % 4 * 2; }

/* Lines lo..lo+n-1 of a head's matrix to shared memory, not waited for; zeros behind its end and its width. */
template <int WIDTH>
static __device__ inline void pare_fetch(const PareSide &s, const PareBf16 *x, int lo, int n, PareBf16 *to) {
  enum { PARTS = WIDTH / 8, PITCH = WIDTH + PARE_PAD };
  if (PARE_WARP % PARTS) { /* a thread's pieces lie in different columns */
    for (int i = (int)threadIdx.x; i < n * PARTS; i += (int)blockDim.x) {
      int r = i / PARTS, c = i % PARTS * 8;
      pare_copy(to + r * PITCH + c, x + (lo + r) * s.row + c, lo + r < s.rows && c < s.width);
    }
    return;
  }
  int r = (int)threadIdx.x / PARTS, c = (int)threadIdx.x % PARTS * 8, by = (int)blockDim.x / PARTS;
  int end = c < s.width ? (int)s.rows - lo : 0; /* lines that are there */
  x += (lo + r) * s.row + c, to += r * PITCH + c;
  for (int64_t step = by * s.row; r < n; r += by, x += step, to += by * PITCH) pare_copy(to, x, r < end);
}

/* Two C tiles side by side, times f[0] (rows 0..7) and f[1] (rows 8..15), to rows lo.. and columns col.. of a matrix.
 * Lanes swap halves in pairs, so that each stores four columns of one tile and a row's 32 bytes go at once. */
static __device__ inline void pare_put(const float left[4], const float right[4], const float f[2], const PareSide &s,
                                       int lo, int col, PareBf16 *to) {
  bool odd = threadIdx.x % 2;
  col += odd * 8 + (int)threadIdx.x % 4 / 2 * 4;
  for (int i = 0; i < 2; i++) {
    uint32_t a = pare_pack2(left[2 * i] * f[i], left[2 * i + 1] * f[i]);
    uint32_t b = pare_pack2(right[2 * i] * f[i], right[2 * i + 1] * f[i]);
    uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? a : b, 1);
    int r = lo + pare_place_row() + 8 * i;
    uint64_t four = odd ? (uint64_t)b << 32 | other : (uint64_t)other << 32 | a;
    if (r < s.rows && col < s.width) *(uint64_t *)(to + r * s.row + col) = four;
  }
}

/* What the mask adds to a query's scores: a row of it, which has an element for each key. */
static __device__ inline const float *pare_mask_row(const PareAttention &t, int64_t b, int64_t h, int query) {
  return (const float *)t.mask + b * t.step[0] + h * t.step[1] + query * t.step[2];
}

/* --- the shapes --- */

enum { PARE_MAX_HEAD_WIDTH = 128, PARE_MAX_HEAD_ROWS = 1 << 24 };

/* Columns of a line in shared memory: what kernels there are for. */
static inline int64_t pare_head_width(const PareAttention *t) {
  int64_t w = pare_max(t->q.width, t->v.width);
  return w <= 32 ? 32 : w <= 64 ? 64 : w <= 96 ? 96 : 128;
}
/* Is there a kernel for it, where shared memory allows? */
static inline bool pare_mma_shapes(const PareKernelArgs *a, const PareAttention *t) {
  if (a->in[PARE_Q].type.dtype != PARE_BF16 || t->q.width % 8 || t->v.width % 8) return false;
  if (pare_max(t->q.width, t->v.width) > PARE_MAX_HEAD_WIDTH) return false;
  if (pare_max(t->q.rows, t->k.rows) > PARE_MAX_HEAD_ROWS) return false;
  if (t->mask && t->step[3] != 1 && t->k.rows > 1) return false; /* a row of it has an element for each key */
  return t->q.rows > 0 && t->k.rows > 0 && t->batches * t->heads * t->q.rows <= INT32_MAX;
}

/* PARE_MASK_KEYS: the same for all queries. */
enum PareMask { PARE_MASK_NONE, PARE_MASK_KEYS, PARE_MASK_FULL };

/* Calls f(WIDTH, MASK), constants. */
template <class F> static PareStatus pare_by_head(const PareAttention *t, F f) {
  auto with = [&](auto width) {
    if (!t->mask) return f(width, std::integral_constant<PareMask, PARE_MASK_NONE>());
    if (t->step[2]) return f(width, std::integral_constant<PareMask, PARE_MASK_FULL>());
    return f(width, std::integral_constant<PareMask, PARE_MASK_KEYS>());
  };
  switch (pare_head_width(t)) {
  case 32: return with(std::integral_constant<int, 32>());
  case 64: return with(std::integral_constant<int, 64>());
  case 96: return with(std::integral_constant<int, 96>());
  default: return with(std::integral_constant<int, 128>());
  }
}

#endif
