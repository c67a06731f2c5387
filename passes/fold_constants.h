/* fold_constants.h - evaluates what follows from constants alone, once. */
#ifndef PARE_PASSES_FOLD_CONSTANTS_H
#define PARE_PASSES_FOLD_CONSTANTS_H

#include "passes/pass.h"

/* On a bound graph: results of nodes whose inputs are all known become known
 * (value->data, in the graph's arena), whatever their size. Adapters and masks
 * are states, so nothing that is tuned is folded. */
PARE_MUST_USE PareStatus pare_fold_constants(PareCtx *c, PareGraph *g);

#endif
