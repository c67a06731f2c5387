/* diff.c - what changed between two model files, field by field: things are
 * matched by name, and what is matched is compared. */
#include <inttypes.h>
#include <math.h>
#include <onnx.pb-c.h>
#include <string.h>

#include "api/call.h"
#include "base/map.h"
#include "frontend/sparse.h"
#include "frontend/tensor.h"
#include "runtime/metrics.h"

typedef struct Side {
  PareModel *m;
  const Onnx__ModelProto *p;
} Side;

typedef struct Diff {
  PareCtx *c;
  PareArena *a; /* the result's */
  const char *path[2], *data;
  const PareHooks *h;
  Side side[2];
  PARE_VEC(PareChange) changes;
  PareDiff *out;
} Diff;

static const char *text(const char *s) { return s ? s : ""; }

/* --- the list of changes --- */

static PareStatus add(Diff *d, const char *what, const char *name, const char *before, const char *after) {
  PareChange x = {what, pare_arena_strdup(d->a, text(name)), before ? pare_arena_strdup(d->a, before) : NULL,
                  after ? pare_arena_strdup(d->a, after) : NULL};
  bool ok = x.name && (x.before || !before) && (x.after || !after) && pare_vec_push(d->a, &d->changes, x);
  return ok ? PARE_OK : pare_nomem(d->c);
}

static PareStatus add_if_other(Diff *d, const char *what, const char *name, const char *before, const char *after) {
  if (before && after && !strcmp(before, after)) return PARE_OK;
  return before || after ? add(d, what, name, before, after) : PARE_OK;
}

/* --- lists of things with names --- */

/* A list of one side: its length, and the name and description of the i-th. The description is in c->scratch. */
typedef struct List {
  size_t (*count)(const Side *s);
  const char *(*name)(Diff *d, const Side *s, size_t i);
  const char *(*describe)(Diff *d, const Side *s, size_t i);
  PareStatus (*compare)(Diff *d, size_t i, size_t j, bool *told); /* of a pair, first; may be NULL */
} List;

static PareStatus index_names(Diff *d, const List *l, const Side *s, PareMap *m) {
  for (size_t i = 0; i < l->count(s); i++) {
    const char *name = l->name(d, s, i);
    if (!name || (pare_map_get(m, name) < 0 && !pare_map_put(m, name, (int64_t)i))) return pare_nomem(d->c);
  }
  return PARE_OK;
}

static PareStatus compare_pair(Diff *d, const char *what, const List *l, size_t i, size_t j) {
  bool told = false;
  if (l->compare) PARE_TRY(l->compare(d, i, j, &told));
  if (told) return PARE_OK;
  const char *before = l->describe(d, &d->side[0], i), *after = l->describe(d, &d->side[1], j);
  return before && after ? add_if_other(d, what, l->name(d, &d->side[0], i), before, after) : pare_nomem(d->c);
}

static PareStatus compare_lists(Diff *d, const char *what, const List *l) {
  PareMark mark = pare_arena_mark(d->c->scratch);
  PareMap of[2] = {{.arena = d->c->scratch}, {.arena = d->c->scratch}};
  for (int k = 0; k < 2; k++) PARE_TRY(index_names(d, l, &d->side[k], &of[k]));
  for (int k = 0; k < 2; k++)
    for (size_t i = 0; i < l->count(&d->side[k]); i++) {
      const char *name = l->name(d, &d->side[k], i);
      if (pare_map_get(&of[k], name) != (int64_t)i) continue; /* a second of this name */
      int64_t j = pare_map_get(&of[1 - k], name);
      if (j >= 0 && k == 0) PARE_TRY(compare_pair(d, what, l, i, (size_t)j));
      if (j >= 0) continue;
      const char *is = l->describe(d, &d->side[k], i);
      if (!is) return pare_nomem(d->c);
      PARE_TRY(add(d, what, name, k ? NULL : is, k ? is : NULL));
    }
  pare_arena_rewind(d->c->scratch, mark);
  return PARE_OK;
}

