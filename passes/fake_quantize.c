/* fake_quantize - QuantizeLinear and the DequantizeLinear of its result become one
 * FakeQuantize on floats, through which gradients flow: also where Reshape, Transpose
 * and the like stand between the two. Scales and zero points are known, or measured by a
 * DynamicQuantizeLinear. */
#include "ir/op_columns.h"
#include "passes/match.h"
#include "passes/pass.h"

enum { MAX_MOVES = 16 };

/* Results that hold elements of input 0, each as it is: the largest of several is one of them. */
static bool moves(const PareNode *n) {
  PareCostFn *cost = pare_op_info[n->op].cost;
  PareCutFn *cut = pare_op_info[n->op].cut;
  if (n->op == PARE_OP_MAXPOOL || n->op == PARE_OP_GLOBALMAXPOOL) return n->nout == 1;
  return (cost == pare_cost_free || cost == pare_cost_move) && (n->nout == 1 || n->op == PARE_OP_SPLIT) &&
         pare_op_info[n->op].max_in >= 0 && cut != pare_cut_source && cut != pare_cut_fill && cut != pare_cut_opaque;
}

/* Both left out, or the same known numbers. */
static bool same_numbers(const PareNode *a, const PareNode *b, int k) {
  const PareValue *x = k < a->nin ? a->in[k] : NULL, *y = k < b->nin ? b->in[k] : NULL;
  if (!x || !y) return x == y;
  if (!pare_is_fixed(x) || !pare_is_fixed(y) || pare_type_count(&x->type) != pare_type_count(&y->type)) return false;
  for (int64_t i = 0; x != y && i < pare_type_count(&x->type); i++)
    if (pare_data_float(x, i) != pare_data_float(y, i)) return false;
  return true;
}

static int64_t axis_of(const PareNode *n) {
  int64_t axis = pare_attr_get(&n->attr, axis, 1);
  return axis < 0 ? axis + n->in[0]->type.rank : axis;
}

/* Input k of q, a scale or zero point, as floats that broadcast to q's input. */
static PareValue *as_floats(PareCtx *c, PareGraph *g, const PareNode *q, int k) {
  const PareValue *v = k < q->nin ? q->in[k] : NULL;
  int64_t count = v ? pare_type_count(&v->type) : 1;
  PareType t = {.dtype = PARE_F32};
  if (count != 1) t.rank = (int)(q->in[0]->type.rank - axis_of(q));
  for (int d = 0; d < t.rank; d++) t.dim[d] = d ? 1 : count;
  float *x = PARE_NEW_N(g->arena, count, float);
  if (!x) return pare_nomem(c), NULL;
  for (int64_t i = 0; v && i < count; i++) x[i] = (float)pare_data_float(v, i);
  return pare_const_add(c, g, v ? v->name : "", t, x);
}

static PareValue *measured_zero(PareCtx *c, PareGraph *g, PareNode *q, PareNode *before) {
  PareAttrs to = {0};
  pare_attr_set(&to, to, PARE_F32);
  return PARE_EMIT(c, g, before, PARE_OP_CAST, q->name, &to, q->out[2]);
}

/* dq takes off the zero point that q has measured, and leaves the scale to others: ConvInteger. */
static bool is_centring(const PareNode *q, const PareNode *dq) {
  return q->op == PARE_OP_DYNAMICQUANTIZELINEAR && pare_is_number(dq->in[1], 1);
}

/* dq undoes what q did. */
static bool is_pair(const PareNode *q, const PareNode *dq, bool moved) {
  if (pare_is_fixed(q->out[0]) || q->in[0]->type.dtype != PARE_F32 || dq->out[0]->type.dtype != PARE_F32) return false;
  if (q->op == PARE_OP_DYNAMICQUANTIZELINEAR)
    return dq->nin == 3 && (dq->in[1] == q->out[1] || is_centring(q, dq)) && dq->in[2] && dq->in[2] == q->out[2];
  if (q->op != PARE_OP_QUANTIZELINEAR || !same_numbers(q, dq, 1) || !same_numbers(q, dq, 2)) return false;
  if (!pare_is_fixed(q->in[1]) || (q->nin > 2 && q->in[2] && !pare_is_fixed(q->in[2]))) return false;
  return pare_type_count(&q->in[1]->type) == 1 || (!moved && axis_of(q) == axis_of(dq));
}

/* `was`, made by a node that moves elements, made of x instead. */
static PareValue *move(PareCtx *c, PareGraph *g, PareNode *before, const PareValue *was, PareValue *x) {
  const PareNode *m = was->def;
  PareValue *in[PARE_MAX_RANK];
  for (int i = 0; i < m->nin; i++) in[i] = i ? m->in[i] : x;
  PareNode *n = pare_node_add(c, g, before, m->op, m->name, m->nin, in, m->nout);
  if (!n) return NULL;
  n->attr = m->attr;
  if (pare_infer(c, n) != PARE_OK) return NULL;
  int k = 0;
  while (m->out[k] != was) k++;
  return n->out[k];
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *dq) {
  const PareValue *chain[MAX_MOVES], *of = dq->in[0];
  int len = 0;
  for (; of->def && len < MAX_MOVES && moves(of->def); of = of->def->in[0]) chain[len++] = of;
  PareNode *q = of->def;
  if (!q || q->nin < 1 || !q->out[0] || !is_pair(q, dq, len > 0)) return PARE_OK;
  bool measured = q->op == PARE_OP_DYNAMICQUANTIZELINEAR;
  PareAttrs attr = {0};
  pare_attr_set(&attr, output_dtype, q->out[0]->type.dtype);
  PareValue *scale = measured ? q->out[1] : as_floats(c, g, q, 1);
  PareValue *zero = !scale ? NULL : measured ? measured_zero(c, g, q, dq) : as_floats(c, g, q, 2);
  PareValue *y = zero ? PARE_EMIT(c, g, dq, PARE_OP_FAKEQUANTIZE, q->name, &attr, q->in[0], scale, zero) : NULL;
  while (y && len-- > 0) y = move(c, g, dq, chain[len], y);
  if (y && is_centring(q, dq)) y = PARE_EMIT(c, g, dq, PARE_OP_DIV, dq->name, NULL, y, scale);
  if (!y) return c->diag.code;
  y->name = dq->out[0]->name;
  pare_fuse_into(g, dq->out[0], y);
  return PARE_OK;
}

static bool is_root(const PareNode *n) { return n->op == PARE_OP_DEQUANTIZELINEAR; }

PareStatus pare_fake_quantize(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_root, fuse); }
