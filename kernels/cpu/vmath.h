/* vmath.h - exp, erf and tanh of floats as straight code, so that loops over
 * them become vector code. Polynomials are our own near-minimax fits (Lawson's
 * weighted least squares). Errors: at most 2 ulp; tests/unit/test_kernels_elementwise.c. */
#ifndef PARE_KERNELS_CPU_VMATH_H
#define PARE_KERNELS_CPU_VMATH_H

#include <math.h>

#include "base/num.h"

/* 2^k · e^r, |r| <= ln(2)/2. The factor is applied in two steps, so that results may be subnormal. */
static inline float vm_exp(float x) {
  float c = x > 89.0f ? 89.0f : x;
  c = c < -104.0f ? -104.0f : c;
  float shifted = c * 0x1.715476p0f + 0x1.8p23f; /* 1.5·2^23: the integer lands in the low bits */
  float n = shifted - 0x1.8p23f;
  int32_t k = (int32_t)(pare_f32_bits(shifted) - 0x4b400000u);
  float r = c - n * 0x1.62e4p-1f;
  r = r - n * 0x1.7f7d1cp-20f;
  float p = 0x1.6db51ap-10f;
  p = p * r + 0x1.123c02p-7f;
  p = p * r + 0x1.55545cp-5f;
  p = p * r + 0x1.55548ep-3f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  int32_t k1 = k >> 1, k2 = k - k1;
  return p * pare_f32_from_bits((uint32_t)(k1 + 127) << 23) * pare_f32_from_bits((uint32_t)(k2 + 127) << 23);
}

/* |x| < 0.95: x + x·P(x²); beyond: 1 - exp(-|x|·Q(|x|)), which is 1 from 4.05 on. */
static inline float vm_erf(float x) {
  float a = fabsf(x), s = x * x, t = a > 4.05f ? 4.05f : a;
  float p = -0x1.33578ap-11f;
  p = p * s + 0x1.458cf0p-8f;
  p = p * s - 0x1.b640dep-6f;
  p = p * s + 0x1.ce1538p-4f;
  p = p * s - 0x1.8126c6p-2f;
  p = p * s + 0x1.06eba4p-3f;
  float small = p * x + x;
  float q = 0x1.692606p-17f;
  q = q * t - 0x1.4d8236p-12f;
  q = q * t + 0x1.dadcd6p-9f;
  q = q * t - 0x1.84a1a2p-6f;
  q = q * t + 0x1.b2f1c4p-4f;
  q = q * t + 0x1.453682p-1f;
  q = q * t + 0x1.0774eap-3f;
  float large = copysignf(1.0f - vm_exp(-(q * t + t)), x);
  return a < 0.95f ? small : large;
}

/* |x| < 0.65: x + x³·P(x²); beyond: 1 - 2 / (e^{2|x|} + 1). */
static inline float vm_tanh(float x) {
  float a = fabsf(x), s = x * x;
  float p = -0x1.6a53p-8f;
  p = p * s + 0x1.4f993cp-6f;
  p = p * s - 0x1.b7da50p-5f;
  p = p * s + 0x1.11044ep-3f;
  p = p * s - 0x1.555526p-2f;
  float small = p * s * x + x;
  float large = copysignf(1.0f - 2.0f / (vm_exp(2.0f * a) + 1.0f), x);
  return a < 0.65f ? small : large;
}

/* The normal distribution function, 1/2·erfc(-x/√2). */
static inline float vm_normal_cdf(float x) { return 0.5f * (1.0f + vm_erf(x * 0.70710678f)); }
static inline double normal_cdf(double x) { return 0.5 * (1.0 + erf(x * 0.70710678118654752440)); }

/* The rest are libm's. */
#define VM_LIBM(X) X(log) X(log1p) X(expm1) X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh) \
  X(asinh) X(acosh) X(atanh) X(sqrt) X(floor) X(ceil) X(rint) X(fabs)
#define X(name) static inline float vm_##name(float x) { return name##f(x); }
VM_LIBM(X)
#undef X
static inline float vm_fmod(float x, float y) { return fmodf(x, y); }

/* --- for results that are rounded to bf16, which errs by up to 2^-9: relative errors of at most 2^-12 --- */

/* 0 below -87. */
static inline float vh_exp(float x) {
  float c = x > 88.0f ? 88.0f : x;
  c = c < -87.0f ? -87.0f : c;
  float shifted = c * 0x1.715476p0f + 0x1.8p23f; /* as in vm_exp */
  float r = c - (shifted - 0x1.8p23f) * 0x1.62e430p-1f;
  float p = 0x1.534972p-3f;
  p = p * r + 0x1.028b32p-1f;
  p = p * r + 0x1.000ac8p+0f;
  p = p * r + 0x1.fff68ep-1f;
  p *= pare_f32_from_bits(((pare_f32_bits(shifted) - 0x4b400000u) + 127u) << 23);
  return x < -87.0f ? 0.0f : p;
}

/* phi(x)·R(|x|) is the smaller side, R a fit of Mills' ratio up to 5.73: small results keep their digits, and GELU's
 * slope needs the same exponential. */
static inline float vh_normal_cdf(float x) {
  float t = fabsf(x);
  t = t > 5.73f ? 5.73f : t;
  float p = -0x1.7631bcp-21f;
  p = p * t + 0x1.6f6e4ap-16f;
  p = p * t - 0x1.3c2a3cp-12f;
  p = p * t + 0x1.3b79cp-9f;
  p = p * t - 0x1.9901a6p-7f;
  p = p * t + 0x1.70a8c2p-5f;
  p = p * t - 0x1.e842cep-4f;
  p = p * t + 0x1.f3ced4p-3f;
  p = p * t - 0x1.976b46p-2f;
  p = p * t + 0x1.fff6e4p-2f;
  p *= vh_exp(-0.5f * x * x);
  return x < 0 ? p : 1.0f - p;
}

#endif
