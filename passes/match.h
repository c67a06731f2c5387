/* match.h - what fusing passes ask about a bound graph: who reads a value, which
 * numbers are constant. Matching goes by the flow of data, never by names. */
#ifndef PARE_PASSES_MATCH_H
#define PARE_PASSES_MATCH_H

#include "ir/ir.h"

/* The node that made v if its op is `op`, else NULL. */
PareNode *pare_made_by(const PareValue *v, PareOp op);
/* The only reader of v; NULL when there are none, several, or v is an output. */
PareNode *pare_sole_reader(const PareGraph *g, const PareValue *v);
/* The same, if its op is `op`. */
PareNode *pare_sole_reader_op(const PareGraph *g, const PareValue *v, PareOp op);
/* The operand of a two-input node that is not v; NULL when both or none are. */
PareValue *pare_other_operand(const PareNode *n, const PareValue *v);
bool pare_reads(const PareNode *n, const PareValue *v);
/* Does a node between the one that makes v and n, which comes behind it, read v? */
bool pare_is_read_between(const PareValue *v, const PareNode *n);

/* Known for good: a constant, or a result that binding or folding has worked out. */
bool pare_is_fixed(const PareValue *v);
/* One known number, whatever its rank. */
bool pare_fixed_number(const PareValue *v, double *x);
/* Known and within 1e-6 (relative) of x: exporters round to float. */
bool pare_is_number(const PareValue *v, double x);
/* Known for good, or an initializer that is tuned: what layers multiply by and add. */
bool pare_is_parameter(const PareValue *v);
/* A parameter of type [n], or [1, ..., n]. */
bool pare_is_vector(const PareValue *v, int64_t n);
/* ReduceMean over the last axis, which stays as 1. */
bool pare_is_row_mean(const PareNode *n);

/* v as [n], for an operand that must have rank 1: v itself, a view, or a constant over the same bytes. NULL: out of memory. */
PareValue *pare_as_vector(PareCtx *c, PareGraph *g, PareValue *v);

/* Calls fuse for each node that is_root accepts, in order, unless a call before has removed it. */
PARE_MUST_USE PareStatus pare_each_root(PareCtx *c, PareGraph *g, bool (*is_root)(const PareNode *),
                                        PareStatus (*fuse)(PareCtx *, PareGraph *, PareNode *));

/* Every reader of `from` reads `to`; what nobody reads any more is removed, back to the inputs. */
void pare_fuse_into(PareGraph *g, PareValue *from, PareValue *to);
/* Removes the node that made v if nobody reads its results, and what only it read. */
void pare_remove_dead(PareGraph *g, PareValue *v);

/* Room for nin inputs and nout results, the old results from `at` on; new ones are left out. */
PARE_MUST_USE PareStatus pare_node_widen(PareCtx *c, PareGraph *g, PareNode *n, int nin, int nout, int at);
/* Makes the result of `from`, which goes, result i of n. */
void pare_take_result(PareGraph *g, PareNode *from, PareNode *n, int i);

#endif
