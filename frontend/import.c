/* import.c - thin ModelProto -> IR graph: one IR node for each ONNX node, or those
 * that a composite op expands into, one constant for each initializer, Constant
 * node and attribute that the IR has as an input. Names are ONNX's. */
#include "frontend/import.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "frontend/attrs.h"
#include "frontend/branch.h"
#include "frontend/expand.h"
#include "frontend/fingerprint.h"
#include "frontend/nodes.h"
#include "frontend/opaque.h"
#include "frontend/opset.h"
#include "frontend/sparse.h"
#include "frontend/tensor.h"

typedef struct Import {
  PareCtx *c;
  PareModel *m;
  PareGraph *g;
  PareMap values; /* ONNX name -> value id, or LEFT_OUT, in the graph or in the body that is being imported */
  PareFacts *facts;
  const Onnx__ModelProto *p;
  PareFunctions functions;
  const PareCall *call; /* whose body is being imported; NULL: the graph */
  const struct Import *outer; /* what stands around the branch that is being imported; NULL: it is none */
  const char *branch;         /* the name of its If */
  uint32_t at;          /* number of the node there */
  int64_t opset;        /* of the default domain there */
} Import;

enum { LEFT_OUT = -2 }; /* an input that the call of a function leaves out */

/* --- values --- */

/* `name` in the graph, or inside the call or branch that is imported. NULL when memory is out. */
static const char *scoped(Import *im, const char *name) {
  PareArena *a = im->g->arena;
  const char *inside = im->call ? im->call->name : im->branch;
  return inside ? pare_arena_printf(a, "%s/%s", inside, name) : pare_arena_strdup(a, name);
}

/* v is what the file calls `name` here. */
static PareStatus define_as(Import *im, PareValue *v, const char *name, const char *what) {
  if (!v) return im->c->diag.code;
  if (pare_map_get(&im->values, name) != -1)
    return pare_error(im->c, PARE_FORMAT, "%s '%s' is defined twice", what, v->name);
  char *key = pare_arena_strdup(im->g->arena, name);
  return key && pare_map_put(&im->values, key, v->id) ? PARE_OK : pare_nomem(im->c);
}

static PareStatus define(Import *im, PareValue *v, const char *what) {
  return define_as(im, v, v ? v->name : "", what);
}

/* The value that the file calls `name` here; NULL where it is left out. */
static PareStatus lookup(Import *im, const char *node, const char *op, const char *name, PareValue **out) {
  int64_t id = *pare_text(name) ? pare_map_get(&im->values, name) : LEFT_OUT;
  for (const Import *o = im->outer; o && id == -1; o = o->outer) id = pare_map_get(&o->values, name);
  *out = id < 0 ? NULL : im->g->values.at[id];
  if (id >= 0 || id == LEFT_OUT) return PARE_OK;
  return pare_diag_set(&im->c->diag, PARE_FORMAT, im->c->file, node, op, __FILE__, __LINE__,
                       "its input '%s' is made by no node", name);
}

static PareStatus import_initializer(Import *im, const Onnx__TensorProto *t, PareValue **out) {
  PareType type;
  const void *data;
  const char *name = scoped(im, pare_text(t->name));
  if (!name) return pare_nomem(im->c);
  PARE_TRY(pare_tensor_read(im->c, im->m, t, name, &type, &data));
  *out = pare_const_add(im->c, im->g, name, type, data);
  return define_as(im, *out, pare_text(t->name), "initializer");
}

static PareStatus import_initializers(Import *im, const Onnx__GraphProto *p) {
  PareModel *m = im->m;
  m->ninitializers = p->n_initializer;
  m->initializer = PARE_NEW_N(m->arena, p->n_initializer + 1, PareValue *);
  if (!m->initializer) return pare_nomem(im->c);
  for (size_t i = 0; i < p->n_initializer; i++) {
    PARE_TRY(import_initializer(im, p->initializer[i], &m->initializer[i]));
    m->initializer[i]->origin = (PareOrigin){.kind = PARE_ORIGIN_INITIALIZER, .index = (uint32_t)i};
  }
  return PARE_OK;
}

