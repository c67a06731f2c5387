/* training.c - assembles the training graph. Each part appends nodes and leaves
 * what was there unchanged: with B = 0 and masks of one the outputs are the model's. */
#include <string.h>

#include "passes/match.h"
#include "passes/pass.h"
#include "passes/training_build.h"

enum { HYPER = 8 };

/* Nodes behind `after` (NULL: all) belong to a phase. */
static void set_phase(PareGraph *g, PareNode *after, ParePhase phase) {
  for (PareNode *n = after ? after->next : g->first; n; n = n->next) n->phase = (uint8_t)phase;
}

PareStatus pare_build_effect(PareBuild *b, PareOp op, const char *name, const PareAttrs *attr, int nin,
                             PareValue *const *in) {
  PareNode *n = pare_node_add(b->c, b->g, NULL, op, name, nin, in, 0);
  if (!n) return b->c->diag.code;
  if (attr) n->attr = *attr;
  return pare_infer(b->c, n);
}

/* --- the optimiser --- */

/* The same without weight decay. */
static PareValue *without_decay(PareBuild *b) {
  enum { DECAY = 4 };
  float *factor = PARE_NEW_N(b->g->arena, HYPER, float);
  for (int i = 0; factor && i < HYPER; i++) factor[i] = i != DECAY;
  PareValue *k = factor ? pare_const_add(b->c, b->g, "pare.undecayed", b->t->hyper->type, factor) : NULL;
  return k ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "hyper", NULL, b->t->hyper, k) : NULL;
}

static PareStatus update(PareBuild *b) {
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
  if (!norm || (!all_decay && !plain)) return build_oom(b);
  for (size_t i = 0; i < t->nparams; i++) {
    const PareParam *p = &t->param[i];
    PareValue *in[] = {p->value, p->grad, p->m, p->v, p->decays ? t->hyper : plain, norm};
    if (p->grad) PARE_TRY(pare_build_effect(b, PARE_OP_ADAMW, p->value->name, NULL, 6, in));
  }
  return PARE_OK;
}

/* --- putting it together --- */

static size_t ntrained(const PareBuild *b) { return b->spec->trained ? b->spec->trained->at.n : 0; }

static PareStatus add_states(PareBuild *b) {
  PareTrainGraph *t = b->t;
  bool apart = t->score_phase && (build_needs(b) & PARE_NEEDS_ADAPTERS);
  for (size_t i = 0; i < 2 * b->adapters->at.n; i++) {
    size_t k = i / 2;
    PareParam *p = i % 2 ? &t->b[k] : &t->a[k];
    if (!b->adapters->at.at[k].rank) continue;
    p->value = i % 2 ? b->lora[k].b : b->lora[k].a;
    p->decays = true;
    PARE_TRY(pare_build_moments(b, p));
    p->score_grad = apart ? build_state(b, p->value->name, p->value->type) : p->grad;
    if (!p->score_grad) return build_oom(b);
  }
  for (size_t i = 0; i < ntrained(b); i++)
    t->trained[i] = (PareParam){.value = b->trained[i], .decays = b->spec->trained->at.at[i].decays};
  for (size_t i = 0; i < t->masks.at.n; i++) {
    const PareMask *m = &t->masks.at.at[i];
    if (!(b->mask_group[i] = pare_build_groups(b, m->k, m->group))) return build_oom(b);
    if (!(build_needs(b) & PARE_NEEDS_MASKS)) continue;
    if (!(b->dmask[i] = build_state(b, "pare.dmask", m->mask->type))) return build_oom(b);
  }
  for (size_t i = 0; i < t->ndims; i++) {
    if (!b->spec->pruned[i]) continue;
    if (!(t->score[i] = build_state(b, "score", (PareType){PARE_F32, 1, {b->d->dims.at[i].count}}))) return build_oom(b);
  }
  for (size_t i = 0; i < b->adapters->at.n; i++) {
    t->mask[i] = b->lora[i].mask;
    if (t->mask[i] && !(t->score[t->ndims + i] = build_state(b, "score", b->lora[i].w->type))) return build_oom(b);
  }
  return PARE_OK;
}

