/* insert_lora - finds the weights that carry adapters, and adds the branches. */
#include "passes/insert_lora.h"

#include <string.h>

#include "ir/op_columns.h"
#include "passes/edit.h"
#include "passes/match.h"
#include "passes/quantized.h"

static bool is_product(const PareNode *n) {
  PareCutFn *cut = pare_op_info[n->op].cut;
  return cut == pare_cut_matmul || cut == pare_cut_gemm || cut == pare_cut_matmulinteger;
}

typedef struct Touch {
  const PareDims *d;
  bool pruned_kind;
} Touch;

static void touches(PareAxis *leaf, void *arg) {
  Touch *t = arg;
  if (leaf->dim < 0) return;
  PareKind k = t->d->dims.at[leaf->dim].kind;
  t->pruned_kind |= pare_kind_is_block(k);
}

/* x · W with W a matrix on the right, in whichever orientation. */
static PareLayerNames names_of(const PareGraph *g, const PareContraction *x) {
  PareNode *node;
  int input;
  const PareType *type = &x->node->in[x->weight]->type;
  const PareValue *w = pare_root_constant(x->node, x->weight, &node, &input);
  const PareValue *b = pare_bias_of(g, x->node, type->dim[x->weight_axis == 0], &node, &input);
  return (PareLayerNames){w ? w->name : "", b ? b->name : NULL, x->node->name};
}

static bool is_site(const PareDims *d, const PareContraction *x, const PareAdapterSpec *spec) {
  PareNode *n = x->node;
  if (!is_product(n) || x->weight != 1 || n->in[1]->type.rank != 2) return false;
  if (n->in[0]->type.rank < 2 || pare_attr_get(&n->attr, transA, 0)) return false;
  PareStored stored;
  if (pare_quantized(d->tracer->g, n, 1, &stored) && !stored.scale) return false;
  Touch t = {d, false};
  for (int axis = 0; axis < 2; axis++) pare_axis_leaves(pare_axis_in(d->tracer, n, 1, axis), touches, &t);
  if (t.pruned_kind || !spec->wanted) return t.pruned_kind;
  PareLayerNames layer = names_of(d->tracer->g, x);
  return spec->wanted(&layer, spec->arg);
}

typedef struct DimList {
  int at[8], n;
} DimList;

static void list_dim(PareAxis *leaf, void *arg) {
  DimList *l = arg;
  if (leaf->dim >= 0 && l->n < 8) l->at[l->n++] = leaf->dim;
}

/* The same prunable dimensions in the same order. */
static bool same_dims(PareAxis *a, PareAxis *b) {
  DimList x = {.n = 0}, y = {.n = 0};
  pare_axis_leaves(a, list_dim, &x);
  pare_axis_leaves(b, list_dim, &y);
  return x.n == y.n && !memcmp(x.at, y.at, (size_t)x.n * sizeof *x.at);
}

static bool shares_adapter(const PareDims *d, PareNode *const *by_id, const PareAdapter *a, const PareContraction *x) {
  const PareSite *s = &a->sites.at[0];
  PareNode *first = by_id[s->node], *ra, *rb;
  int ia, ib;
  if (pare_root_constant(first, s->w, &ra, &ia) != pare_root_constant(x->node, x->weight, &rb, &ib)) return false;
  for (int axis = 0; axis < 2; axis++)
    if (!same_dims(pare_axis_in(d->tracer, first, s->w, axis), pare_axis_in(d->tracer, x->node, x->weight, axis)))
      return false;
  return true;
}

/* What the layer adds to the product, if it is a constant [N] that nothing stands before, moved at most. */
static PareStatus find_bias(PareCtx *c, const PareGraph *g, PareNode *n, PareSite *s) {
  int64_t cols = n->out[0]->type.dim[n->out[0]->type.rank - 1];
  PareNode *add = pare_sole_reader_op(g, n->out[0], PARE_OP_ADD);
  s->bias = -1;
  if (n->op == PARE_OP_GEMM && n->nin > 2 && n->in[2]) {
    add = n;
    s->bias = 2;
    if (!pare_is_vector(n->in[2], cols) || !pare_is_moved_whole(n, 2))
      return pare_fail(c, n, PARE_UNSUPPORTED, "its bias '%s' is not one constant for each output, so a sequential adapter "
                       "cannot be folded: take --adapter parallel", n->in[2]->name);
  } else if (add) {
    int k = add->in[0] == n->out[0];
    if (pare_is_vector(add->in[k], cols) && pare_is_moved_whole(add, k)) s->bias = k;
  }
  if (s->bias >= 0) s->bias_node = add->id;
  return PARE_OK;
}

