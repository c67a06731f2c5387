/* judge.h - how good a model is on samples: against labels, or against another
 * model where there are none. */
#ifndef PARE_API_JUDGE_H
#define PARE_API_JUDGE_H

#include "api/call.h"
#include "api/forward.h"
#include "passes/task.h"
#include "runtime/metrics.h"

/* Samples to judge by; `list` NULL: the first n. */
typedef struct PareChoice {
  const int64_t *list;
  int64_t n;
} PareChoice;

/* What somebody wants it judged by. */
typedef struct PareAsked {
  int64_t metric;  /* as --metric has it: 0 chooses, else a PareMetricKind plus one */
  PareLabelsAs as; /* as --loss has it */
  bool reference;  /* by another model, labels or no */
} PareAsked;

/* By what a model is judged. */
typedef struct PareYardstick {
  PareMetricKind metric;
  PareJudges what;
  PareTask task; /* which outputs; REFERENCE: `output` alone */
  bool softens;  /* the verdict has softened_loss */
} PareYardstick;

typedef struct PareVerdict {
  double value, loss;
  double softened_loss; /* metrics.h; else NaN */
} PareVerdict;

/* `g` is bound to the data's lengths;
 * outputs that `aside` leaves out (pare_is_followed) are not judged. By labels where the data have some: accuracy of
 * classes and of one mark, f1 of several, mse of numbers, span-f1 of spans; else, or where the metric asks for it, against a
 * reference: agreement of an output from a linear layer (or a Softmax) with two classes at least, cosine of others.
 * PARE_DATA where labels fit no output or are out of range, PARE_USAGE where the metric does not fit the task. */
PARE_MUST_USE PareStatus pare_judge_choose(PareCtx *c, const PareGraph *g, const bool *aside, const PareData *d,
                                           PareAsked asked, PareYardstick *out);
/* What is judged of a task, and the metric that 0 chooses; `several`: a reference's output is distributions, a row has
 * more marks than one. */
PareJudges pare_judges_task(PareTaskKind kind);
PareMetricKind pare_judge_usual(PareJudges what, bool several);

/* What is judged of the last run: of classes and marks, and where rows agree, the scores (forward.h). Spans are two. */
const float *pare_judge_rows(const PareYardstick *by, PareForward *f);

/* The verdict over the chosen samples. `reference` is run beside f for PARE_JUDGES_REFERENCE, else NULL; both have the
 * same data. PARE_INTERRUPTED when the caller says stop. */
PARE_MUST_USE PareStatus pare_judge_run(PareCtx *c, PareForward *f, PareForward *reference, const PareData *d,
                                        PareChoice chosen, const PareYardstick *by, const PareHooks *h,
                                        PareVerdict *out);

#endif