/* --- opsets, metadata, functions --- */

static size_t opset_count(const Side *s) { return s->p->n_opset_import; }
static const char *opset_name(Diff *d, const Side *s, size_t i) {
  (void)d;
  const char *domain = text(s->p->opset_import[i]->domain);
  return *domain ? domain : "ai.onnx";
}
static const char *opset_text(Diff *d, const Side *s, size_t i) {
  return pare_arena_printf(d->c->scratch, "%" PRId64, s->p->opset_import[i]->version);
}

static size_t metadata_count(const Side *s) { return s->p->n_metadata_props; }
static const char *metadata_name(Diff *d, const Side *s, size_t i) {
  (void)d;
  return text(s->p->metadata_props[i]->key);
}
static const char *metadata_text(Diff *d, const Side *s, size_t i) {
  (void)d;
  return text(s->p->metadata_props[i]->value);
}

/* --- declared values --- */

static const char *info_text(Diff *d, const Onnx__ValueInfoProto *v) {
  const Onnx__TypeProto *t = v->type;
  if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type) return "not a tensor";
  PareDtype dtype;
  bool known = pare_dtype_from_onnx(t->tensor_type->elem_type, &dtype);
  const Onnx__TensorShapeProto *shape = t->tensor_type->shape;
  const char *at = pare_arena_printf(d->c->scratch, "%s[", known ? pare_dtype_name(dtype) : "?");
  for (size_t i = 0; at && shape && i < shape->n_dim; i++) {
    const Onnx__TensorShapeProto__Dimension *dim = shape->dim[i];
    bool number = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    bool named = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    at = number ? pare_arena_printf(d->c->scratch, "%s%s%" PRId64, at, i ? ", " : "", dim->dim_value)
                : pare_arena_printf(d->c->scratch, "%s%s%s", at, i ? ", " : "", named ? text(dim->dim_param) : "?");
  }
  return at ? pare_arena_printf(d->c->scratch, "%s]", at) : NULL;
}

#define INFO_LIST(field)                                                                     \
  static size_t field##_count(const Side *s) { return s->p->graph->n_##field; }              \
  static const char *field##_name(Diff *d, const Side *s, size_t i) {                        \
    (void)d;                                                                                 \
    return text(s->p->graph->field[i]->name);                                                \
  }                                                                                          \
  static const char *field##_text(Diff *d, const Side *s, size_t i) { return info_text(d, s->p->graph->field[i]); }
INFO_LIST(input)
INFO_LIST(output)
INFO_LIST(value_info)

/* --- tensors --- */

static const char *ints_text(Diff *d, size_t n, const int64_t *v) {
  const char *at = "[";
  for (size_t i = 0; at && i < n; i++) at = pare_arena_printf(d->c->scratch, "%s%s%" PRId64, at, i ? ", " : "", v[i]);
  return at ? pare_arena_printf(d->c->scratch, "%s]", at) : NULL;
}

static const char *tensor_text(Diff *d, const Onnx__TensorProto *t) {
  PareDtype dtype;
  bool known = pare_dtype_from_onnx(t->data_type, &dtype);
  const char *at = pare_arena_printf(d->c->scratch, "%s[", known ? pare_dtype_name(dtype) : "?");
  for (size_t i = 0; at && i < t->n_dims; i++)
    at = pare_arena_printf(d->c->scratch, "%s%s%" PRId64, at, i ? ", " : "", t->dims[i]);
  return at ? pare_arena_printf(d->c->scratch, "%s]", at) : NULL;
}

