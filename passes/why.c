/* why - a breadth-first walk over the axes that hold one leaf. The axes are
 * vertices; a node joins those of its axes that its own `cut` rule ties when it is
 * run on that node alone. A constant has axes for each of its readers. */
#include "passes/why.h"

#include "ir/op_columns.h"

/* An axis: of a result or input, or of a constant as one node reads it. */
typedef struct Place {
  const PareValue *v;
  const PareNode *reader; /* of a constant; else NULL */
  int input, axis;
  int64_t from;           /* place before it on the shortest way; NOWHERE: not reached, START: it began here */
  const PareNode *by;     /* that ties it to that place */
} Place;

enum { NOWHERE = -1, START = -2 };

struct PareWalk {
  PareCtx *c;
  PareArena *a;
  PareTracer *t;
  PareUses uses;
  Place *place;
  int64_t n;
  int64_t *value_first;  /* by value id: place of axis 0; constants have none */
  int64_t **use_first;   /* by node id and input: the same of constants */
  PareAxis *leaf;
  int64_t *queue, head, tail; /* places */
  PareTracer alone;      /* tracer of one node */
};

/* --- places --- */

static int64_t place_in(const PareWalk *w, const PareNode *n, int k, int d) {
  const PareValue *v = n->in[k];
  return (v->role == PARE_CONST ? w->use_first[n->id][k] : w->value_first[v->id]) + d;
}

static PareAxis *axis_at(const PareWalk *w, const Place *p) {
  return p->reader ? w->t->use_axis[p->reader->id][p->input][p->axis] : w->t->value_axis[p->v->id][p->axis];
}

static void add_places(PareWalk *w, const PareValue *v, const PareNode *reader, int input) {
  for (int d = 0; d < v->type.rank; d++) w->place[w->n++] = (Place){v, reader, input, d, NOWHERE, NULL};
}

static PareStatus number_places(PareWalk *w) {
  const PareGraph *g = w->t->g;
  int64_t count = 1;
  for (size_t i = 0; i < g->values.n; i++) count += g->values.at[i]->type.rank;
  for (const PareNode *n = g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) count += n->in[k] && n->in[k]->role == PARE_CONST ? n->in[k]->type.rank : 0;
  w->place = PARE_NEW_N(w->a, count, Place);
  w->queue = PARE_NEW_N(w->a, count, int64_t);
  w->value_first = PARE_NEW_N(w->a, g->values.n + 1, int64_t);
  w->use_first = PARE_NEW_N(w->a, g->nnodes + 1, int64_t *);
  if (!w->place || !w->queue || !w->value_first || !w->use_first) return pare_nomem(w->c);
  for (size_t i = 0; i < g->values.n; i++) {
    w->value_first[i] = w->n;
    if (w->t->value_axis[i]) add_places(w, g->values.at[i], NULL, 0);
  }
  for (const PareNode *n = g->first; n; n = n->next) {
    if (!(w->use_first[n->id] = PARE_NEW_N(w->a, n->nin + 1, int64_t))) return pare_nomem(w->c);
    for (int k = 0; k < n->nin; k++) {
      w->use_first[n->id][k] = w->n;
      if (n->in[k] && n->in[k]->role == PARE_CONST) add_places(w, n->in[k], n, k);
    }
  }
  return PARE_OK;
}

PareStatus pare_walk_new(PareCtx *c, PareArena *a, const PareDims *d, PareWalk **out) {
  PareWalk *w = PARE_NEW(a, PareWalk);
  if (!w) return pare_nomem(c);
  *w = (PareWalk){.c = c, .a = a, .t = d->tracer};
  PARE_TRY(number_places(w));
  w->alone.value_axis = PARE_NEW_N(a, w->t->g->values.n + 1, PareAxis **);
  w->alone.use_axis = PARE_NEW_N(a, w->t->g->nnodes + 1, PareAxis ***);
  if (!w->alone.value_axis || !w->alone.use_axis) return pare_nomem(c);
  *out = w;
  return pare_uses(c, a, w->t->g, &w->uses);
}

/* --- what one node ties --- */

