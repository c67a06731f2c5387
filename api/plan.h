/* plan.h - the cut as data: which groups of which dimension stay. Written by a
 * run (--save-plan) and replayed on another export of the same architecture
 * (--plan). JSON: {"dimensions": [{"name", "kind", "count", "keep": [...]}, ...]}. */
#ifndef PARE_API_PLAN_H
#define PARE_API_PLAN_H

#include "ir/dims.h"

/* keep[i] has the flags of dimension i; NULL: not in the plan. Whole or not at all. */
PARE_MUST_USE PareStatus pare_plan_save(PareCtx *c, const char *path, const PareDims *d, bool *const *keep);

/* Fills keep[i], in `a`, for the dimensions that the plan names, and leaves the
 * others NULL. A dimension is found by name, kind and count; where the names have
 * changed, by its place among those of its kind, if these are as many and of the
 * same counts. PARE_TARGET, naming the dimension, where the plan does not fit the
 * model; PARE_FORMAT where it is no plan. */
PARE_MUST_USE PareStatus pare_plan_load(PareCtx *c, PareArena *a, const char *path, const PareDims *d, bool **keep);

#endif
