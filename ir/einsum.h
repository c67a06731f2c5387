/* einsum.h - Einsum's equation over operands of known types: a label for each axis.
 * Letters are labels, and so is each axis under an ellipsis; an axis of 1 stretches. */
#ifndef PARE_IR_EINSUM_H
#define PARE_IR_EINSUM_H

#include "ir/ir.h"

enum { PARE_EINSUM_LABELS = 52 + PARE_MAX_RANK, PARE_EINSUM_OUT = 2 };

typedef struct PareEinsum {
  int nin;                                      /* 1 or 2 */
  int rank[PARE_EINSUM_OUT + 1];                /* of the operands, and of the result at PARE_EINSUM_OUT */
  int label[PARE_EINSUM_OUT + 1][PARE_MAX_RANK];
  int64_t size[PARE_EINSUM_LABELS];             /* 0 where a label is not used, too */
  bool used[PARE_EINSUM_LABELS];
} PareEinsum;

/* NULL, or what is wrong with the equation. */
const char *pare_einsum_parse(const char *equation, int nin, const PareType *const *in, PareEinsum *out);
/* The axis of operand (or result) k that has this label, or -1. */
int pare_einsum_axis(const PareEinsum *e, int k, int label);
/* An equation without ellipses that reads terms a and b (b < 0: none) and makes the
 * n labels of `target`. */
enum { PARE_EINSUM_TEXT = 4 * PARE_MAX_RANK + 8 };
void pare_einsum_text(const PareEinsum *e, int a, int b, int n, const int *target, char out[PARE_EINSUM_TEXT]);

#endif
