/* activation.h - the activations that have numbers: which attributes they are and
 * what they are by default. The kernels and the gradient rules read the same rows. */
#ifndef PARE_IR_ACTIVATION_H
#define PARE_IR_ACTIVATION_H

#include "ir/ir.h"

/* op, attribute and default of p, attribute and default of q */
#define PARE_ACTIVATIONS(X)                                                                    \
  X(LEAKYRELU, alpha, 0.01, beta, 0)                                                           \
  X(ELU, alpha, 1.0, beta, 0)                                                                  \
  X(SELU, alpha, 1.67326319217681884765625, gamma, 1.05070102214813232421875)                  \
  X(CELU, alpha, 1.0, beta, 0)                                                                 \
  X(HARDSIGMOID, alpha, 0.2, beta, 0.5)                                                        \
  X(THRESHOLDEDRELU, alpha, 1.0, beta, 0)                                                      \
  X(SHRINK, lambd, 0.5, bias, 0.0)                                                             \
  X(SWISH, alpha, 1.0, beta, 0)

typedef struct PareActivation {
  double p, q;
} PareActivation;

#define X(id, p_attr, p_dflt, q_attr, q_dflt)                                                           \
  static inline PareActivation pare_activation_##id(const PareAttrs *a) {                               \
    PareActivation n = {pare_attr_get(a, p_attr, p_dflt), pare_attr_get(a, q_attr, q_dflt)};            \
    return n;                                                                                           \
  }
PARE_ACTIVATIONS(X)
#undef X

#endif
