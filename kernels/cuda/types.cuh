/* types.cuh - kernels for every type of numbers: the integers that are no index's have their arithmetic in their own
 * type. */
#ifndef PARE_KERNELS_CUDA_TYPES_CUH
#define PARE_KERNELS_CUDA_TYPES_CUH

#include <limits>

#include "kernels/cuda/cuda.cuh"

#define PARE_OTHER_INTEGERS(X) \
  X(int8_t, I8) X(uint8_t, U8) X(int16_t, I16) X(uint16_t, U16) X(uint32_t, U32) X(uint64_t, U64)

#define X(T, id)             \
  template <> struct PareNum<T> { \
    typedef T C;             \
    enum { integer = 1 };    \
  };
PARE_OTHER_INTEGERS(X)
#undef X

/* Calls f(T()) for the type of numbers that d names. */
template <class F> static PareStatus pare_by_any(PareKernelArgs *a, PareDtype d, F f) {
#define X(T, id) \
  if (d == PARE_##id) return f(T());
  PARE_OTHER_INTEGERS(X)
#undef X
  return pare_by_number(a, d, f);
}

#endif
