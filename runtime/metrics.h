/* metrics.h - how good a model's outputs are. Batches are added one by one; what is kept is sums in double, counts by
 * class, or, where ranks matter, the judged numbers themselves (never more than outputs and labels together).
 * The metrics are the rows of metrics/metrics.def. */
#ifndef PARE_RUNTIME_METRICS_H
#define PARE_RUNTIME_METRICS_H

#include <stdint.h>

#include "base/ctx.h"

typedef enum PareMetricKind {
#define METRIC(id, name, tasks, unit, rises, least, add, value, text) PARE_METRIC_##id,
#include "runtime/metrics/metrics.def"
#undef METRIC
  PARE_METRIC_COUNT
} PareMetricKind;

/* What is judged, and so which arrays of PareJudged there are. */
typedef enum PareJudges {
  PARE_JUDGES_CLASSES = 1,   /* logits against integer labels */
  PARE_JUDGES_NUMBERS = 2,   /* numbers against numbers */
  PARE_JUDGES_MARKS = 4,     /* logits, each of its own question, against 0 or 1 */
  PARE_JUDGES_SPANS = 8,     /* scores of first and of last places, in turns, against places */
  PARE_JUDGES_REFERENCE = 16 /* rows against another model's */
} PareJudges;

/* A batch: `rows` rows of `width` numbers along the last axis of an output. Borrowed for the call. */
typedef struct PareJudged {
  PareJudges what;
  int64_t rows, width;
  const float *x;       /* [rows][width] */
  const int64_t *label; /* CLASSES, SPANS: [rows]; negative ones are left out */
  const float *want;    /* NUMBERS, MARKS, REFERENCE: [rows][width] */
  const uint8_t *skip;  /* REFERENCE: [rows], 1 where a row does not count (a padded token); NULL: all count */
} PareJudged;

/* Temperatures of 1 to 16, each the one before times the root of two: a loss is flat where it is least. */
enum { PARE_TEMPERATURES = 9 };
double pare_temperature(int k);

typedef struct PareClassCount {
  int64_t right, said, labelled;
} PareClassCount;

/* Made by pare_metric_start. */
typedef struct PareMetric {
  PareMetricKind kind;
  PareArena *arena; /* of counts and pairs; NULL where the metric is a mean */
  double sum;       /* right rows, cosines, squares, overlaps */
  int64_t n;        /* rows that count; of mse, elements */
  double loss;      /* cross-entropies, squares */
  int64_t nloss;    /* of them */
  bool softens;     /* set it before batches are added: the losses at every temperature are kept as well */
  double softened[PARE_TEMPERATURES]; /* loss, of scores that are divided by one */
  PareJudges what;  /* of the batches */
  int64_t width;    /* classes or columns */
  PareClassCount *counts;           /* [width] */
  PARE_VEC(float) given, wanted;    /* pairs: rows of `width` */
} PareMetric;

const char *pare_metric_name(PareMetricKind k);
/* By name; PARE_METRIC_COUNT where there is none of it. */
PareMetricKind pare_metric_find(const char *name);
/* Whether a greater value is better. */
bool pare_metric_rises(PareMetricKind k);
/* Points in a value of 1: 100 for shares and correlations, 1 for errors in the labels' own unit. */
double pare_metric_points(PareMetricKind k);
/* Whether it is printed in %. */
bool pare_metric_is_share(PareMetricKind k);
/* Whether it can judge this. */
bool pare_metric_takes(PareMetricKind k, PareJudges what);
/* The fewest classes, or columns, of which it says anything. */
int64_t pare_metric_least(PareMetricKind k);
/* The names of those that can, joined by ", ", for a message. Lives in a; NULL when memory is out. */
const char *pare_metric_names(PareArena *a, PareJudges what);

/* `arena` keeps what grows while batches are added. */
void pare_metric_start(PareMetric *m, PareMetricKind kind, PareArena *arena);
/* Forgets what was added and keeps the room for it. */
void pare_metric_again(PareMetric *m);
/* All batches are of one kind and width. A label >= width is PARE_DATA; a row with NaN is wrong. */
PARE_MUST_USE PareStatus pare_metric_add(PareCtx *c, PareMetric *m, const PareJudged *b);
/* NaN before anything was added, and where a correlation has nothing that varies. PARE_NOMEM: room to rank in. */
PARE_MUST_USE PareStatus pare_metric_value(PareCtx *c, const PareMetric *m, double *out);
/* The mean loss beside it: cross-entropy of classes and spans, squares of numbers, of marks the binary cross-entropy;
 * 1 - value against a reference. */
PARE_MUST_USE PareStatus pare_metric_loss(PareCtx *c, const PareMetric *m, double *out);
/* The least of the mean losses of classes, spans or marks whose scores are divided by one temperature (Guo et al. 2017), of
 * a metric that softens: what they say, less that they say it too surely. Numbers have no temperature: their loss. */
PARE_MUST_USE PareStatus pare_metric_softened_loss(PareCtx *c, const PareMetric *m, double *out);

/* The largest difference of two lists and what it is relative to. Zero at the start. */
typedef struct PareDifference {
  double max_abs; /* max |a - b|; infinite where only one is NaN or they are unlike infinities */
  double scale;   /* max |a| */
} PareDifference;
void pare_difference_add(PareDifference *d, int64_t n, const float *a, const float *b);
/* max|a-b| / max|a|; 0 when nothing differs. */
double pare_difference_rel(const PareDifference *d);

#endif
