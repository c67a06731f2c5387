/* inspect.c - what a model is, what it costs, and what can be pruned of it. */
#include <jansson.h>
#include <string.h>

#include "api/call.h"
#include "api/costs.h"
#include "api/shapes.h"
#include "backend/fingerprint_json.h"
#include "backend/json.h"
#include "frontend/model.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/untie.h"

/* What pare_inspect hands out: the public part first. */
typedef struct Inspection {
  PareInspection public;
  PareFingerprint fingerprint;
} Inspection;

typedef struct Inspect {
  PareCtx *c;
  PareArena *a; /* the result's */
  const char *shape;
  unsigned kinds; /* classes to show beside the usual ones */
  PareModel *m;
  PareGraph *probe[2]; /* at two choices of sizes: what differs is dynamic */
  PareInspection *i;
  PareFingerprint *fingerprint;
} Inspect;

static const char *copy(Inspect *x, const char *s) { return pare_arena_strdup(x->a, s ? s : ""); }

/* --- inputs and outputs --- */

/* The name of a dynamic axis: its own, or that of the input axis with whose size
 * it changes (declared outputs can be stale). NULL where there is none. */
static const char *axis_name(const Inspect *x, const PareValue *const v[2], const PareValue *named, int axis) {
  const PareGraph *g = x->m->graph;
  if (named->role == PARE_INPUT) return named->dim_name ? named->dim_name[axis] : NULL;
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *in = g->inputs.at[i], *a = x->probe[0]->inputs.at[i], *b = x->probe[1]->inputs.at[i];
    for (int d = 0; in->dim_name && d < in->type.rank; d++)
      if (in->dim_name[d] && a->type.dim[d] == v[0]->type.dim[axis] && b->type.dim[d] == v[1]->type.dim[axis])
        return in->dim_name[d];
  }
  return NULL;
}

static PareStatus describe(Inspect *x, const PareValue *const v[2], const PareValue *named, PareTensorInfo *out) {
  int rank = v[0]->type.rank;
  int64_t *dim = PARE_NEW_N(x->a, rank, int64_t);
  const char **name = PARE_NEW_N(x->a, rank, const char *);
  *out = (PareTensorInfo){copy(x, named->name), pare_dtype_name(v[0]->type.dtype), rank, dim, name};
  if (!dim || !name || !out->name) return pare_nomem(x->c);
  for (int d = 0; d < rank; d++) {
    bool fixed = v[1]->type.rank == rank && v[0]->type.dim[d] == v[1]->type.dim[d];
    bool declared = named->role == PARE_INPUT && named->type.dim[d] < 0;
    dim[d] = fixed && !declared ? v[0]->type.dim[d] : -1;
    const char *called = dim[d] < 0 ? axis_name(x, v, named, d) : NULL;
    if (called && !(name[d] = copy(x, called))) return pare_nomem(x->c);
  }
  return PARE_OK;
}

static PareStatus describe_ends(Inspect *x) {
  const PareGraph *g = x->m->graph;
  PareTensorInfo *in = PARE_NEW_N(x->a, g->inputs.n, PareTensorInfo);
  PareTensorInfo *out = PARE_NEW_N(x->a, g->outputs.n, PareTensorInfo);
  if (!in || !out) return pare_nomem(x->c);
  for (size_t k = 0; k < g->inputs.n; k++) {
    const PareValue *v[2] = {x->probe[0]->inputs.at[k], x->probe[1]->inputs.at[k]};
    PARE_TRY(describe(x, v, g->inputs.at[k], &in[k]));
  }
  for (size_t k = 0; k < g->outputs.n; k++) {
    const PareValue *v[2] = {x->probe[0]->outputs.at[k], x->probe[1]->outputs.at[k]};
    PARE_TRY(describe(x, v, g->outputs.at[k], &out[k]));
  }
  x->i->ninputs = g->inputs.n;
  x->i->noutputs = g->outputs.n;
  x->i->inputs = in;
  x->i->outputs = out;
  return PARE_OK;
}

/* --- groups --- */

static bool member_seen(const PareDim *d, size_t k) {
  for (size_t j = 0; j < k; j++)
    if (d->members.at[j].weight == d->members.at[k].weight && d->members.at[j].axis == d->members.at[k].axis) return true;
  return false;
}

