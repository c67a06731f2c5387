/* classes.h - is an output logits over classes, probabilities of them, marks, or a vector of numbers? */
#ifndef PARE_PASSES_CLASSES_H
#define PARE_PASSES_CLASSES_H

#include "ir/ir.h"

/* True for a float output of rank 2 at least whose last axis holds two classes or
 * more and that comes out of linear layers or a Softmax: through views, biases,
 * casts, single columns of linear layers (the scores of first places), and sums or
 * multiples of such values (an average of two heads). What
 * comes out of a norm or an activation is a vector. */
bool pare_output_is_classes(const PareValue *v);

/* Such an output that comes out of a Softmax over its last axis, through views, casts and quantisation (bound graphs). */
bool pare_output_is_probabilities(const PareValue *v);

/* Does each number of a float output answer a question of its own with yes or no: does it come out of a Sigmoid, through
 * the same, or, several of a row, out of linear layers? One number of a linear layer may as well be a measure: it is a
 * mark where `marks`, the labels being integers of 0 and 1, says so. */
bool pare_output_is_mark(const PareValue *v, bool marks);

/* Does it come out of a Sigmoid, through the same? */
bool pare_output_is_sigmoid(const PareValue *v);

/* What losses of classes and marks read of an output: it itself or, where a Softmax or a Sigmoid made it, what that was
 * taken of, with the views and casts behind it at the end of g. NULL: out of memory. */
PareValue *pare_output_logits(PareCtx *c, PareGraph *g, PareValue *v);

#endif
