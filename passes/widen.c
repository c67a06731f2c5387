/* widen - a graph that is to be run computes in f32 what the model computes in f16 or
 * bf16. Inputs keep their type and are cast; constants and results become f32, and
 * so do outputs: what the model rounds on the way is not rounded here. */
#include "passes/pass.h"

static bool is_half(PareDtype d) { return d == PARE_F16 || d == PARE_BF16; }

/* Numbers that are known are converted, which is exact. */
static PareStatus widen_value(PareCtx *c, PareGraph *g, PareValue *v) {
  if (!is_half(v->type.dtype)) return PARE_OK;
  if (v->data) {
    int64_t n = pare_type_count(&v->type);
    float *x = PARE_NEW_N(g->arena, n, float);
    if (!x) return pare_nomem(c);
    for (int64_t i = 0; i < n; i++) x[i] = (float)pare_data_float(v, i);
    v->data = x;
  }
  v->type.dtype = PARE_F32;
  return PARE_OK;
}

static PareStatus cast_input(PareCtx *c, PareGraph *g, PareValue *v) {
  PareAttrs to = {0};
  pare_attr_set(&to, to, PARE_F32);
  if (!is_half(v->type.dtype)) return PARE_OK;
  PareValue *wide = PARE_EMIT(c, g, g->first, PARE_OP_CAST, v->name, &to, v);
  if (!wide) return c->diag.code;
  pare_replace_uses(g, v, wide, wide->def);
  return PARE_OK;
}

/* The attributes that name the type of a result. */
static void widen_attrs(PareAttrs *a) {
  PareDtype *const named[] = {&a->to, &a->dtype, &a->output_dtype};
  for (size_t i = 0; i < sizeof named / sizeof *named; i++)
    if (is_half(*named[i])) *named[i] = PARE_F32;
}

/* A Cast between f32 and f32 goes; the result of one that makes an output keeps its name. */
static void drop_cast(PareGraph *g, PareNode *n) {
  if (n->in[0]->type.dtype != PARE_F32 || n->attr.to != PARE_F32) return;
  if (pare_is_output(g, n->out[0])) {
    n->op = PARE_OP_IDENTITY;
    n->attr = (PareAttrs){0};
    return;
  }
  pare_replace_uses(g, n->out[0], n->in[0], NULL);
  pare_node_remove(g, n);
}

PareStatus pare_widen(PareCtx *c, PareGraph *g) {
  for (size_t i = 0; i < g->inputs.n; i++) PARE_TRY(cast_input(c, g, g->inputs.at[i]));
  for (size_t i = 0; i < g->values.n; i++)
    if (g->values.at[i]->role != PARE_INPUT) PARE_TRY(widen_value(c, g, g->values.at[i]));
  for (PareNode *n = g->first, *next; n; n = next) {
    next = n->next;
    widen_attrs(&n->attr);
    if (n->op == PARE_OP_CAST) drop_cast(g, n);
  }
  return PARE_OK;
}
