/* op_rows.c - the `rows` column: what an op must be given to make its result at some indices of one axis alone. Types
 * are concrete. */
#include "ir/axes.h"
#include "ir/cut.h"
#include "ir/op_columns.h"

int pare_rows_none(const PareNode *n, int axis, int k) {
  (void)n, (void)axis, (void)k;
  return PARE_ROWS_NO;
}

/* Axis `axis` of `rank` ones as input k has it, which broadcasts to them. */
static int aligned(const PareNode *n, int rank, int axis, int k) {
  int at = axis - (rank - rank_in(n, k));
  return at < 0 || dim_in(n, k, at) == 1 ? PARE_ROWS_ALL : at;
}

int pare_rows_bcast(const PareNode *n, int axis, int k) { return aligned(n, n->out[0]->type.rank, axis, k); }

int pare_rows_norm(const PareNode *n, int axis, int k) {
  int first = wrap(pare_attr_get(&n->attr, axis, -1), rank_in(n, 0));
  bool to_the_end = n->op == PARE_OP_LAYERNORM || pare_attr_get(&n->attr, flatten, 0);
  if (axis == first || (to_the_end && axis > first)) return PARE_ROWS_NO;
  return aligned(n, rank_in(n, 0), axis, k);
}

int pare_rows_reduce(const PareNode *n, int axis, int k) {
  if (k) return PARE_ROWS_ALL;
  bool same_axes = pare_attr_get(&n->attr, keepdims, 1) != 0;
  return same_axes && n->out[0]->type.dim[axis] == dim_in(n, 0, axis) && dim_in(n, 0, axis) != 1 ? axis : PARE_ROWS_NO;
}

/* The axis of input 0 with as many elements before it, and in it. */
int pare_rows_view(const PareNode *n, int axis, int k) {
  const PareType *x = &n->in[0]->type, *y = &n->out[0]->type;
  int64_t before = 1, skipped = 1;
  if (k) return PARE_ROWS_ALL;
  for (int d = 0; d < axis; d++) before *= y->dim[d];
  for (int d = 0; d < x->rank; skipped *= x->dim[d++])
    if (skipped == before && x->dim[d] == y->dim[axis]) return d;
  return PARE_ROWS_NO;
}

int pare_rows_transpose(const PareNode *n, int axis, int k) {
  (void)k;
  if (!pare_attr_has(&n->attr, perm)) return rank_in(n, 0) - 1 - axis;
  return wrap(n->attr.perm.at[axis], rank_in(n, 0));
}

int pare_rows_concat(const PareNode *n, int axis, int k) {
  (void)k;
  return axis == wrap(n->attr.axis, n->out[0]->type.rank) ? PARE_ROWS_NO : axis;
}

int pare_rows_matmul(const PareNode *n, int axis, int k) {
  int rank = n->out[0]->type.rank, of = rank_in(n, k);
  if (rank_in(n, 0) < 2 || rank_in(n, 1) < 2) return PARE_ROWS_NO;
  if (axis < rank - 2) return aligned(n, rank, axis, k);
  bool cols = axis == rank - 1;
  bool transposed = k ? pare_attr_get(&n->attr, transB, 0) : pare_attr_get(&n->attr, transA, 0);
  if (cols != (k == 1)) return PARE_ROWS_ALL;
  return of - 2 + (cols != transposed);
}

/* x[..., K] */
int pare_rows_linear(const PareNode *n, int axis, int k) {
  if (axis == rank_in(n, 0) - 1) return PARE_ROWS_NO;
  return k ? PARE_ROWS_ALL : axis;
}

/* Queries: each has its row of scores, hence of the mask [batch, heads, rows, columns]. */
int pare_rows_attention(const PareNode *n, int axis, int k) {
  enum { Q, K, V, MASK, Y = 3 };
  const int64_t *heads = n->attr.heads.at;
  if (axis != 3 - (int)heads[Y]) return PARE_ROWS_NO;
  if (k == Q) return 3 - (int)heads[Q];
  return k == MASK ? aligned(n, 4, 2, MASK) : PARE_ROWS_ALL;
}
