/* grad.h - what the rules of the gradient column share. Each appends the nodes that
 * compute d(loss)/d(input) from d(loss)/d(output). Rules run on bound graphs and copy
 * the forward node's name, so that an error in the backward pass names it. */
#ifndef PARE_IR_GRAD_H
#define PARE_IR_GRAD_H

#include <string.h>

#include "ir/op_columns.h"

/* Appends one node and yields its result; leaves the rule when that fails. */
#define EMIT(var, op, attr, ...)                                                       \
  PareValue *var = PARE_EMIT(c, g, NULL, PARE_OP_##op, n->name, (attr), __VA_ARGS__);  \
  if (!var) return c->diag.code

#define RULE(id) PareStatus pare_grad_##id(PareCtx *c, PareGraph *g, PareNode *n, PareValue *const *dout, \
                                           const bool *want, PareValue **din)

static inline bool same_shape(const PareType *a, const PareType *b) {
  return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]);
}

/* x, summed over the axes along which `like` was broadcast. */
static inline PareStatus sum_to(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, PareValue *like, PareValue **out) {
  *out = x;
  if (same_shape(&x->type, &like->type)) return PARE_OK;
  *out = PARE_EMIT(c, g, NULL, PARE_OP_SUMTO, n->name, NULL, x, like);
  return *out ? PARE_OK : c->diag.code;
}

/* x[n, c, ...], or [n] of one channel, summed over all axes but that of channels: [c]. */
static inline PareStatus channel_sum(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, PareValue **out) {
  int64_t axes[PARE_MAX_RANK] = {0};
  PareAttrs attr = {0};
  if (!x) return c->diag.code;
  int rank = x->type.rank;
  for (int i = 1; i + 1 < rank; i++) axes[i] = i + 1;
  pare_attr_set(&attr, keepdims, rank == 1);
  PareValue *list = pare_const_ints(c, g, n->name, rank > 1 ? rank - 1 : 1, axes);
  *out = list ? PARE_EMIT(c, g, NULL, PARE_OP_REDUCESUM, n->name, &attr, x, list) : NULL;
  return *out ? PARE_OK : c->diag.code;
}

/* x under the given dims: a view, so it costs nothing. */
static inline PareStatus reshape(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, int rank, const int64_t *dim,
                          PareValue **out) {
  *out = x;
  if (x->type.rank == rank && !memcmp(x->type.dim, dim, (size_t)rank * sizeof *dim)) return PARE_OK;
  PareValue *shape = pare_const_ints(c, g, n->name, rank, dim);
  if (!shape) return c->diag.code;
  PareAttrs attr = {0};
  pare_attr_set(&attr, allowzero, 1); /* a dim of 0 is an empty axis here */
  *out = PARE_EMIT(c, g, NULL, PARE_OP_RESHAPE, n->name, &attr, x, shape);
  return *out ? PARE_OK : c->diag.code;
}

/* x times a number; x itself for 1. */
static inline PareStatus times(PareCtx *c, PareGraph *g, PareNode *n, PareValue *x, double factor, PareValue **out) {
  *out = x;
  if (factor == 1) return PARE_OK;
  PareValue *k = pare_const_float(c, g, n->name, x->type.dtype, factor);
  if (!k) return c->diag.code;
  *out = PARE_EMIT(c, g, NULL, PARE_OP_MUL, n->name, NULL, x, k);
  return *out ? PARE_OK : c->diag.code;
}

static inline PareValue *zeros_like(PareCtx *c, PareGraph *g, PareNode *n, const PareValue *v) {
  PareValue *shape = pare_const_ints(c, g, n->name, v->type.rank, v->type.dim);
  PareValue *zero = pare_const_float(c, g, n->name, v->type.dtype, 0);
  if (!shape || !zero) return NULL;
  return PARE_EMIT(c, g, NULL, PARE_OP_CONSTANTOFSHAPE, n->name, NULL, shape, zero);
}

static inline int64_t axis_of(int64_t axis, int rank) { return axis < 0 ? axis + rank : axis; }

/* For rules that are formulas: each call appends one node. NULL operands and a
 * failure yield NULL, so that calls nest; the rule looks at the last. */
typedef struct Tape {
  PareCtx *c;
  PareGraph *g;
  PareNode *n;
} Tape;

static inline PareValue *op1(const Tape *t, PareOp op, PareValue *x) {
  return x ? PARE_EMIT(t->c, t->g, NULL, op, t->n->name, NULL, x) : NULL;
}
static inline PareValue *op2(const Tape *t, PareOp op, PareValue *x, PareValue *y) {
  return x && y ? PARE_EMIT(t->c, t->g, NULL, op, t->n->name, NULL, x, y) : NULL;
}
static inline PareValue *choose(const Tape *t, PareValue *yes, PareValue *x, PareValue *y) {
  return yes && x && y ? PARE_EMIT(t->c, t->g, NULL, PARE_OP_WHERE, t->n->name, NULL, yes, x, y) : NULL;
}
/* A number of the type of the node's first input. */
static inline PareValue *number(const Tape *t, double v) {
  return pare_const_float(t->c, t->g, t->n->name, t->n->in[0]->type.dtype, v);
}
static inline PareValue *mul(const Tape *t, PareValue *x, PareValue *y) { return op2(t, PARE_OP_MUL, x, y); }
static inline PareValue *add(const Tape *t, PareValue *x, PareValue *y) { return op2(t, PARE_OP_ADD, x, y); }
static inline PareValue *sub(const Tape *t, PareValue *x, PareValue *y) { return op2(t, PARE_OP_SUB, x, y); }
static inline PareValue *quot(const Tape *t, PareValue *x, PareValue *y) { return op2(t, PARE_OP_DIV, x, y); }
static inline PareValue *above(const Tape *t, PareValue *x, double v) {
  return op2(t, PARE_OP_GREATER, x, number(t, v));
}

#endif
