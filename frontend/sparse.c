/* sparse.c - reads SparseTensorProto. */
#include "frontend/sparse.h"

#include <inttypes.h>
#include <string.h>

#include "frontend/tensor.h"

/* Bytes of the dense tensor for one of the file: what a few bytes of a hostile file can ask for is bounded. */
enum { EXPANSION = 4096 };

static PareStatus read_dims(PareCtx *c, const PareModel *m, const Onnx__SparseTensorProto *t, const char *what,
                            PareType *type, size_t *bytes) {
  if (t->n_dims > PARE_MAX_RANK)
    return pare_error(c, PARE_UNSUPPORTED, "sparse tensor '%s' has rank %zu, more than %d", what, t->n_dims,
                      PARE_MAX_RANK);
  type->rank = (int)t->n_dims;
  for (int i = 0; i < type->rank; i++) type->dim[i] = t->dims[i];
  if (!pare_type_bytes(type, bytes)) return pare_error(c, PARE_FORMAT, "sparse tensor '%s' has impossible dims", what);
  if (*bytes / EXPANSION > m->file.len)
    return pare_error(c, PARE_UNSUPPORTED, "sparse tensor '%s' would take %zu bytes, more than %d for each of the file",
                      what, *bytes, EXPANSION);
  return PARE_OK;
}

/* n values; indices as said in sparse.h. */
static PareStatus check_parts(PareCtx *c, const char *what, const PareType *whole, const PareType *values,
                              const PareType *indices) {
  if (values->rank != 1)
    return pare_error(c, PARE_FORMAT, "the values of sparse tensor '%s' have rank %d, not 1", what, values->rank);
  bool flat = indices->rank == 1, rows = indices->rank == 2 && indices->dim[1] == whole->rank;
  if (indices->dtype != PARE_I64 || !(flat || rows) || indices->dim[0] != values->dim[0]) {
    char text[PARE_TYPE_TEXT];
    return pare_error(c, PARE_FORMAT, "the indices of sparse tensor '%s' are %s: its %" PRId64 " values want i64[%"
                      PRId64 "] or i64[%" PRId64 ",%d]", what, pare_type_text(indices, text), values->dim[0], values->dim[0],
                      values->dim[0], whole->rank);
  }
  return PARE_OK;
}

/* Where value i stands in the flattened tensor of `count` elements; -1: nowhere. */
static int64_t place(const PareValue *indices, const PareType *whole, int64_t count, int64_t i) {
  if (indices->type.rank == 1) {
    int64_t at = pare_data_int(indices, i);
    return at >= 0 && at < count ? at : -1;
  }
  int64_t at = 0;
  for (int d = 0; d < whole->rank; d++) {
    int64_t x = pare_data_int(indices, i * whole->rank + d);
    if (x < 0 || x >= whole->dim[d]) return -1;
    at = at * whole->dim[d] + x;
  }
  return at;
}

static PareStatus scatter(PareCtx *c, const char *what, const PareType *whole, int64_t n, const uint8_t *values,
                          const PareValue *indices, uint8_t *out) {
  size_t size = pare_dtype_size(whole->dtype);
  int64_t count = pare_type_count(whole), last = -1;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = place(indices, whole, count, i);
    if (at < 0)
      return pare_error(c, PARE_FORMAT, "index %" PRId64 " of sparse tensor '%s' lies outside of it", i, what);
    if (at <= last)
      return pare_error(c, PARE_FORMAT, "index %" PRId64 " of sparse tensor '%s' is not above the one before it", i,
                        what);
    memcpy(out + (size_t)at * size, values + (size_t)i * size, size);
    last = at;
  }
  return PARE_OK;
}

PareStatus pare_sparse_read(PareCtx *c, PareModel *m, const Onnx__SparseTensorProto *t, const char *what,
                            PareType *type, const void **data) {
  const void *values;
  size_t bytes;
  PareType of_values;
  PareValue indices = {.name = what};
  if (!t->values || !t->indices) return pare_error(c, PARE_FORMAT, "sparse tensor '%s' lacks values or indices", what);
  PARE_TRY(pare_tensor_read(c, m, t->values, what, &of_values, &values));
  PARE_TRY(pare_tensor_read(c, m, t->indices, what, &indices.type, &indices.data));
  *type = (PareType){.dtype = of_values.dtype};
  PARE_TRY(read_dims(c, m, t, what, type, &bytes));
  PARE_TRY(check_parts(c, what, type, &of_values, &indices.type));
  uint8_t *out = pare_arena_alloc(m->arena, bytes + 1, 1); /* zeros */
  if (!out) return pare_nomem(c);
  *data = out;
  return scatter(c, what, type, of_values.dim[0], values, &indices, out);
}
