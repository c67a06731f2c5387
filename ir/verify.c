/* verify.c - checks what every pass must leave behind: operands made before
 * they are read, ids in place, arities and types that agree with the op table.
 * What fails is our bug, so errors name values and nodes by id too. */
#include "ir/ir.h"

typedef struct Check {
  PareCtx *c;
  const PareGraph *g;
  bool *made;      /* by value id: may be read from here on */
  bool *node_seen; /* by node id */
} Check;

static bool in_place(const PareGraph *g, const PareValue *v) {
  return v->id < g->values.n && g->values.at[v->id] == v;
}

static PareStatus check_values(Check *k) {
  const PareGraph *g = k->g;
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (v->id != i) return pare_error(k->c, PARE_GATE, "value '%s' has id %u at place %zu", v->name, v->id, i);
    if (v->role != PARE_RESULT && v->def)
      return pare_error(k->c, PARE_GATE, "value '%s' (id %u) is no result but names a node", v->name, v->id);
    if (v->role == PARE_CONST && !pare_type_known(&v->type))
      return pare_error(k->c, PARE_GATE, "constant '%s' (id %u) has an unknown shape", v->name, v->id);
    if (v->role == PARE_CONST && !v->data && !v->slices && pare_type_count(&v->type) > 0)
      return pare_error(k->c, PARE_GATE, "constant '%s' (id %u) has no data", v->name, v->id);
    k->made[i] = v->role == PARE_CONST || v->role == PARE_STATE;
  }
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    if (!in_place(g, v) || v->role != PARE_INPUT || k->made[v->id])
      return pare_error(k->c, PARE_GATE, "graph input %zu '%s' (id %u) is listed twice or is no input", i, v->name,
                        v->id);
    k->made[v->id] = true;
  }
  return PARE_OK;
}

static PareStatus check_operands(Check *k, const PareNode *n) {
  for (int i = 0; i < n->nin; i++) {
    const PareValue *v = n->in[i];
    if (!v) continue;
    if (!in_place(k->g, v))
      return pare_fail(k->c, n, PARE_GATE, "input %d '%s' (id %u) is of another graph", i, v->name, v->id);
    if (!k->made[v->id])
      return pare_fail(k->c, n, PARE_GATE, "input %d '%s' (id %u) is read before it is made", i, v->name, v->id);
    if ((unsigned)i < 8 * sizeof(unsigned) && (pare_op_info[n->op].writes >> i & 1u) && v->role != PARE_STATE)
      return pare_fail(k->c, n, PARE_GATE, "input %d '%s' (id %u) is written but is no state", i, v->name, v->id);
  }
  return PARE_OK;
}

static PareStatus check_results(Check *k, const PareNode *n) {
  for (int i = 0; i < n->nout; i++) {
    const PareValue *v = n->out[i];
    if (!v) continue;
    if (!in_place(k->g, v) || v->role != PARE_RESULT || v->def != n || k->made[v->id])
      return pare_fail(k->c, n, PARE_GATE, "output %d '%s' (id %u) is not this node's own result", i, v->name, v->id);
    k->made[v->id] = true;
  }
  return PARE_OK;
}

/* Infers into copies of the results and compares where the graph's types are known. */
static PareStatus check_types(Check *k, const PareNode *n) {
  PareNode copy = *n;
  PareValue *results = PARE_NEW_N(k->c->scratch, n->nout, PareValue);
  copy.out = PARE_NEW_N(k->c->scratch, n->nout, PareValue *);
  if (!results || !copy.out) return pare_nomem(k->c);
  for (int i = 0; i < n->nout; i++) copy.out[i] = n->out[i] ? &results[i] : NULL;
  PARE_TRY(pare_infer(k->c, &copy));
  for (int i = 0; i < n->nout; i++) {
    if (!n->out[i] || !pare_type_known(&n->out[i]->type)) continue;
    char has[PARE_TYPE_TEXT], want[PARE_TYPE_TEXT];
    if (!pare_type_equal(&n->out[i]->type, &results[i].type))
      return pare_fail(k->c, n, PARE_GATE, "output %d '%s' (id %u) is %s but must be %s", i, n->out[i]->name,
                       n->out[i]->id, pare_type_text(&n->out[i]->type, has), pare_type_text(&results[i].type, want));
  }
  return PARE_OK;
}

static PareStatus check_nodes(Check *k) {
  const PareNode *prev = NULL;
  for (const PareNode *n = k->g->first; n; prev = n, n = n->next) {
    if ((unsigned)n->op >= PARE_OP_COUNT) return pare_error(k->c, PARE_GATE, "node %u has no op", n->id);
    if (n->prev != prev) return pare_fail(k->c, n, PARE_GATE, "node %u is not linked to the one before it", n->id);
    if (n->id >= k->g->nnodes || k->node_seen[n->id])
      return pare_fail(k->c, n, PARE_GATE, "node id %u is used twice or out of range", n->id);
    k->node_seen[n->id] = true;
    PARE_TRY(check_operands(k, n));
    PARE_TRY(check_results(k, n));
    PARE_TRY(pare_arity_check(k->c, n));
    if (pare_infer_ready(n)) PARE_TRY(check_types(k, n));
  }
  if (k->g->last != prev) return pare_error(k->c, PARE_GATE, "the list of nodes does not end at its last node");
  for (size_t i = 0; i < k->g->outputs.n; i++) {
    const PareValue *v = k->g->outputs.at[i];
    if (!in_place(k->g, v) || !k->made[v->id])
      return pare_error(k->c, PARE_GATE, "graph output %zu '%s' (id %u) is never made", i, v->name, v->id);
  }
  return PARE_OK;
}

PareStatus pare_graph_verify(PareCtx *c, const PareGraph *g) {
  PareMark mark = pare_arena_mark(c->scratch);
  Check k = {.c = c, .g = g};
  k.made = PARE_NEW_N(c->scratch, g->values.n, bool);
  k.node_seen = PARE_NEW_N(c->scratch, g->nnodes, bool);
  PareStatus s = k.made && k.node_seen ? check_values(&k) : pare_nomem(c);
  if (s == PARE_OK) s = check_nodes(&k);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
