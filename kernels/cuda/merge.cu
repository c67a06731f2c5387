/* merge.cu - W' = m∘(W + s·A·B) in the type of the activations, for Linear and LinearGrad, and a bias in that type.
 * W is read and W' written once; the factors are small. */
#include "kernels/cuda/cuda.cuh"

enum {
  GROUP = 8,  /* ranks at a time */
  STRIP = 32, /* rows of a block, the general way */
  COLUMNS = 128,
  QUAD = 4,             /* columns of a thread, the fast way */
  LINES = 8,            /* rows of a block */
  TEAM = LINES * GROUP, /* its threads: each fetches one number of the left factor */
  TEAMS = 10            /* of a multiprocessor, by registers */
};

/* Element [i, j] of the factors of W as it is stored: left[i·ls + t·lt], right[j·rs + t·rt]. */
struct Merge {
  int64_t rows, cols, r, ls, lt, rs, rt;
  int mask_rows; /* the mask goes with the rows, else with the columns */
  double scale;
  int64_t n; /* numbers of the bias; 0: none */
};

/* A thread has a column, whose numbers of up to GROUP ranks stay in registers. */
template <class T>
static __global__ void merge(Merge g, const PARE_C *w, const PARE_C *left, const PARE_C *right, const PARE_C *mask,
                             const PARE_C *bias, T *out, T *bias_out) {
  int64_t tiles = (g.cols + COLUMNS - 1) / COLUMNS, strips = (g.rows + STRIP - 1) / STRIP;
  PARE_EACH(i, g.n) bias_out[i] = pare_store<T>(bias[i]);
  for (int64_t b = blockIdx.x; b < tiles * strips; b += gridDim.x) {
    int64_t j = b % tiles * COLUMNS + threadIdx.x, lo = b / tiles * STRIP;
    int64_t hi = lo + STRIP < g.rows ? lo + STRIP : g.rows;
    if (j >= g.cols) continue;
    PARE_C q[GROUP];
    for (int t = 0; t < GROUP; t++) q[t] = t < g.r ? (PARE_C)g.scale * right[j * g.rs + t * g.rt] : 0;
    for (int64_t i = lo; i < hi; i++) {
      PARE_C sum = w[i * g.cols + j];
      for (int t = 0; t < GROUP; t++) {
        if (t >= g.r) break;
        sum += left[i * g.ls + t * g.lt] * q[t];
      }
      for (int64_t t = GROUP; t < g.r; t++)
        sum += left[i * g.ls + t * g.lt] * ((PARE_C)g.scale * right[j * g.rs + t * g.rt]);
      if (mask) sum *= mask[g.mask_rows ? i : j];
      out[i * g.cols + j] = pare_store<T>(sum);
    }
  }
}

/* --- four columns a thread: f32 in, rows of whole, aligned quads --- */

template <class T> struct alignas(QUAD * sizeof(T)) Quad {
  T at[QUAD];
};

/* s·right of rank t at columns j.., zeros behind the last rank */
static __device__ inline Quad<float> right_quad(const Merge &g, const float *right, int64_t j, int64_t t) {
  Quad<float> q = {};
  if (t >= g.r) return q;
  if (g.rs == 1) q = *(const Quad<float> *)(const void *)(right + t * g.rt + j);
  else
    for (int c = 0; c < QUAD; c++) q.at[c] = right[(j + c) * g.rs + t * g.rt];
  for (int c = 0; c < QUAD; c++) q.at[c] *= (float)g.scale;
  return q;
}

/* A thread has LINES quads below each other, all of them on their way at once. */
template <class T>
static __global__ void __launch_bounds__(TEAM, TEAMS)
    merge_quads(Merge g, const float *w, const float *left, const float *right, const float *mask, const float *bias,
                T *out, T *bias_out) {
  __shared__ Quad<float> lines[LINES][GROUP / QUAD];
  int64_t tiles = (g.cols + TEAM * QUAD - 1) / (TEAM * QUAD), strips = (g.rows + LINES - 1) / LINES;
  int line = (int)threadIdx.x / GROUP, rank = (int)threadIdx.x % GROUP;
  PARE_EACH(i, g.n) bias_out[i] = pare_store<T>(bias[i]);
  for (int64_t b = blockIdx.x; b < tiles * strips; b += gridDim.x) {
    int64_t j = (b % tiles * TEAM + threadIdx.x) * QUAD, lo = b / tiles * LINES;
    Quad<float> sum[LINES] = {};
    PARE_UNROLL
    for (int i = 0; i < LINES; i++)
      if (j < g.cols && lo + i < g.rows) sum[i] = *(const Quad<float> *)(const void *)(w + (lo + i) * g.cols + j);
    for (int64_t t0 = 0; t0 < g.r; t0 += GROUP) {
      Quad<float> q[GROUP] = {};
      PARE_UNROLL
      for (int t = 0; t < GROUP; t++)
        if (j < g.cols) q[t] = right_quad(g, right, j, t0 + t);
      __syncthreads(); /* the lines may still be read */
      lines[line][rank / QUAD].at[rank % QUAD] =
          lo + line < g.rows && t0 + rank < g.r ? left[(lo + line) * g.ls + (t0 + rank) * g.lt] : 0;
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
      if (j >= g.cols || lo + i >= g.rows) continue;
      Quad<T> z;
      for (int c = 0; c < QUAD; c++) {
        float by = mask ? mask[g.mask_rows ? lo + i : j + c] : 1;
        z.at[c] = pare_store<T>(sum[i].at[c] * by);
      }
      *(Quad<T> *)(void *)(out + (lo + i) * g.cols + j) = z;
    }
  }
}

template <class T> static PareStatus launch(PareKernelArgs *a, const PareMerge *o, T *out, T *bias_out) {
  typedef PARE_C C;
  cudaStream_t stream = pare_cuda(a)->stream;
  Merge g = {o->k, o->n, o->r, o->r, 1, 1, o->n, 1, o->scale, 0}; /* A on the left, B on the right */
  if (o->transposed) g = {o->n, o->k, o->r, 1, o->n, o->r, 1, 0, o->scale, 0};
  if (o->bias) g.n = o->n;
  const C *w = (const C *)o->w, *left = (const C *)(o->transposed ? o->b : o->a);
  const C *right = (const C *)(o->transposed ? o->a : o->b), *mask = (const C *)o->mask, *bias = (const C *)o->bias;
  if constexpr (std::is_same<C, float>::value)
    if (g.cols % QUAD == 0 && pare_aligned(w) && (g.rs > 1 || pare_aligned(right))) {
      int64_t blocks = pare_ceil_div(g.cols, TEAM * QUAD) * pare_ceil_div(g.rows, LINES);
      PARE_LAUNCH(merge_quads<T>, pare_blocks(a, blocks, 1), TEAM, 0, stream, g, w, left, right, mask, bias, out,
                  bias_out);
      return pare_launched(a);
    }
  int64_t blocks = pare_ceil_div(g.cols, COLUMNS) * pare_ceil_div(g.rows, STRIP);
  PARE_LAUNCH(merge<T>, pare_blocks(a, blocks, 1), COLUMNS, 0, stream, g, w, left, right, mask, bias, out, bias_out);
  return pare_launched(a);
}

PareStatus pare_cuda_merge(PareKernelArgs *a, const PareMerge *m, PareDtype d, void *out, void *bias_out) {
  return pare_by_float(a, d, [&](auto zero) {
    typedef decltype(zero) T;
    return launch<T>(a, m, (T *)out, (T *)bias_out);
  });
}