/* Their name is that of their values. */
static PareStatus import_sparse(Import *im, const Onnx__SparseTensorProto *t, uint32_t index) {
  PareType type;
  const void *data;
  const char *name = pare_arena_strdup(im->g->arena, t->values ? pare_text(t->values->name) : "");
  if (!name) return pare_nomem(im->c);
  if (!*name) return pare_error(im->c, PARE_FORMAT, "sparse initializer %u has no name", index);
  PARE_TRY(pare_sparse_read(im->c, im->m, t, name, &type, &data));
  PareValue *v = pare_const_add(im->c, im->g, name, type, data);
  PARE_TRY(define(im, v, "initializer"));
  v->origin = (PareOrigin){.kind = PARE_ORIGIN_SPARSE, .index = index};
  return PARE_OK;
}

static PareStatus import_sparse_initializers(Import *im, const Onnx__GraphProto *p) {
  im->m->nsparse = p->n_sparse_initializer;
  for (size_t i = 0; i < p->n_sparse_initializer; i++)
    PARE_TRY(import_sparse(im, p->sparse_initializer[i], (uint32_t)i));
  return PARE_OK;
}

/* "?" names nothing: axes that are called so have sizes of their own. */
static bool is_name(const char *dim_param) { return *pare_text(dim_param) && strcmp(dim_param, "?"); }

/* Reads a ValueInfoProto's tensor type; dims without a number become -1, and so do negative ones, by which some exporters
 * (paddle2onnx) say the same and ONNX Runtime understands it. */
static PareStatus read_value_info(Import *im, const Onnx__ValueInfoProto *p, PareType *type, const char ***names) {
  *type = (PareType){0};
  const Onnx__TypeProto *tp = p->type;
  if (!tp || tp->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !tp->tensor_type)
    return pare_error(im->c, PARE_UNSUPPORTED, "'%s' is not a tensor", pare_text(p->name));
  if (!pare_dtype_from_onnx(tp->tensor_type->elem_type, &type->dtype))
    return pare_error(im->c, PARE_UNSUPPORTED, "'%s' has element type %d, which pare does not read", pare_text(p->name),
                      tp->tensor_type->elem_type);
  const Onnx__TensorShapeProto *s = tp->tensor_type->shape;
  size_t rank = s ? s->n_dim : 0;
  if (!s) return pare_error(im->c, PARE_UNSUPPORTED, "'%s' has no declared rank", pare_text(p->name));
  if (rank > PARE_MAX_RANK)
    return pare_error(im->c, PARE_UNSUPPORTED, "'%s' has rank %zu, more than %d", pare_text(p->name), rank,
                      PARE_MAX_RANK);
  type->rank = (int)rank;
  *names = PARE_NEW_N(im->m->arena, rank + 1, const char *);
  if (!*names) return pare_nomem(im->c);
  for (size_t i = 0; i < rank; i++) {
    const Onnx__TensorShapeProto__Dimension *d = s->dim[i];
    type->dim[i] = -1;
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
      if (d->dim_value >= 0) type->dim[i] = d->dim_value;
    } else if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && is_name(d->dim_param)) {
      (*names)[i] = pare_arena_strdup(im->m->arena, d->dim_param);
    }
  }
  return PARE_OK;
}

static PareStatus import_inputs(Import *im, const Onnx__GraphProto *p) {
  for (size_t i = 0; i < p->n_input; i++) {
    PareType type;
    const char **names = NULL;
    int64_t id = pare_map_get(&im->values, pare_text(p->input[i]->name));
    if (id >= 0 && im->g->values.at[id]->role == PARE_CONST) continue; /* IR version 3: an initializer's default */
    PARE_TRY(read_value_info(im, p->input[i], &type, &names));
    PareValue *v = pare_value_add(im->c, im->g, PARE_INPUT, pare_text(p->input[i]->name), type);
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
    if (!pare_facts_declare(im->facts, pare_text(p->value_info[i]->name), f)) return pare_nomem(im->c);
  }
  return PARE_OK;
}

