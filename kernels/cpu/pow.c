/* pow.c - Pow. The result has the base's type, the exponent any number type;
 * the squares and roots of decomposed norms are loops of their own. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#ifndef T
static double exponent(const void *e, const void *dtype, int64_t i) {
  PareTensor t = {.data = (void *)e, .type.dtype = *(const PareDtype *)dtype};
  return pare_dtype_is_float(t.type.dtype) ? pare_get_float(&t, i) : (double)pare_get_int(&t, i);
}

#define PARE_TEMPLATE "kernels/cpu/pow.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"

PareStatus PARE_CPU(POW)(PareKernelArgs *a) {
  PareRowFn *row = PARE_PICK_NUMBER(a->in[0].type.dtype, power);
  if (!row || !(pare_is_index(&a->in[1]) || pare_dtype_is_float(a->in[1].type.dtype))) return pare_bad_type(a);
  PARE_CPU(rows)(&a->out[0], 2, a->in, row, &a->in[1].type.dtype);
  return PARE_OK;
}

#elif !defined U /* floats */
static void FN(power)(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0];
  T *z = zp;
  int64_t sx = step[0] ? 1 : 0, se = step[1] ? 1 : 0;
  double e = sx && !se ? exponent(in[1], arg, 0) : 0;
  if (e == 2) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) z[i] = STORE(LOAD(x[i]) * LOAD(x[i]));
  } else if (e == 0.5) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) z[i] = STORE(MATH(sqrt)(LOAD(x[i])));
  } else if (e == 3) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) z[i] = STORE(LOAD(x[i]) * LOAD(x[i]) * LOAD(x[i]));
  } else {
    for (int64_t i = 0; i < n; i++) z[i] = STORE((C)pow((double)LOAD(x[i * sx]), exponent(in[1], arg, i * se)));
  }
}

#else /* integers */
/* x^e modulo 2^width; a negative exponent gives the truncated quotient 1/x^|e|. */
static C FN(int_power)(C x, int64_t e) {
  if (e < 0) return x == 1 ? 1 : x == -1 ? (e % 2 ? -1 : 1) : 0;
  U r = 1, b = (U)x;
  for (; e; e >>= 1, b *= b)
    if (e & 1) r *= b;
  return (C)r;
}
static void FN(power)(int64_t n, void *zp, const void *const in[3], const bool step[3], const void *arg) {
  const T *x = in[0];
  T *z = zp;
  const PareDtype *d = arg;
  for (int64_t i = 0; i < n; i++) {
    C base = x[step[0] ? i : 0];
    double e = exponent(in[1], arg, step[1] ? i : 0);
    if (!pare_dtype_is_float(*d) || e == floor(e)) z[i] = FN(int_power)(base, (int64_t)fmin(fmax(e, -0x1p62), 0x1p62));
    else {
      double v = pow((double)base, e);
      z[i] = v >= (double)C_MAX ? C_MAX : v > (double)C_MIN ? (C)v : v == v ? C_MIN : 0;
    }
  }
}
#endif
