/* adapter.h - a low-rank adapter of one weight W [K, N] as the node multiplies, with bias b (METHOD 1).
 *   parallel:    y = x·(W + s·A·B) + b      A [K, r], B [r, N]
 *   sequential:  y = (x·W + b)·(I + s·A·B)  A [N, r], B [r, N]
 * A sequential one is the parallel one of W·A and B, and changes the bias as well. */
#ifndef PARE_IR_ADAPTER_H
#define PARE_IR_ADAPTER_H

#include "ir/dims.h"

/* A node that multiplies by the weight. */
typedef struct PareSite {
  uint32_t node; /* id: the same in every clone and cut of the graph */
  int x, w;      /* input numbers */
  uint32_t bias_node; /* sequential: what adds the bias, the product itself or the one node behind it */
  int bias;           /* input number of the bias there; -1: there is none */
} PareSite;

/* What the file calls the parts of a layer; bias NULL: it has none. */
typedef struct PareLayerNames {
  const char *weight, *bias, *node;
} PareLayerNames;

typedef struct PareAdapter {
  const char *name;    /* of the weight */
  PareLayerNames layer; /* the first that multiplies by it */
  bool transposed;     /* the nodes read W as [N, K] */
  bool sequential;
  bool elementwise;    /* elements of the weight go one by one */
  int64_t k, n, rank;  /* sizes now; rank 0: nothing is beside the weight, which is scored all the same */
  double scale;        /* s = alpha / rank, or alpha / sqrt(rank) */
  PARE_VEC(PareSite) sites; /* more than one where layers share the weight */
} PareAdapter;

/* Rows of A. */
static inline int64_t pare_adapter_rows(const PareAdapter *a) { return a->sequential ? a->n : a->k; }

typedef struct PareAdapters {
  PARE_VEC(PareAdapter) at;
} PareAdapters;

#endif