static PareAxis **fresh_axes(PareTracer *t, const PareType *type) {
  PareAxis **a = PARE_NEW_N(t->arena, type->rank + 1, PareAxis *);
  for (int d = 0; a && d < type->rank; d++) a[d] = pare_axis_leaf(t, type->dim[d]);
  if (!a) t->nomem = true;
  return a;
}

static void fresh_value(PareTracer *t, const PareValue *v) {
  if (v && v->role != PARE_CONST && !t->value_axis[v->id]) t->value_axis[v->id] = fresh_axes(t, &v->type);
}

static void fresh_inputs(PareTracer *t, const PareNode *n) {
  if (!(t->use_axis[n->id] = PARE_NEW_N(t->arena, n->nin + 1, PareAxis **))) {
    t->nomem = true;
    return;
  }
  for (int k = 0; k < n->nin; k++) {
    fresh_value(t, n->in[k]);
    if (n->in[k] && n->in[k]->role == PARE_CONST) t->use_axis[n->id][k] = fresh_axes(t, &n->in[k]->type);
  }
}

static void forget(PareTracer *t, const PareNode *n) {
  t->use_axis[n->id] = NULL;
  for (int k = 0; k < n->nin; k++)
    if (n->in[k]) t->value_axis[n->in[k]->id] = NULL;
  for (int k = 0; k < n->nout; k++)
    if (n->out[k]) t->value_axis[n->out[k]->id] = NULL;
}

/* A rule looks at its node and, for the shape of another tensor, at what its inputs are made of. */
static PareStatus run_alone(PareWalk *w, const PareNode *n) {
  PareTracer *t = &w->alone;
  *t = (PareTracer){.c = w->c, .arena = w->c->scratch, .g = w->t->g, .constant = w->t->constant, .counted = w->t->counted,
                    .value_axis = t->value_axis, .use_axis = t->use_axis};
  fresh_inputs(t, n);
  for (int k = 0; k < n->nin; k++)
    if (n->in[k] && n->in[k]->role == PARE_RESULT) fresh_inputs(t, n->in[k]->def);
  for (int k = 0; k < n->nout; k++) fresh_value(t, n->out[k]);
  return t->nomem ? pare_nomem(w->c) : pare_tie_node(t, n);
}

static void forget_alone(PareWalk *w, const PareNode *n) {
  for (int k = 0; k < n->nin; k++)
    if (n->in[k] && n->in[k]->role == PARE_RESULT) forget(&w->alone, n->in[k]->def);
  forget(&w->alone, n);
}

/* --- the walk --- */

static void arrive(PareWalk *w, int64_t at, int64_t from, const PareNode *by) {
  Place *p = &w->place[at];
  if (p->from != NOWHERE || !pare_axis_holds(axis_at(w, p), w->leaf)) return;
  p->from = from;
  p->by = by;
  w->queue[w->tail++] = at;
}

static PareAxis *alone_at(const PareWalk *w, const Place *p) {
  PareAxis **axes = p->reader ? w->alone.use_axis[p->reader->id][p->input] : w->alone.value_axis[p->v->id];
  return axes ? axes[p->axis] : NULL;
}

/* Shape and the like: they tie nothing, so that the rule of who reads them may look through them. */
static bool is_source(const PareNode *n) { return n && pare_op_info[n->op].cut == pare_cut_source; }

/* Those of m's input axes that n ties to `here`. */
static void arrive_at_inputs(PareWalk *w, const PareNode *n, const PareNode *m, PareAxis *here, int64_t at) {
  for (int k = 0; k < m->nin; k++)
    for (int d = 0; m->in[k] && d < m->in[k]->type.rank; d++) {
      int64_t to = place_in(w, m, k, d);
      if (pare_axis_share(here, alone_at(w, &w->place[to]))) arrive(w, to, at, n);
    }
}

