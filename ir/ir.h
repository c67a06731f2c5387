/* ir.h - the typed graph that every pass works on.
 *
 * A value is made by exactly one node, or is an input, a constant or a state of
 * the graph, and is never assigned again (states are, by the ops whose row says
 * so). Nodes are a list in an order in which they can be run. Nodes, values and
 * names live in the graph's arena; constants' bytes are borrowed.
 *
 * An imported graph has unknown dims. pare_bind_shapes (passes) gives every
 * dynamic axis a number and then every value a concrete type, and evaluates
 * what follows from shapes and small constants alone. */
#ifndef PARE_IR_IR_H
#define PARE_IR_IR_H

#include "base/arena.h"
#include "base/ctx.h"
#include "ir/types.h"

enum { PARE_MAX_INTS = PARE_MAX_RANK * 2 };

typedef enum PareOp {
#define OP(id, ...) PARE_OP_##id,
#include "ir/ops.def"
#undef OP
  PARE_OP_COUNT
} PareOp;

typedef struct PareInts {
  int n;
  int64_t at[PARE_MAX_INTS];
} PareInts;

enum PareAttrId {
#define ATTR(name, kind, words) PARE_ATTR_##name,
#include "ir/attrs.def"
#undef ATTR
  PARE_ATTR_COUNT
};

/* A field that is not set holds its kind's zero; read it by pare_attr_* with a default. */
typedef struct PareAttrs {
  uint64_t set; /* bit PARE_ATTR_name */
#define PARE_FIELD_INT int64_t
#define PARE_FIELD_FLOAT double
#define PARE_FIELD_INTS PareInts
#define PARE_FIELD_DTYPE PareDtype
#define PARE_FIELD_WORD int
#define PARE_FIELD_TEXT const char *
#define ATTR(name, kind, words) PARE_FIELD_##kind name;
#include "ir/attrs.def"
#undef ATTR
} PareAttrs;

/* The words of `mode` that rules compare it with. */
enum { PARE_MODE_CONSTANT, PARE_MODE_REFLECT, PARE_MODE_EDGE, PARE_MODE_WRAP, PARE_MODE_NEAREST, PARE_MODE_LINEAR,
       PARE_MODE_CUBIC, PARE_MODE_DCR, PARE_MODE_CRD };

#define pare_attr_has(a, name) (((a)->set >> PARE_ATTR_##name) & 1u)
#define pare_attr_get(a, name, dflt) (pare_attr_has(a, name) ? (a)->name : (dflt))
#define pare_attr_set(a, field, value) ((a)->set |= (uint64_t)1 << PARE_ATTR_##field, (a)->field = (value))

/* DepthToSpace's and SpaceToDepth's order of a block's channels: DCR unless mode says CRD. */
static inline bool pare_depth_first(const PareAttrs *a) { return a->mode != PARE_MODE_CRD; }

typedef struct PareNode PareNode;
typedef struct PareValue PareValue;
typedef struct PareGraph PareGraph;
typedef struct PareSlices PareSlices; /* ir/slices.h */

/* Where a constant's bytes stand in the file, for the backend's patches. */
typedef enum PareOriginKind {
  PARE_ORIGIN_NONE,        /* made by pare */
  PARE_ORIGIN_INITIALIZER, /* index: number among GraphProto.initializer */
  PARE_ORIGIN_SPARSE,      /* index: number among GraphProto.sparse_initializer */
  PARE_ORIGIN_NODE,        /* index: a Constant node's number among GraphProto.node */
  PARE_ORIGIN_ATTRIBUTE,   /* index: node number; attr: an attribute that the IR has as an input */
  PARE_ORIGIN_ABSENT,      /* the same for what the file leaves out: a list whose numbers are equal is added when they no
                              longer are, one number, a function's default, when it is another */
} PareOriginKind;

typedef struct PareOrigin {
  PareOriginKind kind;
  uint32_t index;
  const char *attr;
  uint32_t body; /* nodes: 0 for those of the graph, else those of PareGraph.bodies.at[body - 1] */
} PareOrigin;

/* A call of a model-local function. Bodies are cloned before they are cut (DESIGN 1.3). */
typedef struct PareBody {
  uint32_t parent;    /* where the call stands: as PareOrigin.body */
  uint32_t node;      /* number of the call there */
  uint32_t function;  /* number among ModelProto.functions */
  uint32_t nnodes;    /* in the function */
  const char *clone;  /* a name that no function has */
} PareBody;

typedef enum PareRole {
  PARE_RESULT, /* of node `def` */
  PARE_INPUT,  /* fed by the user */
  PARE_CONST,  /* `data` */
  PARE_STATE,  /* lives between runs; starts as `data`, or as zeros where that is NULL */
} PareRole;

struct PareValue {
  uint32_t id; /* index into PareGraph.values */
  PareRole role;
  PareType type;
  PareNode *def;               /* PARE_RESULT only */
  const char *name;            /* ONNX's, or one of ours */
  const char **dim_name;       /* inputs and outputs: ONNX's dim_param of each axis or NULL; may be NULL */
  const void *data;            /* constants, states; results known after binding; maybe unaligned */
  const PareSlices *slices;    /* thin constants, which passes named so make: data is NULL and these are the bytes */
  PareOrigin origin;
  bool pinned;                 /* constants: read by what is not in the graph, so its place in the file keeps it */
  bool trained;                /* states: an initializer of the model that is tuned itself (ir/trained.h) */
};

