/* why.c - inspect --why: the dimension of every axis of a weight or of a node's results, and the chain
 * of ops that ties it to other weights, or leads to what forbids cutting it. */
#include <jansson.h>
#include <string.h>

#include "api/call.h"
#include "backend/json.h"
#include "frontend/model.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/untie.h"
#include "passes/why.h"

typedef struct Why {
  PareCtx *c;
  PareArena *a, *work; /* the result's; everything else */
  const char *asked;
  PareGraph *probe[2]; /* at two choices of sizes: what differs is dynamic */
  PareDims *d;
  PareWalk *walk;
  PARE_VEC(const PareValue *) tensors; /* that are asked about */
  PARE_VEC(PareWhyAxis) axes;
  PARE_VEC(PareWhyPart) parts; /* of the axis at hand */
  const PareValue *at;
  int axis;
  PareStatus status;
} Why;

/* --- what is asked about --- */

/* The node itself, or one of those that the composite op or function of this name was expanded into. */
static bool belongs(const char *name, const PareNode *n) {
  size_t len = strlen(name);
  return !strcmp(n->name, name) || (n->onnx_input && !strncmp(n->name, name, len) && n->name[len] == '/');
}

/* Is v read from outside of the node's expansion, or by nobody? */
static bool leaves_node(const Why *x, const PareUses *uses, const PareValue *v) {
  if (pare_is_output(x->probe[0], v) || !pare_use_count(uses, v)) return true;
  for (uint32_t i = uses->first[v->id]; i < uses->first[v->id + 1]; i++)
    if (!belongs(x->asked, uses->at[i].node)) return true;
  return false;
}

static PareStatus find_results(Why *x) {
  PareUses uses;
  PARE_TRY(pare_uses(x->c, x->work, x->probe[0], &uses));
  for (const PareNode *n = x->probe[0]->first; n; n = n->next)
    for (int k = 0; belongs(x->asked, n) && k < n->nout; k++)
      if (n->out[k] && leaves_node(x, &uses, n->out[k]) && !pare_vec_push(x->work, &x->tensors, (const PareValue *)n->out[k]))
        return pare_nomem(x->c);
  return PARE_OK;
}

/* A node's name first: an exporter may have called its result the same. */
static PareStatus find_tensors(Why *x, const char **what) {
  *what = "node";
  PARE_TRY(find_results(x));
  if (x->tensors.n) return PARE_OK;
  const PareValue *v = pare_graph_find(x->probe[0], x->asked);
  if (!v)
    return pare_error(x->c, PARE_USAGE, "--why: the model has no node, weight or tensor '%s' (inspect --groups names weights)",
                      x->asked);
  *what = v->role == PARE_CONST ? "weight" : "tensor";
  return pare_vec_push(x->work, &x->tensors, v) ? PARE_OK : pare_nomem(x->c);
}

/* --- chains --- */

static const char *copy(Why *x, const char *s) {
  const char *t = pare_arena_strdup(x->a, s ? s : "");
  if (!t) x->status = pare_nomem(x->c);
  return t;
}

static void add_chain(Why *x, const PareChain *chain, PareWhyPart *p, PareWhyChain *to) {
  PareWhyStep *step = PARE_NEW_N(x->a, chain->n + 1, PareWhyStep);
  if (!step) {
    x->status = pare_nomem(x->c);
    return;
  }
  for (int i = 0; i < chain->n; i++) {
    const PareTie *t = &chain->tie[i];
    step[i] = (PareWhyStep){.tensor = copy(x, t->value->name), .axis = t->axis};
    if (t->by) step[i].node = copy(x, t->by->name), step[i].op = pare_op_info[t->by->op].name;
  }
  *to = (PareWhyChain){.nsteps = (size_t)chain->n, .steps = step};
  if (chain->n) to->tensor = step[chain->n - 1].tensor, to->axis = step[chain->n - 1].axis;
  else to->tensor = copy(x, x->at->name), to->axis = x->axis;
  p->nchains++;
}

