/* random - no scores at all: the loop draws them. The floor every criterion must beat. */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_random;

PareStatus pare_criterion_random(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  (void)c, (void)g, (void)in, (void)score;
  return PARE_OK;
}
