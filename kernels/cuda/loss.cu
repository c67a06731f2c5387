/* loss.cu - losses, each a mean and one number, and their gradients. A row's or a part's loss is a double in the
 * workspace; one block adds them up in a fixed order. Formulas: docs/ir.md. */
#include "kernels/cuda/cuda.cuh"

enum { PARTS = 512 };

struct LossRows {
  int64_t rows, n; /* of n classes */
};
static LossRows rows_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  return {pare_span(t, 0, t->rank - 1), t->rank ? t->dim[t->rank - 1] : 1};
}

/* *out = factor·sum(v)/n, n from `count` where that is given; 0 over nothing. One block. */
static __global__ void mean(int64_t values, const double *v, const int64_t *count, int64_t n, double factor, void *out,
                            int type) {
  double s = 0;
  for (int64_t i = threadIdx.x; i < values; i += PARE_THREADS) s += v[i];
  s = pare_team_sum<PARE_THREADS>(s);
  if (count) n = *count;
  if (threadIdx.x == 0) pare_put_float(out, type, 0, n ? factor * s / (double)n : 0);
}
static PareStatus mean_run(PareKernelArgs *a, int64_t values, const double *v, const int64_t *count, int64_t n,
                           double factor) {
  PARE_LAUNCH(mean, 1, PARE_THREADS, 0, pare_cuda(a)->stream, values, v, count, n, factor, (void *)a->out[0].data,
              (int)a->out[0].type.dtype);
  return pare_launched(a);
}

/* log of the sum of e^(scale·x) over a row, in all lanes of the warp. */
template <class T> static __device__ inline PARE_C log_sum_exp(int64_t n, const T *x, PARE_C scale) {
  int lane = (int)threadIdx.x % PARE_WARP;
  PARE_C max = -INFINITY, sum = 0;
  for (int64_t i = lane; i < n; i += PARE_WARP) max = fmax(max, scale * pare_load(x[i]));
  max = pare_warp_max(max);
  for (int64_t i = lane; i < n; i += PARE_WARP) sum += exp(scale * pare_load(x[i]) - max);
  return max + log(pare_warp_sum(sum));
}
/* A warp a row. */
#define EACH_ROW(r, rows)                                                                              \
  for (int64_t r = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; r < (rows);           \
       r += (int64_t)gridDim.x * blockDim.x / PARE_WARP)
#define ROW_BLOCKS(rows) pare_blocks(a, (rows), PARE_THREADS / PARE_WARP)

/* --- CrossEntropy. Workspace: the number of labels that count (those not negative), a loss for each row --- */
static __global__ void count_labels(LossRows s, const void *label, int type, int64_t *valid, uint32_t *fault) {
  int64_t n = 0;
  for (int64_t r = threadIdx.x; r < s.rows; r += PARE_THREADS) {
    int64_t v = pare_get_int(label, type, r);
    if (v >= s.n) *fault = PARE_FAULT_LABEL;
    n += v >= 0;
  }
  n = pare_team_sum<PARE_THREADS>(n);
  if (threadIdx.x == 0) *valid = n;
}
template <class T>
static __global__ void cross_entropy(LossRows s, const T *x, const void *label, int type, double *loss) {
  EACH_ROW(r, s.rows) {
    int64_t v = pare_get_int(label, type, r);
    PARE_C lse = log_sum_exp<T>(s.n, x + r * s.n, 1);
    if (threadIdx.x % PARE_WARP == 0)
      loss[r] = v >= 0 && v < s.n ? (double)lse - (double)pare_load(x[r * s.n + v]) : 0;
  }
}
/* (softmax - one-hot)·dloss/valid; zero where the label is left out. */
template <class T>
static __global__ void cross_entropy_grad(LossRows s, const T *x, const void *label, int type, const int64_t *valid,
                                          const void *dloss, int dtype, T *dx) {
  PARE_C scale = *valid ? (PARE_C)(pare_get_float(dloss, dtype, 0) / (double)*valid) : 0;
  EACH_ROW(r, s.rows) {
    int64_t v = pare_get_int(label, type, r);
    PARE_C lse = log_sum_exp<T>(s.n, x + r * s.n, 1);
    for (int64_t i = threadIdx.x % PARE_WARP; i < s.n; i += PARE_WARP) {
      PARE_C p = exp(pare_load(x[r * s.n + i]) - lse) - (i == v ? 1 : 0);
      dx[r * s.n + i] = pare_store<T>(v >= 0 && scale != 0 ? scale * p : 0);
    }
  }
}

