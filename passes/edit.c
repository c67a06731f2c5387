/* edit.c - finding and replacing constants. */
#include "passes/edit.h"

PareValue *pare_root_constant(PareNode *n, int k, PareNode **node, int *input) {
  PareValue *v = n->in[k];
  while (v && v->role == PARE_RESULT) {
    n = v->def;
    k = 0;
    v = n->nin ? n->in[0] : NULL;
  }
  *node = n;
  *input = k;
  return v && v->role == PARE_CONST ? v : NULL;
}

PareStatus pare_replace_constant(PareCtx *c, PareGraph *g, PareNode *n, int k, PareType type, const void *data) {
  const PareValue *old = n->in[k];
  PareValue *v = pare_const_add(c, g, old->name, type, data);
  if (!v) return c->diag.code;
  v->origin = old->origin;
  n->in[k] = v;
  return PARE_OK;
}
