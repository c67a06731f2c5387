/* op_infer.c - the infer column: types of a node's results from the types of
 * its inputs and, where an operand steers the shape, from its known numbers.
 * pare_infer has checked arity and that every input's type is known. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "ir/op_columns.h"

/* Which inputs' numbers a rule needs; every other rule needs none. */
static const struct {
  PareInferFn *rule;
  unsigned inputs;
} steering[] = {
    {pare_infer_reshape, 1u << 1}, {pare_infer_squeeze, 1u << 1}, {pare_infer_unsqueeze, 1u << 1},
    {pare_infer_reduce, 1u << 1},  {pare_infer_split, 1u << 1},   {pare_infer_slice, 15u << 1},
    {pare_infer_expand, 1u << 1},  {pare_infer_fill, 1u << 0},    {pare_infer_range, 7u << 0},
};

/* States change between runs: what they start as is not what they hold. */
static bool is_known(const PareValue *v) {
  if (v->role == PARE_STATE || !pare_type_known(&v->type)) return false;
  return v->data || pare_type_count(&v->type) == 0;
}

bool pare_infer_ready(const PareNode *n) {
  unsigned steers = 0;
  for (size_t i = 0; i < sizeof steering / sizeof *steering; i++)
    if (steering[i].rule == pare_op_info[n->op].infer) steers = steering[i].inputs;
  for (int i = 0; i < n->nin; i++) {
    if (!n->in[i]) continue;
    if (!pare_type_known(&n->in[i]->type)) return false;
    if (i < 8 && (steers >> i & 1u) && !is_known(n->in[i])) return false;
  }
  return true;
}

/* --- helpers --- */

/* Error: input i is wrong by itself. */
static PareStatus bad_input(PareCtx *c, const PareNode *n, int i, const char *why) {
  char t[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input %d '%s' %s: %s", i, n->in[i]->name, pare_type_text(&n->in[i]->type, t),
                   why);
}

/* Error: inputs i and j do not fit each other. */
static PareStatus clash(PareCtx *c, const PareNode *n, int i, int j, const char *why) {
  char t[PARE_TYPE_TEXT], u[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input %d '%s' %s and input %d '%s' %s: %s", i, n->in[i]->name,
                   pare_type_text(&n->in[i]->type, t), j, n->in[j]->name, pare_type_text(&n->in[j]->type, u), why);
}

/* Sets the type of result i, if anyone names it. */
static PareStatus set_out(PareCtx *c, PareNode *n, int i, PareType t) {
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
static PareStatus push_dim(PareCtx *c, const PareNode *n, PareType *t, int64_t dim) {
  if (t->rank == PARE_MAX_RANK)
    return pare_fail(c, n, PARE_UNSUPPORTED, "the result has more than the %d axes that pare supports", PARE_MAX_RANK);
  t->dim[t->rank++] = dim;
  return PARE_OK;
}

/* `axis` in [-rank, rank) of something with input `i`'s name -> [0, rank). */
static PareStatus wrap_axis(PareCtx *c, const PareNode *n, int i, int64_t axis, int rank, int *out) {
  if (axis < -rank || axis >= rank) {
    char t[PARE_TYPE_TEXT];
    return pare_fail(c, n, PARE_FORMAT, "axis %" PRId64 " is outside [%d, %d); input %d '%s' is %s", axis, -rank, rank,
                     i, n->in[i]->name, pare_type_text(&n->in[i]->type, t));
  }
  *out = (int)(axis < 0 ? axis + rank : axis);
  return PARE_OK;
}

static PareStatus same_dtype(PareCtx *c, const PareNode *n, int i, int j) {
  if (n->in[i]->type.dtype == n->in[j]->type.dtype) return PARE_OK;
  return clash(c, n, i, j, "the element types differ");
}

static bool dims_equal(const PareType *a, const PareType *b) {
  return a->rank == b->rank && (a->rank == 0 || !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim));
}

static PareStatus same_dims(PareCtx *c, const PareNode *n, int i, int j) {
  if (dims_equal(&n->in[i]->type, &n->in[j]->type)) return PARE_OK;
  return clash(c, n, i, j, "the shapes differ");
}

static PareStatus need_input(PareCtx *c, const PareNode *n, int i) {
  if (i < n->nin && n->in[i]) return PARE_OK;
  return pare_fail(c, n, PARE_FORMAT, "input %d is left out but the operator needs it", i);
}

static bool given(const PareNode *n, int i) { return i < n->nin && n->in[i]; }

