/* float_products - a MatMulInteger and the scaling of its result become MatMul on what its
 * operands stand for: DequantizeLinear(q)·DequantizeLinear(W). The node keeps its place and
 * its id, so that masks and adapters find it. A ConvInteger is a convolution on floats since it was
 * imported; its sums are not rounded to integers on their way to where they are scaled. */
#include "passes/match.h"
#include "passes/pass.h"
#include "passes/quantized.h"

static PareValue *dequantised(PareCtx *c, PareGraph *g, PareNode *n, int k, PareValue *scale) {
  PareAttrs attr = {0};
  PareValue *in[3] = {n->in[k], scale, k + 2 < n->nin ? n->in[k + 2] : NULL};
  pare_attr_set(&attr, axis, -1);
  return pare_emit(c, g, n, PARE_OP_DEQUANTIZELINEAR, n->name, &attr, in[2] ? 3 : 2, in);
}

/* One zero point and one scale, or as many of both: what DequantizeLinear takes. */
static bool fits(const PareNode *n, const PareScaledProduct *p) {
  const PareValue *zero = n->nin > 3 ? n->in[3] : NULL;
  return !zero || pare_type_count(&zero->type) == pare_type_count(&p->w_scale->type);
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *n) {
  PareScaledProduct p;
  if (!pare_scaled_product(g, n, &p) || !fits(n, &p)) return PARE_OK;
  PareValue *x = dequantised(c, g, n, 0, p.x_scale), *w = x ? dequantised(c, g, n, 1, p.w_scale) : NULL;
  if (!w) return c->diag.code;
  n->op = PARE_OP_MATMUL;
  n->in[0] = x;
  n->in[1] = w;
  n->nin = 2;
  n->out[0]->name = p.scaled->out[0]->name;
  PARE_TRY(pare_infer(c, n));
  pare_replace_uses(g, p.scaled->out[0], n->out[0], NULL);
  PareValue *factor = pare_other_operand(p.scaled, p.cast->out[0]);
  pare_node_remove(g, p.scaled);
  pare_node_remove(g, p.cast);
  pare_remove_dead(g, factor);
  return PARE_OK;
}

static bool is_root(const PareNode *n) { return n->op == PARE_OP_MATMULINTEGER; }

/* The Cast to floats of what the expansion of a ConvInteger has cast to integers. */
static bool is_sum(const PareNode *n) {
  bool floats = n->op == PARE_OP_CAST && n->attr.to == PARE_F32;
  const PareNode *sum = floats ? pare_made_by(n->in[0], PARE_OP_CAST) : NULL;
  bool inside = sum && sum->onnx_input == PARE_INSIDE && sum->attr.to == PARE_I32;
  return inside && pare_made_by(sum->in[0], PARE_OP_CONV);
}

static PareStatus unround(PareCtx *c, PareGraph *g, PareNode *n) {
  (void)c;
  PareValue *sum = n->in[0]->def->in[0];
  sum->name = n->out[0]->name;
  pare_fuse_into(g, n->out[0], sum);
  return PARE_OK;
}

PareStatus pare_float_products(PareCtx *c, PareGraph *g) {
  PARE_TRY(pare_each_root(c, g, is_root, fuse));
  return pare_each_root(c, g, is_sum, unround);
}
