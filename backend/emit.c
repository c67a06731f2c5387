/* emit.c - walks the original's fields and writes each as it is or as edited. */
#include "backend/emit.h"

#include <inttypes.h>
#include <string.h>

#include "backend/edits.h"
#include "backend/sparse.h"
#include "backend/stage.h"
#include "backend/unread.h"
#include "base/map.h"
#include "proto/wire.h"

enum { EXTERNAL_MIN = 1024, DATA_ALIGN = 64, ONNX_FLOAT = 1, ONNX_INT = 2, ONNX_INTS = 7 /* AttributeProto.AttributeType */ };
static const size_t MODEL_LIMIT = (size_t)INT32_MAX; /* protobuf's, which other readers keep */

typedef struct Writer {
  PareCtx *c;
  PareArena *a;
  const PareEmit *e;
  PareEdits edits;
  PareUnread unread; /* where nodes are gone */
  PareMap before_id, after_id; /* value names of the bound graphs */
  PareChunks model, data;
  const char *location; /* of external data */
  bool externalise;     /* every large initializer goes to the data file */
  size_t nsparse, ndense; /* initializers that might be sparse: those that are, and those that are not */
} Writer;

static void put_buf(PareChunks *ch, const PareBuf *b) {
  if (b->failed) ch->failed = true;
  else pare_chunks_put(ch, b->at, b->n);
}
static PareBuf buf(Writer *w) { return (PareBuf){.arena = w->a}; }

/* --- tensors --- */

/* Repeated numbers in the form that the original has: packed, or one field each. */
static void put_dims(PareBuf *b, const PareType *t, bool packed) {
  if (!packed) {
    for (int i = 0; i < t->rank; i++) pare_buf_field_varint(b, PARE_TENSOR_DIMS, (uint64_t)t->dim[i]);
    return;
  }
  size_t len = 0;
  for (int i = 0; i < t->rank; i++) len += pare_varint_size((uint64_t)t->dim[i]);
  pare_buf_tag(b, PARE_TENSOR_DIMS, PARE_WIRE_BYTES);
  pare_buf_varint(b, len);
  for (int i = 0; i < t->rank; i++) pare_buf_varint(b, (uint64_t)t->dim[i]);
}

static bool is_typed_data(uint32_t field) {
  return field == PARE_TENSOR_FLOAT || field == PARE_TENSOR_INT32 || field == PARE_TENSOR_INT64 ||
         field == PARE_TENSOR_DOUBLE || field == PARE_TENSOR_UINT64;
}

/* v with bytes of its own, or NULL. */
static const PareValue *thick(Writer *w, const PareValue *v) {
  PareValue *x = v->slices ? PARE_NEW(w->a, PareValue) : NULL;
  if (!v->slices) return v;
  if (x) *x = *v, x->data = pare_constant_bytes(w->a, v), x->slices = NULL;
  if (!x || !x->data) w->model.failed = true;
  return x && x->data ? x : NULL;
}

/* The numbers of v in one of the typed fields, packed. */
static void put_typed(PareBuf *b, PareArena *a, uint32_t field, const PareValue *v) {
  PareBuf body = {.arena = a};
  int64_t n = pare_type_count(&v->type);
  size_t size = pare_dtype_size(v->type.dtype);
  bool fixed = field == PARE_TENSOR_FLOAT || field == PARE_TENSOR_DOUBLE;
  if (fixed) pare_buf_put(&body, v->data, (size_t)n * size);
  for (int64_t i = 0; i < n && !fixed; i++) {
    uint16_t half;
    if (v->type.dtype == PARE_F16 || v->type.dtype == PARE_BF16) {
      memcpy(&half, (const uint8_t *)v->data + (size_t)i * size, 2);
      pare_buf_varint(&body, half);
    } else {
      pare_buf_varint(&body, (uint64_t)pare_data_int(v, i));
    }
  }
  if (body.failed) b->failed = true;
  else pare_buf_field_bytes(b, field, body.at, body.n);
}

