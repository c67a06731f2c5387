/* fuse_gelu_grad - gradients of adapters around a GELU in bf16 make what they read of it on the way, where memory is short
 * (storing it takes less time on a GPU: bench/results/gpu-2026-11-27.md):
 *   g = Gelu(h), LinearGrad(g, ..)                        LinearGrad(h, ..) {act}: g need not be kept for backward
 *   dh = GeluGrad(h, dg), LinearGrad(x, W, dh, ..)        LinearGrad(x, W, dg, .., h), and dh: one pass over them less
 * It comes when gradients are there. */
#include "passes/match.h"
#include "passes/pass.h"

/* Inputs, and the results that gradients of adapters are; what of. */
enum { X, W, DY, A, H = 7, DA = 1, DB, MADE };

static bool has_adapter_gradients(const PareNode *n) {
  return n->op == PARE_OP_LINEARGRAD && n->nin > A && n->in[A] && n->nout > DB && (n->out[DA] || n->out[DB]);
}

static bool is_read_behind(const PareNode *n, const PareValue *v) {
  for (n = n->next; n; n = n->next)
    if (pare_reads(n, v)) return true;
  return false;
}

/* Where h is kept in any case. */
static void make_x(PareGraph *g, PareNode *n) {
  enum { GELU = 1, TANH };
  PareValue *x = n->in[X];
  const PareNode *gelu = x->type.dtype == PARE_BF16 ? pare_made_by(x, PARE_OP_GELU) : NULL;
  if (!gelu || gelu->in[0]->role != PARE_RESULT || !is_read_behind(n, gelu->in[0])) return;
  n->in[X] = gelu->in[0];
  pare_attr_set(&n->attr, act, pare_attr_get(&gelu->attr, approximate, 0) ? TANH : GELU);
  pare_remove_dead(g, x);
}

/* The first reader makes it, for the others too. */
static PareStatus make_dy(PareCtx *c, PareGraph *g, PareNode *n) {
  PareValue *dy = n->in[DY];
  PareNode *grad = dy->type.dtype == PARE_BF16 ? pare_made_by(dy, PARE_OP_GELUGRAD) : NULL;
  if (!grad || grad->nout > 1 || grad->phase != n->phase || pare_is_read_between(dy, n) || n->in[X] == dy) return PARE_OK;
  for (int i = 0; i < 2; i++)
    if (grad->in[i]->role != PARE_RESULT) return PARE_OK;
  PARE_TRY(pare_node_widen(c, g, n, H + 1, MADE + 1, 0));
  n->in[DY] = grad->in[1], n->in[H] = grad->in[0];
  if (pare_attr_get(&grad->attr, approximate, 0)) pare_attr_set(&n->attr, approximate, 1);
  pare_take_result(g, grad, n, MADE);
  return PARE_OK;
}

PareStatus pare_fuse_gelu_grad(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next) {
    if (!has_adapter_gradients(n)) continue;
    make_x(g, n);
    PARE_TRY(make_dy(c, g, n));
    PARE_TRY(pare_infer(c, n));
  }
  return PARE_OK;
}
