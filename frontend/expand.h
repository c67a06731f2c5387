/* expand.h - composite ops (fused ones of com.microsoft, functions of the
 * standard) become graphs of the ops of ir/ops.def at import, so that gradients,
 * tracing, cutting and kernels come for free. One row an op: expand.def.
 *
 * Emission edits the ONNX node, so the nodes of an expansion remember what they
 * stand for: every constant that is an input of the ONNX node is read by one
 * Identity (PareNode.onnx_input), and an attribute that steers shapes is a
 * constant that knows its attribute, one a name. Where an op begins with the sum of
 * a stream and a branch, its Adds say so (PARE_IN_SUM). What can be expressed in none
 * of these ways is refused by backend/edits.c.
 *
 * An expansion that has failed goes on with NULLs; `status` keeps the failure. */
#ifndef PARE_FRONTEND_EXPAND_H
#define PARE_FRONTEND_EXPAND_H

#include <onnx.pb-c.h>

#include "frontend/facts.h"
#include "frontend/functions.h"

typedef struct PareExpand PareExpand;
typedef void PareExpandFn(PareExpand *x);

typedef struct PareExpandRow {
  const char *name, *domain;
  int min_in, max_in, max_out; /* max_in -1: no bound */
  const char *attrs;           /* that it knows, with blanks between */
  PareExpandFn *expand;
} PareExpandRow;

/* A constant that stands for an attribute. */
typedef struct PareExpandAttr {
  const char *name;
  PareValue *list;
} PareExpandAttr;

struct PareExpand {
  PareCtx *c;
  PareGraph *g;
  PareFacts *facts;
  const PareExpandRow *row;
  const Onnx__NodeProto *p;
  const char *name; /* the ONNX node's: its nodes are called NAME/role */
  uint32_t index;       /* of the ONNX node, or of the call in the graph in whose body it stands */
  uint32_t at;          /* of the ONNX node where it stands */
  const PareCall *call; /* in whose body that is; NULL: in the graph */
  int64_t opset;    /* of the op's domain; 0: the file does not import it */
  int nin, nout;
  PareValue **given; /* the ONNX node's inputs; NULL: left out */
  PareValue **in;    /* the same as the expansion reads them, once it has */
  PareValue **out;   /* the ONNX node's outputs, once they are there; the caller names them */
  PARE_VEC(PareExpandAttr) attr;
  PareStatus status;
};

#define EXPAND(fn, name, domain, lo, hi, nout, attrs) PareExpandFn pare_expand_##fn;
#define REFUSED(name, domain, why)
#include "frontend/expand.def"
#undef EXPAND
#undef REFUSED

/* The row of an op, or NULL. */
const PareExpandRow *pare_expand_find(const char *domain, const char *name);
/* Why an op can be neither imported nor expanded, or NULL where nothing is known of it. */
const char *pare_expand_refusal(const char *domain, const char *name);
/* Appends the nodes; x->out has all outputs that the ONNX node names. */
PARE_MUST_USE PareStatus pare_expand(PareExpand *x);

/* --- what expansions are written in --- */

/* Records the failure; NULL, for returning. */
__attribute__((format(printf, 3, 4))) PareValue *pare_expand_fail(PareExpand *x, PareStatus s, const char *fmt, ...);

static inline bool pare_expand_has(const PareExpand *x, int k) { return k < x->nin && x->given[k]; }
static inline bool pare_expand_wants(const PareExpand *x, int k) {
  return k < x->nout && x->p->output[k] && *x->p->output[k];
}
/* ONNX input k; a failure when it is left out. */
PareValue *pare_expand_in(PareExpand *x, int k);
/* v is ONNX's output k. */
void pare_expand_out(PareExpand *x, int k, PareValue *v);
PareFact pare_expand_fact(const PareExpand *x, const PareValue *v);
/* The same as pare_expand_in; a failure when it is known to be of another rank. */
PareValue *pare_expand_in_of(PareExpand *x, int k, int rank);

