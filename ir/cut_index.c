/* cut_index.c - the `cut` column, elements that are picked and placed by indices: an
 * axis that is indexed is frozen, the others pass. */
#include "ir/cut.h"

static const char indexed[] = "is indexed";

static bool moves(const PareNode *n) {
  PareCostFn *cost = pare_op_info[n->op].cost;
  if (n->op == PARE_OP_CAST) return pare_dtype_is_int(n->out[0]->type.dtype);
  return n->nin > 0 && n->in[0] && (cost == pare_cost_free || cost == pare_cost_move) &&
         pare_op_info[n->op].cut != pare_cut_source && pare_op_info[n->op].cut != pare_cut_fill;
}

const PareValue *pare_ids_of(const PareValue *v) {
  while (v->role == PARE_RESULT && moves(v->def)) v = v->def->in[0];
  return v->role == PARE_INPUT && pare_dtype_is_int(v->type.dtype) ? v : NULL;
}

PareStatus pare_cut_gather(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, 0), rank), at = 0;
  for (int d = 0; d < axis; d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
  for (int d = 0; d < rank_in(n, 1); d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 1, d));
  for (int d = axis + 1; d < rank; d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
  unsigned met = is_weight(t, n, 0) && pare_ids_of(n->in[1]) ? PARE_MET_INDEX : PARE_MET_END;
  pare_axis_meet(n, pare_axis_in(t, n, 0, axis), met, "is indexed by a Gather");
  return PARE_OK;
}

/* Axes of data that the indices do not fill keep all their elements. */
static void tie_elements(PareTracer *t, const PareNode *n, int axis) {
  for (int d = 0; d < rank_in(n, 0); d++) {
    if (d != axis && dim_in(n, 0, d) == dim_in(n, 1, d))
      pare_axis_tie(t, n, pare_axis_in(t, n, 0, d), pare_axis_in(t, n, 1, d));
    else freeze_in(t, n, 0, d, indexed);
  }
}

PareStatus pare_cut_gatherelements(PareTracer *t, const PareNode *n) {
  tie_elements(t, n, wrap(pare_attr_get(&n->attr, axis, 0), rank_in(n, 0)));
  for (int d = 0; d < rank_in(n, 1); d++) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 1, d));
  return PARE_OK;
}

PareStatus pare_cut_scatterelements(PareTracer *t, const PareNode *n) {
  int axis = wrap(pare_attr_get(&n->attr, axis, 0), rank_in(n, 0));
  tie_elements(t, n, axis);
  for (int d = 0; d < rank_in(n, 0); d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    pare_axis_tie(t, n, pare_axis_in(t, n, 1, d), pare_axis_in(t, n, 2, d));
    if (d == axis || dim_in(n, 0, d) != dim_in(n, 1, d)) freeze_in(t, n, 1, d, indexed);
  }
  return PARE_OK;
}

PareStatus pare_cut_gathernd(PareTracer *t, const PareNode *n) {
  int batch = (int)pare_attr_get(&n->attr, batch_dims, 0), lead = rank_in(n, 1) - 1, k = (int)dim_in(n, 1, lead);
  for (int d = 0; d < lead; d++) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 1, d));
  freeze_in(t, n, 1, lead, indexed);
  for (int d = 0; d < rank_in(n, 0); d++) {
    if (d < batch) pare_axis_tie(t, n, pare_axis_in(t, n, 0, d), pare_axis_in(t, n, 1, d));
    else if (d < batch + k) freeze_in(t, n, 0, d, indexed);
    else pare_axis_set(t, n, 0, lead + d - batch - k, pare_axis_in(t, n, 0, d));
  }
  return PARE_OK;
}

PareStatus pare_cut_scatternd(PareTracer *t, const PareNode *n) {
  int lead = rank_in(n, 1) - 1, k = (int)dim_in(n, 1, lead);
  for (int d = 0; d <= lead; d++) freeze_in(t, n, 1, d, indexed);
  for (int d = 0; d < lead; d++) freeze_in(t, n, 2, d, indexed);
  for (int d = 0; d < rank_in(n, 0); d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    if (d < k) freeze_in(t, n, 0, d, indexed);
    else pare_axis_tie(t, n, pare_axis_in(t, n, 0, d), pare_axis_in(t, n, 2, lead + d - k));
  }
  return PARE_OK;
}

PareStatus pare_cut_onehot(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, -1), rank + 1);
  for (int d = 0, from = 0; d <= rank; d++) {
    if (d == axis) pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is numbered by indices");
    else pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, from++));
  }
  freeze_in(t, n, 2, 0, indexed);
  return PARE_OK;
}
