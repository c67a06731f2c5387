/* edit.c - finding and replacing constants. */
#include "passes/edit.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "passes/match.h"
#include "passes/sources.h"

PareValue *pare_root_constant(PareNode *n, int k, PareNode **node, int *input) {
  PareValue *v = n->in[k];
  while (v && v->role == PARE_RESULT) {
    n = v->def;
    k = 0;
    v = n->nin ? n->in[0] : NULL;
  }
  *node = n;
  *input = k;
  return v && v->role == PARE_CONST ? v : NULL;
}

bool pare_is_moved_whole(const PareNode *n, int k) {
  const PareValue *v = n->in[k];
  for (; v && v->role == PARE_RESULT; v = v->def->in[0])
    if (!pare_is_view(v->def) && v->def->op != PARE_OP_TRANSPOSE && !pare_changes_type_alone(v->def)) return false;
  return v && v->role == PARE_CONST;
}

PareStatus pare_root_elements(PareCtx *c, PareArena *a, PareNode *n, int k, const int64_t **out, PareType *type) {
  const PareValue *v = n->in[k];
  PareSources s;
  while (v->role == PARE_RESULT && pare_changes_type_alone(v->def)) v = v->def->in[0];
  *out = NULL;
  if (type) *type = v->type;
  if (v->role == PARE_CONST) return PARE_OK;
  PARE_TRY(pare_sources(c, a, n, k, &s));
  if (s.roots.n != 1) return pare_fail(c, n, PARE_UNSUPPORTED, "its weight is not one constant");
  *out = s.from;
  if (type) *type = s.type;
  return PARE_OK;
}

PareStatus pare_replace_constant(PareCtx *c, PareGraph *g, PareNode *n, int k, PareType type, const void *data) {
  const PareValue *old = n->in[k];
  PareValue *v = pare_const_add(c, g, old->name, type, data);
  if (!v) return c->diag.code;
  v->origin = old->origin;
  n->in[k] = v;
  return PARE_OK;
}

bool pare_store_float(PareDtype d, void *data, int64_t i, double x) {
  uint8_t *at = (uint8_t *)data + (size_t)i * pare_dtype_size(d);
  float f = (float)x;
  uint16_t h = d == PARE_F16 ? pare_f32_to_f16(f) : pare_f32_to_bf16(f);
  if (d == PARE_F64) return memcpy(at, &x, sizeof x), isfinite(x);
  if (d == PARE_F32) return memcpy(at, &f, sizeof f), isfinite(f);
  memcpy(at, &h, sizeof h);
  return isfinite(d == PARE_F16 ? pare_f16_to_f32(h) : pare_bf16_to_f32(h));
}

PareStatus pare_replace_sliced(PareCtx *c, PareGraph *g, PareNode *n, int k, PareType type, const PareSlices *slices) {
  PARE_TRY(pare_replace_constant(c, g, n, k, type, NULL));
  n->in[k]->slices = slices;
  return PARE_OK;
}

PareValue *pare_bias_of(const PareGraph *g, PareNode *product, int64_t n, PareNode **node, int *input) {
  *node = product;
  *input = 2;
  if (product->op != PARE_OP_GEMM || product->nin < 3 || !product->in[2]) {
    *node = pare_sole_reader_op(g, product->out[0], PARE_OP_ADD);
    PareValue *other = *node ? pare_other_operand(*node, product->out[0]) : NULL;
    if (!other) return NULL;
    *input = (*node)->in[1] == other;
  } else if (pare_attr_get(&product->attr, beta, 1.0) != 1) {
    return NULL;
  }
  PareValue *v = (*node)->in[*input];
  bool plain = v->role == PARE_CONST && v->data && pare_dtype_is_float(v->type.dtype) && v->type.rank == 1;
  return plain && v->type.dim[0] == n ? v : NULL;
}
