/* wanda - Σ |W_ij|·‖x_j‖ over the group, ‖x_j‖ the norm of the weight's j-th input over a step's samples and positions
 * (Sun et al., arXiv 2306.11695; METHOD 4). No gradient. */
#include "passes/criteria/criterion.h"

PareCriterionFn pare_criterion_wanda;
PareCollectFn pare_collect_wanda;

/* sums[adapter] += Σ x_j² over the rows of x */
PareStatus pare_collect_wanda(PareCtx *c, PareGraph *g, const PareScoreInputs *in) {
  PareAttrs attr = {0}, wide = {0};
  pare_attr_set(&attr, keepdims, 0);
  pare_attr_set(&wide, to, PARE_F32);
  for (size_t i = 0; i < in->products->at.n; i++) {
    const PareProduct *p = &in->products->at.at[i];
    int64_t axis[PARE_MAX_RANK];
    for (int a = 0; a + 1 < p->x->type.rank; a++) axis[a] = a;
    PareValue *axes = pare_const_ints(c, g, "pare.rows", p->x->type.rank - 1, axis);
    PareValue *x = p->x->type.dtype == PARE_F32 ? p->x : PARE_EMIT(c, g, NULL, PARE_OP_CAST, "score", &wide, p->x);
    PareValue *square = axes && x ? PARE_EMIT(c, g, NULL, PARE_OP_MUL, "score", NULL, x, x) : NULL;
    PareValue *sum = square ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCESUM, "score", &attr, square, axes) : NULL;
    if (!sum) return c->diag.code;
    PARE_TRY(pare_score_collect(c, g, in, p->adapter, sum));
  }
  return PARE_OK;
}

static PareStatus score_weight(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t i, PareValue **score) {
  enum { OPERANDS = 6 };
  PareValue *norm = PARE_EMIT(c, g, NULL, PARE_OP_SQRT, "score", NULL, in->sums[i]);
  PareValue *left = norm ? pare_score_factor(c, g, in, i, in->lora[i].a) : NULL;
  if (!left) return c->diag.code;
  PareValue *operand[OPERANDS] = {in->lora[i].w, left, in->lora[i].b, NULL, NULL, norm};
  return pare_score_weight(c, g, in, i, OPERANDS, operand, 1, 1, score);
}

PareStatus pare_criterion_wanda(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  for (size_t i = 0; i < in->adapters->at.n; i++)
    if (in->sums[i]) PARE_TRY(score_weight(c, g, in, i, score));
  return PARE_OK;
}
