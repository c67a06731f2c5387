/* target.h - from --sparsity or --target to the ratio of groups that goes. */
#ifndef PARE_API_TARGET_H
#define PARE_API_TARGET_H

#include "api/frame.h"
#include "api/latency.h"
#include "ir/dims.h"
#include "pare/pare.h"

typedef struct PareTarget {
  const char *kind; /* "sparsity", "params", "macs", "bytes", "latency", "plan" */
  double requested; /* as given; of a plan the share of its groups that goes */
  double floor;     /* share of a layer's groups that stays whatever the scores say */
  int64_t align;    /* of --align */
} PareTarget;

/* --plan, --target, or --sparsity where there is neither; the options have been checked. */
void pare_target_read(const PareCompressOptions *o, PareTarget *out);

/* What reaching a target takes: cost[i] of a group of dimension i, the cost of what cannot go, and what may be left. Where
 * groups overlap, costs do not add up, and pare_goal_cost has that of all that is left. */
typedef struct PareGoal {
  double *cost; /* NULL: the target is a ratio of groups */
  double *const *curve; /* latency: by dimension [count + 1], what so many groups cost, cost[i] being a mean; else NULL */
  double fixed, budget;
  double near;                  /* what is left is near enough when it is so much less, or not even that */
  double ratio[PARE_KIND_COUNT]; /* of each kind's groups, that go under uniform ranking, where costs add up */
  bool overlaps;          /* then `fixed` is what pare_goal_cost adds to what axes tell */
  const char *kind;       /* of the target */
  const PareGraph *sized; /* MACs: as in PareMeasures */
  const PareFrame *frame; /* bytes: likewise */
} PareGoal;

/* What a target is reached by: the model bound to the sizes at which MACs count, what its files take, the numbers of
 * weights apart, and, for latency, the times. The goal keeps the first two where groups overlap. */
typedef struct PareMeasures {
  const PareGraph *sized;
  const PareFrame *frame; /* of the file; NULL unless bytes are the target */
  size_t file_bytes;
  const PareLatency *latency;
} PareMeasures;

/* The ratio of groups that reaches it under uniform ranking, and the goal as such, which is in `a`. PARE_TARGET when
 * it cannot be reached. Where groups overlap, the ratio is that of the goal and the rest is left to who knows which
 * groups go (api/prune). */
PARE_MUST_USE PareStatus pare_target_ratio(PareCtx *c, PareArena *a, const PareTarget *t, const PareDims *d,
                                           const bool *pruned, const PareMeasures *m, double *ratio, PareGoal *goal);

/* What is left, in the goal's unit, of the model under the leaves' flags, where groups overlap. */
PARE_MUST_USE PareStatus pare_goal_cost(PareCtx *c, const PareGoal *goal, const PareDims *d, double *out);

/* MACs that one group of the dimension owns; `sized` is the traced graph bound to other sizes. */
PARE_MUST_USE PareStatus pare_group_macs(PareCtx *c, const PareDims *d, const PareDim *dim, const PareGraph *sized,
                                         double *out);

#endif
