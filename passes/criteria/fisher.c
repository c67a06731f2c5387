/* fisher - Σ_n (dL_n/dm_g)² over the samples of a step: gate's derivative, squared before the samples are summed instead
 * of afterwards (METHOD 4). L_n is sample n's share of the step's mean loss. */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_fisher;
PareCollectFn pare_collect_fisher;

static PareStatus tell_samples(PareCtx *c, const PareMasked *m) {
  return m->samples ? PARE_OK
                    : pare_fail(c, m->v->def, PARE_UNSUPPORTED, "the samples of a batch cannot be told apart in what "
                                "it makes: take --method gate, or --batch 1");
}

/* by_sample[dim] [samples, groups] += dm of one mask. */
static PareStatus add_mask(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t i, PareValue **by_sample) {
  const PareMasked *m = &in->masked[i];
  int dim = in->masks->at.at[i].dim;
  if (!in->like[dim] || !m->dmasked) return PARE_OK;
  PARE_TRY(tell_samples(c, m));
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, m->axis);
  pare_attr_set(&attr, group, m->samples);
  pare_attr_set(&attr, block_size, m->block);
  PareValue *sum = PARE_EMIT(c, g, NULL, PARE_OP_SAMPLESUM, "score", &attr, m->v, m->dmasked, in->mask_group[i],
                             in->like[dim]);
  return sum ? pare_score_add(c, g, &by_sample[dim], sum) : c->diag.code;
}

/* Σ_n |x_n|^power */
static PareValue *sum_samples(PareCtx *c, PareGraph *g, int power, PareValue *x) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, keepdims, 0);
  int64_t first = 0;
  PareValue *axes = pare_const_ints(c, g, "pare.samples", 1, &first);
  PareValue *e = !axes ? NULL : power == 2 ? PARE_EMIT(c, g, NULL, PARE_OP_MUL, "score", NULL, x, x)
                                           : PARE_EMIT(c, g, NULL, PARE_OP_ABS, "score", NULL, x);
  return e ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCESUM, "score", &attr, e, axes) : NULL;
}

PareStatus pare_collect_fisher(PareCtx *c, PareGraph *g, const PareScoreInputs *in) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareValue **by_sample = PARE_NEW_N(c->scratch, in->ndims + 1, PareValue *);
  if (!by_sample) return pare_nomem(c);
  for (size_t i = 0; i < in->masks->at.n; i++) PARE_TRY(add_mask(c, g, in, i, by_sample));
  for (size_t d = 0; d < in->ndims; d++) {
    if (!by_sample[d]) continue;
    PareValue *score = sum_samples(c, g, in->power, by_sample[d]);
    if (!score) return c->diag.code;
    PARE_TRY(pare_score_collect(c, g, in, d, score));
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_criterion_fisher(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  return pare_score_collected(c, g, in, score);
}