/* Initializers, then sparse ones. */
static size_t initializer_count(const Side *s) {
  return s->p->graph->n_initializer + s->p->graph->n_sparse_initializer;
}
/* NULL: initializer i is a dense one. */
static const Onnx__SparseTensorProto *sparse_at(const Side *s, size_t i) {
  const Onnx__GraphProto *g = s->p->graph;
  return i < g->n_initializer ? NULL : g->sparse_initializer[i - g->n_initializer];
}
static const char *initializer_name(Diff *d, const Side *s, size_t i) {
  const Onnx__SparseTensorProto *t = sparse_at(s, i);
  (void)d;
  return t ? t->values ? text(t->values->name) : "" : text(s->p->graph->initializer[i]->name);
}
static const char *initializer_text(Diff *d, const Side *s, size_t i) {
  const Onnx__SparseTensorProto *t = sparse_at(s, i);
  if (!t) return tensor_text(d, s->p->graph->initializer[i]);
  Onnx__TensorProto whole = {.data_type = t->values ? t->values->data_type : 0, .n_dims = t->n_dims, .dims = t->dims};
  const char *type = tensor_text(d, &whole);
  return type ? pare_arena_printf(d->c->scratch, "%s, sparse", type) : NULL;
}

enum { FEW = 16 };

/* "[4, -1]" of a few integers; else NULL. */
static const char *numbers_text(Diff *d, const PareValue *v) {
  int64_t n = pare_type_count(&v->type), at[FEW];
  if (n > FEW || (v->type.dtype != PARE_I64 && v->type.dtype != PARE_I32)) return NULL;
  for (int64_t i = 0; i < n; i++) at[i] = pare_data_int(v, i);
  return ints_text(d, (size_t)n, at);
}

/* Tensors of one type: whether and by how much their values differ. `type` is in words. */
static PareStatus compare_numbers(Diff *d, const char *what, const char *name, const PareValue v[2], const char *type,
                                  bool *told) {
  size_t bytes;
  *told = pare_type_equal(&v[0].type, &v[1].type) && pare_type_bytes(&v[0].type, &bytes);
  if (!*told || bytes == 0 || !memcmp(v[0].data, v[1].data, bytes)) return PARE_OK;
  if (!type) return pare_nomem(d->c);
  const char *x_text = numbers_text(d, &v[0]), *y_text = numbers_text(d, &v[1]);
  if (x_text && y_text) return add(d, what, name, x_text, y_text);
  if (!pare_dtype_is_float(v[0].type.dtype)) return add(d, what, name, type, "other values");
  PareDifference diff = {0};
  for (int64_t i = 0; i < pare_type_count(&v[0].type); i++) {
    float a = (float)pare_data_float(&v[0], i), b = (float)pare_data_float(&v[1], i);
    pare_difference_add(&diff, 1, &a, &b);
  }
  const char *by = pare_arena_printf(d->c->scratch, "differs by up to %.3g, %.3g of its largest value", diff.max_abs,
                                     pare_difference_rel(&diff));
  return by ? add(d, what, name, type, by) : pare_nomem(d->c);
}

static PareStatus compare_values(Diff *d, const char *what, const char *name, const Onnx__TensorProto *x,
                                 const Onnx__TensorProto *y, bool *told) {
  PareValue v[2] = {{.role = PARE_CONST}, {.role = PARE_CONST}};
  const Onnx__TensorProto *t[2] = {x, y};
  for (int k = 0; k < 2; k++) {
    d->c->file = d->path[k];
    PARE_TRY(pare_tensor_read(d->c, d->side[k].m, t[k], name, &v[k].type, &v[k].data));
  }
  return compare_numbers(d, what, name, v, tensor_text(d, x), told);
}

/* A form that has changed is told as well as values. */
static PareStatus initializer_compare(Diff *d, size_t i, size_t j, bool *told) {
  PareValue v[2] = {{.role = PARE_CONST}, {.role = PARE_CONST}};
  size_t at[2] = {i, j};
  const char *name = initializer_name(d, &d->side[0], i);
  for (int k = 0; k < 2; k++) {
    const Side *side = &d->side[k];
    const Onnx__SparseTensorProto *sparse = sparse_at(side, at[k]);
    const Onnx__TensorProto *dense = sparse ? NULL : side->p->graph->initializer[at[k]];
    d->c->file = d->path[k];
    PARE_TRY(sparse ? pare_sparse_read(d->c, side->m, sparse, name, &v[k].type, &v[k].data)
                    : pare_tensor_read(d->c, side->m, dense, name, &v[k].type, &v[k].data));
  }
  PARE_TRY(compare_numbers(d, "tensor", name, v, initializer_text(d, &d->side[0], i), told));
  *told &= !sparse_at(&d->side[0], i) == !sparse_at(&d->side[1], j);
  return PARE_OK;
}

