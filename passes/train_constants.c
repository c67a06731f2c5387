/* train_constants - initializers that are tuned themselves become states of a program, and constants again. */
#include "passes/edit.h"
#include "passes/trained.h"

static PareNode **nodes_by_id(PareCtx *c, const PareGraph *g) {
  PareNode **by_id = PARE_NEW_N(c->scratch, g->nnodes + 1, PareNode *);
  for (PareNode *n = g->first; by_id && n; n = n->next) by_id[n->id] = n;
  return by_id;
}

static PareValue **reading(PareNode *const *by_id, const PareUse *u) { return &by_id[u->node->id]->in[u->input]; }

/* What follows from a state was worked out from the constant that it was, and is no longer so. */
static PareStatus forget(PareCtx *c, PareGraph *g) {
  bool *follows = PARE_NEW_N(c->scratch, g->values.n + 1, bool);
  if (!follows) return pare_nomem(c);
  for (size_t i = 0; i < g->values.n; i++) follows[i] = g->values.at[i]->trained;
  for (const PareNode *n = g->first; n; n = n->next) {
    bool any = false;
    for (int k = 0; k < n->nin; k++) any |= n->in[k] && follows[n->in[k]->id];
    for (int k = 0; k < n->nout && any; k++) {
      if (!n->out[k] || !pare_dtype_is_float(n->out[k]->type.dtype)) continue; /* a Shape does not */
      follows[n->out[k]->id] = true;
      n->out[k]->data = NULL;
    }
  }
  return PARE_OK;
}

/* Exporters name one initializer twice by an Identity. */
static void skip_identities(PareGraph *g) {
  for (PareNode *n = g->first, *next; n; n = next) {
    next = n->next;
    if (n->op != PARE_OP_IDENTITY || !n->in[0]->trained || pare_is_output(g, n->out[0])) continue;
    pare_replace_uses(g, n->out[0], n->in[0], NULL);
    pare_node_remove(g, n);
  }
}

PareStatus pare_train_constants(PareCtx *c, PareGraph *g, const PareTrainedSet *set, PareValue **state) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode **by_id = nodes_by_id(c, g);
  if (!by_id) return pare_nomem(c);
  for (size_t i = 0; i < set->at.n; i++) {
    const PareTrained *t = &set->at.at[i];
    const PareValue *w = *reading(by_id, &t->readings.at[0]);
    if (!(state[i] = pare_value_add(c, g, PARE_STATE, w->name, w->type))) return c->diag.code;
    state[i]->data = w->data;
    state[i]->trained = true;
    for (size_t k = 0; k < t->readings.n; k++) *reading(by_id, &t->readings.at[k]) = state[i];
  }
  if (set->at.n) PARE_TRY(forget(c, g));
  if (set->at.n) skip_identities(g);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static PareStatus write(PareCtx *c, PareGraph *g, PareNode *const *by_id, const PareTrained *t, const float *value) {
  size_t bytes;
  PareNode *first = by_id[t->readings.at[0].node->id];
  void *data = pare_type_bytes(&t->type, &bytes) ? pare_arena_alloc(g->arena, bytes, 1) : NULL;
  if (!data) return pare_nomem(c);
  for (int64_t i = 0; i < pare_type_count(&t->type); i++)
    if (!pare_store_float(t->type.dtype, data, i, (double)value[i]))
      return pare_fail(c, first, PARE_GATE, "tuned, '%s' is too large for %s: lower --lr", t->name,
                       pare_dtype_name(t->type.dtype));
  PARE_TRY(pare_replace_constant(c, g, first, t->readings.at[0].input, t->type, data));
  for (size_t k = 1; k < t->readings.n; k++) *reading(by_id, &t->readings.at[k]) = *reading(by_id, &t->readings.at[0]);
  return PARE_OK;
}

PareStatus pare_write_trained(PareCtx *c, PareGraph *g, const PareTrainedSet *set, const float *const *value) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode **by_id = nodes_by_id(c, g);
  if (!by_id) return pare_nomem(c);
  for (size_t i = 0; i < set->at.n; i++) PARE_TRY(write(c, g, by_id, &set->at.at[i], value[i]));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
