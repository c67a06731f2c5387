/* otherints.h - includes the file PARE_TEMPLATE for the integer types that ints.h
 * leaves out (see cpu.h): those of data, not of shapes. Arithmetic of narrow types is
 * done in 32 bits and cut. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtype-limits" /* x < 0 of an unsigned x is false: the formulas are for all */
#define PICK(f, i) i
#define LOAD(v) (v)
#define STORE(v) ((T)(v))

#define T int8_t
#define C int8_t
#define U uint32_t
#define C_MIN INT8_MIN
#define C_MAX INT8_MAX
#define FN(name) name##_i8
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#define T int16_t
#define C int16_t
#define U uint32_t
#define C_MIN INT16_MIN
#define C_MAX INT16_MAX
#define FN(name) name##_i16
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#define T uint8_t
#define C uint8_t
#define U uint32_t
#define C_MIN 0
#define C_MAX UINT8_MAX
#define FN(name) name##_u8
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#define T uint16_t
#define C uint16_t
#define U uint32_t
#define C_MIN 0
#define C_MAX UINT16_MAX
#define FN(name) name##_u16
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#define T uint32_t
#define C uint32_t
#define U uint32_t
#define C_MIN 0
#define C_MAX UINT32_MAX
#define FN(name) name##_u32
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#define T uint64_t
#define C uint64_t
#define U uint64_t
#define C_MIN 0
#define C_MAX UINT64_MAX
#define FN(name) name##_u64
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#undef PICK
#undef LOAD
#undef STORE
#pragma GCC diagnostic pop
