/* insert_lora.h - adapters on every weight of attention and FFN (METHOD 1). */
#ifndef PARE_PASSES_INSERT_LORA_H
#define PARE_PASSES_INSERT_LORA_H

#include "ir/adapter.h"

/* What the adapters shall be. */
typedef struct PareAdapterSpec {
  int64_t rank;
  double scale; /* s */
  bool sequential;
  bool (*wanted)(const PareLayerNames *layer, void *arg); /* does a layer elsewhere carry an adapter too? NULL: none */
  void *arg;
} PareAdapterSpec;

/* The weights that carry adapters: matrices on an axis of heads or FFN channels, and those that are wanted.
 * Layers that share a weight and its cut share the adapter. Of rank 0 they say which weights are scored, and
 * nothing is beside these. Lives in a.
 * PARE_UNSUPPORTED where a sequential one would meet a bias that it cannot be
 * folded into. */
PARE_MUST_USE PareStatus pare_find_adapters(PareCtx *c, PareArena *a, const PareDims *d, const PareAdapterSpec *spec,
                                            PareAdapters *out);

/* An adapter in a program's graph. */
typedef struct PareLora {
  PareValue *w;    /* as the first site reads it */
  PareValue **reads; /* W as each site reads it */
  PareValue *mask;  /* elementwise: state of bools like W, ones; else NULL */
  PareValue *a, *b; /* states [K, r] or, sequential, [N, r]; [r, N]. Of rank 0 constants: a column and a row of zeros */
} PareLora;

/* Adds, where no elements are masked, y += s·(x·A)·B behind every site of a bound graph or, sequential, s·(y·A)·B, and the states. With
 * B = 0 nothing changes. lora[] has a place for each adapter. */
PARE_MUST_USE PareStatus pare_insert_lora(PareCtx *c, PareGraph *g, const PareAdapters *adapters, PareDtype dtype,
                                          PareLora *lora);

/* For an elementwise adapter: all sites read M ? W + s·A·B : 0 of one mask instead of W, and l->reads says so. */
PARE_MUST_USE PareStatus pare_mask_elements(PareCtx *c, PareGraph *g, PareNode *const *by_id, const PareAdapter *a,
                                            PareLora *l);

#endif
