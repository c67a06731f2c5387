#include "passes/score_values.h"

#include "passes/match.h"

/* --- products --- */

static bool multiplies(const PareNode *n, const PareValue *w) {
  bool product = n->op == PARE_OP_LINEAR || n->op == PARE_OP_MATMUL || n->op == PARE_OP_GEMM;
  return product && n->in[1] == w && !pare_attr_get(&n->attr, transA, 0);
}

static bool listed(const PareProducts *list, const PareNode *n) {
  for (size_t i = 0; i < list->at.n; i++)
    if (list->at.at[i].node == n) return true;
  return false;
}

/* Behind a product n and its bias: y + s·(y·A)·B, of a sequential adapter; NULL if there is none. */
static PareValue *behind_adapter(const PareGraph *g, const PareNode *n, const PareLora *l) {
  for (const PareNode *u = g->first; u; u = u->next) {
    if (u->op != PARE_OP_MATMUL || u->in[1] != l->a) continue;
    const PareNode *by = u->in[0]->def;
    bool own = by == n || (by && by->op == PARE_OP_ADD && (by->in[0] == n->out[0] || by->in[1] == n->out[0]));
    const PareNode *v = own ? pare_sole_reader_op(g, u->out[0], PARE_OP_MATMUL) : NULL;
    const PareNode *scaled = v ? pare_sole_reader_op(g, v->out[0], PARE_OP_MUL) : NULL;
    const PareNode *sum = scaled ? pare_sole_reader_op(g, scaled->out[0], PARE_OP_ADD) : NULL;
    if (sum) return sum->out[0];
  }
  return NULL;
}

PareStatus pare_find_products(PareCtx *c, PareGraph *g, const PareAdapters *adapters, const PareLora *lora,
                              PareProducts *out) {
  *out = (PareProducts){0};
  for (size_t i = 0; i < adapters->at.n; i++)
    for (size_t s = 0; s < adapters->at.at[i].sites.n; s++)
      for (PareNode *n = g->first; n; n = n->next) {
        if (!multiplies(n, lora[i].reads[s]) || listed(out, n)) continue;
        PareProduct p = {.adapter = i, .node = n};
        if (adapters->at.at[i].sequential) p.y = behind_adapter(g, n, &lora[i]);
        if (!pare_vec_push(g->arena, &out->at, p)) return pare_nomem(c);
      }
  return PARE_OK;
}

static bool is_mask(const PareMasks *masks, const PareValue *v) {
  for (size_t i = 0; i < masks->at.n; i++)
    if (masks->at.at[i].mask == v) return true;
  return false;
}

PareValue *pare_product_input(const PareMasks *masks, const PareProduct *p) {
  PareValue *x = p->node->in[0];
  const PareNode *mul = pare_made_by(x, PARE_OP_MUL);
  for (int k = 0; mul && k < 2; k++)
    if (is_mask(masks, mul->in[k])) return mul->in[1 - k];
  return x;
}

PareValue *pare_product_output(const PareProduct *p) { return p->y ? p->y : p->node->out[0]; }

/* --- what masks multiply --- */

/* The factors of an axis, outer first. */
typedef struct Factors {
  PareAxis *at[16];
  int n;
} Factors;

/* False: too many. */
static bool list_factors(PareAxis *a, Factors *f) {
  a = pare_axis_find(a);
  if (a->kind != PARE_AXIS_PROD) return f->n < 16 ? f->at[f->n++] = a, true : false;
  for (int i = 0; i < a->n; i++)
    if (!list_factors(a->kid[i], f)) return false;
  return true;
}

/* Axis 0 of every input counts samples. */
static bool counts_samples(const PareTracer *t, const PareAxis *a) {
  for (size_t i = 0; i < t->g->inputs.n; i++) {
    const PareValue *v = t->g->inputs.at[i];
    if (v->type.rank > 0 && pare_axis_find(t->value_axis[v->id][0]) == a) return true;
  }
  return false;
}

/* How many: of the bound graph's inputs, whose first are the traced ones'. */
static int64_t count_samples(const PareTracer *t, const PareGraph *g) {
  int64_t n = 1;
  for (size_t i = 0; i < t->g->inputs.n; i++)
    if (g->inputs.at[i]->type.rank > 0 && g->inputs.at[i]->type.dim[0] > n) n = g->inputs.at[i]->type.dim[0];
  return n;
}

/* Rows of one sample after each other within an axis of `size`, the samples being factor k of it; 0: not known. */
static int64_t rows_within(const Factors *f, int k, int64_t size, int64_t samples) {
  if (k == f->n - 1) return 1;
  return k == 0 && size % samples == 0 ? size / samples : 0;
}

static void lay_out(const PareDims *d, const PareGraph *g, const PareContraction *x, PareMasked *m) {
  const PareType *type = &m->v->type;
  int64_t samples = count_samples(d->tracer, g), inner = 1;
  m->axis = x->axis;
  if (samples == 1) m->samples = m->block = 1;
  for (int axis = x->axis - 1; axis >= 0 && !m->samples; inner *= type->dim[axis--]) {
    Factors f = {.n = 0};
    if (!list_factors(pare_axis_in(d->tracer, x->node, x->input, axis), &f)) return;
    for (int k = 0; k < f.n; k++)
      if (counts_samples(d->tracer, f.at[k]) && (m->block = inner * rows_within(&f, k, type->dim[axis], samples)) > 0)
        m->samples = samples;
  }
}

PareStatus pare_find_masked(PareCtx *c, const PareGraph *g, const PareDims *d, const PareMasks *masks,
                            PareMasked *out, PareValue **product) {
  for (size_t i = 0; i < masks->at.n; i++) {
    const PareMask *mask = &masks->at.at[i];
    const PareNode *n = g->first;
    while (n && !(n->op == PARE_OP_MUL && (n->in[0] == mask->mask || n->in[1] == mask->mask))) n = n->next;
    if (!n) return pare_error(c, PARE_UNSUPPORTED, "the mask of node '%s' has no gradient of its own", mask->mask->name);
    out[i] = (PareMasked){.v = n->in[n->in[0] == mask->mask]};
    product[i] = n->out[0];
    lay_out(d, g, mask->reader, &out[i]);
  }
  return PARE_OK;
}
