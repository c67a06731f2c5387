/* channel.c - BatchNormalization (in inference) and InstanceNormalization of
 * x[n, c, ...]: y = (x - mean)·rstd·scale + bias for each plane of a channel. */
#include "kernels/cpu/cpu.h"

#include <math.h>

#ifndef T
#define PARE_TEMPLATE "kernels/cpu/channel.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(BATCHNORM, batch_norm)
PARE_FLOAT_KERNEL(INSTANCENORM, instance_norm)

#else /* the template */
static void FN(plane)(int64_t n, const T *x, T *y, double mean, double gain, double bias) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = STORE((C)(((double)LOAD(x[i]) - mean) * gain + bias));
}

/* x, scale, bias, mean, var */
static PareStatus FN(batch_norm)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t channels = t->rank > 1 ? t->dim[1] : 1, n = pare_span(t, 2, t->rank);
  double eps = pare_attr_get(a->attr, epsilon, 1e-5);
#pragma omp parallel for schedule(static) if (pare_threaded(pare_count(&a->in[0])))
  for (int64_t i = 0; i < t->dim[0] * channels; i++) {
    int64_t c = i % channels;
    double gain = pare_get_float(&a->in[1], c) / sqrt(pare_get_float(&a->in[4], c) + eps);
    FN(plane)(n, (const T *)a->in[0].data + i * n, (T *)a->out[0].data + i * n, pare_get_float(&a->in[3], c), gain,
              pare_get_float(&a->in[2], c));
  }
  return PARE_OK;
}

/* x, scale, bias; mean and variance are the plane's own */
static PareStatus FN(instance_norm)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t channels = t->dim[1], n = pare_span(t, 2, t->rank);
  double eps = pare_attr_get(a->attr, epsilon, 1e-5);
#pragma omp parallel for schedule(static) if (pare_threaded(pare_count(&a->in[0])))
  for (int64_t i = 0; i < t->dim[0] * channels; i++) {
    const T *x = (const T *)a->in[0].data + i * n;
    double sum = 0, square = 0;
    for (int64_t j = 0; j < n; j++) sum += (double)LOAD(x[j]);
    double mean = sum / (double)n;
    for (int64_t j = 0; j < n; j++) square += ((double)LOAD(x[j]) - mean) * ((double)LOAD(x[j]) - mean);
    double gain = pare_get_float(&a->in[1], i % channels) / sqrt(square / (double)n + eps);
    FN(plane)(n, x, (T *)a->out[0].data + i * n, mean, gain, pare_get_float(&a->in[2], i % channels));
  }
  return PARE_OK;
}
#endif
