/* expand.c - the table of composite ops, and what expansions are written in. */
#include "frontend/expand.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *text(const char *s) { return s ? s : ""; }

/* --- the table --- */

static const PareExpandRow rows[] = {
#define EXPAND(fn, name, domain, lo, hi, nout, attrs) {name, domain, lo, hi, nout, attrs, pare_expand_##fn},
#define REFUSED(name, domain, why)
#include "frontend/expand.def"
#undef EXPAND
#undef REFUSED
};

static const struct {
  const char *name, *domain, *why;
} refused[] = {
#define EXPAND(fn, name, domain, lo, hi, nout, attrs)
#define REFUSED(name, domain, why) {name, domain, why},
#include "frontend/expand.def"
#undef EXPAND
#undef REFUSED
};

const PareExpandRow *pare_expand_find(const char *domain, const char *name) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (!strcmp(rows[i].name, name) && !strcmp(rows[i].domain, domain)) return &rows[i];
  return NULL;
}

const char *pare_expand_refusal(const char *domain, const char *name) {
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
    if (!strcmp(refused[i].domain, domain) && (!*refused[i].name || !strcmp(refused[i].name, name)))
      return refused[i].why;
  return NULL;
}

PareValue *pare_expand_fail(PareExpand *x, PareStatus s, const char *fmt, ...) {
  char why[sizeof x->c->diag.text];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, sizeof why, fmt, ap);
  va_end(ap);
  if (x->status == PARE_OK)
    x->status = pare_diag_set(&x->c->diag, s, x->c->file, x->name, x->row->name, __FILE__, __LINE__, "%s", why);
  return NULL;
}

static PareValue *no_memory(PareExpand *x) { return pare_expand_fail(x, PARE_NOMEM, "out of memory"); }

static bool lists(const char *words, const char *w) {
  size_t n = strlen(w);
  for (const char *p = words; *p;) {
    size_t len = strcspn(p, " ");
    if (len == n && !memcmp(p, w, n)) return true;
    p += len + (p[len] == ' ');
  }
  return false;
}

static void check_attrs(PareExpand *x) {
  for (size_t i = 0; i < x->p->n_attribute; i++) {
    const Onnx__AttributeProto *a = x->p->attribute[i];
    if (!x->call && *text(a->ref_attr_name))
      pare_expand_fail(x, PARE_FORMAT, "attribute '%s' refers to a function's", text(a->name));
    else if (!lists(x->row->attrs, text(a->name)))
      pare_expand_fail(x, PARE_UNSUPPORTED, "attribute '%s' is not supported", text(a->name));
  }
}

static void check_arity(PareExpand *x) {
  if ((x->row->max_in >= 0 && x->nin > x->row->max_in) || x->nout > x->row->max_out || !pare_expand_wants(x, 0))
    pare_expand_fail(x, PARE_FORMAT, "%d inputs and %d outputs do not fit this op", x->nin, x->nout);
  for (int k = 0; k < x->row->min_in; k++)
    if (!pare_expand_has(x, k)) pare_expand_fail(x, PARE_FORMAT, "input %d is missing", k);
}

/* Is it read by a node behind it, or an output of the op? */
static bool is_used(const PareExpand *x, const PareNode *n) {
  bool used = false;
  for (int o = 0; o < n->nout; o++) {
    for (int k = 0; k < x->nout; k++) used |= n->out[o] && x->out[k] == n->out[o];
    for (const PareNode *m = n->next; m && !used; m = m->next)
      for (int k = 0; k < m->nin; k++) used |= m->in[k] && m->in[k] == n->out[o];
  }
  return used;
}

/* Nodes that were made and not needed in the end would keep the op from going with a branch that it is all of. */
static void drop_unused(const PareExpand *x, const PareNode *before) {
  for (PareNode *n = x->g->last, *prev; n && n != before; n = prev) {
    prev = n->prev;
    if (!is_used(x, n)) pare_node_remove(x->g, n);
  }
}

