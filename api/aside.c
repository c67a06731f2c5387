#include "api/aside.h"

#include "api/feed.h"
#include "passes/task.h"

/* The graph with the data's lengths and a batch of its own; what axis 0 of its inputs is then. */
typedef struct Sized {
  PareGraph *g;
  int64_t batch;
  bool *varies; /* by value */
} Sized;

static PareStatus size_up(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d, int64_t batch, Sized *out) {
  out->batch = batch;
  if (!(out->g = pare_graph_clone(c, a, g))) return c->diag.code;
  PARE_TRY(pare_feed_bind_free(c, out->g, d, &out->batch));
  if (!(out->varies = PARE_NEW_N(a, out->g->values.n + 1, bool))) return pare_nomem(c);
  pare_mark_varying(out->g, out->varies);
  return PARE_OK;
}

static bool counts(const Sized *s, size_t i) {
  const PareType *t = &s->g->outputs.at[i]->type;
  return t->rank > 0 && t->dim[0] == s->batch;
}

/* Another axis is as long as the batch, whatever it is. */
static bool pairs(const Sized *x, const Sized *y, size_t i) {
  const PareType *t = &x->g->outputs.at[i]->type, *u = &y->g->outputs.at[i]->type;
  bool any = false;
  for (int axis = 1; axis < t->rank && x->batch != y->batch; axis++)
    any |= t->dim[axis] == x->batch && u->dim[axis] == y->batch;
  return any;
}

/* NULL: it is one of each sample. */
static const char *reason(const Sized *x, const Sized *y, size_t i) {
  const PareValue *v = x->g->outputs.at[i];
  if (!x->varies[v->id]) return "it is the same whatever the inputs are";
  if (v->type.rank == 0) return "it is one number for all samples";
  return counts(x, i) && counts(y, i) ? NULL : "its axis 0 does not count samples";
}

/* Both graphs, or false where the model does not take such a batch. */
static PareStatus size_up_both(PareCtx *c, PareArena *tmp, const PareGraph *g, const PareData *d, Sized *x, Sized *y,
                               bool *takes) {
  enum { ONE_BATCH = 7, ANOTHER = 11 };
  PareDiag before = c->diag;
  PareStatus s = size_up(c, tmp, g, d, ONE_BATCH, x);
  if (s == PARE_OK) s = size_up(c, tmp, g, d, ANOTHER, y);
  *takes = s == PARE_OK;
  if (s == PARE_NOMEM) return s;
  c->diag = before;
  return PARE_OK;
}

static PareStatus find(PareCtx *c, PareArena *a, PareArena *tmp, const PareGraph *g, const PareData *d,
                       PareAside *out) {
  Sized x, y;
  bool takes, *of = PARE_NEW_N(a, g->outputs.n + 1, bool);
  const char **why = PARE_NEW_N(a, g->outputs.n + 1, const char *);
  size_t left = 0, gone = 0;
  bool paired = false;
  if (!of || !why) return pare_nomem(c);
  PARE_TRY(size_up_both(c, tmp, g, d, &x, &y, &takes));
  for (size_t i = 0; takes && i < g->outputs.n; i++) {
    if (!pare_is_followed(x.g, NULL, i)) continue;
    why[i] = reason(&x, &y, i);
    of[i] = why[i] != NULL;
    if (of[i]) gone++;
    else left++, paired |= pairs(&x, &y, i);
  }
  *out = (PareAside){gone && left ? of : NULL, gone ? why : NULL, paired};
  return PARE_OK;
}

PareStatus pare_find_aside(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d, PareAside *out) {
  *out = (PareAside){0};
  PareArena *tmp = pare_arena_new(1 << 16);
  PareStatus s = tmp ? find(c, a, tmp, g, d, out) : pare_nomem(c);
  pare_arena_free(tmp);
  return s;
}

PareStatus pare_tell_aside(PareCtx *c, const PareGraph *g, const PareAside *x) {
  for (size_t i = 0; x->why && i < g->outputs.n; i++) {
    if (!x->why[i]) continue;
    if (!x->of)
      return pare_error(c, PARE_UNSUPPORTED, "there is nothing to tune on or to judge by: output '%s' is not one of each sample: %s",
                        g->outputs.at[i]->name, x->why[i]);
    pare_log(c, 0, "output '%s' is left out of losses and metrics: %s", g->outputs.at[i]->name, x->why[i]);
  }
  return PARE_OK;
}
