/* lp_norm.cu - LpNormalization: y = x / (sum of |x|^p)^(1/p) along an axis, p 1 or 2; a line of zeros stays. A block a
 * line; sums in double. */
#include "kernels/cuda/rows.cuh"

struct Norms {
  const void *x;
  void *y;
  int64_t lines, n, inner; /* a line's elements are `inner` apart */
  int type, one;           /* one: p is 1 */
};
template <class T> static __device__ inline void normalise(const Norms &r, const PareShare &share) {
  for (int64_t i = share.block; i < r.lines; i += share.blocks) {
    int64_t at = i / r.inner * r.n * r.inner + i % r.inner;
    double sum = 0;
    for (int64_t k = threadIdx.x; k < r.n; k += PARE_THREADS) {
      double v = (double)pare_load(((const T *)r.x)[at + k * r.inner]);
      sum += r.one ? fabs(v) : v * v;
    }
    sum = pare_team_sum<PARE_THREADS>(sum);
    double norm = r.one ? sum : sqrt(sum);
    for (int64_t k = threadIdx.x; k < r.n; k += PARE_THREADS) {
      double v = (double)pare_load(((const T *)r.x)[at + k * r.inner]);
      ((T *)r.y)[at + k * r.inner] = pare_store<T>(norm == 0 ? (PARE_C)0 : (PARE_C)(v / norm));
    }
  }
}
static __global__ void lp_norm(const __grid_constant__ PareTable<Norms> t) {
  PareShare share = pare_share(t);
  const Norms &r = t.at[share.row];
  pare_as_float(r.type, [&](auto zero) { normalise<decltype(zero)>(r, share); });
}

static int64_t norms_row(const PareKernelArgs *a, Norms *r) {
  const PareType *t = &a->in[0].type;
  int k = pare_axis(pare_attr_get(a->attr, axis, -1), t->rank);
  int64_t n = t->rank ? t->dim[k] : 1, inner = pare_span(t, k + 1, t->rank);
  int64_t lines = n ? pare_count(&a->in[0]) / n : 0;
  *r = {a->in[0].data, a->out[0].data, lines, n, inner, (int)t->dtype, pare_attr_get(a->attr, p, 2) == 1};
  return lines ? pare_blocks(a, lines, 1) : 0;
}
PareStatus pare_cuda_many_LPNORM(PareKernelArgs *const *a, int n) {
  for (int i = 0; i < n; i++)
    if (!pare_is_float(&a[i]->in[0])) return pare_bad_type(a[i]);
  return pare_each_table<Norms>(
      n, [&](int64_t i, Norms *r) { return norms_row(a[i], r); },
      [&](const PareTable<Norms> &t, int64_t blocks) {
        PARE_LAUNCH(lp_norm, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_LPNORM(PareKernelArgs *a) { return pare_cuda_many_LPNORM(&a, 1); }