static PareStatus start(PareBuild *b) {
  PareTrainGraph *t = b->t;
  PareArena *a = b->g->arena;
  size_t n = b->adapters->at.n;
  *t = (PareTrainGraph){.g = b->g, .nadapters = n, .ndims = b->d->dims.n, .nscored = b->d->dims.n + n};
  t->nhidden = b->spec->hidden.at.n;
  t->hidden = PARE_NEW_N(a, t->nhidden + 1, PareTeacherHidden);
  t->score_phase = b->spec->loss == PARE_LOSS_KD && (build_needs(b) & PARE_NEEDS_GRADIENTS);
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
    if (!pare_vec_push(a, &b->g->outputs, b->g->values.at[b->spec->hidden.at.at[i].value])) return build_oom(b);
  return PARE_OK;
}

static PareStatus done(PareBuild *b, const char *step) { return pare_pass_done(b->c, b->g, step, b->spec->dump_after); }

/* --dump-after names a pass or a step of pare_build_training. */
static PareStatus check_dump(PareBuild *b) {
  static const char *const steps[] = {"train-constants", "insert-masks", "insert-lora", "loss", "autodiff", "scores", "update",
                                     "recompute"};
  const char *name = b->spec->dump_after;
  if (!name || !*name || pare_pass_find(name)) return PARE_OK;
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
    if (!strcmp(name, steps[i])) return PARE_OK;
  return pare_error(b->c, PARE_USAGE, "--dump-after: there is no pass '%s'; there are train-constants, widen, "
                    "float-products, insert-masks, insert-lora, fold-constants, fake-quantize, drop-noops, "
                    "fuse-layernorm, fuse-gelu, fuse-linear, fuse-attention, fetch-weights, fuse-masks, "
                    "narrow-rows, lower-precision, loss, autodiff, scores, fuse-sums, fuse-mask-grad, renorm, fuse-gelu-grad, "
                    "fuse-importance, update, recompute, merge-weights", name);
}

static bool makes_integers(PareOp op) {
  return op == PARE_OP_QUANTIZELINEAR || op == PARE_OP_MATMULINTEGER || op == PARE_OP_DYNAMICQUANTIZELINEAR;
}

static void mark_live(bool *live, const PareValue *v) {
  if (v && v->def) live[v->def->id] = true;
}

