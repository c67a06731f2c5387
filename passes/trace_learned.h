/* trace_learned.h - attention in which queries, keys or values follow from constants alone. */
#ifndef PARE_PASSES_TRACE_LEARNED_H
#define PARE_PASSES_TRACE_LEARNED_H

#include "ir/axes.h"

/* By value id: the axis of a Softmax that the value is on its way to, and that it is the result of; NULL: of none. */
typedef struct PareScores {
  PareAxis **to, **from;
} PareScores;

/* In a. The tracer's rules have been run. */
PARE_MUST_USE PareStatus pare_scores_find(PareCtx *c, PareArena *a, PareTracer *t, PareScores *out);
/* Does this product, one of t's contractions, make scores of queries and keys, so that its sum is over their width? */
bool pare_makes_scores(PareTracer *t, const PareScores *s, const PareContraction *x);
/* Marks the axes of such products, and of those of probabilities and values, as those of two activations are: heads,
 * and the width of values. */
void pare_mark_learned(PareTracer *t, const PareScores *s);

#endif
