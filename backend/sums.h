/* sums.h - what becomes of an op that adds a branch to a stream, and normalises or quantises the sum
 * (SkipLayerNormalization, SkipSimplifiedLayerNormalization and QLinearAdd of com.microsoft), when the branch goes, or
 * all that has read the norm. */
#ifndef PARE_BACKEND_SUMS_H
#define PARE_BACKEND_SUMS_H

#include "backend/edits.h"

/* The Add with which the op begins (PARE_IN_SUM) of the op whose node n is; NULL where it is another op's. */
const PareNode *pare_sum_of(const PareNode *n);

/* Is the op in the file to be another, its first Add being `sum`? after: the nodes that are left, by id. */
bool pare_sum_changes(const PareNode *sum, PareNode *const *after);

/* Fills the edit of such an op, in which readings of constants are renamed already; `fresh` is a name that the file
 * does not have. Lives in a. */
PARE_MUST_USE PareStatus pare_sum_edit(PareCtx *c, PareArena *a, const PareGraph *before, const PareNode *sum,
                                       PareNode *const *after, const char *fresh, PareNodeEdit *e);

#endif