static void put_entry(PareBuf *b, PareArena *a, uint32_t num, const char *key, const char *value) {
  PareBuf e = {.arena = a};
  pare_buf_field_str(&e, PARE_ENTRY_KEY, key);
  pare_buf_field_str(&e, PARE_ENTRY_VALUE, value);
  if (e.failed) b->failed = true;
  else pare_buf_field_bytes(b, num, e.at, e.n);
}

static void put_external(Writer *w, PareBuf *b, const PareValue *v, size_t bytes) {
  static const uint8_t zeros[DATA_ALIGN];
  char number[32];
  pare_chunks_put(&w->data, zeros, (DATA_ALIGN - w->data.bytes % DATA_ALIGN) % DATA_ALIGN);
  put_entry(b, w->a, PARE_TENSOR_EXTERNAL, "location", w->location);
  snprintf(number, sizeof number, "%zu", w->data.bytes);
  put_entry(b, w->a, PARE_TENSOR_EXTERNAL, "offset", number);
  snprintf(number, sizeof number, "%zu", bytes);
  put_entry(b, w->a, PARE_TENSOR_EXTERNAL, "length", number);
  pare_buf_field_varint(b, PARE_TENSOR_LOCATION, 1);
  pare_chunks_put_constant(&w->data, v, bytes);
}

typedef enum DataForm { RAW, TYPED, EXTERNAL } DataForm;

static DataForm data_form(const PareField *tensor, uint32_t *typed_field) {
  PareCursor c = pare_wire_inside(tensor);
  PareField f;
  DataForm form = RAW;
  while (pare_wire_next(&c, &f)) {
    if (f.num == PARE_TENSOR_LOCATION && f.value == 1) return EXTERNAL;
    if (is_typed_data(f.num)) form = TYPED, *typed_field = f.num;
    if (f.num == PARE_TENSOR_RAW) form = RAW;
  }
  return form;
}

/* A TensorProto with v's dims and data in the form and order of the original. */
static void put_tensor(Writer *w, uint32_t num, const PareField *tensor, const PareValue *v, const char *name) {
  PareChunks *ch = &w->model;
  uint32_t typed = 0;
  DataForm form = data_form(tensor, &typed);
  size_t bytes = 0;
  if (!pare_type_bytes(&v->type, &bytes)) ch->failed = true;
  if (w->externalise && form == RAW && bytes >= EXTERNAL_MIN) form = EXTERNAL;
  if (form == TYPED && !(v = thick(w, v))) return;
  PareBuf front = buf(w), back = buf(w);
  bool dims = false, data = false, packed = false;
  PareCursor c = pare_wire_inside(tensor);
  PareField f;
  while (pare_wire_next(&c, &f)) {
    PareBuf *b = data ? &back : &front;
    if (f.num == PARE_TENSOR_DIMS) {
      packed = f.wire == PARE_WIRE_BYTES;
      if (!dims) put_dims(b, &v->type, packed);
      dims = true;
    } else if (f.num == PARE_TENSOR_RAW || is_typed_data(f.num) || f.num == PARE_TENSOR_EXTERNAL) {
      if (data) continue;
      data = true;
      if (form == RAW) pare_buf_tag(&front, PARE_TENSOR_RAW, PARE_WIRE_BYTES), pare_buf_varint(&front, bytes);
      else if (form == TYPED) put_typed(&front, w->a, typed, v);
      else put_external(w, &front, v, bytes);
    } else if (f.num == PARE_TENSOR_NAME && name) {
      pare_buf_field_str(b, PARE_TENSOR_NAME, name);
    } else if (f.num != PARE_TENSOR_LOCATION || form != EXTERNAL) {
      pare_buf_copy(b, &f);
    }
  }
  PareBuf head = buf(w);
  size_t inside = front.n + back.n + (form == RAW && data ? bytes : 0);
  pare_buf_tag(&head, num, PARE_WIRE_BYTES);
  pare_buf_varint(&head, inside);
  put_buf(ch, &head);
  put_buf(ch, &front);
  if (form == RAW && data) pare_chunks_put_constant(ch, v, bytes);
  put_buf(ch, &back);
}

