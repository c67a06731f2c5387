/* training.c - assembles the training graph. Each part appends nodes and leaves
 * what was there unchanged: with B = 0 and masks of one the outputs are the model's. */
#include "passes/training.h"

#include <string.h>

#include "passes/autodiff.h"
#include "passes/classes.h"
#include "passes/match.h"
#include "passes/pass.h"
#include "passes/score_values.h"

enum { HYPER = 8 };

typedef struct Build {
  PareCtx *c;
  PareGraph *g;
  const PareDims *d;
  const PareAdapters *adapters;
  const PareTrainSpec *spec;
  PareTrainGraph *t;
  PareLora *lora;
  PareValue **trained;     /* states, by number in the spec's set */
  PareValue **dmask;       /* accumulated, by mask; NULL unless the criterion reads them */
  PareIncidences incidences;
  PareValue **mask_group;
  PareProducts products;   /* these and what follows: where the criterion reads them */
  PareMasked *masked;      /* by mask */
  PareValue **masked_out;  /* by mask: what it makes */
  PareValue **sums;        /* what the criterion collects */
} Build;

static PareValue *state(Build *b, const char *name, PareType t) {
  return pare_value_add(b->c, b->g, PARE_STATE, name, t);
}
static PareValue *input(Build *b, const char *name, PareType t) {
  return pare_value_add(b->c, b->g, PARE_INPUT, name, t); /* which lists it */
}
static PareStatus oom(Build *b) { return b->c->diag.code ? b->c->diag.code : pare_nomem(b->c); }

/* Nodes behind `after` (NULL: all) belong to a phase. */
static void set_phase(PareGraph *g, PareNode *after, ParePhase phase) {
  for (PareNode *n = after ? after->next : g->first; n; n = n->next) n->phase = (uint8_t)phase;
}

/* An op that only updates states. */
static PareStatus effect(Build *b, PareOp op, const char *name, const PareAttrs *attr, int nin, PareValue *const *in) {
  PareNode *n = pare_node_add(b->c, b->g, NULL, op, name, nin, in, 0);
  if (!n) return b->c->diag.code;
  if (attr) n->attr = *attr;
  return pare_infer(b->c, n);
}

/* --- losses --- */

static PareStatus add_loss(Build *b, PareValue **total, PareValue *v) {
  if (!v) return oom(b);
  *total = *total ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_ADD, "loss", NULL, *total, v) : v;
  return *total ? PARE_OK : b->c->diag.code;
}

/* 1 where a place of the output counts, 0 where it is padding: [N, L, 1, ...]. NULL where all count. */
static PareStatus find_padding(Build *b, const PareValue *output, PareValue **out) {
  PareValue *mask = pare_task_padding(b->g, output);
  int64_t axes[PARE_MAX_RANK];
  PareAttrs to = {0};
  *out = NULL;
  if (!mask) return PARE_OK;
  for (int i = 2; i < output->type.rank; i++) axes[i - 2] = i;
  pare_attr_set(&to, to, PARE_BOOL);
  PareValue *truth = PARE_EMIT(b->c, b->g, NULL, PARE_OP_CAST, "loss", &to, mask);
  pare_attr_set(&to, to, PARE_F32);
  PareValue *number = truth ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_CAST, "loss", &to, truth) : NULL;
  PareValue *where = number ? pare_const_ints(b->c, b->g, "loss", output->type.rank - 2, axes) : NULL;
  *out = where ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_UNSQUEEZE, "loss", NULL, number, where) : NULL;
  return *out ? PARE_OK : oom(b);
}

/* The mean over all places of what is zero at padded ones becomes the mean over the others. */
static PareValue *over_unpadded(Build *b, PareValue *loss, PareValue *mask) {
  PareAttrs all = {0};
  pare_attr_set(&all, keepdims, 0);
  PareValue *share = loss ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_REDUCEMEAN, "loss", &all, mask) : NULL;
  return share ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_DIV, "loss", NULL, loss, share) : NULL;
}