PareStatus pare_expand(PareExpand *x) {
  const PareNode *before = x->g->last;
  x->in = PARE_NEW_N(x->g->arena, x->nin + 1, PareValue *);
  x->out = PARE_NEW_N(x->g->arena, x->nout + 1, PareValue *);
  if (!x->in || !x->out) return pare_nomem(x->c);
  check_arity(x);
  check_attrs(x);
  if (x->status == PARE_OK) x->row->expand(x);
  for (int k = 0; k < x->nout; k++)
    if (pare_expand_wants(x, k) && !x->out[k])
      pare_expand_fail(x, PARE_UNSUPPORTED, "its output %d ('%s') is not supported", k, x->p->output[k]);
  if (x->status == PARE_OK) drop_unused(x, before);
  return x->status;
}

/* --- inputs and outputs --- */

PareValue *pare_expand_in(PareExpand *x, int k) {
  if (!pare_expand_has(x, k)) return pare_expand_fail(x, PARE_FORMAT, "input %d is missing", k);
  if (x->in[k] || x->given[k]->role != PARE_CONST) return x->in[k] ? x->in[k] : x->given[k];
  char role[24];
  snprintf(role, sizeof role, "input%d", k);
  PareNode *n = pare_expand_node(x, PARE_OP_IDENTITY, role, NULL, 1, &x->given[k], 1);
  if (!n) return NULL;
  if (!x->call) n->onnx_input = k + 1;
  return x->in[k] = n->out[0];
}

PareValue *pare_expand_in_of(PareExpand *x, int k, int rank) {
  PareValue *v = pare_expand_in(x, k);
  int is = pare_expand_fact(x, v).rank;
  if (!v || is < 0 || is == rank) return v;
  return pare_expand_fail(x, PARE_FORMAT, "input %d ('%s') is of rank %d instead of %d", k, v->name, is, rank);
}

static bool is_ours(const PareExpand *x, const PareValue *v) {
  bool ours = v->role == PARE_RESULT && v->def->onnx_index == x->index;
  for (int k = 0; k < x->nout; k++) ours &= x->out[k] != v;
  return ours;
}

void pare_expand_out(PareExpand *x, int k, PareValue *v) {
  if (!pare_expand_wants(x, k)) return;
  if (v && !is_ours(x, v)) v = PARE_EXPAND_OP(x, IDENTITY, "output", NULL, v);
  x->out[k] = v;
}

PareFact pare_expand_fact(const PareExpand *x, const PareValue *v) { return pare_facts_of(x->facts, v); }

/* --- nodes --- */

PareNode *pare_expand_node(PareExpand *x, PareOp op, const char *role, const PareAttrs *attr, int nin,
                           PareValue *const *in, int nout) {
  if (x->status != PARE_OK) return NULL;
  while (nin > 0 && !in[nin - 1]) nin--;
  char *name = pare_arena_printf(x->g->arena, "%s/%s", x->name, role);
  PareNode *n = name ? pare_node_add(x->c, x->g, NULL, op, name, nin, in, nout) : NULL;
  if (!n) return no_memory(x), NULL;
  n->onnx_index = x->index;
  n->onnx_input = PARE_INSIDE;
  if (attr) n->attr = *attr;
  if (!pare_facts_infer(x->facts, n)) return no_memory(x), NULL;
  return n;
}

PareValue *pare_expand_op(PareExpand *x, PareOp op, const char *role, const PareAttrs *attr, int nin,
                          PareValue *const *in) {
  PareNode *n = pare_expand_node(x, op, role, attr, nin, in, 1);
  return n ? n->out[0] : NULL;
}

PareValue *pare_expand_ints(PareExpand *x, int n, const int64_t *v) {
  if (x->status != PARE_OK) return NULL;
  char *name = pare_arena_printf(x->g->arena, "%s/ints", x->name);
  PareValue *list = name ? pare_const_ints(x->c, x->g, name, n, v) : NULL;
  return list ? list : no_memory(x);
}

PareValue *pare_expand_int(PareExpand *x, int64_t v) {
  PareValue *scalar = pare_expand_ints(x, 1, &v);
  if (scalar) scalar->type.rank = 0;
  return scalar;
}