static PareStatus import_output(Import *im, const char *name) {
  int64_t id = pare_map_get(&im->values, name);
  if (id < 0) return pare_error(im->c, PARE_FORMAT, "output '%s' is made by no node", name);
  return pare_vec_push(im->g->arena, &im->g->outputs, im->g->values.at[id]) ? PARE_OK : pare_nomem(im->c);
}

/* Where nodes are left out, what they read may be neither cut nor changed in its place. */
static PareStatus import_outputs(Import *im, const Onnx__GraphProto *p, const PareOpaqueSet *opaque) {
  if (!p->n_output) return pare_error(im->c, PARE_FORMAT, "the graph has no output");
  for (size_t i = 0; !opaque->left_out && i < p->n_output; i++)
    PARE_TRY(import_output(im, pare_text(p->output[i]->name)));
  for (size_t i = 0; opaque->left_out && i < opaque->outputs.n; i++) PARE_TRY(import_output(im, opaque->outputs.at[i]));
  for (size_t i = 0; opaque->left_out && i < opaque->read.n; i++) {
    int64_t id = pare_map_get(&im->values, opaque->read.at[i]);
    if (id >= 0) im->g->values.at[id]->pinned = true;
  }
  return PARE_OK;
}

/* --- attributes --- */

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
  if (!im->branch) v->origin = pare_attribute_origin(im->call, im->at, p);
  if (v->origin.attr && !(v->origin.attr = pare_arena_strdup(im->g->arena, v->origin.attr))) return pare_nomem(c);
  n->in[k] = v;
  return PARE_OK;
}

/* --- nodes --- */

static PareStatus import_constant(Import *im, const Onnx__NodeProto *p) {
  PareCtx *c = im->c;
  if (p->n_output != 1 || p->n_attribute != 1)
    return pare_error(c, PARE_FORMAT, "Constant node '%s' wants one output and one attribute", pare_text(p->name));
  const Onnx__AttributeProto *a = p->attribute[0];
  const char *name = scoped(im, pare_text(p->output[0]));
  PareValue *v = NULL;
  if (!name) return pare_nomem(c);
  if (a->t) {
    PareType type;
    const void *data;
    PARE_TRY(pare_tensor_read(c, im->m, a->t, name, &type, &data));
    v = pare_const_add(c, im->g, name, type, data);
  } else if (!strcmp(pare_text(a->name), "value_ints")) {
    v = pare_const_ints(c, im->g, name, (int)a->n_ints, a->ints);
  } else if (!strcmp(pare_text(a->name), "value_int")) {
    v = pare_const_ints(c, im->g, name, 1, &a->i);
    if (v) v->type.rank = 0;
  } else if (!strcmp(pare_text(a->name), "value_float")) {
    v = pare_const_float(c, im->g, name, PARE_F32, (double)a->f);
  } else if (!strcmp(pare_text(a->name), "value_floats")) {
    float *data = PARE_NEW_N(im->g->arena, a->n_floats + 1, float);
    if (!data) return pare_nomem(c);
    memcpy(data, a->floats, a->n_floats * sizeof *data);
    v = pare_const_add(c, im->g, name, (PareType){PARE_F32, 1, {(int64_t)a->n_floats}}, data);
  } else {
    return pare_error(c, PARE_UNSUPPORTED, "Constant node '%s': attribute '%s' is not supported", pare_text(p->name),
                      pare_text(a->name));
  }
  PARE_TRY(define_as(im, v, pare_text(p->output[0]), "value"));
  if (!im->branch) v->origin = (PareOrigin){PARE_ORIGIN_NODE, im->at, NULL, im->call ? im->call->body : 0};
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
    if (!im->call && *pare_text(a->ref_attr_name))
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
    int set = pare_attr_read(&n->attr, a, s);
    if (set == 0 && pare_opset_takes_any(n->op, im->opset)) continue;
    if (set == 0) return pare_fail(im->c, n, PARE_UNSUPPORTED, "attribute '%s' is not supported", a->name);
    if (set < 0) return pare_fail(im->c, n, PARE_UNSUPPORTED, "the value of attribute '%s' is not supported", a->name);
  }
  pare_opset_defaults(n->op, im->opset, &n->attr);
  return PARE_OK;
}

