/* trace_vocab - a vocabulary: the rows of the tables that an input's token ids look up,
 * and the axes of outputs over the same tokens. Ids of a cut vocabulary are numbered
 * anew in the old order, so all that a graph may do with them beside looking up is to
 * move them, to compare them with a constant, and to ask which is the largest. */
#include <inttypes.h>
#include <string.h>

#include "ir/op_columns.h"
#include "passes/trace_dims.h"

typedef struct Vocab {
  PareCtx *c;
  PareArena *a;
  PareDims *d;
  PareTracer *t;
  int64_t size; /* rows of the largest table that ids look up */
} Vocab;

/* The leaf that a Gather of a constant by ids indexes; NULL when it is none. */
static PareAxis *table_of(const Vocab *v, const PareNode *n) {
  if (n->op != PARE_OP_GATHER || !v->t->constant[n->in[0]->id]) return NULL;
  int64_t axis = pare_attr_get(&n->attr, axis, 0);
  PareAxis *a = pare_axis_in(v->t, n, 0, (int)(axis < 0 ? axis + n->in[0]->type.rank : axis));
  return a->kind == PARE_AXIS_LEAF && (a->met & PARE_MET_INDEX) ? a : NULL;
}

static bool allowed(const PareAxis *a) { return a->met && !(a->met & ~(unsigned)(PARE_MET_INDEX | PARE_MET_OUTPUT)); }

static PareStatus forbid(Vocab *v, const PareNode *by, const char *why) {
  if (v->d->no_vocab) return PARE_OK;
  v->d->no_vocab = by ? pare_arena_printf(v->a, "%s: node '%s' (%s)", why, by->name, pare_op_info[by->op].name) : why;
  return v->d->no_vocab ? PARE_OK : pare_nomem(v->c);
}

/* --- what becomes of the ids --- */

static bool moves_ids(const PareNode *n) {
  PareCostFn *cost = pare_op_info[n->op].cost;
  if (n->op == PARE_OP_CAST) return pare_dtype_is_int(n->out[0]->type.dtype);
  return (cost == pare_cost_free || cost == pare_cost_move) && n->op != PARE_OP_SHAPE && n->op != PARE_OP_SIZE;
}

static bool ignores_numbers(const PareNode *n) {
  return n->op == PARE_OP_SHAPE || n->op == PARE_OP_SIZE || n->op == PARE_OP_ARGMAX;
}

/* Node n reads ids as input k. */
static PareStatus read_ids(Vocab *v, const PareNode *n, int k, bool *carries, PareTokens *out) {
  int other = 1 - k;
  if (ignores_numbers(n)) return PARE_OK;
  if (n->op == PARE_OP_GATHER && k == 1) {
    PareAxis *table = table_of(v, n);
    if (table && table->size == v->size) return PARE_OK;
    return forbid(v, n, "token ids look up something else than the vocabulary");
  }
  if (n->op == PARE_OP_EQUAL && v->t->constant[n->in[other]->id]) {
    PareUse use = {(PareNode *)(uintptr_t)n, other};
    return pare_vec_push(v->a, &out->compared, use) ? PARE_OK : pare_nomem(v->c);
  }
  if (!moves_ids(n) || (n->nin > 1 && k > 0 && n->op != PARE_OP_CONCAT))
    return forbid(v, n, "token ids are used as numbers");
  for (int o = 0; o < n->nout; o++)
    if (n->out[o]) carries[n->out[o]->id] = true;
  return PARE_OK;
}

static PareStatus follow(Vocab *v, const PareValue *input) {
  PareTokens tokens = {.input = input->name};
  bool *carries = PARE_NEW_N(v->c->scratch, v->t->g->values.n + 1, bool);
  if (!carries) return pare_nomem(v->c);
  carries[input->id] = true;
  for (const PareNode *n = v->t->g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++)
      if (n->in[k] && carries[n->in[k]->id]) PARE_TRY(read_ids(v, n, k, carries, &tokens));
  for (size_t i = 0; i < v->t->g->outputs.n; i++)
    if (carries[v->t->g->outputs.at[i]->id]) PARE_TRY(forbid(v, NULL, "token ids are an output of the graph"));
  return pare_vec_push(v->a, &v->d->tokens, tokens) ? PARE_OK : pare_nomem(v->c);
}

/* --- the dimensions --- */

