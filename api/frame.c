#include "api/frame.h"

#include "api/costs.h"
#include "base/map.h"
#include "proto/wire.h"

/* Bytes of the whole fields, by number in the file. */
struct PareFrame {
  size_t nnodes, ninitializers;
  size_t *node, *initializer;
  PareMap declared; /* by name */
};

static size_t whole(const PareField *f) { return (size_t)(f->body + f->len - f->tag); }

static PareStatus declare(PareCtx *c, PareFrame *f, PareArena *a, const PareField *info) {
  PareField name;
  if (!pare_wire_find(info, PARE_VALUE_INFO_NAME, &name)) return PARE_OK;
  const char *key = pare_arena_strndup(a, (const char *)name.body, name.len);
  return key && pare_map_put(&f->declared, key, (int64_t)whole(info)) ? PARE_OK : pare_nomem(c);
}

static PareStatus read_graph(PareCtx *c, PareFrame *f, PareArena *a, const PareField *graph) {
  PareCursor at = pare_wire_inside(graph);
  PareField x;
  for (size_t n = 0, i = 0; pare_wire_next(&at, &x);) {
    if (x.num == PARE_GRAPH_NODE && n < f->nnodes) f->node[n++] = whole(&x);
    if (x.num == PARE_GRAPH_INITIALIZER && i < f->ninitializers) f->initializer[i++] = whole(&x);
    if (x.num == PARE_GRAPH_VALUE_INFO && x.wire == PARE_WIRE_BYTES) PARE_TRY(declare(c, f, a, &x));
  }
  return PARE_OK;
}

PareStatus pare_frame_read(PareCtx *c, PareArena *a, const PareModel *m, const PareFrame **out) {
  PareFrame *f = PARE_NEW(a, PareFrame);
  PareField file = {.body = m->file.data, .len = m->file.len}, graph;
  if (!f) return pare_nomem(c);
  *out = f;
  *f = (PareFrame){.nnodes = m->nnodes, .ninitializers = m->ninitializers, .declared = {.arena = a}};
  f->node = PARE_NEW_N(a, f->nnodes + 1, size_t);
  f->initializer = PARE_NEW_N(a, f->ninitializers + 1, size_t);
  if (!f->node || !f->initializer) return pare_nomem(c);
  return pare_wire_find(&file, PARE_MODEL_GRAPH, &graph) ? read_graph(c, f, a, &graph) : PARE_OK;
}

/* --- what goes --- */

/* A node or initializer of the file. */
typedef struct Part {
  bool seen, stays;
  size_t counted; /* bytes that count among the weights */
} Part;

typedef struct Walk {
  const PareFrame *f;
  Part *node, *initializer;
} Walk;

/* What holds the constant in the file; NULL: something else. */
static Part *part_of(const Walk *w, const PareValue *v) {
  const PareOrigin *o = &v->origin;
  if (o->kind == PARE_ORIGIN_INITIALIZER && o->index < w->f->ninitializers) return &w->initializer[o->index];
  return o->kind == PARE_ORIGIN_NODE && !o->body && o->index < w->f->nnodes ? &w->node[o->index] : NULL;
}

static void see(Part *p, bool goes) {
  if (!p) return;
  p->seen = true;
  p->stays |= !goes;
}

static void walk_node(Walk *w, const PareNode *n, bool goes) {
  if (n->onnx_index < w->f->nnodes) see(&w->node[n->onnx_index], goes);
  for (int k = 0; k < n->nin; k++) {
    Part *p = n->in[k] ? part_of(w, n->in[k]) : NULL;
    see(p, goes);
    if (p && pare_costs_weight(n, k)) pare_type_bytes(&n->in[k]->type, &p->counted);
  }
}

/* Numbers may be in another file. */
static double rest_of(size_t n, const size_t *bytes, const Part *part) {
  double sum = 0;
  for (size_t i = 0; i < n; i++)
    if (part[i].seen && !part[i].stays) sum += (double)(bytes[i] - (bytes[i] > part[i].counted ? part[i].counted : 0));
  return sum;
}

static double declarations(const Walk *w, const PareNode *n) {
  double sum = 0;
  for (int o = 0; o < n->nout; o++) {
    int64_t bytes = n->out[o] && n->out[o]->name ? pare_map_get(&w->f->declared, n->out[o]->name) : -1;
    sum += bytes > 0 ? (double)bytes : 0;
  }
  return sum;
}

PareStatus pare_frame_gone(PareCtx *c, const PareFrame *f, const PareGraph *g, const bool *gone, double *bytes) {
  PareMark mark = pare_arena_mark(c->scratch);
  Walk w = {f, PARE_NEW_N(c->scratch, f->nnodes + 1, Part), PARE_NEW_N(c->scratch, f->ninitializers + 1, Part)};
  if (!w.node || !w.initializer) return pare_nomem(c);
  *bytes = 0;
  for (const PareNode *n = g->first; n; n = n->next) {
    walk_node(&w, n, gone[n->id]);
    if (gone[n->id]) *bytes += declarations(&w, n);
  }
  for (size_t i = 0; i < g->outputs.n; i++) see(part_of(&w, g->outputs.at[i]), false);
  *bytes += rest_of(f->nnodes, f->node, w.node) + rest_of(f->ninitializers, f->initializer, w.initializer);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