/* A new initializer, raw. */
static void put_added(Writer *w, const PareNewInitializer *x) {
  size_t bytes = 0;
  PareBuf b = buf(w), head = buf(w);
  if (!pare_type_bytes(&x->value->type, &bytes)) w->model.failed = true;
  put_dims(&b, &x->value->type, false);
  pare_buf_field_varint(&b, PARE_TENSOR_TYPE, (uint64_t)pare_dtype_to_onnx(x->value->type.dtype));
  pare_buf_field_str(&b, PARE_TENSOR_NAME, x->name);
  bool external = (w->externalise || w->e->external) && bytes >= EXTERNAL_MIN;
  if (external) put_external(w, &b, x->value, bytes);
  else pare_buf_tag(&b, PARE_TENSOR_RAW, PARE_WIRE_BYTES), pare_buf_varint(&b, bytes);
  pare_buf_tag(&head, PARE_GRAPH_INITIALIZER, PARE_WIRE_BYTES);
  pare_buf_varint(&head, b.n + (external ? 0 : bytes));
  put_buf(&w->model, &head);
  put_buf(&w->model, &b);
  if (!external) pare_chunks_put_constant(&w->model, x->value, bytes);
}

static void put_message(Writer *w, uint32_t num, const PareBuf *b) {
  PareBuf head = buf(w);
  pare_buf_tag(&head, num, PARE_WIRE_BYTES);
  pare_buf_varint(&head, b->n);
  put_buf(&w->model, &head);
  put_buf(&w->model, b);
}

/* A sparse initializer that stays one. Import has found its values and indices. */
static void put_sparse(Writer *w, const PareField *sparse, const PareValue *v) {
  PareBuf b = buf(w);
  PareCursor c = pare_wire_inside(sparse);
  PareField f, values = {.body = NULL}, indices = {.body = NULL};
  if (!(v = thick(w, v))) return;
  while (pare_wire_next(&c, &f)) {
    if (f.num == PARE_SPARSE_VALUES) values = f;
    else if (f.num == PARE_SPARSE_INDICES) indices = f;
    else if (f.num != PARE_SPARSE_DIMS) pare_buf_copy(&b, &f);
  }
  pare_sparse_put(&b, &values, &indices, v);
  put_message(w, PARE_GRAPH_SPARSE, &b);
}

/* An input may stand for the initializer, which then has to be there as a tensor. */
static bool is_input(const PareField *graph, const char *name) {
  PareCursor c = pare_wire_inside(graph);
  PareField f, of;
  bool found = false;
  while (pare_wire_next(&c, &f))
    if (f.num == PARE_GRAPH_INPUT && f.wire == PARE_WIRE_BYTES && pare_wire_find(&f, PARE_VALUE_INFO_NAME, &of))
      found |= of.len == strlen(name) && !memcmp(of.body, name, of.len);
  return found;
}

/* An initializer that changes, as a sparse one. False where that is not smaller, or not for this file. */
static bool put_as_sparse(Writer *w, const PareField *graph, const PareField *tensor, const PareValue *v) {
  size_t bytes;
  if (!w->e->sparse || w->e->external || w->externalise || is_input(graph, v->name)) return false;
  if (!(v = thick(w, v))) return true;
  bool smaller = pare_type_bytes(&v->type, &bytes) && pare_sparse_bytes(v) < bytes;
  w->nsparse += smaller;
  w->ndense += !smaller;
  if (!smaller) return false;
  PareBuf b = buf(w);
  pare_sparse_put(&b, tensor, NULL, v);
  put_message(w, PARE_GRAPH_SPARSE, &b);
  return true;
}

/* --- nodes --- */

static bool name_is(const PareField *attr, const char *name) {
  PareCursor c = pare_wire_inside(attr);
  PareField f;
  while (pare_wire_next(&c, &f))
    if (f.num == PARE_ATTR_NAME && f.wire == PARE_WIRE_BYTES)
      return f.len == strlen(name) && !memcmp(f.body, name, f.len);
  return false;
}

