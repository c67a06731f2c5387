/* tensor.c - reads TensorProto. */
#include "frontend/tensor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "frontend/split.h"

static PareStatus read_type(PareCtx *c, const Onnx__TensorProto *t, const char *what, PareType *type, size_t *bytes) {
  *type = (PareType){0};
  if (!pare_dtype_from_onnx(t->data_type, &type->dtype))
    return pare_error(c, PARE_UNSUPPORTED, "tensor '%s' has element type %d, which pare does not read", what,
                      t->data_type);
  if (t->n_dims > PARE_MAX_RANK)
    return pare_error(c, PARE_UNSUPPORTED, "tensor '%s' has rank %zu, more than %d", what, t->n_dims, PARE_MAX_RANK);
  type->rank = (int)t->n_dims;
  for (int i = 0; i < type->rank; i++) type->dim[i] = t->dims[i];
  if (!pare_type_bytes(type, bytes))
    return pare_error(c, PARE_FORMAT, "tensor '%s' has impossible dims", what);
  return PARE_OK;
}

static const char *entry(const Onnx__TensorProto *t, const char *key) {
  for (size_t i = 0; i < t->n_external_data; i++)
    if (t->external_data[i]->key && !strcmp(t->external_data[i]->key, key)) return t->external_data[i]->value;
  return NULL;
}

static bool parse_size(const char *s, size_t *out) {
  char *end;
  errno = 0;
  if (!s || *s < '0' || *s > '9') return false;
  unsigned long long v = strtoull(s, &end, 10);
  *out = (size_t)v;
  return errno == 0 && *end == 0;
}

/* External data must lie in the model's own folder: no absolute path, no "..". */
static bool path_is_inside(const char *p) {
  if (!*p || *p == '/' || strchr(p, '\\')) return false;
  for (const char *s = p; s; s = strchr(s, '/')) {
    if (*s == '/') s++;
    if (s[0] == '.' && s[1] == '.' && (s[2] == '/' || !s[2])) return false;
  }
  return true;
}

static PareStatus map_external(PareCtx *c, PareModel *m, const char *location, const PareFile **out) {
  for (size_t i = 0; i < m->external.n; i++)
    if (!strcmp(m->external.at[i].location, location)) {
      *out = &m->external.at[i].file;
      return PARE_OK;
    }
  PareMark mark = pare_arena_mark(c->scratch);
  PareExternal e = {.location = pare_arena_strdup(m->arena, location)};
  char *path = pare_path_beside(c->scratch, m->path, location);
  PareStatus s = path && e.location ? pare_file_map(c, path, &e.file) : pare_nomem(c);
  pare_arena_rewind(c->scratch, mark);
  PARE_TRY(s);
  if (!pare_vec_push(m->arena, &m->external, e)) {
    pare_file_unmap(&e.file);
    return pare_nomem(c);
  }
  *out = &m->external.at[m->external.n - 1].file;
  return PARE_OK;
}

static PareStatus read_external(PareCtx *c, PareModel *m, const Onnx__TensorProto *t, const char *what, size_t bytes,
                                const void **data) {
  const char *location = entry(t, "location"), *offset = entry(t, "offset"), *length = entry(t, "length");
  size_t off = 0, len = bytes;
  if (!location) return pare_error(c, PARE_FORMAT, "tensor '%s': external data without a location", what);
  if (!path_is_inside(location))
    return pare_error(c, PARE_FORMAT, "tensor '%s': external data '%s' is outside the model's folder", what, location);
  if ((offset && !parse_size(offset, &off)) || (length && !parse_size(length, &len)))
    return pare_error(c, PARE_FORMAT, "tensor '%s': malformed offset or length of external data", what);
  const PareFile *f = NULL;
  PARE_TRY(map_external(c, m, location, &f));
  if (len != bytes)
    return pare_error(c, PARE_FORMAT, "tensor '%s': %zu bytes of external data, its dims want %zu", what, len, bytes);
  if (off > f->len || bytes > f->len - off)
    return pare_error(c, PARE_FORMAT, "tensor '%s': its %zu bytes at %zu lie behind the end of '%s' (%zu bytes)", what,
                      bytes, off, location, f->len);
  *data = f->data ? f->data + off : (const void *)""; /* an empty file holds an empty tensor */
  return PARE_OK;
}

/* Typed fields: where the numbers of a dtype stand, and how wide the field's items are. */
static PareStatus read_typed(PareCtx *c, PareModel *m, const Onnx__TensorProto *t, const char *what,
                             const PareType *type, size_t bytes, const void **data) {
  const void *src = t->int32_data;
  size_t n = t->n_int32_data, per = 4, size = pare_dtype_size(type->dtype);
  switch (type->dtype) {
  case PARE_F32: src = t->float_data, n = t->n_float_data; break;
  case PARE_F64: src = t->double_data, n = t->n_double_data, per = 8; break;
  case PARE_I64: src = t->int64_data, n = t->n_int64_data, per = 8; break;
  case PARE_U32:
  case PARE_U64: src = t->uint64_data, n = t->n_uint64_data, per = 8; break;
  default: break;
  }
  if (n != bytes / size)
    return pare_error(c, PARE_FORMAT, "tensor '%s' holds %zu numbers, its dims want %zu", what, n, bytes / size);
  uint8_t *out = pare_arena_alloc(m->arena, bytes ? bytes : 1, 1);
  if (!out) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) memcpy(out + i * size, (const uint8_t *)src + i * per, size); /* little-endian */
  *data = out;
  return PARE_OK;
}

PareStatus pare_tensor_read(PareCtx *c, PareModel *m, const Onnx__TensorProto *t, const char *what, PareType *type,
                            const void **data) {
  size_t bytes;
  PARE_TRY(read_type(c, t, what, type, &bytes));
  if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
    return read_external(c, m, t, what, bytes, data);
  if (!t->has_raw_data) return read_typed(c, m, t, what, type, bytes, data);
  PareRange r;
  if (t->raw_data.len != sizeof r) return pare_error(c, PARE_FORMAT, "tensor '%s': malformed raw_data", what);
  memcpy(&r, t->raw_data.data, sizeof r);
  if (r.len != bytes)
    return pare_error(c, PARE_FORMAT, "tensor '%s' holds %" PRIu64 " bytes, its dims want %zu", what, r.len, bytes);
  if (r.off > m->file.len || r.len > m->file.len - r.off)
    return pare_error(c, PARE_FORMAT, "tensor '%s': its data lie behind the end of the file", what);
  *data = m->file.data + r.off;
  return PARE_OK;
}