/* Gradients do not pass through integers. What nothing leads on from, copies that a Concat has lost say, has none. */
static PareStatus check_quantized(PareBuild *b) {
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

/* What a mask multiplies is read sample by sample, or its gradient where it is zero, which a layer's does not have. */
static bool masks_stay_apart(const PareBuild *b) {
  return build_needs(b) & PARE_NEEDS_SAMPLES || (build_needs(b) & PARE_NEEDS_MASKS && b->spec->regrow);
}

/* Speed alone: nothing that is scored may be fused away, so masks may have to stay apart, and rows stay that outputs do
 * not feed where what layers read is scored by itself. */
static PareStatus fuse(PareBuild *b) {
  const char *dump = b->spec->dump_after;
  PARE_TRY(pare_run_passes(b->c, b->g, "drop-noops,fuse-layernorm,fuse-gelu,fuse-linear,fuse-attention", dump));
  if (!masks_stay_apart(b)) PARE_TRY(pare_run_passes(b->c, b->g, "fuse-masks", dump));
  return build_needs(b) & PARE_NEEDS_INPUTS ? PARE_OK : pare_run_passes(b->c, b->g, "narrow-rows", dump);
}

/* Products by adapted weights are looked up when they are what they will be, but for their precision. */
static PareStatus optimise(PareBuild *b) {
  const char *dump = b->spec->dump_after;
  PARE_TRY(pare_run_passes(b->c, b->g, "fold-constants,fake-quantize", dump));
  PARE_TRY(check_quantized(b));
  if (!b->spec->plain) PARE_TRY(fuse(b));
  if (build_needs(b) & (PARE_NEEDS_INPUTS | PARE_NEEDS_PRODUCTS))
    PARE_TRY(pare_find_products(b->c, b->g, b->adapters, b->lora, &b->products));
  if (b->spec->bf16 && !b->spec->plain) PARE_TRY(pare_run_passes(b->c, b->g, "lower-precision", dump));
  return build_needs(b) & PARE_NEEDS_SAMPLES
             ? pare_find_masked(b->c, b->g, b->d, &b->t->masks, b->masked, b->masked_out) : PARE_OK;
}

/* First of all: nothing may be worked out from them, and what follows takes them for the weights that they are. */
static PareStatus train_constants(PareBuild *b) {
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
static PareStatus score_alone(PareBuild *b) {
  PareNode *forward = b->g->last;
  PARE_TRY(pare_build_find_incidences(b));
  PARE_TRY(pare_build_scores(b));
  set_phase(b->g, forward, PARE_PHASE_RANK);
  b->g->outputs.n = 0;
  return done(b, "scores");
}

PareStatus pare_build_training(PareCtx *c, PareGraph *g, const PareDims *d, const PareAdapters *adapters,
                               const PareTrainSpec *spec, PareTrainGraph *out) {
  PareBuild b = {.c = c, .g = g, .d = d, .adapters = adapters, .spec = spec, .t = out};
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
  PARE_TRY(pare_build_find_outputs(&b));
  PARE_TRY(add_states(&b));
  out->dloss = build_input(&b, "pare.dloss", (PareType){.dtype = PARE_F32});
  out->hyper = build_input(&b, "pare.hyper", (PareType){PARE_F32, 1, {HYPER}});
  if (!out->dloss || !out->hyper) return build_oom(&b);

  if (spec->scores_alone) return score_alone(&b);

  PARE_TRY(pare_build_losses(&b));
  PARE_TRY(done(&b, "loss"));
  PARE_TRY(pare_build_find_incidences(&b));
  PareNode *forward = g->last;
  PARE_TRY(pare_build_backward(&b, out->loss, out->nparams, !out->score_phase, false));
  if (!out->score_phase) PARE_TRY(pare_build_collect(&b));
  PARE_TRY(done(&b, "autodiff"));

  PareNode *last = g->last;
  if (out->score_phase) {
    PareValue *loss = NULL;
    PARE_TRY(pare_build_score_loss(&b, &loss));
    PARE_TRY(pare_build_backward(&b, loss, build_needs(&b) & PARE_NEEDS_ADAPTERS ? 2 * out->nadapters : 0, true, true));
    PARE_TRY(pare_build_collect(&b));
    set_phase(g, last, PARE_PHASE_SCORE);
    last = g->last;
  }
  PARE_TRY(pare_build_scores(&b));
  PARE_TRY(done(&b, "scores"));
  set_phase(g, last, PARE_PHASE_RANK);
  if (!spec->plain) PARE_TRY(pare_run_passes(c, g, "fuse-sums", spec->dump_after));
  if (!spec->plain) PARE_TRY(pare_run_passes(c, g, "fuse-mask-grad", spec->dump_after));
  if (!spec->plain && spec->renorm) PARE_TRY(pare_run_passes(c, g, "renorm", spec->dump_after));
  if (!spec->plain && spec->reread) PARE_TRY(pare_run_passes(c, g, "fuse-gelu-grad", spec->dump_after));
  if (!spec->plain && spec->one_run) PARE_TRY(pare_run_passes(c, g, "fuse-importance", spec->dump_after));
  last = g->last;
  PARE_TRY(update(&b));
  set_phase(g, last, PARE_PHASE_UPDATE);
  pare_build_drop_outputs(&b);
  if (!pare_vec_push(g->arena, &g->outputs, out->loss)) return pare_nomem(c);
  PARE_TRY(done(&b, "update"));
  if (spec->recompute.dear > 0) PARE_TRY(pare_recompute(c, g, forward, spec->recompute, NULL));
  PARE_TRY(done(&b, "recompute"));
  return spec->merge && !spec->plain ? pare_run_passes(c, g, "merge-weights", spec->dump_after) : PARE_OK;
}
