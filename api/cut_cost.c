/* cut_cost.c - see cut_cost.h. */
#include "api/cut_cost.h"

#include <stdlib.h>
#include <string.h>

#include "passes/edit.h"

/* --- weights --- */

/* A reading of a weight by a node that stays. */
typedef struct Reading {
  const PareNode *node;
  int input;
  const PareValue *v;
  PareType cut;
} Reading;

static PareType cut_type(PareTracer *t, const PareNode *n, int k) {
  PareType type = n->in[k]->type;
  PareAxis **axis = pare_axes(t, n, k);
  for (int a = 0; a < type.rank; a++) type.dim[a] = pare_axis_count(axis[a]);
  return type;
}

/* Readings of one place in the file beside each other. */
static int by_place(const void *a, const void *b) {
  const Reading *x = a, *y = b;
  int order = pare_by_origin(x->v, y->v);
  return order ? order : x->node->id < y->node->id ? -1 : x->node->id > y->node->id;
}

/* The indices of each axis that a reading sees; false when memory is out. */
static bool list_indices(PareCtx *c, PareTracer *t, const Reading *r, int64_t **index) {
  PareAxis **axis = pare_axes(t, r->node, r->input);
  for (int d = 0; d < r->cut.rank; d++) {
    if (!(index[d] = PARE_NEW_N(c->scratch, r->cut.dim[d] + 1, int64_t))) return false;
    pare_axis_indices(axis[d], index[d]);
  }
  return true;
}

/* Where element i of what a reading sees stands in the whole constant. */
static int64_t place_of(const Reading *r, int64_t *const *index, int64_t i) {
  int64_t at = 0, stride = 1;
  for (int d = r->cut.rank - 1; d >= 0; d--) {
    at += stride * index[d][i % r->cut.dim[d]];
    i /= r->cut.dim[d];
    stride *= r->v->type.dim[d];
  }
  return at;
}

