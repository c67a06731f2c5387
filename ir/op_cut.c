/* op_cut.c - the `cut` column: how each family of ops ties the axes of what it
 * reads to the axes of what it makes. "If index i of this axis goes, what goes
 * with it" is all that a rule knows. */
#include <string.h>

#include "ir/axes.h"
#include "ir/op_columns.h"

enum { MAX_SEGMENTS = 64 };

static int rank_in(const PareNode *n, int k) { return n->in[k]->type.rank; }
static int64_t dim_in(const PareNode *n, int k, int d) { return n->in[k]->type.dim[d]; }
static bool is_weight(const PareTracer *t, const PareNode *n, int k) { return t->constant[n->in[k]->id]; }
static int wrap(int64_t axis, int rank) { return (int)(axis < 0 ? axis + rank : axis); }

static void freeze_in(PareTracer *t, const PareNode *n, int k, int d, const char *why) {
  pare_axis_freeze(n, pare_axis_in(t, n, k, d), why);
}
static void freeze_out(PareTracer *t, const PareNode *n, int k, const char *why) {
  for (int d = 0; n->out[k] && d < n->out[k]->type.rank; d++) pare_axis_freeze(n, pare_axis_out(t, n, k, d), why);
}

PareStatus pare_cut_fresh(PareTracer *t, const PareNode *n) {
  (void)t, (void)n;
  return PARE_OK;
}

PareStatus pare_cut_source(PareTracer *t, const PareNode *n) {
  for (int k = 0; k < n->nout; k++) freeze_out(t, n, k, "is made of numbers that depend on the position");
  return PARE_OK;
}

PareStatus pare_cut_opaque(PareTracer *t, const PareNode *n) {
  for (int k = 0; k < n->nin; k++)
    for (int d = 0; n->in[k] && d < rank_in(n, k); d++) freeze_in(t, n, k, d, "is read by an op that cannot be cut");
  for (int k = 0; k < n->nout; k++) freeze_out(t, n, k, "is made by an op that cannot be cut");
  return PARE_OK;
}

/* Broadcasting: from the right, every axis that is not stretched is the output's. */
PareStatus pare_cut_same(PareTracer *t, const PareNode *n) {
  for (int o = 0; o < n->nout; o++) {
    if (!n->out[o]) continue;
    int rank = n->out[o]->type.rank;
    for (int k = 0; k < n->nin; k++) {
      if (!n->in[k] || rank_in(n, k) > rank) continue; /* Dropout's ratio and the like are scalars */
      for (int d = 0; d < rank_in(n, k); d++) {
        int at = rank - rank_in(n, k) + d;
        if (dim_in(n, k, d) == n->out[o]->type.dim[at] && dim_in(n, k, d) != 1)
          pare_axis_set(t, n, o, at, pare_axis_in(t, n, k, d));
      }
    }
  }
  return PARE_OK;
}

static void mark_batched(PareAxis *leaf, void *arg) {
  (void)arg;
  leaf->batched = true;
}
static void mark_inner(PareAxis *leaf, void *arg) {
  (void)arg;
  leaf->inner = true;
}

/* Contracts axis da of input a with axis db of input b. */
static PareStatus contract(PareTracer *t, const PareNode *n, int a, int da, int b, int db) {
  pare_axis_tie(t, n, pare_axis_in(t, n, a, da), pare_axis_in(t, n, b, db));
  if (is_weight(t, n, a) && is_weight(t, n, b)) return PARE_OK;
  PareContraction x = {(PareNode *)(uintptr_t)n, a, da, b, db};
  if (is_weight(t, n, a)) x = (PareContraction){(PareNode *)(uintptr_t)n, b, db, a, da};
  else if (!is_weight(t, n, b)) { /* no weight reads it, so no mask of a fan-in equals the cut: q and k of attention */
    pare_axis_leaves(pare_axis_in(t, n, a, da), mark_inner, NULL);
    freeze_in(t, n, a, da, "is summed over in a product of two activations");
    return PARE_OK;
  }
  return pare_vec_push(t->arena, &t->contractions, x) ? PARE_OK : pare_nomem(t->c);
}

/* Y[.., M, N] = A[.., M, K] B[.., K, N], either matrix transposed by attribute;
 * a rank-1 operand lacks M or N. */
