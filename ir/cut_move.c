/* cut_move.c - the `cut` column, movement: reshapes refine axes, joins and parts make sums. */
#include "ir/cut.h"

enum { MAX_SEGMENTS = 64 };

/* A Reshape to the shape of another tensor, inside of an op or a function: the file has no place for other sizes, so
 * the axes are those of that tensor. */
static void take_axes(PareTracer *t, const PareNode *n) {
  const PareNode *of = n->op == PARE_OP_RESHAPE && n->onnx_input == PARE_INSIDE ? n->in[1]->def : NULL;
  if (!of || of->op != PARE_OP_SHAPE || rank_in(of, 0) != n->out[0]->type.rank) return;
  for (int d = 0; d < rank_in(of, 0); d++) pare_axis_set(t, n, 0, d, pare_axis_in(t, of, 0, d));
}

/* Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the same order. */
PareStatus pare_cut_reshape(PareTracer *t, const PareNode *n) {
  PareAxis *in[PARE_MAX_RANK], *out[PARE_MAX_RANK];
  int ri = rank_in(n, 0), ro = n->out[0]->type.rank;
  for (int d = 0; d < ri; d++) in[d] = pare_axis_in(t, n, 0, d);
  for (int d = 0; d < ro; d++) out[d] = pare_axis_out(t, n, 0, d);
  pare_axis_tie_lists(t, n, ri, in, ro, out);
  take_axes(t, n);
  return PARE_OK;
}

PareStatus pare_cut_permute(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0);
  for (int d = 0; d < rank; d++) {
    int from = pare_attr_has(&n->attr, perm) ? (int)n->attr.perm.at[d] : rank - 1 - d;
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, from));
  }
  return PARE_OK;
}

/* An axis that is made of copies of what is read: copies x that, both of which may go. */
static void repeat(PareTracer *t, const PareNode *n, int d) {
  PareAxis *in = pare_axis_in(t, n, 0, d), *out = pare_axis_out(t, n, 0, d);
  if (in->size < 1 || out->size < 1) return;
  PareAxis *term[2] = {pare_axis_leaf(t, out->size / in->size), in};
  if (n->op == PARE_OP_TILE && !may_change(n, 1)) pare_axis_freeze(n, term[0], "is repeated");
  pare_axis_tie_lists(t, n, 2, term, 1, &out);
}

static bool same_constant(const PareValue *a, const PareValue *b) {
  size_t bytes;
  return a == b || (a && b && a->role == PARE_CONST && b->role == PARE_CONST && a->data && b->data &&
                    pare_type_equal(&a->type, &b->type) && pare_type_bytes(&a->type, &bytes) &&
                    !memcmp(a->data, b->data, bytes));
}

/* Do x and y, of one op, make the same of the same input 0, if it is of the same type? */
static bool same_work(const PareNode *x, const PareNode *y) {
  bool axes = pare_attr_get(&x->attr, axis, 1) == pare_attr_get(&y->attr, axis, 1);
  if (pare_is_view(x)) return true;
  if (pare_op_info[x->op].cut != pare_cut_quantize || x->nin != y->nin || !axes) return false;
  for (int k = 1; k < x->nin; k++)
    if (!same_constant(x->in[k], y->in[k])) return false;
  return true;
}

enum { SAME_DEPTH = 6 }; /* a view, and pairs of quantisation before and behind it */

/* Do a and b hold the same numbers in the same type, at every size? */
static bool same_value(const PareValue *a, const PareValue *b, int depth) {
  const PareNode *x = a->def, *y = b->def;
  if (a == b) return true;
  if (!x || !y || depth == SAME_DEPTH || x->op != y->op || x->onnx_input || y->onnx_input) return false;
  return pare_type_equal(&a->type, &b->type) && same_work(x, y) && same_value(x->in[0], y->in[0], depth + 1);
}

bool pare_is_repeated(const PareNode *n) {
  if (n->op != PARE_OP_CONCAT || n->onnx_input || n->nin < 2) return false;
  for (int k = 1; k < n->nin; k++)
    if (!same_value(n->in[0], n->in[k], 0)) return false;
  return n->in[0]->role != PARE_CONST;
}

static PareStatus cut_copies(PareTracer *t, const PareNode *n, int axis) {
  for (int d = 0; d < rank_in(n, 0); d++) {
    for (int k = 1; k < n->nin; k++) pare_axis_tie(t, n, pare_axis_in(t, n, 0, d), pare_axis_in(t, n, k, d));
    if (d != axis) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
  }
  repeat(t, n, axis);
  return PARE_OK;
}

PareStatus pare_cut_concat(PareTracer *t, const PareNode *n) {
  int rank = n->out[0]->type.rank, axis = wrap(pare_attr_get(&n->attr, axis, 0), rank), parts = 0;
  PareAxis *part[MAX_SEGMENTS];
  if (pare_is_repeated(n)) return cut_copies(t, n, axis);
  if (n->nin > MAX_SEGMENTS) return pare_cut_opaque(t, n);
  for (int k = 0; k < n->nin; k++) {
    for (int d = 0; d < rank; d++)
      if (d != axis) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, k, d));
    if (dim_in(n, k, axis) > 0) part[parts++] = pare_axis_in(t, n, k, axis);
  }
  if (parts) pare_axis_set(t, n, 0, axis, pare_axis_sum(t, parts, part));
  return PARE_OK;
}