static PareStatus distill(Build *b, PareTeacherOutput *o, PareValue **total) {
  PareAttrs t = {0};
  pare_attr_set(&t, temperature, b->spec->temperature);
  const char *name = pare_arena_printf(b->g->arena, "pare.teacher.%s", o->output->name);
  PareValue *mask, *x = o->classes ? o->scores : o->output, *y;
  if (!name || !(y = o->teacher = input(b, name, o->output->type))) return oom(b);
  PARE_TRY(find_padding(b, o->output, &mask));
  if (mask && !(x = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, x, mask))) return oom(b);
  if (mask && !(y = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, y, mask))) return oom(b);
  PareValue *loss = PARE_EMIT(b->c, b->g, NULL, o->classes ? PARE_OP_DISTILL : PARE_OP_MSE, "loss",
                              o->classes ? &t : NULL, x, y);
  return add_loss(b, total, mask ? over_unpadded(b, loss, mask) : loss);
}

/* mean((scale·h - target)²). */
static PareStatus distill_hidden(Build *b, PareTeacherHidden *h, PareValue **total) {
  PareType row = h->state->type;
  row.dim[row.rank - 1] = 1;
  const char *target = pare_arena_printf(b->g->arena, "pare.hidden.%s", h->state->name);
  const char *scale = pare_arena_printf(b->g->arena, "pare.relevance.%s", h->state->name);
  if (!target || !scale || !(h->target = input(b, target, h->state->type)) || !(h->scale = input(b, scale, row)))
    return oom(b);
  PareValue *scaled = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, h->state, h->scale);
  return scaled ? add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, PARE_OP_MSE, "loss", NULL, scaled, h->target))
                : oom(b);
}

/* [N, 2, L]: the scores of first and of last tokens as two rows of a sample. */
static PareValue *stack_spans(Build *b, PareValue *first, PareValue *last) {
  PareAttrs attr = {0};
  if (first == last) {
    PareInts order = {.n = 3, .at = {0, 2, 1}};
    pare_attr_set(&attr, perm, order);
    return PARE_EMIT(b->c, b->g, NULL, PARE_OP_TRANSPOSE, "loss", &attr, first);
  }
  PareValue *axis = pare_const_ints(b->c, b->g, "loss", 1, (int64_t[]){1});
  PareValue *x = axis ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_UNSQUEEZE, "loss", NULL, first, axis) : NULL;
  PareValue *y = x ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_UNSQUEEZE, "loss", NULL, last, axis) : NULL;
  pare_attr_set(&attr, axis, 1);
  return y ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_CONCAT, "loss", &attr, x, y) : NULL;
}

static PareValue *scores_of(const PareTrainGraph *t, const PareValue *output) {
  for (size_t i = 0; i < t->noutputs; i++)
    if (t->outputs[i].output == output) return t->outputs[i].scores;
  return NULL;
}

/* What labels speak of. */
static PareStatus find_judged(Build *b) {
  PareTrainGraph *t = b->t;
  const PareTask *task = &b->spec->task;
  t->judged = t->outputs[0].classes ? t->outputs[0].scores : t->outputs[0].output;
  if (b->spec->loss == PARE_LOSS_KD) return PARE_OK;
  t->judged = b->g->outputs.at[task->output];
  if (b->spec->loss == PARE_LOSS_MSE) return PARE_OK;
  t->judged = scores_of(t, t->judged);
  if (task->kind == PARE_TASK_SPANS) t->judged = stack_spans(b, t->judged, scores_of(t, b->g->outputs.at[task->last]));
  return t->judged ? PARE_OK : oom(b);
}

static PareStatus supervise(Build *b, PareValue **total) {
  static const PareOp op[] = {[PARE_LOSS_CE] = PARE_OP_CROSSENTROPY, [PARE_LOSS_MSE] = PARE_OP_MSE,
                              [PARE_LOSS_BCE] = PARE_OP_BCE};
  PareValue *y = b->t->judged;
  PareType type = b->spec->loss == PARE_LOSS_CE ? b->spec->labels : y->type;
  if (!(b->t->labels = input(b, "pare.labels", type))) return oom(b);
  return add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, op[b->spec->loss], "loss", NULL, y, b->t->labels));
}

/* Cross-entropy against sampled labels, or a random projection: what the scores
 * are taken from when tuning has no labels (METHOD 5). */
