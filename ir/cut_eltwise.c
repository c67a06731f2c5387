/* cut_eltwise.c - the `cut` column, element-wise, and the rules of ops that tie nothing. */
#include "ir/cut.h"

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

/* Every axis of input 0 is the output's; what else is read gives no axes. */
PareStatus pare_cut_first(PareTracer *t, const PareNode *n) {
  for (int d = 0; d < rank_in(n, 0); d++) pare_axis_set(t, n, 0, d, pare_axis_in(t, n, 0, d));
  return PARE_OK;
}
