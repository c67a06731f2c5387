/* trace_dims.h - finds the dimensions that can be pruned (DESIGN 1.2). */
#ifndef PARE_PASSES_TRACE_DIMS_H
#define PARE_PASSES_TRACE_DIMS_H

#include "ir/dims.h"

/* g must be bound (pare_bind_shapes), its dynamic axes to numbers that divide
 * nothing else in the model. The result lives in a and points into g. Groups
 * come in node order; names are unique. Finds what may always be cut: heads, FFN
 * channels, the width of heads' values and others that begin and end in weights. */
PARE_MUST_USE PareStatus pare_trace_dims(PareCtx *c, PareArena *a, const PareGraph *g, PareDims **out);

/* The same and, for each PARE_KIND_BIT of `kinds`, what that class alone allows: the
 * width of q and k (head-dim), residual streams that norms are taken over (width), the
 * tokens of a vocabulary (vocab), whole branches of residual streams (depth). */
PARE_MUST_USE PareStatus pare_trace_classes(PareCtx *c, PareArena *a, const PareGraph *g, unsigned kinds,
                                            PareDims **out);

/* Adds the vocabulary's dimensions to d, or says in d->no_vocab why there are none. */
PARE_MUST_USE PareStatus pare_trace_vocab(PareCtx *c, PareArena *a, PareDims *d);
/* Adds the branches of residual streams, those that weigh the same as one dimension. */
PARE_MUST_USE PareStatus pare_trace_branches(PareCtx *c, PareArena *a, PareDims *d);
/* Sets params and bytes from the members: the elements of weights that one index of the leaf owns, and all bytes; a
 * shared weight counts once. */
PARE_MUST_USE PareStatus pare_dim_weigh(PareCtx *c, PareTracer *t, PareDim *out);

#endif
