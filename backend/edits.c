/* edits.c - compares two graphs constant by constant, reader by reader. */
#include "backend/edits.h"

#include <string.h>

#include "backend/sums.h"
#include "base/map.h"
#include "ir/slices.h"

typedef struct Reading {
  const PareValue *was, *is;
  const PareNode *node;
  int input;
} Reading;

typedef struct Diff {
  PareCtx *c;
  PareArena *a;
  const PareGraph *before;
  PareEdits *out;
  PareNode **is; /* the nodes that are left, by id */
  PARE_VEC(const char *) results; /* names of results that are new */
  PARE_VEC(Reading) readings;
  uint32_t *first; /* readings of constant id: indices chained through next */
  uint32_t *next;
} Diff;

static bool same(const PareValue *a, const PareValue *b) {
  size_t bytes;
  if (a == b || !pare_type_equal(&a->type, &b->type)) return a == b;
  if (a->slices || b->slices) return a->slices && b->slices && pare_slices_equal(a->slices, b->slices);
  return a->data == b->data || (pare_type_bytes(&a->type, &bytes) && bytes && !memcmp(a->data, b->data, bytes));
}

/* Of a node of the graph (body 0) or of a function's body; NULL when memory is out. */
static PareNodeEdit *node_edit(Diff *d, uint32_t body, uint32_t index) {
  PareNodeEdit ***list = body ? &d->out->body[body - 1] : &d->out->node;
  if (!*list) *list = PARE_NEW_N(d->a, d->before->bodies.at[body - 1].nnodes + 1, PareNodeEdit *);
  if (*list && !(*list)[index]) (*list)[index] = PARE_NEW(d->a, PareNodeEdit);
  return *list ? (*list)[index] : NULL;
}

/* A list whose numbers are equal. */
static bool all_equal(const PareValue *v) {
  if (pare_type_count(&v->type) < 2) return false;
  for (int64_t i = 1; i < pare_type_count(&v->type); i++)
    if (pare_data_int(v, i) != pare_data_int(v, 0)) return false;
  return true;
}

/* What stands nowhere in the file: numbers inside an expansion. */
static PareStatus refuse(Diff *d, const Reading *r) {
  return pare_fail(d->c, r->node, PARE_UNSUPPORTED,
                   "'%s' would have to change, and the op has no input or attribute for it", r->was->name);
}

static PareStatus change_in_place(Diff *d, const PareValue *was, const PareValue *is) {
  PareNodeEdit *e = NULL;
  if (was->origin.kind == PARE_ORIGIN_NONE) return refuse(d, &d->readings.at[d->first[was->id] - 1]);
  if (was->origin.kind == PARE_ORIGIN_INITIALIZER) {
    d->out->initializer[was->origin.index] = is;
    return PARE_OK;
  }
  if (was->origin.kind == PARE_ORIGIN_SPARSE) {
    d->out->sparse[was->origin.index] = is;
    return PARE_OK;
  }
  if (was->origin.kind == PARE_ORIGIN_ABSENT && all_equal(is)) return PARE_OK;
  if (!(e = node_edit(d, was->origin.body, was->origin.index))) return pare_nomem(d->c);
  if (was->origin.kind == PARE_ORIGIN_NODE) e->constant = is;
  else if (!pare_vec_push(d->a, &e->attrs, is)) return pare_nomem(d->c);
  return PARE_OK;
}

static bool taken(const Diff *d, const char *name) {
  for (size_t i = 0; i < d->out->added.n; i++)
    if (!strcmp(d->out->added.at[i].name, name)) return true;
  for (size_t i = 0; i < d->results.n; i++)
    if (!strcmp(d->results.at[i], name)) return true;
  return pare_graph_find(d->before, name) != NULL;
}

