/* fold_constants - Transpose(W) and the like are done once, not each step. */
#include "passes/fold_constants.h"

#include "passes/bind_shapes.h"

static bool is_done(const PareNode *n) {
  for (int i = 0; i < n->nout; i++)
    if (n->out[i] && !n->out[i]->data && pare_type_count(&n->out[i]->type) > 0) return false;
  return true;
}

PareStatus pare_fold_constants(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next) {
    if (n->nout == 0 || is_done(n) || !pare_node_known(n) || pare_op_info[n->op].kernel == PARE_KERNEL_NONE) continue;
    PARE_TRY(pare_node_eval(c, n, g->arena));
  }
  return PARE_OK;
}
