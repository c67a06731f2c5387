/* group.h - steps that a device runs at once. A step of a GPU may take less time than it takes to begin: nodes of one
 * op that do not depend on each other are brought together, so that one call of the op's kernel runs them all. */
#ifndef PARE_RUNTIME_GROUP_H
#define PARE_RUNTIME_GROUP_H

#include "kernels/kernel.h"

/* Puts the n nodes of `step`, VIEW rows included, into another order in which every node still sees what it saw in the
 * given one: results and states, which some ops write in place. Phases stay apart and in order. when[i], which never
 * falls, is the time of step i: those of one time are of one op whose kernel has run_many, and none of them reads or
 * writes what another writes. Where no kernel has run_many nothing moves, and when[i] is i. */
PARE_MUST_USE PareStatus pare_group_steps(PareCtx *c, const PareGraph *g, const PareKernel *kernels, size_t n,
                                          PareNode **step, uint32_t *when);

#endif