/* --- nodes --- */

static const char *node_name(const Onnx__NodeProto *n) {
  return n->name && *n->name ? n->name : n->n_output ? text(n->output[0]) : "";
}

static const char *attr_text(Diff *d, const Onnx__AttributeProto *a) {
  if (a->n_ints) return ints_text(d, a->n_ints, a->ints);
  if (a->t) return tensor_text(d, a->t);
  if (a->has_s) return pare_arena_printf(d->c->scratch, "\"%.*s\"", (int)(a->s.len < 200 ? a->s.len : 200), a->s.data);
  if (a->has_f) return pare_arena_printf(d->c->scratch, "%.9g", (double)a->f);
  if (a->has_i) return pare_arena_printf(d->c->scratch, "%" PRId64, a->i);
  size_t n = onnx__attribute_proto__get_packed_size(a); /* the rest by its bytes */
  uint8_t *packed = pare_arena_alloc(d->c->scratch, n + 1, 1);
  if (!packed) return NULL;
  onnx__attribute_proto__pack(a, packed);
  uint64_t h = 14695981039346656037u; /* FNV-1a */
  for (size_t i = 0; i < n; i++) h = (h ^ packed[i]) * 1099511628211u;
  return pare_arena_printf(d->c->scratch, "%zu bytes, %016" PRIx64, n, h);
}

static const Onnx__AttributeProto *find_attr(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (!strcmp(text(n->attribute[i]->name), name)) return n->attribute[i];
  return NULL;
}

static PareStatus compare_attr(Diff *d, const Onnx__NodeProto *node, const Onnx__AttributeProto *x,
                               const Onnx__AttributeProto *y) {
  const char *what = pare_arena_printf(d->c->scratch, "%s.%s", node_name(node), text((x ? x : y)->name));
  const char *before = x ? attr_text(d, x) : NULL, *after = y ? attr_text(d, y) : NULL;
  bool told = false;
  if (!what || (x && !before) || (y && !after)) return pare_nomem(d->c);
  if (x && y && x->t && y->t) PARE_TRY(compare_values(d, "attribute", what, x->t, y->t, &told));
  return told ? PARE_OK : add_if_other(d, "attribute", what, before, after);
}

static const char *join(Diff *d, size_t n, char *const *names) {
  const char *at = "";
  for (size_t i = 0; at && i < n; i++) at = pare_arena_printf(d->c->scratch, "%s%s%s", at, i ? ", " : "", names[i]);
  return at;
}

static size_t node_count(const Side *s) { return s->p->graph->n_node; }
static const char *node_list_name(Diff *d, const Side *s, size_t i) {
  (void)d;
  return node_name(s->p->graph->node[i]);
}
static const char *node_text(Diff *d, const Side *s, size_t i) {
  const Onnx__NodeProto *n = s->p->graph->node[i];
  const char *in = join(d, n->n_input, n->input), *out = join(d, n->n_output, n->output), *domain = text(n->domain);
  return in && out ? pare_arena_printf(d->c->scratch, "%s%s%s(%s) -> %s", domain, *domain ? "." : "", text(n->op_type),
                                       in, out)
                   : NULL;
}

static PareStatus node_compare(Diff *d, size_t i, size_t j, bool *told) {
  const Onnx__NodeProto *x = d->side[0].p->graph->node[i], *y = d->side[1].p->graph->node[j];
  *told = false;
  for (size_t k = 0; k < x->n_attribute; k++)
    PARE_TRY(compare_attr(d, x, x->attribute[k], find_attr(y, text(x->attribute[k]->name))));
  for (size_t k = 0; k < y->n_attribute; k++)
    if (!find_attr(x, text(y->attribute[k]->name))) PARE_TRY(compare_attr(d, x, NULL, y->attribute[k]));
  return PARE_OK;
}