/* One node NAME/role; operands may be NULL at the end or where the op allows it. */
PareNode *pare_expand_node(PareExpand *x, PareOp op, const char *role, const PareAttrs *attr, int nin,
                           PareValue *const *in, int nout);
PareValue *pare_expand_op(PareExpand *x, PareOp op, const char *role, const PareAttrs *attr, int nin,
                          PareValue *const *in);
#define PARE_EXPAND_OP(x, op, role, attr, ...)                                           \
  pare_expand_op((x), PARE_OP_##op, (role), (attr),                                      \
                 (int)(sizeof((PareValue *[]){__VA_ARGS__}) / sizeof(PareValue *)),      \
                 (PareValue *[]){__VA_ARGS__})

/* Constants of pare's own: a list of integers, a scalar, a scalar of the type that `like` has (NULL: f32). */
PareValue *pare_expand_ints(PareExpand *x, int n, const int64_t *v);
#define PARE_EXPAND_INTS(x, ...) \
  pare_expand_ints((x), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
PareValue *pare_expand_int(PareExpand *x, int64_t v);
PareValue *pare_expand_float(PareExpand *x, const PareValue *like, double v);

/* Size of an axis: a list of one, or a scalar. */
PareValue *pare_expand_dim(PareExpand *x, PareValue *v, int64_t axis);
PareValue *pare_expand_size(PareExpand *x, PareValue *v, int64_t axis);
PareValue *pare_expand_join(PareExpand *x, const char *role, int64_t axis, int n, PareValue *const *part);
#define PARE_EXPAND_JOIN(x, role, axis, ...)                                       \
  pare_expand_join((x), (role), (axis),                                            \
                   (int)(sizeof((PareValue *[]){__VA_ARGS__}) / sizeof(PareValue *)), \
                   (PareValue *[]){__VA_ARGS__})
PareValue *pare_expand_transpose(PareExpand *x, const char *role, PareValue *v, int rank, const int64_t *perm);
PareValue *pare_expand_cast(PareExpand *x, PareValue *v, PareDtype to);
/* Consecutive parts along an axis, of these sizes, or equal ones where `sizes` is NULL. */
void pare_expand_split(PareExpand *x, const char *role, PareValue *v, int64_t axis, PareValue *sizes, int n,
                       PareValue **part);

/* The integers at input k as floats, by the scale and (where it is there) the zero point at these inputs; `axis` is that
 * of a list of scales. */
PareValue *pare_expand_floats(PareExpand *x, const char *role, int k, int scale, int zero, int64_t axis);

/* Attributes; a value of another kind is a failure. */
bool pare_expand_has_attr(const PareExpand *x, const char *name);
int64_t pare_expand_attr_int(PareExpand *x, const char *name, int64_t dflt);
double pare_expand_attr_float(PareExpand *x, const char *name, double dflt);
bool pare_expand_attr_is(PareExpand *x, const char *name, const char *word);
/* Number k of a list of floats; `dflt` where the list ends before. */
double pare_expand_attr_number(PareExpand *x, const char *name, int k, double dflt);
/* False where it is absent or a failure. */
bool pare_expand_attr_ints(PareExpand *x, const char *name, PareInts *out);
/* Those of a pool; of a convolution. */
PareAttrs pare_expand_window_attrs(PareExpand *x);
PareAttrs pare_expand_conv_attrs(PareExpand *x);
/* The attribute's integers, or `dflt`, as a list that no cut changes. */
PareValue *pare_expand_list(PareExpand *x, const char *name, int ndflt, const int64_t *dflt);
/* The attribute as a list of sizes that the cut can change; one that is absent gets
 * `dflt`, and is added to the file once its numbers differ (NULL: it must be there). */
PareValue *pare_expand_attr(PareExpand *x, const char *name, int ndflt, const int64_t *dflt);

#endif
