/* criterion.h - a criterion is one file and one row of criteria.def: it appends
 * the nodes that turn gradients and weights into one score for each group. */
#ifndef PARE_PASSES_CRITERIA_CRITERION_H
#define PARE_PASSES_CRITERIA_CRITERION_H

#include "passes/insert_lora.h"
#include "passes/insert_masks.h"

/* An axis of an adapted weight that holds a dimension. */
typedef struct PareIncidence {
  size_t adapter;
  int dim;
  bool out_axis;    /* N, else K */
  PareValue *group; /* constant i32: the group of each position, or -1 */
} PareIncidence;

typedef struct PareIncidences {
  PARE_VEC(PareIncidence) at;
} PareIncidences;

/* What a criterion may read. Gradients are sums over the micro-batches of a
 * step, before clipping; those that it did not ask for are NULL. */
typedef struct PareScoreInputs {
  const PareAdapters *adapters;
  const PareLora *lora;
  PareValue *const *da, *const *db; /* by adapter */
  const PareMasks *masks;
  PareValue *const *dmask;   /* by mask */
  PareValue *const *mask_group; /* by mask: constant i32, as PareMask.group */
  const PareIncidences *incidences;
  PareValue *const *like;    /* by dimension: a value of type [count]; NULL where it is not pruned */
  size_t ndims;
  int power;                 /* 1: absolute value, 2: square */
  double eta;                /* weight of the cross term (METHOD 2) */
  bool normalise;            /* divide each weight's scores by their L2 norm (METHOD 2, "Scale") */
} PareScoreInputs;

typedef enum PareNeeds { PARE_NEEDS_NOTHING = 0, PARE_NEEDS_ADAPTERS = 1, PARE_NEEDS_MASKS = 2 } PareNeeds;

/* Sets score[dim] to a value of type [count] wherever like[dim] is given; one
 * that leaves it NULL has its scores drawn by the loop. */
typedef PareStatus PareCriterionFn(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score);

typedef struct PareCriterion {
  const char *name; /* on the command line */
  unsigned needs;
  PareCriterionFn *append;
} PareCriterion;

extern const PareCriterion pare_criteria[];
extern const size_t pare_ncriteria;
const PareCriterion *pare_criterion_find(const char *name);

/* Adds v to *sum, which is NULL at first. */
PARE_MUST_USE PareStatus pare_score_add(PareCtx *c, PareGraph *g, PareValue **sum, PareValue *v);
/* Sums an [K] or [N] vector of an adapted weight into the groups of an incidence. */
PARE_MUST_USE PareStatus pare_score_groups(PareCtx *c, PareGraph *g, const PareScoreInputs *in,
                                           const PareIncidence *i, PareValue *vector, PareValue **score);
/* Sums |G·W|^power over the groups of every incidence, G from the adapters'
 * gradients or, without, 1. */
PARE_MUST_USE PareStatus pare_score_weights(PareCtx *c, PareGraph *g, const PareScoreInputs *in, bool gradients,
                                            PareValue **score);

#endif
