/* fuse_mask_grad - MaskGrad(Gelu(h), dy), GeluGrad(h, dy) -> GeluGrad(h, dy, mask), which has both: what the sums are of is
 * in registers there already. It comes when gradients are there. */
#include "passes/match.h"
#include "passes/pass.h"

enum { X, DY, MASK, SUMS = 1 };

/* The GeluGrad of h and dy behind n, in its phase; NULL: there is none. */
static PareNode *gradient_of(const PareNode *n, const PareNode *gelu) {
  for (PareNode *m = n->next; m; m = m->next)
    if (m->op == PARE_OP_GELUGRAD && m->in[0] == gelu->in[0] && m->in[1] == n->in[DY] && m->nin == 2 &&
        m->phase == n->phase && pare_attr_get(&m->attr, approximate, 0) == pare_attr_get(&gelu->attr, approximate, 0))
      return m;
  return NULL;
}

/* Does anybody between n and m read n's result? */
static bool is_awaited(const PareNode *n, const PareNode *m) {
  for (const PareNode *r = n->next; r != m; r = r->next)
    if (pare_reads(r, n->out[0])) return true;
  return false;
}

PareStatus pare_fuse_mask_grad(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first, *next; n; n = next) {
    next = n->next;
    PareValue *x = n->op == PARE_OP_MASKGRAD ? n->in[X] : NULL;
    const PareNode *gelu = x ? pare_made_by(x, PARE_OP_GELU) : NULL;
    PareNode *grad = gelu ? gradient_of(n, gelu) : NULL;
    if (!grad || is_awaited(n, grad)) continue;
    PARE_TRY(pare_node_widen(c, g, grad, MASK + 1, SUMS + 1, 0));
    grad->in[MASK] = n->in[MASK];
    pare_take_result(g, n, grad, SUMS);
    PARE_TRY(pare_infer(c, grad));
  }
  return PARE_OK;
}
