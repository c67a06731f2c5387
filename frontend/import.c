/* import.c - thin ModelProto -> IR graph: one IR node for each ONNX node, or those
 * that a composite op expands into, one constant for each initializer, Constant
 * node and attribute that the IR has as an input. Names are ONNX's. */
#include "frontend/import.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "frontend/expand.h"
#include "frontend/opset.h"
#include "frontend/tensor.h"

typedef struct Import {
  PareCtx *c;
  PareModel *m;
  PareGraph *g;
  PareMap values; /* ONNX name -> value id */
  PareFacts facts;
  const Onnx__ModelProto *p;
} Import;

static const char *text(const char *s) { return s ? s : ""; }
static const char *domain_of(const Onnx__NodeProto *n) {
  return !n->domain || !strcmp(n->domain, "ai.onnx") ? "" : n->domain;
}

/* --- what is not supported, all at once --- */

static bool is_constant(const Onnx__NodeProto *n) {
  return !strcmp(text(n->op_type), "Constant") && !*domain_of(n);
}

static bool is_supported(const Onnx__NodeProto *n) {
  if (is_constant(n)) return true;
  PareOp op = strcmp(domain_of(n), "pare") ? pare_op_find(domain_of(n), text(n->op_type)) : PARE_OP_COUNT;
  return op != PARE_OP_COUNT || pare_expand_find(domain_of(n), text(n->op_type));
}

static int64_t opset_of(const Onnx__ModelProto *p, const char *domain) {
  for (size_t i = 0; i < p->n_opset_import; i++) {
    const char *d = text(p->opset_import[i]->domain);
    if (!strcmp(!strcmp(d, "ai.onnx") ? "" : d, domain)) return p->opset_import[i]->version;
  }
  return 0;
}

/* An op that pare does not know: its first node and how many there are. */
typedef struct Unknown {
  const Onnx__NodeProto *first;
  size_t count;
} Unknown;

typedef struct Unknowns {
  PareMap index; /* "domain:op" -> place in at */
  PARE_VEC(Unknown) at;
} Unknowns;

static bool count_unknown(PareArena *a, Unknowns *u, const Onnx__NodeProto *n) {
  const char *key = pare_arena_printf(a, "%s:%s", domain_of(n), text(n->op_type));
  int64_t i = key ? pare_map_get(&u->index, key) : -1;
  Unknown first = {n, 0};
  if (i < 0) {
    i = (int64_t)u->at.n;
    if (!key || !pare_map_put(&u->index, key, i) || !pare_vec_push(a, &u->at, first)) return false;
  }
  u->at.at[i].count++;
  return true;
}

static PareStatus check_supported(PareCtx *c, const Onnx__ModelProto *p) {
  const Onnx__GraphProto *g = p->graph;
  Unknowns u = {.index = {.arena = c->scratch}};
  for (size_t i = 0; i < g->n_node; i++)
    if (!is_supported(g->node[i]) && !count_unknown(c->scratch, &u, g->node[i])) return pare_nomem(c);
  if (!u.at.n) return PARE_OK;
  char line[sizeof c->diag.text];
  size_t at = 0;
  for (size_t i = 0; i < u.at.n && at < sizeof line; i++) {
    const Onnx__NodeProto *n = u.at.at[i].first;
    const char *domain = *domain_of(n) ? domain_of(n) : "ai.onnx";
    const char *why = pare_expand_refusal(domain_of(n), text(n->op_type));
    at += (size_t)snprintf(line + at, sizeof line - at, "%s%s (%s, opset %" PRId64 ", first '%s', %zu time%s)%s%s",
                           i ? "; " : "", text(n->op_type), domain, opset_of(p, domain_of(n)),
                           n->name && *n->name ? n->name : n->n_output ? text(n->output[0]) : "", u.at.at[i].count,
                           u.at.at[i].count == 1 ? "" : "s", why ? ": " : "", why ? why : "");
  }
  return pare_error(c, PARE_UNSUPPORTED, "%zu kind%s of node not supported: %s", u.at.n, u.at.n == 1 ? "" : "s", line);
}

/* --- values --- */

static PareStatus define(Import *im, PareValue *v, const char *what) {
  if (!v) return im->c->diag.code;
  if (pare_map_get(&im->values, v->name) >= 0)
    return pare_error(im->c, PARE_FORMAT, "%s '%s' is defined twice", what, v->name);
  return pare_map_put(&im->values, v->name, v->id) ? PARE_OK : pare_nomem(im->c);
}

