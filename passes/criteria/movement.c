/* movement - −Σ_t G ⊙ W over the group and over all steps, G the true gradient: weights that tuning moves away from zero
 * score high (Sanh et al., arXiv 2005.07683, eq. 5; METHOD 4). The scores have signs, are summed over time instead of
 * averaged, and are changes of the loss, so layers compare as they are. */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_movement;
PareCollectFn pare_collect_movement;

PareStatus pare_collect_movement(PareCtx *c, PareGraph *g, const PareScoreInputs *in) {
  PareScoreInputs plain = *in;
  plain.normalise = false;
  return pare_collect_weights(c, g, &plain, 0);
}

PareStatus pare_criterion_movement(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  return pare_score_collected(c, g, in, score);
}