/* A tensor as one field in memory, for attributes, which are small. */
static void flatten_tensor(Writer *w, PareBuf *b, const PareField *tensor, const PareValue *v) {
  PareChunks whole = w->model;
  w->model = (PareChunks){.arena = w->a, .original = w->e->file};
  put_tensor(w, PARE_ATTR_T, tensor, v, NULL);
  for (size_t i = 0; i < w->model.at.n; i++) pare_buf_put(b, w->model.at.at[i].p, w->model.at.at[i].len);
  if (w->model.failed) b->failed = true;
  w->model = whole;
}

/* All numbers of v as one of an attribute's lists. */
static void put_list(PareBuf *b, uint32_t field, const PareValue *v) {
  int64_t n = pare_type_count(&v->type);
  for (int64_t i = 0; field == PARE_ATTR_INTS && i < n; i++)
    pare_buf_field_varint(b, field, (uint64_t)pare_data_int(v, i));
  if (field == PARE_ATTR_FLOATS) pare_buf_field_bytes(b, field, v->data, (size_t)n * sizeof(float)); /* packed */
}

/* An attribute with the numbers of v, in the field (t, ints, floats, i) that it has. */
static void put_attr(Writer *w, PareBuf *out, const PareField *attr, const PareValue *v) {
  PareBuf b = buf(w);
  if (!(v = thick(w, v))) return;
  PareCursor c = pare_wire_inside(attr);
  PareField f;
  bool listed = false;
  while (pare_wire_next(&c, &f)) {
    bool list = f.num == PARE_ATTR_INTS || f.num == PARE_ATTR_FLOATS;
    if (f.num == PARE_ATTR_T) flatten_tensor(w, &b, &f, v);
    else if (f.num == PARE_ATTR_I) pare_buf_field_varint(&b, PARE_ATTR_I, (uint64_t)pare_data_int(v, 0));
    else if (!list) pare_buf_copy(&b, &f);
    else if (!listed) put_list(&b, f.num, v);
    listed |= list;
  }
  if (b.failed) out->failed = true;
  else pare_buf_field_bytes(out, PARE_NODE_ATTRIBUTE, b.at, b.n);
}

static const PareValue *attr_edit(const PareNodeEdit *e, const PareField *attr) {
  if (e->constant) return e->constant;
  for (size_t i = 0; i < e->attrs.n; i++)
    if (name_is(attr, e->attrs.at[i]->origin.attr)) return e->attrs.at[i];
  return NULL;
}

static const char *renamed(const PareNodeEdit *e, int input) {
  for (size_t i = 0; i < e->renames.n; i++)
    if (e->renames.at[i].input == input) return e->renames.at[i].name;
  return NULL;
}

/* A list of integers under a name that the node does not have yet, or one number. */
static void add_attr(Writer *w, PareBuf *out, const PareValue *v) {
  PareBuf b = buf(w);
  bool number = pare_type_count(&v->type) == 1, real = number && v->type.dtype == PARE_F32;
  pare_buf_field_str(&b, PARE_ATTR_NAME, v->origin.attr);
  if (real) pare_buf_tag(&b, PARE_ATTR_F, PARE_WIRE_32), pare_buf_put(&b, v->data, sizeof(float));
  else if (number) pare_buf_field_varint(&b, PARE_ATTR_I, (uint64_t)pare_data_int(v, 0));
  else put_list(&b, PARE_ATTR_INTS, v);
  pare_buf_field_varint(&b, PARE_ATTR_TYPE, real ? ONNX_FLOAT : number ? ONNX_INT : ONNX_INTS);
  if (b.failed) out->failed = true;
  else pare_buf_field_bytes(out, PARE_NODE_ATTRIBUTE, b.at, b.n);
}

/* Is it to be added, and the first of those that stand for the attribute? */
static bool is_added(const PareNodeEdit *e, size_t at) {
  const PareOrigin *o = &e->attrs.at[at]->origin;
  for (size_t i = 0; i < at; i++)
    if (!strcmp(e->attrs.at[i]->origin.attr, o->attr)) return false;
  return o->kind == PARE_ORIGIN_ABSENT;
}

