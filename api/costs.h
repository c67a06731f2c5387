/* costs.h - what a graph weighs and works. */
#ifndef PARE_API_COSTS_H
#define PARE_API_COSTS_H

#include "ir/ir.h"

/* Elements and bytes of the weights that nodes read (pare_is_weight): initializers, and
 * Constant nodes of rank > 0. Several readings of one weight count once, also
 * after a cut that gave each its own, equal copy. */
typedef struct PareWeights {
  int64_t params, bytes;
} PareWeights;
PARE_MUST_USE PareStatus pare_graph_weights(PareCtx *c, const PareGraph *g, PareWeights *out);

/* Multiply-adds of one run of a bound graph; what binding has worked out is free. */
int64_t pare_graph_macs(const PareGraph *bound);

/* --- what both count by --- */
/* Is input k of n a constant that counts among the weights? */
bool pare_costs_weight(const PareNode *n, int k);
/* An order in which constants of one place in the file stand beside each other. */
int pare_by_origin(const PareValue *x, const PareValue *y);
/* Are both of one place, type and content, so that they count once? */
bool pare_same_weight(const PareValue *x, const PareValue *y);
/* Has binding left the node to be run? */
bool pare_is_run(const PareNode *n);

#endif