static PareStatus fisher_loss(Build *b, PareTeacherOutput *o, PareValue **total) {
  PareType type = o->output->type;
  if (o->classes) {
    type.dtype = PARE_I64;
    type.rank--;
    const char *name = pare_arena_printf(b->g->arena, "pare.sampled.%s", o->output->name);
    if (!name || !(o->sampled = input(b, name, type))) return oom(b);
    return add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, PARE_OP_CROSSENTROPY, "score", NULL, o->scores, o->sampled));
  }
  PareAttrs all = {0};
  pare_attr_set(&all, keepdims, 0);
  const char *name = pare_arena_printf(b->g->arena, "pare.signs.%s", o->output->name);
  if (!name || !(o->signs = input(b, name, type))) return oom(b);
  PareValue *p = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "score", NULL, o->output, o->signs);
  return p ? add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, PARE_OP_REDUCEMEAN, "score", &all, p)) : oom(b);
}

/* --- backward --- */

typedef struct Gradients {
  PareValue **wrt, **grad;
  size_t n;
} Gradients;

static void want(Gradients *w, PareValue *v) { w->wrt[w->n++] = v; }

static unsigned needs(const Build *b) { return b->spec->criterion->needs; }

/* Adds what the criterion reads of this backward pass, besides gradients of adapters. */
static void want_scored(Build *b, Gradients *w) {
  for (size_t i = 0; i < b->t->masks.at.n && (needs(b) & PARE_NEEDS_MASKS); i++) want(w, b->t->masks.at.at[i].mask);
  for (size_t i = 0; i < b->products.at.n && (needs(b) & PARE_NEEDS_PRODUCTS); i++)
    want(w, pare_product_output(&b->products.at.at[i]));
  for (size_t i = 0; i < b->t->masks.at.n && (needs(b) & PARE_NEEDS_SAMPLES); i++) want(w, b->masked_out[i]);
}

static PareStatus accumulate(Build *b, PareValue *acc, const char *name, PareValue *grad) {
  return grad ? effect(b, PARE_OP_ACCUMULATE, name, NULL, 2, (PareValue *[]){acc, grad}) : PARE_OK;
}

/* The gradient of alpha·x·W times alpha. */
static PareStatus scale_product(Build *b, PareProduct *p, PareValue *dy) {
  double alpha = pare_attr_get(&p->node->attr, alpha, 1.0);
  p->dy = dy;
  if (!dy || alpha == 1) return PARE_OK;
  PareValue *k = pare_const_float(b->c, b->g, "", dy->type.dtype, alpha);
  p->dy = k ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "score", NULL, dy, k) : NULL;
  return p->dy ? PARE_OK : oom(b);
}

/* In the order of want_scored. */
static PareStatus keep_scored(Build *b, PareValue **grad) {
  for (size_t i = 0; i < b->t->masks.at.n && (needs(b) & PARE_NEEDS_MASKS); i++)
    PARE_TRY(accumulate(b, b->dmask[i], b->t->masks.at.at[i].mask->name, *grad++));
  for (size_t i = 0; i < b->products.at.n && (needs(b) & PARE_NEEDS_PRODUCTS); i++)
    PARE_TRY(scale_product(b, &b->products.at.at[i], *grad++));
  for (size_t i = 0; i < b->t->masks.at.n && (needs(b) & PARE_NEEDS_SAMPLES); i++) b->masked[i].dmasked = *grad++;
  return PARE_OK;
}

static PareStatus add_moments(Build *b, PareParam *p) {
  PareType type = p->value->type;
  p->grad = state(b, p->value->name, type);
  p->m = state(b, p->value->name, type);
  p->v = state(b, p->value->name, type);
  return p->grad && p->m && p->v ? PARE_OK : oom(b);
}

/* An initializer gets its moments once it is known to have a gradient. */
static PareStatus keep_gradient(Build *b, PareParam *p, bool score, PareValue *grad) {
  if (grad && !p->grad) PARE_TRY(add_moments(b, p));
  return accumulate(b, score ? p->score_grad : p->grad, p->value->name, grad);
}

/* Gradients of `loss` into the accumulators of the first nparams parameters and, if the scores come from it, to what the
 * criterion reads. */