/* To every other weight of the dimension, in its order; one weight counts once. */
static void explain_dimension(Why *x, const PareDim *d, PareWhyPart *p) {
  PareWhyChain *chain = PARE_NEW_N(x->a, d->members.n + 1, PareWhyChain);
  if (!chain) {
    x->status = pare_nomem(x->c);
    return;
  }
  p->dimension = copy(x, d->name);
  p->kind = pare_kind_name(d->kind);
  p->chains = chain;
  for (size_t i = 0; i < d->members.n && x->status == PARE_OK; i++) {
    const PareMember *m = &d->members.at[i];
    bool seen = m->weight == x->at && m->axis == x->axis;
    for (size_t j = 0; j < i && !seen; j++)
      seen = d->members.at[j].weight == m->weight && d->members.at[j].axis == m->axis;
    PareChain found;
    if (!seen) x->status = pare_walk_to(x->walk, m->weight, m->axis, &found);
    if (!seen && x->status == PARE_OK && found.found) add_chain(x, &found, p, &chain[p->nchains]);
  }
}

static void explain_frozen(Why *x, const PareAxis *leaf, PareWhyPart *p) {
  PareWhyChain *chain = PARE_NEW(x->a, PareWhyChain);
  PareChain found = {0};
  if (!chain) x->status = pare_nomem(x->c);
  else x->status = pare_walk_to_freezer(x->walk, &found);
  p->chains = chain;
  p->reason = leaf->frozen_why ? copy(x, leaf->frozen_why) : "does not lead from a weight that makes it to one that reads it";
  if (leaf->frozen_by) p->node = copy(x, leaf->frozen_by->name), p->op = pare_op_info[leaf->frozen_by->op].name;
  if (x->status == PARE_OK && found.found) add_chain(x, &found, p, chain);
}

static void add_part(PareAxis *leaf, void *arg) {
  Why *x = arg;
  PareWhyPart p = {.size = leaf->size};
  if (x->status != PARE_OK || leaf->size < 2) return;
  x->status = pare_walk(x->walk, leaf, x->at, x->axis);
  if (x->status == PARE_OK && leaf->dim >= 0) explain_dimension(x, &x->d->dims.at[leaf->dim], &p);
  else if (x->status == PARE_OK) explain_frozen(x, leaf, &p);
  if (x->status == PARE_OK && !pare_vec_push(x->work, &x->parts, p)) x->status = pare_nomem(x->c);
}

typedef struct LeafList {
  PareArena *a;
  PARE_VEC(PareAxis *) at;
  bool nomem;
} LeafList;

static void list_leaf(PareAxis *leaf, void *arg) {
  LeafList *l = arg;
  for (size_t i = 0; i < l->at.n; i++)
    if (l->at.at[i] == leaf) return; /* q, k and v of a packed weight are of one dimension */
  if (!pare_vec_push(l->a, &l->at, leaf)) l->nomem = true;
}

static PareStatus explain_axis(Why *x, const PareValue *v, int axis) {
  LeafList l = {.a = x->work};
  PareUses uses;
  PARE_TRY(pare_uses(x->c, x->work, x->probe[0], &uses));
  if (v->role != PARE_CONST) pare_axis_leaves(x->d->tracer->value_axis[v->id][axis], list_leaf, &l);
  for (uint32_t i = uses.first[v->id]; v->role == PARE_CONST && i < uses.first[v->id + 1]; i++)
    pare_axis_leaves(pare_axis_in(x->d->tracer, uses.at[i].node, uses.at[i].input, axis), list_leaf, &l);
  if (l.nomem) return pare_nomem(x->c);
  memset(&x->parts, 0, sizeof x->parts);
  x->at = v;
  x->axis = axis;
  for (size_t i = 0; i < l.at.n; i++) add_part(l.at.at[i], x);
  PARE_TRY(x->status);
  PareWhyAxis out = {.tensor = copy(x, v->name), .axis = axis, .size = v->type.dim[axis], .nparts = x->parts.n};
  const PareValue *far = x->probe[1]->values.at[v->id];
  if (far->type.rank == v->type.rank && far->type.dim[axis] != out.size) out.size = -1;
  PareWhyPart *part = PARE_NEW_N(x->a, out.nparts + 1, PareWhyPart);
  if (!part || !out.tensor) return pare_nomem(x->c);
  if (out.nparts) memcpy(part, x->parts.at, out.nparts * sizeof *part);
  for (size_t i = 0; out.size < 0 && i < out.nparts; i++) part[i].size = -1;
  out.parts = part;
  return pare_vec_push(x->a, &x->axes, out) ? PARE_OK : pare_nomem(x->c);
}

