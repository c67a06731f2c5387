/* target.h - from --sparsity or --target to the ratio of groups that goes. */
#ifndef PARE_API_TARGET_H
#define PARE_API_TARGET_H

#include "ir/dims.h"
#include "pare/pare.h"

typedef struct PareTarget {
  const char *kind; /* "sparsity", "params", "macs", "bytes", "plan" */
  double requested; /* as given; of a plan the share of its groups that goes */
  double floor;     /* share of a layer's groups that stays whatever the scores say */
} PareTarget;

/* --plan, --target, or --sparsity where there is neither; the options have been checked. */
void pare_target_read(const PareCompressOptions *o, PareTarget *out);

/* What reaching a target takes: cost[i] of a group of dimension i, the cost of what cannot go, and what may be left. */
typedef struct PareGoal {
  double *cost; /* NULL: the target is a ratio of groups */
  double fixed, budget;
} PareGoal;

/* The ratio of groups of each pruned dimension that reaches it under uniform ranking, and the goal as such, which is
 * in `a`. `sized` is the model bound to the sizes at which MACs count, `file_bytes` what its files take. PARE_TARGET
 * when it cannot be reached. */
PARE_MUST_USE PareStatus pare_target_ratio(PareCtx *c, PareArena *a, const PareTarget *t, const PareDims *d,
                                           const bool *pruned, const PareGraph *sized, size_t file_bytes,
                                           double *ratio, PareGoal *goal);

#endif
