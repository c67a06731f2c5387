/* quantized.c - see quantized.h. */
#include "passes/quantized.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "passes/edit.h"
#include "passes/match.h"

/* The constant that v shows, if nothing but Identity stands between. */
static const PareValue *behind(const PareValue *v) {
  while (v && v->role == PARE_RESULT && v->def && v->def->op == PARE_OP_IDENTITY) v = v->def->in[0];
  return v;
}

static const PareValue *operand(const PareNode *n, int k) { return k < n->nin ? behind(n->in[k]) : NULL; }

bool pare_scaled_product(const PareGraph *g, const PareNode *n, PareScaledProduct *out) {
  PareNode *cast = pare_sole_reader_op(g, n->out[0], PARE_OP_CAST);
  PareNode *scaled = cast && cast->attr.to == PARE_F32 ? pare_sole_reader_op(g, cast->out[0], PARE_OP_MUL) : NULL;
  const PareValue *factor = scaled ? pare_other_operand(scaled, cast->out[0]) : NULL;
  const PareNode *both = factor ? pare_made_by(factor, PARE_OP_MUL) : NULL;
  const PareNode *q = pare_made_by(n->in[0], PARE_OP_DYNAMICQUANTIZELINEAR);
  PareValue *w_scale = both && q && q->out[1] ? pare_other_operand(both, q->out[1]) : NULL;
  const PareValue *known = behind(w_scale);
  if (!known || known->role != PARE_CONST || known->type.rank > 1 || known->type.dtype != PARE_F32) return false;
  if (n->nin < 3 || !n->in[2] || n->in[2] != q->out[2]) return false;
  *out = (PareScaledProduct){cast, scaled, q->out[1], w_scale};
  return true;
}

bool pare_stored(const PareGraph *g, PareNode *n, int k, PareStored *out) {
  PareScaledProduct p;
  bool product = n->op == PARE_OP_MATMULINTEGER && k == 1;
  if (!n->in[k] || !(product || (n->op == PARE_OP_DEQUANTIZELINEAR && k == 0))) return false;
  *out = (PareStored){.node = n, .input = k, .zero = operand(n, product ? 3 : 2)};
  if (product) out->scale = pare_scaled_product(g, n, &p) ? behind(p.w_scale) : NULL;
  else out->scale = operand(n, 1);
  out->axis = product ? -1 : pare_attr_get(&n->attr, axis, 1);
  return true;
}

PareStatus pare_stored_places(PareCtx *c, PareArena *a, PareStored *s) {
  int64_t *element;
  PARE_TRY(pare_root_elements(c, a, s->node, s->input, &element, &s->type));
  if (s->axis < 0) s->axis += s->type.rank;
  if (!element) return PARE_OK;
  int64_t count = pare_type_count(&s->type), *place = PARE_NEW_N(a, count, int64_t);
  if (!place) return pare_nomem(c);
  for (int64_t i = 0; i < count; i++) place[element[i]] = i;
  s->place = place;
  return PARE_OK;
}

bool pare_quantized(const PareGraph *g, PareNode *n, int k, PareStored *out) {
  if (pare_stored(g, n, k, out)) return true;
  for (const PareValue *v = n->in[k]; v && v->role == PARE_RESULT; v = v->def->nin ? v->def->in[0] : NULL)
    if (pare_stored(g, v->def, 0, out)) return true;
  return false;
}

/* The number of `of` that belongs to element i. */
static int64_t channel(const PareStored *s, const PareValue *of, int64_t i) {
  int64_t count = pare_type_count(&of->type), inner = 1;
  if (count == 1) return 0;
  for (int d = s->type.rank - 1; d > s->axis; d--) inner *= s->type.dim[d];
  return (s->place ? s->place[i] : i) / inner % count;
}

double pare_scale_at(const PareStored *s, int64_t i) { return pare_data_float(s->scale, channel(s, s->scale, i)); }

int64_t pare_zero_at(const PareStored *s, int64_t i) {
  return s->zero ? pare_data_int(s->zero, channel(s, s->zero, i)) : 0;
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