static PareStatus backward(Build *b, PareValue *loss, size_t nparams, bool scored, bool score) {
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

static PareValue *group_constant(Build *b, int64_t n, const int64_t *group) {
  int32_t *data = PARE_NEW_N(b->g->arena, n + 1, int32_t);
  for (int64_t i = 0; data && i < n; i++) data[i] = (int32_t)group[i];
  return data ? pare_const_add(b->c, b->g, "pare.group", (PareType){PARE_I32, 1, {n}}, data) : NULL;
}

/* All of an adapted weight belongs to the branch that it is in. */
static PareStatus find_branches(Build *b, size_t adapter, int64_t width) {
  const PareAdapter *a = &b->adapters->at.at[adapter];
  for (size_t d = 0; d < b->d->dims.n; d++)
    for (size_t i = 0; i < b->d->dims.at[d].branches.n; i++) {
      const PareBranch *branch = &b->d->dims.at[d].branches.at[i];
      if (!has_node(branch, a->sites.at[0].node)) continue;
      int64_t *group = PARE_NEW_N(b->g->arena, width + 1, int64_t);
      if (!group) return pare_nomem(b->c);
      for (int64_t k = 0; k < width; k++) group[k] = branch->number;
      PareIncidence x = {adapter, (int)d, true, group_constant(b, width, group)};
      if (!x.group || !pare_vec_push(b->g->arena, &b->incidences.at, x)) return oom(b);
    }
  return PARE_OK;
}

/* Which axis of which adapted weight holds which dimension. */
static PareStatus find_incidences(Build *b) {
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
        PareIncidence x = {i, found.dim[k], out != 0, group_constant(b, size, position)};
        if (!x.group || !pare_vec_push(b->g->arena, &b->incidences.at, x)) return oom(b);
      }
    }
  }
  return PARE_OK;
}

static PareStatus zero(Build *b, PareValue *s) {
  size_t bytes;
  PareAttrs attr = {0};
  pare_attr_set(&attr, alpha, 0.0);
  if (!pare_type_bytes(&s->type, &bytes)) return pare_nomem(b->c);
  void *zeros = pare_arena_alloc(b->g->arena, bytes, 1);
  PareValue *z = zeros ? pare_const_add(b->c, b->g, "pare.zero", s->type, zeros) : NULL;
  return z ? effect(b, PARE_OP_EMA, s->name, &attr, 2, (PareValue *[]){s, z}) : oom(b);
}

static PareScoreInputs score_inputs(Build *b) {
  return (PareScoreInputs){.adapters = b->adapters, .lora = b->lora, .masks = &b->t->masks, .dmask = b->dmask,
                           .mask_group = b->mask_group, .incidences = &b->incidences, .products = &b->products,
                           .masked = b->masked, .sums = b->sums, .like = b->t->score, .ndims = b->t->ndims, .nscored = b->t->nscored,
                           .power = b->spec->power, .eta = b->spec->eta, .normalise = b->spec->normalise};
}

/* In the phase whose values the criterion reads. */
static PareStatus collect(Build *b) {
  PareScoreInputs in = score_inputs(b);
  if (!b->spec->criterion->collect) return PARE_OK;
  for (size_t i = 0; i < b->products.at.n; i++)
    b->products.at.at[i].x = pare_product_input(&b->t->masks, &b->products.at.at[i]);
  return b->spec->criterion->collect(b->c, b->g, &in);
}

static PareStatus scores(Build *b) {
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
      PARE_TRY(effect(b, average ? PARE_OP_EMA : PARE_OP_ACCUMULATE, "score", average ? &decay : NULL, 2,
                      (PareValue *[]){t->score[i], sum[i]}));
  for (size_t i = 0; i < n && t->score_phase && (needs(b) & PARE_NEEDS_ADAPTERS); i++) {
    PARE_TRY(zero(b, t->a[i].score_grad));
    PARE_TRY(zero(b, t->b[i].score_grad));
  }
  for (size_t i = 0; i < t->masks.at.n && b->dmask[i]; i++) PARE_TRY(zero(b, b->dmask[i]));
  for (size_t i = 0; i < t->nscored; i++)
    if (b->sums[i]) PARE_TRY(zero(b, b->sums[i]));
  return PARE_OK;
}

/* --- the optimiser --- */

/* The same without weight decay. */
static PareValue *without_decay(Build *b) {
  enum { DECAY = 4 };
  float *factor = PARE_NEW_N(b->g->arena, HYPER, float);
  for (int i = 0; factor && i < HYPER; i++) factor[i] = i != DECAY;
  PareValue *k = factor ? pare_const_add(b->c, b->g, "pare.undecayed", b->t->hyper->type, factor) : NULL;
  return k ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "hyper", NULL, b->t->hyper, k) : NULL;
}

