/* judge.h - how good a model is on samples: against labels, or against another
 * model where there are none. */
#ifndef PARE_API_JUDGE_H
#define PARE_API_JUDGE_H

#include "api/call.h"
#include "api/forward.h"
#include "runtime/metrics.h"

/* Samples to judge by; `list` NULL: the first n. */
typedef struct PareChoice {
  const int64_t *list;
  int64_t n;
} PareChoice;

/* The output that the data's "labels" belong to: ACCURACY where they are integers
 * [N, ...] for [N, ..., classes], MSE where they are numbers of the output's
 * shape. PARE_DATA where there are none, none fits, or one is out of range. */
PARE_MUST_USE PareStatus pare_judge_find(PareCtx *c, const PareForward *f, const PareData *d, size_t *output,
                                         PareMetricKind *kind);
/* The output to compare with a reference's, and how: AGREEMENT where it comes
 * from a linear layer (or a Softmax) with two classes at least, else COSINE. */
PARE_MUST_USE PareStatus pare_judge_pick(PareCtx *c, const PareForward *f, size_t *output, PareMetricKind *kind);

/* The metric of output `output` over the chosen samples, `kind` as the two above
 * give it. `reference` is run beside f for AGREEMENT and COSINE, else NULL; both
 * have the same data. PARE_INTERRUPTED when the caller says stop. */
PARE_MUST_USE PareStatus pare_judge_run(PareCtx *c, PareForward *f, PareForward *reference, const PareData *d,
                                        PareChoice chosen, size_t output, PareMetricKind kind, const PareHooks *h,
                                        PareMetric *out);

#endif