PareStatus pare_cut_split(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, 0), rank), parts = 0;
  PareAxis *part[MAX_SEGMENTS];
  int64_t size[MAX_SEGMENTS];
  if (n->nout > MAX_SEGMENTS) return pare_cut_opaque(t, n);
  for (int k = 0; k < n->nout; k++)
    if (n->out[k] && n->out[k]->type.dim[axis] > 0) size[parts++] = n->out[k]->type.dim[axis];
  pare_axis_segments(t, n, pare_axis_in(t, n, 0, axis), parts, size, part);
  for (int k = 0, i = 0; k < n->nout; k++) {
    if (!n->out[k]) continue;
    for (int d = 0; d < rank; d++)
      if (d != axis) pare_axis_set(t, n, k, d, pare_axis_in(t, n, 0, d));
    if (n->out[k]->type.dim[axis] > 0) pare_axis_set(t, n, k, axis, part[i++]);
  }
  return PARE_OK;
}

/* Every step-th element, all the way: the axis is pairs (or more) of which one is taken, as Reshape and Gather take it. */
static bool slice_of_each(PareTracer *t, const PareNode *n, int d, int64_t start, int64_t step) {
  int64_t size = dim_in(n, 0, d), kept = n->out[0]->type.dim[d];
  if (step < 2 || start < 0 || start >= step || kept * step != size) return false;
  PareAxis *axis = pare_axis_in(t, n, 0, d), *part[2] = {pare_axis_leaf(t, kept), pare_axis_leaf(t, step)};
  pare_axis_tie_lists(t, n, 1, &axis, 2, part);
  pare_axis_freeze(n, part[1], "is sliced with a step");
  pare_axis_set(t, n, 0, d, part[0]);
  return true;
}

/* Step 1: the axis is what comes before, what is kept, what comes behind. */
static PareStatus slice_axis(PareTracer *t, const PareNode *n, int entry, int d, int64_t start, int64_t step) {
  int64_t size = dim_in(n, 0, d), kept = n->out[0]->type.dim[d];
  if (kept == size && step == 1) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    return PARE_OK;
  }
  if (slice_of_each(t, n, d, start, step)) return PARE_OK;
  if (step != 1 || kept == 0) {
    freeze_in(t, n, 0, d, "is sliced with a step");
    pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is sliced with a step");
    return PARE_OK;
  }
  start = start < 0 ? start + size : start;
  if (start < 0) start = 0;
  PareAxis *part[3];
  pare_axis_part(t, n, pare_axis_in(t, n, 0, d), start, kept, part);
  pare_axis_set(t, n, 0, d, part[1]);
  PareSliceAxis s = {n, entry, part[0], part[1], part[2]};
  return pare_vec_push(t->arena, &t->slices, s) ? PARE_OK : pare_nomem(t->c);
}

PareStatus pare_cut_slice(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0);
  int64_t count = pare_type_count(&n->in[1]->type);
  bool sliced[PARE_MAX_RANK] = {false};
  for (int64_t i = 0; i < count; i++) {
    int d = wrap(n->nin > 3 && n->in[3] ? pare_data_int(n->in[3], i) : i, rank);
    int64_t step = n->nin > 4 && n->in[4] ? pare_data_int(n->in[4], i) : 1;
    sliced[d] = true;
    PARE_TRY(slice_axis(t, n, (int)i, d, pare_data_int(n->in[1], i), step));
  }
  for (int d = 0; d < rank; d++)
    if (!sliced[d]) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
  return PARE_OK;
}

/* ConstantOfShape: of the shape of another tensor (zeros_like) it has that tensor's axes. */
PareStatus pare_cut_fill(PareTracer *t, const PareNode *n) {
  const PareNode *of = n->in[0]->def;
  if (!of || of->op != PARE_OP_SHAPE || rank_in(of, 0) != n->out[0]->type.rank) return PARE_OK;
  for (int d = 0; d < rank_in(of, 0); d++) pare_axis_set(t, n, 0, d, pare_axis_in(t, of, 0, d));
  return PARE_OK;
}

PareStatus pare_cut_expand(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), ro = n->out[0]->type.rank;
  for (int d = 0; d < rank; d++)
    if (dim_in(n, 0, d) == n->out[0]->type.dim[ro - rank + d] && dim_in(n, 0, d) != 1)
      pare_axis_set(t, n, 0, ro - rank + d, pare_axis_in(t, n, 0, d));
  return PARE_OK;
}

/* Pad: axes that grow or shrink keep all their elements. */
PareStatus pare_cut_grow(PareTracer *t, const PareNode *n) {
  for (int d = 0; d < rank_in(n, 0); d++) {
    bool same = true;
    if (n->op == PARE_OP_TILE && pare_data_int(n->in[1], d) != 1) {
      repeat(t, n, d);
      continue;
    }
    int64_t naxes = n->op == PARE_OP_PAD ? pare_type_count(&n->in[1]->type) / 2 : 0;
    for (int64_t i = 0; i < naxes; i++) {
      int axis = wrap(n->nin > 3 && n->in[3] ? pare_data_int(n->in[3], i) : i, rank_in(n, 0));
      if (axis == d) same = pare_data_int(n->in[1], i) == 0 && pare_data_int(n->in[1], naxes + i) == 0;
    }
    if (same) {
      pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
      continue;
    }
    freeze_in(t, n, 0, d, "is repeated or padded");
    pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is repeated or padded");
  }
  return PARE_OK;
}

PareStatus pare_cut_trilu(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0);
  for (int d = 0; d < rank; d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    if (d >= rank - 2) freeze_in(t, n, 0, d, "is cut off along a diagonal");
  }
  return PARE_OK;
}