static PareStatus import_initializers(Import *im, const Onnx__GraphProto *p) {
  PareModel *m = im->m;
  if (p->n_sparse_initializer)
    return pare_error(im->c, PARE_UNSUPPORTED, "sparse initializers are not supported (%zu of them)",
                      p->n_sparse_initializer);
  m->ninitializers = p->n_initializer;
  m->initializer = PARE_NEW_N(m->arena, p->n_initializer + 1, PareValue *);
  if (!m->initializer) return pare_nomem(im->c);
  for (size_t i = 0; i < p->n_initializer; i++) {
    const Onnx__TensorProto *t = p->initializer[i];
    PareType type;
    const void *data;
    PARE_TRY(pare_tensor_read(im->c, m, t, text(t->name), &type, &data));
    PareValue *v = pare_const_add(im->c, im->g, text(t->name), type, data);
    PARE_TRY(define(im, v, "initializer"));
    v->origin = (PareOrigin){PARE_ORIGIN_INITIALIZER, (uint32_t)i, NULL};
    m->initializer[i] = v;
  }
  return PARE_OK;
}

/* Reads a ValueInfoProto's tensor type; dims without a number become -1. */
static PareStatus read_value_info(Import *im, const Onnx__ValueInfoProto *p, PareType *type, const char ***names) {
  *type = (PareType){0};
  const Onnx__TypeProto *tp = p->type;
  if (!tp || tp->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !tp->tensor_type)
    return pare_error(im->c, PARE_UNSUPPORTED, "'%s' is not a tensor", text(p->name));
  if (!pare_dtype_from_onnx(tp->tensor_type->elem_type, &type->dtype))
    return pare_error(im->c, PARE_UNSUPPORTED, "'%s' has element type %d, which pare does not read", text(p->name),
                      tp->tensor_type->elem_type);
  const Onnx__TensorShapeProto *s = tp->tensor_type->shape;
  size_t rank = s ? s->n_dim : 0;
  if (!s) return pare_error(im->c, PARE_UNSUPPORTED, "'%s' has no declared rank", text(p->name));
  if (rank > PARE_MAX_RANK)
    return pare_error(im->c, PARE_UNSUPPORTED, "'%s' has rank %zu, more than %d", text(p->name), rank, PARE_MAX_RANK);
  type->rank = (int)rank;
  *names = PARE_NEW_N(im->m->arena, rank + 1, const char *);
  if (!*names) return pare_nomem(im->c);
  for (size_t i = 0; i < rank; i++) {
    const Onnx__TensorShapeProto__Dimension *d = s->dim[i];
    type->dim[i] = -1;
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
      if (d->dim_value < 0) return pare_error(im->c, PARE_FORMAT, "'%s' has a negative dim", text(p->name));
      type->dim[i] = d->dim_value;
    } else if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && *text(d->dim_param)) {
      (*names)[i] = pare_arena_strdup(im->m->arena, d->dim_param);
    }
  }
  return PARE_OK;
}

static PareStatus import_inputs(Import *im, const Onnx__GraphProto *p) {
  for (size_t i = 0; i < p->n_input; i++) {
    PareType type;
    const char **names = NULL;
    int64_t id = pare_map_get(&im->values, text(p->input[i]->name));
    if (id >= 0 && im->g->values.at[id]->role == PARE_CONST) continue; /* IR version 3: an initializer's default */
    PARE_TRY(read_value_info(im, p->input[i], &type, &names));
    PareValue *v = pare_value_add(im->c, im->g, PARE_INPUT, text(p->input[i]->name), type);
    PARE_TRY(define(im, v, "input"));
    v->dim_name = names;
  }
  return PARE_OK;
}

/* What the file says of values in between: stale dims do no harm, ranks and element types are not stale. */
static PareStatus import_value_infos(Import *im, const Onnx__GraphProto *p) {
  for (size_t i = 0; i < p->n_value_info; i++) {
    const Onnx__TypeProto *t = p->value_info[i]->type;
    if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type) continue;
    const Onnx__TensorShapeProto *s = t->tensor_type->shape;
    PareFact f = {.rank = s && s->n_dim <= PARE_MAX_RANK ? (int)s->n_dim : -1, .len = -1};
    f.typed = pare_dtype_from_onnx(t->tensor_type->elem_type, &f.dtype);
    if (!pare_facts_declare(&im->facts, text(p->value_info[i]->name), f)) return pare_nomem(im->c);
  }
  return PARE_OK;
}

