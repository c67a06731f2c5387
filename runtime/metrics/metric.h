/* metric.h - what the rows of metrics.def are made of. */
#ifndef PARE_RUNTIME_METRICS_METRIC_H
#define PARE_RUNTIME_METRICS_METRIC_H

#include "runtime/metrics.h"

/* Takes a batch in: m->n and what the value is made of; the loss is not its business. */
typedef PareStatus PareMetricAdd(PareCtx *c, PareMetric *m, const PareJudged *b);
/* Called with m->n > 0; scratch of c is rewound behind it. */
typedef PareStatus PareMetricValue(PareCtx *c, const PareMetric *m, double *out);

#define METRIC(id, name, tasks, unit, rises, least, add, value, text) \
  PareMetricAdd pare_metric_add_##add;                          \
  PareMetricValue pare_metric_value_##value;
#include "runtime/metrics/metrics.def"
#undef METRIC

/* The first greatest; -1 when one is NaN. */
int64_t pare_arg_max(int64_t n, const float *x);

#endif