struct PareNode {
  PareOp op;
  uint32_t id;
  int nin, nout;
  PareValue **in; /* NULL: an optional input that is left out */
  PareValue **out; /* NULL: an optional output that nobody names */
  PareAttrs attr;
  const char *name;    /* ONNX's own: every error shows it */
  uint32_t onnx_index; /* number among GraphProto.node, or PARE_NO_INDEX */
  int onnx_input;      /* 0: in[] are the ONNX node's inputs; k + 1: one of the nodes that a composite op was expanded
                          into, in[0] is ONNX's input k; PARE_INSIDE: such a node that reads none as a constant;
                          PARE_IN_SUM: the same, of the sum of a stream and a branch with which an op begins: the
                          branch may go, or what reads the sum inside of the op (backend/sums) */
  uint8_t phase;       /* 0: each micro-batch; 1: once an optimiser step */
  PareNode *prev, *next;
};

#define PARE_NO_INDEX UINT32_MAX
#define PARE_INSIDE (-1)
#define PARE_IN_SUM (-2)

/* The size of a dynamic axis, by its name in the file ("batch") or, where it has
 * none, by its place ("input_ids:0"). */
typedef struct PareDimBinding {
  const char *name;
  int64_t size;
} PareDimBinding;

struct PareGraph {
  PareArena *arena;
  PareNode *first, *last;
  PARE_VEC(PareValue *) values; /* by id */
  PARE_VEC(PareValue *) inputs;
  PARE_VEC(PareValue *) outputs;
  PARE_VEC(PareBody) bodies; /* parents first */
  PARE_VEC(PareDimBinding) told; /* sizes that the model is known to take; clones have them too */
  uint32_t nnodes; /* next node id */
  int64_t opset;   /* of the default domain, in the file */
};

/* --- making graphs. All return NULL/false with c->diag set when memory is out. --- */
PareGraph *pare_graph_new(PareCtx *c, PareArena *a);
PareValue *pare_value_add(PareCtx *c, PareGraph *g, PareRole role, const char *name, PareType t);
/* `data` is borrowed and must outlive the graph. */
PareValue *pare_const_add(PareCtx *c, PareGraph *g, const char *name, PareType t, const void *data);
/* Rank 1 (n elements); the numbers are copied. */
PareValue *pare_const_ints(PareCtx *c, PareGraph *g, const char *name, int n, const int64_t *v);
/* A scalar of a float dtype. */
PareValue *pare_const_float(PareCtx *c, PareGraph *g, const char *name, PareDtype d, double v);

/* Adds a node before `before` (NULL: at the end) and makes its `nout` results,
 * named after it. Types are not inferred: results are f32[?], not known yet. */
PareNode *pare_node_add(PareCtx *c, PareGraph *g, PareNode *before, PareOp op, const char *name, int nin,
                        PareValue *const *in, int nout);
/* The same for one result, types inferred from the inputs': the usual way for
 * passes on bound graphs. `attr` may be NULL. NULL with c->diag set on failure. */
PareValue *pare_emit(PareCtx *c, PareGraph *g, PareNode *before, PareOp op, const char *name,
                     const PareAttrs *attr, int nin, PareValue *const *in);
#define PARE_EMIT(c, g, before, op, name, attr, ...)                               \
  pare_emit((c), (g), (before), (op), (name), (attr),                              \
            (int)(sizeof((PareValue *[]){__VA_ARGS__}) / sizeof(PareValue *)),      \
            (PareValue *[]){__VA_ARGS__})
/* Do the counts of inputs and outputs, and those left out, fit the row? */
PARE_MUST_USE PareStatus pare_arity_check(PareCtx *c, const PareNode *n);
/* After checking arity, runs the row's infer rule: sets the types of the node's results. */
PARE_MUST_USE PareStatus pare_infer(PareCtx *c, PareNode *n);
/* False while the type of an input, or the numbers of one that steers the shape, are not known. */
bool pare_infer_ready(const PareNode *n);

/* Unlinks n, whose results must have no users left; they stay in `values` with def NULL. */
void pare_node_remove(PareGraph *g, PareNode *n);
/* Every reader of `from` (nodes and graph outputs) reads `to` instead, except node `but` (may be NULL). */
void pare_replace_uses(PareGraph *g, PareValue *from, PareValue *to, const PareNode *but);
/* A copy that shares names and constants' bytes; value and node ids are the same numbers. */
PareGraph *pare_graph_clone(PareCtx *c, PareArena *a, const PareGraph *g);
/* By name; NULL when there is none. */
PareValue *pare_graph_find(const PareGraph *g, const char *name);