/* --- the whole --- */

static PareStatus explain(Why *x, const PareModel *m, PareWhy *out) {
  PARE_TRY(pare_untie(x->c, m->graph));
  for (int salt = 0; salt < 2; salt++) PARE_TRY(pare_probe_dims(x->c, x->work, m->graph, salt, &x->probe[salt]));
  PARE_TRY(find_tensors(x, &out->what));
  PARE_TRY(pare_trace_dims(x->c, x->work, x->probe[0], &x->d));
  PARE_TRY(pare_walk_new(x->c, x->work, x->d, &x->walk));
  for (size_t i = 0; i < x->tensors.n; i++)
    for (int axis = 0; axis < x->tensors.at[i]->type.rank; axis++)
      PARE_TRY(explain_axis(x, x->tensors.at[i], axis));
  out->name = copy(x, x->asked);
  out->naxes = x->axes.n;
  out->axes = x->axes.at;
  return x->status;
}

typedef struct WhyCall {
  const char *model, *asked;
  PareWhy **out;
} WhyCall;

static PareStatus why_body(PareCtx *c, void *arg) {
  WhyCall *call = arg;
  PareModel *m = NULL;
  Why x = {.c = c, .asked = call->asked, .a = pare_arena_new(1 << 14), .work = pare_arena_new(1 << 16)};
  PareWhy *out = x.a ? PARE_NEW(x.a, PareWhy) : NULL;
  PareStatus s = out && x.work ? pare_model_load(c, call->model, &m) : pare_nomem(c);
  c->file = call->model;
  if (s == PARE_OK) s = explain(&x, m, out);
  pare_model_free(m);
  pare_arena_free(x.work);
  if (s != PARE_OK) return pare_arena_free(x.a), s;
  out->owner = x.a;
  *call->out = out;
  return PARE_OK;
}

int pare_why(const char *model, const char *asked, const PareHooks *h, PareWhy **out, PareError *e) {
  *out = NULL;
  return pare_call(h, 0, e, why_body, &(WhyCall){model, asked, out});
}

void pare_why_free(PareWhy *w) {
  if (w) pare_arena_free(w->owner); /* w lives in it */
}

/* --- JSON --- */

static json_t *text_or_null(const char *s) { return s ? pare_json_text(s) : json_null(); }

static json_t *chain_json(const PareWhyChain *c) {
  json_t *steps = json_array();
  for (size_t i = 0; i < c->nsteps; i++)
    json_array_append_new(steps, json_pack("{s:o, s:o, s:o, s:i}", "node", text_or_null(c->steps[i].node), "op",
                                           text_or_null(c->steps[i].op), "tensor", pare_json_text(c->steps[i].tensor),
                                           "axis", c->steps[i].axis));
  return json_pack("{s:o, s:i, s:o}", "tensor", pare_json_text(c->tensor), "axis", c->axis, "steps", steps);
}

static json_t *size_json(int64_t size) { return size < 0 ? json_null() : json_integer((json_int_t)size); }

static json_t *part_json(const PareWhyPart *p) {
  json_t *chains = json_array();
  for (size_t i = 0; i < p->nchains; i++) json_array_append_new(chains, chain_json(&p->chains[i]));
  return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "size", size_json(p->size), "dimension",
                   text_or_null(p->dimension), "kind", text_or_null(p->kind), "reason", text_or_null(p->reason), "node",
                   text_or_null(p->node), "op", text_or_null(p->op), "chains", chains);
}

char *pare_why_json(const PareWhy *w) {
  json_t *axes = json_array();
  for (size_t i = 0; i < w->naxes; i++) {
    const PareWhyAxis *a = &w->axes[i];
    json_t *parts = json_array();
    for (size_t k = 0; k < a->nparts; k++) json_array_append_new(parts, part_json(&a->parts[k]));
    json_array_append_new(axes, json_pack("{s:o, s:i, s:o, s:o}", "tensor", pare_json_text(a->tensor), "axis", a->axis,
                                          "size", size_json(a->size), "parts", parts));
  }
  return pare_json_print(json_pack("{s:o, s:s, s:o}", "name", pare_json_text(w->name), "what", w->what, "axes", axes));
}
