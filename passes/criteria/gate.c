/* gate - (Σ_t h·dL/dh)² at the group's fan-in: the exact first-order change of the
 * loss when the whole group goes (METHOD 4). h·dL/dh summed over positions is the
 * gradient of the mask. */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_gate;

PareStatus pare_criterion_gate(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  for (size_t i = 0; i < in->masks->at.n; i++) {
    int dim = in->masks->at.at[i].dim;
    if (!in->like[dim]) continue;
    PareValue *sum = PARE_EMIT(c, g, NULL, PARE_OP_GROUPSUM, "score", NULL, in->dmask[i], in->mask_group[i],
                               in->like[dim]);
    if (!sum) return c->diag.code;
    PARE_TRY(pare_score_add(c, g, &score[dim], sum));
  }
  for (size_t d = 0; d < in->ndims; d++) {
    if (!score[d]) continue;
    score[d] = in->power == 2 ? PARE_EMIT(c, g, NULL, PARE_OP_MUL, "score", NULL, score[d], score[d])
                              : PARE_EMIT(c, g, NULL, PARE_OP_ABS, "score", NULL, score[d]);
    if (!score[d]) return c->diag.code;
  }
  return PARE_OK;
}
