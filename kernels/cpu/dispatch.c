/* dispatch.c - takes the kernels of the best instruction set that this machine
 * has. Each level is compiled from the same files (kernels/CMakeLists.txt). */
#include "kernels/kernel.h"

extern const PareKernel pare_cpu_generic_table[PARE_OP_COUNT];
extern const PareKernel pare_cpu_v3_table[PARE_OP_COUNT];
extern const PareKernel pare_cpu_v4_table[PARE_OP_COUNT];

/* Clang does not know these two names; processors with AVX2 and BMI2 have both. */
#ifdef __clang__
#define HAS_F16C_LZCNT 1
#else
#define HAS_F16C_LZCNT (__builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt"))
#endif

const PareKernel *pare_cpu_kernels(void) {
#ifdef PARE_HAVE_V4
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return pare_cpu_v4_table;
#endif
#ifdef PARE_HAVE_V3
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
      __builtin_cpu_supports("bmi2") && HAS_F16C_LZCNT)
    return pare_cpu_v3_table;
#endif
  return pare_cpu_generic_table;
}
