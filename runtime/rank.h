/* rank.h - which groups go: from scores to keep flags (METHOD 3). Knows numbers
 * only: no graph. */
#ifndef PARE_RUNTIME_RANK_H
#define PARE_RUNTIME_RANK_H

#include <stdint.h>

#include "base/ctx.h"
#include "runtime/fit.h"

/* One dimension (the heads of a layer, say). */
typedef struct PareLayer {
  int kind;            /* layers of one kind are ranked together */
  int64_t count;       /* groups, dead ones included */
  const double *score; /* [count] */
  bool *keep;          /* [count]: dead groups stay dead */
  double cost;         /* of one group, in the target's unit; 1 for a plain ratio */
  int64_t least;       /* that stay whatever the scores say; one at least does */
  int64_t multiple;    /* of which is what stays, where the floor lets it be; 0, 1: any number */
  const double *curve; /* [count + 1]: what so many groups cost, where that is no multiple of `cost`; NULL: it is */
} PareLayer;

/* Words of --ranking. */
typedef enum PareRanking { PARE_RANK_UNIFORM, PARE_RANK_GLOBAL, PARE_RANK_COST } PareRanking;

/* How many of `count` groups a share of them is, rounded up; one at least. */
int64_t pare_rank_least(int64_t count, double share);

/* Drops the lowest scores until round(ratio · n) groups of each kind are dead,
 * n being all its groups; at least `least` groups a layer stay. Where multiples are to stay, groups
 * go in blocks, until at least that many are dead, and what is over a multiple always goes. Uniform: the layers
 * share that number in proportion (largest remainder); as what a layer shares
 * may fall while the ratio rises, none loses more than `final`, the ratio at the
 * end, takes from it. Else the lowest score / cost of the kind goes. Ties go to the lower layer and index. */
PARE_MUST_USE PareStatus pare_rank_ratio(PareCtx *c, size_t n, PareLayer *layer, double ratio, double final,
                                         bool global);

/* PARE_TARGET: at least so much would be left. */
PARE_MUST_USE PareStatus pare_rank_unreachable(PareCtx *c, double least, double budget);

/* The kinds of some layers, that whose groups cost most in the mean first. */
typedef struct PareKinds {
  int n, kind[PARE_FIT_MOST];
  double count[PARE_FIT_MOST]; /* of its groups */
} PareKinds;
void pare_rank_kinds(size_t n, const PareLayer *layer, PareKinds *out);

/* What may be left. */
typedef struct PareBudget {
  double fixed; /* what cannot go costs so much */
  double most;
  double near;  /* what is left is near enough when it is so much less, or not even that */
} PareBudget;

/* Ratios by layer, alike for layers of one kind, at which what is left costs at most the budget: the smallest that
 * all kinds share, where that is near, else as pare_fit has it. PARE_TARGET when the layers' floors prevent it,
 * naming what can be reached. */
PARE_MUST_USE PareStatus pare_rank_budget(PareCtx *c, size_t n, const PareLayer *layer, const PareBudget *budget,
                                          double *ratio);

/* The same under global ranking, from the scores and flags as they are now. */
PARE_MUST_USE PareStatus pare_rank_budget_global(PareCtx *c, size_t n, const PareLayer *layer,
                                                 const PareBudget *budget, double *ratio);

/* Drops the lowest score / cost of all kinds together until what they cost, those dead before included, is `amount`: to
 * the nearest group, and where it is a block, at least that. */
PARE_MUST_USE PareStatus pare_rank_cost(PareCtx *c, size_t n, PareLayer *layer, double amount);
/* The same until it is at least `amount`, of `final` in the end. A group with which more than `slack` over that
 * would go is passed over where less is too much without it. */
PARE_MUST_USE PareStatus pare_rank_cost_reach(PareCtx *c, size_t n, PareLayer *layer, double amount, double final,
                                              double slack);

/* The same where costs are curves: drops groups of all kinds, of a layer the lowest scores first, until what is saved,
 * that of those dead before included, is `amount` at least or nothing may go any more. What goes is worth the least a
 * unit saved: the lower convex hulls of the layers' scores over savings (runtime/tradeoff.h). */
PARE_MUST_USE PareStatus pare_rank_curve(PareCtx *c, size_t n, PareLayer *layer, double amount);

/* What a layer costs with `alive` groups left. */
static inline double pare_layer_cost(const PareLayer *l, int64_t alive) {
  return l->curve ? l->curve[alive] : l->cost * (double)alive;
}

/* The number of dead groups that `ratio` means for each layer under uniform ranking. */
PARE_MUST_USE PareStatus pare_rank_quota(PareCtx *c, size_t n, const PareLayer *layer, double ratio, int64_t *dead);

#endif
