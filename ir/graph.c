/* graph.c - makes, copies and edits graphs, and answers who reads what.
 * A removed node's results stay in PareGraph.values, so that ids keep their
 * place; their `def` is NULL. */
#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "ir/ir.h"

PareGraph *pare_graph_new(PareCtx *c, PareArena *a) {
  PareGraph *g = PARE_NEW(a, PareGraph);
  if (!g) return pare_nomem(c), NULL;
  g->arena = a;
  return g;
}

/* `name` is taken over; NULL where there was no memory for it. */
static PareValue *value_add(PareCtx *c, PareGraph *g, PareRole role, const char *name, PareType t) {
  PareValue *v = PARE_NEW(g->arena, PareValue);
  if (!v || !name || g->values.n >= UINT32_MAX) return pare_nomem(c), NULL;
  *v = (PareValue){.id = (uint32_t)g->values.n, .role = role, .type = t, .name = name};
  if (role == PARE_INPUT && !pare_vec_push(g->arena, &g->inputs, v)) return pare_nomem(c), NULL;
  if (!pare_vec_push(g->arena, &g->values, v)) {
    if (role == PARE_INPUT) g->inputs.n--;
    return pare_nomem(c), NULL;
  }
  return v;
}

static const char *value_name(const PareGraph *g, const char *name) {
  return name && *name ? pare_arena_strdup(g->arena, name) : pare_arena_printf(g->arena, "v%zu", g->values.n);
}

PareValue *pare_value_add(PareCtx *c, PareGraph *g, PareRole role, const char *name, PareType t) {
  return value_add(c, g, role, value_name(g, name), t);
}

PareValue *pare_const_add(PareCtx *c, PareGraph *g, const char *name, PareType t, const void *data) {
  PareValue *v = pare_value_add(c, g, PARE_CONST, name, t);
  if (v) v->data = data;
  return v;
}

PareValue *pare_const_ints(PareCtx *c, PareGraph *g, const char *name, int n, const int64_t *v) {
  int64_t *copy = PARE_NEW_N(g->arena, n, int64_t);
  if (!copy) return pare_nomem(c), NULL;
  if (n) memcpy(copy, v, (size_t)n * sizeof *v);
  return pare_const_add(c, g, name, (PareType){.dtype = PARE_I64, .rank = 1, .dim = {n}}, copy);
}

PareValue *pare_const_float(PareCtx *c, PareGraph *g, const char *name, PareDtype d, double v) {
  assert(pare_dtype_is_float(d));
  void *p = pare_arena_alloc(g->arena, 1, sizeof(double));
  if (!p) return pare_nomem(c), NULL;
  float f = (float)v;
  uint16_t half = d == PARE_F16 ? pare_f32_to_f16(f) : pare_f32_to_bf16(f);
  if (d == PARE_F64) memcpy(p, &v, sizeof v);
  else if (d == PARE_F32) memcpy(p, &f, sizeof f);
  else memcpy(p, &half, sizeof half);
  return pare_const_add(c, g, name, (PareType){.dtype = d}, p);
}

static void link_before(PareGraph *g, PareNode *n, PareNode *before) {
  n->next = before;
  n->prev = before ? before->prev : g->last;
  if (n->prev) n->prev->next = n;
  else g->first = n;
  if (before) before->prev = n;
  else g->last = n;
}

static void unlink_node(PareGraph *g, PareNode *n) {
  if (n->prev) n->prev->next = n->next;
  else g->first = n->next;
  if (n->next) n->next->prev = n->prev;
  else g->last = n->prev;
  n->prev = n->next = NULL;
}

/* Results are named NAME, or NAME.0, NAME.1 ... where there are several. */
static const char *result_name(const PareGraph *g, const char *node, int i, int nout) {
  if (!*node || nout == 1) return value_name(g, node);
  return pare_arena_printf(g->arena, "%s.%d", node, i);
}

PareNode *pare_node_add(PareCtx *c, PareGraph *g, PareNode *before, PareOp op, const char *name, int nin,
                        PareValue *const *in, int nout) {
  const PareType unknown = {.dtype = PARE_F32, .rank = 1, .dim = {-1}};
  PareNode *n = PARE_NEW(g->arena, PareNode);
  if (!n) return pare_nomem(c), NULL;
  *n = (PareNode){.op = op, .nin = nin, .nout = nout, .onnx_index = PARE_NO_INDEX};
  n->name = pare_arena_strdup(g->arena, name ? name : "");
  n->in = PARE_NEW_N(g->arena, nin, PareValue *);
  n->out = PARE_NEW_N(g->arena, nout, PareValue *);
  if (!n->name || !n->in || !n->out) return pare_nomem(c), NULL;
  if (nin) memcpy(n->in, in, (size_t)nin * sizeof *in);
  for (int i = 0; i < nout; i++) {
    n->out[i] = value_add(c, g, PARE_RESULT, result_name(g, n->name, i, nout), unknown);
    if (!n->out[i]) return NULL;
    n->out[i]->def = n;
  }
  n->id = g->nnodes++;
  link_before(g, n, before);
  return n;
}

