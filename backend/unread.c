#include "backend/unread.h"

#include <string.h>

typedef struct Walk {
  PareCtx *c;
  PareArena *a;
  const PareEdits *e;
  PareMap read;   /* by what stays */
  PareMap lost;   /* made by what is gone */
  PareMap missed; /* read by what is gone */
  bool failed;
} Walk;

static const char *text_of(Walk *w, const PareField *f) {
  const char *s = pare_arena_strndup(w->a, (const char *)f->body, f->len);
  w->failed |= !s;
  return s;
}

static void put(Walk *w, PareMap *m, const PareField *f) {
  const char *s = text_of(w, f);
  if (s && *s && !pare_map_put(m, s, 1)) w->failed = true;
}

static bool is_bytes(const PareField *f, uint32_t num) { return f->num == num && f->wire == PARE_WIRE_BYTES; }

static void read_body(Walk *w, const PareField *graph);

static bool reads(const PareNodeEdit *e, int input) {
  if (!e) return true;
  for (size_t i = 0; i < e->renames.n; i++)
    if (e->renames.at[i].input == input) return false;
  return !pare_edit_cuts_input(e, input);
}

/* Is output number `at`, of this name, made neither by the node any more nor by what is put before it? */
static bool loses(const PareNodeEdit *e, int at, const PareField *name) {
  if (!e || !pare_edit_cuts(e->cut_out, at)) return false;
  for (size_t i = 0; i < e->inserts.n; i++)
    if (strlen(e->inserts.at[i].out) == name->len && !memcmp(e->inserts.at[i].out, name->body, name->len)) return false;
  return true;
}

/* Names that a node which stays reads, edited so (NULL: not at all), and those of bodies inside of it. */
static void read_node(Walk *w, const PareField *node, const PareNodeEdit *e) {
  PareCursor c = pare_wire_inside(node);
  PareField f, g;
  int input = 0, output = 0;
  for (size_t i = 0; e && i < e->inserts.n; i++)
    for (int k = 0; k < 2 && e->inserts.at[i].in[k]; k++)
      if (!pare_map_put(&w->read, e->inserts.at[i].in[k], 1)) w->failed = true;
  while (pare_wire_next(&c, &f)) {
    if (is_bytes(&f, PARE_NODE_INPUT)) put(w, reads(e, input++) ? &w->read : &w->missed, &f);
    if (is_bytes(&f, PARE_NODE_OUTPUT) && loses(e, output++, &f)) put(w, &w->lost, &f);
    if (!is_bytes(&f, PARE_NODE_ATTRIBUTE)) continue;
    PareCursor inside = pare_wire_inside(&f);
    while (pare_wire_next(&inside, &g))
      if (is_bytes(&g, PARE_ATTR_G) || is_bytes(&g, PARE_ATTR_GRAPHS)) read_body(w, &g);
  }
}

static void lose_node(Walk *w, const PareField *node) {
  PareCursor c = pare_wire_inside(node);
  PareField f;
  while (pare_wire_next(&c, &f)) {
    if (is_bytes(&f, PARE_NODE_OUTPUT)) put(w, &w->lost, &f);
    if (is_bytes(&f, PARE_NODE_INPUT)) put(w, &w->missed, &f);
  }
}

static void read_names(Walk *w, const PareField *infos) {
  PareCursor c = pare_wire_inside(infos);
  PareField f;
  while (pare_wire_next(&c, &f))
    if (is_bytes(&f, PARE_VALUE_INFO_NAME)) put(w, &w->read, &f);
}

static void read_body(Walk *w, const PareField *graph) {
  PareCursor c = pare_wire_inside(graph);
  PareField f;
  while (pare_wire_next(&c, &f)) {
    if (is_bytes(&f, PARE_GRAPH_NODE)) read_node(w, &f, NULL);
    if (is_bytes(&f, PARE_GRAPH_OUTPUT)) read_names(w, &f);
  }
}

