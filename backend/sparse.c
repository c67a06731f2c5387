/* sparse.c - see sparse.h. */
#include "backend/sparse.h"

#include <string.h>

static const uint8_t *element(const PareValue *v, int64_t i) {
  return (const uint8_t *)v->data + (size_t)i * pare_dtype_size(v->type.dtype);
}

static bool is_zero(const PareValue *v, int64_t i) {
  static const uint8_t zeros[8];
  return !memcmp(element(v, i), zeros, pare_dtype_size(v->type.dtype));
}

static int64_t count_kept(const PareValue *v) {
  int64_t n = 0;
  for (int64_t i = 0, all = pare_type_count(&v->type); i < all; i++) n += !is_zero(v, i);
  return n;
}

size_t pare_sparse_bytes(const PareValue *v) {
  return (size_t)count_kept(v) * (pare_dtype_size(v->type.dtype) + sizeof(int64_t));
}

static bool is_data(uint32_t field) {
  return field == PARE_TENSOR_RAW || field == PARE_TENSOR_FLOAT || field == PARE_TENSOR_INT32 ||
         field == PARE_TENSOR_INT64 || field == PARE_TENSOR_DOUBLE || field == PARE_TENSOR_UINT64 ||
         field == PARE_TENSOR_EXTERNAL || field == PARE_TENSOR_LOCATION;
}

/* A TensorProto [n] of the type; all fields but dims, type and data are the original's. */
static void put_list(PareBuf *out, uint32_t num, const PareField *original, PareDtype d, int64_t n,
                     const uint8_t *data) {
  PareBuf b = {.arena = out->arena};
  PareCursor c = original ? pare_wire_inside(original) : (PareCursor){NULL, NULL};
  PareField f;
  pare_buf_field_varint(&b, PARE_TENSOR_DIMS, (uint64_t)n);
  pare_buf_field_varint(&b, PARE_TENSOR_TYPE, (uint64_t)pare_dtype_to_onnx(d));
  while (original && original->body && pare_wire_next(&c, &f))
    if (f.num != PARE_TENSOR_DIMS && f.num != PARE_TENSOR_TYPE && !is_data(f.num)) pare_buf_copy(&b, &f);
  pare_buf_field_bytes(&b, PARE_TENSOR_RAW, data, (size_t)n * pare_dtype_size(d));
  if (b.failed) out->failed = true;
  else pare_buf_field_bytes(out, num, b.at, b.n);
}

void pare_sparse_put(PareBuf *out, const PareField *values, const PareField *indices, const PareValue *v) {
  int64_t n = count_kept(v), k = 0;
  size_t size = pare_dtype_size(v->type.dtype);
  uint8_t *kept = pare_arena_alloc(out->arena, (size_t)n + 1, size);
  int64_t *place = PARE_NEW_N(out->arena, n + 1, int64_t);
  if (!kept || !place) {
    out->failed = true;
    return;
  }
  for (int64_t i = 0, all = pare_type_count(&v->type); i < all; i++) {
    if (is_zero(v, i)) continue;
    memcpy(kept + (size_t)k * size, element(v, i), size);
    place[k++] = i;
  }
  put_list(out, PARE_SPARSE_VALUES, values, v->type.dtype, n, kept);
  put_list(out, PARE_SPARSE_INDICES, indices, PARE_I64, n, (const uint8_t *)place);
  for (int i = 0; i < v->type.rank; i++) pare_buf_field_varint(out, PARE_SPARSE_DIMS, (uint64_t)v->type.dim[i]);
}
