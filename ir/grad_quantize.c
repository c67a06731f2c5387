/* grad_quantize.c - the gradient column, quantisation. */
#include "ir/grad.h"

/* y = s·(clamp(round(x/s) + z) - z): the straight-through estimator takes round for the identity (Bengio, Leonard and
 * Courville 2013, arXiv:1308.3432), and the clamp's own derivative is 1 inside the range and 0 outside. Scales and
 * zero points are not tuned, and where they are computed from x that is not followed. */
RULE(fakequant) {
  if (!want[0]) return PARE_OK;
  PareAttrs attr = {0};
  pare_attr_set(&attr, output_dtype, n->attr.output_dtype);
  pare_attr_set(&attr, unrounded, pare_attr_get(&n->attr, unrounded, 0));
  EMIT(inside, QUANTIZEMASK, &attr, n->in[0], n->in[1], n->in[2]);
  EMIT(dx, MUL, NULL, dout[0], inside);
  din[0] = dx;
  return PARE_OK;
}