static PareStatus update(Build *b) {
  PareTrainGraph *t = b->t;
  size_t n = 0;
  bool all_decay = true;
  PareValue **grads = PARE_NEW_N(b->g->arena, t->nparams + 1, PareValue *);
  if (!grads) return pare_nomem(b->c);
  for (size_t i = 0; i < t->nparams; i++) {
    if (!t->param[i].grad) continue;
    grads[n++] = t->param[i].grad;
    all_decay &= t->param[i].decays;
  }
  if (!n) return PARE_OK;
  PareValue *norm = pare_emit(b->c, b->g, NULL, PARE_OP_SUMSQUARES, "clip", NULL, (int)n, grads);
  PareValue *plain = norm && !all_decay ? without_decay(b) : NULL;
  if (!norm || (!all_decay && !plain)) return oom(b);
  for (size_t i = 0; i < t->nparams; i++) {
    const PareParam *p = &t->param[i];
    PareValue *in[] = {p->value, p->grad, p->m, p->v, p->decays ? t->hyper : plain, norm};
    if (p->grad) PARE_TRY(effect(b, PARE_OP_ADAMW, p->value->name, NULL, 6, in));
  }
  return PARE_OK;
}

/* --- putting it together --- */

static size_t ntrained(const Build *b) { return b->spec->trained ? b->spec->trained->at.n : 0; }

static PareStatus add_states(Build *b) {
  PareTrainGraph *t = b->t;
  bool apart = t->score_phase && (needs(b) & PARE_NEEDS_ADAPTERS);
  for (size_t i = 0; i < 2 * b->adapters->at.n; i++) {
    size_t k = i / 2;
    PareParam *p = i % 2 ? &t->b[k] : &t->a[k];
    if (!b->adapters->at.at[k].rank) continue;
    p->value = i % 2 ? b->lora[k].b : b->lora[k].a;
    p->decays = true;
    PARE_TRY(add_moments(b, p));
    p->score_grad = apart ? state(b, p->value->name, p->value->type) : p->grad;
    if (!p->score_grad) return oom(b);
  }
  for (size_t i = 0; i < ntrained(b); i++)
    t->trained[i] = (PareParam){.value = b->trained[i], .decays = b->spec->trained->at.at[i].decays};
  for (size_t i = 0; i < t->masks.at.n; i++) {
    const PareMask *m = &t->masks.at.at[i];
    if (!(b->mask_group[i] = group_constant(b, m->k, m->group))) return oom(b);
    if (!(needs(b) & PARE_NEEDS_MASKS)) continue;
    if (!(b->dmask[i] = state(b, "pare.dmask", m->mask->type))) return oom(b);
  }
  for (size_t i = 0; i < t->ndims; i++) {
    if (!b->spec->pruned[i]) continue;
    if (!(t->score[i] = state(b, "score", (PareType){PARE_F32, 1, {b->d->dims.at[i].count}}))) return oom(b);
  }
  for (size_t i = 0; i < b->adapters->at.n; i++) {
    t->mask[i] = b->lora[i].mask;
    if (t->mask[i] && !(t->score[t->ndims + i] = state(b, "score", b->lora[i].w->type))) return oom(b);
  }
  return PARE_OK;
}