/* Is the field, of a node's input or output number `at`, left out? */
static bool is_dropped(const PareNodeEdit *e, const PareField *f, int at) {
  switch (f->num) {
    case PARE_NODE_INPUT: return pare_edit_cuts_input(e, at);
    case PARE_NODE_OUTPUT: return pare_edit_cuts(e->cut_out, at);
    case PARE_NODE_DOMAIN: return e->op && f->len;
    case PARE_NODE_ATTRIBUTE: return e->op || (e->without && name_is(f, e->without));
    default: return false;
  }
}

/* A node of the graph or of a function. */
static void put_node(Writer *w, const PareField *node, const PareNodeEdit *e) {
  PareBuf b = buf(w);
  PareCursor c = pare_wire_inside(node);
  PareField f;
  int input = 0, output = 0;
  while (pare_wire_next(&c, &f)) {
    bool dropped = is_dropped(e, &f, f.num == PARE_NODE_OUTPUT ? output++ : input);
    const char *name = f.num == PARE_NODE_INPUT ? renamed(e, input++) : NULL;
    const PareValue *v = f.num == PARE_NODE_ATTRIBUTE ? attr_edit(e, &f) : NULL;
    if (dropped) continue;
    if (name) pare_buf_field_str(&b, PARE_NODE_INPUT, name);
    else if (f.num == PARE_NODE_OP && e->op) pare_buf_field_str(&b, PARE_NODE_OP, e->op);
    else if (f.num == PARE_NODE_OP && e->callee) pare_buf_field_str(&b, PARE_NODE_OP, e->callee);
    else if (v) put_attr(w, &b, &f, v);
    else pare_buf_copy(&b, &f);
  }
  for (const char *name; (name = renamed(e, input)); input++) pare_buf_field_str(&b, PARE_NODE_INPUT, name);
  for (size_t i = 0; i < e->attrs.n; i++)
    if (is_added(e, i)) add_attr(w, &b, e->attrs.at[i]);
  put_message(w, node->num, &b);
}

static void put_insert(Writer *w, const PareInsert *x) {
  PareBuf b = buf(w), attr = buf(w);
  for (int i = 0; i < 2 && x->in[i]; i++) pare_buf_field_str(&b, PARE_NODE_INPUT, x->in[i]);
  pare_buf_field_str(&b, PARE_NODE_OUTPUT, x->out);
  pare_buf_field_str(&b, PARE_NODE_NAME, x->name);
  pare_buf_field_str(&b, PARE_NODE_OP, x->op);
  if (x->axis) {
    pare_buf_field_str(&attr, PARE_ATTR_NAME, "axis");
    pare_buf_field_varint(&attr, PARE_ATTR_I, (uint64_t)*x->axis);
    pare_buf_field_varint(&attr, PARE_ATTR_TYPE, ONNX_INT);
  }
  if (attr.failed) b.failed = true;
  else if (x->axis) pare_buf_field_bytes(&b, PARE_NODE_ATTRIBUTE, attr.at, attr.n);
  put_message(w, PARE_GRAPH_NODE, &b);
}

/* A message whose length is known once it is written: begin, the fields, end. */
typedef struct Open {
  size_t head, before;
} Open;

static Open begin(Writer *w) {
  Open o = {.head = pare_chunks_reserve(&w->model)};
  o.before = w->model.bytes;
  return o;
}

static void end(Writer *w, Open o, uint32_t num) {
  PareBuf b = buf(w);
  pare_buf_tag(&b, num, PARE_WIRE_BYTES);
  pare_buf_varint(&b, w->model.bytes - o.before);
  if (b.failed) w->model.failed = true;
  else pare_chunks_fill(&w->model, o.head, b.at, b.n);
}

static void put_field(Writer *w, const PareField *f) {
  pare_chunks_put(&w->model, f->tag, (size_t)(f->body + f->len - f->tag));
}