/* The name under which `is` is added, once for all its readers. */
static const char *copy_name(Diff *d, const PareValue *was, const PareValue *is) {
  for (size_t i = 0; i < d->out->added.n; i++)
    if (same(d->out->added.at[i].value, is)) return d->out->added.at[i].name;
  PareNewInitializer add = {.value = is};
  for (int i = 1; !add.name || taken(d, add.name); i++)
    if (!(add.name = pare_arena_printf(d->a, "%s.pare%d", was->name, i))) return NULL;
  return pare_vec_push(d->a, &d->out->added, add) ? add.name : NULL;
}

static PareStatus rename_reading(Diff *d, const Reading *r) {
  if (r->node->onnx_input < 0) return refuse(d, r);
  PareRename x = {r->node->onnx_input ? r->node->onnx_input - 1 : r->input, copy_name(d, r->was, r->is)};
  PareNodeEdit *e = node_edit(d, 0, r->node->onnx_index);
  return x.name && e && pare_vec_push(d->a, &e->renames, x) ? PARE_OK : pare_nomem(d->c);
}

/* One constant: `in_place` is what its own place will hold; other readings get copies. */
static PareStatus settle(Diff *d, const PareValue *was) {
  const PareValue *in_place = NULL;
  bool changed = false;
  for (uint32_t i = d->first[was->id]; i; i = d->next[i - 1]) {
    const Reading *r = &d->readings.at[i - 1];
    if (!same(r->was, r->is)) changed = true;
    else in_place = was;
    if (!in_place) in_place = r->is;
  }
  if (!changed) return PARE_OK;
  if (was->pinned || pare_is_output(d->before, was)) in_place = was;
  if (!same(in_place, was)) PARE_TRY(change_in_place(d, was, in_place));
  for (uint32_t i = d->first[was->id]; i; i = d->next[i - 1]) {
    const Reading *r = &d->readings.at[i - 1];
    if (!same(r->is, in_place)) PARE_TRY(rename_reading(d, r));
  }
  return PARE_OK;
}

/* Where several constants stand for one attribute of the file, all of them must change alike. */
static PareStatus check_attribute(Diff *d, const Reading *r) {
  const PareOrigin *o = &r->was->origin;
  PareNodeEdit **list = o->body ? d->out->body[o->body - 1] : d->out->node;
  bool attribute = o->kind == PARE_ORIGIN_ATTRIBUTE || o->kind == PARE_ORIGIN_ABSENT;
  const PareNodeEdit *e = attribute && list ? list[o->index] : NULL;
  for (size_t i = 0; e && i < e->attrs.n; i++)
    if (!strcmp(e->attrs.at[i]->origin.attr, o->attr) && !same(e->attrs.at[i], r->is)) return refuse(d, r);
  return PARE_OK;
}

/* A Split whose parts were equal because nothing said otherwise is told their sizes: by an input, before opset 13 by an
 * attribute. */
static PareStatus tell_sizes(Diff *d, const PareNode *was, const PareNode *is) {
  if (is->nin <= was->nin) return PARE_OK;
  PareNodeEdit *e = node_edit(d, 0, was->onnx_index);
  if (!e) return pare_nomem(d->c);
  if (d->before->opset < 13) {
    is->in[1]->origin = (PareOrigin){PARE_ORIGIN_ABSENT, was->onnx_index, "split", 0};
    return pare_vec_push(d->a, &e->attrs, (const PareValue *)is->in[1]) ? PARE_OK : pare_nomem(d->c);
  }
  PareRename x = {1, copy_name(d, is->in[1], is->in[1])};
  e->without = "num_outputs";
  return x.name && pare_vec_push(d->a, &e->renames, x) ? PARE_OK : pare_nomem(d->c);
}

/* A Concat of copies reads fewer of them. */
static PareStatus leave_copies(Diff *d, const PareNode *was, const PareNode *is) {
  if (is->nin >= was->nin) return PARE_OK;
  PareNodeEdit *e = node_edit(d, 0, was->onnx_index);
  if (!e) return pare_nomem(d->c);
  return e->copies = is->nin, PARE_OK;
}

