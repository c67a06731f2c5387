/* attrs.c - AttributeProto -> the field of PareAttrs that has its name. */
#include "frontend/attrs.h"

#include <string.h>

static int word_index(const char *words, const char *w, size_t n) {
  int i = 0;
  for (const char *p = words; *p; i++) {
    size_t len = strcspn(p, " ");
    if (len == n && !memcmp(p, w, n)) return i;
    p += len + (p[len] == ' ');
  }
  return -1;
}

static bool set_int(const Onnx__AttributeProto *p, int64_t *f) {
  *f = p->i;
  return p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT || (!p->type && p->has_i);
}
static bool set_float(const Onnx__AttributeProto *p, double *f) {
  *f = (double)p->f;
  return p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT || (!p->type && p->has_f);
}
static bool set_ints(const Onnx__AttributeProto *p, PareInts *f) {
  if (p->n_ints > PARE_MAX_INTS) return false;
  f->n = (int)p->n_ints;
  for (int i = 0; i < f->n; i++) f->at[i] = p->ints[i];
  return p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS || !p->type;
}
static bool set_dtype(const Onnx__AttributeProto *p, PareDtype *f) {
  return p->i > 0 && p->i < INT32_MAX && pare_dtype_from_onnx((int32_t)p->i, f);
}
static bool set_word(const Onnx__AttributeProto *p, const char *words, int *f) {
  *f = p->has_s ? word_index(words, (const char *)p->s.data, p->s.len) : -1;
  return *f >= 0;
}
static bool set_text(const Onnx__AttributeProto *p, const char *s, const char **f) {
  *f = s;
  return p->has_s && strlen(s) == p->s.len;
}
#define SET_INT(p, s, words, f) set_int(p, f)
#define SET_FLOAT(p, s, words, f) set_float(p, f)
#define SET_INTS(p, s, words, f) set_ints(p, f)
#define SET_DTYPE(p, s, words, f) set_dtype(p, f)
#define SET_WORD(p, s, words, f) set_word(p, words, f)
#define SET_TEXT(p, s, words, f) set_text(p, s, f)

int pare_attr_read(PareAttrs *a, const Onnx__AttributeProto *p, const char *s) {
#define ATTR(field, kind, words)                                     \
  if (PARE_ATTR_##field < PARE_ATTR_act && !strcmp(p->name, #field)) { \
    if (!SET_##kind(p, s, words, &a->field)) return -1;              \
    a->set |= (uint64_t)1 << PARE_ATTR_##field;                      \
    return 1;                                                        \
  }
#include "ir/attrs.def"
#undef ATTR
  return 0;
}
