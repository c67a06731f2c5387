/* edit.c - finding and replacing constants. */
#include "passes/edit.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "passes/bind_shapes.h"
#include "passes/match.h"

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

enum { MAX_VIEWS = 16 };

/* What `step` makes of x: elements that are numbered. */
static PareStatus run_view(PareCtx *c, PareArena *a, PareNode step, PareValue **x) {
  PareValue *y = PARE_NEW(a, PareValue), **in = PARE_NEW_N(a, step.nin, PareValue *);
  PareGraph room = {.arena = a};
  if (!y || !in) return pare_nomem(c);
  memcpy(in, step.in, (size_t)step.nin * sizeof *in);
  *y = (PareValue){.role = PARE_RESULT, .name = step.out[0]->name};
  in[0] = *x;
  step.in = in;
  step.out = &y;
  step.nout = 1;
  PARE_TRY(pare_bind_node(c, &room, &step));
  if (!y->data) PARE_TRY(pare_node_eval(c, &step, a));
  y->role = PARE_CONST;
  *x = y;
  return PARE_OK;
}

static bool changes_type_alone(const PareNode *n) {
  return n->op == PARE_OP_CAST || n->op == PARE_OP_DEQUANTIZELINEAR || n->op == PARE_OP_IDENTITY;
}

bool pare_is_moved_whole(const PareNode *n, int k) {
  const PareValue *v = n->in[k];
  for (; v && v->role == PARE_RESULT; v = v->def->in[0])
    if (!pare_is_view(v->def) && v->def->op != PARE_OP_TRANSPOSE && !changes_type_alone(v->def)) return false;
  return v && v->role == PARE_CONST;
}

PareStatus pare_root_elements(PareCtx *c, PareArena *a, PareNode *n, int k, int64_t **out, PareType *type) {
  PareNode *chain[MAX_VIEWS];
  int len = 0;
  PareValue *v = n->in[k];
  for (; v->role == PARE_RESULT && len < MAX_VIEWS; v = v->def->in[0])
    if (!changes_type_alone(v->def)) chain[len++] = v->def;
  *out = NULL;
  if (type) *type = v->type;
  if (!len) return PARE_OK;
  if (len == MAX_VIEWS) return pare_fail(c, n, PARE_UNSUPPORTED, "its weight is behind too many views");
  int64_t count = pare_type_count(&v->type), *number = PARE_NEW_N(a, count, int64_t);
  PareValue *x = PARE_NEW(a, PareValue);
  if (!number || !x) return pare_nomem(c);
  for (int64_t i = 0; i < count; i++) number[i] = i;
  *x = (PareValue){.role = PARE_CONST, .type = v->type, .name = v->name, .data = number};
  x->type.dtype = PARE_I64;
  while (len-- > 0) PARE_TRY(run_view(c, a, *chain[len], &x));
  *out = (int64_t *)(uintptr_t)x->data;
  if (type) *type = x->type, type->dtype = v->type.dtype;
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