static PareStatus start(Build *b) {
  PareTrainGraph *t = b->t;
  PareArena *a = b->g->arena;
  size_t n = b->adapters->at.n;
  *t = (PareTrainGraph){.g = b->g, .nadapters = n, .ndims = b->d->dims.n, .nscored = b->d->dims.n + n};
  t->nhidden = b->spec->hidden.at.n;
  t->hidden = PARE_NEW_N(a, t->nhidden + 1, PareTeacherHidden);
  t->score_phase = b->spec->loss == PARE_LOSS_KD && (needs(b) & PARE_NEEDS_GRADIENTS);
  t->nparams = 2 * n + ntrained(b);
  if (!(t->param = PARE_NEW_N(a, t->nparams + 1, PareParam))) return pare_nomem(b->c);
  t->a = t->param, t->b = t->a + n, t->trained = t->b + n;
  t->score = PARE_NEW_N(a, t->nscored + 1, PareValue *);
  t->mask = PARE_NEW_N(a, n + 1, PareValue *);
  t->outputs = PARE_NEW_N(a, b->g->outputs.n + 1, PareTeacherOutput);
  b->lora = PARE_NEW_N(a, n + 1, PareLora);
  if (!t->score || !t->mask || !t->outputs || !t->hidden || !b->lora) return pare_nomem(b->c);
  for (size_t i = 0; i < b->g->outputs.n; i++)
    if (pare_is_followed(b->g, b->spec->aside, i))
      t->outputs[t->noutputs++] = (PareTeacherOutput){.output = b->g->outputs.at[i]};
  if (!t->noutputs) return pare_error(b->c, PARE_UNSUPPORTED, "the model has no output of floats to tune on");
  for (size_t i = 0; i < t->nhidden; i++) /* so that passes keep them, and tell what becomes of them */
    if (!pare_vec_push(a, &b->g->outputs, b->g->values.at[b->spec->hidden.at.at[i].value])) return oom(b);
  return PARE_OK;
}

/* Replacing uses moves outputs behind the adapters and into fused ops: they are looked up again. */
static PareStatus find_outputs(Build *b) {
  PareTrainGraph *t = b->t;
  size_t n = b->g->outputs.n - t->nhidden;
  for (size_t i = 0, k = 0; i < n; i++)
    if (pare_is_followed(b->g, b->spec->aside, i)) t->outputs[k++].output = b->g->outputs.at[i];
  for (size_t i = 0; i < t->nhidden; i++) t->hidden[i].state = b->g->outputs.at[n + i];
  for (size_t i = 0; i < t->noutputs; i++) {
    PareTeacherOutput *o = &t->outputs[i];
    o->classes = pare_output_is_classes(o->output);
    if (!(o->scores = pare_output_logits(b->c, b->g, o->output))) return oom(b);
  }
  return PARE_OK;
}

/* task + mu·(taught - task); of one of them, that one. */
static PareStatus blend(Build *b, PareValue *task, PareValue *taught) {
  PareTrainGraph *t = b->t;
  t->loss = task ? task : taught;
  if (!task || !taught) return PARE_OK;
  if (!(t->mu = input(b, "pare.mu", (PareType){task->type.dtype, 0, {0}}))) return oom(b);
  PareValue *apart = PARE_EMIT(b->c, b->g, NULL, PARE_OP_SUB, "loss", NULL, taught, task);
  PareValue *part = apart ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, apart, t->mu) : NULL;
  t->loss = task;
  return part ? add_loss(b, &t->loss, part) : oom(b);
}

static PareStatus add_losses(Build *b) {
  PareTrainGraph *t = b->t;
  PareValue *task = NULL, *taught = NULL;
  for (size_t i = 0; b->spec->teach_outputs && i < t->noutputs; i++) PARE_TRY(distill(b, &t->outputs[i], &taught));
  for (size_t i = 0; i < t->nhidden; i++) PARE_TRY(distill_hidden(b, &t->hidden[i], &taught));
  PARE_TRY(find_judged(b));
  if (b->spec->loss != PARE_LOSS_KD) PARE_TRY(supervise(b, &task));
  return blend(b, task, taught);
}

static PareStatus done(Build *b, const char *step) { return pare_pass_done(b->c, b->g, step, b->spec->dump_after); }

/* --dump-after names a pass or a step of pare_build_training. */
static PareStatus check_dump(Build *b) {
  static const char *const steps[] = {"train-constants", "insert-masks", "insert-lora", "loss", "autodiff", "scores", "update", "recompute"};
  const char *name = b->spec->dump_after;
  if (!name || !*name || pare_pass_find(name)) return PARE_OK;
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
    if (!strcmp(name, steps[i])) return PARE_OK;
  return pare_error(b->c, PARE_USAGE, "--dump-after: there is no pass '%s'; there are train-constants, widen, "
                    "float-products, insert-masks, insert-lora, fold-constants, fake-quantize, drop-noops, "
                    "fuse-layernorm, fuse-gelu, fuse-linear, fuse-attention, fetch-weights, fuse-masks, "
                    "narrow-rows, lower-precision, loss, autodiff, scores, fuse-sums, renorm, fuse-gelu-grad, "
                    "fuse-importance, update, recompute, merge-weights", name);
}

