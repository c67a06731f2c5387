/* params.h - what is tuned, adapters and initializers, and its optimiser's state on the host, at the size of
 * the uncut model: what checkpoints hold and folding reads. Programs on cut
 * weights take the rows and columns that live and give them back. */
#ifndef PARE_API_PARAMS_H
#define PARE_API_PARAMS_H

#include "ir/adapter.h"
#include "passes/edit.h"
#include "passes/training.h"
#include "runtime/program.h"

/* Value and AdamW's moments of a tensor, in its shape; all float. */
typedef struct PareMoments {
  float *value, *m, *v;
} PareMoments;

typedef struct PareParams {
  PareArena *arena;
  PareAdapters full; /* sizes of the uncut model */
  PareMoments *a, *b; /* by adapter: [its rows, r], [r, N] */
  float **dense, **bias; /* by adapter: what reconstruction has added to weight [K, N] and bias [N]; NULL: nothing */
  const uint8_t **alive; /* by adapter: elements that go are 0, [K·N] as the nodes read the weight; NULL: none do */
  PareTrainedSet trained;
  PareMoments *t; /* by trained initializer (trained.h): what reconstruction adds to one is in its value */
} PareParams;

/* A Kaiming-uniform (bound 1/sqrt(its rows)), drawn from the seed; B zero. */
PARE_MUST_USE PareStatus pare_params_new(PareCtx *c, PareArena *arena, const PareDims *d, int64_t rank, double alpha,
                                         bool sequential, uint64_t seed, PareParams *out);
/* The adapters with the sizes of the cut by the leaves' `keep`. Lives in arena. */
PARE_MUST_USE PareStatus pare_params_cut(PareCtx *c, PareArena *arena, const PareParams *p, const PareDims *d,
                                         PareAdapters *out);
/* Copies what lives into the program's states, or back from them. */
PARE_MUST_USE PareStatus pare_params_load(PareCtx *c, const PareParams *p, const PareDims *d, const PareTrainGraph *t,
                                          PareProgram *program);
PARE_MUST_USE PareStatus pare_params_save(PareCtx *c, PareParams *p, const PareDims *d, const PareTrainGraph *t,
                                          PareProgram *program);
/* Room for what reconstruction adds to adapter i's weight, and to its bias: zeros, unless it is there. */
PARE_MUST_USE PareStatus pare_params_add_dense(PareCtx *c, PareParams *p, size_t i);
PARE_MUST_USE PareStatus pare_params_add_bias(PareCtx *c, PareParams *p, size_t i);

typedef enum PareFolding {
  PARE_FOLD_ALL,   /* tuned initializers, adapters and what was reconstructed */
  PARE_FOLD_DENSE, /* what was reconstructed alone */
} PareFolding;
/* The model g, at full size, with what was tuned. Lives in a. */
PARE_MUST_USE PareStatus pare_params_fold(PareCtx *c, PareArena *a, const PareParams *p, const PareGraph *g,
                                          PareFolding what, PareGraph **out);
#endif
