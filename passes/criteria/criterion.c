/* criterion.c - the table of criteria and what they share. */
#include "passes/criteria/criterion.h"

#include <string.h>

#define CRITERION(id, name, needs) PareCriterionFn pare_criterion_##id;
#include "passes/criteria/criteria.def"
#undef CRITERION

const PareCriterion pare_criteria[] = {
#define CRITERION(id, name, needs) {name, PARE_NEEDS_##needs, pare_criterion_##id},
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

/* v / |v|, left as it is where it is zero: 1e-30 keeps the division finite. */
static PareValue *unit_norm(PareCtx *c, PareGraph *g, PareValue *v) {
  PareAttrs keep = {0};
  pare_attr_set(&keep, keepdims, 1);
  PareValue *square = PARE_EMIT(c, g, NULL, PARE_OP_MUL, "score", NULL, v, v);
  PareValue *sum = square ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCESUM, "score", &keep, square) : NULL;
  PareValue *tiny = sum ? pare_const_float(c, g, "", v->type.dtype, 1e-30) : NULL;
  PareValue *norm = tiny ? PARE_EMIT(c, g, NULL, PARE_OP_SQRT, "score", NULL, sum) : NULL;
  PareValue *floor = norm ? PARE_EMIT(c, g, NULL, PARE_OP_MAX, "score", NULL, norm, tiny) : NULL;
  return floor ? PARE_EMIT(c, g, NULL, PARE_OP_DIV, "score", NULL, v, floor) : NULL;
}

PareStatus pare_score_groups(PareCtx *c, PareGraph *g, const PareScoreInputs *in, const PareIncidence *i,
                             PareValue *vector, PareValue **score) {
  PareValue *like = in->like[i->dim];
  if (!like) return PARE_OK;
  PareValue *sum = PARE_EMIT(c, g, NULL, PARE_OP_GROUPSUM, "score", NULL, vector, i->group, like);
  if (sum && in->normalise) sum = unit_norm(c, g, sum);
  return sum ? pare_score_add(c, g, &score[i->dim], sum) : c->diag.code;
}

PareStatus pare_score_weights(PareCtx *c, PareGraph *g, const PareScoreInputs *in, bool gradients, PareValue **score) {
  for (size_t i = 0; i < in->adapters->at.n; i++) {
    const PareAdapter *a = &in->adapters->at.at[i];
    PareValue *operand[5] = {in->lora[i].w, in->lora[i].a, in->lora[i].b, gradients ? in->da[i] : NULL,
                             gradients ? in->db[i] : NULL};
    PareNode *n = pare_node_add(c, g, NULL, PARE_OP_IMPORTANCE, a->name, gradients ? 5 : 3, operand, 2);
    if (!n) return c->diag.code;
    pare_attr_set(&n->attr, scale, a->scale);
    pare_attr_set(&n->attr, alpha, in->eta);
    pare_attr_set(&n->attr, power, in->power);
    pare_attr_set(&n->attr, transB, a->transposed);
    PARE_TRY(pare_infer(c, n));
    for (size_t k = 0; k < in->incidences->at.n; k++) {
      const PareIncidence *x = &in->incidences->at.at[k];
      if (x->adapter == i) PARE_TRY(pare_score_groups(c, g, in, x, n->out[x->out_axis], score));
    }
  }
  return PARE_OK;
}
