/* rows.cuh - many small pieces of work by one launch: a table in the kernel's parameters with a row for each piece, of
 * which every block finds the one that is its own. Nothing has to be brought to the device before. */
#ifndef PARE_KERNELS_CUDA_ROWS_CUH
#define PARE_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/cuda.cuh"

enum { PARE_TABLE_BYTES = 12 << 10 }; /* parameters may take 32764 (CUDA 12.1, compute capability 7.0) */

template <class Row> struct PareTable {
  enum { MAX = PARE_TABLE_BYTES / (sizeof(Row) + sizeof(uint32_t)) };
  int n;
  uint32_t end[MAX]; /* the first block that is not row i's or an earlier one's */
  Row at[MAX];
};

/* A block's row, and which of the row's blocks it is. */
struct PareShare {
  int row;
  int64_t block, blocks;
};
template <class Row> static __device__ inline PareShare pare_share(const PareTable<Row> &t) {
  int lo = 0, hi = t.n - 1;
  while (lo < hi) {
    int middle = (lo + hi) / 2;
    if (blockIdx.x < t.end[middle]) hi = middle;
    else lo = middle + 1;
  }
  uint32_t first = lo ? t.end[lo - 1] : 0;
  return {lo, (int64_t)(blockIdx.x - first), (int64_t)(t.end[lo] - first)};
}
/* i goes over the numbers below n that are this thread's. */
#define PARE_EACH_SHARED(i, n, share) \
  for (int64_t i = (share).block * blockDim.x + threadIdx.x; i < (n); i += (share).blocks * blockDim.x)

/* Calls launch(table, blocks) for tables of the rows that make(i, &row) fills, i < n, in order. make returns how many
 * blocks the row takes; 0: it has no work. */
template <class Row, class Make, class Launch> static PareStatus pare_each_table(int64_t n, Make make, Launch launch) {
  PareTable<Row> t = {};
  int64_t blocks = 0;
  for (int64_t i = 0; i < n; i++) {
    Row row = {};
    int64_t more = make(i, &row);
    if (!more) continue;
    if (t.n == PareTable<Row>::MAX || blocks + more > INT32_MAX) {
      PARE_TRY(launch(t, blocks));
      t.n = 0, blocks = 0;
    }
    t.at[t.n] = row;
    t.end[t.n++] = (uint32_t)(blocks += more);
  }
  return t.n ? launch(t, blocks) : PARE_OK;
}

/* Blocks of PARE_THREADS for n elements of a row, each to be read and written once. */
static inline int64_t pare_row_blocks(const PareKernelArgs *a, int64_t n) {
  return n ? pare_blocks(a, n, 4 * PARE_THREADS) : 0;
}

static inline bool pare_is_float(const PareTensor *t) {
  return t->type.dtype == PARE_F32 || t->type.dtype == PARE_F64 || t->type.dtype == PARE_BF16;
}
/* f(T()) for the float type that a row names: the same for all threads of a block. */
template <class F> static __device__ inline void pare_as_float(int dtype, F f) {
  if (dtype == PARE_F32) f(float());
  else if (dtype == PARE_F64) f(double());
  else f(PareBf16());
}

#endif