static bool makes_integers(PareOp op) {
  return op == PARE_OP_QUANTIZELINEAR || op == PARE_OP_MATMULINTEGER || op == PARE_OP_DYNAMICQUANTIZELINEAR;
}

static void mark_live(bool *live, const PareValue *v) {
  if (v && v->def) live[v->def->id] = true;
}

/* Gradients do not pass through integers. What nothing leads on from, copies that a Concat has lost say, has none. */
static PareStatus check_quantized(Build *b) {
  bool *live = PARE_NEW_N(b->g->arena, b->g->nnodes + 1, bool);
  if (!live) return pare_nomem(b->c);
  for (size_t i = 0; i < b->g->outputs.n; i++) mark_live(live, b->g->outputs.at[i]);
  for (const PareNode *n = b->g->last; n; n = n->prev)
    for (int k = 0; live[n->id] && k < n->nin; k++) {
      const PareNode *q = n->in[k] ? n->in[k]->def : NULL;
      mark_live(live, n->in[k]);
      if (q && n->in[k] == q->out[0] && makes_integers(q->op) && !pare_is_fixed(n->in[k]))
        return pare_fail(b->c, q, PARE_UNSUPPORTED, "what it makes is not dequantised with the same scale and zero "
                         "point, so nothing before it can be tuned");
    }
  return PARE_OK;
}

/* Speed alone: nothing that is scored may be fused away, so masks stay apart where their gradients are read, and rows
 * stay that outputs do not feel where what layers read is scored by itself. */
static PareStatus fuse(Build *b) {
  const char *dump = b->spec->dump_after;
  PARE_TRY(pare_run_passes(b->c, b->g, "drop-noops,fuse-layernorm,fuse-gelu,fuse-linear,fuse-attention", dump));
  if (!(needs(b) & PARE_NEEDS_APART)) PARE_TRY(pare_run_passes(b->c, b->g, "fuse-masks", dump));
  return needs(b) & PARE_NEEDS_INPUTS ? PARE_OK : pare_run_passes(b->c, b->g, "narrow-rows", dump);
}

/* Products by adapted weights are looked up when they are what they will be, but for their precision. */
static PareStatus optimise(Build *b) {
  const char *dump = b->spec->dump_after;
  PARE_TRY(pare_run_passes(b->c, b->g, "fold-constants,fake-quantize", dump));
  PARE_TRY(check_quantized(b));
  if (!b->spec->plain) PARE_TRY(fuse(b));
  if (needs(b) & (PARE_NEEDS_INPUTS | PARE_NEEDS_PRODUCTS))
    PARE_TRY(pare_find_products(b->c, b->g, b->adapters, b->lora, &b->products));
  if (b->spec->bf16 && !b->spec->plain) PARE_TRY(pare_run_passes(b->c, b->g, "lower-precision", dump));
  return needs(b) & PARE_NEEDS_SAMPLES
             ? pare_find_masked(b->c, b->g, b->d, &b->t->masks, b->masked, b->masked_out) : PARE_OK;
}

/* First of all: nothing may be worked out from them, and what follows takes them for the weights that they are. */
static PareStatus train_constants(Build *b) {
  b->trained = PARE_NEW_N(b->g->arena, ntrained(b) + 1, PareValue *);
  if (!b->trained) return pare_nomem(b->c);
  if (ntrained(b)) PARE_TRY(pare_train_constants(b->c, b->g, b->spec->trained, b->trained));
  return done(b, "train-constants");
}

static bool any_elementwise(const PareAdapters *adapters) {
  for (size_t i = 0; i < adapters->at.n; i++)
    if (adapters->at.at[i].elementwise) return true;
  return false;
}

/* Nothing else is run, and so nothing else is left. */
static PareStatus score_alone(Build *b) {
  PareNode *forward = b->g->last;
  PARE_TRY(find_incidences(b));
  PARE_TRY(scores(b));
  set_phase(b->g, forward, PARE_PHASE_RANK);
  b->g->outputs.n = 0;
  return done(b, "scores");
}

/* The program shows losses: of outputs it makes what they read. */
static void drop_outputs(Build *b) {
  PareTrainGraph *t = b->t;
  b->g->outputs.n = 0;
  for (size_t i = 0; i < t->noutputs; i++)
    if (t->outputs[i].scores != t->outputs[i].output) pare_remove_dead(b->g, t->outputs[i].output);
}

