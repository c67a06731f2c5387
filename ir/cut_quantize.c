/* cut_quantize.c - the `cut` column, quantisation. */
#include "ir/cut.h"

/* One scale for each index of an axis goes with that axis. A weight's integers may be moved before: passes/quantized
 * finds their scales all the same. */
PareStatus pare_cut_quantize(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0);
  const PareValue *root = n->in[0];
  while (root->role == PARE_RESULT && pare_moves_all(root->def)) root = root->def->in[0];
  bool made = is_weight(t, n, 0) && root->role != PARE_CONST;
  for (int d = 0; d < rank; d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    if (made) freeze_in(t, n, 0, d, "is parted or joined before it is dequantised");
  }
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
  for (int k = 2; k < n->nin; k++)
    if (n->in[k] && pare_type_count(&n->in[k]->type) > 1)
      pare_axis_tie(t, n, pare_axis_in(t, n, k, 0), pare_axis_in(t, n, k - 2, rank_in(n, k - 2) - 4 + k));
  return pare_cut_matmul(t, n);
}
