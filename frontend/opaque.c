/* opaque.c - finds what has to be left out for an op that is not known, and whether that is sound. */
#include "frontend/opaque.h"

#include <string.h>

#include "frontend/expand.h"
#include "frontend/nodes.h"
#include "ir/op_columns.h"

/* What is known of a node; by number. */
typedef struct Fate {
  bool constant; /* follows from constants alone */
  bool left_out;
  bool product;  /* sums over an axis of what it reads: where dimensions begin and end */
  bool behind_product; /* that is left out */
} Fate;

typedef struct Search {
  PareCtx *c;
  PareArena *a;
  PareModel *m;
  const Onnx__GraphProto *g;
  const PareFunctions *f;
  Fate *fate;
  PareMap maker;     /* name -> number of its node */
  PareMap constants; /* names of initializers -> 0 */
  PareMap used;      /* names that imported nodes read -> 0 */
  PareMap read, ends; /* those of out->read and out->outputs -> 0 */
  PareOpaqueSet *out;
} Search;

static const char *name_of(const Onnx__NodeProto *n) {
  return n->name && *n->name ? n->name : n->n_output ? pare_text(n->output[0]) : "";
}

/* --- names that a node reads, also in the graphs of its attributes --- */

/* False when memory is out. */
typedef bool ReadFn(Search *s, Fate *of, const char *name);

static bool each_read(Search *s, const Onnx__NodeProto *n, Fate *of, ReadFn *fn, int depth) {
  if (depth > PARE_MAX_CALLS) return true;
  for (size_t i = 0; i < n->n_input; i++)
    if (*pare_text(n->input[i]) && !fn(s, of, n->input[i])) return false;
  for (size_t i = 0; i < n->n_attribute; i++) {
    const Onnx__GraphProto *g = n->attribute[i]->g;
    for (size_t k = 0; g && k < g->n_node; k++)
      if (!each_read(s, g->node[k], of, fn, depth + 1)) return false;
    for (size_t k = 0; g && k < g->n_output; k++)
      if (!fn(s, of, pare_text(g->output[k]->name))) return false;
  }
  return true;
}

/* --- which nodes --- */

static bool is_product(const Onnx__NodeProto *n) {
  PareOp op = pare_op_find(pare_domain_of(n), pare_text(n->op_type));
  if (op == PARE_OP_COUNT) return pare_expand_find(pare_domain_of(n), pare_text(n->op_type)) != NULL;
  PareCostFn *cost = pare_op_info[op].cost;
  return cost == pare_cost_matmul || cost == pare_cost_conv || cost == pare_cost_einsum;
}

/* What a node takes over from the maker of a name that it reads. */
static bool inherit(Search *s, Fate *of, const char *name) {
  int64_t at = pare_map_get(&s->maker, name);
  const Fate *from = at < 0 ? NULL : &s->fate[at];
  of->constant &= from ? from->constant : pare_map_get(&s->constants, name) >= 0;
  of->left_out |= from && from->left_out;
  of->behind_product |= from && from->left_out && (from->product || from->behind_product);
  return true;
}

static PareStatus decide(Search *s, const Onnx__NodeProto *n, Fate *x) {
  int64_t f;
  if (!pare_function_find(s->c->scratch, s->f, n->domain, n->op_type, &f)) return pare_nomem(s->c);
  x->constant = n->n_input || pare_is_constant_node(n);
  x->left_out = f == PARE_NO_FUNCTION && !pare_is_supported(n);
  if (x->left_out) {
    PareOpaque o = {pare_arena_strdup(s->a, name_of(n)), pare_arena_strdup(s->a, pare_text(n->op_type)),
                    pare_arena_strdup(s->a, pare_domain_of(n))};
    if (!o.node || !o.op || !o.domain || !pare_vec_push(s->a, &s->m->opaque, o)) return pare_nomem(s->c);
  }
  each_read(s, n, x, inherit, 0);
  x->product = f != PARE_NO_FUNCTION || (!x->constant && is_product(n));
  if (!x->left_out || !x->product || !x->behind_product || s->out->why) return PARE_OK;
  s->out->why = pare_arena_printf(s->a, "layers stand behind it, up to '%s' (%s) at least", name_of(n), pare_text(n->op_type));
  return s->out->why ? PARE_OK : pare_nomem(s->c);
}

/* --- what takes the place of the outputs --- */

