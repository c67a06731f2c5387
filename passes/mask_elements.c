/* mask_elements - where the elements of a weight go one by one, the products read M ? W + s·A·B : 0 (METHOD 3,
 * "Granularity"), so that a step's gradient of the whole weight is formed on its way to A and B. */
#include "passes/insert_lora.h"

#include <string.h>

static PareValue *turned(PareCtx *c, PareGraph *g, PareNode *before, const PareAdapter *a, PareValue *v) {
  return a->transposed ? PARE_EMIT(c, g, before, PARE_OP_TRANSPOSE, a->name, NULL, v) : v;
}

/* s·A·B as W is stored. */
static PareValue *low_rank(PareCtx *c, PareGraph *g, PareNode *before, const PareAdapter *a, const PareLora *l) {
  PareValue *x = turned(c, g, before, a, l->a), *y = turned(c, g, before, a, l->b);
  if (!x || !y) return NULL;
  PareValue *product = a->transposed ? PARE_EMIT(c, g, before, PARE_OP_MATMUL, a->name, NULL, y, x)
                                     : PARE_EMIT(c, g, before, PARE_OP_MATMUL, a->name, NULL, x, y);
  PareValue *s = product ? pare_const_float(c, g, "", product->type.dtype, a->scale) : NULL;
  return s ? PARE_EMIT(c, g, before, PARE_OP_MUL, a->name, NULL, product, s) : NULL;
}

static PareValue *state_of_ones(PareCtx *c, PareGraph *g, const char *name, PareType type) {
  type.dtype = PARE_BOOL;
  PareValue *v = pare_value_add(c, g, PARE_STATE, name, type);
  void *ones = v ? pare_arena_alloc(g->arena, (size_t)pare_type_count(&type), 1) : NULL;
  if (!ones) return NULL;
  memset(ones, 1, (size_t)pare_type_count(&type));
  v->data = ones;
  return v;
}

PareStatus pare_mask_elements(PareCtx *c, PareGraph *g, PareNode *const *by_id, const PareAdapter *a, PareLora *l) {
  PareNode *first = by_id[a->sites.at[0].node];
  PareValue *delta = a->rank ? low_rank(c, g, first, a, l) : NULL, *sum = l->w;
  if (delta) sum = PARE_EMIT(c, g, first, PARE_OP_ADD, a->name, NULL, l->w, delta);
  if (!sum || (a->rank && !delta)) return c->diag.code;
  PareValue *zero = pare_const_float(c, g, "", sum->type.dtype, 0);
  if (!zero) return c->diag.code;
  if (!(l->mask = state_of_ones(c, g, a->name, l->w->type))) return pare_nomem(c);
  PareValue *masked = PARE_EMIT(c, g, first, PARE_OP_WHERE, a->name, NULL, l->mask, sum, zero);
  if (!masked) return c->diag.code;
  for (size_t i = 0; i < a->sites.n; i++) {
    by_id[a->sites.at[i].node]->in[a->sites.at[i].w] = masked;
    l->reads[i] = masked;
  }
  return PARE_OK;
}