static PareStatus add_members(Vocab *v, PareDim *dim) {
  for (PareNode *n = (PareNode *)(uintptr_t)v->t->g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) {
      if (!n->in[k] || n->in[k]->role != PARE_CONST) continue;
      for (int axis = 0; axis < n->in[k]->type.rank; axis++) {
        PareMember m = {n->in[k], n, k, axis};
        if (!pare_axis_holds(pare_axis_in(v->t, n, k, axis), dim->leaf)) continue;
        if (!pare_vec_push(v->a, &dim->members, m)) return pare_nomem(v->c);
      }
    }
  return PARE_OK;
}

static PareStatus add_vocab(Vocab *v, PareAxis *leaf, const char *name) {
  if (leaf->dim >= 0) return PARE_OK;
  PareDim dim = {.kind = PARE_KIND_VOCAB, .leaf = leaf, .exact = true, .count = leaf->size};
  size_t scope = strlen(name);
  while (scope > 0 && name[scope] != '/' && name[scope] != '.') scope--;
  dim.name = pare_arena_printf(v->a, "%.*s:vocab", (int)(scope ? scope : strlen(name)), name);
  if (!dim.name) return pare_nomem(v->c);
  PARE_TRY(add_members(v, &dim));
  PARE_TRY(pare_dim_weigh(v->c, v->t, &dim));
  leaf->dim = (int)v->d->dims.n;
  return pare_dims_add(v->c, v->a, v->d, dim);
}

/* An output over the vocabulary is made by a weight with a row a token. */
static bool is_made(const Vocab *v, const PareAxis *leaf) {
  for (size_t i = 0; i < v->t->contractions.n; i++) {
    const PareContraction *x = &v->t->contractions.at[i];
    for (int axis = 0; axis < x->node->in[x->weight]->type.rank; axis++)
      if (axis != x->weight_axis && pare_axis_holds(pare_axis_in(v->t, x->node, x->weight, axis), leaf)) return true;
  }
  return false;
}

static PareStatus add_outputs(Vocab *v) {
  for (size_t i = 0; i < v->t->g->outputs.n; i++) {
    const PareValue *y = v->t->g->outputs.at[i];
    for (int axis = 0; y->role != PARE_CONST && axis < y->type.rank; axis++) {
      PareAxis *leaf = pare_axis_find(v->t->value_axis[y->id][axis]);
      if (leaf->size != v->size || leaf->kind != PARE_AXIS_LEAF || !is_made(v, leaf)) continue;
      if (!allowed(leaf)) PARE_TRY(forbid(v, leaf->frozen_by, "an output's axis over the vocabulary cannot be cut"));
      else PARE_TRY(add_vocab(v, leaf, y->name));
    }
  }
  return PARE_OK;
}

static PareStatus find(Vocab *v) {
  for (const PareNode *n = v->t->g->first; n; n = n->next) {
    const PareAxis *leaf = table_of(v, n);
    if (leaf && leaf->size > v->size) v->size = leaf->size;
  }
  if (!v->size) return forbid(v, NULL, "no table is looked up by an input's elements alone");
  for (const PareNode *n = v->t->g->first; n; n = n->next) {
    PareAxis *leaf = table_of(v, n);
    if (!leaf || leaf->size != v->size) continue;
    const PareValue *input = pare_ids_of(n->in[1]);
    bool known = false;
    for (size_t i = 0; i < v->d->tokens.n; i++) known |= !strcmp(v->d->tokens.at[i].input, input->name);
    if (!known) PARE_TRY(follow(v, input));
    if (!allowed(leaf)) PARE_TRY(forbid(v, leaf->frozen_by, leaf->frozen_why));
    else PARE_TRY(add_vocab(v, leaf, n->name));
  }
  return add_outputs(v);
}

PareStatus pare_trace_vocab(PareCtx *c, PareArena *a, PareDims *d) {
  Vocab v = {.c = c, .a = a, .d = d, .t = d->tracer};
  size_t before = d->dims.n;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = find(&v);
  pare_arena_rewind(c->scratch, mark);
  if (!d->no_vocab) return s;
  for (size_t i = before; i < d->dims.n; i++) d->dims.at[i].leaf->dim = -1;
  d->dims.n = before;
  d->tokens.n = 0;
  PareFrozen f = {.name = "vocabulary", .reason = d->no_vocab, .count = v.size};
  return s != PARE_OK || pare_vec_push(a, &d->frozen, f) ? s : pare_nomem(c);
}
