/* quantized.h - weights that are stored as integers: a DequantizeLinear reads the
 * constant, and all between it and the product only moves elements (tracing freezes
 * what is moved before: ir/op_cut.c). Scales and zero points are never changed. */
#ifndef PARE_PASSES_QUANTIZED_H
#define PARE_PASSES_QUANTIZED_H

#include "ir/ir.h"

/* The DequantizeLinear on the way from a constant to input k of n; NULL: the constant holds floats. */
PareNode *pare_dequantizer(const PareNode *n, int k);

/* Scale and zero point of element i of what a DequantizeLinear reads; both must be known. */
double pare_scale_at(const PareNode *dequantize, int64_t i);
int64_t pare_zero_at(const PareNode *dequantize, int64_t i);

/* Element i of integers of this type. */
void pare_put_int(PareDtype d, void *data, int64_t i, int64_t v);
/* v, or the nearest number that the type has. */
int64_t pare_saturate(PareDtype d, double v);

/* FakeQuantize only clips from here on, so that values that differ by rounding do not
 * part by a step of quantisation: for proofs. Other ops are left as they are. */
void pare_unround(PareGraph *g);

#endif