static PareStatus import_outputs(Import *im, const Onnx__GraphProto *p) {
  if (!p->n_output) return pare_error(im->c, PARE_FORMAT, "the graph has no output");
  for (size_t i = 0; i < p->n_output; i++) {
    int64_t id = pare_map_get(&im->values, text(p->output[i]->name));
    if (id < 0) return pare_error(im->c, PARE_FORMAT, "output '%s' is made by no node", text(p->output[i]->name));
    PareValue *v = im->g->values.at[id];
    if (!pare_vec_push(im->g->arena, &im->g->outputs, v)) return pare_nomem(im->c);
  }
  return PARE_OK;
}

/* --- attributes --- */

static int word_index(const char *words, const char *w, size_t n) {
  int i = 0;
  for (const char *p = words; *p; i++) {
    size_t len = strcspn(p, " ");
    if (len == n && !memcmp(p, w, n)) return i;
    p += len + (p[len] == ' ');
  }
  return -1;
}

static bool set_int(const Onnx__AttributeProto *p, int64_t *f) {
  *f = p->i;
  return p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT || (!p->type && p->has_i);
}
static bool set_float(const Onnx__AttributeProto *p, double *f) {
  *f = (double)p->f;
  return p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT || (!p->type && p->has_f);
}
static bool set_ints(const Onnx__AttributeProto *p, PareInts *f) {
  if (p->n_ints > PARE_MAX_INTS) return false;
  f->n = (int)p->n_ints;
  for (int i = 0; i < f->n; i++) f->at[i] = p->ints[i];
  return p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS || !p->type;
}
static bool set_dtype(const Onnx__AttributeProto *p, PareDtype *f) {
  return p->i > 0 && p->i < INT32_MAX && pare_dtype_from_onnx((int32_t)p->i, f);
}
static bool set_word(const Onnx__AttributeProto *p, const char *words, int *f) {
  *f = p->has_s ? word_index(words, (const char *)p->s.data, p->s.len) : -1;
  return *f >= 0;
}
static bool set_text(const Onnx__AttributeProto *p, const char *s, const char **f) {
  *f = s;
  return p->has_s && strlen(s) == p->s.len;
}
#define SET_INT(p, s, words, f) set_int(p, f)
#define SET_FLOAT(p, s, words, f) set_float(p, f)
#define SET_INTS(p, s, words, f) set_ints(p, f)
#define SET_DTYPE(p, s, words, f) set_dtype(p, f)
#define SET_WORD(p, s, words, f) set_word(p, words, f)
#define SET_TEXT(p, s, words, f) set_text(p, s, f)

/* 1 set, 0 no such attribute, -1 its value is not one that pare knows. The rows
 * from `act` on are pare's own: files cannot set them. s: a string's copy in the
 * graph's arena, for the message does not live as long. */
