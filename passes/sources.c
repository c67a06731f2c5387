/* sources.c - see sources.h. */
#include "passes/sources.h"

#include <string.h>

#include "passes/bind_shapes.h"
#include "passes/vanish.h"

enum { MAX_STEPS = 1000 }; /* readings that are looked at */

typedef struct Each {
  bool (*fn)(PareUse reading, void *arg);
  void *arg;
  int left;
} Each;

static bool each_source(Each *e, PareNode *n, int k) {
  const PareValue *v = n->in[k];
  if (--e->left < 0 || !v || (v->role != PARE_CONST && v->role != PARE_RESULT)) return false;
  if (v->role == PARE_CONST) return e->fn((PareUse){n, k}, e->arg);
  int parts = pare_zero_inputs(v->def);
  for (int i = 0; i < parts; i++)
    if (!each_source(e, v->def, i)) return false;
  return parts > 0;
}

bool pare_each_source(PareNode *n, int k, bool (*fn)(PareUse reading, void *arg), void *arg) {
  Each e = {fn, arg, MAX_STEPS};
  return each_source(&e, n, k);
}

static bool is_of_constants(const PareValue *v, int *left) {
  if (!v || v->role != PARE_RESULT) return !v || v->role == PARE_CONST;
  for (int k = 0; k < v->def->nin; k++)
    if (--*left < 0 || !is_of_constants(v->def->in[k], left)) return false;
  return v->def->nin > 0;
}

bool pare_is_of_constants(const PareValue *v) {
  int left = MAX_STEPS;
  return v && is_of_constants(v, &left);
}

/* --- running nodes --- */

/* What was run is not run again. */
typedef struct Known {
  const PareValue *v;
  bool numbered;
  PareValue *is;
} Known;

typedef struct Walk {
  PareCtx *c;
  PareArena *a;
  PareSources *s; /* NULL: nothing is numbered */
  PARE_VEC(Known) known;
} Walk;

/* Constant v, the elements of which are numbered, as n reads it. */
static PareStatus number(Walk *w, PareNode *n, int k, PareValue **out) {
  const PareValue *v = n->in[k];
  int64_t count = pare_type_count(&v->type), *from = PARE_NEW_N(w->a, count + 1, int64_t);
  PareValue *x = PARE_NEW(w->a, PareValue);
  PareUse reading = {n, k};
  if (!from || !x) return pare_nomem(w->c);
  if (!w->s->roots.n) w->s->type.dtype = v->type.dtype;
  for (int64_t i = 0; i < count; i++) from[i] = (int64_t)w->s->roots.n << PARE_SOURCE_SHIFT | i;
  *x = (PareValue){.role = PARE_CONST, .type = v->type, .name = v->name, .data = from};
  x->type.dtype = PARE_I64;
  *out = x;
  return pare_vec_push(w->a, &w->s->roots, reading) ? PARE_OK : pare_nomem(w->c);
}

static PareStatus run(Walk *w, PareNode *n, int k, bool numbered, int depth, PareValue **out);

/* Node n's results, made of copies of its inputs; what it makes of numbered elements is numbered. */
static PareStatus run_node(Walk *w, PareNode *n, bool numbered, int depth, PareNode *step) {
  PareValue **in = PARE_NEW_N(w->a, n->nin + 1, PareValue *), **made = PARE_NEW_N(w->a, n->nout + 1, PareValue *);
  PareGraph room = {.arena = w->a};
  if (!in || !made) return pare_nomem(w->c);
  *step = *n;
  for (int k = 0; k < n->nin; k++)
    if (n->in[k]) PARE_TRY(run(w, n, k, numbered && k < pare_moved_inputs(n), depth + 1, &in[k]));
  for (int o = 0; o < n->nout; o++) {
    if (!n->out[o]) continue;
    if (!(made[o] = PARE_NEW(w->a, PareValue))) return pare_nomem(w->c);
    *made[o] = (PareValue){.role = PARE_RESULT, .name = n->out[o]->name, .def = step};
  }
  step->in = in;
  step->out = made;
  PARE_TRY(pare_bind_node(w->c, &room, step));
  bool known = false;
  for (int o = 0; o < n->nout; o++) known |= made[o] && made[o]->data;
  return known ? PARE_OK : pare_node_eval(w->c, step, w->a);
}

/* n's input k with its numbers, or with its elements numbered. */
static PareStatus run(Walk *w, PareNode *n, int k, bool numbered, int depth, PareValue **out) {
  PareValue *v = n->in[k];
  if (v->role == PARE_CONST && numbered) return number(w, n, k, out);
  if (v->role == PARE_CONST) return *out = v, PARE_OK;
  bool same = numbered && v->role == PARE_RESULT && pare_changes_type_alone(v->def);
  if (v->role != PARE_RESULT || !v->def->nin || depth > MAX_STEPS || (numbered && !same && !pare_moved_inputs(v->def)))
    return pare_fail(w->c, n, PARE_UNSUPPORTED, "'%s' is not made of constants, or in more than %d steps", v->name,
                     MAX_STEPS);
  if (same) return run(w, v->def, 0, true, depth + 1, out);
  for (size_t i = 0; i < w->known.n; i++)
    if (w->known.at[i].v == v && w->known.at[i].numbered == numbered) return *out = w->known.at[i].is, PARE_OK;
  PareNode step;
  PARE_TRY(run_node(w, v->def, numbered, depth, &step));
  int o = 0;
  while (v->def->out[o] != v) o++;
  *out = step.out[o];
  (*out)->role = PARE_CONST;
  (*out)->def = NULL;
  return pare_vec_push(w->a, &w->known, ((Known){v, numbered, *out})) ? PARE_OK : pare_nomem(w->c);
}

PareStatus pare_sources(PareCtx *c, PareArena *a, PareNode *n, int k, PareSources *out) {
  Walk w = {.c = c, .a = a, .s = out};
  PareValue *x;
  *out = (PareSources){0};
  PARE_TRY(run(&w, n, k, true, 0, &x));
  PareDtype dtype = out->type.dtype;
  out->type = x->type;
  out->type.dtype = dtype;
  out->from = x->data;
  return PARE_OK;
}

PareStatus pare_work_out(PareCtx *c, PareArena *a, PareNode *n, int k, const PareValue **out) {
  Walk w = {.c = c, .a = a};
  PareValue *x;
  PARE_TRY(run(&w, n, k, false, 0, &x));
  *out = x;
  return PARE_OK;
}
