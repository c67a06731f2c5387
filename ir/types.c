#include "ir/types.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"

static const struct {
  const char *name;
  int32_t onnx;
  size_t size;
} dtype_info[PARE_DTYPE_COUNT] = {
#define X(id, onnx, size, name) {name, onnx, size},
    PARE_DTYPE_LIST(X)
#undef X
};

size_t pare_dtype_size(PareDtype d) { return dtype_info[d].size; }
const char *pare_dtype_name(PareDtype d) { return dtype_info[d].name; }
int32_t pare_dtype_to_onnx(PareDtype d) { return dtype_info[d].onnx; }

bool pare_dtype_from_onnx(int32_t code, PareDtype *out) {
  for (int i = 0; i < PARE_DTYPE_COUNT; i++)
    if (dtype_info[i].onnx == code) return *out = (PareDtype)i, true;
  return false;
}

bool pare_dtype_from_name(const char *name, PareDtype *out) {
  for (int i = 0; i < PARE_DTYPE_COUNT; i++)
    if (!strcmp(dtype_info[i].name, name)) return *out = (PareDtype)i, true;
  return false;
}

int64_t pare_type_count(const PareType *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dim[i];
  return n;
}

bool pare_type_bytes(const PareType *t, size_t *bytes) {
  size_t n = dtype_info[t->dtype].size;
  bool empty = false;
  for (int i = 0; i < t->rank; i++) {
    if (t->dim[i] < 0) return false;
    if (t->dim[i] == 0) empty = true;
    else if (!pare_mul_size(n, (size_t)t->dim[i], &n)) return false;
  }
  *bytes = empty ? 0 : n;
  return n <= (size_t)INT64_MAX;
}

bool pare_type_equal(const PareType *a, const PareType *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dim[i] != b->dim[i]) return false;
  return true;
}

bool pare_type_known(const PareType *t) {
  for (int i = 0; i < t->rank; i++)
    if (t->dim[i] < 0) return false;
  return true;
}

const char *pare_type_text(const PareType *t, char buf[PARE_TYPE_TEXT]) {
  int n = snprintf(buf, PARE_TYPE_TEXT, "%s[", dtype_info[t->dtype].name);
  for (int i = 0; i < t->rank; i++) {
    if (t->dim[i] < 0) n += snprintf(buf + n, (size_t)(PARE_TYPE_TEXT - n), "%s?", i ? "," : "");
    else n += snprintf(buf + n, (size_t)(PARE_TYPE_TEXT - n), "%s%" PRId64, i ? "," : "", t->dim[i]);
  }
  snprintf(buf + n, (size_t)(PARE_TYPE_TEXT - n), "]");
  return buf;
}
