/* linear.h - the operands of Linear and LinearGrad, for linear.c, linear_bf16.c, linear_parts.c, lora.c (f32, f64) and
 * lora_bf16.c. */
#ifndef PARE_KERNELS_CPU_LINEAR_H
#define PARE_KERNELS_CPU_LINEAR_H

#include "kernels/cpu/cpu.h"

/* What LinearGrad finds out about W while it merges it, where it is asked to: Importance (importance.c has the
 * formula) of S[rows, cols], W as it is stored, in the type of the arithmetic. For a row of S
 *   G = sum u_t·P_t + v_t·Q_t,   I = |G·(W + s·A·B)| ^ power
 * and W + s·A·B is at hand, and Q what `right` is there. A block of S, row_block by col_block, has its own sums, which
 * do not depend on who merges what; but oneDNN, whose blocks they are, may choose others for more threads. */
typedef struct PareScored {
  const void *da, *db; /* of this run */
  double eta;
  bool square;
  void *u, *v, *p;                /* [rows, r] each; [r, cols] in panels, as `right` lies */
  void *row_sums, *col_sums;      /* [blocks of columns][rows], [blocks of rows][cols] */
  int64_t row_block, col_block;   /* what is merged at a time; col_block is a panel */
} PareScored;

/* Rows and vectors that are merged side by side, and where they are scored too: as many sums as registers hold. */
#ifdef __AVX512F__
enum { PARE_MERGE_ROWS = 8, PARE_MERGE_VECS = 2, PARE_SCORE_ROWS = 4, PARE_SCORE_VECS = 2 };
#else /* a vector is two registers of 16 */
enum { PARE_MERGE_ROWS = 4, PARE_MERGE_VECS = 1, PARE_SCORE_ROWS = 2, PARE_SCORE_VECS = 1 };
#endif
/* Columns, and rows, that linear_bf16 and linear_parts merge at a time. */
enum { PARE_STRIP = 32 };

/* Inputs: x, W, bias (Linear) or dy (LinearGrad), A, B, mask. y = x·(m∘(W + s·A·B)) + bias. */
typedef struct PareLinear {
  int64_t m, k, n, r;
  bool transposed; /* W is stored [n, k] */
  double scale;
  const PareTensor *w, *a, *b, *mask; /* NULL: left out */
  PareScored *scored;                 /* NULL: nobody asks */
} PareLinear;

/* The gradients of A and B, in the type of the arithmetic: dA [k, r], dB [r, n], NULL where nobody wants it. With
 * U = x·(m∘A) and V = dy·B':  dA = s·m∘(x'·V), dB = s·U'·dy. work: lora_bytes, 64-aligned. */
size_t PARE_CPU(lora_bytes)(const PareLinear *l, PareDtype d);
void PARE_CPU(lora_grad)(const PareLinear *l, PareDtype d, const void *x, const void *dy, void *work, void *dA,
                         void *dB);

/* The same of x and dy in bf16: lora_bf16.c. */
size_t PARE_CPU(lora_bytes_bf16)(const PareLinear *l);
void PARE_CPU(lora_grad_bf16)(const PareLinear *l, const uint16_t *x, const uint16_t *dy, void *work, float *dA,
                              float *dB);

/* out [m, n] = in [m, k]·W' + bias or, backward, out [m, k] = in [m, n]·W' transposed, + add, which may be out, in bf16:
 * linear_bf16.c, where it fits. bias (forward), add (backward): NULL for none. work: linear_bytes_bf16 of them, 64-aligned. */
bool PARE_CPU(linear_fits_bf16)(const PareLinear *l, bool backward);
size_t PARE_CPU(linear_bytes_bf16)(const PareLinear *l, bool backward);
void PARE_CPU(linear_bf16)(const PareLinear *l, bool backward, const uint16_t *in, const float *bias,
                           const uint16_t *add, void *work, size_t bytes, uint16_t *out);

/* The same in f32: linear_parts.c, where it fits. work: linear_bytes_parts of them, 64-aligned. */
bool PARE_CPU(linear_fits_parts)(const PareLinear *l);
size_t PARE_CPU(linear_bytes_parts)(const PareLinear *l, bool backward);
void PARE_CPU(linear_parts)(const PareLinear *l, bool backward, const float *in, const float *bias, const float *add,
                            void *work, size_t bytes, float *out);

#endif
