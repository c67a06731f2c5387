/* quantized.c - see quantized.h. */
#include "passes/quantized.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "passes/edit.h"
#include "passes/match.h"
#include "passes/sources.h"

/* The constant that v shows, if nothing but Identity stands between. */
static const PareValue *behind(const PareValue *v) {
  while (v && v->role == PARE_RESULT && v->def && v->def->op == PARE_OP_IDENTITY) v = v->def->in[0];
  return v;
}

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
  int zero = product ? 3 : 2;
  if (!n->in[k] || !(product || (n->op == PARE_OP_DEQUANTIZELINEAR && k == 0))) return false;
  *out = (PareStored){.node = n, .input = k, .zero = zero < n->nin ? n->in[zero] : NULL};
  if (product) out->scale = pare_scaled_product(g, n, &p) ? behind(p.w_scale) : NULL;
  else if (pare_is_of_constants(n->in[1])) out->scale = n->in[1];
  if (out->zero && !pare_is_of_constants(out->zero)) out->scale = NULL;
  out->axis = product ? -1 : pare_attr_get(&n->attr, axis, 1);
  return true;
}

/* The numbers of scale and zero point. */
static PareStatus work_out(PareCtx *c, PareArena *a, PareStored *s) {
  bool product = s->node->op == PARE_OP_MATMULINTEGER;
  if (s->scale && !product) PARE_TRY(pare_work_out(c, a, s->node, 1, &s->scale));
  return s->zero ? pare_work_out(c, a, s->node, product ? 3 : 2, &s->zero) : PARE_OK;
}

PareStatus pare_stored_places(PareCtx *c, PareArena *a, PareStored *s) {
  const int64_t *element;
  PARE_TRY(work_out(c, a, s));
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
  bool found = pare_stored(g, n, k, out);
  const PareValue *v = n->in[k];
  for (; v && v->role == PARE_RESULT; v = v->def->nin ? v->def->in[0] : NULL)
    found = found || pare_stored(g, v->def, 0, out);
  return found && !(v && v->role == PARE_CONST && pare_dtype_is_float(v->type.dtype));
}

/* The number of `of` that belongs to element `at` of what the node reads. */
static int64_t channel(const PareStored *s, const PareValue *of, int64_t at) {
  int64_t count = pare_type_count(&of->type), inner = 1;
  if (count == 1) return 0;
  for (int d = s->type.rank - 1; d > s->axis; d--) inner *= s->type.dim[d];
  return at / inner % count;
}

static int64_t place(const PareStored *s, int64_t i) { return s->place ? s->place[i] : i; }

double pare_scale_at(const PareStored *s, int64_t i) {
  return pare_data_float(s->scale, channel(s, s->scale, place(s, i)));
}

int64_t pare_zero_at(const PareStored *s, int64_t i) {
  return s->zero ? pare_data_int(s->zero, channel(s, s->zero, place(s, i))) : 0;
}

/* --- zero points of a constant that is moved, parted or joined --- */

typedef struct Zeros {
  PareCtx *c;
  PareArena *a;
  const PareGraph *g;
  PareUse of;
  int64_t count;
  bool *seen;    /* by node id */
  int64_t *zero; /* by element of the constant; NULL: none but 0 so far */
} Zeros;

static bool all_zero(const PareValue *v) {
  for (int64_t i = 0; v && i < pare_type_count(&v->type); i++)
    if (pare_data_int(v, i)) return false;
  return true;
}

/* Those that `s` gives to its elements. */
static PareStatus take(Zeros *z, PareStored *s) {
  PareSources from = {.type = z->of.node->in[z->of.input]->type};
  bool moved = s->node != z->of.node;
  PARE_TRY(work_out(z->c, z->a, s));
  if (all_zero(s->zero)) return PARE_OK;
  if (moved) PARE_TRY(pare_sources(z->c, z->a, s->node, s->input, &from));
  s->type = from.type;
  if (s->axis < 0) s->axis += s->type.rank;
  if (!z->zero && !(z->zero = PARE_NEW_N(z->a, z->count + 1, int64_t))) return pare_nomem(z->c);
  for (int64_t i = 0; i < pare_type_count(&s->type); i++) {
    const PareUse *root = moved ? &from.roots.at[pare_source_root(&from, i)] : &z->of;
    if (root->node == z->of.node && root->input == z->of.input)
      z->zero[moved ? pare_source_element(&from, i) : i] = pare_data_int(s->zero, channel(s, s->zero, i));
  }
  return PARE_OK;
}

/* Goes to all that reads what n's input k has the elements of. */
static PareStatus follow(Zeros *z, PareNode *n, int k) {
  PareStored s;
  if (z->seen[n->id]) return PARE_OK;
  z->seen[n->id] = true;
  if (pare_stored(z->g, n, k, &s)) return take(z, &s);
  for (int o = 0; k < pare_moved_inputs(n) && o < n->nout; o++)
    for (PareNode *r = n->out[o] ? n->next : NULL; r; r = r->next)
      for (int i = 0; i < r->nin; i++)
        if (r->in[i] == n->out[o]) PARE_TRY(follow(z, r, i));
  return PARE_OK;
}

PareStatus pare_zero_points(PareCtx *c, PareArena *a, const PareGraph *g, PareNode *n, int k, const int64_t **out) {
  Zeros z = {c, a, g, {n, k}, pare_type_count(&n->in[k]->type), PARE_NEW_N(a, g->nnodes + 1, bool), NULL};
  if (!z.seen) return pare_nomem(c);
  if (!pare_dtype_is_float(n->in[k]->type.dtype)) PARE_TRY(follow(&z, n, k));
  *out = z.zero;
  return PARE_OK;
}

bool pare_is_scale(const PareGraph *g, PareNode *n, int k) {
  if (n->op == PARE_OP_DEQUANTIZELINEAR || n->op == PARE_OP_QUANTIZELINEAR) return k > 0;
  if (n->op == PARE_OP_MATMULINTEGER) return k > 1;
  for (int o = 0; k < pare_moved_inputs(n) && o < n->nout; o++)
    for (PareNode *r = n->out[o] ? n->next : NULL; r; r = r->next)
      for (int i = 0; i < r->nin; i++)
        if (r->in[i] == n->out[o] && pare_is_scale(g, r, i)) return true;
  return false;
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
