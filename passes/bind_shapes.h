/* bind_shapes.h - gives every dynamic axis a number, hence every value a
 * concrete type, and works out what follows from shapes and small constants. */
#ifndef PARE_PASSES_BIND_SHAPES_H
#define PARE_PASSES_BIND_SHAPES_H

#include "ir/ir.h"

/* Sets the unknown dims of the inputs and infers the types of all results. Known
 * results (`data` set, in the graph's arena): shapes, and what is computed from
 * known values alone and takes at most 64 KiB a node. Names that no axis has are
 * not an error. Errors: PARE_USAGE listing the axes that are not bound, or what
 * a node's rule or kernel says, naming the node. */
PARE_MUST_USE PareStatus pare_bind_shapes(PareCtx *c, PareGraph *g, int ndims, const PareDimBinding *dims);

/* What a binding calls the axis, in a: NULL when memory is out. */
const char *pare_axis_key(PareArena *a, const PareValue *v, int axis);
/* The size that is bound to `name`; -1: none is, or name is NULL. */
int64_t pare_bound_size(size_t n, const PareDimBinding *dims, const char *name);

/* One node of that walk: types and, where it is cheap, numbers of its results. */
PARE_MUST_USE PareStatus pare_bind_node(PareCtx *c, PareGraph *g, PareNode *n);

/* True when all that the node reads is known: constants, or results with data. */
bool pare_node_known(const PareNode *n);
/* Runs the node on the CPU whatever its size; its results' bytes go to `a` and
 * their `data` is set. All that it reads must be known and its types concrete. */
PARE_MUST_USE PareStatus pare_node_eval(PareCtx *c, PareNode *n, PareArena *a);

#endif