/* Do both see the same numbers? */
static PareStatus same_numbers(PareCtx *c, PareTracer *t, const Reading *x, const Reading *y, bool *same) {
  int64_t *i[PARE_MAX_RANK], *j[PARE_MAX_RANK], n = pare_type_count(&x->cut);
  PareMark mark = pare_arena_mark(c->scratch);
  *same = pare_type_equal(&x->cut, &y->cut);
  if (!*same || pare_type_equal(&x->cut, &x->v->type)) return PARE_OK;
  if (!list_indices(c, t, x, i) || !list_indices(c, t, y, j)) return pare_nomem(c);
  bool all = true;
  for (int d = 0; d < x->cut.rank; d++) all &= !memcmp(i[d], j[d], (size_t)x->cut.dim[d] * sizeof(int64_t));
  size_t size = pare_dtype_size(x->cut.dtype);
  const char *p = x->v->data, *q = y->v->data;
  for (int64_t k = 0; !all && *same && k < n; k++)
    *same = !memcmp(p + size * (size_t)place_of(x, i, k), q + size * (size_t)place_of(y, j, k), size);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* One of the readings before it is of the same numbers. */
static PareStatus is_counted(PareCtx *c, PareTracer *t, const Reading *list, size_t i, bool *counted) {
  *counted = false;
  for (size_t j = i; j > 0 && !*counted && list[j - 1].v->origin.index == list[i].v->origin.index; j--)
    if (pare_same_weight(list[j - 1].v, list[i].v)) PARE_TRY(same_numbers(c, t, &list[j - 1], &list[i], counted));
  return PARE_OK;
}

static PareStatus dropped_nodes(PareCtx *c, const PareDims *d, bool **gone) {
  *gone = PARE_NEW_N(c->scratch, d->tracer->g->nnodes + 1, bool);
  return *gone ? pare_find_dropped(c, d->tracer->g, d, *gone) : pare_nomem(c);
}

static PareStatus list_weights(PareCtx *c, const PareDims *d, Reading **out, size_t *n) {
  const PareGraph *g = d->tracer->g;
  size_t room = 1;
  bool *gone;
  PARE_TRY(dropped_nodes(c, d, &gone));
  for (const PareNode *node = g->first; node; node = node->next) room += (size_t)node->nin;
  Reading *list = PARE_NEW_N(c->scratch, room, Reading);
  if (!list) return pare_nomem(c);
  *n = 0;
  for (const PareNode *node = g->first; node; node = node->next)
    for (int k = 0; k < node->nin && !gone[node->id]; k++) {
      if (!node->in[k] || !pare_costs_weight(node, k)) continue;
      list[(*n)++] = (Reading){node, k, node->in[k], cut_type(d->tracer, node, k)};
    }
  if (*n) qsort(list, *n, sizeof *list, by_place);
  *out = list;
  return PARE_OK;
}

PareStatus pare_cut_weights(PareCtx *c, const PareDims *d, PareWeights *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  Reading *list = NULL;
  size_t n = 0, bytes;
  *out = (PareWeights){0};
  PARE_TRY(list_weights(c, d, &list, &n));
  for (size_t i = 0; i < n; i++) {
    bool counted;
    PARE_TRY(is_counted(c, d->tracer, list, i, &counted));
    if (counted || !pare_type_bytes(&list[i].cut, &bytes)) continue;
    out->params += pare_type_count(&list[i].cut);
    out->bytes += (int64_t)bytes;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* --- work --- */

/* Of an axis that has `sized` indices where the traced one has its own number. */
static int64_t cut_size(PareAxis *axis, int64_t sized) {
  int64_t size = pare_axis_find(axis)->size, left = pare_axis_count(axis);
  return left == size ? sized : (int64_t)((double)sized * (double)left / (double)size + 0.5);
}

/* v with its type after the cut, in *copy; NULL stays NULL. */
static PareValue *cut_value(PareAxis **axis, const PareValue *v, PareValue *copy) {
  if (!v) return NULL;
  *copy = *v;
  for (int a = 0; a < v->type.rank; a++) copy->type.dim[a] = cut_size(axis[a], v->type.dim[a]);
  return copy;
}

/* MACs of node s of the graph that has sizes, whose axes are those of n. */
static PareStatus node_macs(PareCtx *c, PareTracer *t, const PareNode *n, const PareNode *s, double *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  size_t nin = (size_t)s->nin, all = nin + (size_t)s->nout;
  PareValue *copy = PARE_NEW_N(c->scratch, all + 1, PareValue), **of = PARE_NEW_N(c->scratch, all + 1, PareValue *);
  if (!copy || !of) return pare_nomem(c);
  for (int k = 0; k < s->nin; k++)
    if (s->in[k]) of[k] = cut_value(pare_axes(t, n, k), s->in[k], &copy[k]);
  for (int k = 0; k < s->nout; k++)
    if (s->out[k]) of[nin + (size_t)k] = cut_value(t->value_axis[n->out[k]->id], s->out[k], &copy[nin + (size_t)k]);
  PareNode cut = *s;
  cut.in = of;
  cut.out = of + nin;
  *out = pare_op_info[s->op].cost(&cut).macs;
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_cut_macs(PareCtx *c, const PareDims *d, const PareGraph *sized, double *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  bool *gone;
  *out = 0;
  PARE_TRY(dropped_nodes(c, d, &gone));
  const PareNode *s = sized->first;
  for (const PareNode *n = d->tracer->g->first; n; n = n->next, s = s->next) {
    double macs;
    if (gone[n->id] || !pare_is_run(s) || pare_op_info[s->op].cost(s).macs == 0) continue;
    PARE_TRY(node_macs(c, d->tracer, n, s, &macs));
    *out += macs;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* --- what does not add up --- */

/* Do positions of one axis belong to both: to a product? */
static PareStatus cross(PareCtx *c, PareAxis *axis, const PareAxis *a, const PareAxis *b, bool *out) {
  int64_t size = pare_axis_find(axis)->size;
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *p = PARE_NEW_N(c->scratch, size + 1, int64_t), *q = PARE_NEW_N(c->scratch, size + 1, int64_t);
  if (!p || !q) return pare_nomem(c);
  pare_axis_positions(axis, a, p);
  pare_axis_positions(axis, b, q);
  for (int64_t i = 0; i < size; i++) *out |= p[i] >= 0 && q[i] >= 0;
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* Does an element of a constant belong to groups of both: on two axes, or on one? */
static PareStatus meet(PareCtx *c, const PareDims *d, const PareDim *a, const PareDim *b, bool weights, bool *out) {
  for (size_t i = 0; i < a->members.n && !*out; i++)
    for (size_t k = 0; k < b->members.n && !*out; k++) {
      const PareMember *x = &a->members.at[i], *y = &b->members.at[k];
      bool shared = weights && (x->node != y->node || x->input != y->input);
      if (shared && pare_costs_weight(x->node, x->input) && pare_costs_weight(y->node, y->input))
        *out = pare_same_weight(x->node->in[x->input], y->node->in[y->input]);
      if (x->node != y->node || x->input != y->input) continue;
      if (x->axis != y->axis) *out = true;
      else PARE_TRY(cross(c, pare_axis_in(d->tracer, x->node, x->input, x->axis), a->leaf, b->leaf, out));
    }
  return PARE_OK;
}

PareStatus pare_dims_overlap(PareCtx *c, const PareDims *d, const bool *pruned, bool weights, bool *out) {
  bool branches = false, others = false;
  *out = false;
  for (size_t i = 0; i < d->dims.n; i++) {
    if (!pruned[i]) continue;
    bool branch = d->dims.at[i].kind == PARE_KIND_DEPTH;
    branches |= branch;
    others |= !branch;
    for (size_t k = 0; k < i && !*out; k++)
      if (pruned[k]) PARE_TRY(meet(c, d, &d->dims.at[i], &d->dims.at[k], weights, out));
  }
  *out |= branches && others;
  return PARE_OK;
}
