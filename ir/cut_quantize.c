/* cut_quantize.c - the `cut` column, quantisation. */
#include "ir/cut.h"

/* Are the elements of v those of constants, or floats that are quantised here? */
static bool is_moved(const PareValue *v) {
  if (v->role != PARE_RESULT) return v->role == PARE_CONST;
  if (v->def->op == PARE_OP_QUANTIZELINEAR) return true;
  int inputs = pare_moved_inputs(v->def);
  for (int k = 0; k < inputs; k++)
    if (!is_moved(v->def->in[k])) return false;
  return inputs > 0;
}

/* A weight's integers may be moved, parted and joined before: passes/quantized finds their zero points all the same. */
static void freeze_computed(PareTracer *t, const PareNode *n, int k) {
  bool computed = is_weight(t, n, k) && !is_moved(n->in[k]);
  for (int d = 0; computed && d < rank_in(n, k); d++)
    freeze_in(t, n, k, d, "is of integers that are computed");
}

/* One scale for each index of an axis goes with that axis. */
PareStatus pare_cut_quantize(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0);
  for (int d = 0; d < rank; d++) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
  if (n->op == PARE_OP_DEQUANTIZELINEAR) freeze_computed(t, n, 0);
  int axis = wrap(pare_attr_get(&n->attr, axis, 1), rank);
  for (int k = 1; k < n->nin; k++)
    if (n->in[k] && pare_type_count(&n->in[k]->type) > 1)
      pare_axis_tie(t, n, pare_axis_in(t, n, k, 0), pare_axis_in(t, n, 0, axis));
  return PARE_OK;
}

static void mark_measured(PareAxis *leaf, void *arg) {
  (void)arg;
  leaf->measured = true;
}

/* What goes takes no part any more in the least and the greatest. */
PareStatus pare_cut_dynquant(PareTracer *t, const PareNode *n) {
  for (int d = 0; d < rank_in(n, 0); d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    pare_axis_leaves(pare_axis_in(t, n, 0, d), mark_measured, NULL);
  }
  return PARE_OK;
}

/* Zero points of rows and columns go with them. */
PareStatus pare_cut_matmulinteger(PareTracer *t, const PareNode *n) {
  freeze_computed(t, n, 1);
  for (int k = 2; k < n->nin; k++)
    if (n->in[k] && pare_type_count(&n->in[k]->type) > 1)
      pare_axis_tie(t, n, pare_axis_in(t, n, k, 0), pare_axis_in(t, n, k - 2, rank_in(n, k - 2) - 4 + k));
  return pare_cut_matmul(t, n);
}
