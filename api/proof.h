/* proof.h - the emitted file against the masked model (DESIGN 1.3): every output
 * and every reader of a cut dimension, on real samples and at other sizes of the
 * dynamic axes. */
#ifndef PARE_API_PROOF_H
#define PARE_API_PROOF_H

#include "api/forward.h"
#include "api/vocab.h"
#include "ir/adapter.h"

typedef struct PareProof {
  double max_abs, max_rel; /* rel: max|a-b| / max|a| of the worst value */
  const char *worst;       /* its name */
  int64_t samples;
} PareProof;

/* Runs both (unbound; the masked model in old ids where the vocabulary `v`, else NULL, was cut) on up to 64 samples of the data (NULL: random ones only)
 * and, where axes are dynamic, on random samples at sizes of their own. */
PARE_MUST_USE PareStatus pare_prove(PareCtx *c, const PareGraph *masked, const PareGraph *compact, const PareDims *d,
                                    const PareVocab *v, const PareData *data, const int64_t *samples, int64_t n, PareProof *out);

/* What rounding explains of max_rel. Half-precision models run in f32 too (passes/widen), on the same weights. */
#define PARE_PROOF_TOLERANCE 1e-4

/* Where elements of weights went: the written weights are `masked`'s, bit by bit. PARE_GATE naming the first that is
 * not. */
PARE_MUST_USE PareStatus pare_prove_elements(PareCtx *c, const PareGraph *masked, const PareGraph *written,
                                             const PareAdapters *adapters);

#endif