PareValue *pare_expand_float(PareExpand *x, const PareValue *like, double v) {
  if (x->status != PARE_OK) return NULL;
  PareFact f = like ? pare_expand_fact(x, like) : (PareFact){0};
  if (f.typed && !pare_dtype_is_float(f.dtype))
    return pare_expand_fail(x, PARE_UNSUPPORTED, "'%s' is no tensor of floats", like->name);
  char *name = pare_arena_printf(x->g->arena, "%s/number", x->name);
  PareValue *scalar = name ? pare_const_float(x->c, x->g, name, f.typed ? f.dtype : PARE_F32, v) : NULL;
  return scalar ? scalar : no_memory(x);
}

PareValue *pare_expand_dim(PareExpand *x, PareValue *v, int64_t axis) {
  return PARE_EXPAND_OP(x, GATHER, "dim", NULL, PARE_EXPAND_OP(x, SHAPE, "shape", NULL, v), PARE_EXPAND_INTS(x, axis));
}

PareValue *pare_expand_size(PareExpand *x, PareValue *v, int64_t axis) {
  return PARE_EXPAND_OP(x, GATHER, "size", NULL, PARE_EXPAND_OP(x, SHAPE, "shape", NULL, v), pare_expand_int(x, axis));
}

PareValue *pare_expand_join(PareExpand *x, const char *role, int64_t axis, int n, PareValue *const *part) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis);
  return pare_expand_op(x, PARE_OP_CONCAT, role, &attr, n, part);
}

PareValue *pare_expand_transpose(PareExpand *x, const char *role, PareValue *v, int rank, const int64_t *perm) {
  PareAttrs attr = {0};
  PareInts p = {.n = rank};
  memcpy(p.at, perm, (size_t)rank * sizeof *perm);
  pare_attr_set(&attr, perm, p);
  return PARE_EXPAND_OP(x, TRANSPOSE, role, &attr, v);
}

PareValue *pare_expand_cast(PareExpand *x, PareValue *v, PareDtype to) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, to, to);
  return PARE_EXPAND_OP(x, CAST, "cast", &attr, v);
}

void pare_expand_split(PareExpand *x, const char *role, PareValue *v, int64_t axis, PareValue *sizes, int n,
                       PareValue **part) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis);
  if (!sizes) pare_attr_set(&attr, num_outputs, n);
  PareValue *in[] = {v, sizes};
  PareNode *node = pare_expand_node(x, PARE_OP_SPLIT, role, &attr, 2, in, n);
  for (int i = 0; i < n; i++) part[i] = node ? node->out[i] : NULL;
}

/* --- attributes --- */

static const Onnx__AttributeProto *find_attr(const PareExpand *x, const char *name) {
  for (size_t i = 0; i < x->p->n_attribute; i++)
    if (!strcmp(text(x->p->attribute[i]->name), name)) return x->p->attribute[i];
  return NULL;
}

bool pare_expand_has_attr(const PareExpand *x, const char *name) { return find_attr(x, name) != NULL; }

int64_t pare_expand_attr_int(PareExpand *x, const char *name, int64_t dflt) {
  const Onnx__AttributeProto *a = find_attr(x, name);
  if (!a) return dflt;
  if (a->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT && (a->type || !a->has_i))
    pare_expand_fail(x, PARE_FORMAT, "attribute '%s' is no integer", name);
  return a->i;
}

double pare_expand_attr_float(PareExpand *x, const char *name, double dflt) {
  const Onnx__AttributeProto *a = find_attr(x, name);
  if (!a) return dflt;
  if (a->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT && (a->type || !a->has_f))
    pare_expand_fail(x, PARE_FORMAT, "attribute '%s' is no float", name);
  return (double)a->f;
}

bool pare_expand_attr_is(PareExpand *x, const char *name, const char *word) {
  const Onnx__AttributeProto *a = find_attr(x, name);
  return a && a->has_s && a->s.len == strlen(word) && !memcmp(a->s.data, word, a->s.len);
}

/* Its numbers: one integer or a list. */
static bool read_ints(const Onnx__AttributeProto *a, int *n, const int64_t **v) {
  bool list = a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS || (!a->type && !a->has_i);
  if (!list && a->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT && a->type) return false;
  *n = list ? (int)a->n_ints : 1;
  *v = list ? a->ints : &a->i;
  return a->n_ints <= PARE_MAX_INTS;
}

