/* infer.h - what the rules of the infer column share: sentences for what does not
 * fit, axes that count from the end, operands whose numbers steer a shape, and
 * numpy's broadcasting. pare_infer has checked arity and that inputs' types are known. */
#ifndef PARE_IR_INFER_H
#define PARE_IR_INFER_H

#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "ir/op_columns.h"

/* States change between runs: what they start as is not what they hold. */
static inline bool is_known(const PareValue *v) {
  if (v->role == PARE_STATE || !pare_type_known(&v->type)) return false;
  return v->data || pare_type_count(&v->type) == 0;
}

/* Error: input i is wrong by itself. */
static inline PareStatus bad_input(PareCtx *c, const PareNode *n, int i, const char *why) {
  char t[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input %d '%s' %s: %s", i, n->in[i]->name, pare_type_text(&n->in[i]->type, t),
                   why);
}

/* Error: inputs i and j do not fit each other. */
static inline PareStatus clash(PareCtx *c, const PareNode *n, int i, int j, const char *why) {
  char t[PARE_TYPE_TEXT], u[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input %d '%s' %s and input %d '%s' %s: %s", i, n->in[i]->name,
                   pare_type_text(&n->in[i]->type, t), j, n->in[j]->name, pare_type_text(&n->in[j]->type, u), why);
}

/* Sets the type of result i, if anyone names it. */
static inline PareStatus set_out(PareCtx *c, PareNode *n, int i, PareType t) {
  size_t bytes;
  for (int a = t.rank; a < PARE_MAX_RANK; a++) t.dim[a] = 0;
  if (!pare_type_bytes(&t, &bytes)) {
    char text[PARE_TYPE_TEXT];
    return pare_fail(c, n, PARE_FORMAT, "the size of output %d, %s, overflows", i, pare_type_text(&t, text));
  }
  if (n->out[i]) n->out[i]->type = t;
  return PARE_OK;
}

/* Appends an axis. */
static inline PareStatus push_dim(PareCtx *c, const PareNode *n, PareType *t, int64_t dim) {
  if (t->rank == PARE_MAX_RANK)
    return pare_fail(c, n, PARE_UNSUPPORTED, "the result has more than the %d axes that pare supports", PARE_MAX_RANK);
  t->dim[t->rank++] = dim;
  return PARE_OK;
}

/* `axis` in [-rank, rank) of something with input `i`'s name -> [0, rank). */
static inline PareStatus wrap_axis(PareCtx *c, const PareNode *n, int i, int64_t axis, int rank, int *out) {
  if (axis < -rank || axis >= rank) {
    char t[PARE_TYPE_TEXT];
    return pare_fail(c, n, PARE_FORMAT, "axis %" PRId64 " is outside [%d, %d); input %d '%s' is %s", axis, -rank, rank,
                     i, n->in[i]->name, pare_type_text(&n->in[i]->type, t));
  }
  *out = (int)(axis < 0 ? axis + rank : axis);
  return PARE_OK;
}

static inline PareStatus same_dtype(PareCtx *c, const PareNode *n, int i, int j) {
  if (n->in[i]->type.dtype == n->in[j]->type.dtype) return PARE_OK;
  return clash(c, n, i, j, "the element types differ");
}

static inline bool dims_equal(const PareType *a, const PareType *b) {
  return a->rank == b->rank && (a->rank == 0 || !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim));
}

static inline PareStatus same_dims(PareCtx *c, const PareNode *n, int i, int j) {
  if (dims_equal(&n->in[i]->type, &n->in[j]->type)) return PARE_OK;
  return clash(c, n, i, j, "the shapes differ");
}

static inline PareStatus need_input(PareCtx *c, const PareNode *n, int i) {
  if (i < n->nin && n->in[i]) return PARE_OK;
  return pare_fail(c, n, PARE_FORMAT, "input %d is left out but the operator needs it", i);
}

static inline bool given(const PareNode *n, int i) { return i < n->nin && n->in[i]; }