/* Input i as a list of known integers: a vector, or a scalar that counts as one element. */
static PareStatus known_ints(PareCtx *c, const PareNode *n, int i, int64_t *count) {
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
static PareStatus known_axes(PareCtx *c, const PareNode *n, int i, int rank, unsigned *bits) {
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
static bool bcast_dims(PareType *t, const int64_t *dim, int rank) {
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
static PareStatus bcast_into(PareCtx *c, const PareNode *n, int first, int i, PareType *t) {
  const PareType *u = &n->in[i]->type;
  return bcast_dims(t, u->dim, u->rank) ? PARE_OK : clash(c, n, first, i, "the shapes do not broadcast");
}

/* Input i, of this type, may be stretched to `to` but not the other way round. */
static PareStatus bcast_to(PareCtx *c, const PareNode *n, int i, const PareType *to) {
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

/* --- element-wise --- */

/* Dims of inputs from..nin-1 broadcast together, of one element type. */
static PareStatus bcast_all(PareCtx *c, const PareNode *n, int from, bool one_dtype, PareType *t) {
  for (int i = from; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    if (one_dtype) PARE_TRY(same_dtype(c, n, from, i));
  }
  *t = n->in[from]->type;
  for (int i = from + 1; i < n->nin; i++) PARE_TRY(bcast_into(c, n, from, i, t));
  return PARE_OK;
}

PareStatus pare_infer_bcast(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(bcast_all(c, n, 0, true, &t));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_pow(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(bcast_all(c, n, 0, false, &t));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_compare(PareCtx *c, PareNode *n) {
  PareType t;
  PARE_TRY(bcast_all(c, n, 0, true, &t));
  t.dtype = PARE_BOOL;
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_where(PareCtx *c, PareNode *n) {
  PareType t;
  if (n->in[0]->type.dtype != PARE_BOOL) return bad_input(c, n, 0, "the condition must be bool");
  PARE_TRY(bcast_all(c, n, 1, true, &t));
  PARE_TRY(bcast_into(c, n, 1, 0, &t));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_cast(PareCtx *c, PareNode *n) {
  if (!pare_attr_has(&n->attr, to)) return pare_fail(c, n, PARE_FORMAT, "the attribute 'to' is missing");
  PareType t = n->in[0]->type;
  t.dtype = n->attr.to;
  return set_out(c, n, 0, t);
}

static PareStatus like(PareCtx *c, PareNode *n, int i) {
  PARE_TRY(need_input(c, n, i));
  return set_out(c, n, 0, n->in[i]->type);
}

/* Unary ops, ops along an axis, and gradients of both: (x or y, dy). */
PareStatus pare_infer_like0(PareCtx *c, PareNode *n) {
  int axis;
  PARE_TRY(need_input(c, n, 0));
  if (pare_attr_has(&n->attr, axis)) PARE_TRY(wrap_axis(c, n, 0, n->attr.axis, n->in[0]->type.rank, &axis));
  if (n->nin == 2 && !strcmp(pare_op_info[n->op].domain, "pare")) {
    PARE_TRY(need_input(c, n, 1));
    PARE_TRY(same_dims(c, n, 0, 1));
  }
  return like(c, n, 0);
}

/* As in inference: y = x, the mask is all true. */
PareStatus pare_infer_dropout(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  if (n->nin > 2 && n->in[2] && (!n->in[2]->data || pare_data_int(n->in[2], 0)))
    return pare_fail(c, n, PARE_UNSUPPORTED, "it drops (training mode): export the model for inference");
  PareType mask = n->in[0]->type;
  mask.dtype = PARE_BOOL;
  if (n->nout > 1) PARE_TRY(set_out(c, n, 1, mask));
  return like(c, n, 0);
}

/* SumTo: input 1 must be a shape that broadcasts to input 0's. */
PareStatus pare_infer_like1(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  PARE_TRY(bcast_to(c, n, 1, &n->in[0]->type));
  return like(c, n, 1);
}

PareStatus pare_infer_like2(PareCtx *c, PareNode *n) { return like(c, n, 2); }
PareStatus pare_infer_like5(PareCtx *c, PareNode *n) { return like(c, n, 5); }

/* Ops that only write states: what they write and read element by element has one shape. */
PareStatus pare_infer_none(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) {
    if (i > 1 && !(pare_op_info[n->op].writes >> i & 1u)) continue;
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(same_dims(c, n, 0, i));
  }
  return PARE_OK;
}

/* --- products --- */

/* An operand as the product sees it: a vector is a row on the left and a column
 * on the right, and is never transposed. */
typedef struct Matrix {
  int64_t rows, cols;
} Matrix;

static Matrix matrix_of(const PareType *t, bool left, bool trans) {
  int r = t->rank;
  if (r == 1) return left ? (Matrix){1, t->dim[0]} : (Matrix){t->dim[0], 1};
  Matrix m = {t->dim[r - 2], t->dim[r - 1]};
  return trans ? (Matrix){m.cols, m.rows} : m;
}

PareStatus pare_infer_matmul(PareCtx *c, PareNode *n) {
  const PareType *a = &n->in[0]->type, *b = &n->in[1]->type;
  PARE_TRY(same_dtype(c, n, 0, 1));
  for (int i = 0; i < 2; i++)
    if (n->in[i]->type.rank == 0) return bad_input(c, n, i, "a scalar cannot be multiplied as a matrix");
  Matrix x = matrix_of(a, true, pare_attr_get(&n->attr, transA, 0) != 0);
  Matrix y = matrix_of(b, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (x.cols != y.rows) return clash(c, n, 0, 1, "the sizes that are summed over differ");
  PareType t = {.dtype = a->dtype};
  bool fits = bcast_dims(&t, a->dim, a->rank > 2 ? a->rank - 2 : 0);
  fits = fits && bcast_dims(&t, b->dim, b->rank > 2 ? b->rank - 2 : 0);
  if (!fits) return clash(c, n, 0, 1, "the batch axes do not broadcast");
  if (a->rank > 1) PARE_TRY(push_dim(c, n, &t, x.rows));
  if (b->rank > 1) PARE_TRY(push_dim(c, n, &t, y.cols));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_gemm(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 2; i++)
    if (n->in[i]->type.rank != 2) return bad_input(c, n, i, "Gemm needs matrices of rank 2");
  PARE_TRY(same_dtype(c, n, 0, 1));
  Matrix x = matrix_of(&n->in[0]->type, true, pare_attr_get(&n->attr, transA, 0) != 0);
  Matrix y = matrix_of(&n->in[1]->type, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (x.cols != y.rows) return clash(c, n, 0, 1, "the sizes that are summed over differ");
  PareType t = {.dtype = n->in[0]->type.dtype, .rank = 2, .dim = {x.rows, y.cols}};
  if (given(n, 2)) {
    PARE_TRY(same_dtype(c, n, 0, 2));
    PARE_TRY(bcast_to(c, n, 2, &t));
  }
  return set_out(c, n, 0, t);
}

/* One spatial axis of a convolution. */
typedef struct Window {
  int64_t size, kernel, stride, dilation, pad; /* pad: before and after together */
} Window;

/* An attribute of `count` numbers for the spatial axes, each at least `least`; absent is fine. */
static PareStatus check_spatial(PareCtx *c, const PareNode *n, const char *name, bool has, const PareInts *v, int count,
                                int64_t least) {
  if (!has) return PARE_OK;
  if (v->n != count)
    return pare_fail(c, n, PARE_FORMAT, "attribute '%s' has %d numbers; input 0 '%s' needs %d", name, v->n,
                     n->in[0]->name, count);
  for (int i = 0; i < count; i++)
    if (v->at[i] < least)
      return pare_fail(c, n, PARE_UNSUPPORTED, "attribute '%s' holds %" PRId64 "; the least is %" PRId64, name,
                       v->at[i], least);
  return PARE_OK;
}

static PareStatus check_conv_attrs(PareCtx *c, const PareNode *n, int spatial) {
  const PareAttrs *a = &n->attr;
  PARE_TRY(check_spatial(c, n, "kernel_shape", pare_attr_has(a, kernel_shape), &a->kernel_shape, spatial, 1));
  PARE_TRY(check_spatial(c, n, "strides", pare_attr_has(a, strides), &a->strides, spatial, 1));
  PARE_TRY(check_spatial(c, n, "dilations", pare_attr_has(a, dilations), &a->dilations, spatial, 1));
  PARE_TRY(check_spatial(c, n, "pads", pare_attr_has(a, pads), &a->pads, 2 * spatial, 0));
  for (int i = 0; pare_attr_has(a, kernel_shape) && i < spatial; i++)
    if (a->kernel_shape.at[i] != n->in[1]->type.dim[i + 2])
      return bad_input(c, n, 1, "the attribute 'kernel_shape' says otherwise");
  return PARE_OK;
}

enum { AUTO_NOTSET, AUTO_SAME_UPPER, AUTO_SAME_LOWER, AUTO_VALID }; /* the words of auto_pad */

/* floor((size + pad - ((kernel - 1) * dilation + 1)) / stride) + 1; for SAME: ceil(size / stride). */
static PareStatus conv_out(PareCtx *c, const PareNode *n, int axis, const Window *w, bool same, int64_t *out) {
  int64_t reach, padded;
  if (same) {
    *out = w->size == 0 ? 0 : (w->size - 1) / w->stride + 1;
    return PARE_OK;
  }
  if (w->kernel < 1 || !pare_mul_i64(w->kernel - 1, w->dilation, &reach) || reach == INT64_MAX ||
      __builtin_add_overflow(w->size, w->pad, &padded) || padded < reach + 1)
    return pare_fail(c, n, PARE_FORMAT,
                     "the kernel of '%s' (%" PRId64 ", dilated by %" PRId64 ") does not fit axis %d of '%s' (%" PRId64
                     ", padded by %" PRId64 ")",
                     n->in[1]->name, w->kernel, w->dilation, axis, n->in[0]->name, w->size, w->pad);
  *out = (padded - reach - 1) / w->stride + 1;
  return PARE_OK;
}

static PareStatus conv_window(PareCtx *c, const PareNode *n, int i, int spatial, Window *w) {
  const PareAttrs *a = &n->attr;
  *w = (Window){n->in[0]->type.dim[i + 2], n->in[1]->type.dim[i + 2], 1, 1, 0};
  if (pare_attr_has(a, strides)) w->stride = a->strides.at[i];
  if (pare_attr_has(a, dilations)) w->dilation = a->dilations.at[i];
  if (!pare_attr_has(a, pads) || pare_attr_get(a, auto_pad, AUTO_NOTSET) != AUTO_NOTSET) return PARE_OK;
  if (__builtin_add_overflow(a->pads.at[i], a->pads.at[i + spatial], &w->pad))
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'pads' overflows");
  return PARE_OK;
}

static PareStatus check_conv_channels(PareCtx *c, const PareNode *n) {
  const PareType *x = &n->in[0]->type, *w = &n->in[1]->type;
  int64_t group = pare_attr_get(&n->attr, group, 1), channels;
  if (group < 1 || w->dim[0] % group || !pare_mul_i64(w->dim[1], group, &channels) || channels != x->dim[1]) {
    char t[PARE_TYPE_TEXT], u[PARE_TYPE_TEXT];
    return pare_fail(c, n, PARE_FORMAT, "the weight '%s' %s in %" PRId64 " groups does not fit the channels of '%s' %s",
                     n->in[1]->name, pare_type_text(w, t), group, n->in[0]->name, pare_type_text(x, u));
  }
  if (!given(n, 2)) return PARE_OK;
  const PareType *b = &n->in[2]->type;
  PARE_TRY(same_dtype(c, n, 0, 2));
  return b->rank == 1 && b->dim[0] == w->dim[0] ? PARE_OK : clash(c, n, 1, 2, "the bias has not one number a channel");
}

/* X[N, C, D...], W[M, C/group, K...] -> Y[N, M, ...] */
PareStatus pare_infer_conv(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type, *w = &n->in[1]->type;
  PARE_TRY(same_dtype(c, n, 0, 1));
  if (x->rank < 3) return bad_input(c, n, 0, "Conv needs a batch, channels and at least one more axis");
  if (w->rank != x->rank) return clash(c, n, 0, 1, "the ranks differ");
  int spatial = x->rank - 2;
  PARE_TRY(check_conv_attrs(c, n, spatial));
  PARE_TRY(check_conv_channels(c, n));
  int mode = pare_attr_get(&n->attr, auto_pad, AUTO_NOTSET);
  bool same = mode == AUTO_SAME_UPPER || mode == AUTO_SAME_LOWER;
  PareType t = {.dtype = x->dtype, .rank = x->rank, .dim = {x->dim[0], w->dim[0]}};
  for (int i = 0; i < spatial; i++) {
    Window win;
    PARE_TRY(conv_window(c, n, i, spatial, &win));
    PARE_TRY(conv_out(c, n, i + 2, &win, same, &t.dim[i + 2]));
  }
  return set_out(c, n, 0, t);
}

/* --- fused --- */

/* The adapters and the mask of x·m∘(W + s·A·B), from input 3 on; their numbers are those of sums. */
static PareStatus check_lora(PareCtx *c, PareNode *n, PareDtype sums, int64_t k, int64_t cols) {
  if (given(n, 3) != given(n, 4)) return pare_fail(c, n, PARE_FORMAT, "one half of an adapter is left out");
  for (int i = 3; i < n->nin; i++)
    if (given(n, i) && n->in[i]->type.dtype != sums) return bad_input(c, n, i, "has not the type that sums have");
  if (given(n, 3)) {
    const PareType *a = &n->in[3]->type, *b = &n->in[4]->type;
    if (a->rank != 2 || a->dim[0] != k || a->dim[1] < 1) return bad_input(c, n, 3, "does not fit the weight");
    if (b->rank != 2 || b->dim[0] != a->dim[1] || b->dim[1] != cols)
      return clash(c, n, 3, 4, "an adapter is A[K,r], B[r,N]");
  }
  if (given(n, 5) && (n->in[5]->type.rank != 1 || n->in[5]->type.dim[0] != k))
    return bad_input(c, n, 5, "a mask has one number for each row of the weight");
  return PARE_OK;
}

/* x[..., K], W[K, N] (or [N, K]: transB), which is f32 where x is bf16. */
static PareStatus check_linear(PareCtx *c, PareNode *n, int64_t *cols) {
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  const PareType *x = &n->in[0]->type, *w = &n->in[1]->type;
  PareDtype sums = x->dtype == PARE_BF16 ? PARE_F32 : x->dtype;
  bool t = pare_attr_get(&n->attr, transB, 0) != 0;
  if (x->rank < 1) return bad_input(c, n, 0, "has no axis to sum over");
  if (w->rank != 2 || w->dtype != sums) return clash(c, n, 0, 1, "the weight is a matrix of the type that sums have");
  if (x->dim[x->rank - 1] != w->dim[t]) return clash(c, n, 0, 1, "the sizes that are summed over differ");
  *cols = w->dim[!t];
  return check_lora(c, n, sums, w->dim[t], w->dim[!t]);
}

PareStatus pare_infer_linear(PareCtx *c, PareNode *n) {
  int64_t cols;
  PARE_TRY(check_linear(c, n, &cols));
  PareType t = n->in[0]->type;
  t.dim[t.rank - 1] = cols;
  const PareType *bias = given(n, 2) ? &n->in[2]->type : NULL;
  if (bias && (bias->rank != 1 || bias->dim[0] != cols || bias->dtype != n->in[1]->type.dtype))
    return bad_input(c, n, 2, "a bias has one number for each column of the weight");
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_lineargrad(PareCtx *c, PareNode *n) {
  int64_t cols;
  PARE_TRY(check_linear(c, n, &cols));
  PARE_TRY(need_input(c, n, 2));
  const PareType *x = &n->in[0]->type, *dy = &n->in[2]->type;
  if (dy->rank != x->rank || dy->dtype != x->dtype || dy->dim[dy->rank - 1] != cols)
    return clash(c, n, 0, 2, "the gradient does not fit");
  if (n->nout > 0) PARE_TRY(set_out(c, n, 0, *x));
  for (int i = 1; i < n->nout; i++) {
    PARE_TRY(need_input(c, n, i + 2));
    PARE_TRY(set_out(c, n, i, n->in[i + 2]->type));
  }
  return PARE_OK;
}

/* Input i as [batch, heads, rows, width]; `heads` is the axis that holds them, 1 or 2. */
static PareStatus attention_side(PareCtx *c, const PareNode *n, int i, int64_t heads, int64_t dim[4]) {
  PARE_TRY(need_input(c, n, i));
  const PareType *t = &n->in[i]->type;
  if (t->rank != 4 || t->dtype != n->in[0]->type.dtype)
    return bad_input(c, n, i, "attention is of rank 4 and one type");
  if (heads != 1 && heads != 2) return bad_input(c, n, i, "the heads are on axis 1 or 2");
  dim[0] = t->dim[0], dim[1] = t->dim[heads], dim[2] = t->dim[3 - heads], dim[3] = t->dim[3];
  return PARE_OK;
}

static PareStatus check_attention(PareCtx *c, PareNode *n, int mask, int64_t q[4], int64_t v[4]) {
  int64_t k[4];
  const PareInts *heads = &n->attr.heads;
  if (heads->n != 4) return pare_fail(c, n, PARE_FORMAT, "attribute 'heads' has %d numbers instead of 4", heads->n);
  PARE_TRY(attention_side(c, n, 0, heads->at[0], q));
  PARE_TRY(attention_side(c, n, 1, heads->at[1], k));
  PARE_TRY(attention_side(c, n, 2, heads->at[2], v));
  if (memcmp(q, k, 2 * sizeof *q) || q[3] != k[3]) return clash(c, n, 0, 1, "q and k do not fit");
  if (memcmp(k, v, 3 * sizeof *k)) return clash(c, n, 1, 2, "k and v do not fit");
  PareType scores = {n->in[0]->type.dtype == PARE_BF16 ? PARE_F32 : n->in[0]->type.dtype, 4, {q[0], q[1], q[2], k[2]}};
  if (!given(n, mask)) return PARE_OK;
  if (n->in[mask]->type.dtype != scores.dtype) return bad_input(c, n, mask, "has not the type that sums have");
  return bcast_to(c, n, mask, &scores);
}

PareStatus pare_infer_attention(PareCtx *c, PareNode *n) {
  int64_t q[4], v[4];
  PARE_TRY(check_attention(c, n, 3, q, v));
  PareDtype d = n->in[0]->type.dtype;
  PareType y = {d, 4, {q[0], q[1], q[2], v[3]}};
  if (n->attr.heads.at[3] == 2) y.dim[1] = q[2], y.dim[2] = q[1];
  else if (n->attr.heads.at[3] != 1) return bad_input(c, n, 0, "the heads of the result are on axis 1 or 2");
  PARE_TRY(set_out(c, n, 0, y));
  return set_out(c, n, 1, (PareType){d == PARE_BF16 ? PARE_F32 : d, 3, {q[0], q[1], q[2]}});
}

PareStatus pare_infer_attentiongrad(PareCtx *c, PareNode *n) {
  int64_t q[4], v[4];
  PARE_TRY(check_attention(c, n, 6, q, v));
  for (int i = 3; i < 6; i++) PARE_TRY(need_input(c, n, i));
  if (!pare_type_equal(&n->in[3]->type, &n->in[5]->type)) return clash(c, n, 3, 5, "the gradient does not fit");
  for (int i = 0; i < 3; i++) PARE_TRY(set_out(c, n, i, n->in[i]->type));
  return PARE_OK;
}

/* --- along axes --- */

PareStatus pare_infer_layernorm(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int axis;
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, -1), x->rank, &axis));
  for (int i = 1; i < n->nin; i++) {
    if (!n->in[i]) continue;
    PARE_TRY(same_dtype(c, n, 0, i));
    PARE_TRY(bcast_to(c, n, i, x));
  }
  PareType stat = *x;
  for (int a = axis; a < x->rank; a++) stat.dim[a] = 1;
  PARE_TRY(set_out(c, n, 0, *x));
  for (int i = 1; i < n->nout; i++) PARE_TRY(set_out(c, n, i, stat));
  return PARE_OK;
}

PareStatus pare_infer_layernormgrad(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) PARE_TRY(need_input(c, n, i));
  PARE_TRY(same_dims(c, n, 0, 4));
  PARE_TRY(same_dims(c, n, 2, 3));
  PARE_TRY(bcast_to(c, n, 1, &n->in[0]->type));
  PARE_TRY(bcast_to(c, n, 2, &n->in[0]->type));
  PARE_TRY(set_out(c, n, 0, n->in[0]->type));
  for (int i = 1; i < n->nout; i++) PARE_TRY(set_out(c, n, i, n->in[1]->type));
  return PARE_OK;
}

PareStatus pare_infer_reduce(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  unsigned axes = 0;
  if (given(n, 1)) PARE_TRY(known_axes(c, n, 1, x->rank, &axes));
  if (!axes && !pare_attr_get(&n->attr, noop_with_empty_axes, 0)) axes = (1u << x->rank) - 1;
  bool keep = pare_attr_get(&n->attr, keepdims, 1) != 0;
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < x->rank; a++) {
    bool gone = axes >> a & 1u;
    if (!gone || keep) t.dim[t.rank++] = gone ? 1 : x->dim[a];
  }
  return set_out(c, n, 0, t);
}

/* --- movement --- */

/* Error: the elements of input 0 do not fit the shape in input 1, the target `t`. */
static PareStatus bad_reshape(PareCtx *c, const PareNode *n, const PareType *t) {
  char u[PARE_TYPE_TEXT], v[PARE_TYPE_TEXT];
  return pare_fail(c, n, PARE_FORMAT, "input 0 '%s' %s cannot take the shape %s in input 1 '%s'", n->in[0]->name,
                   pare_type_text(&n->in[0]->type, u), pare_type_text(t, v), n->in[1]->name);
}

PareStatus pare_infer_reshape(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  bool zero_is_zero = pare_attr_get(&n->attr, allowzero, 0) != 0;
  int64_t count, total = pare_type_count(x), rest = 1;
  int open = -1;
  PARE_TRY(known_ints(c, n, 1, &count));
  PareType t = {.dtype = x->dtype};
  for (int64_t i = 0; i < count; i++) {
    int64_t d = pare_data_int(n->in[1], i);
    if (d == 0 && !zero_is_zero) {
      if (i >= x->rank) return clash(c, n, 0, 1, "a 0 in the shape copies an axis that is not there");
      d = x->dim[i];
    }
    if (d < -1) return bad_input(c, n, 1, "a size is less than -1");
    if (d == -1 && open >= 0) return bad_input(c, n, 1, "more than one size is -1");
    if (d == -1) open = (int)i;
    PARE_TRY(push_dim(c, n, &t, d));
    if (d >= 0 && !pare_mul_i64(rest, d, &rest)) return bad_reshape(c, n, &t);
  }
  if (open >= 0) {
    if (rest == 0 || total % rest) return bad_reshape(c, n, &t);
    t.dim[open] = total / rest;
  } else if (rest != total) {
    return bad_reshape(c, n, &t);
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_flatten(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int64_t axis = pare_attr_get(&n->attr, axis, 1);
  int split = x->rank; /* unlike elsewhere, axis = rank is fine */
  if (axis != x->rank) PARE_TRY(wrap_axis(c, n, 0, axis, x->rank, &split));
  PareType t = {.dtype = x->dtype, .rank = 2, .dim = {1, 1}};
  for (int a = 0; a < x->rank; a++) t.dim[a >= split] *= x->dim[a];
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_squeeze(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  unsigned axes = 0;
  if (given(n, 1)) PARE_TRY(known_axes(c, n, 1, x->rank, &axes));
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < x->rank; a++) {
    bool gone = given(n, 1) ? (axes >> a & 1u) : x->dim[a] == 1;
    if (gone && x->dim[a] != 1)
      return pare_fail(c, n, PARE_FORMAT, "axis %d of '%s' has size %" PRId64 " and cannot be squeezed", a,
                       n->in[0]->name, x->dim[a]);
    if (!gone) t.dim[t.rank++] = x->dim[a];
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_unsqueeze(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  int64_t count;
  unsigned axes;
  PARE_TRY(known_ints(c, n, 1, &count));
  if (count > PARE_MAX_RANK - x->rank)
    return pare_fail(c, n, PARE_UNSUPPORTED, "the result has more than the %d axes that pare supports", PARE_MAX_RANK);
  int rank = x->rank + (int)count;
  PARE_TRY(known_axes(c, n, 1, rank, &axes));
  PareType t = {.dtype = x->dtype, .rank = rank};
  for (int a = 0, from = 0; a < rank; a++) t.dim[a] = axes >> a & 1u ? 1 : x->dim[from++];
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_transpose(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type;
  const PareInts *perm = &n->attr.perm;
  bool has = pare_attr_has(&n->attr, perm);
  unsigned seen = 0;
  if (has && perm->n != x->rank) return bad_input(c, n, 0, "the attribute 'perm' is for another rank");
  PareType t = *x;
  for (int a = 0; a < x->rank; a++) {
    int64_t from = has ? perm->at[a] : x->rank - 1 - a;
    if (from < 0 || from >= x->rank || (seen >> from & 1u))
      return bad_input(c, n, 0, "the attribute 'perm' is no permutation of its axes");
    seen |= 1u << from;
    t.dim[a] = x->dim[from];
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_concat(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int axis;
  if (!pare_attr_has(&n->attr, axis)) return pare_fail(c, n, PARE_FORMAT, "the attribute 'axis' is missing");
  PARE_TRY(wrap_axis(c, n, 0, n->attr.axis, t.rank, &axis));
  for (int i = 1; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(same_dtype(c, n, 0, i));
    const PareType *u = &n->in[i]->type;
    if (u->rank != t.rank) return clash(c, n, 0, i, "the ranks differ");
    for (int a = 0; a < t.rank; a++)
      if (a != axis && u->dim[a] != t.dim[a]) return clash(c, n, 0, i, "an axis that is not joined differs");
    if (__builtin_add_overflow(t.dim[axis], u->dim[axis], &t.dim[axis])) return clash(c, n, 0, i, "the sum overflows");
  }
  return set_out(c, n, 0, t);
}

/* Sizes in input 1: one an output, adding up to the axis. */
static PareStatus split_by_sizes(PareCtx *c, PareNode *n, int axis) {
  PareType t = n->in[0]->type;
  int64_t count, left = t.dim[axis];
  PARE_TRY(known_ints(c, n, 1, &count));
  if (count != n->nout)
    return pare_fail(c, n, PARE_FORMAT, "input 1 '%s' has %" PRId64 " sizes for %d outputs", n->in[1]->name, count,
                     n->nout);
  for (int i = 0; i < n->nout; i++) {
    int64_t d = pare_data_int(n->in[1], i);
    bool last = i == n->nout - 1;
    if (d < 0 || d > left || (last && d != left))
      return pare_fail(c, n, PARE_FORMAT,
                       "the sizes in input 1 '%s' do not add up to the %" PRId64 " of axis %d of input 0 '%s': part %d "
                       "has %" PRId64 " where %" PRId64 " are left",
                       n->in[1]->name, n->in[0]->type.dim[axis], axis, n->in[0]->name, i, d, left);
    left -= d;
    t.dim[axis] = d;
    PARE_TRY(set_out(c, n, i, t));
  }
  return PARE_OK;
}

PareStatus pare_infer_split(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int axis;
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), t.rank, &axis));
  if (given(n, 1)) return split_by_sizes(c, n, axis);
  int64_t dim = t.dim[axis], parts = n->nout;
  bool uneven = pare_attr_has(&n->attr, num_outputs);
  if (uneven && n->attr.num_outputs != parts)
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'num_outputs' is %" PRId64 " but there are %d outputs",
                     n->attr.num_outputs, n->nout);
  int64_t part = dim / parts + (dim % parts != 0), last;
  if (!pare_mul_i64(part, parts - 1, &last) || last > dim || (!uneven && dim % parts))
    return pare_fail(c, n, PARE_FORMAT, "axis %d of '%s' has size %" PRId64 " and cannot be split into %d parts", axis,
                     n->in[0]->name, dim, n->nout);
  for (int i = 0; i < n->nout; i++) {
    t.dim[axis] = i < n->nout - 1 ? part : dim - last;
    PARE_TRY(set_out(c, n, i, t));
  }
  return PARE_OK;
}

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* Elements that start:end:step takes of an axis; step is not 0. */
static int64_t slice_count(int64_t dim, int64_t start, int64_t end, int64_t step) {
  if (start < 0) start += dim;
  if (end < 0) end += dim;
  if (step > 0) {
    start = clamp(start, 0, dim);
    end = clamp(end, 0, dim);
    return end > start ? (end - start - 1) / step + 1 : 0;
  }
  if (dim == 0) return 0;
  start = clamp(start, 0, dim - 1);
  end = clamp(end, -1, dim - 1);
  if (step == INT64_MIN) step++;
  return start > end ? (start - end - 1) / -step + 1 : 0;
}

PareStatus pare_infer_slice(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  int64_t count, other;
  unsigned seen = 0;
  PARE_TRY(known_ints(c, n, 1, &count));
  for (int i = 2; i < n->nin; i++) {
    if (!n->in[i]) continue;
    PARE_TRY(known_ints(c, n, i, &other));
    if (other != count) return clash(c, n, 1, i, "the lists differ in length");
  }
  for (int64_t i = 0; i < count; i++) {
    int axis;
    PARE_TRY(wrap_axis(c, n, 0, given(n, 3) ? pare_data_int(n->in[3], i) : i, t.rank, &axis));
    if (seen >> axis & 1u) return bad_input(c, n, 3, "an axis is named twice");
    seen |= 1u << axis;
    int64_t step = given(n, 4) ? pare_data_int(n->in[4], i) : 1;
    if (step == 0) return bad_input(c, n, 4, "a step of 0");
    t.dim[axis] = slice_count(t.dim[axis], pare_data_int(n->in[1], i), pare_data_int(n->in[2], i), step);
  }
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_gather(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type, *idx = &n->in[1]->type;
  int axis;
  if (!pare_dtype_is_int(idx->dtype)) return bad_input(c, n, 1, "indices must be integers");
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), x->rank, &axis));
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < axis; a++) PARE_TRY(push_dim(c, n, &t, x->dim[a]));
  for (int a = 0; a < idx->rank; a++) PARE_TRY(push_dim(c, n, &t, idx->dim[a]));
  for (int a = axis + 1; a < x->rank; a++) PARE_TRY(push_dim(c, n, &t, x->dim[a]));
  return set_out(c, n, 0, t);
}

/* The sizes in input i as the dims of t. */
static PareStatus known_shape(PareCtx *c, const PareNode *n, int i, PareType *t) {
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

PareStatus pare_infer_expand(PareCtx *c, PareNode *n) {
  PareType t = {.dtype = n->in[0]->type.dtype};
  PARE_TRY(known_shape(c, n, 1, &t));
  PareType wanted = t;
  const PareType *x = &n->in[0]->type;
  return bcast_dims(&t, x->dim, x->rank) ? set_out(c, n, 0, t) : bad_reshape(c, n, &wanted);
}

PareStatus pare_infer_shape(PareCtx *c, PareNode *n) {
  int64_t rank = n->in[0]->type.rank;
  int64_t start = pare_attr_get(&n->attr, start, 0), end = pare_attr_get(&n->attr, end, rank);
  start = clamp(start < 0 ? start + rank : start, 0, rank);
  end = clamp(end < 0 ? end + rank : end, 0, rank);
  return set_out(c, n, 0, (PareType){.dtype = PARE_I64, .rank = 1, .dim = {end > start ? end - start : 0}});
}

PareStatus pare_infer_fill(PareCtx *c, PareNode *n) {
  PareType t = {.dtype = given(n, 1) ? n->in[1]->type.dtype : PARE_F32};
  PARE_TRY(known_shape(c, n, 0, &t));
  if (given(n, 1) && pare_type_count(&n->in[1]->type) != 1) return bad_input(c, n, 1, "one number is needed here");
  return set_out(c, n, 0, t);
}

/* max(ceil((limit - start) / delta), 0) in exact integers; -1 where that overflows. */
static int64_t range_count_int(int64_t start, int64_t limit, int64_t delta) {
  bool up = delta > 0;
  if (up ? start >= limit : start <= limit) return 0;
  uint64_t lo = (uint64_t)(up ? start : limit), hi = (uint64_t)(up ? limit : start);
  uint64_t step = up ? (uint64_t)delta : 0 - (uint64_t)delta;
  uint64_t count = (hi - lo - 1) / step + 1;
  return count > INT64_MAX ? -1 : (int64_t)count;
}

/* The same for floats, the difference rounded to the tensor's own type. */
static int64_t range_count_float(PareDtype d, double start, double limit, double delta) {
  double span = d == PARE_F64 ? limit - start : (double)((float)limit - (float)start);
  double count = ceil(span / delta);
  if (!(count < 0x1p62)) return -1;
  return count > 0 ? (int64_t)count : 0;
}

PareStatus pare_infer_range(PareCtx *c, PareNode *n) {
  for (int i = 0; i < 3; i++) {
    const PareValue *v = n->in[i];
    PARE_TRY(same_dtype(c, n, 0, i));
    if (v->type.dtype == PARE_BOOL || pare_type_count(&v->type) != 1) return bad_input(c, n, i, "one number is needed");
    if (!is_known(v))
      return pare_fail(c, n, PARE_UNSUPPORTED, "the shape in input %d '%s' cannot be computed from the input shapes",
                       i, v->name);
  }
  PareDtype d = n->in[0]->type.dtype;
  const PareValue *start = n->in[0], *limit = n->in[1], *delta = n->in[2];
  if (pare_data_float(delta, 0) == 0) return bad_input(c, n, 2, "a step of 0");
  int64_t count = pare_dtype_is_float(d)
                      ? range_count_float(d, pare_data_float(start, 0), pare_data_float(limit, 0),
                                          pare_data_float(delta, 0))
                      : range_count_int(pare_data_int(start, 0), pare_data_int(limit, 0), pare_data_int(delta, 0));
  if (count < 0)
    return pare_fail(c, n, PARE_FORMAT, "the number of elements from '%s' to '%s' is not finite or too large",
                     start->name, limit->name);
  return set_out(c, n, 0, (PareType){.dtype = d, .rank = 1, .dim = {count}});
}

/* --- losses and criteria --- */

static PareType scalar_for(const PareType *t) {
  return (PareType){.dtype = t->dtype == PARE_F64 ? PARE_F64 : PARE_F32};
}

/* Predictions against integer labels (one a row of the last axis) or against floats of the same shape. */
PareStatus pare_infer_loss(PareCtx *c, PareNode *n) {
  PARE_TRY(need_input(c, n, 0));
  PARE_TRY(need_input(c, n, 1));
  PareType rows = n->in[0]->type;
  if (!pare_dtype_is_float(rows.dtype)) return bad_input(c, n, 0, "predictions must be floats");
  if (pare_dtype_is_float(n->in[1]->type.dtype)) {
    PARE_TRY(same_dims(c, n, 0, 1));
  } else {
    if (rows.rank == 0) return bad_input(c, n, 0, "there is no axis of classes");
    rows.rank--;
    if (!dims_equal(&rows, &n->in[1]->type)) return clash(c, n, 0, 1, "the labels are not one a row of classes");
  }
  return set_out(c, n, 0, scalar_for(&n->in[0]->type));
}

PareStatus pare_infer_scalar(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) PARE_TRY(need_input(c, n, i));
  return set_out(c, n, 0, scalar_for(&n->in[0]->type));
}

/* W[K,N] ([N,K] with transB), A[K,r], B[r,N][, dA, dB] -> row[K], col[N] */
PareStatus pare_infer_importance(PareCtx *c, PareNode *n) {
  for (int i = 0; i < n->nin; i++) {
    PARE_TRY(need_input(c, n, i));
    if (n->in[i]->type.rank != 2) return bad_input(c, n, i, "a matrix of rank 2 is needed here");
  }
  const PareType *a = &n->in[1]->type, *b = &n->in[2]->type;
  Matrix w = matrix_of(&n->in[0]->type, false, pare_attr_get(&n->attr, transB, 0) != 0);
  if (a->dim[0] != w.rows) return clash(c, n, 0, 1, "the adapter A does not fit the weight's inputs");
  if (b->dim[1] != w.cols) return clash(c, n, 0, 2, "the adapter B does not fit the weight's outputs");
  if (a->dim[1] != b->dim[0]) return clash(c, n, 1, 2, "the ranks of the adapters differ");
  if (n->nin == 5) {
    PARE_TRY(same_dims(c, n, 1, 3));
    PARE_TRY(same_dims(c, n, 2, 4));
  }
  PareType t = scalar_for(&n->in[0]->type);
  t.rank = 1;
  t.dim[0] = w.rows;
  PARE_TRY(set_out(c, n, 0, t));
  t.dim[0] = w.cols;
  return set_out(c, n, 1, t);
}
