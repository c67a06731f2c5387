/* tradeoff.h - what to give up where, when several things each trade a loss for a gain and the gains together have to
 * reach an amount. Knows numbers only. */
#ifndef PARE_RUNTIME_TRADEOFF_H
#define PARE_RUNTIME_TRADEOFF_H

#include "base/ctx.h"

/* n points to choose one from; point 0 is where it stands, others are measured from there: gain[0] = loss[0] = 0. Losses
 * and gains may rise and fall as they like. */
typedef struct PareTrade {
  size_t n;
  const double *gain, *loss;
  size_t chosen; /* out */
} PareTrade;

/* Chooses a point of each of m trades so that the gains add up to `amount` at least, or to the most that there is. The
 * least loss a unit gained goes first: each trade walks along the lower convex hull of its points, and all stop at the
 * same slope (H. Everett, Generalized Lagrange Multiplier Method, Operations Research 11, 1963: what is chosen is
 * optimal for the gain that it has). The last step ends at the cheapest point that is enough, on the hull or not. */
PARE_MUST_USE PareStatus pare_trade_off(PareCtx *c, size_t m, PareTrade *trade, double amount);

#endif