static bool note_used(Search *s, Fate *of, const char *name) {
  (void)of;
  return pare_map_put(&s->used, name, 0);
}

static bool note_read(Search *s, Fate *of, const char *name) {
  (void)of;
  if (pare_map_get(&s->read, name) >= 0) return true;
  return pare_map_put(&s->read, name, 0) && pare_vec_push(s->a, &s->out->read, name);
}

static bool push_once(Search *s, const char *name) {
  if (pare_map_get(&s->ends, name) >= 0) return true;
  return pare_map_put(&s->ends, name, 0) && pare_vec_push(s->a, &s->out->outputs, name);
}

/* An imported result that nodes which are left out read: what it is made of must not be cut there. What follows from
 * constants alone is as it was, unless an imported node reads it too. */
static bool is_end(const Search *s, const char *name) {
  int64_t at = pare_map_get(&s->maker, name);
  if (at < 0 || s->fate[at].left_out || pare_is_constant_node(s->g->node[at])) return false;
  return !s->fate[at].constant || pare_map_get(&s->used, name) >= 0;
}

static bool list_outputs(Search *s) {
  bool placed = false;
  for (size_t i = 0; i < s->g->n_output; i++) {
    const char *name = pare_text(s->g->output[i]->name);
    int64_t at = pare_map_get(&s->maker, name);
    bool gone = at >= 0 && s->fate[at].left_out;
    if (!gone && !push_once(s, name)) return false;
    for (size_t k = 0; gone && !placed && k < s->out->read.n; k++)
      if (is_end(s, s->out->read.at[k]) && !push_once(s, s->out->read.at[k])) return false;
    placed |= gone;
  }
  /* also where what is left out leads to no output */
  for (size_t k = 0; !placed && k < s->out->read.n; k++)
    if (is_end(s, s->out->read.at[k]) && !push_once(s, s->out->read.at[k])) return false;
  return true;
}

static bool index_names(Search *s) {
  for (size_t i = 0; i < s->g->n_initializer; i++)
    if (!pare_map_put(&s->constants, pare_text(s->g->initializer[i]->name), 0)) return false;
  for (size_t i = 0; i < s->g->n_sparse_initializer; i++) {
    const Onnx__TensorProto *values = s->g->sparse_initializer[i]->values;
    if (values && !pare_map_put(&s->constants, pare_text(values->name), 0)) return false;
  }
  for (size_t i = 0; i < s->g->n_node; i++)
    for (size_t k = 0; k < s->g->node[i]->n_output; k++)
      if (*pare_text(s->g->node[i]->output[k]) && !pare_map_put(&s->maker, s->g->node[i]->output[k], (int64_t)i))
        return false;
  return true;
}

static PareStatus list_ends(Search *s) {
  for (size_t i = 0; i < s->g->n_node; i++)
    if (!each_read(s, s->g->node[i], NULL, s->fate[i].left_out ? note_read : note_used, 0)) return pare_nomem(s->c);
  if (!list_outputs(s)) return pare_nomem(s->c);
  if (!s->out->outputs.n) s->out->why = "no output of the model is left without it";
  return PARE_OK;
}

PareStatus pare_leave_out(PareCtx *c, PareArena *a, PareModel *m, const Onnx__ModelProto *p, const PareFunctions *f,
                          const uint32_t *order, PareOpaqueSet *out) {
  *out = (PareOpaqueSet){0};
  size_t n = p->graph->n_node;
  Search s = {.c = c, .a = a, .m = m, .g = p->graph, .f = f, .maker = {.arena = c->scratch},
              .constants = {.arena = c->scratch}, .used = {.arena = c->scratch}, .read = {.arena = c->scratch},
              .ends = {.arena = c->scratch}, .out = out};
  if (!(s.fate = PARE_NEW_N(c->scratch, n + 1, Fate)) || !index_names(&s)) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) PARE_TRY(decide(&s, p->graph->node[order[i]], &s.fate[order[i]]));
  if (!m->opaque.n || out->why) return PARE_OK;
  PARE_TRY(list_ends(&s));
  if (out->why) return PARE_OK;
  if (!(out->left_out = PARE_NEW_N(a, n + 1, bool))) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    out->left_out[i] = s.fate[i].left_out;
    m->nleft_out += s.fate[i].left_out;
  }
  return PARE_OK;
}
