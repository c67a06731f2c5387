/* obs - Σ_i W_iS ((H⁻¹)_SS)⁻¹ W_iSᵀ: the error that is left when a group goes and the rest of its layer takes over, H the
 * second moments of the layer's inputs (METHOD 4). It is no function of one step: the loop makes the scores from runs of
 * its own (api/score_obs.h, runtime/obs.h). */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_obs;

PareStatus pare_criterion_obs(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  (void)c, (void)g, (void)in, (void)score;
  return PARE_OK;
}