/* A function under another name, with its nodes edited. */
static void put_clone(Writer *w, const PareField *function, const char *name, PareNodeEdit *const *edits) {
  Open o = begin(w);
  PareCursor c = pare_wire_inside(function);
  PareField f;
  PareBuf b = buf(w);
  size_t nodes = 0;
  pare_buf_field_str(&b, PARE_FUNCTION_NAME, name);
  put_buf(&w->model, &b);
  while (pare_wire_next(&c, &f)) {
    const PareNodeEdit *e = f.num == PARE_FUNCTION_NODE && f.wire == PARE_WIRE_BYTES ? edits[nodes++] : NULL;
    if (e) put_node(w, &f, e);
    else if (f.num != PARE_FUNCTION_NAME) put_field(w, &f);
  }
  end(w, o, PARE_MODEL_FUNCTION);
}

static void put_clones(Writer *w) {
  for (size_t i = 0; i < w->e->before->bodies.n; i++) {
    const PareBody *b = &w->e->before->bodies.at[i];
    PareCursor c = {w->e->file->data, w->e->file->data + w->e->file->len};
    PareField f;
    for (uint32_t k = 0; w->edits.body[i] && pare_wire_next(&c, &f);)
      if (f.num == PARE_MODEL_FUNCTION && f.wire == PARE_WIRE_BYTES && k++ == b->function)
        put_clone(w, &f, b->clone, w->edits.body[i]);
  }
}

/* --- declared shapes --- */

static const PareValue *bound_value(const PareGraph *g, const PareMap *ids, const PareField *info) {
  PareCursor c = pare_wire_inside(info);
  PareField f;
  char name[1024];
  while (pare_wire_next(&c, &f))
    if (f.num == PARE_VALUE_INFO_NAME && f.wire == PARE_WIRE_BYTES && f.len < sizeof name) {
      memcpy(name, f.body, f.len);
      name[f.len] = 0;
      int64_t id = pare_map_get(ids, name);
      return id < 0 ? NULL : g->values.at[id];
    }
  return NULL;
}

/* Copies a message, with dim_value of axis i set to is[i] where it was was[i]. */
static void put_shape(PareBuf *out, PareArena *a, const PareField *m, int level, const PareType *was,
                      const PareType *is, int *axis) {
  static const uint32_t path[] = {PARE_VALUE_INFO_TYPE, PARE_TYPE_TENSOR, PARE_TYPE_TENSOR_SHAPE, PARE_SHAPE_DIM};
  PareBuf b = {.arena = a};
  PareCursor c = pare_wire_inside(m);
  PareField f;
  while (pare_wire_next(&c, &f)) {
    if (level < 4 && f.num == path[level] && f.wire == PARE_WIRE_BYTES) {
      put_shape(&b, a, &f, level + 1, was, is, axis);
    } else if (level == 4 && f.num == PARE_DIM_VALUE && *axis < was->rank && (int64_t)f.value == was->dim[*axis]) {
      pare_buf_field_varint(&b, PARE_DIM_VALUE, (uint64_t)is->dim[*axis]);
    } else {
      pare_buf_copy(&b, &f);
    }
  }
  if (level == 4) ++*axis;
  if (b.failed) out->failed = true;
  else pare_buf_field_bytes(out, m->num, b.at, b.n);
}

/* What stands under the name of `was` in the new file: a constant that is copied for the readers that see it changed
 * stays as it was. */
static const PareValue *placed(const Writer *w, const PareValue *was, const PareValue *is) {
  const PareValue *now = NULL;
  const PareNodeEdit *e;
  if (was->role != PARE_CONST || was->origin.body) return is;
  switch (was->origin.kind) {
    case PARE_ORIGIN_INITIALIZER: now = w->edits.initializer[was->origin.index]; break;
    case PARE_ORIGIN_SPARSE: now = w->edits.sparse[was->origin.index]; break;
    case PARE_ORIGIN_NODE: now = (e = w->edits.node[was->origin.index]) ? e->constant : NULL; break;
    default: return is;
  }
  return now ? now : was;
}

