/* axes.h - what an axis of a tensor is made of (DESIGN 1.2).
 *
 * An axis is a term: a dimension (leaf), a product of terms (outer first: heads
 * x head width) or a sum of terms (concatenation: q | k | v). Ops tie terms
 * together (union-find); Reshape refines leaves into products, Split, Slice and
 * Concat into sums. What remains are classes of leaves: named dimensions. A
 * class that meets something that forbids cutting is frozen, with the node.
 *
 * The rules of ops.def's `cut` column (cut_*.c) speak this language; the pass
 * trace_dims drives them. Every reading of a constant, and of numbers that are
 * counted from constants, has axes of its own, so that a shared initializer by
 * itself ties nothing. */
#ifndef PARE_IR_AXES_H
#define PARE_IR_AXES_H

#include "ir/ir.h"

typedef struct PareAxis PareAxis;

/* What a leaf has met that forbids cutting it. All but the first are what a class of dimensions may be about: it
 * allows them, and answers for what they mean (passes/trace_dims). */
enum {
  PARE_MET_END = 1,     /* anything else */
  PARE_MET_NORM = 2,    /* a mean or a norm over it: with fewer indices it is another one */
  PARE_MET_INDEX = 4,   /* a table's rows, looked up by the elements of a graph input */
  PARE_MET_OUTPUT = 8,  /* an axis of a graph output */
  PARE_MET_PRODUCT = 16 /* summed over in a product of two activations */
};

typedef enum PareAxisKind { PARE_AXIS_LEAF, PARE_AXIS_PROD, PARE_AXIS_SUM } PareAxisKind;

struct PareAxis {
  PareAxis *link; /* towards the representative; NULL there */
  PareAxisKind kind;
  int64_t size;
  int n; /* PROD and SUM */
  PareAxis **kid;
  /* leaves */
  unsigned met;              /* PARE_MET_*; 0: not frozen */
  const PareNode *frozen_by; /* with frozen_why; the first that forbade it */
  const char *frozen_why;    /* NULL: not frozen */
  bool batched;              /* a batch axis of a product of two activations: attention heads */
  bool inner;                /* contracted, or a matrix axis, in such a product: head width */
  bool measured;             /* its values set the scale of a DynamicQuantizeLinear */
  const bool *keep;          /* the cut: size flags; NULL keeps all */
  int dim;                   /* number of its prunable dimension (trace_dims), or -1 */
};

/* A reduction of an activation's axis against a weight's: where masks go. */
typedef struct PareContraction {
  PareNode *node;
  int input;  /* the activation's number among the node's inputs */
  int axis;   /* of the activation */
  int weight; /* the weight's input number */
  int weight_axis;
} PareContraction;

/* A Slice along one axis: what it leaves before and behind. Terms may be NULL (empty). */
typedef struct PareSliceAxis {
  const PareNode *node;
  int entry; /* element of starts and ends */
  PareAxis *before, *kept, *behind;
} PareSliceAxis;

struct PareTracer {
  PareCtx *c;
  PareArena *arena;
  const PareGraph *g;
  PareAxis ***value_axis; /* by value id; NULL for constants */
  PareAxis ****use_axis;  /* by node id and input: the axes of a constant, or of what is counted; else NULL */
  bool *constant;         /* by value id: follows from constants alone, so it can hold weights */
  bool *counted;          /* by node id: makes known numbers of constants alone, by position (Range, CumSum, NonZero) or
                             of such and single ones: each reader can be given those that stay (passes/cut_dims), as
                             if they were a constant */
  PARE_VEC(PareContraction) contractions;
  PARE_VEC(PareContraction) products; /* of two activations; `weight` is the other one */
  PARE_VEC(PareContraction) learned;  /* of two values that follow from constants alone: of learned queries, say */
  PARE_VEC(PareSliceAxis) slices;
  bool nomem;
};

/* Leaves of g's inputs are made; op rules fill the rest in node order. The graph
 * must be bound. Lives in a. */
PARE_MUST_USE PareStatus pare_tracer_new(PareCtx *c, PareArena *a, const PareGraph *g, PareTracer **out);

