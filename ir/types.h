/* types.h - element types and tensor types. */
#ifndef PARE_IR_TYPES_H
#define PARE_IR_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PARE_MAX_RANK = 8 };

/* id, ONNX TensorProto.DataType, bytes, name in the text form */
#define PARE_DTYPE_LIST(X) \
  X(F32, 1, 4, "f32")      \
  X(F64, 11, 8, "f64")     \
  X(F16, 10, 2, "f16")     \
  X(BF16, 16, 2, "bf16")   \
  X(I8, 3, 1, "i8")        \
  X(I16, 5, 2, "i16")      \
  X(I32, 6, 4, "i32")      \
  X(I64, 7, 8, "i64")      \
  X(U8, 2, 1, "u8")        \
  X(U16, 4, 2, "u16")      \
  X(U32, 12, 4, "u32")     \
  X(U64, 13, 8, "u64")     \
  X(BOOL, 9, 1, "bool")

typedef enum PareDtype {
#define X(id, onnx, size, name) PARE_##id,
  PARE_DTYPE_LIST(X)
#undef X
  PARE_DTYPE_COUNT
} PareDtype;

/* A dim of -1 is not known yet (before shapes are bound). */
typedef struct PareType {
  PareDtype dtype;
  int rank;
  int64_t dim[PARE_MAX_RANK];
} PareType;

size_t pare_dtype_size(PareDtype d);
const char *pare_dtype_name(PareDtype d);
/* False when ONNX's code is not one of the list (strings, complex, 4- and 8-bit floats). */
bool pare_dtype_from_onnx(int32_t code, PareDtype *out);
int32_t pare_dtype_to_onnx(PareDtype d);
/* By name in the text form; false when there is none. */
bool pare_dtype_from_name(const char *name, PareDtype *out);
static inline bool pare_dtype_is_float(PareDtype d) { return d <= PARE_BF16; }
/* Signed and unsigned integers, not BOOL. */
static inline bool pare_dtype_is_int(PareDtype d) { return d > PARE_BF16 && d < PARE_BOOL; }

/* Elements; 1 for a scalar, 0 with an empty axis. All dims must be known. The
 * product is checked where types are made: pare_type_bytes. */
int64_t pare_type_count(const PareType *t);
/* False when a dim is unknown or negative or the size overflows. */
bool pare_type_bytes(const PareType *t, size_t *bytes);
bool pare_type_equal(const PareType *a, const PareType *b);
bool pare_type_known(const PareType *t);
/* "f32[2,?,768]" into buf; returns buf. 128 bytes are enough for any type. */
enum { PARE_TYPE_TEXT = 200 };
const char *pare_type_text(const PareType *t, char buf[PARE_TYPE_TEXT]);

#endif