static const char *name_of(Import *im, const Onnx__NodeProto *p) {
  return scoped(im, p->name && *p->name ? p->name : p->n_output ? pare_text(p->output[0]) : "");
}

/* Output `name` of a node or call is v. */
static PareStatus define_output(Import *im, PareValue *v, const char *name) {
  if (!(v->name = scoped(im, name))) return pare_nomem(im->c);
  return define_as(im, v, name, "value");
}

static PareStatus expand_node(Import *im, const PareExpandRow *row, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  if (p->n_input > INT32_MAX / 2 || p->n_output > INT32_MAX / 2) return pare_nomem(c);
  int64_t opset = *row->domain ? pare_opset_of(im->p, row->domain) : im->opset;
  PareExpand x = {.c = c, .g = im->g, .facts = im->facts, .row = row, .p = p, .name = name_of(im, p), .index = index,
                  .at = im->at, .call = im->call, .opset = opset, .nin = (int)p->n_input, .nout = (int)p->n_output};
  x.given = PARE_NEW_N(im->g->arena, p->n_input + 1, PareValue *);
  if (!x.name || !x.given) return pare_nomem(c);
  for (size_t i = 0; i < p->n_input; i++) PARE_TRY(lookup(im, x.name, row->name, p->input[i], &x.given[i]));
  PARE_TRY(pare_expand(&x));
  for (int k = 0; k < x.nout; k++)
    if (x.out[k]) PARE_TRY(define_output(im, x.out[k], p->output[k]));
  return PARE_OK;
}

static PareStatus import_node(Import *im, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  PareGraph *g = im->g;
  enum { ROOM = 6 }; /* the most inputs that attributes may become */
  const char *name = name_of(im, p);
  const PareExpandRow *row = pare_expand_find(pare_domain_of(p), pare_text(p->op_type));
  if (row) return expand_node(im, row, p, index);
  if (!name) return pare_nomem(c);
  PareOp op = pare_op_find(pare_domain_of(p), pare_text(p->op_type));
  PareMark mark = pare_arena_mark(c->scratch);
  size_t room = p->n_input + ROOM;
  PareValue **in = PARE_NEW_N(c->scratch, room, PareValue *);
  if (!in || p->n_input > INT32_MAX / 2 || p->n_output > INT32_MAX / 2) return pare_nomem(c);
  PareNode *n = pare_node_add(c, g, NULL, op, name, (int)room, in, (int)p->n_output);
  pare_arena_rewind(c->scratch, mark);
  if (!n) return c->diag.code;
  n->onnx_index = index;
  n->onnx_input = im->call || im->branch ? PARE_INSIDE : 0;
  PARE_TRY(check_arity(c, n, p->n_input, p->n_output));
  for (size_t i = 0; i < p->n_input; i++) PARE_TRY(lookup(im, name, pare_text(p->op_type), p->input[i], &n->in[i]));
  PARE_TRY(import_attrs(im, n, p));
  while (n->nin > 0 && !n->in[n->nin - 1]) n->nin--;
  if (n->nin < pare_op_info[op].min_in) return pare_fail(c, n, PARE_FORMAT, "an input is missing");
  for (int i = 0; i < pare_op_info[op].min_in; i++)
    if (!n->in[i]) return pare_fail(c, n, PARE_FORMAT, "input %d is missing", i);
  for (int i = 0; i < n->nout; i++) {
    if (!*pare_text(p->output[i])) {
      n->out[i] = NULL;
      continue;
    }
    PARE_TRY(define_output(im, n->out[i], p->output[i]));
  }
  return pare_facts_infer(im->facts, n) ? PARE_OK : pare_nomem(c);
}

/* --- functions --- */

static PareStatus import_any(Import *im, const Onnx__NodeProto *p, uint32_t index);