PareValue *pare_emit(PareCtx *c, PareGraph *g, PareNode *before, PareOp op, const char *name,
                     const PareAttrs *attr, int nin, PareValue *const *in) {
  int nout = pare_op_info[op].min_out;
  assert(nout > 0);
  PareNode *n = pare_node_add(c, g, before, op, name, nin, in, nout);
  if (!n) return NULL;
  if (attr) n->attr = *attr;
  PareValue *v = n->out[0];
  if (pare_infer(c, n) == PARE_OK) return v;
  pare_node_remove(g, n);
  return NULL;
}

PareStatus pare_arity_check(PareCtx *c, const PareNode *n) {
  const PareOpInfo *row = &pare_op_info[n->op];
  if (n->nin < row->min_in || (row->max_in >= 0 && n->nin > row->max_in))
    return pare_fail(c, n, PARE_FORMAT, "has %d inputs; the operator takes %d to %d", n->nin, row->min_in,
                     row->max_in < 0 ? n->nin : row->max_in);
  if (n->nout < row->min_out || (row->max_out >= 0 && n->nout > row->max_out))
    return pare_fail(c, n, PARE_FORMAT, "has %d outputs; pare knows %d to %d of this operator", n->nout,
                     row->min_out, row->max_out < 0 ? n->nout : row->max_out);
  /* pare's own ops have a fixed number of inputs, some of which may be left out:
   * their rules check what they read. */
  for (int i = 0; i < row->min_in && strcmp(row->domain, "pare"); i++)
    if (!n->in[i]) return pare_fail(c, n, PARE_FORMAT, "input %d is left out but the operator needs it", i);
  return PARE_OK;
}

static PareStatus check_inputs(PareCtx *c, const PareNode *n) {
  char text[PARE_TYPE_TEXT];
  for (int i = 0; i < n->nin; i++) {
    if (!n->in[i]) continue;
    const PareType *t = &n->in[i]->type;
    size_t bytes;
    if (t->rank < 0 || t->rank > PARE_MAX_RANK)
      return pare_fail(c, n, PARE_UNSUPPORTED, "input %d '%s' has %d axes; pare supports %d", i, n->in[i]->name,
                       t->rank, PARE_MAX_RANK);
    if (!pare_type_bytes(t, &bytes))
      return pare_fail(c, n, PARE_UNSUPPORTED, "the shape of input %d '%s', %s, is not known or too large", i,
                       n->in[i]->name, pare_type_text(t, text));
  }
  return PARE_OK;
}

PareStatus pare_infer(PareCtx *c, PareNode *n) {
  PARE_TRY(pare_arity_check(c, n));
  PARE_TRY(check_inputs(c, n));
  return pare_op_info[n->op].infer(c, n);
}

void pare_node_remove(PareGraph *g, PareNode *n) {
  unlink_node(g, n);
  for (int i = 0; i < n->nout; i++)
    if (n->out[i]) n->out[i]->def = NULL;
}

void pare_replace_uses(PareGraph *g, PareValue *from, PareValue *to, const PareNode *but) {
  for (PareNode *n = g->first; n; n = n->next) {
    for (int i = 0; n != but && i < n->nin; i++)
      if (n->in[i] == from) n->in[i] = to;
  }
  for (size_t i = 0; i < g->outputs.n; i++)
    if (g->outputs.at[i] == from) g->outputs.at[i] = to;
}

static PareValue *clone_value(PareArena *a, const PareValue *v) {
  PareValue *w = PARE_NEW(a, PareValue);
  if (!w) return NULL;
  *w = *v;
  w->def = NULL;
  if (!v->dim_name) return w;
  w->dim_name = pare_arena_grow(a, v->dim_name, (size_t)v->type.rank, (size_t)v->type.rank, sizeof *v->dim_name);
  return w->dim_name ? w : NULL;
}

static bool clone_values(PareGraph *to, const PareGraph *g) {
  for (size_t i = 0; i < g->values.n; i++) {
    PareValue *v = clone_value(to->arena, g->values.at[i]);
    if (!v || !pare_vec_push(to->arena, &to->values, v)) return false;
  }
  for (size_t i = 0; i < g->inputs.n; i++)
    if (!pare_vec_push(to->arena, &to->inputs, to->values.at[g->inputs.at[i]->id])) return false;
  for (size_t i = 0; i < g->outputs.n; i++)
    if (!pare_vec_push(to->arena, &to->outputs, to->values.at[g->outputs.at[i]->id])) return false;
  return true;
}

static bool clone_node(PareGraph *to, const PareNode *n) {
  PareNode *m = PARE_NEW(to->arena, PareNode);
  if (!m) return false;
  *m = *n;
  m->in = PARE_NEW_N(to->arena, n->nin, PareValue *);
  m->out = PARE_NEW_N(to->arena, n->nout, PareValue *);
  if (!m->in || !m->out) return false;
  for (int i = 0; i < n->nin; i++) m->in[i] = n->in[i] ? to->values.at[n->in[i]->id] : NULL;
  for (int i = 0; i < n->nout; i++) {
    if (!n->out[i]) continue;
    m->out[i] = to->values.at[n->out[i]->id];
    m->out[i]->def = m;
  }
  link_before(to, m, NULL);
  return true;
}

