/* edit.h - structural edits: clones of an imported graph in which constants are
 * replaced. Nodes stay as they are, with the same ids, but for dead branches, which go; a replaced constant keeps
 * its name and its origin, so that the backend finds what to change in the file. */
#ifndef PARE_PASSES_EDIT_H
#define PARE_PASSES_EDIT_H

#include "ir/adapter.h"

/* The constant that a chain of views (Transpose, Identity, Reshape...) of n's
 * input k begins with: *node and *input read it. NULL when it is not one. */
PareValue *pare_root_constant(PareNode *n, int k, PareNode **node, int *input);
/* Does n's input k hold all of the elements of one constant, moved at most, and as they are but for their type? */
bool pare_is_moved_whole(const PareNode *n, int k);

/* For each element of what n reads as input k, behind such a chain: its index in the constant, in `a`; *out NULL: they
 * are the same. *type, unless NULL: the shape that n reads, known even where the graph is not bound, and the constant's
 * element type. PARE_UNSUPPORTED where several constants are joined, or the elements are others. */
PARE_MUST_USE PareStatus pare_root_elements(PareCtx *c, PareArena *a, PareNode *n, int k, const int64_t **out,
                                            PareType *type);

/* A new constant in the place of `old` at n's input k; same name, same origin. */
PARE_MUST_USE PareStatus pare_replace_constant(PareCtx *c, PareGraph *g, PareNode *n, int k, PareType type,
                                               const void *data);

/* The same for a constant that is made of another: it stays thin (ir/slices.h). */
PARE_MUST_USE PareStatus pare_replace_sliced(PareCtx *c, PareGraph *g, PareNode *n, int k, PareType type,
                                             const PareSlices *slices);

/* Element i of floats of type d <- x, rounded; false when x is too large for the type. */
bool pare_store_float(PareDtype d, void *data, int64_t i, double x);

/* The constant of floats [n] that is added to what a product with a weight on the right makes: Gemm's C, or the
 * operand of the Add that alone reads the product. *node and *input read it; NULL when there is none. */
PareValue *pare_bias_of(const PareGraph *g, PareNode *product, int64_t n, PareNode **node, int *input);

/* The model with a fresh classifier of `labels` outputs: the weight of the last linear layer before the first output of
 * floats is uniform within 1/sqrt(its inputs), drawn from the seed, its bias is zero. `bound` is g, bound.
 * PARE_UNSUPPORTED names the node that is no such layer. */
PARE_MUST_USE PareStatus pare_new_head(PareCtx *c, PareArena *a, const PareGraph *g, const PareGraph *bound, int64_t labels,
                                       uint64_t seed, PareGraph **out);

/* What is added to an adapted weight, at the size that g has: s·A·B - s·A0·B0 + dense, and to the bias behind it. */
typedef struct PareDelta {
  const PareAdapter *adapter; /* its sites, orientation and scale */
  int64_t k, n;
  const float *a, *b;  /* [k, rank] or, sequential, [n, rank]; [rank, n]; both NULL: zero */
  const float *a0, *b0; /* like a and b, of a parallel one; both NULL: zero */
  const float *dense;  /* [k, n], or NULL */
  const float *bias;   /* [n], or NULL: all sites have one that pare_bias_of finds */
  const uint8_t *alive; /* [k, n] as the nodes read it: elements that become zero are 0; NULL: none do */
} PareDelta;

/* W [k, n] of adapter `a` as its nodes in g read it; out has room for it. PARE_UNSUPPORTED where integers are stored. */
PARE_MUST_USE PareStatus pare_adapted_weight(PareCtx *c, const PareGraph *g, const PareAdapter *a, float *out);

/* Folds adapters: W <- W + s·A·B or W·(I + s·A·B), - s·A0·B0 + dense, rounded once to W's dtype (METHOD 6). Readers that
 * share a weight and its adapter go on sharing it. */
PARE_MUST_USE PareStatus pare_fold_adapters(PareCtx *c, PareArena *a, const PareGraph *g, size_t n,
                                            const PareDelta *delta, PareGraph **out);

/* Cuts the groups that the leaves' `keep` leaves out: slices every constant on
 * such an axis, makes integer operands that steer shapes yield the new sizes,
 * and checks every type against what tracing says. g and the graph that was
 * traced have the same nodes. */
PARE_MUST_USE PareStatus pare_cut_dims(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d,
                                       PareGraph **out);
/* The same to be written only: large constants stay thin (ir/slices.h). */
PARE_MUST_USE PareStatus pare_cut_dims_thin(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d,
                                            PareGraph **out);

/* The same function as the cut graph at full size: the weights that read dead
 * groups are zeroed there. Dimensions that are not exact are left alone: nothing
 * at full size is the same function. */
PARE_MUST_USE PareStatus pare_zero_fan_in(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d,
                                          PareGraph **out);
/* The same to be written, or run behind the pass fetch-weights: large constants of f32 stay thin (ir/slices.h). */
PARE_MUST_USE PareStatus pare_zero_fan_in_thin(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d,
                                               PareGraph **out);

/* Takes dead branches out of g, a clone of the graph that was traced or of its cut: the one edit that removes nodes.
 * A sum becomes the Identity of its stream. */
PARE_MUST_USE PareStatus pare_drop_branches(PareCtx *c, PareGraph *g, const PareDims *d);
/* The nodes that it would take out: gone[g->nnodes], by id. */
PARE_MUST_USE PareStatus pare_find_dropped(PareCtx *c, const PareGraph *g, const PareDims *d, bool *gone);

/* Cuts only the dimensions that are not exact: what the cut graph is compared with is
 * specialised to them like itself. */
PARE_MUST_USE PareStatus pare_cut_inexact(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d,
                                          PareGraph **out);

#endif
