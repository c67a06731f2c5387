/* fake_quantize - QuantizeLinear and the DequantizeLinear of its result become one
 * FakeQuantize on floats, through which gradients flow: also where Reshape, Transpose, Concat
 * and the like stand between the two. Scales and zero points are known, or measured by a
 * DynamicQuantizeLinear. */
#include "passes/match.h"
#include "passes/pass.h"

enum { MAX_MOVES = 16 };

/* Like pare_moved_inputs; the largest of several is one of them, too. */
static int moved_inputs(const PareNode *n) {
  if (n->op == PARE_OP_MAXPOOL || n->op == PARE_OP_GLOBALMAXPOOL) return n->nout == 1;
  return pare_moved_inputs(n);
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
  if (q->op != PARE_OP_QUANTIZELINEAR && q->op != PARE_OP_DYNAMICQUANTIZELINEAR) return false;
  if (pare_is_fixed(q->out[0]) || q->in[0]->type.dtype != PARE_F32 || dq->out[0]->type.dtype != PARE_F32) return false;
  if (q->op == PARE_OP_DYNAMICQUANTIZELINEAR)
    return dq->nin == 3 && (dq->in[1] == q->out[1] || is_centring(q, dq)) && dq->in[2] && dq->in[2] == q->out[2];
  if (!same_numbers(q, dq, 1) || !same_numbers(q, dq, 2)) return false;
  if (!pare_is_fixed(q->in[1]) || (q->nin > 2 && q->in[2] && !pare_is_fixed(q->in[2]))) return false;
  return pare_type_count(&q->in[1]->type) == 1 || (!moved && axis_of(q) == axis_of(dq));
}

/* Is an element of v one that dq takes back? */
static bool reaches(const PareNode *dq, const PareValue *v, int depth) {
  const PareNode *n = v->def;
  if (!n || depth > MAX_MOVES) return false;
  if (v == n->out[0] && is_pair(n, dq, depth > 0)) return true;
  for (int k = 0; k < moved_inputs(n); k++)
    if (reaches(dq, n->in[k], depth + 1)) return true;
  return false;
}

/* What stands in the place of a DequantizeLinear. */
typedef struct Floats {
  PareCtx *c;
  PareGraph *g;
  PareNode *dq;
  const PareNode *q; /* the one that `fake` was made of last: copies share it */
  PareValue *fake;
} Floats;

static PareValue *fake(Floats *f, PareNode *q) {
  PareCtx *c = f->c;
  bool measured = q->op == PARE_OP_DYNAMICQUANTIZELINEAR;
  PareAttrs attr = {0};
  if (q == f->q) return f->fake;
  pare_attr_set(&attr, output_dtype, q->out[0]->type.dtype);
  PareValue *scale = measured ? q->out[1] : as_floats(c, f->g, q, 1);
  PareValue *zero = !scale ? NULL : measured ? measured_zero(c, f->g, q, f->dq) : as_floats(c, f->g, q, 2);
  PareValue *y = zero ? PARE_EMIT(c, f->g, f->dq, PARE_OP_FAKEQUANTIZE, q->name, &attr, q->in[0], scale, zero) : NULL;
  if (y && is_centring(q, f->dq)) y = PARE_EMIT(c, f->g, f->dq, PARE_OP_DIV, f->dq->name, NULL, y, scale);
  f->q = q;
  return f->fake = y;
}

/* `was`, made by a node that moves elements, made of x instead. */
static PareValue *move(Floats *f, const PareValue *was, PareValue *const *x) {
  const PareNode *m = was->def;
  PareValue **in = PARE_NEW_N(f->g->arena, m->nin + 1, PareValue *);
  for (int i = 0; in && i < m->nin; i++) in[i] = i < moved_inputs(m) ? x[i] : m->in[i];
  PareNode *n = in ? pare_node_add(f->c, f->g, f->dq, m->op, m->name, m->nin, in, m->nout) : NULL;
  if (!n) return NULL;
  n->attr = m->attr;
  if (pare_infer(f->c, n) != PARE_OK) return NULL;
  int k = 0;
  while (m->out[k] != was) k++;
  return n->out[k];
}

/* v as dq's floats, NULL on failure. What is joined with elements that were quantised here, integers of an input say,
 * is dequantised where it comes in. */
static PareValue *floats_of(Floats *f, PareValue *v, int depth) {
  PareNode *n = v->def, *dq = f->dq;
  if (!reaches(dq, v, depth))
    return pare_emit(f->c, f->g, dq, dq->op, dq->name, &dq->attr, dq->nin,
                     (PareValue *[]){v, dq->in[1], dq->nin > 2 ? dq->in[2] : NULL});
  if (v == n->out[0] && is_pair(n, dq, depth > 0)) return fake(f, n);
  PareValue **x = PARE_NEW_N(f->g->arena, n->nin, PareValue *);
  if (!x) return pare_nomem(f->c), NULL;
  for (int k = 0; k < moved_inputs(n); k++) {
    x[k] = k && n->in[k] == n->in[k - 1] ? x[k - 1] : floats_of(f, n->in[k], depth + 1);
    if (!x[k]) return NULL;
  }
  return move(f, v, x);
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *dq) {
  Floats f = {c, g, dq, NULL, NULL};
  if (!reaches(dq, dq->in[0], 0)) return PARE_OK;
  PareValue *y = floats_of(&f, dq->in[0], 0);
  if (!y) return c->diag.code;
  y->name = dq->out[0]->name;
  pare_fuse_into(g, dq->out[0], y);
  return PARE_OK;
}

static bool is_root(const PareNode *n) { return n->op == PARE_OP_DEQUANTIZELINEAR; }

PareStatus pare_fake_quantize(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_root, fuse); }