bool pare_expand_attr_ints(PareExpand *x, const char *name, PareInts *out) {
  const Onnx__AttributeProto *a = find_attr(x, name);
  const int64_t *v;
  if (!a) return false;
  if (!read_ints(a, &out->n, &v)) return pare_expand_fail(x, PARE_FORMAT, "attribute '%s' holds no integers", name), false;
  for (int i = 0; i < out->n; i++) out->at[i] = v[i];
  return true;
}

double pare_expand_attr_number(PareExpand *x, const char *name, int k, double dflt) {
  const Onnx__AttributeProto *a = find_attr(x, name);
  return a && (size_t)k < a->n_floats ? (double)a->floats[k] : dflt;
}

static void copy_ints(PareExpand *x, const char *name, PareAttrs *attr, unsigned id, PareInts *field) {
  if (pare_expand_attr_ints(x, name, field)) attr->set |= (uint64_t)1 << id;
}

PareAttrs pare_expand_window_attrs(PareExpand *x) {
  static const char *const pads[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}; /* the words of auto_pad */
  PareAttrs attr = {0};
  copy_ints(x, "dilations", &attr, PARE_ATTR_dilations, &attr.dilations);
  copy_ints(x, "kernel_shape", &attr, PARE_ATTR_kernel_shape, &attr.kernel_shape);
  copy_ints(x, "pads", &attr, PARE_ATTR_pads, &attr.pads);
  copy_ints(x, "strides", &attr, PARE_ATTR_strides, &attr.strides);
  for (int i = 0; i < 4; i++)
    if (pare_expand_attr_is(x, "auto_pad", pads[i])) pare_attr_set(&attr, auto_pad, i);
  return attr;
}

PareAttrs pare_expand_conv_attrs(PareExpand *x) {
  PareAttrs attr = pare_expand_window_attrs(x);
  pare_attr_set(&attr, group, pare_expand_attr_int(x, "group", 1));
  return attr;
}

PareValue *pare_expand_list(PareExpand *x, const char *name, int ndflt, const int64_t *dflt) {
  const Onnx__AttributeProto *a = find_attr(x, name);
  if (a && !read_ints(a, &ndflt, &dflt))
    return pare_expand_fail(x, PARE_FORMAT, "attribute '%s' holds no integers", name);
  return pare_expand_ints(x, ndflt, dflt);
}

static PareOrigin origin_of(PareExpand *x, const Onnx__AttributeProto *a, const char *name) {
  PareOrigin o = {PARE_ORIGIN_ABSENT, x->at, name, x->call ? x->call->body : 0};
  if (a) o = pare_attribute_origin(x->call, x->at, a);
  if (o.attr && !(o.attr = pare_arena_strdup(x->g->arena, o.attr))) no_memory(x);
  return o;
}

PareValue *pare_expand_attr(PareExpand *x, const char *name, int ndflt, const int64_t *dflt) {
  for (size_t i = 0; i < x->attr.n; i++)
    if (!strcmp(x->attr.at[i].name, name)) return x->attr.at[i].list;
  const Onnx__AttributeProto *a = find_attr(x, name);
  int n = ndflt;
  const int64_t *v = dflt;
  if (!a && !dflt) return pare_expand_fail(x, PARE_FORMAT, "attribute '%s' is missing", name);
  if (a && !read_ints(a, &n, &v)) return pare_expand_fail(x, PARE_FORMAT, "attribute '%s' holds no integers", name);
  for (int i = 0; i < n; i++)
    if (v[i] < 1 || v[i] > INT32_MAX)
      return pare_expand_fail(x, PARE_FORMAT, "attribute '%s' is %" PRId64 ", which is no size", name, v[i]);
  PareValue *list = pare_expand_ints(x, n, v);
  if (!list) return NULL;
  list->origin = origin_of(x, a, name);
  list->name = pare_arena_printf(x->g->arena, "%s.%s", x->name, name);
  PareExpandAttr entry = {name, list};
  return list->name && pare_vec_push(x->g->arena, &x->attr, entry) ? list : no_memory(x);
}
