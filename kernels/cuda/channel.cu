/* channel.cu - BatchNormalization (in inference) and InstanceNormalization of x[n, c, ...]:
 * y = (x - mean)·rstd·scale + bias for each plane of a channel, in double. */
#include "kernels/cuda/rows.cuh"

/* [channels], of any float types. */
struct PerChannel {
  const void *scale, *bias, *mean, *var;
  int scale_type, bias_type, mean_type, var_type;
  double eps;
};
/* Planes of n elements; plane i is channel i % channels. */
struct Planes {
  int64_t planes, channels, n;
};

static Planes planes_of(const PareType *t) {
  int64_t channels = t->rank > 1 ? t->dim[1] : 1;
  return {t->dim[0] * channels, channels, pare_span(t, 2, t->rank)};
}
static bool all_floats(const PareKernelArgs *a, int n) {
  for (int i = 0; i < n; i++)
    if (!pare_is_float(&a->in[i])) return false;
  return true;
}

template <class T> static __global__ void batch_norm(Planes p, PerChannel v, const T *x, T *y) {
  PARE_EACH(i, p.planes * p.n) {
    int64_t c = i / p.n % p.channels;
    double gain = pare_get_float(v.scale, v.scale_type, c) / sqrt(pare_get_float(v.var, v.var_type, c) + v.eps);
    double shifted = (double)pare_load(x[i]) - pare_get_float(v.mean, v.mean_type, c);
    y[i] = pare_store<T>((PARE_C)(shifted * gain + pare_get_float(v.bias, v.bias_type, c)));
  }
}
/* x, scale, bias, mean, var */
PareStatus pare_cuda_BATCHNORM(PareKernelArgs *a) {
  const PareTensor *in = a->in;
  int64_t count = pare_count(&in[0]);
  if (!all_floats(a, 5)) return pare_bad_type(a);
  if (!count) return PARE_OK;
  PerChannel v = {in[1].data, in[2].data, in[3].data, in[4].data, (int)in[1].type.dtype, (int)in[2].type.dtype,
                  (int)in[3].type.dtype, (int)in[4].type.dtype, pare_attr_get(a->attr, epsilon, 1e-5)};
  return pare_by_float(a, in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(batch_norm<T>, pare_blocks(a, count, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream,
                planes_of(&in[0].type), v, (const T *)in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}

/* Mean and variance are the plane's own; a block has a plane. */
template <class T> static __global__ void instance_norm(Planes p, PerChannel v, const T *x, T *y) {
  for (int64_t i = blockIdx.x; i < p.planes; i += gridDim.x) {
    double sum = 0, square = 0;
    for (int64_t k = threadIdx.x; k < p.n; k += PARE_THREADS) sum += (double)pare_load(x[i * p.n + k]);
    double mean = pare_team_sum<PARE_THREADS>(sum) / (double)p.n;
    for (int64_t k = threadIdx.x; k < p.n; k += PARE_THREADS) {
      double d = (double)pare_load(x[i * p.n + k]) - mean;
      square += d * d;
    }
    square = pare_team_sum<PARE_THREADS>(square);
    double gain = pare_get_float(v.scale, v.scale_type, i % p.channels) / sqrt(square / (double)p.n + v.eps);
    double bias = pare_get_float(v.bias, v.bias_type, i % p.channels);
    for (int64_t k = threadIdx.x; k < p.n; k += PARE_THREADS) {
      double d = (double)pare_load(x[i * p.n + k]) - mean;
      y[i * p.n + k] = pare_store<T>((PARE_C)(d * gain + bias));
    }
  }
}
/* x, scale, bias */
PareStatus pare_cuda_INSTANCENORM(PareKernelArgs *a) {
  const PareTensor *in = a->in;
  Planes p = planes_of(&in[0].type);
  if (!all_floats(a, 3)) return pare_bad_type(a);
  if (!pare_count(&in[0])) return PARE_OK;
  PerChannel v = {in[1].data, in[2].data, NULL, NULL, (int)in[1].type.dtype, (int)in[2].type.dtype, 0, 0,
                  pare_attr_get(a->attr, epsilon, 1e-5)};
  return pare_by_float(a, in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(instance_norm<T>, pare_blocks(a, p.planes, 1), PARE_THREADS, 0, pare_cuda(a)->stream, p, v,
                (const T *)in[0].data, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
