/* branch.c - the condition of an If, worked out from shapes at several sizes. */
#include "frontend/branch.h"

#include "passes/bind_shapes.h"
#include "passes/probe_dims.h"

enum { PRIMES = 2, ONES = PRIMES, LARGE, TRIES, LARGE_SIZE = 32749 };

/* A clone whose types are concrete. */
static PareStatus bind(PareCtx *c, PareArena *a, const PareGraph *g, int how, PareGraph **out) {
  if (how < PRIMES) return pare_probe_dims(c, a, g, how, out);
  *out = pare_graph_clone(c, a, g);
  if (!*out) return c->diag.code;
  for (size_t i = 0; i < (*out)->inputs.n; i++) {
    PareType *t = &(*out)->inputs.at[i]->type;
    for (int d = 0; d < t->rank; d++)
      if (t->dim[d] < 0) t->dim[d] = how == ONES ? 1 : LARGE_SIZE;
  }
  return pare_bind_shapes(c, *out, 0, NULL);
}

PareStatus pare_branch_taken(PareCtx *c, const PareGraph *g, const PareValue *cond, int *taken) {
  PareDiag before = c->diag;
  *taken = PARE_BRANCH_OPEN;
  for (int how = 0; how < TRIES; how++) {
    PareArena *a = pare_arena_new(1 << 16);
    PareGraph *bound;
    if (!a) return pare_nomem(c);
    PareStatus s = bind(c, a, g, how, &bound);
    const PareValue *v = s == PARE_OK ? bound->values.at[cond->id] : NULL;
    bool known = v && v->data && pare_type_count(&v->type) == 1;
    int now = !known ? PARE_BRANCH_OPEN : pare_data_int(v, 0) ? PARE_BRANCH_THEN : PARE_BRANCH_ELSE;
    pare_arena_free(a);
    if (s == PARE_NOMEM) return s;
    c->diag = before;
    if (s != PARE_OK && how >= PRIMES) continue; /* a size that the model does not take */
    if (how > 0 && now != *taken) now = PARE_BRANCH_OPEN;
    if ((*taken = now) == PARE_BRANCH_OPEN) return PARE_OK;
  }
  return PARE_OK;
}