static int set_attr(PareAttrs *a, const Onnx__AttributeProto *p, const char *s) {
#define ATTR(field, kind, words)                                     \
  if (PARE_ATTR_##field < PARE_ATTR_act && !strcmp(p->name, #field)) { \
    if (!SET_##kind(p, s, words, &a->field)) return -1;              \
    a->set |= (uint64_t)1 << PARE_ATTR_##field;                      \
    return 1;                                                        \
  }
#include "ir/attrs.def"
#undef ATTR
  return 0;
}

/* An attribute that the IR has as an input: a constant that remembers where it came from. */
static PareStatus attr_to_input(Import *im, PareNode *n, const Onnx__AttributeProto *p, int k) {
  PareCtx *c = im->c;
  char *name = pare_arena_printf(im->g->arena, "%s.%s", n->name, p->name);
  if (!name) return pare_nomem(c);
  PareValue *v;
  if (p->t) {
    PareType type;
    const void *data;
    PARE_TRY(pare_tensor_read(c, im->m, p->t, name, &type, &data));
    v = pare_const_add(c, im->g, name, type, data);
  } else if (p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT) {
    v = pare_const_float(c, im->g, name, PARE_F32, (double)p->f);
  } else if (p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT) {
    v = pare_const_ints(c, im->g, name, 1, &p->i);
  } else {
    if (p->n_ints > INT32_MAX) return pare_fail(c, n, PARE_FORMAT, "attribute '%s' is too long", p->name);
    v = pare_const_ints(c, im->g, name, (int)p->n_ints, p->ints);
  }
  if (!v) return c->diag.code;
  v->origin = (PareOrigin){PARE_ORIGIN_ATTRIBUTE, n->onnx_index, pare_arena_strdup(im->g->arena, p->name)};
  if (!v->origin.attr) return pare_nomem(c);
  n->in[k] = v;
  return PARE_OK;
}

/* --- nodes --- */

static PareStatus import_constant(Import *im, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  if (p->n_output != 1 || p->n_attribute != 1)
    return pare_error(c, PARE_FORMAT, "Constant node '%s' wants one output and one attribute", text(p->name));
  const Onnx__AttributeProto *a = p->attribute[0];
  const char *name = text(p->output[0]);
  PareValue *v = NULL;
  if (a->t) {
    PareType type;
    const void *data;
    PARE_TRY(pare_tensor_read(c, im->m, a->t, name, &type, &data));
    v = pare_const_add(c, im->g, name, type, data);
  } else if (!strcmp(text(a->name), "value_ints")) {
    v = pare_const_ints(c, im->g, name, (int)a->n_ints, a->ints);
  } else if (!strcmp(text(a->name), "value_int")) {
    v = pare_const_ints(c, im->g, name, 1, &a->i);
    if (v) v->type.rank = 0;
  } else if (!strcmp(text(a->name), "value_float")) {
    v = pare_const_float(c, im->g, name, PARE_F32, (double)a->f);
  } else if (!strcmp(text(a->name), "value_floats")) {
    float *data = PARE_NEW_N(im->g->arena, a->n_floats + 1, float);
    if (!data) return pare_nomem(c);
    memcpy(data, a->floats, a->n_floats * sizeof *data);
    v = pare_const_add(c, im->g, name, (PareType){PARE_F32, 1, {(int64_t)a->n_floats}}, data);
  } else {
    return pare_error(c, PARE_UNSUPPORTED, "Constant node '%s': attribute '%s' is not supported", text(p->name),
                      text(a->name));
  }
  PARE_TRY(define(im, v, "value"));
  v->origin = (PareOrigin){PARE_ORIGIN_NODE, index, NULL};
  return PARE_OK;
}

static PareStatus check_arity(PareCtx *c, const PareNode *n, size_t nin, size_t nout) {
  const PareOpInfo *i = &pare_op_info[n->op];
  if ((i->max_in >= 0 && nin > (size_t)i->max_in) || nout < (size_t)i->min_out ||
      (i->max_out >= 0 && nout > (size_t)i->max_out))
    return pare_fail(c, n, PARE_FORMAT, "%zu inputs and %zu outputs do not fit this op", nin, nout);
  return PARE_OK;
}

static PareStatus import_attrs(Import *im, PareNode *n, const Onnx__NodeProto *p) {
  for (size_t i = 0; i < p->n_attribute; i++) {
    const Onnx__AttributeProto *a = p->attribute[i];
    if (!a->name) return pare_fail(im->c, n, PARE_FORMAT, "an attribute has no name");
    if (a->ref_attr_name && *a->ref_attr_name)
      return pare_fail(im->c, n, PARE_FORMAT, "attribute '%s' refers to a function's", a->name);
    if (pare_opset_attr_ignored(n->op, a->name, a->i != 0 || a->f != 0)) continue;
    int k = pare_opset_attr_input(n->op, a->name);
    if (k >= 0) {
      if (n->in[k]) return pare_fail(im->c, n, PARE_FORMAT, "'%s' is both an attribute and input %d", a->name, k);
      PARE_TRY(attr_to_input(im, n, a, k));
      continue;
    }
    const char *s = pare_arena_strndup(im->g->arena, (const char *)a->s.data, a->has_s ? a->s.len : 0);
    if (!s) return pare_nomem(im->c);
    int set = set_attr(&n->attr, a, s);
    if (set == 0 && pare_opset_takes_any(n->op, im->g->opset)) continue;
    if (set == 0) return pare_fail(im->c, n, PARE_UNSUPPORTED, "attribute '%s' is not supported", a->name);
    if (set < 0) return pare_fail(im->c, n, PARE_UNSUPPORTED, "the value of attribute '%s' is not supported", a->name);
  }
  pare_opset_defaults(n->op, im->g->opset, &n->attr);
  return PARE_OK;
}

static const char *name_of(const Onnx__NodeProto *p) {
  return p->name && *p->name ? p->name : p->n_output ? text(p->output[0]) : "";
}

static PareStatus expand_node(Import *im, const PareExpandRow *row, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  if (p->n_input > INT32_MAX / 2 || p->n_output > INT32_MAX / 2) return pare_nomem(c);
  PareExpand x = {.c = c, .g = im->g, .facts = &im->facts, .row = row, .p = p, .index = index,
                  .opset = opset_of(im->p, row->domain), .nin = (int)p->n_input, .nout = (int)p->n_output};
  x.name = pare_arena_strdup(im->g->arena, name_of(p));
  x.given = PARE_NEW_N(im->g->arena, p->n_input + 1, PareValue *);
  if (!x.name || !x.given) return pare_nomem(c);
  for (size_t i = 0; i < p->n_input; i++) {
    int64_t id = *text(p->input[i]) ? pare_map_get(&im->values, p->input[i]) : -1;
    if (id < 0 && *text(p->input[i]))
      return pare_diag_set(&c->diag, PARE_FORMAT, c->file, x.name, row->name, __FILE__, __LINE__,
                           "its input '%s' is made by no node", p->input[i]);
    x.given[i] = id < 0 ? NULL : im->g->values.at[id];
  }
  PARE_TRY(pare_expand(&x));
  for (int k = 0; k < x.nout; k++)
    if (x.out[k]) PARE_TRY(define(im, x.out[k], "value"));
  return PARE_OK;
}

static PareStatus import_node(Import *im, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  PareGraph *g = im->g;
  enum { ROOM = 6 }; /* the most inputs that attributes may become */
  const char *name = name_of(p);
  const PareExpandRow *row = pare_expand_find(domain_of(p), text(p->op_type));
  if (row) return expand_node(im, row, p, index);
  PareOp op = pare_op_find(domain_of(p), text(p->op_type));
  PareMark mark = pare_arena_mark(c->scratch);
  size_t room = p->n_input + ROOM;
  PareValue **in = PARE_NEW_N(c->scratch, room, PareValue *);
  if (!in || p->n_input > INT32_MAX / 2 || p->n_output > INT32_MAX / 2) return pare_nomem(c);
  PareNode *n = pare_node_add(c, g, NULL, op, name, (int)room, in, (int)p->n_output);
  pare_arena_rewind(c->scratch, mark);
  if (!n) return c->diag.code;
  n->onnx_index = index;
  PARE_TRY(check_arity(c, n, p->n_input, p->n_output));
  for (size_t i = 0; i < p->n_input; i++) {
    if (!*text(p->input[i])) continue;
    int64_t id = pare_map_get(&im->values, p->input[i]);
    if (id < 0)
      return pare_fail(c, n, PARE_FORMAT, "its input '%s' is made by no node", p->input[i]);
    n->in[i] = g->values.at[id];
  }
  PARE_TRY(import_attrs(im, n, p));
  while (n->nin > 0 && !n->in[n->nin - 1]) n->nin--;
  if (n->nin < pare_op_info[op].min_in) return pare_fail(c, n, PARE_FORMAT, "an input is missing");
  for (int i = 0; i < pare_op_info[op].min_in; i++)
    if (!n->in[i]) return pare_fail(c, n, PARE_FORMAT, "input %d is missing", i);
  for (int i = 0; i < n->nout; i++) {
    if (!*text(p->output[i])) {
      n->out[i] = NULL;
      continue;
    }
    n->out[i]->name = pare_arena_strdup(g->arena, p->output[i]);
    if (!n->out[i]->name) return pare_nomem(c);
    PARE_TRY(define(im, n->out[i], "value"));
  }
  return pare_facts_infer(&im->facts, n) ? PARE_OK : pare_nomem(c);
}

/* --- order --- */

/* A stack of nodes of the file: each waits for those above it. */
typedef struct Order {
  const Onnx__GraphProto *g;
  PareMap maker; /* value name -> node number */
  PARE_VEC(uint32_t) stack;
  uint8_t *state; /* 0: not seen, 1: on the way down to it, 2: listed */
  uint32_t *list;
  uint32_t n;
} Order;

static PareStatus push_makers(PareCtx *c, Order *o, uint32_t at) {
  const Onnx__NodeProto *n = o->g->node[at];
  for (size_t i = 0; i < n->n_input; i++) {
    int64_t maker = *text(n->input[i]) ? pare_map_get(&o->maker, n->input[i]) : -1;
    if (maker < 0 || o->state[maker] == 2) continue;
    if (o->state[maker] == 1)
      return pare_diag_set(&c->diag, PARE_FORMAT, c->file, text(n->name), text(n->op_type), __FILE__, __LINE__,
                           "its input '%s' depends on its own result (a cycle)", n->input[i]);
    if (!pare_vec_push(c->scratch, &o->stack, (uint32_t)maker)) return pare_nomem(c);
  }
  return PARE_OK;
}

/* Depth first, so that nodes that stand in order, as the standard wants, keep it. */
static PareStatus list_nodes(PareCtx *c, Order *o) {
  for (uint32_t i = 0; i < o->g->n_node; i++) {
    if (!o->state[i] && !pare_vec_push(c->scratch, &o->stack, i)) return pare_nomem(c);
    while (o->stack.n) {
      uint32_t at = o->stack.at[o->stack.n - 1];
      if (o->state[at] == 0) {
        o->state[at] = 1;
        PARE_TRY(push_makers(c, o, at));
        continue;
      }
      if (o->state[at] == 1) o->list[o->n++] = at;
      o->state[at] = 2;
      o->stack.n--;
    }
  }
  return PARE_OK;
}

/* An order in which the nodes can be run: ONNX Runtime takes files whose nodes
 * do not stand in one. In c->scratch. */
static PareStatus order_nodes(PareCtx *c, const Onnx__GraphProto *g, const uint32_t **list) {
  Order o = {.g = g, .maker = {.arena = c->scratch}};
  o.state = PARE_NEW_N(c->scratch, g->n_node + 1, uint8_t);
  o.list = PARE_NEW_N(c->scratch, g->n_node + 1, uint32_t);
  if (!o.state || !o.list || g->n_node >= PARE_NO_INDEX) return pare_nomem(c);
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++)
      if (*text(g->node[i]->output[k]) && !pare_map_put(&o.maker, g->node[i]->output[k], (int64_t)i))
        return pare_nomem(c);
  PARE_TRY(list_nodes(c, &o));
  *list = o.list;
  return PARE_OK;
}

