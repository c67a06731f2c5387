/* spans.c - metrics of spans of tokens, as SQuAD judges answers, on places instead of words. Rows come in turns: scores
 * of the first token, scores of the last. */
#include <math.h>

#include "runtime/metrics/metric.h"

enum { SPAN_MOST = 30 }; /* tokens of an answer, as in the examples of BERT and of transformers */

typedef struct Places {
  int64_t first, last; /* -1: there is none */
} Places;

/* The first best by the sum of its scores, of those that end where they start or behind. NaN is never best. */
static Places best_span(int64_t n, const float *start, const float *end) {
  Places best = {-1, -1};
  double most = -INFINITY;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i; j < n && j - i < SPAN_MOST; j++)
      if ((double)start[i] + (double)end[j] > most) {
        most = (double)start[i] + (double)end[j];
        best = (Places){i, j};
      }
  return best;
}

/* 2·common / (said + true): F1 over the tokens of both. */
static double overlap(Places a, Places b) {
  int64_t first = a.first > b.first ? a.first : b.first, last = a.last < b.last ? a.last : b.last;
  if (a.first < 0 || last < first) return 0;
  return 2 * (double)(last - first + 1) / (double)(a.last - a.first + b.last - b.first + 2);
}

static double exact(Places a, Places b) { return a.first == b.first && a.last == b.last; }

/* Samples with a negative label are left out. */
static PareStatus add(PareMetric *m, const PareJudged *b, double (*judge)(Places, Places)) {
  for (int64_t r = 0; r + 1 < b->rows; r += 2) {
    Places want = {b->label[r], b->label[r + 1]};
    if (want.first < 0 || want.last < 0) continue;
    m->sum += judge(best_span(b->width, b->x + r * b->width, b->x + (r + 1) * b->width), want);
    m->n++;
  }
  return PARE_OK;
}

PareStatus pare_metric_add_span_f1(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  return add(m, b, overlap);
}

PareStatus pare_metric_add_span_em(PareCtx *c, PareMetric *m, const PareJudged *b) {
  (void)c;
  return add(m, b, exact);
}
