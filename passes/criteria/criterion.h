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
  bool whole;       /* one group has all of the weight, as a branch has */
  PareValue *group; /* constant i32: the group of each position, or -1 */
} PareIncidence;

typedef struct PareIncidences {
  PARE_VEC(PareIncidence) at;
} PareIncidences;

/* A product by an adapted weight, x·W. */
typedef struct PareProduct {
  size_t adapter;
  PareNode *node;
  PareValue *y;  /* behind a sequential adapter; NULL: what the node makes */
  PareValue *x;  /* before the mask, if there is one: a dead row keeps its gradient */
  PareValue *dy; /* NULL where the loss does not depend on it, or no gradients are asked for */
} PareProduct;

typedef struct PareProducts {
  PARE_VEC(PareProduct) at;
} PareProducts;

/* What a mask multiplies, and the gradient of the product. */
typedef struct PareMasked {
  PareValue *v, *dmasked; /* dmasked NULL where the loss does not depend on it */
  int axis;               /* of the groups */
  int64_t samples;        /* of the rows before the axis, `block` after each other are of one sample, then */
  int64_t block;          /* the next one's; samples 0: they cannot be told apart */
} PareMasked;

/* What a criterion may read. Gradients are sums over the micro-batches of a
 * step, before clipping; those that it did not ask for are NULL. */
typedef struct PareScoreInputs {
  const PareAdapters *adapters;
  const PareLora *lora;
  PareValue *const *da, *const *db; /* by adapter */
  const PareMasks *masks;
  PareValue *const *dmask;   /* by mask */
  PareValue *const *mask_group; /* by mask: constant i32, as PareMask.group */
  const PareProducts *products; /* in `collect`: values of the run */
  const PareMasked *masked;     /* the same, by mask */
  PareValue **sums;             /* [nscored] states that `collect` adds up over a step's runs; by what is scored or
                                 * by adapter */
  const PareIncidences *incidences;
  PareValue *const *like;    /* what is scored: by dimension a value of type [count], then by adapter a value like
                              * its weight, whose elements are scored; NULL where nothing is pruned */
  size_t ndims, nscored;     /* dimensions, those and adapters */
  int power;                 /* 1: absolute value, 2: square */
  double eta;                /* weight of the cross term (METHOD 2) */
  bool normalise;            /* divide each weight's scores by their L2 norm (METHOD 2, "Scale") */
} PareScoreInputs;

typedef enum PareNeeds {
  PARE_NEEDS_NOTHING = 0,
  PARE_NEEDS_ADAPTERS = 1, /* da, db */
  PARE_NEEDS_MASKS = 2,    /* dmask */
  PARE_NEEDS_INPUTS = 4,   /* products without dy */
  PARE_NEEDS_PRODUCTS = 8, /* products */
  PARE_NEEDS_SAMPLES = 16, /* masked */
  PARE_NEEDS_SAMPLED = 32, /* runs of its own: the loop makes the scores, at the one prune of a schedule */
} PareNeeds;
enum {
  PARE_NEEDS_GRADIENTS = PARE_NEEDS_ADAPTERS | PARE_NEEDS_MASKS | PARE_NEEDS_PRODUCTS | PARE_NEEDS_SAMPLES,
};

/* What becomes of the scores of one step after another; some are drawn once and for all. */
typedef enum PareOverTime { PARE_SCORES_AVERAGE, PARE_SCORES_SUM, PARE_SCORES_DRAWN } PareOverTime;

/* Which of PareScoreInputs' numbers change its scores. */
typedef enum PareScoreOptions {
  PARE_SCORE_NONE = 0,
  PARE_SCORE_POWER = 1, /* --importance */
  PARE_SCORE_ETA = 2,   /* --eta */
} PareScoreOptions;

/* Sets score[i] to a value of the type of like[i] wherever that is given, i < nscored; one
 * that leaves it NULL has its scores drawn by the loop. */
typedef PareStatus PareCriterionFn(PareCtx *c, PareGraph *g, const PareScoreInputs *in, PareValue **score);
/* For what must be read while a run's values are there: appends nodes that add to in->sums. */
typedef PareStatus PareCollectFn(PareCtx *c, PareGraph *g, const PareScoreInputs *in);

typedef struct PareCriterion {
  const char *name; /* on the command line */
  unsigned needs;
  PareOverTime over_time;
  unsigned options; /* PARE_SCORE_* */
  PareCriterionFn *append;
  PareCollectFn *collect; /* NULL: nothing is read during a run */
} PareCriterion;

extern const PareCriterion pare_criteria[];
extern const size_t pare_ncriteria;
const PareCriterion *pare_criterion_find(const char *name);

/* Adds v to *sum, which is NULL at first. */
PARE_MUST_USE PareStatus pare_score_add(PareCtx *c, PareGraph *g, PareValue **sum, PareValue *v);
/* Sums an [K] or [N] vector of an adapted weight into the groups of an incidence. */
PARE_MUST_USE PareStatus pare_score_groups(PareCtx *c, PareGraph *g, const PareScoreInputs *in,
                                           const PareIncidence *i, PareValue *vector, PareValue **score);
/* The score is what `collect` has added up. */
PareCriterionFn pare_score_collected;
/* sums[i] += v, over the runs of a step; the state is made when it is first added to. */
PARE_MUST_USE PareStatus pare_score_collect(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t i, PareValue *v);
/* m [K, r] of a parallel adapter as it is; of a sequential one, m [N, r] is behind the weight, and the same in front of
 * it is W·m: with A and dA so moved, G and W' are a parallel adapter's. NULL: out of memory. */
PareValue *pare_score_factor(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t adapter, PareValue *m);
/* Appends a WeightScore (or, where its elements are not asked for, an Importance, which knows no more than five
 * operands) of an adapted weight with attributes `power` and `alpha`, and adds what it yields to what is scored: the
 * sums of rows and columns to the groups of the weight's incidences, or the elements. */
PARE_MUST_USE PareStatus pare_score_weight(PareCtx *c, PareGraph *g, const PareScoreInputs *in, size_t adapter,
                                           int noperands, PareValue *const *operand, int power, double alpha,
                                           PareValue **score);
/* Adds the scores of every weight from its true gradient, summed over the groups of every incidence: |G·W|^power or,
 * of power 0, -G·W. */
PARE_MUST_USE PareStatus pare_collect_weights(PareCtx *c, PareGraph *g, const PareScoreInputs *in, int power);
/* Sums |G·W|^power over the groups of every incidence, G from the adapters'
 * gradients or, without, 1. */
PARE_MUST_USE PareStatus pare_score_weights(PareCtx *c, PareGraph *g, const PareScoreInputs *in, bool gradients,
                                            PareValue **score);

#endif
