/* counts.c - metrics of how often each class was right, said and labelled: F1 and Matthews' correlation, as
 * scikit-learn defines them. A share of nothing is 0. */
#include <math.h>

#include "runtime/metrics/metric.h"

static void count_class(PareMetric *m, const PareJudged *b, int64_t row) {
  int64_t said = pare_arg_max(b->width, b->x + row * b->width), label = b->label[row];
  if (label < 0) return;
  m->counts[label].labelled++;
  if (said >= 0) m->counts[said].said++;
  m->counts[label].right += said == label;
  m->n++;
}

/* A mark is said where its logit is above 0, so its probability above a half. */
static void count_marks(PareMetric *m, const PareJudged *b, int64_t row) {
  for (int64_t k = 0; k < b->width; k++) {
    bool said = b->x[row * b->width + k] > 0, labelled = b->want[row * b->width + k] > 0.5f;
    m->counts[k].said += said;
    m->counts[k].labelled += labelled;
    m->counts[k].right += said && labelled;
  }
  m->n++;
}

PareStatus pare_metric_add_counts(PareCtx *c, PareMetric *m, const PareJudged *b) {
  if (!m->counts && !(m->counts = PARE_NEW_N(m->arena, b->width, PareClassCount))) return pare_nomem(c);
  for (int64_t r = 0; r < b->rows; r++) {
    if (b->what == PARE_JUDGES_MARKS) count_marks(m, b, r);
    else count_class(m, b, r);
  }
  return PARE_OK;
}

/* 2·right / (said + labelled): the harmonic mean of precision and recall. */
static double f1_of(PareClassCount k) {
  return k.said + k.labelled ? 2 * (double)k.right / (double)(k.said + k.labelled) : 0;
}

/* Of the classes first, first + 1, ... together. */
static double f1_from(const PareMetric *m, int64_t first) {
  PareClassCount all = {0};
  for (int64_t k = first; k < m->width; k++) {
    all.right += m->counts[k].right;
    all.said += m->counts[k].said;
    all.labelled += m->counts[k].labelled;
  }
  return f1_of(all);
}

/* Classes that are neither said nor labelled anywhere are not there; marks are, and count as 0. */
PareStatus pare_metric_value_f1_macro(PareCtx *c, const PareMetric *m, double *out) {
  (void)c;
  int64_t n = 0;
  double sum = 0;
  for (int64_t k = 0; k < m->width; k++) {
    if (m->what == PARE_JUDGES_CLASSES && !m->counts[k].said && !m->counts[k].labelled) continue;
    sum += f1_of(m->counts[k]);
    n++;
  }
  *out = n ? sum / (double)n : 0;
  return PARE_OK;
}

PareStatus pare_metric_value_f1(PareCtx *c, const PareMetric *m, double *out) {
  if (m->what == PARE_JUDGES_MARKS) return *out = f1_from(m, 0), PARE_OK;
  if (m->width == 2) return *out = f1_of(m->counts[1]), PARE_OK;
  return pare_metric_value_f1_macro(c, m, out);
}

PareStatus pare_metric_value_token_f1(PareCtx *c, const PareMetric *m, double *out) {
  (void)c;
  *out = f1_from(m, 1);
  return PARE_OK;
}

/* R_K (Gorodkin 2004): (c·s − Σ p_k·t_k) / √((s² − Σ p_k²)·(s² − Σ t_k²)), c right ones of s, p_k times said, t_k times
 * labelled; 0 where all are one class. */
PareStatus pare_metric_value_matthews(PareCtx *c, const PareMetric *m, double *out) {
  (void)c;
  double right = 0, s = (double)m->n, pt = 0, pp = 0, tt = 0;
  for (int64_t k = 0; k < m->width; k++) {
    double p = (double)m->counts[k].said, t = (double)m->counts[k].labelled;
    right += (double)m->counts[k].right;
    pt += p * t;
    pp += p * p;
    tt += t * t;
  }
  double spread = (s * s - pp) * (s * s - tt);
  *out = spread > 0 ? (right * s - pt) / sqrt(spread) : 0;
  return PARE_OK;
}
