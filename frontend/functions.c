/* functions.c - finding functions and filling in their attributes. */
#include "frontend/functions.h"

#include "frontend/nodes.h"

static char *key_of(PareArena *a, const char *domain, const char *name) {
  bool standard = !domain || !strcmp(domain, "ai.onnx");
  return pare_arena_printf(a, "%s:%s", standard ? "" : domain, pare_text(name));
}

bool pare_functions_index(PareArena *a, const Onnx__ModelProto *p, PareFunctions *out) {
  *out = (PareFunctions){p->functions, p->n_functions, {.arena = a}};
  for (size_t i = 0; i < p->n_functions; i++) {
    char *key = key_of(a, p->functions[i]->domain, p->functions[i]->name);
    bool twice = key && pare_map_get(&out->index, key) != -1;
    if (!key || !pare_map_put(&out->index, key, twice ? PARE_OVERLOADED : (int64_t)i)) return false;
  }
  return true;
}

bool pare_function_find(PareArena *scratch, const PareFunctions *f, const char *domain, const char *name,
                        int64_t *number) {
  *number = PARE_NO_FUNCTION;
  if (!f->n) return true;
  PareMark mark = pare_arena_mark(scratch);
  const char *key = key_of(scratch, domain, name);
  if (key) *number = pare_map_get(&f->index, key);
  pare_arena_rewind(scratch, mark);
  return key != NULL;
}

static const Onnx__AttributeProto *named(size_t n, Onnx__AttributeProto *const *list, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (!strcmp(pare_text(list[i]->name), name)) return list[i];
  return NULL;
}

enum { ATTRIBUTE_PROTO = 11 }; /* FunctionProto's attributes that have defaults, which older schemas do not know */

static void *arena_alloc(void *arena, size_t n) { return pare_arena_alloc(arena, n, 1); }
static void arena_free(void *arena, void *p) { (void)arena, (void)p; }

/* The default of a function's attribute. protobuf-c keeps fields that it does not know with their length in front. */
static const Onnx__AttributeProto *default_of(PareArena *a, const Onnx__FunctionProto *f, const char *name) {
  ProtobufCAllocator alloc = {arena_alloc, arena_free, a};
  for (size_t i = 0; i < f->base.n_unknown_fields; i++) {
    const ProtobufCMessageUnknownField *u = &f->base.unknown_fields[i];
    size_t at = 0;
    if (u->tag != ATTRIBUTE_PROTO || u->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) continue;
    while (at < u->len && u->data[at] & 0x80) at++;
    if (++at > u->len) continue;
    const Onnx__AttributeProto *v = onnx__attribute_proto__unpack(&alloc, u->len - at, u->data + at);
    if (v && !strcmp(pare_text(v->name), name)) return v;
  }
  return NULL;
}

/* What the call says of an attribute, or the function's default; NULL where neither does. */
static const Onnx__AttributeProto *value_of(PareArena *a, const PareCall *call, const char *name) {
  const Onnx__AttributeProto *v = named(call->node->n_attribute, call->node->attribute, name);
  return v ? v : default_of(a, call->f, name);
}

const Onnx__NodeProto *pare_function_node(PareArena *a, const PareCall *call, const Onnx__NodeProto *n) {
  Onnx__NodeProto *out = PARE_NEW(a, Onnx__NodeProto);
  Onnx__AttributeProto **list = PARE_NEW_N(a, n->n_attribute + 1, Onnx__AttributeProto *);
  if (!out || !list) return NULL;
  *out = *n;
  out->attribute = list;
  out->n_attribute = 0;
  for (size_t i = 0; i < n->n_attribute; i++) {
    Onnx__AttributeProto *inner = n->attribute[i];
    if (*pare_text(inner->ref_attr_name)) {
      const Onnx__AttributeProto *value = value_of(a, call, inner->ref_attr_name);
      if (!value) continue;
      Onnx__AttributeProto *copy = PARE_NEW(a, Onnx__AttributeProto);
      if (!copy) return NULL;
      *copy = *value;
      copy->name = inner->name;
      copy->ref_attr_name = inner->ref_attr_name;
      inner = copy;
    }
    list[out->n_attribute++] = inner;
  }
  return out;
}

PareOrigin pare_attribute_origin(const PareCall *call, uint32_t at, const Onnx__AttributeProto *attr) {
  for (; call && *pare_text(attr->ref_attr_name); call = call->outer) {
    const Onnx__AttributeProto *said = named(call->node->n_attribute, call->node->attribute, attr->ref_attr_name);
    bool number = attr->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    if (!said)
      return (PareOrigin){number ? PARE_ORIGIN_ABSENT : PARE_ORIGIN_NONE, call->at, attr->ref_attr_name,
                          call->outer ? call->outer->body : 0};
    at = call->at;
    attr = said;
  }
  return (PareOrigin){PARE_ORIGIN_ATTRIBUTE, at, attr->name, call ? call->body : 0};
}
