/* classes.h - is an output logits over classes, probabilities of them, or a vector of numbers? */
#ifndef PARE_PASSES_CLASSES_H
#define PARE_PASSES_CLASSES_H

#include "ir/ir.h"

/* True for a float output of rank 2 at least whose last axis holds two classes or
 * more and that comes out of linear layers or a Softmax: through views, biases,
 * casts, and sums or multiples of such values (an average of two heads). What
 * comes out of a norm or an activation is a vector. */
bool pare_output_is_classes(const PareValue *v);

/* Such an output that comes out of a Softmax over its last axis, through views, casts and quantisation (bound graphs). */
bool pare_output_is_probabilities(const PareValue *v);

/* What losses read of an output: it itself or, where it is probabilities, what the Softmax was taken of, with the views
 * and casts behind it at the end of g. NULL: out of memory. */
PareValue *pare_output_logits(PareCtx *c, PareGraph *g, PareValue *v);

#endif