PareStatus pare_find_adapters(PareCtx *c, PareArena *a, const PareDims *d, const PareAdapterSpec *spec,
                              PareAdapters *out) {
  const PareTracer *t = d->tracer;
  PareNode **by_id = PARE_NEW_N(a, t->g->nnodes + 1, PareNode *);
  *out = (PareAdapters){0};
  if (!by_id) return pare_nomem(c);
  for (PareNode *n = t->g->first; n; n = n->next) by_id[n->id] = n;
  for (size_t i = 0; i < t->contractions.n; i++) {
    const PareContraction *x = &t->contractions.at[i];
    PareNode *root;
    int input;
    if (!is_site(d, x, spec)) continue;
    PareValue *weight = pare_root_constant(x->node, x->weight, &root, &input);
    PareSite site = {x->node->id, x->input, x->weight, 0, -1};
    if (spec->sequential) PARE_TRY(find_bias(c, t->g, x->node, &site));
    PareAdapter *found = NULL;
    for (size_t j = 0; weight && j < out->at.n && !found; j++)
      if (shares_adapter(d, by_id, &out->at.at[j], x)) found = &out->at.at[j];
    if (!weight || !pare_is_moved_whole(x->node, x->weight)) continue;
    if (!found) {
      const PareType *type = &x->node->in[x->weight]->type;
      bool transposed = x->weight_axis == 1;
      PareAdapter fresh = {.name = weight->name, .layer = names_of(t->g, x), .transposed = transposed, .sequential = spec->sequential,
                           .k = type->dim[transposed], .n = type->dim[!transposed], .rank = spec->rank,
                           .scale = spec->scale};
      if (!pare_vec_push(a, &out->at, fresh)) return pare_nomem(c);
      found = &out->at.at[out->at.n - 1];
    }
    if (!pare_vec_push(a, &found->sites, site)) return pare_nomem(c);
  }
  return PARE_OK;
}

/* Behind `last`, whose result is y: y += scale·(x·A)·B. */
static PareStatus add_branch(PareCtx *c, PareGraph *g, PareNode *last, PareValue *x, const PareLora *l, double scale) {
  PareNode *next = last->next;
  PareValue *y = last->out[0];
  PareValue *u = PARE_EMIT(c, g, next, PARE_OP_MATMUL, last->name, NULL, x, l->a);
  PareValue *v = u ? PARE_EMIT(c, g, next, PARE_OP_MATMUL, last->name, NULL, u, l->b) : NULL;
  PareValue *k = v ? pare_const_float(c, g, "", y->type.dtype, scale) : NULL;
  PareValue *scaled = k ? PARE_EMIT(c, g, next, PARE_OP_MUL, last->name, NULL, v, k) : NULL;
  PareValue *sum = scaled ? PARE_EMIT(c, g, next, PARE_OP_ADD, last->name, NULL, y, scaled) : NULL;
  if (!sum) return c->diag.code;
  pare_replace_uses(g, y, sum, sum->def);
  if (x == y) u->def->in[0] = y;
  return PARE_OK;
}

static PareStatus add_branches(PareCtx *c, PareGraph *g, PareNode *const *by_id, const PareAdapter *a,
                               const PareLora *l) {
  for (size_t i = 0; i < a->sites.n; i++) {
    const PareSite *s = &a->sites.at[i];
    PareNode *n = by_id[s->node], *last = a->sequential && s->bias >= 0 ? by_id[s->bias_node] : n;
    double alpha = pare_attr_get(&n->attr, alpha, 1.0);
    if (a->sequential) PARE_TRY(add_branch(c, g, last, last->out[0], l, a->scale));
    else PARE_TRY(add_branch(c, g, n, n->in[s->x], l, a->scale * alpha));
  }
  return PARE_OK;
}

/* A or B: a state or, of an adapter of rank 0, a zero row or column, which scores read beside the weight. */
static PareValue *factor(PareCtx *c, PareGraph *g, const PareAdapter *a, PareDtype dtype, int64_t rows, int64_t cols) {
  if (a->rank) return pare_value_add(c, g, PARE_STATE, a->name, (PareType){dtype, 2, {rows, cols}});
  PareType type = {dtype, 2, {rows ? rows : 1, cols ? cols : 1}};
  void *zeros = pare_arena_alloc(g->arena, (size_t)pare_type_count(&type), pare_dtype_size(dtype));
  if (!zeros) return pare_nomem(c), NULL;
  return pare_const_add(c, g, a->name, type, zeros);
}

PareStatus pare_insert_lora(PareCtx *c, PareGraph *g, const PareAdapters *adapters, PareDtype dtype, PareLora *lora) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode **by_id = PARE_NEW_N(c->scratch, g->nnodes + 1, PareNode *);
  if (!by_id) return pare_nomem(c);
  for (PareNode *n = g->first; n; n = n->next) by_id[n->id] = n;
  for (size_t i = 0; i < adapters->at.n; i++) {
    const PareAdapter *a = &adapters->at.at[i];
    lora[i].a = factor(c, g, a, dtype, pare_adapter_rows(a), a->rank);
    lora[i].b = factor(c, g, a, dtype, a->rank, a->n);
    lora[i].reads = PARE_NEW_N(g->arena, a->sites.n, PareValue *);
    if (!lora[i].a || !lora[i].b) return c->diag.code;
    if (!lora[i].reads) return pare_nomem(c);
    for (size_t s = 0; s < a->sites.n; s++) lora[i].reads[s] = by_id[a->sites.at[s].node]->in[a->sites.at[s].w];
    lora[i].w = lora[i].reads[0];
    if (lora[i].w->type.dtype != dtype)
      return pare_error(c, PARE_UNSUPPORTED, "node '%s' multiplies in %s: tuning is done in %s",
                        by_id[a->sites.at[0].node]->name, pare_dtype_name(lora[i].w->type.dtype),
                        pare_dtype_name(dtype));
    if (a->elementwise) PARE_TRY(pare_mask_elements(c, g, by_id, a, &lora[i]));
    else if (a->rank) PARE_TRY(add_branches(c, g, by_id, a, &lora[i]));
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
