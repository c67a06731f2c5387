/* attention.h - the operands of Attention and AttentionGrad, for attention.c (f32, f64) and attention_bf16.c. */
#ifndef PARE_KERNELS_CPU_ATTENTION_H
#define PARE_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

/* Places of the inputs; AttentionGrad's mask is behind dy, Attention's behind v. */
enum { PARE_Q, PARE_K, PARE_V, PARE_Y, PARE_LSE, PARE_DY };

/* A tensor [B, heads, rows, width], or [B, rows, heads, width]: elements from a batch, a head, a row to the next. */
typedef struct PareSide {
  int64_t rows, width, batch, head, row;
} PareSide;

typedef struct PareAttention {
  int64_t batches, heads;
  PareSide q, k, v, y;
  double scale;
  const PareTensor *mask; /* NULL: none */
  int64_t step[4];        /* of the mask along batch, head, row, column */
} PareAttention;

PareAttention PARE_CPU(attention_of)(const PareKernelArgs *a, bool backward);

static inline int64_t pare_at_head(const PareSide *s, int64_t b, int64_t h) { return b * s->batch + h * s->head; }

/* bf16: attention_bf16.c */
size_t PARE_CPU(attention_bf16_bytes)(const PareAttention *t, bool backward); /* of workspace */
PareStatus PARE_CPU(attention_bf16)(PareKernelArgs *a);
PareStatus PARE_CPU(attention_grad_bf16)(PareKernelArgs *a);

#endif