/* Arrives at the axes of n and of what its inputs are made of that n ties to the place `at`. */
static PareStatus cross(PareWalk *w, const PareNode *n, int64_t at) {
  PareMark mark = pare_arena_mark(w->c->scratch);
  PareStatus s = run_alone(w, n);
  PareAxis *here = s == PARE_OK ? alone_at(w, &w->place[at]) : NULL;
  if (here) arrive_at_inputs(w, n, n, here, at);
  for (int k = 0; here && k < n->nin; k++)
    if (n->in[k] && is_source(n->in[k]->def)) arrive_at_inputs(w, n, n->in[k]->def, here, at);
  for (int k = 0; here && k < n->nout; k++)
    for (int d = 0; n->out[k] && d < n->out[k]->type.rank; d++) {
      int64_t to = w->value_first[n->out[k]->id] + d;
      if (pare_axis_share(here, alone_at(w, &w->place[to]))) arrive(w, to, at, n);
    }
  forget_alone(w, n);
  pare_arena_rewind(w->c->scratch, mark);
  return s;
}

static PareStatus cross_reader(PareWalk *w, const PareNode *n, int64_t at) {
  PARE_TRY(cross(w, n, at));
  for (int k = 0; is_source(n) && k < n->nout; k++)
    for (uint32_t i = w->uses.first[n->out[k]->id]; i < w->uses.first[n->out[k]->id + 1]; i++)
      PARE_TRY(cross(w, w->uses.at[i].node, at));
  return PARE_OK;
}

static PareStatus leave(PareWalk *w, int64_t at) {
  const Place *p = &w->place[at];
  if (p->v->def) PARE_TRY(cross(w, p->v->def, at));
  for (uint32_t i = w->uses.first[p->v->id]; i < w->uses.first[p->v->id + 1]; i++) {
    const PareUse *u = &w->uses.at[i];
    if (!p->reader || p->reader == u->node) PARE_TRY(cross_reader(w, u->node, at));
    else arrive(w, place_in(w, u->node, u->input, p->axis), at, NULL); /* the same weight */
  }
  return PARE_OK;
}

PareStatus pare_walk(PareWalk *w, PareAxis *leaf, const PareValue *from, int axis) {
  for (int64_t i = 0; i < w->n; i++) w->place[i].from = NOWHERE;
  w->leaf = leaf;
  w->head = w->tail = 0;
  if (from->role != PARE_CONST) arrive(w, w->value_first[from->id] + axis, START, NULL);
  for (uint32_t i = w->uses.first[from->id]; from->role == PARE_CONST && i < w->uses.first[from->id + 1]; i++)
    arrive(w, place_in(w, w->uses.at[i].node, w->uses.at[i].input, axis), START, NULL);
  while (w->head < w->tail) PARE_TRY(leave(w, w->queue[w->head++]));
  return PARE_OK;
}

/* --- chains --- */

static PareStatus chain_to(PareWalk *w, int64_t at, PareChain *out) {
  int n = 0;
  for (int64_t i = at; w->place[i].from >= 0; i = w->place[i].from) n++;
  PareTie *tie = PARE_NEW_N(w->a, n + 1, PareTie);
  if (!tie) return pare_nomem(w->c);
  *out = (PareChain){true, n, tie};
  for (int64_t i = at; n > 0; i = w->place[i].from)
    tie[--n] = (PareTie){w->place[i].by, w->place[i].v, w->place[i].axis};
  return PARE_OK;
}

PareStatus pare_walk_to(PareWalk *w, const PareValue *to, int axis, PareChain *out) {
  *out = (PareChain){0};
  for (int64_t i = 0; i < w->tail; i++) { /* nearest first */
    const Place *p = &w->place[w->queue[i]];
    if (p->v == to && p->axis == axis) return chain_to(w, w->queue[i], out);
  }
  return PARE_OK;
}

static bool touches(const PareWalk *w, const PareNode *n, const Place *p) {
  if (!n) return p->v->role == PARE_INPUT || (p->v->role != PARE_CONST && pare_is_output(w->t->g, p->v));
  if (p->reader) return p->reader == n;
  bool yes = p->v->def == n;
  for (int k = 0; k < n->nin; k++) yes |= n->in[k] == p->v;
  return yes;
}

PareStatus pare_walk_to_freezer(PareWalk *w, PareChain *out) {
  *out = (PareChain){0};
  for (int64_t i = 0; w->leaf->frozen_why && i < w->tail; i++)
    if (touches(w, w->leaf->frozen_by, &w->place[w->queue[i]])) return chain_to(w, w->queue[i], out);
  return PARE_OK;
}