PareStatus pare_import(PareCtx *c, PareModel *m, const Onnx__ModelProto *p) {
  if (!p->graph) return pare_error(c, PARE_FORMAT, "the file holds no graph");
  PARE_TRY(check_supported(c, p));
  Import im = {.c = c, .m = m, .g = pare_graph_new(c, m->arena), .values = {.arena = m->arena}, .p = p};
  im.facts = (PareFacts){.arena = m->arena, .declared = {.arena = m->arena}};
  if (!im.g) return c->diag.code;
  m->graph = im.g;
  m->ir_version = p->ir_version;
  m->nnodes = p->graph->n_node;
  m->producer = pare_arena_printf(m->arena, "%s%s%s", text(p->producer_name), *text(p->producer_version) ? " " : "",
                                  text(p->producer_version));
  if (!m->producer) return pare_nomem(c);
  im.g->opset = opset_of(p, "");
  if (im.g->opset < 1) return pare_error(c, PARE_FORMAT, "the model does not say which opset of ONNX it imports");
  PARE_TRY(import_initializers(&im, p->graph));
  PARE_TRY(import_inputs(&im, p->graph));
  PARE_TRY(import_value_infos(&im, p->graph));
  const uint32_t *order = NULL;
  PARE_TRY(order_nodes(c, p->graph, &order));
  for (size_t i = 0; i < p->graph->n_node; i++) {
    const Onnx__NodeProto *n = p->graph->node[order[i]];
    PARE_TRY(is_constant(n) ? import_constant(&im, n, order[i]) : import_node(&im, n, order[i]));
  }
  return import_outputs(&im, p->graph);
}