static PareStatus check_lost(Walk *w) {
  for (size_t i = 0; i < w->lost.cap; i++)
    if (w->lost.key[i] && pare_map_get(&w->read, w->lost.key[i]) > 0)
      return pare_error(w->c, PARE_UNSUPPORTED, "'%s' is made by a branch that goes and read by what stays",
                        w->lost.key[i]);
  return PARE_OK;
}

static bool left_over(const Walk *w, const char *name) {
  return pare_map_get(&w->missed, name) > 0 && pare_map_get(&w->read, name) < 0;
}

/* The name in field `num` of a message; NULL where there is none. */
static const char *name_in(Walk *w, const PareField *m, uint32_t num) {
  PareCursor c = pare_wire_inside(m);
  PareField f;
  const char *name = NULL;
  while (pare_wire_next(&c, &f))
    if (is_bytes(&f, num)) name = text_of(w, &f);
  return name;
}

static void note_constants(Walk *w, const PareField *graph, PareUnread *out) {
  PareCursor c = pare_wire_inside(graph);
  PareField f;
  const char *name;
  for (size_t nodes = 0; pare_wire_next(&c, &f);) {
    PareField values;
    bool tensor = is_bytes(&f, PARE_GRAPH_INITIALIZER), sparse = is_bytes(&f, PARE_GRAPH_SPARSE);
    if (sparse && pare_wire_find(&f, PARE_SPARSE_VALUES, &values)) f = values, tensor = true;
    if (tensor && (name = name_in(w, &f, PARE_TENSOR_NAME)) && left_over(w, name))
      w->failed |= !pare_map_put(&out->weights, name, 1);
    if (tensor) continue;
    if (!is_bytes(&f, PARE_GRAPH_NODE)) continue;
    size_t number = nodes++;
    const char *op = name_in(w, &f, PARE_NODE_OP);
    name = name_in(w, &f, PARE_NODE_OUTPUT);
    if (op && name && !strcmp(op, "Constant") && left_over(w, name)) {
      out->constant[number] = true;
      w->failed |= !pare_map_put(&out->names, name, 1);
    }
  }
}

PareStatus pare_unread_find(PareCtx *c, PareArena *a, const PareField *graph, const PareEdits *e, PareUnread *out) {
  Walk w = {.c = c, .a = a, .e = e, .read = {.arena = a}, .lost = {.arena = a}, .missed = {.arena = a}};
  *out = (PareUnread){.names = {.arena = a}, .weights = {.arena = a}, .constant = PARE_NEW_N(a, e->n.nodes + 1, bool)};
  if (!out->constant) return pare_nomem(c);
  PareCursor cur = pare_wire_inside(graph);
  PareField f;
  for (size_t nodes = 0; pare_wire_next(&cur, &f);) {
    if (is_bytes(&f, PARE_GRAPH_NODE)) {
      const PareNodeEdit *edit = e->node[nodes++];
      if (edit && edit->gone) lose_node(&w, &f);
      else read_node(&w, &f, edit);
    }
    if (is_bytes(&f, PARE_GRAPH_OUTPUT)) read_names(&w, &f);
  }
  PARE_TRY(check_lost(&w));
  note_constants(&w, graph, out);
  for (size_t i = 0; i < w.lost.cap; i++)
    if (w.lost.key[i]) w.failed |= !pare_map_put(&out->names, w.lost.key[i], 1);
  return w.failed ? pare_nomem(c) : PARE_OK;
}

bool pare_unread_named(const PareMap *names, const PareField *m, uint32_t num) {
  PareCursor c = pare_wire_inside(m);
  PareField f;
  char name[1024];
  while (pare_wire_next(&c, &f))
    if (is_bytes(&f, num) && f.len < sizeof name) {
      memcpy(name, f.body, f.len);
      name[f.len] = 0;
      return pare_map_get(names, name) > 0;
    }
  return false;
}