PareStatus pare_cut_matmul(PareTracer *t, const PareNode *n) {
  int ra = rank_in(n, 0), rb = rank_in(n, 1), ro = n->out[0]->type.rank;
  bool ta = ra > 1 && pare_attr_get(&n->attr, transA, 0), tb = rb > 1 && pare_attr_get(&n->attr, transB, 0);
  int ka = ra == 1 ? 0 : ra - 1 - ta, ma = ra - 2 + ta, kb = rb == 1 ? 0 : rb - 2 + tb, nb = rb - 1 - tb;
  bool both = !is_weight(t, n, 0) && !is_weight(t, n, 1);
  PARE_TRY(contract(t, n, 0, ka, 1, kb));
  int tail = (ra > 1) + (rb > 1);
  if (ra > 1) pare_axis_set(t, n, 0, ro - tail, pare_axis_in(t, n, 0, ma));
  if (rb > 1) pare_axis_set(t, n, 0, ro - 1, pare_axis_in(t, n, 1, nb));
  if (both) {
    if (ra > 1) pare_axis_leaves(pare_axis_in(t, n, 0, ma), mark_inner, NULL);
    if (rb > 1) pare_axis_leaves(pare_axis_in(t, n, 1, nb), mark_inner, NULL);
  }
  for (int k = 0; k < 2; k++) {
    int batch = rank_in(n, k) - 2;
    for (int d = 0; d < batch; d++) {
      int at = ro - tail - batch + d;
      if (dim_in(n, k, d) == n->out[0]->type.dim[at] && dim_in(n, k, d) != 1)
        pare_axis_set(t, n, 0, at, pare_axis_in(t, n, k, d));
    }
  }
  for (int d = 0; both && d < ro - tail; d++) pare_axis_leaves(pare_axis_out(t, n, 0, d), mark_batched, NULL);
  return PARE_OK;
}

PareStatus pare_cut_gemm(PareTracer *t, const PareNode *n) {
  int ta = pare_attr_get(&n->attr, transA, 0) != 0, tb = pare_attr_get(&n->attr, transB, 0) != 0;
  PARE_TRY(contract(t, n, 0, 1 - ta, 1, tb));
  pare_axis_set(t, n, 0, 0, pare_axis_in(t, n, 0, ta));
  pare_axis_set(t, n, 0, 1, pare_axis_in(t, n, 1, 1 - tb));
  if (n->nin < 3 || !n->in[2]) return PARE_OK;
  for (int d = 0; d < rank_in(n, 2); d++) {
    int at = 2 - rank_in(n, 2) + d;
    if (dim_in(n, 2, d) != 1) pare_axis_set(t, n, 0, at, pare_axis_in(t, n, 2, d));
  }
  return PARE_OK;
}

/* X[N, C, ...] W[M, C/groups, ...] B[M]: channels contract, space is frozen. */
PareStatus pare_cut_conv(PareTracer *t, const PareNode *n) {
  pare_axis_set(t, n, 0, 0, pare_axis_in(t, n, 0, 0));
  pare_axis_set(t, n, 0, 1, pare_axis_in(t, n, 1, 0));
  if (n->nin > 2 && n->in[2]) pare_axis_tie(t, n, pare_axis_in(t, n, 1, 0), pare_axis_in(t, n, 2, 0));
  for (int d = 2; d < rank_in(n, 0); d++) {
    freeze_in(t, n, 0, d, "is a spatial axis of a convolution");
    freeze_in(t, n, 1, d, "is a spatial axis of a convolution");
    pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is a spatial axis of a convolution");
  }
  if (pare_attr_get(&n->attr, group, 1) == 1) return contract(t, n, 0, 1, 1, 1);
  freeze_in(t, n, 0, 1, "is read by a grouped convolution");
  freeze_in(t, n, 1, 0, "is made by a grouped convolution");
  freeze_in(t, n, 1, 1, "is read by a grouped convolution");
  return PARE_OK;
}

/* Softmax, LayerNormalization: what is normalised is frozen, the rest passes. */
PareStatus pare_cut_norm(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, -1), rank);
  bool to_the_end = n->op == PARE_OP_LAYERNORM || pare_attr_get(&n->attr, flatten, 0);
  for (int d = 0; d < rank; d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    bool normalised = d == axis || (to_the_end && d > axis);
    if (normalised) freeze_in(t, n, 0, d, "is normalised");
    for (int k = 1; k < n->nin; k++) {
      int at = d - (rank - (n->in[k] ? rank_in(n, k) : 0));
      if (n->in[k] && at >= 0 && dim_in(n, k, at) == dim_in(n, 0, d) && dim_in(n, k, at) != 1)
        pare_axis_tie(t, n, pare_axis_in(t, n, k, at), pare_axis_in(t, n, 0, d));
    }
    for (int o = 1; o < n->nout; o++)
      if (n->out[o] && !normalised) pare_axis_set(t, n, o, d, pare_axis_in(t, n, 0, d));
  }
  return PARE_OK;
}