/* The one attribute that the IR keeps as such and a cut changes. */
static PareStatus change_group(Diff *d, const PareNode *was, const PareNode *is) {
  int64_t group = pare_attr_get(&is->attr, group, 1);
  if (group == pare_attr_get(&was->attr, group, 1)) return PARE_OK;
  PareNodeEdit *e = node_edit(d, 0, was->onnx_index);
  PareValue *v = PARE_NEW(d->a, PareValue);
  int64_t *data = PARE_NEW(d->a, int64_t);
  if (!e || !v || !data) return pare_nomem(d->c);
  *data = group;
  *v = (PareValue){.name = "group", .type = {PARE_I64, 1, {1}}, .data = data};
  v->origin = (PareOrigin){PARE_ORIGIN_ATTRIBUTE, was->onnx_index, "group", 0};
  return pare_vec_push(d->a, &e->attrs, (const PareValue *)v) ? PARE_OK : pare_nomem(d->c);
}

/* --- Gathers that the file does not have --- */

static const char *new_result(Diff *d, const char *name) {
  const char *s = NULL;
  for (int i = 1; !s || taken(d, s); i++)
    if (!(s = pare_arena_printf(d->a, "%s.pare%d", name, i))) return NULL;
  return pare_vec_push(d->a, &d->results, s) ? s : NULL;
}

/* Its one reader, which stands behind it. */
static const PareNode *reader_of(const PareNode *gather, int *input) {
  for (const PareNode *n = gather->next; n; n = n->next)
    for (*input = 0; *input < n->nin; ++*input)
      if (n->in[*input] == gather->out[0]) return n;
  return NULL;
}

static PareStatus insert_gather(Diff *d, const PareNode *was, const PareNode *is) {
  int input;
  const PareNode *reader = reader_of(was, &input);
  if (!reader || same(was->in[1], is->in[1])) return PARE_OK;
  PareNodeEdit *e = node_edit(d, 0, reader->onnx_index);
  PareInsert x = {.op = "Gather", .in = {was->in[0]->name, copy_name(d, was->in[1], is->in[1])}, .axis = &is->attr.axis};
  if (!e || !x.in[1] || !(x.out = x.name = new_result(d, was->name))) return pare_nomem(d->c);
  PareRename r = {input, x.name};
  return pare_vec_push(d->a, &e->inserts, x) && pare_vec_push(d->a, &e->renames, r) ? PARE_OK : pare_nomem(d->c);
}

/* A function that is cloned has another name, so where it is called from is cloned too. */
static PareStatus rename_calls(Diff *d) {
  for (size_t i = d->before->bodies.n; i-- > 0;) {
    const PareBody *b = &d->before->bodies.at[i];
    if (!d->out->body[i]) continue;
    PareNodeEdit *e = node_edit(d, b->parent, b->node);
    if (!e) return pare_nomem(d->c);
    e->callee = b->clone;
  }
  return PARE_OK;
}

/* --- nodes that go, and what others become --- */

/* The node is gone; of one that was expanded into several, all are, or the sum is left. */
static PareStatus remove_node(Diff *d, const PareNode *n) {
  const PareNode *sum = n->onnx_index == PARE_NO_INDEX ? NULL : pare_sum_of(n);
  if (n->onnx_index == PARE_NO_INDEX || (sum && d->is[sum->id])) return PARE_OK; /* stood nowhere in the file */
  PareNodeEdit *e = node_edit(d, 0, n->onnx_index);
  if (!e) return pare_nomem(d->c);
  return e->gone = d->out->removes = true, PARE_OK;
}

