/* drop_noops - what changes neither numbers nor shape goes: Identity, Expand and Cast
 * to what is there already, a Gather of all elements in their order, views that in the end have the shape they began with.
 * Weights keep theirs: they cost nothing, and adapters know them by it. */
#include "passes/match.h"
#include "passes/pass.h"

/* A list of 0, 1, 2 ... */
static bool counts_up(const PareValue *v) {
  if (v->role != PARE_CONST || v->type.rank != 1) return false;
  for (int64_t i = 0; i < v->type.dim[0]; i++)
    if (pare_data_int(v, i) != i) return false;
  return true;
}

/* Output 0 has the numbers of input 0, in their order. */
static bool keeps_numbers(const PareNode *n) {
  if (n->nout > 1 && n->out[1]) return false;
  if (pare_is_view(n)) return n->in[0] != NULL;
  if (n->op == PARE_OP_GATHER && !counts_up(n->in[1])) return false;
  return (n->op == PARE_OP_EXPAND || n->op == PARE_OP_CAST || n->op == PARE_OP_GATHER) &&
         pare_type_equal(&n->in[0]->type, &n->out[0]->type);
}

/* The first value on the way back with the type of v and its numbers; v where there is none. */
static PareValue *origin_of(PareValue *v) {
  PareValue *found = v;
  for (PareValue *w = v; w->def && keeps_numbers(w->def);) {
    w = w->def->in[0];
    if (pare_type_equal(&w->type, &v->type)) found = w;
  }
  return found;
}

PareStatus pare_drop_noops(PareCtx *c, PareGraph *g) {
  (void)c;
  for (PareNode *n = g->first, *next; n; n = next) {
    next = n->next;
    PareValue *from = n->nout > 0 ? n->out[0] : NULL;
    if (!from || !keeps_numbers(n) || pare_is_fixed(from) || pare_is_output(g, from)) continue;
    PareValue *to = origin_of(from);
    if (to == from || to->trained) continue;
    pare_replace_uses(g, from, to, NULL);
    pare_remove_dead(g, from);
  }
  return PARE_OK;
}
