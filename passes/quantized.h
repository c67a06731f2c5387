/* quantized.h - weights that are stored as integers: what a DequantizeLinear or MatMulInteger reads is made of
 * constants by ops that move, part and join elements. Scales and zero points are never changed. */
#ifndef PARE_PASSES_QUANTIZED_H
#define PARE_PASSES_QUANTIZED_H

#include "ir/ir.h"

/* How integers stand for (q - zero)·scale. */
typedef struct PareStored {
  PareNode *node;         /* that takes them for numbers */
  int input;
  const PareValue *scale; /* one number or one for each index of the axis, which follow from constants; NULL: they do
                             not, or the zero points do not */
  const PareValue *zero;  /* likewise; NULL: 0 */
  int64_t axis;
  PareType type;          /* of what the node reads */
  const int64_t *place;   /* where an element of the constant stands in it; NULL: in its own place */
} PareStored;

/* How n's own input k is stored, or (pare_quantized) the constant that a chain of views makes input k of;
 * false: as floats. Type and place are left out. */
bool pare_stored(const PareGraph *g, PareNode *n, int k, PareStored *out);
bool pare_quantized(const PareGraph *g, PareNode *n, int k, PareStored *out);
/* Finds them, and the numbers of scale and zero point, in `a`: of a constant that is moved whole. */
PARE_MUST_USE PareStatus pare_stored_places(PareCtx *c, PareArena *a, PareStored *s);
/* The integers that stand for zero in n's own input k, a constant, by element, in `a`, wherever its elements are
 * dequantised; NULL: 0 everywhere, or floats. */
PARE_MUST_USE PareStatus pare_zero_points(PareCtx *c, PareArena *a, const PareGraph *g, PareNode *n, int k,
                                          const int64_t **out);
/* Is n's own input k, moved at most, a scale or a zero point of what is quantised or dequantised? */
bool pare_is_scale(const PareGraph *g, PareNode *n, int k);

/* Scale and zero point of element i of the constant, which must be known. */
double pare_scale_at(const PareStored *s, int64_t i);
int64_t pare_zero_at(const PareStored *s, int64_t i);

/* Element i of integers of this type. */
void pare_put_int(PareDtype d, void *data, int64_t i, int64_t v);
/* v, or the nearest number that the type has. */
int64_t pare_saturate(PareDtype d, double v);

/* What ONNX Runtime's dynamic quantisation makes of x·W: Cast(MatMulInteger(q, W, z, zw)) · (s · sw) with
 * q, s, z = DynamicQuantizeLinear(x). */
typedef struct PareScaledProduct {
  PareNode *cast, *scaled;
  PareValue *x_scale, *w_scale;
} PareScaledProduct;
bool pare_scaled_product(const PareGraph *g, const PareNode *matmul_integer, PareScaledProduct *out);

/* FakeQuantize only clips from here on, so that values that differ by rounding do not
 * part by a step of quantisation: for proofs. Other ops are left as they are. */
void pare_unround(PareGraph *g);

#endif
