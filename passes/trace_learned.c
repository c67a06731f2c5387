/* trace_learned - a product of an activation and learned queries, keys or values looks like a layer's, x·W. What tells
 * it apart is the Softmax between attention's two products: over positions, which the keys have and which the values
 * are summed over, where a layer's would be over what its weight makes. */
#include "passes/trace_learned.h"

#include "ir/cut.h"

/* --- what Softmax is taken of, and what becomes of it --- */

/* Element by element, or moved: scores stay scores. */
static bool passes(const PareNode *n) {
  PareCutFn *cut = pare_op_info[n->op].cut;
  return cut == pare_cut_same || cut == pare_cut_first || cut == pare_cut_quantize || pare_moved_inputs(n);
}

static PareAxis *softmax_axis(PareTracer *t, const PareNode *n) {
  int64_t axis = pare_attr_get(&n->attr, axis, -1);
  return n->op == PARE_OP_SOFTMAX ? pare_axis_in(t, n, 0, (int)(axis < 0 ? axis + n->in[0]->type.rank : axis)) : NULL;
}

static void follow(PareTracer *t, const PareScores *s) {
  for (const PareNode *n = t->g->first; n; n = n->next) {
    PareAxis *axis = softmax_axis(t, n);
    for (int k = 0; !axis && passes(n) && k < n->nin; k++)
      if (n->in[k]) axis = s->from[n->in[k]->id];
    for (int k = 0; k < n->nout; k++)
      if (n->out[k]) s->from[n->out[k]->id] = axis;
  }
  for (const PareNode *n = t->g->last; n; n = n->prev) {
    PareAxis *axis = softmax_axis(t, n);
    for (int k = 0; !axis && passes(n) && k < n->nout; k++)
      if (n->out[k]) axis = s->to[n->out[k]->id];
    for (int k = 0; axis && k < n->nin; k++)
      if (n->in[k]) s->to[n->in[k]->id] = axis;
  }
}

PareStatus pare_scores_find(PareCtx *c, PareArena *a, PareTracer *t, PareScores *out) {
  out->to = PARE_NEW_N(a, t->g->values.n + 1, PareAxis *);
  out->from = PARE_NEW_N(a, t->g->values.n + 1, PareAxis *);
  if (!out->to || !out->from) return pare_nomem(c);
  follow(t, out);
  return PARE_OK;
}

/* --- products --- */

/* Axis d of operand k, neither the one that is summed over nor one that both operands have. */
static bool is_own(PareTracer *t, const PareContraction *x, int k, int d) {
  int other = k == x->input ? x->weight : x->input, summed = k == x->input ? x->axis : x->weight_axis;
  int other_summed = k == x->input ? x->weight_axis : x->axis;
  PareAxis *a = pare_axis_in(t, x->node, k, d);
  if (d == summed) return false;
  for (int e = 0; a->size > 1 && e < x->node->in[other]->type.rank; e++)
    if (e != other_summed && pare_axis_in(t, x->node, other, e) == a) return false;
  return true;
}

/* Has the operand an axis of its own that Softmax is taken over? */
static bool has_positions(PareTracer *t, const PareContraction *x, int k, PareAxis *softmax) {
  bool any = false;
  for (int d = 0; d < x->node->in[k]->type.rank; d++)
    any |= is_own(t, x, k, d) && pare_axis_share(pare_axis_in(t, x->node, k, d), softmax);
  return any;
}

/* Axis d of the weight is the activation's too: a product for each of its indices. */
static bool is_shared(PareTracer *t, const PareContraction *x, int d) {
  return d != x->weight_axis && pare_axis_in(t, x->node, x->weight, d)->size > 1 && !is_own(t, x, x->weight, d);
}

static bool has_heads(PareTracer *t, const PareContraction *x) {
  bool any = false;
  for (int d = 0; d < x->node->in[x->weight]->type.rank; d++) any |= is_shared(t, x, d);
  return any;
}

/* Without heads, a weight whose own axis Softmax is taken over is a classifier. */
bool pare_makes_scores(PareTracer *t, const PareScores *s, const PareContraction *x) {
  PareAxis *softmax = s->to[x->node->out[0]->id];
  if (!softmax) return false;
  return has_positions(t, x, x->input, softmax) || (has_heads(t, x) && has_positions(t, x, x->weight, softmax));
}

static bool sums_values(PareTracer *t, const PareScores *s, const PareContraction *x) {
  PareAxis *of_input = s->from[x->node->in[x->input]->id], *of_weight = s->from[x->node->in[x->weight]->id];
  PareAxis *softmax = of_input ? of_input : of_weight;
  return softmax && pare_axis_share(pare_axis_in(t, x->node, x->input, x->axis), softmax);
}

/* What both operands have, and what the activation has before its rows, where all heads share what is learned. */
static void mark_heads(PareTracer *t, const PareContraction *x) {
  PareAxis *last = NULL;
  for (int d = 0; d < x->node->in[x->weight]->type.rank; d++)
    if (is_shared(t, x, d)) pare_axis_leaves(pare_axis_in(t, x->node, x->weight, d), mark_batched, NULL);
  for (int d = 0; d < x->node->in[x->input]->type.rank; d++) {
    if (!is_own(t, x, x->input, d)) continue;
    if (last) pare_axis_leaves(last, mark_batched, NULL);
    last = pare_axis_in(t, x->node, x->input, d);
  }
}

static void mark_widths(PareTracer *t, const PareContraction *x) {
  for (int k = 0; k < 2; k++)
    for (int d = 0; d < x->node->in[k]->type.rank; d++)
      if (is_own(t, x, k, d)) pare_axis_leaves(pare_axis_in(t, x->node, k, d), mark_inner, NULL);
}

void pare_mark_learned(PareTracer *t, const PareScores *s) {
  for (size_t i = 0; i < t->contractions.n; i++) {
    const PareContraction *x = &t->contractions.at[i];
    bool values = sums_values(t, s, x);
    if (values || pare_makes_scores(t, s, x)) mark_heads(t, x);
    if (values && has_heads(t, x)) mark_widths(t, x);
  }
}