/* --- the whole --- */

static const struct {
  const char *what;
  List list;
} lists[] = {
    {"opset", {opset_count, opset_name, opset_text, NULL}},
    {"metadata", {metadata_count, metadata_name, metadata_text, NULL}},
    {"input", {input_count, input_name, input_text, NULL}},
    {"output", {output_count, output_name, output_text, NULL}},
    {"node", {node_count, node_list_name, node_text, node_compare}},
    {"tensor", {initializer_count, initializer_name, initializer_text, initializer_compare}},
    {"value", {value_info_count, value_info_name, value_info_text, NULL}},
};

static PareStatus compare_heads(Diff *d) {
  const Onnx__ModelProto *x = d->side[0].p, *y = d->side[1].p;
  const struct {
    const char *name, *before, *after;
  } field[] = {{"producer_name", text(x->producer_name), text(y->producer_name)},
               {"producer_version", text(x->producer_version), text(y->producer_version)},
               {"domain", text(x->domain), text(y->domain)},
               {"doc_string", text(x->doc_string), text(y->doc_string)},
               {"graph.name", text(x->graph->name), text(y->graph->name)},
               {"graph.doc_string", text(x->graph->doc_string), text(y->graph->doc_string)}};
  for (size_t i = 0; i < sizeof field / sizeof *field; i++)
    PARE_TRY(add_if_other(d, "field", field[i].name, field[i].before, field[i].after));
  char version[2][24];
  snprintf(version[0], sizeof version[0], "%" PRId64, x->ir_version);
  snprintf(version[1], sizeof version[1], "%" PRId64, y->ir_version);
  return add_if_other(d, "field", "ir_version", version[0], version[1]);
}

static PareStatus compare(Diff *d) {
  for (int k = 0; k < 2; k++) {
    PARE_TRY(pare_model_open(d->c, d->path[k], &d->side[k].m, &d->side[k].p));
    d->c->file = d->path[k];
    if (!d->side[k].p->graph) return pare_error(d->c, PARE_FORMAT, "the file holds no graph");
  }
  PARE_TRY(compare_heads(d));
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    PARE_TRY(compare_lists(d, lists[i].what, &lists[i].list));
  d->out->nchanges = d->changes.n;
  d->out->changes = d->changes.at;
  return PARE_OK;
}

static PareStatus body(PareCtx *c, void *arg) {
  Diff *d = arg;
  d->c = c;
  PareStatus s = compare(d);
  for (int k = 0; k < 2; k++) pare_model_free(d->side[k].m);
  return s;
}

/* The outputs: tolerance 0, so that any difference is one. */
static int run_both(Diff *d) {
  PareError e;
  int code = pare_verify(d->path[0], d->path[1], d->data, 0, 0, d->h, &d->out->outputs, &e);
  if (code == 130) return code;
  d->out->ran = code == 0 || (code == 1 && d->out->outputs.worst_name[0]);
  if (!d->out->ran) d->out->why = e;
  return 0;
}

int pare_diff(const char *before, const char *after, const char *data, const PareHooks *h, PareDiff **out,
              PareError *e) {
  PareArena *a = pare_arena_new(1 << 14);
  Diff d = {.a = a, .path = {before, after}, .data = data, .h = h, .out = a ? PARE_NEW(a, PareDiff) : NULL};
  *out = NULL;
  if (!d.out) {
    pare_arena_free(a);
    *e = (PareError){PARE_NOMEM, "out of memory"};
    return e->code;
  }
  int code = pare_call(h, 0, e, body, &d);
  if (code == 0 && (code = run_both(&d))) *e = (PareError){code, "interrupted"};
  if (code) return pare_arena_free(a), code;
  d.out->owner = a;
  *out = d.out;
  return 0;
}

void pare_diff_free(PareDiff *d) {
  if (d) pare_arena_free(d->owner); /* d lives in it */
}
