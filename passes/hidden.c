/* hidden - finds what blocks write, and what of it the outputs feel. Names are not looked at. */
#include "passes/hidden.h"

#include "passes/autodiff.h"
#include "passes/classes.h"
#include "passes/match.h"
#include "passes/task.h"

/* --- where --- */

/* The bias that an op of sum and norm adds behind the residual sum v belongs to the block. */
static const PareValue *behind_bias(const PareGraph *g, const PareValue *v) {
  const PareNode *n = v->def->onnx_input == PARE_IN_SUM ? pare_sole_reader_op(g, v, PARE_OP_ADD) : NULL;
  return n && n->onnx_input == PARE_IN_SUM && n->onnx_index == v->def->onnx_index ? n->out[0] : v;
}

/* The value behind biases, casts and the residual sum: the first that more than one node reads, or the sum itself. */
static const PareValue *end_of_block(const PareGraph *g, const PareNode *product) {
  const PareValue *v = product->out[0];
  for (;;) {
    const PareNode *n = pare_sole_reader(g, v);
    if (!n || n->nout != 1) return v;
    if (n->op == PARE_OP_IDENTITY || n->op == PARE_OP_CAST) {
      v = n->out[0];
      continue;
    }
    const PareValue *other = n->op == PARE_OP_ADD ? pare_other_operand(n, v) : NULL;
    if (!other || !pare_type_equal(&n->out[0]->type, &v->type)) return v;
    v = n->out[0];
    if (!pare_is_fixed(other)) return behind_bias(g, v);
  }
}

typedef struct Touch {
  const bool *pruned;
  bool any;
} Touch;

static void touch(PareAxis *leaf, void *arg) {
  Touch *t = arg;
  t->any |= leaf->dim >= 0 && t->pruned[leaf->dim];
}

static bool keeps_shape(const PareDims *d, const bool *pruned, const PareValue *v) {
  Touch t = {pruned, false};
  for (int axis = 0; axis < v->type.rank; axis++) pare_axis_leaves(d->tracer->value_axis[v->id][axis], touch, &t);
  return !t.any;
}

static bool listed(const PareHiddens *l, const PareValue *v) {
  for (size_t i = 0; i < l->at.n; i++)
    if (l->at.at[i].value == v->id) return true;
  return false;
}

/* Rows of vectors, which a weight on the right makes of rows. */
static bool makes_rows(const PareContraction *x) {
  const PareValue *y = x->node->out[0];
  return x->weight == 1 && x->node->nout == 1 && y->type.rank >= 2 && pare_dtype_is_float(y->type.dtype) &&
         x->axis == x->node->in[x->input]->type.rank - 1;
}

static bool reads_pruned(const PareDims *d, const bool *pruned, const PareContraction *x) {
  Touch t = {pruned, false};
  pare_axis_leaves(pare_axis_in(d->tracer, x->node, x->weight, x->weight_axis), touch, &t);
  return t.any;
}

PareStatus pare_find_hidden(PareCtx *c, PareArena *a, const PareDims *d, const bool *pruned, PareHiddens *out) {
  *out = (PareHiddens){0};
  for (size_t i = 0; i < d->tracer->contractions.n; i++) {
    const PareContraction *x = &d->tracer->contractions.at[i];
    if (!makes_rows(x) || !reads_pruned(d, pruned, x)) continue;
    const PareValue *v = end_of_block(d->tracer->g, x->node);
    if (listed(out, v) || !keeps_shape(d, pruned, v)) continue;
    PareHidden h = {x->node->id, v->id};
    if (!pare_vec_push(a, &out->at, h)) return pare_nomem(c);
  }
  return PARE_OK;
}

/* --- how much it is felt --- */

static PareValue *projection(PareCtx *c, PareGraph *g, PareValue *y, PareValue **signs) {
  PareAttrs all = {0};
  pare_attr_set(&all, keepdims, 0);
  const char *name = pare_arena_printf(g->arena, "pare.signs.%s", y->name);
  if (!name || !(*signs = pare_value_add(c, g, PARE_INPUT, name, y->type))) return NULL;
  PareValue *p = PARE_EMIT(c, g, NULL, PARE_OP_MUL, "relevance", NULL, y, *signs);
  return p ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCEMEAN, "relevance", &all, p) : NULL;
}

