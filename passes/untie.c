/* untie - finds results that tie the heads of several layers though no layer makes
 * them, tries on a copy whether the layers come apart, and puts Gathers where they do. */
#include "passes/untie.h"

#include "ir/op_columns.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"

/* A result whose axis `axis` of `heads` is that of the heads of what reads it. */
typedef struct Shared {
  uint32_t value;
  int axis, heads;
  bool parts; /* with Gathers, its readers' heads are of several dimensions */
} Shared;

typedef struct Untie {
  PareCtx *c;
  PareArena *a; /* temporary */
  PareUses uses;
  PareDims *d;
  bool *by_layer; /* by value: follows from a product with a weight */
  PARE_VEC(Shared) shared;
} Untie;

/* --- which results --- */

static PareStatus mark_layers(Untie *x) {
  const PareTracer *t = x->d->tracer;
  bool *product = PARE_NEW_N(x->a, t->g->nnodes + 1, bool);
  x->by_layer = PARE_NEW_N(x->a, t->g->values.n + 1, bool);
  if (!product || !x->by_layer) return pare_nomem(x->c);
  for (size_t i = 0; i < t->contractions.n; i++) product[t->contractions.at[i].node->id] = true;
  for (const PareNode *n = t->g->first; n; n = n->next) {
    bool yes = product[n->id];
    for (int k = 0; k < n->nin; k++) yes |= n->in[k] && x->by_layer[n->in[k]->id];
    for (int k = 0; k < n->nout; k++)
      if (n->out[k]) x->by_layer[n->out[k]->id] = yes;
  }
  return PARE_OK;
}

/* A node of the file that reads the elements; Shape does not. */
static bool reads_elements(const PareNode *n) { return pare_op_info[n->op].cut != pare_cut_source; }

/* Two readers or more, all of them nodes of the file, so that emission can put a node before each. */
static bool has_readers(const Untie *x, const PareValue *v) {
  int count = 0;
  for (uint32_t i = x->uses.first[v->id]; i < x->uses.first[v->id + 1]; i++) {
    const PareNode *n = x->uses.at[i].node;
    if (!reads_elements(n)) continue;
    if (n->onnx_input || n->onnx_index == PARE_NO_INDEX) return false;
    count++;
  }
  return count > 1;
}

static bool is_heads(const Untie *x, PareAxis *a) {
  a = pare_axis_find(a);
  return a->kind == PARE_AXIS_LEAF && a->dim >= 0 && x->d->dims.at[a->dim].kind == PARE_KIND_HEADS;
}

static PareStatus find_shared(Untie *x) {
  const PareGraph *g = x->d->tracer->g;
  PARE_TRY(mark_layers(x));
  PARE_TRY(pare_uses(x->c, x->a, g, &x->uses));
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (v->role != PARE_RESULT || !v->def || x->by_layer[i] || !pare_dtype_is_float(v->type.dtype) || !has_readers(x, v))
      continue;
    for (int d = 0; d < v->type.rank; d++) {
      Shared s = {(uint32_t)i, d, (int)v->type.dim[d], false};
      if (!is_heads(x, x->d->tracer->value_axis[i][d])) continue;
      if (!pare_vec_push(x->a, &x->shared, s)) return pare_nomem(x->c);
      break;
    }
  }
  return PARE_OK;
}

/* --- Gathers --- */

static PareStatus gather_for(PareCtx *c, PareGraph *g, const Shared *s, PareNode *reader, int input) {
  const char *name = pare_arena_printf(g->arena, "%s/heads%d", reader->name, input);
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *all = PARE_NEW_N(c->scratch, s->heads, int64_t);
  if (!name || !all) return pare_nomem(c);
  for (int i = 0; i < s->heads; i++) all[i] = i;
  PareValue *in[2] = {g->values.at[s->value], pare_const_ints(c, g, name, s->heads, all)};
  pare_arena_rewind(c->scratch, mark);
  PareNode *n = in[1] ? pare_node_add(c, g, reader, PARE_OP_GATHER, name, 2, in, 1) : NULL;
  if (!n) return c->diag.code;
  pare_attr_set(&n->attr, axis, s->axis);
  reader->in[input] = n->out[0];
  return PARE_OK;
}

/* `all`: for every shared result; else for those that come apart. */
static PareStatus add_gathers(Untie *x, PareGraph *g, bool all) {
  for (size_t i = 0; i < x->shared.n; i++) {
    const Shared *s = &x->shared.at[i];
    const PareValue *v = g->values.at[s->value];
    for (PareNode *n = g->first; n && (all || s->parts); n = n->next)
      for (int k = 0; k < n->nin; k++)
        if (n->in[k] == v && n->onnx_index != PARE_NO_INDEX && reads_elements(n))
          PARE_TRY(gather_for(x->c, g, s, n, k));
  }
  return PARE_OK;
}

/* Are the heads of its readers, behind the Gathers, of several dimensions? */
static void look(Shared *s, const PareDims *d) {
  const PareAxis *first = NULL;
  for (const PareNode *n = d->tracer->g->first; n; n = n->next) {
    if (n->onnx_index != PARE_NO_INDEX || n->in[0]->id != s->value) continue;
    const PareAxis *a = pare_axis_find(d->tracer->value_axis[n->out[0]->id][s->axis]);
    if (a->kind != PARE_AXIS_LEAF || a->dim < 0) continue;
    s->parts |= first && a != first;
    first = a;
  }
}

static PareStatus try_on_a_copy(Untie *x, const PareGraph *g, bool *any) {
  PareGraph *copy = pare_graph_clone(x->c, x->a, g), *bound;
  PareDims *d;
  if (!copy) return x->c->diag.code;
  PARE_TRY(add_gathers(x, copy, true));
  PARE_TRY(pare_probe_dims(x->c, x->a, copy, 0, &bound));
  PARE_TRY(pare_trace_dims(x->c, x->a, bound, &d));
  for (size_t i = 0; i < x->shared.n; i++) {
    look(&x->shared.at[i], d);
    *any |= x->shared.at[i].parts;
  }
  return PARE_OK;
}

static PareStatus untie(Untie *x, PareGraph *g) {
  PareGraph *bound;
  bool any = false;
  PARE_TRY(pare_probe_dims(x->c, x->a, g, 0, &bound));
  PARE_TRY(pare_trace_dims(x->c, x->a, bound, &x->d));
  PARE_TRY(find_shared(x));
  if (x->shared.n) PARE_TRY(try_on_a_copy(x, g, &any));
  return any ? add_gathers(x, g, false) : PARE_OK;
}

PareStatus pare_untie(PareCtx *c, PareGraph *g) {
  Untie x = {.c = c, .a = pare_arena_new(1 << 16)};
  if (!x.a) return pare_nomem(c);
  PareStatus s = untie(&x, g);
  pare_arena_free(x.a);
  return s;
}
