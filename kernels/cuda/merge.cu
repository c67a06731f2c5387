/* merge.cu - W' = m∘(W + s·A·B) and a bias, in the type of the activations: MergedWeight, whose nodes share a launch, and
 * what Linear and LinearGrad make of a W that is not merged. W is read and W' written once; the factors are small. */
#include "kernels/cuda/rows.cuh"

enum {
  GROUP = 8,            /* ranks at a time */
  STRIP = 32,           /* rows of a block */
  COLUMNS = 128,        /* of a block, the general way */
  QUAD = 4,             /* columns of a thread, the fast way */
  LINES = 8,            /* rows that it has at a time */
  TEAM = LINES * GROUP, /* threads of a block: each fetches one number of the left factor */
  TEAMS = 8             /* of a multiprocessor, by registers */
};

/* W as it is stored, and its factors: left·right. */
struct Weight {
  const void *w, *left, *right, *mask, *bias;
  void *out, *bias_out;
  int64_t rows, cols, r, n; /* n: numbers of the bias; 0: none */
  double scale;
  int transposed; /* left is [r, rows] and right [cols, r]; else [rows, r], [r, cols] */
};
/* Elements from one to the next along the outer index and the ranks. */
struct Steps {
  int64_t left, left_rank, right, right_rank;
};
static __device__ inline Steps steps_of(const Weight &g) {
  if (g.transposed) return {1, g.rows, g.r, 1};
  return {g.r, 1, 1, g.cols};
}

/* A's rows go with W's, and the mask with A's. */
static Weight weight_of(const PareMerge &m) {
  if (m.transposed)
    return {m.w, m.b, m.a, m.mask, m.bias, m.out, m.bias_out, m.n, m.k, m.r, m.bias ? m.n : 0, m.scale, 1};
  return {m.w, m.a, m.b, m.mask, m.bias, m.out, m.bias_out, m.k, m.n, m.r, m.bias ? m.n : 0, m.scale, 0};
}

/* --- any sizes and types: a thread has a column, whose numbers of up to GROUP ranks stay in registers --- */

template <class T> static __global__ void merge(Weight g) {
  typedef PARE_C C;
  const C *w = (const C *)g.w, *left = (const C *)g.left, *right = (const C *)g.right, *mask = (const C *)g.mask;
  T *out = (T *)g.out;
  Steps s = steps_of(g);
  int64_t tiles = (g.cols + COLUMNS - 1) / COLUMNS, strips = (g.rows + STRIP - 1) / STRIP;
  PARE_EACH(i, g.n) ((T *)g.bias_out)[i] = pare_store<T>(((const C *)g.bias)[i]);
  for (int64_t b = blockIdx.x; b < tiles * strips; b += gridDim.x) {
    int64_t j = b % tiles * COLUMNS + threadIdx.x, lo = b / tiles * STRIP;
    int64_t hi = lo + STRIP < g.rows ? lo + STRIP : g.rows;
    if (j >= g.cols) continue;
    C q[GROUP];
    for (int t = 0; t < GROUP; t++) q[t] = t < g.r ? (C)g.scale * right[j * s.right + t * s.right_rank] : 0;
    for (int64_t i = lo; i < hi; i++) {
      C sum = w[i * g.cols + j];
      for (int t = 0; t < GROUP; t++) {
        if (t >= g.r) break;
        sum += left[i * s.left + t * s.left_rank] * q[t];
      }
      for (int64_t t = GROUP; t < g.r; t++)
        sum += left[i * s.left + t * s.left_rank] * ((C)g.scale * right[j * s.right + t * s.right_rank]);
      if (mask) sum *= mask[g.transposed ? j : i];
      out[i * g.cols + j] = pare_store<T>(sum);
    }
  }
}

static PareStatus merge_any(PareKernelArgs *a, const PareMerge &m) {
  Weight g = weight_of(m);
  int64_t blocks = pare_ceil_div(g.cols, COLUMNS) * pare_ceil_div(g.rows, STRIP);
  return pare_by_float(a, m.to, [&](auto zero) {
    PARE_LAUNCH(merge<decltype(zero)>, pare_blocks(a, blocks, 1), COLUMNS, 0, pare_cuda(a)->stream, g);
    return pare_launched(a);
  });
}

/* --- f32 in, rows of whole, aligned quads: four columns a thread, many weights by one launch --- */

template <class T> struct alignas(QUAD * sizeof(T)) Quad {
  T at[QUAD];
};

/* QUAD ranks of right [cols, r] from one on, zeros behind the last */
static __device__ inline Quad<float> take_ranks(const float *right, int64_t left_over) {
  Quad<float> v = {};
  if (left_over >= QUAD && (uintptr_t)right % sizeof v == 0) return *(const Quad<float> *)(const void *)right;
  for (int k = 0; k < QUAD; k++)
    if (k < left_over) v.at[k] = right[k];
  return v;
}

/* q[t] = s·right of rank t0 + t at columns j..; zeros behind the last rank */
static __device__ inline void take_right(const Weight &g, int64_t j, int64_t t0, Quad<float> q[GROUP]) {
  const float *right = (const float *)g.right;
  if (g.transposed) {
    PARE_UNROLL for (int c = 0; c < QUAD; c++)
      PARE_UNROLL for (int t = 0; t < GROUP; t += QUAD) {
        Quad<float> v = take_ranks(right + (j + c) * g.r + t0 + t, g.r - t0 - t);
        PARE_UNROLL for (int k = 0; k < QUAD; k++) q[t + k].at[c] = v.at[k];
      }
  } else {
    PARE_UNROLL for (int t = 0; t < GROUP; t++)
      q[t] = t0 + t < g.r ? *(const Quad<float> *)(const void *)(right + (t0 + t) * g.cols + j) : Quad<float>{};
  }
  PARE_UNROLL for (int t = 0; t < GROUP; t++)
    PARE_UNROLL for (int c = 0; c < QUAD; c++) q[t].at[c] *= (float)g.scale;
}

