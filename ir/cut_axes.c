/* cut_axes.c - the `cut` column, along axes: what is normalised or reduced is frozen. */
#include "ir/cut.h"

/* Softmax, LayerNormalization: what is normalised is frozen, the rest passes. */
PareStatus pare_cut_norm(PareTracer *t, const PareNode *n) {
  int rank = rank_in(n, 0), axis = wrap(pare_attr_get(&n->attr, axis, -1), rank);
  bool to_the_end = n->op == PARE_OP_LAYERNORM || pare_attr_get(&n->attr, flatten, 0);
  for (int d = 0; d < rank; d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    bool normalised = d == axis || (to_the_end && d > axis);
    unsigned met = n->op == PARE_OP_LAYERNORM ? PARE_MET_NORM : PARE_MET_END;
    if (normalised) pare_axis_meet(n, pare_axis_in(t, n, 0, d), met, "is normalised");
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
  unsigned met = n->op == PARE_OP_REDUCEMEAN ? PARE_MET_NORM : PARE_MET_END;
  for (int d = 0, at = 0; d < rank_in(n, 0); d++) {
    if (reduces(n, d)) {
      pare_axis_meet(n, pare_axis_in(t, n, 0, d), met, "is averaged or summed over");
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

/* ArgMax, ArgMin: the axis goes, or stays as 1. */
PareStatus pare_cut_arg(PareTracer *t, const PareNode *n) {
  int axis = wrap(pare_attr_get(&n->attr, axis, 0), rank_in(n, 0));
  bool keep = pare_attr_get(&n->attr, keepdims, 1) != 0;
  for (int d = 0, at = 0; d < rank_in(n, 0); d++) {
    if (d == axis) freeze_in(t, n, 0, d, "is searched for an extreme");
    else pare_axis_set(t, n, 0, at, pare_axis_in(t, n, 0, d));
    at += d != axis || keep;
  }
  return PARE_OK;
}

PareStatus pare_cut_topk(PareTracer *t, const PareNode *n) {
  int axis = wrap(pare_attr_get(&n->attr, axis, -1), rank_in(n, 0));
  for (int d = 0; d < rank_in(n, 0); d++)
    for (int o = 0; o < n->nout; o++) {
      if (d != axis) pare_axis_set(t, n, o, d, pare_axis_in(t, n, 0, d));
      else if (n->out[o]) pare_axis_freeze(n, pare_axis_out(t, n, o, d), "is what an extreme was searched for in");
      if (d == axis) freeze_in(t, n, 0, d, "is searched for extremes");
    }
  return PARE_OK;
}

/* x[n, c, ...]: the vectors' axis is the channels'. A plane that is normalised by itself is frozen. */
PareStatus pare_cut_channels(PareTracer *t, const PareNode *n) {
  for (int d = 0; d < rank_in(n, 0); d++) {
    pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
    if (d > 1 && n->op == PARE_OP_INSTANCENORM) freeze_in(t, n, 0, d, "is normalised");
  }
  for (int k = 1; rank_in(n, 0) > 1 && k < n->nin; k++)
    pare_axis_tie(t, n, pare_axis_in(t, n, 0, 1), pare_axis_in(t, n, k, 0));
  return PARE_OK;
}

/* Pools: what a window slides over is frozen. */
PareStatus pare_cut_pool(PareTracer *t, const PareNode *n) {
  static const char why[] = "is an axis that a window slides over";
  for (int d = 0; d < rank_in(n, 0); d++)
    for (int o = 0; o < n->nout; o++) {
      if (d < 2) pare_axis_set(t, n, o, d, pare_axis_in(t, n, 0, d));
      else if (n->out[o]) pare_axis_freeze(n, pare_axis_out(t, n, o, d), why);
      if (d >= 2) freeze_in(t, n, 0, d, why);
    }
  return PARE_OK;
}

/* Axes that keep their size pass. */
PareStatus pare_cut_resize(PareTracer *t, const PareNode *n) {
  for (int d = 0; d < rank_in(n, 0); d++) {
    if (dim_in(n, 0, d) == n->out[0]->type.dim[d] && d < 2) {
      pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
      continue;
    }
    freeze_in(t, n, 0, d, "is resized");
    pare_axis_freeze(n, pare_axis_out(t, n, 0, d), "is resized");
  }
  return PARE_OK;
}
