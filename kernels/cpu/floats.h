/* floats.h - includes the file PARE_TEMPLATE for each float storage type (see
 * cpu.h). BF16 is a storage type: its arithmetic is fp32. */
#define PICK(f, i) f

#define T float
#define C float
#define FN(name) name##_f32
#define LOAD(v) (v)
#define STORE(v) (v)
#define MATH(f) vm_##f
#define GEMM PARE_CPU(gemm_f32)
#include PARE_TEMPLATE
#undef T
#undef C
#undef FN
#undef LOAD
#undef STORE
#undef MATH
#undef GEMM

#define T double
#define C double
#define FN(name) name##_f64
#define LOAD(v) (v)
#define STORE(v) (v)
#define MATH(f) f
#define GEMM PARE_CPU(gemm_f64)
#include PARE_TEMPLATE
#undef T
#undef C
#undef FN
#undef LOAD
#undef STORE
#undef MATH
#undef GEMM

#define T uint16_t
#define C float
#define FN(name) name##_bf16
#define LOAD(v) pare_bf16_to_f32(v)
#define STORE(v) pare_f32_to_bf16(v)
#define MATH(f) vm_##f
#define GEMM PARE_CPU(gemm_f32)
#include PARE_TEMPLATE
#undef T
#undef C
#undef FN
#undef LOAD
#undef STORE
#undef MATH
#undef GEMM

#undef PICK