static PareStatus describe_group(Inspect *x, const PareDim *d, PareGroupInfo *out) {
  const char **member = PARE_NEW_N(x->a, d->members.n + d->branches.n + 1, const char *);
  *out = (PareGroupInfo){.name = copy(x, d->name), .kind = pare_kind_name(d->kind), .count = d->count,
                         .params = d->params, .members = member, .exact = d->exact};
  if (!member || !out->name) return pare_nomem(x->c);
  for (size_t k = 0; k < d->branches.n; k++)
    if (!(member[out->nmembers++] = copy(x, d->branches.at[k].sum.node->name))) return pare_nomem(x->c);
  for (size_t k = 0; k < d->members.n; k++) {
    const PareMember *m = &d->members.at[k];
    if (member_seen(d, k)) continue;
    member[out->nmembers] = pare_arena_printf(x->a, "%s:%d", m->weight->name, m->axis);
    if (!member[out->nmembers++]) return pare_nomem(x->c);
  }
  return PARE_OK;
}

static PareStatus describe_dims(Inspect *x, const PareDims *d) {
  PareGroupInfo *group = PARE_NEW_N(x->a, d->dims.n, PareGroupInfo);
  PareFrozenInfo *frozen = PARE_NEW_N(x->a, d->frozen.n, PareFrozenInfo);
  if (!group || !frozen) return pare_nomem(x->c);
  for (size_t k = 0; k < d->dims.n; k++) PARE_TRY(describe_group(x, &d->dims.at[k], &group[k]));
  for (size_t k = 0; k < d->frozen.n; k++) {
    const PareFrozen *f = &d->frozen.at[k];
    frozen[k] = (PareFrozenInfo){copy(x, f->name), copy(x, f->reason), f->count};
    if (!frozen[k].name || !frozen[k].reason) return pare_nomem(x->c);
  }
  x->i->groups = group;
  x->i->ngroups = d->dims.n;
  x->i->frozen = frozen;
  x->i->nfrozen = d->frozen.n;
  return PARE_OK;
}

/* --- the prunable share --- */

/* Of the classes that compress prunes by default. */
static PareStatus default_kinds(PareCtx *c, bool kind[PARE_KIND_COUNT]) {
  PareCompressOptions o;
  PareError e;
  if (pare_options_init(&o, &e)) return pare_nomem(c);
  for (const char *at = o.prune; *at;) {
    size_t n = strcspn(at, ",");
    PareKind k;
    if (pare_kind_find(at, n, &k)) kind[k] = true;
    at += n + (at[n] == ',');
  }
  pare_options_free(&o);
  return PARE_OK;
}

/* Is some factor or segment of the axis at this position a group of such a class? */
typedef struct Free {
  const PareDims *d;
  const bool *kind;
  PareAxis *axis;
  int64_t *position; /* [size] of one leaf */
  bool *free;        /* [size] */
} Free;

static void mark_free(PareAxis *leaf, void *arg) {
  Free *f = arg;
  if (leaf->dim < 0 || !f->kind[f->d->dims.at[leaf->dim].kind]) return;
  pare_axis_positions(f->axis, leaf, f->position);
  for (int64_t i = 0, n = f->axis->size; i < n; i++) f->free[i] |= f->position[i] >= 0;
}

/* Elements of a weight, as node n reads it, that no group holds. */
static PareStatus count_held(Inspect *x, Free *f, const PareNode *n, int k, int64_t *held) {
  const PareType *type = &n->in[k]->type;
  *held = 1;
  for (int d = 0; d < type->rank; d++) {
    PareMark mark = pare_arena_mark(x->c->scratch);
    f->axis = pare_axis_in(f->d->tracer, n, k, d);
    f->position = PARE_NEW_N(x->c->scratch, type->dim[d] + 1, int64_t);
    f->free = PARE_NEW_N(x->c->scratch, type->dim[d] + 1, bool);
    if (!f->position || !f->free) return pare_nomem(x->c);
    pare_axis_leaves(f->axis, mark_free, f);
    int64_t fixed = 0;
    for (int64_t i = 0; i < type->dim[d]; i++) fixed += !f->free[i];
    *held *= fixed;
    pare_arena_rewind(x->c->scratch, mark);
  }
  return PARE_OK;
}