/* The term of axis `d` of input k of n; representative. */
PareAxis *pare_axis_in(PareTracer *t, const PareNode *n, int k, int d);
PareAxis *pare_axis_out(PareTracer *t, const PareNode *n, int k, int d);
/* Results: sets the term of an axis of output k. NULL outputs are skipped. */
void pare_axis_set(PareTracer *t, const PareNode *n, int k, int d, PareAxis *a);

PareAxis *pare_axis_leaf(PareTracer *t, int64_t size);
PareAxis *pare_axis_sum(PareTracer *t, int n, PareAxis *const *kid);
PareAxis *pare_axis_find(PareAxis *a);
/* Declares both to be the same. Where that is impossible, both are frozen by n. */
void pare_axis_tie(PareTracer *t, const PareNode *n, PareAxis *a, PareAxis *b);
/* Ties two lists of terms as products, row-major: what Reshape does. */
void pare_axis_tie_lists(PareTracer *t, const PareNode *n, int na, PareAxis *const *a, int nb, PareAxis *const *b);
/* Parts `a` into consecutive segments of these sizes (they add up to its size). */
void pare_axis_segments(PareTracer *t, const PareNode *n, PareAxis *a, int count, const int64_t *sizes,
                        PareAxis **out);
/* Parts `a` around the `count` indices from `first` on: what is before, these, and behind; NULL where that is empty. */
void pare_axis_part(PareTracer *t, const PareNode *n, PareAxis *a, int64_t first, int64_t count, PareAxis **part);
/* Says that all leaves of a have met something, PARE_MET_*, at n (NULL: the interface). */
void pare_axis_meet(const PareNode *n, PareAxis *a, unsigned met, const char *why);
/* The same for what no class of dimensions allows. */
void pare_axis_freeze(const PareNode *n, PareAxis *a, const char *why);
/* Calls fn for every leaf of a, outer first. */
void pare_axis_leaves(PareAxis *a, void (*fn)(PareAxis *leaf, void *arg), void *arg);

/* A convolution whose every channel is made of one: its group is the number of channels. Types are concrete. */
static inline bool pare_is_depthwise(const PareNode *n) {
  return n->op == PARE_OP_CONV && pare_attr_get(&n->attr, group, 1) > 1 && n->in[0]->type.dim[1] == n->attr.group &&
         n->in[1]->type.dim[0] == n->attr.group;
}

/* A Gather by a list of indices that follows from constants, out of what is no weight and no shape: where the list has
 * an order, the axis that it picks from may be cut, and the list follows. */
bool pare_picks_by_list(const PareTracer *t, const PareNode *n);

/* Runs the rule of the `cut` column, but for what is counted. */
PARE_MUST_USE PareStatus pare_tie_node(PareTracer *t, const PareNode *n);

/* A Concat of copies of one tensor: another form of Tile. Types are concrete. */
bool pare_is_repeated(const PareNode *n);

/* The graph input whose elements v's are, moved but not changed: token ids. NULL when there is none. */
const PareValue *pare_ids_of(const PareValue *v);

/* Is the leaf part of the axis? */
bool pare_axis_holds(PareAxis *a, const PareAxis *leaf);
/* Have both a leaf of more than one index? */
bool pare_axis_share(PareAxis *a, PareAxis *b);

/* --- under a cut --- */
/* How many indices of the axis stay. */
int64_t pare_axis_count(PareAxis *a);
/* The indices that stay, ascending, to out[pare_axis_count(a)]. */
void pare_axis_indices(PareAxis *a, int64_t *out);
/* For leaf `leaf` of axis a: its index at each position of the axis, or -1 where
 * the position does not belong to it. out[a->size]. */
void pare_axis_positions(PareAxis *a, const PareAxis *leaf, int64_t *out);
/* Do the elements of axis a mean the same indices of `leaf` as those of b mean of `other`? */
bool pare_axis_same_place(PareAxis *a, const PareAxis *leaf, PareAxis *b, const PareAxis *other);
/* The same for the positions that stay under the cut: out[pare_axis_count(a)]. */
void pare_axis_kept_positions(PareAxis *a, const PareAxis *leaf, int64_t *out);
/* The type of a value after the cut. */
PareType pare_axis_type(PareTracer *t, const PareValue *v);
/* The axes of a constant, or of what is counted, as node n's input k reads it, or of any other value. */
PareAxis **pare_axes(PareTracer *t, const PareNode *n, int k);

#endif
