/* means.c - metrics that are a mean over rows. */
#include <math.h>

#include "runtime/metrics/metric.h"

PareStatus pare_metric_value_mean(PareCtx *c, const PareMetric *m, double *out) {
  (void)c;
  *out = m->sum / (double)m->n;
  return PARE_OK;
}

/* A mark is said where its logit is above 0. */
static bool all_marked(const PareJudged *b, int64_t row) {
  for (int64_t k = row * b->width; k < (row + 1) * b->width; k++)
    if (isnan(b->x[k]) || (b->x[k] > 0) != (b->want[k] > 0.5f)) return false;
  return true;
}

static PareStatus add_marked(PareMetric *m, const PareJudged *b) {
  for (int64_t r = 0; r < b->rows; r++) m->sum += all_marked(b, r);
  m->n += b->rows;
  return PARE_OK;
}

/* Of marks: rows of which all are right. */
PareStatus pare_metric_add_accuracy(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  if (b->what == PARE_JUDGES_MARKS) return add_marked(m, b);
  for (int64_t r = 0; r < b->rows; r++) {
    if (b->label[r] < 0) continue;
    m->sum += pare_arg_max(b->width, b->x + r * b->width) == b->label[r];
    m->n++;
  }
  return PARE_OK;
}

/* Fewer than five classes stand before the label's; of equals the first stands before. */
static bool among_five(int64_t n, const float *x, int64_t label) {
  int64_t before = 0;
  for (int64_t i = 0; i < n; i++) {
    if (isnan(x[i])) return false;
    before += x[i] > x[label] || (x[i] == x[label] && i < label);
  }
  return before < 5;
}

PareStatus pare_metric_add_top5(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  for (int64_t r = 0; r < b->rows; r++) {
    if (b->label[r] < 0) continue;
    m->sum += among_five(b->width, b->x + r * b->width, b->label[r]);
    m->n++;
  }
  return PARE_OK;
}

PareStatus pare_metric_add_squares(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  for (int64_t i = 0; i < b->rows * b->width; i++) {
    double d = (double)b->x[i] - (double)b->want[i];
    m->sum += d * d;
  }
  m->n += b->rows * b->width;
  return PARE_OK;
}

static bool counts(const PareJudged *b, int64_t row) { return !b->skip || !b->skip[row]; }

PareStatus pare_metric_add_agreement(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  for (int64_t r = 0; r < b->rows; r++) {
    if (!counts(b, r)) continue;
    int64_t best = pare_arg_max(b->width, b->x + r * b->width);
    m->sum += best >= 0 && best == pare_arg_max(b->width, b->want + r * b->width);
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

PareStatus pare_metric_add_cosine(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  for (int64_t r = 0; r < b->rows; r++) {
    if (!counts(b, r)) continue;
    m->sum += cosine(b->width, b->x + r * b->width, b->want + r * b->width);
    m->n++;
  }
  return PARE_OK;
}
