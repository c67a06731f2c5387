/* cut_cost.h - what the cut graph weighs and works, told from axes under the leaves' flags: nothing is cut for it. */
#ifndef PARE_API_CUT_COST_H
#define PARE_API_CUT_COST_H

#include "api/costs.h"
#include "ir/dims.h"

/* pare_graph_weights of the graph that pare_cut_dims and pare_drop_branches make of the traced one. */
PARE_MUST_USE PareStatus pare_cut_weights(PareCtx *c, const PareDims *d, PareWeights *out);
/* pare_graph_macs of it, bound as `sized`, which has the nodes of the traced graph. */
PARE_MUST_USE PareStatus pare_cut_macs(PareCtx *c, const PareDims *d, const PareGraph *sized, double *out);

/* Do groups of dimensions that are `pruned` own the same elements, so that what they cost does not add up? In
 * `weights`, not in work, they do also where nodes share a weight that stays one as long as they lose the same of
 * it. */
PARE_MUST_USE PareStatus pare_dims_overlap(PareCtx *c, const PareDims *d, const bool *pruned, bool weights, bool *out);

#endif