static bool put_value_info(Writer *w, const PareField *info) {
  if (!w->e->before_bound || !w->e->after_bound) return false;
  const PareValue *was = bound_value(w->e->before_bound, &w->before_id, info);
  const PareValue *is = bound_value(w->e->after_bound, &w->after_id, info);
  if (!was || !is) return false;
  is = placed(w, was, is);
  if (was->type.rank != is->type.rank || pare_type_equal(&was->type, &is->type)) return false;
  PareBuf b = buf(w);
  int axis = 0;
  put_shape(&b, w->a, info, 0, &was->type, &is->type, &axis);
  put_buf(&w->model, &b);
  return true;
}

/* --- graph and model --- */

static bool declares(const PareField *f) {
  return f->num == PARE_GRAPH_VALUE_INFO || f->num == PARE_GRAPH_INPUT || f->num == PARE_GRAPH_OUTPUT;
}

/* Fields that go with the nodes that are gone: weights, Constant nodes, declarations. */
static bool is_unread(const Writer *w, const PareField *f, size_t node) {
  if (!w->edits.removes || f->wire != PARE_WIRE_BYTES) return false;
  const PareNodeEdit *e = f->num == PARE_GRAPH_NODE ? w->edits.node[node] : NULL;
  PareField values;
  switch (f->num) {
    case PARE_GRAPH_NODE: return (e && e->gone) || w->unread.constant[node];
    case PARE_GRAPH_INITIALIZER: return pare_unread_named(&w->unread.weights, f, PARE_TENSOR_NAME);
    case PARE_GRAPH_SPARSE: return pare_wire_find(f, PARE_SPARSE_VALUES, &values) &&
                                   pare_unread_named(&w->unread.weights, &values, PARE_TENSOR_NAME);
    case PARE_GRAPH_INPUT: return pare_unread_named(&w->unread.weights, f, PARE_VALUE_INFO_NAME);
    case PARE_GRAPH_VALUE_INFO:
      return pare_unread_named(&w->unread.names, f, PARE_VALUE_INFO_NAME) ||
             pare_unread_named(&w->unread.weights, f, PARE_VALUE_INFO_NAME);
    default: return false;
  }
}

static void put_graph(Writer *w, const PareField *graph) {
  size_t initializers = 0, sparse = 0, nodes = 0;
  PareCursor c = pare_wire_inside(graph);
  PareField f;
  bool wants_external = w->e->external || w->externalise;
  while (pare_wire_next(&c, &f)) {
    if (is_unread(w, &f, nodes)) {
      initializers += f.num == PARE_GRAPH_INITIALIZER;
      sparse += f.num == PARE_GRAPH_SPARSE;
      nodes += f.num == PARE_GRAPH_NODE;
    } else if (f.num == PARE_GRAPH_INITIALIZER && f.wire == PARE_WIRE_BYTES) {
      const PareValue *v = w->edits.initializer[initializers];
      uint32_t typed;
      bool moved = !v && wants_external && (w->externalise || data_form(&f, &typed) == EXTERNAL);
      if (moved) v = w->e->before->values.at[initializers]; /* import adds initializers first, in order */
      initializers++;
      if (v && !moved && put_as_sparse(w, graph, &f, v)) continue;
      if (v) put_tensor(w, f.num, &f, v, NULL);
      else put_field(w, &f);
    } else if (f.num == PARE_GRAPH_SPARSE && f.wire == PARE_WIRE_BYTES) {
      const PareValue *v = w->edits.sparse[sparse++];
      if (v) put_sparse(w, &f, v);
      else put_field(w, &f);
    } else if (f.num == PARE_GRAPH_NODE && f.wire == PARE_WIRE_BYTES && w->edits.node[nodes++]) {
      const PareNodeEdit *e = w->edits.node[nodes - 1];
      for (size_t i = 0; i < e->inserts.n; i++) put_insert(w, &e->inserts.at[i]);
      put_node(w, &f, e);
    } else if (!(declares(&f) && put_value_info(w, &f))) {
      put_field(w, &f);
    }
  }
  for (size_t i = 0; i < w->edits.added.n; i++) put_added(w, &w->edits.added.at[i]);
}