PareStatus pare_build_training(PareCtx *c, PareGraph *g, const PareDims *d, const PareAdapters *adapters,
                               const PareTrainSpec *spec, PareTrainGraph *out) {
  Build b = {.c = c, .g = g, .d = d, .adapters = adapters, .spec = spec, .t = out};
  PARE_TRY(check_dump(&b));
  PARE_TRY(train_constants(&b));
  PARE_TRY(pare_run_passes(c, g, "widen,float-products", spec->dump_after));
  PARE_TRY(start(&b));
  if (!any_elementwise(adapters)) PARE_TRY(pare_insert_masks(c, g, d, spec->pruned, &out->masks));
  PARE_TRY(done(&b, "insert-masks"));
  b.dmask = PARE_NEW_N(g->arena, out->masks.at.n + 1, PareValue *);
  b.mask_group = PARE_NEW_N(g->arena, out->masks.at.n + 1, PareValue *);
  b.masked = PARE_NEW_N(g->arena, out->masks.at.n + 1, PareMasked);
  b.masked_out = PARE_NEW_N(g->arena, out->masks.at.n + 1, PareValue *);
  b.sums = PARE_NEW_N(g->arena, out->nscored + 1, PareValue *);
  if (!b.dmask || !b.mask_group || !b.masked || !b.masked_out || !b.sums) return pare_nomem(c);
  PARE_TRY(pare_insert_lora(c, g, adapters, PARE_F32, b.lora));
  PARE_TRY(done(&b, "insert-lora"));
  PARE_TRY(optimise(&b));
  PARE_TRY(find_outputs(&b));
  PARE_TRY(add_states(&b));
  out->dloss = input(&b, "pare.dloss", (PareType){.dtype = PARE_F32});
  out->hyper = input(&b, "pare.hyper", (PareType){PARE_F32, 1, {HYPER}});
  if (!out->dloss || !out->hyper) return oom(&b);

  if (spec->scores_alone) return score_alone(&b);

  PARE_TRY(add_losses(&b));
  PARE_TRY(done(&b, "loss"));
  PARE_TRY(find_incidences(&b));
  PareNode *forward = g->last;
  PARE_TRY(backward(&b, out->loss, out->nparams, !out->score_phase, false));
  if (!out->score_phase) PARE_TRY(collect(&b));
  PARE_TRY(done(&b, "autodiff"));

  PareNode *last = g->last;
  if (out->score_phase) {
    PareValue *loss = NULL;
    for (size_t i = 0; i < out->noutputs; i++) PARE_TRY(fisher_loss(&b, &out->outputs[i], &loss));
    PARE_TRY(backward(&b, loss, needs(&b) & PARE_NEEDS_ADAPTERS ? 2 * out->nadapters : 0, true, true));
    PARE_TRY(collect(&b));
    set_phase(g, last, PARE_PHASE_SCORE);
    last = g->last;
  }
  PARE_TRY(scores(&b));
  PARE_TRY(done(&b, "scores"));
  set_phase(g, last, PARE_PHASE_RANK);
  if (!spec->plain) PARE_TRY(pare_run_passes(c, g, "fuse-sums", spec->dump_after));
  if (!spec->plain && spec->renorm) PARE_TRY(pare_run_passes(c, g, "renorm", spec->dump_after));
  if (!spec->plain && spec->reread) PARE_TRY(pare_run_passes(c, g, "fuse-gelu-grad", spec->dump_after));
  if (!spec->plain && spec->one_run) PARE_TRY(pare_run_passes(c, g, "fuse-importance", spec->dump_after));
  last = g->last;
  PARE_TRY(update(&b));
  set_phase(g, last, PARE_PHASE_UPDATE);
  drop_outputs(&b);
  if (!pare_vec_push(g->arena, &g->outputs, out->loss)) return pare_nomem(c);
  PARE_TRY(done(&b, "update"));
  if (spec->recompute.dear > 0) PARE_TRY(pare_recompute(c, g, forward, spec->recompute, NULL));
  PARE_TRY(done(&b, "recompute"));
  return spec->merge && !spec->plain ? pare_run_passes(c, g, "merge-weights", spec->dump_after) : PARE_OK;
}