/* A weight that several nodes read counts once, by the reader with the most in groups. */
static PareStatus count_prunable(Inspect *x, const PareDims *d) {
  bool kind[PARE_KIND_COUNT] = {false};
  PARE_TRY(default_kinds(x->c, kind));
  Free f = {.d = d, .kind = kind};
  const PareGraph *g = d->tracer->g;
  int64_t *most = PARE_NEW_N(x->c->scratch, g->values.n + 1, int64_t);
  if (!most) return pare_nomem(x->c);
  for (const PareNode *n = g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) {
      int64_t held, *at = n->in[k] ? &most[n->in[k]->id] : NULL;
      if (!at || n->in[k]->role != PARE_CONST || !pare_is_weight(n, k)) continue;
      PARE_TRY(count_held(x, &f, n, k, &held));
      int64_t in_groups = pare_type_count(&n->in[k]->type) - held;
      if (in_groups <= *at) continue;
      x->i->prunable_params += in_groups - *at;
      *at = in_groups;
    }
  return PARE_OK;
}

/* --- the exporter --- */

/* Names of the table are literals; what comes from the file is copied. */
static PareStatus describe_exporter(Inspect *x) {
  const PareFingerprint *from = &x->m->fingerprint;
  PareFingerprint *f = x->fingerprint;
  const char **rewriter = PARE_NEW_N(x->a, from->nrewriters + 1, const char *);
  PareForm *form = PARE_NEW_N(x->a, from->nforms + 1, PareForm);
  const char *text = from->exporter ? from->exporter : "";
  *f = *from;
  f->producer = copy(x, from->producer);
  f->version = copy(x, from->version);
  if (!rewriter || !form || !f->producer || !f->version) return pare_nomem(x->c);
  memcpy(form, from->forms, from->nforms * sizeof *form);
  for (size_t k = 0; k < from->nrewriters; k++) {
    rewriter[k] = from->rewriters[k];
    const char *link = k ? ", " : *text ? ", rewritten by " : "rewritten by ";
    if (!(text = pare_arena_printf(x->a, "%s%s%s", text, link, rewriter[k]))) return pare_nomem(x->c);
  }
  f->rewriters = rewriter;
  f->forms = form;
  x->i->exporter = text;
  return PARE_OK;
}

/* --- what is left out --- */

static PareStatus describe_opaque(Inspect *x) {
  PareOpaqueInfo *at = PARE_NEW_N(x->a, x->m->opaque.n + 1, PareOpaqueInfo);
  if (!at) return pare_nomem(x->c);
  for (size_t k = 0; k < x->m->opaque.n; k++) {
    const PareOpaque *o = &x->m->opaque.at[k];
    at[k] = (PareOpaqueInfo){copy(x, o->node), copy(x, o->op), copy(x, o->domain)};
    if (!at[k].node || !at[k].op || !at[k].domain) return pare_nomem(x->c);
  }
  x->i->opaque = at;
  x->i->nopaque = x->m->opaque.n;
  x->i->left_out = (int64_t)x->m->nleft_out;
  return PARE_OK;
}

/* --- the whole --- */

static PareStatus look(Inspect *x, PareArena *work) {
  PareCtx *c = x->c;
  PareInspection *i = x->i;
  PareWeights weights;
  PareGraph *bound;
  PareDims *dims;
  PARE_TRY(pare_shapes_tell(c, x->m->graph, x->shape));
  PARE_TRY(pare_shapes_bind(c, work, x->m->graph, x->shape, 1, 1, &bound));
  PARE_TRY(pare_untie(c, x->m->graph));
  for (int salt = 0; salt < 2; salt++) PARE_TRY(pare_probe_dims(c, work, x->m->graph, salt, &x->probe[salt]));
  PARE_TRY(pare_trace_classes(c, work, x->probe[0], x->kinds, &dims));
  PARE_TRY(pare_graph_weights(c, x->m->graph, &weights));
  i->path = copy(x, x->m->path);
  i->producer = copy(x, x->m->producer);
  if (!i->path || !i->producer) return pare_nomem(c);
  i->ir_version = x->m->ir_version;
  i->opset = x->m->graph->opset;
  i->params = weights.params;
  i->macs = pare_graph_macs(bound);
  i->axes_at = pare_shapes_other(x->m->graph, bound);
  i->bytes = (int64_t)pare_model_bytes(x->m);
  i->nodes = (int64_t)x->m->nnodes;
  PARE_TRY(describe_exporter(x));
  PARE_TRY(describe_opaque(x));
  PARE_TRY(describe_ends(x));
  PARE_TRY(count_prunable(x, dims));
  return describe_dims(x, dims);
}

typedef struct InspectCall {
  const char *model, *shape, *prune;
  PareInspection **out;
} InspectCall;

