/* autodiff.c - one walk forward to find what depends on the wrt values, one walk
 * backward that lets each node's gradient rule (ir/grad_*.c) append its nodes
 * and adds up the contributions that meet at a value. */
#include "passes/autodiff.h"

#include <assert.h>
#include <string.h>

/* Arrays are by the ids that exist when the walk starts; lists are as long as the widest node. */
typedef struct Walk {
  bool *depends;    /* on a wrt value */
  PareValue **grad; /* so far */
  bool *want;
  PareValue **dout, **din;
} Walk;

static bool walk_new(PareCtx *c, const PareGraph *g, Walk *w) {
  int nin = 1, nout = 1;
  for (const PareNode *n = g->first; n; n = n->next) {
    if (n->nin > nin) nin = n->nin;
    if (n->nout > nout) nout = n->nout;
  }
  if (nout < 3) nout = 3; /* a rule may add the outputs that it needs (LayerNormalization) */
  w->depends = PARE_NEW_N(c->scratch, g->values.n, bool);
  w->grad = PARE_NEW_N(c->scratch, g->values.n, PareValue *);
  w->want = PARE_NEW_N(c->scratch, nin, bool);
  w->din = PARE_NEW_N(c->scratch, nin, PareValue *);
  w->dout = PARE_NEW_N(c->scratch, nout, PareValue *);
  return w->depends && w->grad && w->want && w->din && w->dout;
}

static void mark_dependent(const PareGraph *g, size_t nwrt, PareValue *const *wrt, bool *depends) {
  for (size_t i = 0; i < nwrt; i++) depends[wrt[i]->id] = pare_dtype_is_float(wrt[i]->type.dtype);
  for (const PareNode *n = g->first; n; n = n->next) {
    bool any = false;
    for (int i = 0; i < n->nin && !any; i++) any = n->in[i] && depends[n->in[i]->id];
    for (int i = 0; i < n->nout && any; i++)
      if (n->out[i] && pare_dtype_is_float(n->out[i]->type.dtype)) depends[n->out[i]->id] = true;
  }
}

static PareStatus add_to(PareCtx *c, PareGraph *g, const PareNode *n, PareValue **sum, PareValue *d) {
  if (!d) return PARE_OK;
  *sum = *sum ? PARE_EMIT(c, g, NULL, PARE_OP_ADD, n->name, NULL, *sum, d) : d;
  return *sum ? PARE_OK : c->diag.code;
}

static PareStatus node_backward(PareCtx *c, PareGraph *g, PareNode *n, Walk *w) {
  bool any_out = false, any_in = false;
  for (int i = 0; i < n->nout; i++) {
    w->dout[i] = n->out[i] ? w->grad[n->out[i]->id] : NULL;
    any_out |= w->dout[i] != NULL;
  }
  for (int i = 0; i < n->nin; i++) {
    w->want[i] = n->in[i] && w->depends[n->in[i]->id];
    w->din[i] = NULL;
    any_in |= w->want[i];
  }
  if (!any_out || !any_in) return PARE_OK;
  PARE_TRY(pare_op_info[n->op].grad(c, g, n, w->dout, w->want, w->din));
  for (int i = 0; i < n->nin; i++) {
    if (!w->want[i]) continue;
    assert(!w->din[i] || pare_type_equal(&w->din[i]->type, &n->in[i]->type));
    PARE_TRY(add_to(c, g, n, &w->grad[n->in[i]->id], w->din[i]));
  }
  return PARE_OK;
}

PareStatus pare_autodiff(PareCtx *c, PareGraph *g, PareValue *loss, PareValue *dloss, size_t nwrt,
                         PareValue *const *wrt, PareValue **grads) {
  if (!pare_type_equal(&loss->type, &dloss->type)) {
    char a[PARE_TYPE_TEXT], b[PARE_TYPE_TEXT];
    return pare_error(c, PARE_UNSUPPORTED, "the loss '%s' is %s but its derivative is %s", loss->name,
                      pare_type_text(&loss->type, a), pare_type_text(&dloss->type, b));
  }
  PareMark mark = pare_arena_mark(c->scratch);
  Walk w;
  PareStatus s = walk_new(c, g, &w) ? PARE_OK : pare_nomem(c);
  PareNode *last = g->last; /* what the rules append comes after it */
  if (s == PARE_OK) {
    mark_dependent(g, nwrt, wrt, w.depends);
    w.grad[loss->id] = dloss;
  }
  for (PareNode *n = last; n && s == PARE_OK; n = n->prev) s = node_backward(c, g, n, &w);
  for (size_t i = 0; i < nwrt && s == PARE_OK; i++) grads[i] = w.depends[wrt[i]->id] ? w.grad[wrt[i]->id] : NULL;
  pare_arena_rewind(c->scratch, mark);
  return s;
}