PareStatus pare_cuda_plan_CROSSENTROPY(PareKernelArgs *a) {
  a->workspace_bytes = sizeof(int64_t) + (size_t)rows_of(a).rows * sizeof(double);
  return PARE_OK;
}
static PareStatus count_run(PareKernelArgs *a, LossRows s) {
  if (!pare_is_index(&a->in[1])) return pare_bad_type(a);
  PARE_LAUNCH(count_labels, 1, PARE_THREADS, 0, pare_cuda(a)->stream, s, (const void *)a->in[1].data,
              (int)a->in[1].type.dtype, (int64_t *)a->workspace, a->fault);
  return pare_launched(a);
}
PareStatus pare_cuda_CROSSENTROPY(PareKernelArgs *a) {
  LossRows s = rows_of(a);
  int64_t *valid = (int64_t *)a->workspace;
  double *loss = (double *)(valid + 1);
  PARE_TRY(count_run(a, s));
  PARE_TRY(pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(cross_entropy<T>, ROW_BLOCKS(s.rows), PARE_THREADS, 0, pare_cuda(a)->stream, s,
                (const T *)a->in[0].data, (const void *)a->in[1].data, (int)a->in[1].type.dtype, loss);
    return pare_launched(a);
  }));
  return mean_run(a, s.rows, loss, valid, 0, 1);
}
PareStatus pare_cuda_CROSSENTROPYGRAD(PareKernelArgs *a) {
  LossRows s = rows_of(a);
  PARE_TRY(count_run(a, s));
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(cross_entropy_grad<T>, ROW_BLOCKS(s.rows), PARE_THREADS, 0, pare_cuda(a)->stream, s,
                (const T *)a->in[0].data, (const void *)a->in[1].data, (int)a->in[1].type.dtype,
                (const int64_t *)a->workspace, (const void *)a->in[2].data, (int)a->in[2].type.dtype,
                (T *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- Distill: T²·mean over rows of sum p_t·(log p_t - log p_s), p = softmax(x/T). A class with p_t = 0 adds nothing --- */
template <class T>
static __global__ void distill(LossRows s, double temperature, const T *student, const T *teacher, double *loss) {
  PARE_C k = (PARE_C)(1 / temperature);
  EACH_ROW(r, s.rows) {
    const T *x = student + r * s.n, *t = teacher + r * s.n;
    PARE_C ls = log_sum_exp<T>(s.n, x, k), lt = log_sum_exp<T>(s.n, t, k);
    double sum = 0;
    for (int64_t i = threadIdx.x % PARE_WARP; i < s.n; i += PARE_WARP) {
      PARE_C log_t = k * pare_load(t[i]) - lt, q = exp(log_t);
      sum += q > 0 ? (double)(q * (log_t - (k * pare_load(x[i]) - ls))) : 0.0;
    }
    sum = pare_warp_sum(sum);
    if (threadIdx.x % PARE_WARP == 0) loss[r] = sum;
  }
}
/* T/rows·(p_s - p_t)·dloss */
template <class T>
static __global__ void distill_grad(LossRows s, double temperature, const T *student, const T *teacher,
                                    const void *dloss, int dtype, T *dx) {
  PARE_C k = (PARE_C)(1 / temperature), scale = (PARE_C)(temperature / (double)s.rows * pare_get_float(dloss, dtype, 0));
  EACH_ROW(r, s.rows) {
    const T *x = student + r * s.n, *t = teacher + r * s.n;
    PARE_C ls = log_sum_exp<T>(s.n, x, k), lt = log_sum_exp<T>(s.n, t, k);
    for (int64_t i = threadIdx.x % PARE_WARP; i < s.n; i += PARE_WARP)
      dx[r * s.n + i] = pare_store<T>(scale * (exp(k * pare_load(x[i]) - ls) - exp(k * pare_load(t[i]) - lt)));
  }
}
PareStatus pare_cuda_plan_ROWLOSS(PareKernelArgs *a) {
  a->workspace_bytes = (size_t)rows_of(a).rows * sizeof(double);
  return PARE_OK;
}
PareStatus pare_cuda_DISTILL(PareKernelArgs *a) {
  LossRows s = rows_of(a);
  double t = pare_attr_get(a->attr, temperature, 1.0), *loss = (double *)a->workspace;
  PARE_TRY(pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(distill<T>, ROW_BLOCKS(s.rows), PARE_THREADS, 0, pare_cuda(a)->stream, s, t, (const T *)a->in[0].data,
                (const T *)a->in[1].data, loss);
    return pare_launched(a);
  }));
  return mean_run(a, s.rows, loss, NULL, s.rows, t * t);
}
PareStatus pare_cuda_DISTILLGRAD(PareKernelArgs *a) {
  LossRows s = rows_of(a);
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(distill_grad<T>, ROW_BLOCKS(s.rows), PARE_THREADS, 0, pare_cuda(a)->stream, s,
                (double)pare_attr_get(a->attr, temperature, 1.0), (const T *)a->in[0].data,
                (const T *)a->in[1].data, (const void *)a->in[2].data, (int)a->in[2].type.dtype, (T *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- means over all elements: (x - t)², and log(1 + e^-|x|) + max(x, 0) - x·t --- */
struct Mse {
  template <class C> static __device__ inline C of(C x, C t) { return (x - t) * (x - t); }
  template <class C> static __device__ inline C slope(C x, C t) { return 2 * (x - t); }
};
struct Bce {
  template <class C> static __device__ inline C of(C x, C t) { return (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x))); }
  template <class C> static __device__ inline C slope(C x, C t) { return 1 / (1 + exp(-x)) - t; }
};
template <class F, class T> static __global__ void part_loss(int64_t n, const T *x, const T *t, double *part) {
  double s = 0;
  PARE_EACH(i, n) s += (double)F::of(pare_load(x[i]), pare_load(t[i]));
  s = pare_team_sum<PARE_THREADS>(s);
  if (threadIdx.x == 0) part[blockIdx.x] = s;
}
template <class F, class T>
static __global__ void loss_grad(int64_t n, const T *x, const T *t, const void *dloss, int dtype, T *dx) {
  PARE_C scale = (PARE_C)(pare_get_float(dloss, dtype, 0) / (double)n);
  PARE_EACH(i, n) dx[i] = pare_store<T>(scale * F::slope(pare_load(x[i]), pare_load(t[i])));
}
PareStatus pare_cuda_plan_MEANLOSS(PareKernelArgs *a) {
  a->workspace_bytes = PARTS * sizeof(double);
  return PARE_OK;
}
/* The parts are cut by n alone, not by the GPU: the same bytes on every one. */
template <class F> static PareStatus mean_loss(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]), parts = pare_max(1, pare_min(PARTS, pare_ceil_div(n, 4 * PARE_THREADS)));
  double *part = (double *)a->workspace;
  PARE_TRY(pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH((part_loss<F, T>), parts, PARE_THREADS, 0, pare_cuda(a)->stream, n, (const T *)a->in[0].data,
                (const T *)a->in[1].data, part);
    return pare_launched(a);
  }));
  return mean_run(a, parts, part, NULL, n, 1);
}
template <class F> static PareStatus mean_loss_grad(PareKernelArgs *a) {
  int64_t n = pare_count(&a->in[0]);
  if (!n) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH((loss_grad<F, T>), pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n,
                (const T *)a->in[0].data, (const T *)a->in[1].data, (const void *)a->in[2].data,
                (int)a->in[2].type.dtype, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_MSE(PareKernelArgs *a) { return mean_loss<Mse>(a); }
PareStatus pare_cuda_BCE(PareKernelArgs *a) { return mean_loss<Bce>(a); }
PareStatus pare_cuda_MSEGRAD(PareKernelArgs *a) { return mean_loss_grad<Mse>(a); }
PareStatus pare_cuda_BCEGRAD(PareKernelArgs *a) { return mean_loss_grad<Bce>(a); }