/* A block has STRIP rows; a thread LINES quads below each other at a time, all of them on their way at once. Its numbers
 * of the right factor stay in registers while the ranks are no more than GROUP. */
template <class T>
static __global__ void __launch_bounds__(TEAM, TEAMS) merge_quads(const __grid_constant__ PareTable<Weight> table) {
  __shared__ Quad<float> lines[LINES][GROUP / QUAD];
  PareShare share = pare_share(table);
  const Weight &g = table.at[share.row];
  const float *w = (const float *)g.w, *left = (const float *)g.left, *mask = (const float *)g.mask;
  int64_t tiles = (g.cols + TEAM * QUAD - 1) / (TEAM * QUAD), top = share.block / tiles * STRIP;
  int64_t j = (share.block % tiles * TEAM + threadIdx.x) * QUAD;
  int line = (int)threadIdx.x / GROUP, rank = (int)threadIdx.x % GROUP;
  bool inside = j < g.cols;
  Steps s = steps_of(g);
  Quad<float> q[GROUP] = {};
  PARE_EACH_SHARED(i, g.n, share) ((T *)g.bias_out)[i] = pare_store<T>(((const float *)g.bias)[i]);
  for (int64_t lo = top; lo < top + STRIP && lo < g.rows; lo += LINES) {
    Quad<float> sum[LINES] = {};
    PARE_UNROLL
    for (int i = 0; i < LINES; i++)
      if (inside && lo + i < g.rows) sum[i] = *(const Quad<float> *)(const void *)(w + (lo + i) * g.cols + j);
    for (int64_t t0 = 0; t0 < g.r; t0 += GROUP) {
      if (inside && (lo == top || g.r > GROUP)) take_right(g, j, t0, q);
      __syncthreads(); /* the lines may still be read */
      lines[line][rank / QUAD].at[rank % QUAD] =
          lo + line < g.rows && t0 + rank < g.r ? left[(lo + line) * s.left + (t0 + rank) * s.left_rank] : 0;
      __syncthreads();
      PARE_UNROLL
      for (int i = 0; i < LINES * GROUP; i++) {
        float f = lines[i / GROUP][i % GROUP / QUAD].at[i % QUAD];
        PARE_UNROLL
        for (int c = 0; c < QUAD; c++) sum[i / GROUP].at[c] += f * q[i % GROUP].at[c];
      }
    }
    PARE_UNROLL
    for (int i = 0; i < LINES; i++) {
      if (!inside || lo + i >= g.rows) continue;
      Quad<T> z;
      for (int c = 0; c < QUAD; c++) {
        float by = mask ? mask[g.transposed ? j + c : lo + i] : 1;
        z.at[c] = pare_store<T>(sum[i].at[c] * by);
      }
      *(Quad<T> *)(void *)((T *)g.out + (lo + i) * g.cols + j) = z;
    }
  }
}

static bool has_quads(const PareMerge &m) {
  if (m.to != PARE_F32 && m.to != PARE_BF16) return false;
  return (m.transposed ? m.k : m.n) % QUAD == 0 && pare_aligned(m.w) && (m.transposed || pare_aligned(m.b));
}

/* The weights of one type, of(i) of call i, that have quads. */
template <class T, class Of> static PareStatus merge_as(PareDtype to, PareKernelArgs *const *a, int n, Of of) {
  return pare_each_table<Weight>(
      n,
      [&](int64_t i, Weight *g) -> int64_t {
        PareMerge m = of(i);
        if (m.to != to || !has_quads(m)) return 0;
        *g = weight_of(m);
        return pare_ceil_div(g->cols, TEAM * QUAD) * pare_ceil_div(g->rows, STRIP);
      },
      [&](const PareTable<Weight> &t, int64_t blocks) {
        PARE_LAUNCH(merge_quads<T>, blocks, TEAM, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}

template <class Of> static PareStatus merge_all(PareKernelArgs *const *a, int n, Of of) {
  for (int i = 0; i < n; i++)
    if (!has_quads(of(i))) PARE_TRY(merge_any(a[i], of(i)));
  PARE_TRY(merge_as<float>(PARE_F32, a, n, of));
  return merge_as<PareBf16>(PARE_BF16, a, n, of);
}

PareStatus pare_cuda_merge(PareKernelArgs *a, const PareMerge *m) {
  return merge_all(&a, 1, [&](int64_t) { return *m; });
}

/* Inputs: W, bias, A, B, mask. Outputs: W', the bias. */
static PareMerge merge_of(const PareKernelArgs *a) {
  auto data = [&](int i) { return pare_given(a, i) ? (const void *)a->in[i].data : NULL; };
  const PareType *w = &a->in[0].type;
  bool t = a->attr->transB;
  PareMerge m = {w->dim[t], w->dim[!t], 0, t, pare_attr_get(a->attr, scale, 1.0), a->in[0].data, data(2), data(3), data(4),
                 NULL, a->out[0].type.dtype, a->out[0].data, NULL};
  if (m.a) m.r = a->in[2].type.dim[1];
  if (pare_wanted(a, 1)) m.bias = data(1), m.bias_out = a->out[1].data;
  return m;
}
PareStatus pare_cuda_many_MERGEDWEIGHT(PareKernelArgs *const *a, int n) {
  return merge_all(a, n, [&](int64_t i) { return merge_of(a[i]); });
}
PareStatus pare_cuda_MERGEDWEIGHT(PareKernelArgs *a) { return pare_cuda_many_MERGEDWEIGHT(&a, 1); }
