/* training_scores.c - gradients of a training program's loss, and from them and what else a criterion reads the scores of
 * groups and elements. */
#include "passes/autodiff.h"
#include "passes/training_build.h"

/* --- backward --- */

typedef struct Gradients {
  PareValue **wrt, **grad;
  size_t n;
} Gradients;

static void want(Gradients *w, PareValue *v) { w->wrt[w->n++] = v; }

/* Adds what the criterion reads of this backward pass, besides gradients of adapters. */
static void want_scored(PareBuild *b, Gradients *w) {
  for (size_t i = 0; i < b->t->masks.at.n && (build_needs(b) & PARE_NEEDS_MASKS); i++) want(w, b->t->masks.at.at[i].mask);
  for (size_t i = 0; i < b->products.at.n && (build_needs(b) & PARE_NEEDS_PRODUCTS); i++)
    want(w, pare_product_output(&b->products.at.at[i]));
  for (size_t i = 0; i < b->t->masks.at.n && (build_needs(b) & PARE_NEEDS_SAMPLES); i++) want(w, b->masked_out[i]);
}

static PareStatus accumulate(PareBuild *b, PareValue *acc, const char *name, PareValue *grad) {
  return grad ? pare_build_effect(b, PARE_OP_ACCUMULATE, name, NULL, 2, (PareValue *[]){acc, grad}) : PARE_OK;
}

/* The gradient of alpha·x·W times alpha. */
static PareStatus scale_product(PareBuild *b, PareProduct *p, PareValue *dy) {
  double alpha = pare_attr_get(&p->node->attr, alpha, 1.0);
  p->dy = dy;
  if (!dy || alpha == 1) return PARE_OK;
  PareValue *k = pare_const_float(b->c, b->g, "", dy->type.dtype, alpha);
  p->dy = k ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "score", NULL, dy, k) : NULL;
  return p->dy ? PARE_OK : build_oom(b);
}

/* In the order of want_scored. */
static PareStatus keep_scored(PareBuild *b, PareValue **grad) {
  for (size_t i = 0; i < b->t->masks.at.n && (build_needs(b) & PARE_NEEDS_MASKS); i++)
    PARE_TRY(accumulate(b, b->dmask[i], b->t->masks.at.at[i].mask->name, *grad++));
  for (size_t i = 0; i < b->products.at.n && (build_needs(b) & PARE_NEEDS_PRODUCTS); i++)
    PARE_TRY(scale_product(b, &b->products.at.at[i], *grad++));
  for (size_t i = 0; i < b->t->masks.at.n && (build_needs(b) & PARE_NEEDS_SAMPLES); i++) b->masked[i].dmasked = *grad++;
  return PARE_OK;
}

PareStatus pare_build_moments(PareBuild *b, PareParam *p) {
  PareType type = p->value->type;
  p->grad = build_state(b, p->value->name, type);
  p->m = build_state(b, p->value->name, type);
  p->v = build_state(b, p->value->name, type);
  return p->grad && p->m && p->v ? PARE_OK : build_oom(b);
}

/* An initializer gets its moments once it is known to have a gradient. */
static PareStatus keep_gradient(PareBuild *b, PareParam *p, bool score, PareValue *grad) {
  if (grad && !p->grad) PARE_TRY(pare_build_moments(b, p));
  return accumulate(b, score ? p->score_grad : p->grad, p->value->name, grad);
}

PareStatus pare_build_backward(PareBuild *b, PareValue *loss, size_t nparams, bool scored, bool score) {
  PareTrainGraph *t = b->t;
  size_t most = t->nparams + 2 * t->masks.at.n + b->products.at.n + 1;
  Gradients w = {PARE_NEW_N(b->g->arena, most, PareValue *), PARE_NEW_N(b->g->arena, most, PareValue *), 0};
  if (!w.wrt || !w.grad) return pare_nomem(b->c);
  for (size_t i = 0; i < nparams; i++)
    if (t->param[i].value) want(&w, t->param[i].value);
  size_t wanted = w.n;
  if (scored) want_scored(b, &w);
  PARE_TRY(pare_autodiff(b->c, b->g, loss, t->dloss, w.n, w.wrt, w.grad));
  PareValue **grad = w.grad;
  for (size_t i = 0; i < nparams; i++)
    if (t->param[i].value) PARE_TRY(keep_gradient(b, &t->param[i], score, *grad++));
  return scored ? keep_scored(b, w.grad + wanted) : PARE_OK;
}

/* --- scores --- */

typedef struct LeafSearch {
  const PareDims *d;
  int dim[8], n;
} LeafSearch;

static void note_dim(PareAxis *leaf, void *arg) {
  LeafSearch *s = arg;
  if (leaf->dim < 0 || s->n == 8) return;
  for (int i = 0; i < s->n; i++)
    if (s->dim[i] == leaf->dim) return;
  s->dim[s->n++] = leaf->dim;
}

static bool has_node(const PareBranch *b, uint32_t id) {
  for (size_t i = 0; i < b->nodes.n; i++)
    if (b->nodes.at[i]->id == id) return true;
  return false;
}

PareValue *pare_build_groups(PareBuild *b, int64_t n, const int64_t *group) {
  int32_t *data = PARE_NEW_N(b->g->arena, n + 1, int32_t);
  for (int64_t i = 0; data && i < n; i++) data[i] = (int32_t)group[i];
  return data ? pare_const_add(b->c, b->g, "pare.group", (PareType){PARE_I32, 1, {n}}, data) : NULL;
}

