/* why.h - which ops tie an axis to others of its dimension, and which one forbids
 * cutting it: the shortest chains of ops, for people who ask. */
#ifndef PARE_PASSES_WHY_H
#define PARE_PASSES_WHY_H

#include "ir/dims.h"

/* One link: `by` ties the axis before it (of the chain's start or of the link before) to axis `axis`
 * of `value`. by NULL: it is the same weight, read elsewhere. */
typedef struct PareTie {
  const PareNode *by;
  const PareValue *value;
  int axis;
} PareTie;

typedef struct PareChain {
  bool found; /* false: no chain of ops leads there */
  int n;
  const PareTie *tie;
} PareChain;

typedef struct PareWalk PareWalk;

/* Nothing is recorded while dimensions are traced: which axes an op ties is asked of its own rule,
 * run on fresh axes of that one node. The walk lives in a and reads d. */
PARE_MUST_USE PareStatus pare_walk_new(PareCtx *c, PareArena *a, const PareDims *d, PareWalk **out);
/* Goes out from axis `axis` of `from` (a constant: wherever it is read) along all axes that hold `leaf`. */
PARE_MUST_USE PareStatus pare_walk(PareWalk *w, PareAxis *leaf, const PareValue *from, int axis);
/* After pare_walk: the shortest chain to an axis. Chains live in the walk's arena. */
PARE_MUST_USE PareStatus pare_walk_to(PareWalk *w, const PareValue *to, int axis, PareChain *out);
/* The same to an axis that the node which froze the leaf reads or makes or, where that is the interface,
 * to an input or output of the graph. */
PARE_MUST_USE PareStatus pare_walk_to_freezer(PareWalk *w, PareChain *out);

#endif
