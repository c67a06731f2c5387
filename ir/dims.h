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

const char *pare_kind_name(PareKind k);
/* Groups that are blocks of their own, which tuning masks and adapts: the others go by what those around them say. */
static inline bool pare_kind_is_block(PareKind k) {
  return k == PARE_KIND_HEADS || k == PARE_KIND_QUERIES || k == PARE_KIND_FFN;
}
bool pare_kind_find(const char *name, size_t len, PareKind *out);

/* A constant one of whose axes holds the dimension. */
typedef struct PareMember {
  PareValue *weight;
  PareNode *node; /* that reads it */
  int input, axis;
} PareMember;

/* A dimension: `count` groups, each of which can go by itself. */
typedef struct PareDim {
  const char *name; /* "/encoder/layer.3/attention:heads" */
  PareKind kind;
  PareAxis *leaf;
  int64_t count;
  int64_t params; /* elements of weights that one group owns */
  int64_t bytes;  /* of the constants that it is cut from */
  PARE_VEC(PareMember) members;
  PARE_VEC(PareContraction) readers; /* where its fan-in is contracted: masks go there */
} PareDim;

typedef struct PareFrozen {
  const char *name, *reason; /* the reason names the node */
  int64_t count;
} PareFrozen;

typedef struct PareDims {
  PareTracer *tracer;
  PARE_VEC(PareDim) dims;
  PARE_VEC(PareFrozen) frozen;
} PareDims;

#endif
