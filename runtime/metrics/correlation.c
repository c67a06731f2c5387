/* correlation.c - Pearson's and Spearman's correlation: all pairs are kept, since ranks need them all. */
#include <math.h>
#include <stdlib.h>

#include "runtime/metrics/metric.h"

PareStatus pare_metric_add_pairs(PareCtx *c, PareMetric *m, const PareJudged *b) {
  for (int64_t i = 0; i < b->rows * b->width; i++)
    if (!pare_vec_push(m->arena, &m->given, b->x[i]) || !pare_vec_push(m->arena, &m->wanted, b->want[i]))
      return pare_nomem(c);
  m->n += b->rows;
  return PARE_OK;
}

/* Σ(x − x̄)(y − ȳ) / √(Σ(x − x̄)²·Σ(y − ȳ)²); NaN where one does not vary, as scipy has it. */
static double pearson(int64_t n, const double *x, const double *y) {
  double mx = 0, my = 0, xy = 0, xx = 0, yy = 0;
  for (int64_t i = 0; i < n; i++) mx += x[i], my += y[i];
  mx /= (double)n;
  my /= (double)n;
  for (int64_t i = 0; i < n; i++) {
    xy += (x[i] - mx) * (y[i] - my);
    xx += (x[i] - mx) * (x[i] - mx);
    yy += (y[i] - my) * (y[i] - my);
  }
  return xx > 0 && yy > 0 ? fmax(-1, fmin(1, xy / sqrt(xx) / sqrt(yy))) : NAN;
}

typedef struct Placed {
  double value;
  int64_t place;
} Placed;

static int by_value(const void *a, const void *b) {
  const Placed *x = a, *y = b;
  return x->value < y->value ? -1 : x->value > y->value;
}

/* x becomes its ranks from 1; equal values share the mean of theirs. `room` [n]. */
static void rank(int64_t n, double *x, Placed *room) {
  for (int64_t i = 0; i < n; i++) room[i] = (Placed){x[i], i};
  qsort(room, (size_t)n, sizeof *room, by_value);
  for (int64_t first = 0, end; first < n; first = end) {
    for (end = first + 1; end < n && room[end].value == room[first].value; end++) continue;
    for (int64_t i = first; i < end; i++) x[room[i].place] = (double)(first + end + 1) / 2;
  }
}

/* Column `k` of rows of `width`; false when something is not a number. */
static bool column(int64_t n, int64_t width, int64_t k, const float *from, double *to) {
  bool numbers = true;
  for (int64_t i = 0; i < n; i++) {
    to[i] = (double)from[i * width + k];
    numbers = numbers && !isnan(to[i]);
  }
  return numbers;
}

/* The mean over the columns. */
static PareStatus correlate(PareCtx *c, const PareMetric *m, bool ranks, double *out) {
  double *x = PARE_NEW_N(c->scratch, m->n, double), *y = PARE_NEW_N(c->scratch, m->n, double);
  Placed *room = ranks ? PARE_NEW_N(c->scratch, m->n, Placed) : NULL;
  if (!x || !y || (ranks && !room)) return pare_nomem(c);
  double sum = 0;
  for (int64_t k = 0; k < m->width; k++) {
    bool numbers = column(m->n, m->width, k, m->given.at, x) & column(m->n, m->width, k, m->wanted.at, y);
    if (numbers && ranks) rank(m->n, x, room), rank(m->n, y, room);
    sum += numbers ? pearson(m->n, x, y) : NAN;
  }
  *out = sum / (double)m->width;
  return PARE_OK;
}

PareStatus pare_metric_value_pearson(PareCtx *c, const PareMetric *m, double *out) {
  return correlate(c, m, false, out);
}

PareStatus pare_metric_value_spearman(PareCtx *c, const PareMetric *m, double *out) {
  return correlate(c, m, true, out);
}
