/* floats.h - includes the file PARE_TEMPLATE for each float storage type (see
 * cpu.h). BF16 is a storage type: its arithmetic is fp32. FN(Vec) is a vector of
 * LANES numbers of the arithmetic, VEC(p) the one at p, which is aligned as its
 * elements are, LOOSE(p) the one at any address.
 * ROUGH(f) is for exp and normal_cdf whose result is rounded to the storage type.
 * PARE_NO_BF16, defined before, leaves bf16 out. */
#define PICK(f, i) f
#define LANES (64 / (int64_t)sizeof(C))
#define VEC(p) (*(FN(Vec) *)(uintptr_t)(p))
#define LOOSE(p) (*(const FN(Loose) *)(uintptr_t)(p))

#define T float
#define C float
#define FN(name) name##_f32
#define LOAD(v) (v)
#define STORE(v) (v)
#define MATH(f) vm_##f
#define ROUGH(f) vm_##f
#define GEMM PARE_CPU(gemm_f32)
typedef C FN(Vec) __attribute__((vector_size(64), aligned(sizeof(C)), may_alias));
typedef C FN(Loose) __attribute__((vector_size(64), aligned(1), may_alias));
#include PARE_TEMPLATE
#undef T
#undef C
#undef FN
#undef LOAD
#undef STORE
#undef MATH
#undef ROUGH
#undef GEMM

#define T double
#define C double
#define FN(name) name##_f64
#define LOAD(v) (v)
#define STORE(v) (v)
#define MATH(f) f
#define ROUGH(f) f
#define GEMM PARE_CPU(gemm_f64)
typedef C FN(Vec) __attribute__((vector_size(64), aligned(sizeof(C)), may_alias));
typedef C FN(Loose) __attribute__((vector_size(64), aligned(1), may_alias));
#include PARE_TEMPLATE
#undef T
#undef C
#undef FN
#undef LOAD
#undef STORE
#undef MATH
#undef ROUGH
#undef GEMM

#ifndef PARE_NO_BF16
#define T uint16_t
#define C float
#define FN(name) name##_bf16
#define LOAD(v) pare_bf16_to_f32(v)
#define STORE(v) pare_f32_to_bf16(v)
#define MATH(f) vm_##f
#define ROUGH(f) vh_##f
#define GEMM PARE_CPU(gemm_f32)
typedef C FN(Vec) __attribute__((vector_size(64), aligned(sizeof(C)), may_alias));
typedef C FN(Loose) __attribute__((vector_size(64), aligned(1), may_alias));
#include PARE_TEMPLATE
#undef T
#undef C
#undef FN
#undef LOAD
#undef STORE
#undef MATH
#undef ROUGH
#undef GEMM
#endif

#undef PICK
#undef LANES
#undef VEC
#undef LOOSE
