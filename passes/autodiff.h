/* autodiff.h - reverse-mode differentiation: the backward pass is more nodes of
 * the same graph, so it needs no executor of its own. */
#ifndef PARE_PASSES_AUTODIFF_H
#define PARE_PASSES_AUTODIFF_H

#include "ir/ir.h"

/* Appends nodes that compute d(loss)/d(wrt[i]) to the end of a bound graph and
 * sets grads[i], or NULL where `loss` does not depend on wrt[i]. `dloss` is
 * d/d(loss), of loss's type: a constant 1, say. Only what lies between a wrt
 * value and the loss is differentiated: integers, and constants that are not in
 * wrt, never are. Error: PARE_UNSUPPORTED naming the node that has no rule. */
PARE_MUST_USE PareStatus pare_autodiff(PareCtx *c, PareGraph *g, PareValue *loss, PareValue *dloss, size_t nwrt,
                                       PareValue *const *wrt, PareValue **grads);

#endif
