/* branch.h - which branch of an If is taken, where that follows from the model alone. */
#ifndef PARE_FRONTEND_BRANCH_H
#define PARE_FRONTEND_BRANCH_H

#include "ir/ir.h"

enum { PARE_BRANCH_ELSE, PARE_BRANCH_THEN, PARE_BRANCH_OPEN };

/* g is the graph up to the If, `cond` what it reads. Squeezing an axis whose size an
 * exporter does not know gives an If on that size, which shapes decide. OPEN: the
 * condition depends on data, or it is not the same at all sizes of the dynamic axes
 * that are tried: two choices of primes, all ones, all large. */
PARE_MUST_USE PareStatus pare_branch_taken(PareCtx *c, const PareGraph *g, const PareValue *cond, int *taken);

#endif
