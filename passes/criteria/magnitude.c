/* magnitude - Σ |W|^power of the merged weights over the group (METHOD 4). */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_magnitude;

PareStatus pare_criterion_magnitude(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  return pare_score_weights(c, g, in, false, score);
}