static PareValue *square_sum(PareCtx *c, PareGraph *g, PareValue *v) {
  PareAttrs keep = {0};
  pare_attr_set(&keep, keepdims, 1);
  PareValue *axes = pare_const_ints(c, g, "", 1, (int64_t[]){v->type.rank - 1});
  PareValue *square = axes ? PARE_EMIT(c, g, NULL, PARE_OP_MUL, "relevance", NULL, v, v) : NULL;
  return square ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCESUM, "relevance", &keep, square, axes) : NULL;
}

/* Divided by the sum over the sample, axis 0 counting samples; zeros stay: 1e-30 keeps the division finite. */
static PareValue *share_of_sample(PareCtx *c, PareGraph *g, PareValue *v) {
  PareAttrs keep = {0};
  pare_attr_set(&keep, keepdims, 1);
  PareType t = v->type;
  int64_t width = pare_type_count(&t) / t.dim[0];
  PareValue *flat = pare_const_ints(c, g, "", 2, (int64_t[]){t.dim[0], width});
  PareValue *back = pare_const_ints(c, g, "", t.rank, t.dim), *axes = pare_const_ints(c, g, "", 1, (int64_t[]){1});
  PareValue *tiny = pare_const_float(c, g, "", t.dtype, 1e-30);
  if (!flat || !back || !axes || !tiny) return NULL;
  PareValue *rows = PARE_EMIT(c, g, NULL, PARE_OP_RESHAPE, "relevance", NULL, v, flat);
  PareValue *sum = rows ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCESUM, "relevance", &keep, rows, axes) : NULL;
  PareValue *floor = sum ? PARE_EMIT(c, g, NULL, PARE_OP_MAX, "relevance", NULL, sum, tiny) : NULL;
  PareValue *share = floor ? PARE_EMIT(c, g, NULL, PARE_OP_DIV, "relevance", NULL, rows, floor) : NULL;
  return share ? PARE_EMIT(c, g, NULL, PARE_OP_RESHAPE, "relevance", NULL, share, back) : NULL;
}

static PareStatus oom(PareCtx *c) { return c->diag.code ? c->diag.code : pare_nomem(c); }

PareStatus pare_append_relevance(PareCtx *c, PareGraph *g, size_t noutputs, const bool *aside, size_t n,
                                 PareValue *const *v, PareRelevance *out) {
  PareValue *sum = NULL, **grad = PARE_NEW_N(g->arena, n + 1, PareValue *);
  *out = (PareRelevance){.n = n};
  out->signs = PARE_NEW_N(g->arena, noutputs + 1, PareValue *);
  out->at = PARE_NEW_N(g->arena, n + 1, PareValue *);
  if (!grad || !out->signs || !out->at) return pare_nomem(c);
  for (size_t i = 0; i < noutputs; i++) {
    if (!pare_is_followed(g, aside, i)) continue;
    PareValue *y = pare_output_logits(c, g, g->outputs.at[i]);
    PareValue *p = y ? projection(c, g, y, &out->signs[out->nsigns++]) : NULL;
    if (p) sum = sum ? PARE_EMIT(c, g, NULL, PARE_OP_ADD, "relevance", NULL, sum, p) : p;
    if (!p || !sum) return oom(c);
  }
  PareValue *one = sum ? pare_const_float(c, g, "", sum->type.dtype, 1) : NULL;
  if (!sum) return PARE_OK;
  if (!one) return oom(c);
  PARE_TRY(pare_autodiff(c, g, sum, one, n, v, grad));
  for (size_t i = 0; i < n; i++) {
    if (!grad[i]) continue;
    PareValue *felt = square_sum(c, g, grad[i]);
    out->at[i] = felt ? share_of_sample(c, g, felt) : NULL;
    if (!out->at[i] || !pare_vec_push(g->arena, &g->outputs, out->at[i])) return oom(c);
  }
  return PARE_OK;
}
