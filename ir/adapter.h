/* adapter.h - a low-rank adapter of one weight (METHOD 1): y = x·(W + s·A·B),
 * W [K, N] as the node multiplies, A [K, r], B [r, N]. */
#ifndef PARE_IR_ADAPTER_H
#define PARE_IR_ADAPTER_H

#include "ir/dims.h"

/* A node that multiplies by the weight. */
typedef struct PareSite {
  uint32_t node; /* id: the same in every clone and cut of the graph */
  int x, w;      /* input numbers */
} PareSite;

typedef struct PareAdapter {
  const char *name;    /* of the weight */
  bool transposed;     /* the nodes read W as [N, K] */
  int64_t k, n, rank;  /* sizes now */
  double scale;        /* s = alpha / rank */
  PARE_VEC(PareSite) sites; /* more than one where layers share the weight */
} PareAdapter;

typedef struct PareAdapters {
  PARE_VEC(PareAdapter) at;
} PareAdapters;

#endif
