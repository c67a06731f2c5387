/* grad_window.c - the gradient column, windows that slide over the axes of space: each has a
 * kernel of its own that lays dy back. */
#include "ir/grad.h"

/* Weight and bias of a convolution are frozen wherever adapters are. */
RULE(conv) {
  for (int i = 1; i < n->nin; i++)
    if (want[i]) return pare_fail(c, n, PARE_UNSUPPORTED, "the weight of a convolution is not differentiated");
  EMIT(d, CONVGRAD, &n->attr, dout[0], n->in[1], n->in[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(averagepool) {
  (void)want;
  EMIT(d, AVERAGEPOOLGRAD, &n->attr, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}

RULE(maxpool) {
  (void)want;
  EMIT(d, MAXPOOLGRAD, &n->attr, n->in[0], dout[0]);
  din[0] = d;
  return PARE_OK;
}