/* v under a name of its own: the view of an input, or an output that is no result of the body. */
static PareValue *view(Import *im, const char *name, PareValue *v, uint32_t index, int onnx_input) {
  PareNode *n = pare_node_add(im->c, im->g, NULL, PARE_OP_IDENTITY, name, 1, &v, 1);
  if (!n) return NULL;
  n->onnx_index = index;
  n->onnx_input = onnx_input;
  if (!pare_facts_infer(im->facts, n)) return pare_nomem(im->c), NULL;
  return n->out[0];
}

/* Input k of the body, in `in->values`. A constant of the graph is read by one view. */
static PareStatus bind_input(Import *im, Import *in, size_t k) {
  const PareCall *call = in->call;
  PareValue *v = NULL;
  const char *op = pare_text(call->f->name);
  if (k < call->node->n_input) PARE_TRY(lookup(im, call->name, op, call->node->input[k], &v));
  const char *name = pare_text(call->f->input[k]);
  if (v && v->role == PARE_CONST && !call->outer) {
    const char *full = scoped(in, name);
    if (!full || !(v = view(im, full, v, call->index, (int)k + 1))) return pare_nomem(im->c);
  }
  if (pare_map_get(&in->values, name) != -1)
    return pare_error(im->c, PARE_FORMAT, "function '%s' names its input '%s' twice", pare_text(call->f->name), name);
  return pare_map_put(&in->values, name, v ? (int64_t)v->id : LEFT_OUT) ? PARE_OK : pare_nomem(im->c);
}

/* The results of a body or branch from value first_own on are its own; others, and one that has
 * been handed out before, are handed out as a view. */
static PareStatus hand_out(Import *im, PareValue *v, bool again, size_t first_own, const char *name, uint32_t index) {
  bool own = v->role == PARE_RESULT && v->id >= first_own && !again;
  if (!own && !(v = view(im, name, v, index, PARE_INSIDE))) return im->c->diag.code;
  return define_output(im, v, name);
}

/* Output k of the call, which the body calls f->output[k]. */
static PareStatus bind_output(Import *im, Import *in, size_t k, size_t first_own) {
  const PareCall *call = in->call;
  const char *name = pare_text(call->node->output[k]);
  if (!*name) return PARE_OK;
  PareValue *v;
  PARE_TRY(lookup(in, call->name, pare_text(call->node->op_type), call->f->output[k], &v));
  if (!v)
    return pare_error(im->c, PARE_FORMAT, "function '%s' leaves out its output '%s'", pare_text(call->f->name),
                      pare_text(call->f->output[k]));
  bool again = false;
  for (size_t i = 0; i < k; i++) again |= !strcmp(pare_text(call->f->output[i]), pare_text(call->f->output[k]));
  return hand_out(im, v, again, first_own, name, call->index);
}

static int64_t opset_in(const Onnx__FunctionProto *f, int64_t dflt) {
  for (size_t i = 0; i < f->n_opset_import; i++) {
    const char *d = pare_text(f->opset_import[i]->domain);
    if (!*d || !strcmp(d, "ai.onnx")) return f->opset_import[i]->version;
  }
  return dflt;
}

/* Enters the call of function `number` among the bodies, with a name for a clone. */
static PareStatus add_body(Import *im, PareCall *call, int64_t number) {
  PareGraph *g = im->g;
  PareBody b = {im->call ? im->call->body : 0, im->at, (uint32_t)number, (uint32_t)call->f->n_node, NULL};
  if (g->bodies.n >= PARE_MAX_BODIES)
    return pare_error(im->c, PARE_UNSUPPORTED, "functions are called more than %d times", PARE_MAX_BODIES);
  call->body = (uint32_t)g->bodies.n + 1;
  b.clone = pare_arena_printf(g->arena, "%s.pare%u", pare_text(call->f->name), call->body);
  for (int64_t taken = 0; b.clone && taken != PARE_NO_FUNCTION;) {
    if (!pare_function_find(im->c->scratch, &im->functions, call->f->domain, b.clone, &taken)) b.clone = NULL;
    else if (taken != PARE_NO_FUNCTION) b.clone = pare_arena_printf(g->arena, "%s_", b.clone);
  }
  return b.clone && pare_vec_push(g->arena, &g->bodies, b) ? PARE_OK : pare_nomem(im->c);
}

