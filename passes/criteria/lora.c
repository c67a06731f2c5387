/* lora - LoRAPrune: Σ (Ĝ ⊙ W)² over the group, Ĝ = dB·A + B·dA − η·dB·dA from the
 * adapters alone (arXiv 2305.18403, eq. 7; METHOD 2). */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_lora;

PareStatus pare_criterion_lora(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  return pare_score_weights(c, g, in, true, score);
}
