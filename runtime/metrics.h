/* metrics.h - how good a model's outputs are: streaming sums in double, so that
 * batches can be added one by one. A row is one prediction: the numbers along
 * the last axis of an output. */
#ifndef PARE_RUNTIME_METRICS_H
#define PARE_RUNTIME_METRICS_H

#include <stdint.h>

#include "base/ctx.h"

/* id, name in reports, what it says */
#define PARE_METRIC_LIST(X)                                        \
  X(ACCURACY, "accuracy", "arg-max equals the label")              \
  X(AGREEMENT, "agreement", "arg-max equals the reference model's") \
  X(COSINE, "cosine", "cosine with the reference model's rows")    \
  X(MSE, "mse", "mean squared error against number labels")

typedef enum PareMetricKind {
#define X(id, name, text) PARE_METRIC_##id,
  PARE_METRIC_LIST(X)
#undef X
  PARE_METRIC_COUNT
} PareMetricKind;

const char *pare_metric_name(PareMetricKind k);
/* True where a greater value is better. */
static inline bool pare_metric_rises(PareMetricKind k) { return k != PARE_METRIC_MSE; }

/* Zero but for the kind at the start. */
typedef struct PareMetric {
  PareMetricKind kind;
  double sum;  /* right rows, cosines or squares */
  double loss; /* ACCURACY: cross-entropies */
  int64_t n;   /* rows; MSE: elements */
} PareMetric;

/* x[rows][classes] are logits. Rows with a negative label are left out, as the
 * loss does; a label >= classes is PARE_DATA. A row with NaN is wrong. */
PARE_MUST_USE PareStatus pare_metric_add_labels(PareCtx *c, PareMetric *m, int64_t rows, int64_t classes,
                                                const float *x, const int64_t *label);
/* x[rows][width] against the same rows of the reference: AGREEMENT or COSINE. */
void pare_metric_add_rows(PareMetric *m, int64_t rows, int64_t width, const float *x, const float *reference);
void pare_metric_add_values(PareMetric *m, int64_t n, const float *x, const float *want);

/* NaN before anything was added. */
double pare_metric_value(const PareMetric *m);
/* Mean cross-entropy of ACCURACY, mean square of MSE, else 1 - value. */
double pare_metric_loss(const PareMetric *m);

/* The largest difference of two lists and what it is relative to. Zero at the start. */
typedef struct PareDifference {
  double max_abs; /* max |a - b|; infinite where only one is NaN or they are unlike infinities */
  double scale;   /* max |a| */
} PareDifference;
void pare_difference_add(PareDifference *d, int64_t n, const float *a, const float *b);
/* max|a-b| / max|a|; 0 when nothing differs. */
double pare_difference_rel(const PareDifference *d);

#endif