static PareStatus inspect_body(PareCtx *c, void *arg) {
  InspectCall *call = arg;
  Inspect x = {.c = c, .shape = call->shape, .a = pare_arena_new(1 << 14)};
  PareArena *work = pare_arena_new(1 << 16);
  Inspection *result = x.a ? PARE_NEW(x.a, Inspection) : NULL;
  if (result) x.i = &result->public, x.fingerprint = &result->fingerprint;
  PareStatus s = result && work ? PARE_OK : pare_nomem(c);
  if (s == PARE_OK && call->prune && !pare_kinds_find(call->prune, &x.kinds))
    s = pare_error(c, PARE_USAGE, "--prune knows no such class: '%s'", call->prune);
  if (s == PARE_OK) s = pare_model_load(c, call->model, &x.m);
  c->file = call->model;
  if (s == PARE_OK) s = look(&x, work);
  pare_model_free(x.m);
  pare_arena_free(work);
  if (s != PARE_OK) return pare_arena_free(x.a), s;
  x.i->owner = x.a;
  *call->out = x.i;
  return PARE_OK;
}

int pare_inspect(const char *model, const char *shape, const char *prune, const PareHooks *h, PareInspection **out,
                 PareError *e) {
  *out = NULL;
  return pare_call(h, 0, e, inspect_body, &(InspectCall){model, shape, prune, out});
}

void pare_inspection_free(PareInspection *i) {
  if (i) pare_arena_free(i->owner); /* i lives in it */
}

/* --- JSON --- */

/* A dynamic axis is its name, or null. */
static json_t *tensor_json(const PareTensorInfo *t) {
  json_t *shape = json_array();
  for (int d = 0; d < t->rank; d++) {
    bool dynamic = t->dim[d] < 0;
    json_array_append_new(shape, !dynamic           ? json_integer(t->dim[d])
                                 : t->dim_name[d] ? pare_json_text(t->dim_name[d])
                                                  : json_null());
  }
  return json_pack("{s:o, s:s, s:o}", "name", pare_json_text(t->name), "dtype", t->dtype, "shape", shape);
}

static json_t *tensors_json(size_t n, const PareTensorInfo *t) {
  json_t *list = json_array();
  for (size_t k = 0; k < n; k++) json_array_append_new(list, tensor_json(&t[k]));
  return list;
}

static json_t *group_json(const PareGroupInfo *g) {
  json_t *members = json_array();
  for (size_t k = 0; k < g->nmembers; k++) json_array_append_new(members, pare_json_text(g->members[k]));
  return json_pack("{s:o, s:s, s:I, s:I, s:b, s:o}", "name", pare_json_text(g->name), "kind", g->kind, "count",
                   (json_int_t)g->count, "params", (json_int_t)g->params, "exact", g->exact, "members", members);
}

static json_t *opaque_json(const PareInspection *i) {
  json_t *list = json_array();
  for (size_t k = 0; k < i->nopaque; k++)
    json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "node", pare_json_text(i->opaque[k].node), "op",
                                          pare_json_text(i->opaque[k].op), "domain", pare_json_text(i->opaque[k].domain)));
  return list;
}

static json_t *inspection_json(const PareInspection *i) {
  const PareFingerprint *f = &((const Inspection *)(const void *)i)->fingerprint;
  json_t *groups = json_array(), *frozen = json_array();
  for (size_t k = 0; k < i->ngroups; k++) json_array_append_new(groups, group_json(&i->groups[k]));
  for (size_t k = 0; k < i->nfrozen; k++)
    json_array_append_new(frozen, json_pack("{s:o, s:I, s:o}", "name", pare_json_text(i->frozen[k].name), "count",
                                            (json_int_t)i->frozen[k].count, "reason",
                                            pare_json_text(i->frozen[k].reason)));
  return json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o, s:o, s:o, s:o}", "path", pare_json_text(i->path),
                   "opset", (json_int_t)i->opset, "ir_version", (json_int_t)i->ir_version, "producer",
                   pare_json_text(i->producer), "exporter", pare_fingerprint_json(f), "params", (json_int_t)i->params,
                   "prunable_params", (json_int_t)i->prunable_params, "macs", (json_int_t)i->macs, "bytes",
                   (json_int_t)i->bytes, "nodes", (json_int_t)i->nodes, "opaque", opaque_json(i), "left_out",
                   (json_int_t)i->left_out, "inputs", tensors_json(i->ninputs, i->inputs),
                   "outputs", tensors_json(i->noutputs, i->outputs), "groups", groups, "frozen", frozen);
}

char *pare_inspection_json(const PareInspection *i) { return pare_json_print(inspection_json(i)); }