/* The body in the place of the call. */
static PareStatus import_call(Import *im, int64_t number, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  const Onnx__FunctionProto *f = im->functions.at[number];
  PareCall call = {.outer = im->call, .f = f, .node = p, .name = name_of(im, p), .index = index, .at = im->at,
                   .depth = im->call ? im->call->depth + 1 : 1};
  if (!call.name) return pare_nomem(c);
  if (call.depth > PARE_MAX_CALLS)
    return pare_error(c, PARE_UNSUPPORTED, "function '%s' is called more than %d deep", pare_text(f->name),
                      PARE_MAX_CALLS);
  if (p->n_input > f->n_input || p->n_output > f->n_output || p->n_input >= INT32_MAX)
    return pare_error(c, PARE_FORMAT, "node '%s': %zu inputs and %zu outputs do not fit function '%s'", call.name,
                      p->n_input, p->n_output, pare_text(f->name));
  PARE_TRY(add_body(im, &call, number));
  Import in = *im;
  in.call = &call;
  in.opset = opset_in(f, im->opset);
  in.values = (PareMap){.arena = im->values.arena};
  size_t first_own = im->g->values.n;
  for (size_t k = 0; k < f->n_input; k++) PARE_TRY(bind_input(im, &in, k));
  PareStatus s = PARE_OK;
  for (size_t i = 0; i < f->n_node && s == PARE_OK; i++) {
    const Onnx__NodeProto *n = pare_function_node(im->g->arena, &call, f->node[i]);
    in.at = (uint32_t)i;
    s = n ? import_any(&in, n, index) : pare_nomem(c);
  }
  for (size_t k = 0; k < p->n_output && s == PARE_OK; k++) s = bind_output(im, &in, k, first_own);
  return s;
}

/* --- branches --- */

static const Onnx__GraphProto *branch_graph(const Onnx__NodeProto *p, const char *name) {
  for (size_t i = 0; i < p->n_attribute; i++)
    if (!strcmp(pare_text(p->attribute[i]->name), name)) return p->attribute[i]->g;
  return NULL;
}

/* Nodes and results of the branch that is taken, in the place of the If. */
static PareStatus import_branch(Import *im, const Onnx__GraphProto *g, const Onnx__NodeProto *p, const char *name,
                                uint32_t index) {
  PareCtx *c = im->c;
  Import in = *im;
  in.outer = im;
  in.branch = name;
  in.values = (PareMap){.arena = im->values.arena};
  size_t first_own = im->g->values.n;
  const uint32_t *order;
  PARE_TRY(pare_order_nodes(c, g, &order));
  for (size_t i = 0; i < g->n_initializer; i++) {
    PareValue *v;
    PARE_TRY(import_initializer(&in, g->initializer[i], &v));
  }
  for (size_t i = 0; i < g->n_node; i++) PARE_TRY(import_any(&in, g->node[order[i]], index));
  for (size_t k = 0; k < p->n_output; k++) {
    if (!*pare_text(p->output[k])) continue;
    const char *made = pare_text(g->output[k]->name);
    PareValue *v;
    bool again = false;
    PARE_TRY(lookup(&in, name, "If", made, &v));
    if (!v) return pare_error(c, PARE_FORMAT, "node '%s': a branch has an output without a name", name);
    for (size_t i = 0; i < k; i++) again |= !strcmp(pare_text(g->output[i]->name), made);
    PARE_TRY(hand_out(im, v, again, first_own, p->output[k], index));
  }
  return PARE_OK;
}

