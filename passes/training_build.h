/* training_build.h - what the files that assemble a training program share: what it is compared with and by
 * (training_losses.c), gradients and scores (training_scores.c), states, passes and the order of things (training.c). */
#ifndef PARE_PASSES_TRAINING_BUILD_H
#define PARE_PASSES_TRAINING_BUILD_H

#include "passes/score_values.h"
#include "passes/training.h"

typedef struct PareBuild {
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
} PareBuild;

static inline PareValue *build_state(PareBuild *b, const char *name, PareType t) {
  return pare_value_add(b->c, b->g, PARE_STATE, name, t);
}
static inline PareValue *build_input(PareBuild *b, const char *name, PareType t) {
  return pare_value_add(b->c, b->g, PARE_INPUT, name, t); /* which lists it */
}
static inline PareStatus build_oom(const PareBuild *b) { return b->c->diag.code ? b->c->diag.code : pare_nomem(b->c); }
static inline unsigned build_needs(const PareBuild *b) { return b->spec->criterion->needs; }

/* An op that only updates states. */
PARE_MUST_USE PareStatus pare_build_effect(PareBuild *b, PareOp op, const char *name, const PareAttrs *attr, int nin,
                                           PareValue *const *in);

/* --- losses --- */

/* Outputs and hidden states as they are now: replacing uses moves them behind the adapters and into fused ops. */
PARE_MUST_USE PareStatus pare_build_find_outputs(PareBuild *b);
/* The loss that is tuned by, with its inputs. */
PARE_MUST_USE PareStatus pare_build_losses(PareBuild *b);
/* What the scores are taken from when tuning has no labels (METHOD 5). */
PARE_MUST_USE PareStatus pare_build_score_loss(PareBuild *b, PareValue **loss);
/* The program shows losses: of outputs it makes what they read. */
void pare_build_drop_outputs(PareBuild *b);

/* --- gradients and scores --- */

/* The states beside a parameter: gradient, first and second moment. */
PARE_MUST_USE PareStatus pare_build_moments(PareBuild *b, PareParam *p);
/* The groups along an axis, as an operand. NULL: out of memory. */
PareValue *pare_build_groups(PareBuild *b, int64_t n, const int64_t *group);
/* Which axis of which adapted weight holds which dimension. */
PARE_MUST_USE PareStatus pare_build_find_incidences(PareBuild *b);
/* Gradients of `loss` into the accumulators of the first nparams parameters and, if the scores come from it, to what the
 * criterion reads; `score`: into those of the SCORE phase. */
PARE_MUST_USE PareStatus pare_build_backward(PareBuild *b, PareValue *loss, size_t nparams, bool scored, bool score);
/* In the phase whose values the criterion reads. */
PARE_MUST_USE PareStatus pare_build_collect(PareBuild *b);
/* From gradients or what was collected to moving averages or sums. */
PARE_MUST_USE PareStatus pare_build_scores(PareBuild *b);

#endif
