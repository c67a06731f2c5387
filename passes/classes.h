/* classes.h - is an output logits over classes, or a vector of numbers? */
#ifndef PARE_PASSES_CLASSES_H
#define PARE_PASSES_CLASSES_H

#include "ir/ir.h"

/* True for a float output of rank 2 at least whose last axis holds two classes or
 * more and that comes out of linear layers or a Softmax: through views, biases,
 * casts, and sums or multiples of such values (an average of two heads). What
 * comes out of a norm or an activation is a vector. */
bool pare_output_is_classes(const PareValue *v);

#endif
