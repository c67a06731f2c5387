/* op_want.c - the `want` column: what an integer operand that steers shapes must
 * hold once axes have been cut. */
#include "ir/axes.h"
#include "ir/op_columns.h"

bool pare_want_none(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  (void)t, (void)n, (void)k, (void)want;
  return false;
}

/* Output dims of `n`, aligned to the right of `count` elements. */
static void out_dims(PareTracer *t, const PareNode *n, int64_t count, int64_t *want) {
  PareType type = pare_axis_type(t, n->out[0]);
  for (int64_t i = 0; i < count; i++) {
    int64_t d = i + type.rank - count;
    want[i] = d < 0 ? PARE_ANY : type.dim[d];
  }
}

/* 0 copies and -1 infers: both follow the input by themselves. */
bool pare_want_reshape(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 1) return false;
  int64_t count = pare_type_count(&n->in[1]->type);
  out_dims(t, n, count, want);
  for (int64_t i = 0; i < count; i++) {
    int64_t old = pare_data_int(n->in[1], i);
    if (old == -1 || (old == 0 && !pare_attr_get(&n->attr, allowzero, 0))) want[i] = PARE_ANY;
  }
  return true;
}

/* A target of 1 leaves the input's dim as it is. */
bool pare_want_expand(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 1) return false;
  int64_t count = pare_type_count(&n->in[1]->type);
  out_dims(t, n, count, want);
  for (int64_t i = 0; i < count; i++)
    if (pare_data_int(n->in[1], i) == 1) want[i] = PARE_ANY;
  return true;
}

bool pare_want_fill(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 0) return false;
  out_dims(t, n, pare_type_count(&n->in[0]->type), want);
  return true;
}

bool pare_want_split(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 1) return false;
  int64_t axis = pare_attr_get(&n->attr, axis, 0);
  if (axis < 0) axis += n->in[0]->type.rank;
  for (int o = 0; o < n->nout; o++) want[o] = n->out[o] ? pare_axis_type(t, n->out[o]).dim[axis] : PARE_ANY;
  return true;
}

/* As many copies as before, whatever the size of one. */
bool pare_want_tile(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 1) return false;
  for (int d = 0; d < n->out[0]->type.rank; d++) {
    int64_t in = pare_axis_count(pare_axis_in(t, n, 0, d));
    want[d] = in > 0 ? pare_axis_count(pare_axis_out(t, n, 0, d)) / in : PARE_ANY;
  }
  return true;
}

/* Bounds that run to an end of the axis keep doing so. */
bool pare_want_slice(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 1 && k != 2) return false;
  int64_t count = pare_type_count(&n->in[k]->type);
  for (int64_t i = 0; i < count; i++) want[i] = PARE_ANY;
  for (size_t i = 0; i < t->slices.n; i++) {
    const PareSliceAxis *s = &t->slices.at[i];
    if (s->node != n) continue;
    int64_t before = s->before ? pare_axis_count(s->before) : 0, kept = pare_axis_count(s->kept);
    int64_t behind = s->behind ? pare_axis_count(s->behind) : 0;
    int64_t old = pare_data_int(n->in[k], s->entry), at = k == 1 ? before : before + kept;
    if (k == 2 && !s->behind) continue;
    want[s->entry] = old < 0 ? at - (before + kept + behind) : at;
  }
  return true;
}

/* Sizes of all axes, or of those that input 4 names. */
bool pare_want_resize(PareTracer *t, const PareNode *n, int k, int64_t *want) {
  if (k != 3) return false;
  PareType type = pare_axis_type(t, n->out[0]);
  for (int64_t i = 0; i < pare_type_count(&n->in[3]->type); i++) {
    int64_t axis = n->nin > 4 && n->in[4] ? pare_data_int(n->in[4], i) : i;
    want[i] = type.dim[axis < 0 ? axis + type.rank : axis];
  }
  return true;
}