static bool is_ours(const PareField *entry) {
  PareCursor c = pare_wire_inside(entry);
  PareField f;
  while (pare_wire_next(&c, &f))
    if (f.num == PARE_ENTRY_KEY && f.wire == PARE_WIRE_BYTES) return f.len > 5 && !memcmp(f.body, "pare.", 5);
  return false;
}

static void put_model(Writer *w) {
  PareCursor c = {w->e->file->data, w->e->file->data + w->e->file->len};
  PareField f;
  while (pare_wire_next(&c, &f)) {
    if (f.num == PARE_MODEL_GRAPH && f.wire == PARE_WIRE_BYTES) {
      Open o = begin(w);
      put_graph(w, &f);
      end(w, o, PARE_MODEL_GRAPH);
    } else if (f.num != PARE_MODEL_METADATA || !is_ours(&f)) {
      put_field(w, &f);
    }
  }
  put_clones(w);
  PareBuf b = buf(w);
  for (size_t i = 0; i < w->e->nproperties; i++)
    put_entry(&b, w->a, PARE_MODEL_METADATA, w->e->properties[i].key, w->e->properties[i].value);
  put_buf(&w->model, &b);
}

static PareStatus index_names(PareCtx *c, PareMap *m, const PareGraph *g) {
  for (size_t i = 0; g && i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (!pare_map_put(m, v->name, (int64_t)i)) return pare_nomem(c);
  }
  return PARE_OK;
}

static PareStatus write_file(PareCtx *c, PareArena *a, const PareChunks *ch, const char *path) {
  PareOut o = {0};
  PareStatus s = pare_out_open(c, a, path, &o);
  if (s == PARE_OK) s = pare_chunks_write(c, ch, &o);
  if (s == PARE_OK) s = pare_out_place(c, &o);
  pare_out_abort(&o);
  return s;
}

static void start(Writer *w) {
  w->model = w->data = (PareChunks){.arena = w->a, .original = w->e->file};
  w->nsparse = w->ndense = 0;
  put_model(w);
}

static PareStatus find_unread(Writer *w) {
  PareCursor c = {w->e->file->data, w->e->file->data + w->e->file->len};
  PareField f;
  while (w->edits.removes && pare_wire_next(&c, &f))
    if (f.num == PARE_MODEL_GRAPH && f.wire == PARE_WIRE_BYTES)
      return pare_unread_find(w->c, w->a, &f, &w->edits, &w->unread);
  return PARE_OK;
}

static void tell_sparse(const Writer *w) {
  if (w->e->external || w->externalise)
    pare_log(w->c, 0, "no weight is made sparse: they are in a file of their own");
  else
    pare_log(w->c, 0, "%zu weights are sparse initializers; %zu are left dense, since that is smaller", w->nsparse,
             w->ndense);
}

PareStatus pare_emit_stage(PareCtx *c, PareArena *a, const PareEmit *e, const char *path, PareStage *out) {
  *out = (PareStage){0};
  const char *slash = strrchr(path, '/');
  Writer w = {.c = c, .a = a, .e = e, .before_id = {.arena = a}, .after_id = {.arena = a}};
  if (!(w.location = pare_arena_printf(a, "%s.data", slash ? slash + 1 : path))) return pare_nomem(c);
  PARE_TRY(pare_edits_find(c, a, e->before, e->after, 
                           (PareFileCounts){e->ninitializers, e->nsparse, e->nnodes}, &w.edits));
  PARE_TRY(find_unread(&w));
  PARE_TRY(index_names(c, &w.before_id, e->before_bound));
  PARE_TRY(index_names(c, &w.after_id, e->after_bound));
  start(&w);
  if (w.model.bytes > MODEL_LIMIT) {
    w.externalise = true;
    start(&w);
  }
  if (w.model.failed || w.data.failed) return pare_nomem(c);
  if (e->sparse) tell_sparse(&w);
  PARE_TRY(pare_stage_open(c, a, path, out));
  if (w.data.bytes) PARE_TRY(write_file(c, a, &w.data, out->data));
  else out->data = NULL;
  return write_file(c, a, &w.model, out->model);
}
