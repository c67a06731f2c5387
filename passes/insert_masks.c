/* insert_masks - multiplies what weights read from prunable dimensions by masks. */
#include "passes/insert_masks.h"

/* Of branch b, where it joins the stream, all positions are its own. */
static PareStatus insert_mask(PareCtx *c, PareGraph *g, const PareDims *d, int dim, const PareContraction *x,
                              const PareBranch *b, PareNode *n, PareMasks *out) {
  PareValue *v = n->in[x->input];
  PareType type = {v->type.dtype, v->type.rank - x->axis, {v->type.dim[x->axis]}};
  for (int i = 1; i < type.rank; i++) type.dim[i] = 1;
  PareMask m = {.dim = dim, .k = v->type.dim[x->axis], .reader = x};
  m.group = PARE_NEW_N(g->arena, m.k, int64_t);
  m.mask = pare_value_add(c, g, PARE_STATE, n->name, type);
  void *ones = pare_arena_alloc(g->arena, (size_t)m.k, pare_dtype_size(type.dtype));
  if (!m.group || !m.mask || !ones) return pare_nomem(c);
  for (int64_t i = 0; i < m.k; i++) {
    if (type.dtype == PARE_F64) ((double *)ones)[i] = 1;
    else ((float *)ones)[i] = 1;
    if (b) m.group[i] = b->number;
  }
  m.mask->data = ones;
  if (!b)
    pare_axis_kept_positions(pare_axis_in(d->tracer, x->node, x->weight, x->weight_axis), d->dims.at[dim].leaf, m.group);
  PareValue *masked = PARE_EMIT(c, g, n, PARE_OP_MUL, n->name, NULL, v, m.mask);
  if (!masked) return c->diag.code;
  n->in[x->input] = masked;
  return pare_vec_push(g->arena, &out->at, m) ? PARE_OK : pare_nomem(c);
}

/* A bias that an op adds behind the sum is the branch's, and is masked with it: x + (y + b) for (x + y) + b. */
static PareStatus gather_bias(PareCtx *c, PareGraph *g, const PareBranch *b, PareNode *sum, PareNode *behind) {
  PareValue *bias = behind->in[b->bias.input], **y = &sum->in[b->sum.input];
  if (bias->def && bias->def->onnx_index == behind->onnx_index) bias = bias->def->in[0]; /* which is made too late */
  if (!(*y = PARE_EMIT(c, g, sum, PARE_OP_ADD, behind->name, NULL, *y, bias))) return c->diag.code;
  behind->in[0] = sum->out[0];
  behind->nin = 1;
  behind->op = PARE_OP_IDENTITY;
  return PARE_OK;
}

static PareStatus mask_branch(PareCtx *c, PareGraph *g, const PareDims *d, int dim, const PareBranch *b,
                              PareNode *const *by_id, PareMasks *out) {
  PareNode *sum = by_id[b->sum.node->id];
  if (b->bias.node) PARE_TRY(gather_bias(c, g, b, sum, by_id[b->bias.node->id]));
  return insert_mask(c, g, d, dim, &b->sum, b, sum, out);
}

static bool is_masked(const PareDims *d, size_t i, const bool *pruned) {
  return pare_kind_is_block(d->dims.at[i].kind) || (pruned && pruned[i]);
}

PareStatus pare_insert_masks(PareCtx *c, PareGraph *g, const PareDims *d, const bool *pruned, PareMasks *out) {
  *out = (PareMasks){0};
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode **by_id = PARE_NEW_N(c->scratch, g->nnodes + 1, PareNode *);
  if (!by_id) return pare_nomem(c);
  for (PareNode *n = g->first; n; n = n->next) by_id[n->id] = n;
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    if (!is_masked(d, i, pruned)) continue;
    for (size_t k = 0; k < dim->branches.n; k++)
      PARE_TRY(mask_branch(c, g, d, (int)i, &dim->branches.at[k], by_id, out));
    for (size_t r = 0; r < dim->readers.n; r++)
      PARE_TRY(insert_mask(c, g, d, (int)i, &dim->readers.at[r], NULL, by_id[dim->readers.at[r].node->id], out));
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
