/* gelu.cuh - GELU and its slope: in the type of the arithmetic, and for results that are rounded to bf16, which errs by up to 2^-8: relative errors of at most
 * 2^-12, and of 2^-10 where |x| > 5 and gelu(-|x|) is less than 2^-19. One exponential and straight code, so that memory is
 * what is waited for. */
#ifndef PARE_KERNELS_CUDA_GELU_CUH
#define PARE_KERNELS_CUDA_GELU_CUH

#include "kernels/cuda/mma.cuh"

/* phi(x)·√(2π); and Mills' ratio Phi(-t)/phi(t)/√(2π) for 0 <= t <= FAR, the fit of kernels/cpu/vmath.h, where a test has
 * its error. Beyond FAR t·mills(t) is as good as constant: what is below 2^-25 errs by 3 %. */
#define PARE_GELU_FAR 5.73f
static __device__ inline float normal_density(float x) { return pare_exp2(-0.72134752f * x * x); }
static __device__ inline float mills(float t) {
  float u = t * t, even = 0x1.6f6e4ap-16f, odd = -0x1.7631bcp-21f; /* two chains, which do not wait for each other */
  even = even * u + 0x1.3b79cp-9f, odd = odd * u - 0x1.3c2a3cp-12f;
  even = even * u + 0x1.70a8c2p-5f, odd = odd * u - 0x1.9901a6p-7f;
  even = even * u + 0x1.f3ced4p-3f, odd = odd * u - 0x1.e842cep-4f;
  even = even * u + 0x1.fff6e4p-2f, odd = odd * u - 0x1.976b46p-2f;
  return even + t * odd;
}
/* (1 + tanh(u))/2 = 1/(1 + e), e = exp(-2u), u as above; e stays finite, so that e·e^-2 is not NaN. */
static __device__ inline float gelu_odds(float x) {
  return pare_exp2(fminf(-2.3022082f * x * (1 + 0.044715f * x * x), 120.0f));
}

/* max(x, 0) - |x|·Phi(-|x|) */
struct GELU_ERF_LOW {
  static __device__ inline float of(float x) {
    float t = fminf(fabsf(x), PARE_GELU_FAR);
    return fmaxf(x, 0) - t * (mills(t) * normal_density(x));
  }
};
struct GELU_TANH_LOW {
  static __device__ inline float of(float x) { return x * pare_reciprocal(1 + gelu_odds(x)); }
};
/* Phi(-t) - t·phi(t) = 1 - the slope at t, t = |x| */
struct GELUGRAD_ERF_LOW {
  static __device__ inline float of(float x, float dy) {
    float t = fabsf(x), left = normal_density(x) * (mills(fminf(t, PARE_GELU_FAR)) - 0.39894228f * t);
    return dy * (x < 0 ? left : 1 - left);
  }
};
struct GELUGRAD_TANH_LOW {
  static __device__ inline float of(float x, float dy) {
    float e = gelu_odds(x), s = pare_reciprocal(1 + e);
    return dy * (s + x * 1.5957691f * (1 + 0.134145f * x * x) * (e * s) * s);
  }
};

/* --- in full --- */
/* d/dx of x·Phi(x): Phi(x) + x·phi(x). */
template <class C> static __device__ inline C gelu_slope(C x) {
  return (C)0.5 * (1 + erf(x * (C)0.70710678118654752440)) + x * (C)0.39894228040143267794 * exp(-(C)0.5 * x * x);
}
/* Of its approximation by tanh(u), u = sqrt(2/pi)·(x + 0.044715·x³). */
template <class C> static __device__ inline C gelu_tanh_slope(C x) {
  C k = (C)0.79788456080286535588, t = tanh(k * (x + (C)0.044715 * x * x * x));
  return (C)0.5 * (1 + t) + (C)0.5 * x * (1 - t * t) * k * (1 + (C)0.134145 * x * x);
}
struct GELU_ERF {
  template <class C> static __device__ inline C of(C x) {
    return x * (C)0.5 * (1 + erf(x * (C)0.70710678118654752440));
  }
};
struct GELU_TANH {
  template <class C> static __device__ inline C of(C x) {
    return x * (C)0.5 * (1 + tanh((C)0.79788456080286535588 * (x + (C)0.044715 * x * x * x)));
  }
};
struct GELUGRAD_ERF {
  template <class C> static __device__ inline C of(C x, C dy) { return dy * gelu_slope(x); }
};
struct GELUGRAD_TANH {
  template <class C> static __device__ inline C of(C x, C dy) { return dy * gelu_tanh_slope(x); }
};

/* GeluGrad with the gradient of a mask (mask_grad.cu). */
PareStatus pare_cuda_gelu_mask_grad(PareKernelArgs *a);

#endif
