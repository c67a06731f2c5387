/* optim.cu - what runs on states: Accumulate, SumSquares, AdamW, Ema. A model has as many states as adapters have
 * matrices, each of them small: one launch takes them all. */
#include "kernels/cuda/rows.cuh"

enum { PARTS = 64 };

/* --- Accumulate: acc += g. A gradient in bf16 may be added to an f32 sum --- */
struct Addend {
  void *acc;
  const void *g;
  int64_t n;
  int acc_type, g_type;
};
template <class T, class G> static __device__ inline void accumulate_row(const Addend &r, const PareShare &s) {
  T *acc = (T *)r.acc;
  const G *g = (const G *)r.g;
  PARE_EACH_SHARED(i, r.n, s) acc[i] = pare_store<T>(pare_load(acc[i]) + (PARE_C)pare_load(g[i]));
}
static __global__ void accumulate(const __grid_constant__ PareTable<Addend> t) {
  PareShare s = pare_share(t);
  const Addend &r = t.at[s.row];
  if (r.acc_type != r.g_type) accumulate_row<float, PareBf16>(r, s);
  else
    pare_as_float(r.acc_type, [&](auto zero) {
      typedef decltype(zero) T;
      accumulate_row<T, T>(r, s);
    });
}
PareStatus pare_cuda_many_ACCUMULATE(PareKernelArgs *const *a, int n) {
  for (int i = 0; i < n; i++) {
    PareDtype acc = a[i]->in[0].type.dtype, g = a[i]->in[1].type.dtype;
    bool mixed = acc == PARE_F32 && g == PARE_BF16;
    if (!mixed && (acc != g || !pare_is_float(&a[i]->in[0]))) return pare_bad_type(a[i]);
  }
  return pare_each_table<Addend>(
      n,
      [&](int64_t i, Addend *r) {
        const PareTensor *in = a[i]->in;
        *r = {in[0].data, in[1].data, pare_count(&in[0]), (int)in[0].type.dtype, (int)in[1].type.dtype};
        return pare_row_blocks(a[i], r->n);
      },
      [&](const PareTable<Addend> &t, int64_t blocks) {
        PARE_LAUNCH(accumulate, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_ACCUMULATE(PareKernelArgs *a) { return pare_cuda_many_ACCUMULATE(&a, 1); }

/* --- SumSquares: parts of every input, cut by its size alone, then one block adds them up --- */
struct Squares {
  const void *x;
  double *part;
  int64_t n;
  int type;
};
static __global__ void square_parts(const __grid_constant__ PareTable<Squares> t) {
  PareShare share = pare_share(t);
  const Squares &r = t.at[share.row];
  double s = 0;
  pare_as_float(r.type, [&](auto zero) {
    const decltype(zero) *x = (const decltype(zero) *)r.x;
    PARE_EACH_SHARED(i, r.n, share) s += (double)pare_load(x[i]) * (double)pare_load(x[i]);
  });
  s = pare_team_sum<PARE_THREADS>(s);
  if (threadIdx.x == 0) r.part[share.block] = s;
}
static __global__ void add_up(int64_t n, const double *part, void *out, int type) {
  double s = 0;
  for (int64_t i = threadIdx.x; i < n; i += PARE_THREADS) s += part[i];
  s = pare_team_sum<PARE_THREADS>(s);
  if (threadIdx.x == 0) pare_put_float(out, type, 0, s);
}
PareStatus pare_cuda_plan_SUMSQUARES(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)a->nin * PARTS * sizeof(double);
  return PARE_OK;
}
PareStatus pare_cuda_SUMSQUARES(PareKernelArgs *a) {
  double *part = (double *)a->workspace;
  int64_t used = 0;
  for (int i = 0; i < a->nin; i++)
    if (pare_given(a, i) && !pare_is_float(&a->in[i])) return pare_bad_type(a);
  PARE_TRY(pare_each_table<Squares>(
      a->nin,
      [&](int64_t i, Squares *r) {
        int64_t n = pare_given(a, (int)i) ? pare_count(&a->in[i]) : 0;
        int64_t parts = pare_min(PARTS, pare_ceil_div(n, 2 * PARE_THREADS));
        *r = {a->in[i].data, part + used, n, (int)a->in[i].type.dtype};
        used += parts;
        return parts;
      },
      [&](const PareTable<Squares> &t, int64_t blocks) {
        PARE_LAUNCH(square_parts, blocks, PARE_THREADS, 0, pare_cuda(a)->stream, t);
        return pare_launched(a);
      }));
  PARE_LAUNCH(add_up, 1, PARE_THREADS, 0, pare_cuda(a)->stream, used, (const double *)part, (void *)a->out[0].data,
              (int)a->out[0].type.dtype);
  return pare_launched(a);
}

/* --- AdamW. Inputs: param, grad, m, v, hyper {lr, beta1, beta2, eps, weight_decay, 1/(1-beta1^t), 1/(1-beta2^t),
 * max_norm}, sumsq. Decoupled weight decay (Loshchilov and Hutter 2019); the gradient is clipped by its norm over all
 * parameters and is zero afterwards --- */
struct Param {
  void *param, *grad, *m, *v;
  const void *hyper, *sumsq;
  int64_t n;
  int type, htype, stype;
};
template <class T> static __device__ inline void adamw_row(const Param &r, const PareShare &s) {
  PARE_C h[8];
  T *param = (T *)r.param, *grad = (T *)r.grad, *m = (T *)r.m, *v = (T *)r.v;
  for (int i = 0; i < 8; i++) h[i] = (PARE_C)pare_get_float(r.hyper, r.htype, i);
  double norm = sqrt(pare_get_float(r.sumsq, r.stype, 0)), max_norm = (double)h[7];
  PARE_C clip = max_norm > 0 && norm > max_norm ? (PARE_C)(max_norm / norm) : 1;
  PARE_C lr = h[0], b1 = h[1], b2 = h[2], eps = h[3], decay = h[4], c1 = h[5], c2 = h[6];
  PARE_EACH_SHARED(i, r.n, s) {
    PARE_C g = pare_load(grad[i]) * clip, x = pare_load(param[i]);
    PARE_C m1 = b1 * pare_load(m[i]) + (1 - b1) * g, v1 = b2 * pare_load(v[i]) + (1 - b2) * g * g;
    m[i] = pare_store<T>(m1);
    v[i] = pare_store<T>(v1);
    param[i] = pare_store<T>(x - lr * (m1 * c1 / (sqrt(v1 * c2) + eps) + decay * x));
    grad[i] = pare_store<T>(0);
  }
}
static __global__ void adamw(const __grid_constant__ PareTable<Param> t) {
  PareShare s = pare_share(t);
  const Param &r = t.at[s.row];
  pare_as_float(r.type, [&](auto zero) { adamw_row<decltype(zero)>(r, s); });
}
PareStatus pare_cuda_many_ADAMW(PareKernelArgs *const *a, int n) {
  for (int i = 0; i < n; i++)
    if (!pare_is_float(&a[i]->in[0])) return pare_bad_type(a[i]);
  return pare_each_table<Param>(
      n,
      [&](int64_t i, Param *r) {
        const PareTensor *in = a[i]->in;
        *r = {in[0].data, in[1].data, in[2].data, in[3].data, in[4].data, in[5].data, pare_count(&in[0]),
              (int)in[0].type.dtype, (int)in[4].type.dtype, (int)in[5].type.dtype};
        return pare_row_blocks(a[i], r->n);
      },
      [&](const PareTable<Param> &t, int64_t blocks) {
        PARE_LAUNCH(adamw, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_ADAMW(PareKernelArgs *a) { return pare_cuda_many_ADAMW(&a, 1); }

/* --- Ema: state = alpha·state + (1 - alpha)·x --- */
struct Average {
  void *state;
  const void *x;
  int64_t n;
  double keep, take;
  int type;
};
static __global__ void ema(const __grid_constant__ PareTable<Average> t) {
  PareShare s = pare_share(t);
  const Average &r = t.at[s.row];
  pare_as_float(r.type, [&](auto zero) {
    typedef decltype(zero) T;
    T *state = (T *)r.state;
    const T *x = (const T *)r.x;
    PARE_C keep = (PARE_C)r.keep, take = (PARE_C)r.take;
    PARE_EACH_SHARED(i, r.n, s) state[i] = pare_store<T>(keep * pare_load(state[i]) + take * pare_load(x[i]));
  });
}
PareStatus pare_cuda_many_EMA(PareKernelArgs *const *a, int n) {
  for (int i = 0; i < n; i++)
    if (!pare_is_float(&a[i]->in[0])) return pare_bad_type(a[i]);
  return pare_each_table<Average>(
      n,
      [&](int64_t i, Average *r) {
        const PareTensor *in = a[i]->in;
        double keep = a[i]->attr->alpha;
        *r = {in[0].data, in[1].data, pare_count(&in[0]), keep, 1 - keep, (int)in[0].type.dtype};
        return pare_row_blocks(a[i], r->n);
      },
      [&](const PareTable<Average> &t, int64_t blocks) {
        PARE_LAUNCH(ema, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_EMA(PareKernelArgs *a) { return pare_cuda_many_EMA(&a, 1); }
