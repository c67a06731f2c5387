/* ints.h - includes the file PARE_TEMPLATE for the integer types that shape
 * arithmetic uses (see cpu.h). Sums and products wrap around. */
#define PICK(f, i) i
#define LOAD(v) (v)
#define STORE(v) (v)

#define T int64_t
#define C int64_t
#define U uint64_t
#define C_MIN INT64_MIN
#define C_MAX INT64_MAX
#define FN(name) name##_i64
#include PARE_TEMPLATE
#undef T
#undef C
#undef U
#undef C_MIN
#undef C_MAX
#undef FN

#define T int32_t
#define C int32_t
#define U uint32_t
#define C_MIN INT32_MIN
#define C_MAX INT32_MAX
#define FN(name) name##_i32
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