static bool reduces(const PareNode *n, int d) {
  int rank = rank_in(n, 0);
  if (n->nin < 2 || !n->in[1] || !pare_type_count(&n->in[1]->type))
    return !pare_attr_get(&n->attr, noop_with_empty_axes, 0);
  for (int64_t i = 0; i < pare_type_count(&n->in[1]->type); i++)
    if (wrap(pare_data_int(n->in[1], i), rank) == d) return true;
  return false;
}

PareStatus pare_cut_reduce(PareTracer *t, const PareNode *n) {
  bool keep = pare_attr_get(&n->attr, keepdims, 1) != 0;
  for (int d = 0, at = 0; d < rank_in(n, 0); d++) {
    if (reduces(n, d)) {
      freeze_in(t, n, 0, d, "is averaged or summed over");
      at += keep;
    } else {
      pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
    }
  }
  return PARE_OK;
}

PareStatus pare_cut_cumsum(PareTracer *t, const PareNode *n) {
  if (!n->in[1]->data) return pare_cut_opaque(t, n);
  int axis = wrap(pare_data_int(n->in[1], 0), rank_in(n, 0));
  for (int d = 0; d < rank_in(n, 0); d++) {
    if (d == axis) freeze_in(t, n, 0, d, "is summed over");
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
  }
  return PARE_OK;
}

/* Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the same order. */
PareStatus pare_cut_reshape(PareTracer *t, const PareNode *n) {
  PareAxis *in[PARE_MAX_RANK], *out[PARE_MAX_RANK];
  int ri = rank_in(n, 0), ro = n->out[0]->type.rank;
  for (int d = 0; d < ri; d++) in[d] = pare_axis_in(t, n, 0, d);
  for (int d = 0; d < ro; d++) out[d] = pare_axis_out(t, n, 0, d);
  pare_axis_tie_lists(t, n, ri, in, ro, out);
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

PareStatus pare_cut_concat(PareTracer *t, const PareNode *n) {
  int rank = n->out[0]->type.rank, axis = wrap(pare_attr_get(&n->attr, axis, 0), rank), parts = 0;
  PareAxis *part[MAX_SEGMENTS];
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

/* Step 1: the axis is what comes before, what is kept, what comes behind. */
static PareStatus slice_axis(PareTracer *t, const PareNode *n, int entry, int d, int64_t start, int64_t step) {
  int64_t size = dim_in(n, 0, d), kept = n->out[0]->type.dim[d];
  if (kept == size && step == 1) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    return PARE_OK;
  }
  if (step != 1 || kept == 0) {
    freeze_in(t, n, 0, d, "is sliced with a step");
    pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is sliced with a step");
    return PARE_OK;
  }
  start = start < 0 ? start + size : start;
  if (start < 0) start = 0;
  int64_t sizes[3];
  PareAxis *part[3];
  int parts = 0, before = -1, behind = -1, at;
  if (start > 0) before = parts, sizes[parts++] = start;
  at = parts, sizes[parts++] = kept;
  if (start + kept < size) behind = parts, sizes[parts++] = size - start - kept;
  pare_axis_segments(t, n, pare_axis_in(t, n, 0, d), parts, sizes, part);
  pare_axis_set(t, n, 0, d, part[at]);
  PareSliceAxis s = {n, entry, before < 0 ? NULL : part[before], part[at], behind < 0 ? NULL : part[behind]};
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

PareStatus pare_cut_gather(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, 0), rank), at = 0;
  for (int d = 0; d < axis; d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
  for (int d = 0; d < rank_in(n, 1); d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 1, d));
  for (int d = axis + 1; d < rank; d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
  freeze_in(t, n, 0, axis, "is indexed by a Gather");
  return PARE_OK;
}

PareStatus pare_cut_expand(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), ro = n->out[0]->type.rank;
  for (int d = 0; d < rank; d++)
    if (dim_in(n, 0, d) == n->out[0]->type.dim[ro - rank + d] && dim_in(n, 0, d) != 1)
      pare_axis_set(t, n, 0, ro - rank + d, pare_axis_in(t, n, 0, d));
  return PARE_OK;
}
