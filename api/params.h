/* params.h - what is tuned, adapters and initializers, and its optimiser's state on the host, at the size of
 * the uncut model: what checkpoints hold and folding reads. Programs on cut
 * weights take the rows and columns that live and give them back. */
#ifndef PARE_API_PARAMS_H
#define PARE_API_PARAMS_H

#include "api/peft.h"
#include "ir/adapter.h"
#include "passes/edit.h"
#include "passes/training.h"
#include "runtime/program.h"

/* Value and AdamW's moments of a tensor, in its shape; all float. */
typedef struct PareMoments {
  float *value, *m, *v;
} PareMoments;

/* The frozen weight is W0 - s·A0·B0: what tuning began with is taken out of it (PiSSA, arXiv 2404.02948). */
typedef struct PareAnchor {
  float *a, *b; /* like the adapter's; NULL: nothing is taken out */
} PareAnchor;

typedef struct PareParams {
  PareArena *arena;
  PareAdapters full; /* sizes of the uncut model */
  PareAnchor *anchor; /* by adapter */
  PareMoments *a, *b; /* by adapter: [its rows, r], [r, N] */
  float **dense, **bias; /* by adapter: what PEFT's folder and reconstruction have added to weight [K, N] and bias [N];
                          * NULL: nothing */
  const uint8_t **alive; /* by adapter: elements that go are 0, [K·N] as the nodes read the weight; NULL: none do */
  PareTrainedSet trained;
  PareMoments *t; /* by trained initializer (trained.h): what reconstruction adds to one is in its value */
} PareParams;

/* --rank auto: the rank whose number of parameters is shared out, and the most that a weight gets. */
enum { PARE_UNIFORM_RANK = 8, PARE_RANK_MOST = 32 };

/* How adapters are made. */
typedef struct PareParamsSpec {
  const PareGraph *model; /* at full size: what the principal parts are of */
  int64_t rank; /* 0: nothing is beside the weights, which are scored all the same */
  const int64_t *ranks; /* by adapter, instead of rank; NULL: none has one of its own */
  double alpha;
  bool root_scale; /* s = alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732), else alpha / rank */
  bool principal;  /* A and B are the largest singular triples of the weight, which they are taken out of (PiSSA) */
  bool sequential;
  uint64_t seed;
  const ParePeft *given; /* adapters to start from; NULL: none */
} PareParamsSpec;

/* Finds the weights and starts their adapters. */
PARE_MUST_USE PareStatus pare_params_new(PareCtx *c, PareArena *arena, const PareDims *d, const PareParamsSpec *spec,
                                         PareParams *out);
/* Starts the adapters, or starts them anew with other ranks: A Kaiming-uniform (bound 1/sqrt(its rows)), drawn from the
 * seed, and B zero, unless the spec says otherwise. */
PARE_MUST_USE PareStatus pare_params_start(PareCtx *c, const PareParamsSpec *spec, PareParams *p);
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

/* Adapter i at the size of the cut by the leaves' `keep`, with what it began with in the ranks behind its own where that
 * was taken out of the weight: it goes with the weight as it was. Lives in arena. */
PARE_MUST_USE PareStatus pare_params_give(PareCtx *c, PareArena *arena, const PareParams *p, const PareDims *d, size_t i,
                                          ParePeftOut *out);

typedef enum PareFolding {
  PARE_FOLD_ALL,   /* tuned initializers, adapters and what was reconstructed: the result */
  PARE_FOLD_FROZEN, /* what was reconstructed, less what the adapters began with: what they are tuned on */
  PARE_FOLD_DENSE, /* what was reconstructed alone */
} PareFolding;
/* Are adapters tuned on other weights than the model's? */
bool pare_params_shifted(const PareParams *p);
/* The model g, at full size, with what was tuned. Lives in a. */
PARE_MUST_USE PareStatus pare_params_fold(PareCtx *c, PareArena *a, const PareParams *p, const PareGraph *g,
                                          PareFolding what, PareGraph **out);
#endif
