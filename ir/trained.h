/* trained.h - an initializer that is tuned itself, beside adapters or in their place (METHOD 1): a bias, a norm's scale,
 * the head or, in full fine-tuning, any weight. It is known by the nodes that read it, whose ids are the same in every
 * clone and cut of the graph. */
#ifndef PARE_IR_TRAINED_H
#define PARE_IR_TRAINED_H

#include "ir/dims.h"

/* bit, word of --trainable */
#define PARE_TRAINABLE_LIST(X) \
  X(LORA, "lora") /* adapters: ir/adapter.h */ \
  X(BIAS, "bias") /* what layers add to their products */ \
  X(NORM, "norm") /* scales and shifts behind norms */ \
  X(HEAD, "head") /* weights and biases of the layers behind the last block */ \
  X(ALL, "all")   /* every weight that the outputs follow from */

typedef enum PareTrainable {
#define X(id, word) PARE_TRAINABLE_##id##_NUMBER,
  PARE_TRAINABLE_LIST(X)
#undef X
  PARE_TRAINABLE_COUNT
} PareTrainable;
enum {
#define X(id, word) PARE_TRAIN_##id = 1u << PARE_TRAINABLE_##id##_NUMBER,
  PARE_TRAINABLE_LIST(X)
#undef X
};

typedef struct PareTrained {
  const char *name;
  PareType type;        /* as it is stored, at full size */
  const PareValue *was; /* the constant */
  bool decays;          /* a matrix: AdamW's weight decay is for these, not for biases and norms */
  PARE_VEC(PareUse) readings; /* of the traced graph: all that read it as one thing. Others have one of their own */
} PareTrained;

typedef struct PareTrainedSet {
  PARE_VEC(PareTrained) at;
} PareTrainedSet;

#endif
