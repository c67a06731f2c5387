/* grad_loss.c - the gradient column, losses: dout[0] is a scalar. */
#include "ir/grad.h"

RULE(crossentropy) {
  (void)want;
  EMIT(d, CROSSENTROPYGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(distill) {
  if (want[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "the teacher is not differentiated");
  EMIT(d, DISTILLGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(mse) {
  EMIT(d, MSEGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  if (want[0]) din[0] = d;
  if (!want[1]) return PARE_OK;
  EMIT(neg, NEG, NULL, d);
  din[1] = neg;
  return PARE_OK;
}

RULE(bce) {
  if (want[1]) return pare_fail(c, n, PARE_UNSUPPORTED, "the target is not differentiated");
  EMIT(d, BCEGRAD, &n->attr, n->in[0], n->in[1], dout[0]);
  din[0] = d;
  return PARE_OK;
}
