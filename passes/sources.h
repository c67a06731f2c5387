/* sources.h - what follows from constants alone: their numbers, and where the elements of a weight come from that are
 * moved, parted or joined on their way. Graphs need not be bound. */
#ifndef PARE_PASSES_SOURCES_H
#define PARE_PASSES_SOURCES_H

#include "ir/ir.h"

/* Elements of constants as a node reads them. */
typedef struct PareSources {
  PARE_VEC(PareUse) roots; /* readings of the constants that they are in */
  PareType type;           /* of what the node reads, with the dtype of the first constant */
  const int64_t *from;     /* by element: the number of its root << PARE_SOURCE_SHIFT | its index in that constant */
} PareSources;

enum { PARE_SOURCE_SHIFT = 40 };
static inline size_t pare_source_root(const PareSources *s, int64_t i) {
  return (size_t)(s->from[i] >> PARE_SOURCE_SHIFT);
}
static inline int64_t pare_source_element(const PareSources *s, int64_t i) {
  return s->from[i] & (((int64_t)1 << PARE_SOURCE_SHIFT) - 1);
}

/* Is element i of its result element i of input 0, as it is or in another type? */
static inline bool pare_changes_type_alone(const PareNode *n) {
  return n->op == PARE_OP_CAST || n->op == PARE_OP_QUANTIZELINEAR || n->op == PARE_OP_DEQUANTIZELINEAR ||
         n->op == PARE_OP_IDENTITY;
}

/* Finds them for n's input k, in a: the ops in between are run on numbers. Casts and quantisation leave an element
 * where it is. PARE_UNSUPPORTED where an op makes other elements. */
PARE_MUST_USE PareStatus pare_sources(PareCtx *c, PareArena *a, PareNode *n, int k, PareSources *out);

/* Does v follow from constants alone? */
bool pare_is_of_constants(const PareValue *v);
/* n's input k, which does, with its numbers, in a. */
PARE_MUST_USE PareStatus pare_work_out(PareCtx *c, PareArena *a, PareNode *n, int k, const PareValue **out);

/* Calls fn for readings of constants that make n's input k zero where they all are: of a sum or what is joined all, of a
 * product one. False from fn, another beginning than a constant, or an op that may make another number of zeros, ends it:
 * false. */
bool pare_each_source(PareNode *n, int k, bool (*fn)(PareUse reading, void *arg), void *arg);

#endif
