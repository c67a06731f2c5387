/* dims.h - what dimension tracing finds: dimensions that may be pruned, and
 * those that look like one and may not. Made by passes/trace_dims. */
#ifndef PARE_IR_DIMS_H
#define PARE_IR_DIMS_H

#include "ir/axes.h"

/* id, name on the command line */
#define PARE_KIND_LIST(X)  \
  X(HEADS, "heads")        \
  X(QUERIES, "queries")    \
  X(FFN, "ffn")            \
  X(HEAD_DIM, "head-dim")  \
  X(WIDTH, "width")        \
  X(DEPTH, "depth")        \
  X(VOCAB, "vocab")        \
  X(OTHER, "other")

typedef enum PareKind {
#define X(id, name) PARE_KIND_##id,
  PARE_KIND_LIST(X)
#undef X
  PARE_KIND_COUNT
} PareKind;

/* In sets of kinds. */
#define PARE_KIND_BIT(k) (1u << (k))

const char *pare_kind_name(PareKind k);
/* Groups that are blocks of their own, which tuning masks and adapts: the others go by what those around them say. */
static inline bool pare_kind_is_block(PareKind k) {
  return k == PARE_KIND_HEADS || k == PARE_KIND_QUERIES || k == PARE_KIND_FFN;
}
bool pare_kind_find(const char *name, size_t len, PareKind *out);
/* "heads,ffn" as a set of PARE_KIND_BIT; false when a name is none. */
bool pare_kinds_find(const char *list, unsigned *out);

/* A constant one of whose axes holds the dimension. */
typedef struct PareMember {
  PareValue *weight;
  PareNode *node; /* that reads it */
  int input, axis;
} PareMember;

/* A branch of a residual stream: what is added to the stream a sum. */
typedef struct PareBranch {
  PareContraction sum; /* the Add; `input` goes, `weight` is the stream; axis: the last one */
  PareUse bias;        /* where an op adds the branch's last bias to the sum: that Add and its operand; node NULL: nowhere */
  PARE_VEC(PareNode *) nodes; /* that nobody needs without it, in order */
  PARE_VEC(PareUse) ends;     /* constants: with these zero, so is the branch */
  const PareAxis *leaf;       /* its group: index `number` of this leaf, which is no axis of any tensor */
  int64_t number;
} PareBranch;

/* Constants, each as one node reads it. */
typedef struct PareZeros {
  PARE_VEC(PareUse) at;
} PareZeros;

/* A dimension: `count` groups, each of which can go by itself. */
typedef struct PareDim {
  const char *name; /* "/encoder/layer.3/attention:heads" */
  PareKind kind;
  PareAxis *leaf;
  bool exact; /* else the cut model is not the masked one: a norm is taken over fewer */
  bool pair;  /* two activations that weights make are multiplied and summed over it, so no weight's fan-in masks it */
  int64_t count;
  const bool *given; /* [count]: what stays, where somebody has said so; NULL: scores decide */
  int64_t params; /* elements of weights that one group owns */
  int64_t bytes;  /* of the constants that it is cut from */
  PARE_VEC(PareMember) members;
  PARE_VEC(PareContraction) readers; /* where its fan-in is contracted: masks go there */
  PareZeros zeros; /* the masked model has zeros in these where a group is dead: then so is what its fan-in meets */
  PARE_VEC(PareBranch) branches; /* [count], of kind depth */
  const PareBranch *inside;      /* all its readers are part of this branch; NULL: of none */
} PareDim;

typedef struct PareFrozen {
  const char *name, *reason; /* the reason names the node */
  int64_t count;
} PareFrozen;

/* A graph input whose elements are ids of the vocabulary, and the constants that they are compared with. */
typedef struct PareTokens {
  const char *input;
  PARE_VEC(PareUse) compared;
} PareTokens;

typedef struct PareDims {
  PareTracer *tracer;
  PARE_VEC(PareDim) dims;
  PARE_VEC(PareFrozen) frozen;
  PARE_VEC(PareTokens) tokens; /* of the dimensions of kind vocab, which have one size and lose the same groups */
  const char *no_vocab;        /* why there are none; NULL where there are, or where nobody asked */
} PareDims;

/* Adds a dimension; its name gets a number where it is taken. */
PARE_MUST_USE PareStatus pare_dims_add(PareCtx *c, PareArena *a, PareDims *d, PareDim dim);

static inline bool pare_branch_dead(const PareBranch *b) { return b->leaf->keep && !b->leaf->keep[b->number]; }
/* Is the node part of a dead branch? */
bool pare_dims_dropped(const PareDims *d, const PareNode *n);
/* Has dimension i gone with a branch, as the flags by dimension (NULL: all is kept) say? */
bool pare_dims_gone(const PareDims *d, bool *const *keep, size_t i);

/* Dimensions that are exact, or those that are not, keep all their groups until they are shown again; saved[dims.n]. */
void pare_dims_hide(const PareDims *d, bool exact, const bool **saved);
void pare_dims_show(const PareDims *d, const bool *const *saved);
/* The leaves' flags of the dimensions of kind vocab; NULL when there are none or all is kept. */
const bool *pare_dims_tokens(const PareDims *d, int64_t *count);
/* True when no dimension has lost groups that is not exact. */
bool pare_dims_exact(const PareDims *d);

#endif