/* A sum that has become the Identity of its stream, which is its one input now. */
static PareStatus change_op(Diff *d, const PareNode *was, const PareNode *is) {
  if (was->onnx_input == PARE_IN_SUM) return PARE_OK; /* change_sums */
  PareNodeEdit *e = node_edit(d, 0, was->onnx_index);
  if (!e) return pare_nomem(d->c);
  e->op = "Identity";
  e->cut_in = ~(1u << (is->in[0]->id != was->in[0]->id));
  return PARE_OK;
}

/* Ops of a sum and a norm, once it is known what constants are called. */
static PareStatus change_sums(Diff *d) {
  for (const PareNode *n = d->before->first; n; n = n->next) {
    if (pare_sum_of(n) != n || !pare_sum_changes(n, d->is)) continue;
    PareNodeEdit *e = node_edit(d, 0, n->onnx_index);
    const char *fresh = new_result(d, n->name);
    if (!e || !fresh) return pare_nomem(d->c);
    PARE_TRY(pare_sum_edit(d->c, d->a, d->before, n, d->is, fresh, e));
    d->out->removes = true;
  }
  return PARE_OK;
}

PareStatus pare_edits_find(PareCtx *c, PareArena *a, const PareGraph *before, const PareGraph *after,
                           PareFileCounts count, PareEdits *out) {
  *out = (PareEdits){.n = count};
  out->initializer = PARE_NEW_N(a, count.initializers + 1, const PareValue *);
  out->sparse = PARE_NEW_N(a, count.sparse + 1, const PareValue *);
  out->node = PARE_NEW_N(a, count.nodes + 1, PareNodeEdit *);
  out->body = PARE_NEW_N(a, before->bodies.n + 1, PareNodeEdit **);
  Diff d = {.c = c, .a = a, .before = before, .out = out};
  d.first = PARE_NEW_N(a, before->values.n + 1, uint32_t);
  d.is = PARE_NEW_N(a, (before->nnodes > after->nnodes ? before : after)->nnodes + 1, PareNode *);
  if (!out->initializer || !out->sparse || !out->node || !out->body || !d.first || !d.is) return pare_nomem(c);
  for (PareNode *left = after->first; left; left = left->next) d.is[left->id] = left;
  const PareNode *n = after->first;
  for (const PareNode *b = before->first; b; b = b->next) {
    if (!n || n->id != b->id) {
      PARE_TRY(remove_node(&d, b));
      continue;
    }
    const PareNode *is = n;
    n = n->next;
    if (b->onnx_index == PARE_NO_INDEX) {
      PARE_TRY(insert_gather(&d, b, is));
      continue;
    }
    if (is->op != b->op) {
      PARE_TRY(change_op(&d, b, is));
      continue;
    }
    PARE_TRY(change_group(&d, b, is));
    PARE_TRY(tell_sizes(&d, b, is));
    PARE_TRY(leave_copies(&d, b, is));
    for (int k = 0; k < b->nin && k < is->nin; k++) {
      Reading r = {b->in[k], is->in[k], b, k};
      if (!b->in[k]) continue;
      if (b->in[k]->role == PARE_CONST && !pare_vec_push(a, &d.readings, r)) return pare_nomem(c);
      if (b->in[k]->role != PARE_CONST && is->in[k]->role == PARE_CONST) PARE_TRY(rename_reading(&d, &r));
    }
  }
  if (!(d.next = PARE_NEW_N(a, d.readings.n + 1, uint32_t))) return pare_nomem(c);
  for (size_t i = d.readings.n; i-- > 0;) {
    uint32_t id = d.readings.at[i].was->id;
    d.next[i] = d.first[id];
    d.first[id] = (uint32_t)i + 1;
  }
  for (size_t i = 0; i < before->values.n; i++)
    if (before->values.at[i]->role == PARE_CONST) PARE_TRY(settle(&d, before->values.at[i]));
  for (size_t i = 0; i < d.readings.n; i++) PARE_TRY(check_attribute(&d, &d.readings.at[i]));
  PARE_TRY(change_sums(&d));
  return rename_calls(&d);
}