/* All of an adapted weight belongs to the branch that it is in. */
static PareStatus find_branches(PareBuild *b, size_t adapter, int64_t width) {
  const PareAdapter *a = &b->adapters->at.at[adapter];
  for (size_t d = 0; d < b->d->dims.n; d++)
    for (size_t i = 0; i < b->d->dims.at[d].branches.n; i++) {
      const PareBranch *branch = &b->d->dims.at[d].branches.at[i];
      if (!has_node(branch, a->sites.at[0].node)) continue;
      int64_t *group = PARE_NEW_N(b->g->arena, width + 1, int64_t);
      if (!group) return pare_nomem(b->c);
      for (int64_t k = 0; k < width; k++) group[k] = branch->number;
      PareIncidence x = {adapter, (int)d, true, true, pare_build_groups(b, width, group)};
      if (!x.group || !pare_vec_push(b->g->arena, &b->incidences.at, x)) return build_oom(b);
    }
  return PARE_OK;
}

PareStatus pare_build_find_incidences(PareBuild *b) {
  PareTracer *t = b->d->tracer;
  for (size_t i = 0; i < b->adapters->at.n; i++) {
    const PareAdapter *a = &b->adapters->at.at[i];
    PareNode *n = t->g->first;
    while (n && n->id != a->sites.at[0].node) n = n->next;
    PARE_TRY(find_branches(b, i, a->n));
    for (int out = 0; n && out < 2; out++) {
      PareAxis *axis = pare_axis_in(t, n, a->sites.at[0].w, a->transposed ? 1 - out : out);
      LeafSearch found = {.d = b->d};
      pare_axis_leaves(axis, note_dim, &found);
      for (int k = 0; k < found.n; k++) {
        int64_t size = pare_axis_count(axis), *position = PARE_NEW_N(b->g->arena, size, int64_t);
        if (!position) return pare_nomem(b->c);
        pare_axis_kept_positions(axis, b->d->dims.at[found.dim[k]].leaf, position);
        PareIncidence x = {i, found.dim[k], out != 0, false, pare_build_groups(b, size, position)};
        if (!x.group || !pare_vec_push(b->g->arena, &b->incidences.at, x)) return build_oom(b);
      }
    }
  }
  return PARE_OK;
}

static PareStatus zero(PareBuild *b, PareValue *s) {
  size_t bytes;
  PareAttrs attr = {0};
  pare_attr_set(&attr, alpha, 0.0);
  if (!pare_type_bytes(&s->type, &bytes)) return pare_nomem(b->c);
  void *zeros = pare_arena_alloc(b->g->arena, bytes, 1);
  PareValue *z = zeros ? pare_const_add(b->c, b->g, "pare.zero", s->type, zeros) : NULL;
  return z ? pare_build_effect(b, PARE_OP_EMA, s->name, &attr, 2, (PareValue *[]){s, z}) : build_oom(b);
}

static PareScoreInputs score_inputs(PareBuild *b) {
  return (PareScoreInputs){.adapters = b->adapters, .lora = b->lora, .masks = &b->t->masks, .dmask = b->dmask,
                           .mask_group = b->mask_group, .incidences = &b->incidences, .products = &b->products,
                           .masked = b->masked, .sums = b->sums, .like = b->t->score, .ndims = b->t->ndims,
                           .nscored = b->t->nscored,
                           .power = b->spec->power, .eta = b->spec->eta, .normalise = b->spec->normalise};
}

PareStatus pare_build_collect(PareBuild *b) {
  PareScoreInputs in = score_inputs(b);
  if (!b->spec->criterion->collect) return PARE_OK;
  for (size_t i = 0; i < b->products.at.n; i++)
    b->products.at.at[i].x = pare_product_input(&b->t->masks, &b->products.at.at[i]);
  return b->spec->criterion->collect(b->c, b->g, &in);
}

PareStatus pare_build_scores(PareBuild *b) {
  PareTrainGraph *t = b->t;
  size_t n = b->adapters->at.n;
  PareValue **da = PARE_NEW_N(b->g->arena, n + 1, PareValue *), **db = PARE_NEW_N(b->g->arena, n + 1, PareValue *);
  PareValue **sum = PARE_NEW_N(b->g->arena, t->nscored + 1, PareValue *);
  if (!da || !db || !sum) return pare_nomem(b->c);
  for (size_t i = 0; i < n; i++) da[i] = t->a[i].score_grad, db[i] = t->b[i].score_grad;
  PareScoreInputs in = score_inputs(b);
  in.da = da;
  in.db = db;
  PARE_TRY(b->spec->criterion->append(b->c, b->g, &in, sum));
  PareAttrs decay = {0};
  pare_attr_set(&decay, alpha, b->spec->ema);
  bool average = b->spec->criterion->over_time == PARE_SCORES_AVERAGE && !b->spec->sum;
  for (size_t i = 0; i < t->nscored; i++)
    if (sum[i] && t->score[i])
      PARE_TRY(pare_build_effect(b, average ? PARE_OP_EMA : PARE_OP_ACCUMULATE, "score", average ? &decay : NULL, 2,
                      (PareValue *[]){t->score[i], sum[i]}));
  for (size_t i = 0; i < n && t->score_phase && (build_needs(b) & PARE_NEEDS_ADAPTERS); i++) {
    PARE_TRY(zero(b, t->a[i].score_grad));
    PARE_TRY(zero(b, t->b[i].score_grad));
  }
  for (size_t i = 0; i < t->masks.at.n && b->dmask[i]; i++) PARE_TRY(zero(b, b->dmask[i]));
  for (size_t i = 0; i < t->nscored; i++)
    if (b->sums[i]) PARE_TRY(zero(b, b->sums[i]));
  return PARE_OK;
}
