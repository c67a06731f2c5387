/* edit.c - finding and replacing constants. */
#include "passes/edit.h"

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

PareStatus pare_replace_constant(PareCtx *c, PareGraph *g, PareNode *n, int k, PareType type, const void *data) {
  const PareValue *old = n->in[k];
  PareValue *v = pare_const_add(c, g, old->name, type, data);
  if (!v) return c->diag.code;
  v->origin = old->origin;
  n->in[k] = v;
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