/* --- analysis --- */
/* A node's reading of a value. */
typedef struct PareUse {
  PareNode *node;
  int input;
} PareUse;
/* Readers of each value: uses of v are at[first[v->id]] .. at[first[v->id + 1] - 1], in node order. */
typedef struct PareUses {
  uint32_t *first;
  PareUse *at;
} PareUses;
PARE_MUST_USE PareStatus pare_uses(PareCtx *c, PareArena *a, const PareGraph *g, PareUses *out);
static inline uint32_t pare_use_count(const PareUses *u, const PareValue *v) {
  return u->first[v->id + 1] - u->first[v->id];
}
bool pare_is_output(const PareGraph *g, const PareValue *v);

/* Element i of known integer data (I32, I64, BOOL...) as int64. */
int64_t pare_data_int(const PareValue *v, int64_t i);
/* Element i of known float or integer data as double. */
double pare_data_float(const PareValue *v, int64_t i);
/* Input k of n is a constant whose elements stand for real numbers: floats, or integers that are
 * dequantised (8 or 16 bits, which hold nothing else in a model, and biases of 32). */
bool pare_is_weight(const PareNode *n, int k);

/* Invariants: every input is made before it is read, ids are in place, arities
 * fit the rows, inferred types agree. A failure is a bug of the last pass. */
PARE_MUST_USE PareStatus pare_graph_verify(PareCtx *c, const PareGraph *g);

/* --- the op table --- */
typedef struct PareCost {
  double macs, flops, bytes; /* bytes: read and written, of activations and weights */
} PareCost;

typedef struct PareTracer PareTracer; /* ir/axes.h */

typedef PareStatus PareInferFn(PareCtx *c, PareNode *n);
/* Appends nodes that compute d(loss)/d(in[i]) to din[i] for every i with
 * want[i]; leaves NULL where it is zero. dout[i] may be NULL (zero). */
typedef PareStatus PareGradFn(PareCtx *c, PareGraph *g, PareNode *n, PareValue *const *dout, const bool *want,
                              PareValue **din);
typedef PareCost PareCostFn(const PareNode *n);
/* Ties the axes of the node's inputs and outputs (DESIGN 1.2). */
typedef PareStatus PareCutFn(PareTracer *t, const PareNode *n);
/* What input k, an integer tensor that steers shapes, must hold when the node's
 * inputs and outputs have the sizes that `t` gives after the cut: fills
 * want[0..count-1]; an element may be PARE_ANY. Returns false when input k
 * does not steer shapes. */
typedef bool PareWantFn(PareTracer *t, const PareNode *n, int k, int64_t *want);
#define PARE_ANY INT64_MIN
/* Result 0 at some indices of `axis` alone: which axis of input k it is that must be given at these indices. The
 * other results are not asked for. */
typedef int PareRowsFn(const PareNode *n, int axis, int k);
enum {
  PARE_ROWS_ALL = -1, /* all of input k is read, whatever the indices */
  PARE_ROWS_NO = -2   /* the op does not work on a part of the axis */
};

typedef enum PareKernelKind {
  PARE_KERNEL_NONE, /* never run */
  PARE_KERNEL_VIEW, /* output 0 is input 0 under another type */
  PARE_KERNEL_ANY,  /* pare_cpu_ID, pare_cuda_ID */
  PARE_KERNEL_CPU,  /* pare_cpu_ID alone */
} PareKernelKind;

typedef struct PareOpInfo {
  const char *id;     /* "ADD" */
  const char *name;   /* ONNX's op type */
  const char *domain; /* "", "com.microsoft" or "pare" */
  int min_in, max_in, min_out, max_out; /* -1: no bound */
  PareInferFn *infer;
  PareGradFn *grad;
  PareCostFn *cost;
  PareCutFn *cut;
  PareWantFn *want;
  PareRowsFn *rows;
  PareKernelKind kernel;
  unsigned writes; /* bit i: input i is a state that the op updates in place */
} PareOpInfo;

extern const PareOpInfo pare_op_info[PARE_OP_COUNT];
/* Its result 0 is its input 0 under another type: nothing runs. */
static inline bool pare_is_view(const PareNode *n) { return pare_op_info[n->op].kernel == PARE_KERNEL_VIEW; }
/* Its result 0 has the elements of its input 0, each once, in whatever order. */
static inline bool pare_moves_all(const PareNode *n) { return pare_is_view(n) || n->op == PARE_OP_TRANSPOSE; }
/* How many of its first inputs hold the elements, each as it is, that its results are made of; 0: it makes others. */
int pare_moved_inputs(const PareNode *n);
/* Its results are made of the type of its input alone, whatever the elements are. */
static inline bool pare_reads_type(const PareNode *n) {
  return n->op == PARE_OP_SHAPE || n->op == PARE_OP_SIZE || n->op == PARE_OP_EYELIKE;
}
/* The row with this ONNX name and domain, or PARE_OP_COUNT. "ai.onnx" is "". */
PareOp pare_op_find(const char *domain, const char *name);

/* Raises an error that names the node. */
#define pare_fail(c, n, code, ...)                                                                 \
  pare_diag_set(&(c)->diag, (code), (c)->file, (n)->name, pare_op_info[(n)->op].name, __FILE__, __LINE__, \
                __VA_ARGS__)

#endif