static PareStatus import_if(Import *im, const Onnx__NodeProto *p, uint32_t index) {
  PareCtx *c = im->c;
  const char *name = name_of(im, p);
  PareValue *cond = NULL;
  int taken;
  if (!name) return pare_nomem(c);
  if (p->n_input != 1) return pare_error(c, PARE_FORMAT, "node '%s' (If): it reads one condition", name);
  PARE_TRY(lookup(im, name, "If", p->input[0], &cond));
  if (!cond) return pare_error(c, PARE_FORMAT, "node '%s' (If): its condition is missing", name);
  PARE_TRY(pare_branch_taken(c, im->g, cond, &taken));
  if (im->call || taken == PARE_BRANCH_OPEN)
    return pare_error(c, PARE_UNSUPPORTED, "node '%s' (If): %s", name,
                      im->call ? "it stands in a function of the model"
                               : "its condition depends on data or on sizes, so either branch may run");
  const Onnx__GraphProto *g = branch_graph(p, taken == PARE_BRANCH_THEN ? "then_branch" : "else_branch");
  if (!g || g->n_output < p->n_output || g->n_input)
    return pare_error(c, PARE_FORMAT, "node '%s' (If): its branch has other outputs, or inputs", name);
  if (g->n_sparse_initializer)
    return pare_error(c, PARE_UNSUPPORTED, "node '%s' (If): its branch has sparse initializers", name);
  return import_branch(im, g, p, name, index);
}

static PareStatus import_any(Import *im, const Onnx__NodeProto *p, uint32_t index) {
  int64_t f;
  if (pare_is_if(p)) return import_if(im, p, index);
  if (!pare_function_find(im->c->scratch, &im->functions, p->domain, p->op_type, &f)) return pare_nomem(im->c);
  if (f == PARE_OVERLOADED)
    return pare_error(im->c, PARE_UNSUPPORTED, "function '%s' is there in several forms (overloads)",
                      pare_text(p->op_type));
  if (im->branch && (f != PARE_NO_FUNCTION || pare_expand_find(pare_domain_of(p), pare_text(p->op_type))))
    return pare_error(im->c, PARE_UNSUPPORTED, "node '%s' (%s): in a branch of '%s' it cannot be taken apart",
                      pare_text(p->name), pare_text(p->op_type), im->branch);
  if (f != PARE_NO_FUNCTION) return import_call(im, f, p, index);
  return pare_is_constant_node(p) ? import_constant(im, p) : import_node(im, p, index);
}

PareStatus pare_import(PareCtx *c, PareModel *m, const Onnx__ModelProto *p) {
  if (!p->graph) return pare_error(c, PARE_FORMAT, "the file holds no graph");
  PareFunctions functions;
  if (!pare_functions_index(c->scratch, p, &functions)) return pare_nomem(c);
  const uint32_t *order = NULL;
  PareOpaqueSet opaque;
  PARE_TRY(pare_order_nodes(c, p->graph, &order));
  PARE_TRY(pare_leave_out(c, m->arena, m, p, &functions, order, &opaque));
  PARE_TRY(pare_check_supported(c, p, &functions, opaque.left_out, opaque.why));
  Import im = {.c = c, .m = m, .g = pare_graph_new(c, m->arena), .values = {.arena = m->arena}, .p = p};
  im.functions = functions;
  PareFacts facts = {.arena = m->arena, .declared = {.arena = m->arena}};
  im.facts = &facts;
  if (!im.g) return c->diag.code;
  m->graph = im.g;
  m->ir_version = p->ir_version;
  m->nnodes = p->graph->n_node;
  const char *version = pare_text(p->producer_version);
  m->producer = pare_arena_printf(m->arena, "%s%s%s", pare_text(p->producer_name), *version ? " " : "", version);
  if (!m->producer) return pare_nomem(c);
  PARE_TRY(pare_fingerprint(c, m->arena, p, &m->fingerprint));
  im.g->opset = pare_opset_of(p, "");
  im.opset = im.g->opset;
  if (im.g->opset < 1) return pare_error(c, PARE_FORMAT, "the model does not say which opset of ONNX it imports");
  PARE_TRY(import_initializers(&im, p->graph));
  PARE_TRY(import_sparse_initializers(&im, p->graph));
  PARE_TRY(import_inputs(&im, p->graph));
  PARE_TRY(import_value_infos(&im, p->graph));
  for (size_t i = 0; i < p->graph->n_node; i++) {
    const Onnx__NodeProto *n = p->graph->node[order[i]];
    im.at = order[i];
    if (!opaque.left_out || !opaque.left_out[order[i]]) PARE_TRY(import_any(&im, n, order[i]));
  }
  return import_outputs(&im, p->graph, &opaque);
}
