/* matmul_integer.cu - MatMulInteger: (a - za)·(b - zb) of 8-bit integers, exact modulo 2^32. The zero points are one
 * number, or one for each row of a and for each column of b. A thread makes an element. */
#include "kernels/cuda/cuda.cuh"

/* y[batch.., m, n]; the walk gives where a's row and b's column begin. zeros: how many there are, 0, 1, or m or n. */
struct Dots {
  PareWalk begin;
  int64_t m, n, k, azeros, bzeros;
};

/* How far operand t moves along batch axis i of `rank`; `matrix` is what its matrices hold. */
static int64_t batch_step(const PareType *t, int i, int rank, int64_t matrix) {
  int k = i - (rank - (t->rank - 2));
  return k < 0 || t->dim[k] == 1 ? 0 : pare_span(t, k + 1, t->rank - 2) * matrix;
}
static int64_t zeros_of(const PareKernelArgs *a, int i) { return pare_given(a, i) ? pare_count(&a->in[i]) : 0; }

/* Vectors are a row on the left and a column on the right, whose axes of 1 the result does not have. */
static Dots dots_of(const PareKernelArgs *args) {
  PareType a = args->in[0].type, b = args->in[1].type;
  if (a.rank == 1) a.rank = 2, a.dim[1] = a.dim[0], a.dim[0] = 1;
  if (b.rank == 1) b.rank = 2, b.dim[1] = 1;
  Dots p = {};
  p.m = a.dim[a.rank - 2], p.k = a.dim[a.rank - 1], p.n = b.dim[b.rank - 1];
  p.azeros = zeros_of(args, 2), p.bzeros = zeros_of(args, 3);
  int rank = (a.rank > b.rank ? a.rank : b.rank) - 2;
  for (int i = 0; i < rank; i++) {
    int64_t step[PARE_OPERANDS] = {batch_step(&a, i, rank, p.m * p.k), batch_step(&b, i, rank, p.k * p.n)};
    pare_walk_add(&p.begin, args->out[0].type.dim[i], step);
  }
  int64_t row[PARE_OPERANDS] = {p.k}, column[PARE_OPERANDS] = {0, 1};
  pare_walk_add(&p.begin, p.m, row);
  pare_walk_add(&p.begin, p.n, column);
  pare_walk_end(&p.begin, pare_count(&args->out[0]));
  return p;
}

template <class A, class B>
static __global__ void dots(Dots p, int64_t count, const A *a, const B *b, const A *za, const B *zb, int32_t *y) {
  PARE_EACH(i, count) {
    int64_t at[2] = {0, 0};
    pare_walk_at<2>(p.begin, i, at);
    int32_t u = p.azeros ? za[p.azeros == 1 ? 0 : i / p.n % p.m] : 0;
    int32_t v = p.bzeros ? zb[p.bzeros == 1 ? 0 : i % p.n] : 0;
    uint32_t dot = 0;
    for (int64_t t = 0; t < p.k; t++) dot += (uint32_t)((a[at[0] + t] - u) * (b[at[1] + t * p.n] - v));
    y[i] = (int32_t)dot;
  }
}

/* Calls f(T()) for the bytes that d names. */
template <class F> static PareStatus by_byte(PareKernelArgs *a, PareDtype d, F f) {
  if (d == PARE_I8) return f(int8_t());
  if (d == PARE_U8) return f(uint8_t());
  return pare_bad_type(a);
}
PareStatus pare_cuda_MATMULINTEGER(PareKernelArgs *args) {
  int64_t count = pare_count(&args->out[0]);
  if (!count) return PARE_OK;
  Dots p = dots_of(args);
  const void *za = p.azeros ? args->in[2].data : NULL, *zb = p.bzeros ? args->in[3].data : NULL;
  return by_byte(args, args->in[0].type.dtype, [&](auto a) {
    typedef decltype(a) A;
    return by_byte(args, args->in[1].type.dtype, [&](auto b) {
      typedef decltype(b) B;
      PARE_LAUNCH((dots<A, B>), pare_blocks(args, count, PARE_THREADS), PARE_THREADS, 0, pare_cuda(args)->stream, p,
                  count, (const A *)args->in[0].data, (const B *)args->in[1].data, (const A *)za, (const B *)zb,
                  (int32_t *)args->out[0].data);
      return pare_launched(args);
    });
  });
}
