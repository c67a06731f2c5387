/* grad - Σ (G ⊙ W)² over the group with the true gradient G = x'·dy of the merged weight W (METHOD 4): what LoRAPrune's
 * Ĝ stands for. G is that of a run; where a step has several, their scores add up. */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_grad;
PareCollectFn pare_collect_grad;

PareStatus pare_collect_grad(PareCtx *c, PareGraph *g, const PareScoreInputs *in) {
  return pare_collect_weights(c, g, in, in->power);
}

PareStatus pare_criterion_grad(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  return pare_score_collected(c, g, in, score);
}