/* Input i as a list of known integers: a vector, or a scalar that counts as one element. */
static inline PareStatus known_ints(PareCtx *c, const PareNode *n, int i, int64_t *count) {
  const PareValue *v = n->in[i];
  if (!pare_dtype_is_int(v->type.dtype)) return bad_input(c, n, i, "an integer tensor is needed here");
  if (v->type.rank > 1) return bad_input(c, n, i, "a list of numbers is needed here, of rank 1");
  if (!is_known(v))
    return pare_fail(c, n, PARE_UNSUPPORTED, "the shape in input %d '%s' cannot be computed from the input shapes", i,
                     v->name);
  *count = pare_type_count(&v->type);
  return PARE_OK;
}

/* Known integers in input i that are axes of a tensor of this rank: sets bits. A repeated axis is an error. */
static inline PareStatus known_axes(PareCtx *c, const PareNode *n, int i, int rank, unsigned *bits) {
  int64_t count;
  PARE_TRY(known_ints(c, n, i, &count));
  *bits = 0;
  for (int64_t k = 0; k < count; k++) {
    int axis;
    PARE_TRY(wrap_axis(c, n, 0, pare_data_int(n->in[i], k), rank, &axis));
    if (*bits >> axis & 1u) return bad_input(c, n, i, "an axis is named twice");
    *bits |= 1u << axis;
  }
  return PARE_OK;
}

/* Broadcasts `rank` dims into t by numpy's rule: aligned at the end, 1 stretches. */
static inline bool bcast_dims(PareType *t, const int64_t *dim, int rank) {
  int grow = rank - t->rank;
  if (grow > 0) {
    memmove(t->dim + grow, t->dim, (size_t)t->rank * sizeof *t->dim);
    for (int a = 0; a < grow; a++) t->dim[a] = 1;
    t->rank = rank;
  }
  for (int a = 0; a < rank; a++) {
    int64_t *d = &t->dim[t->rank - rank + a];
    if (*d == 1) *d = dim[a];
    else if (dim[a] != 1 && dim[a] != *d) return false;
  }
  return true;
}

/* The same with input i; errors name it beside the input `first`. */
static inline PareStatus bcast_into(PareCtx *c, const PareNode *n, int first, int i, PareType *t) {
  const PareType *u = &n->in[i]->type;
  return bcast_dims(t, u->dim, u->rank) ? PARE_OK : clash(c, n, first, i, "the shapes do not broadcast");
}

/* Input i, of this type, may be stretched to `to` but not the other way round. */
static inline PareStatus bcast_to(PareCtx *c, const PareNode *n, int i, const PareType *to) {
  const PareType *t = &n->in[i]->type;
  bool ok = t->rank <= to->rank;
  for (int a = 0; ok && a < t->rank; a++) {
    int64_t d = to->dim[to->rank - t->rank + a];
    ok = t->dim[a] == 1 || t->dim[a] == d;
  }
  if (ok) return PARE_OK;
  char u[PARE_TYPE_TEXT], v[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input %d '%s' %s does not broadcast to %s", i, n->in[i]->name,
                   pare_type_text(t, u), pare_type_text(to, v));
}

/* The sizes in input i as the dims of t. */
static inline PareStatus known_shape(PareCtx *c, const PareNode *n, int i, PareType *t) {
  int64_t count;
  PARE_TRY(known_ints(c, n, i, &count));
  t->rank = 0;
  for (int64_t k = 0; k < count; k++) {
    int64_t d = pare_data_int(n->in[i], k);
    if (d < 0) return bad_input(c, n, i, "a size is negative");
    PARE_TRY(push_dim(c, n, t, d));
  }
  return PARE_OK;
}

static inline int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* An operand as the product sees it: a vector is a row on the left and a column
 * on the right, and is never transposed. */
typedef struct Matrix {
  int64_t rows, cols;
} Matrix;

static inline Matrix matrix_of(const PareType *t, bool left, bool trans) {
  int r = t->rank;
  if (r == 1) return left ? (Matrix){1, t->dim[0]} : (Matrix){t->dim[0], 1};
  Matrix m = {t->dim[r - 2], t->dim[r - 1]};
  return trans ? (Matrix){m.cols, m.rows} : m;
}

#endif
