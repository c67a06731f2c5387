/* criterion.c - the table of criteria and what they share. */
#include "passes/criteria/criterion.h"

#include <string.h>

PareCollectFn pare_collect_grad, pare_collect_fisher, pare_collect_movement, pare_collect_wanda;
#define CRITERION(id, name, needs, over_time, options, collect) PareCriterionFn pare_criterion_##id;
#include "passes/criteria/criteria.def"
#undef CRITERION

#define NONE PARE_SCORE_NONE
#define POWER PARE_SCORE_POWER
#define ETA PARE_SCORE_ETA
const PareCriterion pare_criteria[] = {
#define CRITERION(id, name, needs, over_time, options, collect) \
  {name, PARE_NEEDS_##needs, PARE_SCORES_##over_time, options, pare_criterion_##id, collect},
#include "passes/criteria/criteria.def"
#undef CRITERION
};
const size_t pare_ncriteria = sizeof pare_criteria / sizeof *pare_criteria;

const PareCriterion *pare_criterion_find(const char *name) {
  for (size_t i = 0; i < pare_ncriteria; i++)
    if (!strcmp(pare_criteria[i].name, name)) return &pare_criteria[i];
  return NULL;
}

PareStatus pare_score_add(PareCtx *c, PareGraph *g, PareValue **sum, PareValue *v) {
  *sum = *sum ? PARE_EMIT(c, g, NULL, PARE_OP_ADD, "score", NULL, *sum, v) : v;
  return *sum ? PARE_OK : c->diag.code;
}

/* v / |v| over all elements, left as it is where it is zero. */
static PareValue *unit_norm(PareCtx *c, PareGraph *g, PareValue *v) {
  if (v->type.rank == 1) return PARE_EMIT(c, g, NULL, PARE_OP_LPNORM, "score", NULL, v);
  PareValue *all = pare_const_ints(c, g, "", 1, (int64_t[]){-1});
  PareValue *shape = all ? pare_const_ints(c, g, "", v->type.rank, v->type.dim) : NULL;
  PareValue *flat = shape ? PARE_EMIT(c, g, NULL, PARE_OP_RESHAPE, "score", NULL, v, all) : NULL;
  PareValue *unit = flat ? PARE_EMIT(c, g, NULL, PARE_OP_LPNORM, "score", NULL, flat) : NULL;
  return unit ? PARE_EMIT(c, g, NULL, PARE_OP_RESHAPE, "score", NULL, unit, shape) : NULL;
}

PareStatus pare_score_groups(PareCtx *c, PareGraph *g, const PareScoreInputs *in, const PareIncidence *i,
                             PareValue *vector, PareValue **score) {
  PareValue *like = in->like[i->dim];
  if (!like) return PARE_OK;
  PareValue *sum = PARE_EMIT(c, g, NULL, PARE_OP_GROUPSUM, "score", NULL, vector, i->group, like);
  if (sum && in->normalise && !i->whole) sum = unit_norm(c, g, sum); /* of one number, that would be 1 */
  return sum ? pare_score_add(c, g, &score[i->dim], sum) : c->diag.code;
}

PareValue *pare_score_factor(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t adapter, PareValue *m) {
  const PareAdapter *a = &in->adapters->at.at[adapter];
  if (!a->sequential || !m) return m;
  PareAttrs attr = {0};
  if (!a->transposed) pare_attr_set(&attr, transB, 1);
  PareValue *t = PARE_EMIT(c, g, NULL, PARE_OP_TRANSPOSE, "score", NULL, m);
  PareValue *y = t ? PARE_EMIT(c, g, NULL, PARE_OP_LINEAR, a->name, &attr, t, in->lora[adapter].w) : NULL;
  return y ? PARE_EMIT(c, g, NULL, PARE_OP_TRANSPOSE, "score", NULL, y) : NULL;
}

static PareStatus score_axes(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t adapter,
                             PareValue *const row_col[2], PareValue **score) {
  for (size_t k = 0; k < in->incidences->at.n; k++) {
    const PareIncidence *x = &in->incidences->at.at[k];
    if (x->adapter == adapter) PARE_TRY(pare_score_groups(c, g, in, x, row_col[x->out_axis], score));
  }
  return PARE_OK;
}

/* The node makes its last result alone. */
static void leave_sums_out(PareNode *n) {
  for (int i = 0; i < 2; i++) n->out[i]->def = NULL, n->out[i] = NULL;
}

PareStatus pare_score_weight(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t adapter, int noperands,
                             PareValue *const *operand, int power, double alpha, PareValue **score) {
  enum { SUMS = 2, ELEMENTS, IMPORTANCE_OPERANDS = 5 };
  const PareAdapter *a = &in->adapters->at.at[adapter];
  bool elements = in->like[in->ndims + adapter] != NULL;
  PareOp op = elements || noperands > IMPORTANCE_OPERANDS ? PARE_OP_WEIGHTSCORE : PARE_OP_IMPORTANCE;
  PareNode *n = pare_node_add(c, g, NULL, op, a->name, noperands, operand, elements ? ELEMENTS : SUMS);
  if (!n) return c->diag.code;
  pare_attr_set(&n->attr, scale, a->scale);
  pare_attr_set(&n->attr, alpha, alpha);
  pare_attr_set(&n->attr, power, power);
  pare_attr_set(&n->attr, transB, a->transposed);
  if (elements) leave_sums_out(n);
  PARE_TRY(pare_infer(c, n));
  if (!elements) return score_axes(c, g, in, adapter, n->out, score);
  PareValue *each = in->normalise && power ? unit_norm(c, g, n->out[SUMS]) : n->out[SUMS];
  return each ? pare_score_add(c, g, &score[in->ndims + adapter], each) : c->diag.code;
}

PareStatus pare_score_weights(PareCtx *c, PareGraph *g, const PareScoreInputs *in, bool gradients, PareValue **score) {
  for (size_t i = 0; i < in->adapters->at.n; i++) {
    PareValue *left = pare_score_factor(c, g, in, i, in->lora[i].a);
    PareValue *dleft = left && gradients ? pare_score_factor(c, g, in, i, in->da[i]) : NULL;
    if (!left || (gradients && !dleft)) return c->diag.code;
    PareValue *operand[5] = {in->lora[i].w, left, in->lora[i].b, dleft, gradients ? in->db[i] : NULL};
    PARE_TRY(pare_score_weight(c, g, in, i, gradients ? 5 : 3, operand, in->power, in->eta, score));
  }
  return PARE_OK;
}

PareStatus pare_score_collect(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t i, PareValue *v) {
  PareType type = v->type;
  type.dtype = PARE_F32;
  if (!in->sums[i] && !(in->sums[i] = pare_value_add(c, g, PARE_STATE, "collected", type))) return c->diag.code;
  PareNode *n = pare_node_add(c, g, NULL, PARE_OP_ACCUMULATE, "score", 2, (PareValue *[]){in->sums[i], v}, 0);
  return n ? pare_infer(c, n) : c->diag.code;
}

PareStatus pare_score_collected(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score) {
  for (size_t d = 0; d < in->nscored; d++)
    if (in->like[d] && in->sums[d]) PARE_TRY(pare_score_add(c, g, &score[d], in->sums[d]));
  return PARE_OK;
}

/* Behind W, A and B, what the gradient of adapter i's weight is made of. The number of all operands, 0 without any. */
static int list_pairs(const PareScoreInputs *in, size_t i, PareValue **operand) {
  enum { PAIRS = 6 };
  int n = PAIRS;
  for (size_t k = 0; k < in->products->at.n; k++) {
    const PareProduct *p = &in->products->at.at[k];
    if (p->adapter != i || !p->dy) continue;
    operand[n++] = p->x;
    operand[n++] = p->dy;
  }
  return n > PAIRS ? n : 0;
}

/* Scores of adapter i's weight into `score`, for one run. */
static PareStatus score_product(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t i, int power,
                                PareValue **score) {
  PareValue **operand = PARE_NEW_N(c->scratch, 2 * in->products->at.n + 6, PareValue *);
  if (!operand) return pare_nomem(c);
  int count = list_pairs(in, i, operand);
  if (!count) return PARE_OK;
  operand[0] = in->lora[i].w, operand[2] = in->lora[i].b;
  if (!(operand[1] = pare_score_factor(c, g, in, i, in->lora[i].a))) return c->diag.code;
  return pare_score_weight(c, g, in, i, count, operand, power, 1, score);
}

PareStatus pare_collect_weights(PareCtx *c, PareGraph *g, const PareScoreInputs *in, int power) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareValue **score = PARE_NEW_N(c->scratch, in->nscored + 1, PareValue *);
  if (!score) return pare_nomem(c);
  for (size_t i = 0; i < in->adapters->at.n; i++) PARE_TRY(score_product(c, g, in, i, power, score));
  for (size_t d = 0; d < in->nscored; d++)
    if (score[d]) PARE_TRY(pare_score_collect(c, g, in, d, score[d]));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
