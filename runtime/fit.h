/* fit.h - how much of each of several classes goes, so that what is left is what was asked for, or as little under
 * it as their groups allow. Knows numbers only. */
#ifndef PARE_RUNTIME_FIT_H
#define PARE_RUNTIME_FIT_H

#include "base/ctx.h"

enum { PARE_FIT_MOST = 16 }; /* classes */

typedef struct PareFit {
  int n;              /* classes; those whose groups cost most come first */
  const double *step; /* by class: ratios that are less apart are the same */
  double budget;      /* what may be left */
  double near;        /* what is left is as good as the budget when it is this much under it, or less */
  bool common;        /* a ratio of all classes that comes so near is kept as it is */
  PareStatus (*cost)(void *arg, const double *ratio, double *left); /* of ratios 0 to 1; falls in steps as they rise */
  void *arg;
} PareFit;

/* Ratios ratio[n] at which *left, what they leave, is at most the budget. The least ratio of all classes comes
 * first; then the first class keeps it and the others, one after another, take back what its last step took too
 * much. Where that is not near, the first class goes without its last step, the others make up for it, and the
 * nearer of both is taken; so it goes on with the classes behind it. If not even ratios of 1 keep the budget, *left
 * is what they leave. */
PARE_MUST_USE PareStatus pare_fit(const PareFit *f, double *ratio, double *left);

#endif
