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

bool pare_picks_by_list(const PareTracer *t, const PareNode *n) {
  return n->op == PARE_OP_GATHER && rank_in(n, 1) == 1 && n->in[1]->data && is_weight(t, n, 1) && may_change(n, 1) &&
         !is_weight(t, n, 0) && !n->in[0]->data;
}

/* Element i of the list, counted from the front. */
static int64_t picked(const PareNode *n, int axis, int64_t i) {
  int64_t at = pare_data_int(n->in[1], i);
  return at < 0 ? at + dim_in(n, 0, axis) : at;
}

/* All indices, each of them several times over in turn (0 0 1 1), or all of them again (0 1 0 1): what Expand and Tile
 * make. In PROD(terms) the copies are term `copies`. */
static bool picks_copies(const PareNode *n, int axis, int *copies) {
  int64_t size = dim_in(n, 0, axis), count = dim_in(n, 1, 0), times = size ? count / size : 0;
  bool each = true, all = true;
  if (times < 2 || times * size != count) return false;
  for (int64_t i = 0; i < count; i++) {
    each &= picked(n, axis, i) == i / times;
    all &= picked(n, axis, i) == i % size;
  }
  *copies = each;
  return each || all;
}

/* Some indices one after another: what Slice takes. */
static bool picks_part(const PareNode *n, int axis) {
  int64_t first = dim_in(n, 1, 0) ? picked(n, axis, 0) : -1;
  if (first < 0 || dim_in(n, 1, 0) >= dim_in(n, 0, axis)) return false;
  for (int64_t i = 1; i < dim_in(n, 1, 0); i++)
    if (picked(n, axis, i) != first + i) return false;
  return true;
}

/* Indices that say what goes with what. The list has no part in it, passes/cut_dims writes another one. False: they are
 * any. */
static bool cut_list(PareTracer *t, const PareNode *n, int axis) {
  PareAxis *in = pare_axis_in(t, n, 0, axis), *part[3];
  int copies;
  if (!pare_picks_by_list(t, n)) return false;
  if (picks_copies(n, axis, &copies)) {
    PareAxis *term[2] = {in, in}, *out = pare_axis_out(t, n, 0, axis);
    term[copies] = pare_axis_leaf(t, out->size / in->size);
    pare_axis_tie_lists(t, n, 2, term, 1, &out);
    return true;
  }
  if (!picks_part(n, axis)) return false;
  pare_axis_part(t, n, in, picked(n, axis, 0), dim_in(n, 1, 0), part);
  pare_axis_set(t, n, 0, axis, part[1]);
  return true;
}

PareStatus pare_cut_gather(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, 0), rank), at = 0;
  bool list = cut_list(t, n, axis);
  for (int d = 0; d < axis; d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
  for (int d = 0; d < rank_in(n, 1); d++, at++)
    if (!list) pare_axis_set(t, n, 0, at, pare_axis_in(t, n, 1, d));
  for (int d = axis + 1; d < rank; d++) pare_axis_set(t, n, 0, at++, pare_axis_in(t, n, 0, d));
  if (list) return PARE_OK;
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
