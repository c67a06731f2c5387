/* trained.h - initializers that are tuned themselves: which (find_trained.c), as states of a program, and back as
 * constants of the model (train_constants.c). */
#ifndef PARE_PASSES_TRAINED_H
#define PARE_PASSES_TRAINED_H

#include "ir/adapter.h"
#include "ir/trained.h"

/* The constants of the traced graph that `what`, a set of PARE_TRAIN_*, means; `layers` are the weights of heads and FFN.
 * A constant that is cut unlike for its readers, or is the bias of several layers, is several. Lives in a. PARE_UNSUPPORTED names the node whose weights
 * are integers where all shall be tuned. */
PARE_MUST_USE PareStatus pare_find_trained(PareCtx *c, PareArena *a, const PareDims *d, const PareAdapters *layers,
                                           unsigned what, PareTrainedSet *out);
/* The number in the set of what node `id` reads as input k, or -1. */
int pare_trained_at(const PareTrainedSet *set, uint32_t id, int k);

/* In a bound clone of the traced graph, or of its cut: each becomes a state of its type that starts as the constant,
 * state[set->at.n]. What binding has worked out from it is unknown again. */
PARE_MUST_USE PareStatus pare_train_constants(PareCtx *c, PareGraph *g, const PareTrainedSet *set, PareValue **state);

/* In a clone of the model at full size: each becomes the constant value[i], its elements in order, rounded to what is
 * stored. Readers go on sharing it. PARE_GATE where one is too large for the type. */
PARE_MUST_USE PareStatus pare_write_trained(PareCtx *c, PareGraph *g, const PareTrainedSet *set,
                                            const float *const *value);

#endif
