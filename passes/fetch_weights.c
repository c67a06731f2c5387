/* fetch_weights - a large constant that its reader cannot read where it lies, since it is thin (ir/slices.h) or at an
 * address that the kernel does not take, is made by a node just before: a program then holds one of them at a time,
 * while a copy of a constant lives as long as the program. */
#include "ir/slices.h"
#include "kernels/kernel.h"
#include "passes/pass.h"

enum { LARGE = 64 << 10 }; /* bytes */

static bool is_loose(const PareNode *n, int k) { return k < 32 && (pare_cpu_kernels()[n->op].loose >> k & 1u); }

static bool is_misplaced(const PareNode *n, int k) {
  const PareValue *v = n->in[k];
  size_t bytes;
  if (v->role != PARE_CONST || !pare_type_bytes(&v->type, &bytes) || bytes <= LARGE) return false;
  return v->slices || ((uintptr_t)v->data % pare_dtype_size(v->type.dtype) && !is_loose(n, k));
}

/* x with zeros along one axis, or all of it. NULL: see c->diag. */
static PareValue *fetch(PareCtx *c, PareGraph *g, PareNode *before, PareValue *x, int axis, const bool *alive) {
  PareAttrs attr = {0};
  if (!alive) return PARE_EMIT(c, g, before, PARE_OP_FETCH, x->name, NULL, x);
  pare_attr_set(&attr, axis, axis);
  PareValue *flags = pare_const_add(c, g, "pare.alive", (PareType){PARE_BOOL, 1, {x->type.dim[axis]}}, alive);
  return flags ? PARE_EMIT(c, g, before, PARE_OP_FETCH, x->name, &attr, x, flags) : NULL;
}

static PareValue *make(PareCtx *c, PareGraph *g, PareNode *before, PareValue *v) {
  const PareSlices *s = v->slices;
  if (!s) return fetch(c, g, before, v, 0, NULL);
  PareValue *x = pare_const_add(c, g, v->name, v->type, s->data);
  for (int axis = 0; x && axis < v->type.rank; axis++)
    if (s->alive[axis]) x = fetch(c, g, before, x, axis, s->alive[axis]);
  return x;
}

/* Thin constants that leave something out are for files alone: none is in a graph that is run. */
PareStatus pare_fetch_weights(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) {
      if (n->op == PARE_OP_FETCH || !n->in[k] || !is_misplaced(n, k)) continue;
      PareValue *made = make(c, g, n, n->in[k]);
      if (!made) return c->diag.code;
      n->in[k] = made;
    }
  return PARE_OK;
}
