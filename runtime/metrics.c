/* metrics.c - see metrics.h. Plain loops: judging costs nothing beside the model. */
#include "runtime/metrics.h"

#include <inttypes.h>
#include <math.h>

static const char *const metric_name[PARE_METRIC_COUNT] = {
#define X(id, name, text) name,
    PARE_METRIC_LIST(X)
#undef X
};

const char *pare_metric_name(PareMetricKind k) { return metric_name[k]; }

/* The first greatest; -1 when one is NaN. */
static int64_t arg_max(int64_t n, const float *x) {
  int64_t best = 0;
  for (int64_t i = 0; i < n; i++) {
    if (isnan(x[i])) return -1;
    if (x[i] > x[best]) best = i;
  }
  return best;
}

/* -log softmax(x)[label] */
static double cross_entropy(int64_t n, const float *x, int64_t label) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
  for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
  return max + log(sum) - (double)x[label];
}

PareStatus pare_metric_add_labels(PareCtx *c, PareMetric *m, int64_t rows, int64_t classes, const float *x,
                                  const int64_t *label) {
  for (int64_t r = 0; r < rows; r++) {
    if (label[r] < 0) continue;
    if (label[r] >= classes)
      return pare_error(c, PARE_DATA, "a label is %" PRId64 ", but the model has %" PRId64 " classes", label[r],
                        classes);
    m->sum += arg_max(classes, x + r * classes) == label[r];
    m->loss += cross_entropy(classes, x + r * classes, label[r]);
    m->n++;
  }
  return PARE_OK;
}

/* Two zero rows are alike. */
static double cosine(int64_t n, const float *x, const float *y) {
  double xy = 0, xx = 0, yy = 0;
  for (int64_t i = 0; i < n; i++) {
    xy += (double)x[i] * (double)y[i];
    xx += (double)x[i] * (double)x[i];
    yy += (double)y[i] * (double)y[i];
  }
  if (xx == 0 && yy == 0) return 1;
  return xx == 0 || yy == 0 ? 0 : xy / sqrt(xx) / sqrt(yy);
}

void pare_metric_add_rows(PareMetric *m, int64_t rows, int64_t width, const float *x, const float *reference) {
  for (int64_t r = 0; r < rows; r++) {
    const float *a = x + r * width, *b = reference + r * width;
    int64_t best = m->kind == PARE_METRIC_AGREEMENT ? arg_max(width, a) : 0;
    if (m->kind == PARE_METRIC_AGREEMENT) m->sum += best >= 0 && best == arg_max(width, b);
    else m->sum += cosine(width, a, b);
  }
  m->n += rows;
}

void pare_metric_add_values(PareMetric *m, int64_t n, const float *x, const float *want) {
  for (int64_t i = 0; i < n; i++) {
    double d = (double)x[i] - (double)want[i];
    m->sum += d * d;
  }
  m->n += n;
}

double pare_metric_value(const PareMetric *m) { return m->n ? m->sum / (double)m->n : NAN; }

double pare_metric_loss(const PareMetric *m) {
  if (m->kind == PARE_METRIC_ACCURACY) return m->n ? m->loss / (double)m->n : NAN;
  return m->kind == PARE_METRIC_MSE ? pare_metric_value(m) : 1 - pare_metric_value(m);
}

void pare_difference_add(PareDifference *d, int64_t n, const float *a, const float *b) {
  for (int64_t i = 0; i < n; i++) {
    double x = (double)a[i], y = (double)b[i];
    if (isfinite(x)) d->scale = fmax(d->scale, fabs(x));
    if (a[i] == b[i] || (isnan(x) && isnan(y))) continue;
    double gap = fabs(x - y);
    d->max_abs = fmax(d->max_abs, isnan(gap) ? INFINITY : gap);
  }
}

double pare_difference_rel(const PareDifference *d) {
  if (d->max_abs == 0) return 0;
  return d->scale > 0 ? d->max_abs / d->scale : INFINITY;
}