PareGraph *pare_graph_clone(PareCtx *c, PareArena *a, const PareGraph *g) {
  PareGraph *to = pare_graph_new(c, a);
  if (!to) return NULL;
  to->nnodes = g->nnodes;
  to->opset = g->opset;
  to->bodies.at = g->bodies.at; /* import alone adds to them */
  to->bodies.n = to->bodies.cap = g->bodies.n;
  to->told.at = g->told.at;
  to->told.n = to->told.cap = g->told.n;
  if (!clone_values(to, g)) return pare_nomem(c), NULL;
  for (const PareNode *n = g->first; n; n = n->next)
    if (!clone_node(to, n)) return pare_nomem(c), NULL;
  return to;
}

/* False for results of removed nodes and for outputs that nobody names. */
static bool is_live(const PareValue *v) {
  if (v->role != PARE_RESULT) return true;
  for (int i = 0; v->def && i < v->def->nout; i++)
    if (v->def->out[i] == v) return true;
  return false;
}

PareValue *pare_graph_find(const PareGraph *g, const char *name) {
  for (size_t i = 0; i < g->values.n; i++)
    if (!strcmp(g->values.at[i]->name, name) && is_live(g->values.at[i])) return g->values.at[i];
  return NULL;
}

PareStatus pare_uses(PareCtx *c, PareArena *a, const PareGraph *g, PareUses *out) {
  uint32_t *first = PARE_NEW_N(a, g->values.n + 2, uint32_t);
  if (!first) return pare_nomem(c);
  for (const PareNode *n = g->first; n; n = n->next)
    for (int i = 0; i < n->nin; i++)
      if (n->in[i]) first[n->in[i]->id + 2]++;
  for (size_t i = 2; i < g->values.n + 2; i++) first[i] += first[i - 1];
  PareUse *at = PARE_NEW_N(a, first[g->values.n + 1], PareUse);
  if (!at) return pare_nomem(c);
  /* first[id + 1] runs through the slots of id and ends where those of id + 1 begin. */
  for (PareNode *n = g->first; n; n = n->next)
    for (int i = 0; i < n->nin; i++)
      if (n->in[i]) at[first[n->in[i]->id + 1]++] = (PareUse){n, i};
  *out = (PareUses){first, at};
  return PARE_OK;
}

bool pare_is_output(const PareGraph *g, const PareValue *v) {
  for (size_t i = 0; i < g->outputs.n; i++)
    if (g->outputs.at[i] == v) return true;
  return false;
}

/* One element of a dtype whose C type is T, from memory that may be unaligned. */
#define LOAD(T, R)                                                        \
  do {                                                                    \
    T x_;                                                                 \
    memcpy(&x_, (const char *)v->data + (size_t)i * sizeof(T), sizeof x_); \
    return (R)x_;                                                         \
  } while (0)

int64_t pare_data_int(const PareValue *v, int64_t i) {
  switch (v->type.dtype) {
    case PARE_BOOL:
    case PARE_U8: LOAD(uint8_t, int64_t);
    case PARE_I8: LOAD(int8_t, int64_t);
    case PARE_I16: LOAD(int16_t, int64_t);
    case PARE_U16: LOAD(uint16_t, int64_t);
    case PARE_I32: LOAD(int32_t, int64_t);
    case PARE_U32: LOAD(uint32_t, int64_t);
    case PARE_I64:
    case PARE_U64: LOAD(int64_t, int64_t);
    default: assert(!"integer data expected"); return 0;
  }
}

bool pare_is_weight(const PareNode *n, int k) {
  const PareValue *v = n->in[k];
  if (!v || v->role != PARE_CONST) return false;
  PareDtype d = v->type.dtype;
  if (pare_dtype_is_float(d)) return true;
  if (n->op == PARE_OP_DEQUANTIZELINEAR) return k == 0;
  bool read = k == 0 || k < pare_moved_inputs(n) || (k == 1 && n->op == PARE_OP_MATMULINTEGER);
  return read && (d == PARE_I8 || d == PARE_U8 || d == PARE_I16 || d == PARE_U16);
}

static float load_half(const PareValue *v, int64_t i) {
  uint16_t h;
  memcpy(&h, (const char *)v->data + (size_t)i * sizeof h, sizeof h);
  return v->type.dtype == PARE_F16 ? pare_f16_to_f32(h) : pare_bf16_to_f32(h);
}

double pare_data_float(const PareValue *v, int64_t i) {
  switch (v->type.dtype) {
    case PARE_F32: LOAD(float, double);
    case PARE_F64: LOAD(double, double);
    case PARE_F16:
    case PARE_BF16: return (double)load_half(v, i);
    case PARE_U64: LOAD(uint64_t, double);
    default: return (double)pare_data_int(v, i);
  }
}
