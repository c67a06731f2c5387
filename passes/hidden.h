/* hidden.h - where a model's hidden states are: what blocks write, found by the flow of data. */
#ifndef PARE_PASSES_HIDDEN_H
#define PARE_PASSES_HIDDEN_H

#include "ir/dims.h"

/* A value that a block of layers writes: what a weight that reads heads or channels makes, behind its bias and
 * the sum with the stream that goes around the block. Value ids are the same in every clone and cut. */
typedef struct PareHidden {
  uint32_t node;  /* that multiplies by the weight */
  uint32_t value; /* id */
} PareHidden;

typedef struct PareHiddens {
  PARE_VEC(PareHidden) at; /* in node order; each value once */
} PareHiddens;

/* Those of the dimensions whose flag in pruned[] is set, at which no such dimension is left: they have the same
 * shape after every cut. Lives in a. */
PARE_MUST_USE PareStatus pare_find_hidden(PareCtx *c, PareArena *a, const PareDims *d, const bool *pruned,
                                          PareHiddens *out);

/* How much the model's outputs feel each position of a value: |dS/dv|² summed over the last axis, S the mean of the
 * outputs under random signs, zeros where a place of an output is padding; then divided by what all positions of the sample
 * have together. A padded token's is zero. */
typedef struct PareRelevance {
  size_t nsigns, n;
  PareValue **signs; /* inputs, one like each output that is followed */
  PareValue **at;    /* [v's shape, last axis 1], an output of the graph; NULL: the outputs do not depend on the value */
} PareRelevance;

/* Appends the nodes for v[0..n), results of the bound graph g whose first `noutputs` outputs are the model's; those
 * that `aside` leaves out (pare_is_followed) feel nothing. PARE_UNSUPPORTED naming the node that has no gradient. */
PARE_MUST_USE PareStatus pare_append_relevance(PareCtx *c, PareGraph *g, size_t noutputs, const bool *aside, size_t n,
                                               PareValue *const *v, PareRelevance *out);

#endif
