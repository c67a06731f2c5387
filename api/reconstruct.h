/* reconstruct.h - what groups that go leave to those that stay: the weights that read them take over, by least
 * squares on the layer's own inputs, what they carried (structured OBS). No labels, no training. */
#ifndef PARE_API_RECONSTRUCT_H
#define PARE_API_RECONSTRUCT_H

#include "api/tuner.h"

/* The leaves' flags say what the model on the host holds, keep[] what of it shall stay. Adds to the params' `dense`
 * and `bias` and makes t->base anew; with reconstruction_judged only if that lowers the loss of the model without what
 * goes on 128 samples (of few, a fifth; of less than 40 none, and nothing is judged) that the least squares do not see.
 * The same samples for the same seed, whatever came before. */
PARE_MUST_USE PareStatus pare_tuner_reconstruct(PareTuner *t);
/* t->base <- the model with what the params say was reconstructed, less what their adapters began with. */
PARE_MUST_USE PareStatus pare_tuner_make_base(PareTuner *t);

#endif
