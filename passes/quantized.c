/* quantized.c - see quantized.h. */
#include "passes/quantized.h"

#include <assert.h>
#include <math.h>
#include <string.h>

PareNode *pare_dequantizer(const PareNode *n, int k) {
  PareNode *found = NULL;
  for (const PareValue *v = n->in[k]; v && v->role == PARE_RESULT; v = v->def->nin ? v->def->in[0] : NULL)
    if (v->def->op == PARE_OP_DEQUANTIZELINEAR) found = v->def;
  return found;
}

/* Which of the scales belongs to element i. */
static int64_t channel(const PareNode *n, int64_t i) {
  const PareType *t = &n->in[0]->type;
  int64_t count = pare_type_count(&n->in[1]->type), axis = pare_attr_get(&n->attr, axis, 1);
  if (count == 1) return 0;
  int64_t inner = 1;
  for (int d = t->rank - 1; d > (axis < 0 ? axis + t->rank : axis); d--) inner *= t->dim[d];
  return i / inner % count;
}

double pare_scale_at(const PareNode *n, int64_t i) { return pare_data_float(n->in[1], channel(n, i)); }

int64_t pare_zero_at(const PareNode *n, int64_t i) {
  return n->nin > 2 && n->in[2] ? pare_data_int(n->in[2], channel(n, i)) : 0;
}

/* dtype, C type, least, greatest */
#define PARE_STORED(X)               \
  X(I8, int8_t, INT8_MIN, INT8_MAX)  \
  X(U8, uint8_t, 0, UINT8_MAX)       \
  X(I16, int16_t, INT16_MIN, INT16_MAX) \
  X(U16, uint16_t, 0, UINT16_MAX)    \
  X(I32, int32_t, INT32_MIN, INT32_MAX)

void pare_put_int(PareDtype d, void *data, int64_t i, int64_t v) {
#define X(id, type, lo, hi)                                        \
  if (d == PARE_##id) {                                            \
    type x = (type)v;                                              \
    memcpy((char *)data + (size_t)i * sizeof x, &x, sizeof x);     \
    return;                                                        \
  }
  PARE_STORED(X)
#undef X
  assert(!"an integer type that is dequantised");
}

int64_t pare_saturate(PareDtype d, double v) {
#define X(id, type, lo, hi) \
  if (d == PARE_##id) return (int64_t)fmin(fmax(v, lo), hi);
  PARE_STORED(X)
#undef X
  assert(!"an integer type that is dequantised");
  return 0;
}

void pare_unround(PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next)
    if (n->op == PARE_OP_FAKEQUANTIZE) pare_attr_set(&n->attr, unrounded, 1);
}
