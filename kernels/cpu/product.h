/* product.h - one matrix product made ready in plan: a oneDNN matmul primitive
 * whose scratch memory is the caller's, so that running it allocates nothing.
 * A product is used by one thread at a time: its memory handles are its own. */
#ifndef PARE_KERNELS_CPU_PRODUCT_H
#define PARE_KERNELS_CPU_PRODUCT_H

#include "kernels/cpu/cpu.h"

/* A matrix, or a batch of them: strides in elements, batch axes first. */
typedef struct PareView {
  PareDtype dtype; /* F32 or BF16 */
  int rank;
  int64_t dim[PARE_MAX_RANK], stride[PARE_MAX_RANK];
} PareView;

/* c = alpha·a·b + beta·c [+ bias, f32 of b's columns], sums in f32. */
typedef struct PareProductSpec {
  PareView a, b, c;
  double alpha, beta;
  bool bias;
  bool packed; /* b is in the order that the primitive likes: PareOrder */
  bool alone;  /* one thread runs it, beside others */
} PareProductSpec;

/* Where element (k, n) of b lies. b is cut into blocks of [kb, nb], kblock and nblock apart; in a block, rows come in
 * groups of `pair` (1 or 2) that are kin apart, the columns of a group are nin apart, the rows of a group beside each
 * other. A packed b is padded with zeros to whole blocks; it has `size` elements. */
typedef struct PareOrder {
  int64_t kb, nb, pair, kblock, nblock, kin, nin, size;
  bool padded;
} PareOrder;
enum { PARE_BLOCK = 64 }; /* the most that kb and nb can be */

typedef struct PareProduct PareProduct;

/* PARE_UNSUPPORTED when oneDNN has no fast code for it on this CPU (bf16, strides), or
 * packs b in an order that PareOrder cannot tell. Pair: product_free. */
PareStatus PARE_CPU(product_new)(const PareProductSpec *spec, PareProduct **out);
void PARE_CPU(product_free)(PareProduct *p); /* NULL is fine */
size_t PARE_CPU(product_scratch)(const PareProduct *p);
PareOrder PARE_CPU(product_order)(const PareProduct *p);
/* `scratch`: product_scratch bytes, 64-aligned. bias may be NULL where the spec has none. */
PareStatus PARE_CPU(product_run)(PareProduct *p, const void *a, const void *b, const void *bias, void *c,
                                 void *scratch);

/* dims [rows, cols], row-major, or stored the other way round when `transposed`. */
/* The order of a row-major matrix [k, n]. */
static inline PareOrder pare_plain_order(int64_t k, int64_t n) {
  return (PareOrder){16, PARE_BLOCK, 1, 16 * n, PARE_BLOCK, n, 1, k * n, false};
}

static inline PareView pare_view2(PareDtype d, int64_t rows, int64_t cols, bool transposed) {
  return (PareView){d, 2, {rows, cols}, {transposed ? 1 : cols, transposed ? rows : 1}};
}

#endif
