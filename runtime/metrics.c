/* metrics.c - see metrics.h: the table, the loss beside every metric, and the difference of two lists. Plain loops:
 * judging costs nothing beside the model. */
#include "runtime/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/metrics/metric.h"

#define CLASSES PARE_JUDGES_CLASSES
#define NUMBERS PARE_JUDGES_NUMBERS
#define MARKS PARE_JUDGES_MARKS
#define SPANS PARE_JUDGES_SPANS
#define REFERENCE PARE_JUDGES_REFERENCE

typedef enum Unit { SHARE, RATIO, OWN } Unit;

typedef struct Row {
  const char *name;
  unsigned tasks;
  Unit unit;
  bool rises;
  int64_t least;
  PareMetricAdd *add;
  PareMetricValue *value;
} Row;

static const Row rows[PARE_METRIC_COUNT] = {
#define METRIC(id, name, tasks, unit, rises, least, add, value, text) \
  {name, tasks, unit, rises, least, pare_metric_add_##add, pare_metric_value_##value},
#include "runtime/metrics/metrics.def"
#undef METRIC
};

const char *pare_metric_name(PareMetricKind k) { return rows[k].name; }
bool pare_metric_rises(PareMetricKind k) { return rows[k].rises; }
bool pare_metric_is_share(PareMetricKind k) { return rows[k].unit == SHARE; }
double pare_metric_points(PareMetricKind k) { return rows[k].unit == OWN ? 1 : 100; }
int64_t pare_metric_least(PareMetricKind k) { return rows[k].least; }
bool pare_metric_takes(PareMetricKind k, PareJudges what) { return (rows[k].tasks & what) != 0; }

PareMetricKind pare_metric_find(const char *name) {
  int k = 0;
  while (k < PARE_METRIC_COUNT && strcmp(rows[k].name, name)) k++;
  return (PareMetricKind)k;
}

const char *pare_metric_names(PareArena *a, PareJudges what) {
  const char *text = "";
  for (int k = 0; text && k < PARE_METRIC_COUNT; k++)
    if (rows[k].tasks & what) text = pare_arena_printf(a, "%s%s%s", text, *text ? ", " : "", rows[k].name);
  return text;
}

void pare_metric_start(PareMetric *m, PareMetricKind kind, PareArena *arena) {
  *m = (PareMetric){.kind = kind, .arena = arena};
}

void pare_metric_again(PareMetric *m) {
  m->sum = m->loss = 0;
  memset(m->softened, 0, sizeof m->softened);
  m->n = m->nloss = 0;
  m->given.n = m->wanted.n = 0;
  if (m->counts) memset(m->counts, 0, (size_t)m->width * sizeof *m->counts);
}

int64_t pare_arg_max(int64_t n, const float *x) {
  int64_t best = 0;
  for (int64_t i = 0; i < n; i++) {
    if (isnan(x[i])) return -1;
    if (x[i] > x[best]) best = i;
  }
  return best;
}

/* --- the loss --- */

double pare_temperature(int k) { return exp2(k / 2.0); }

/* -log softmax(x / by)[label] */
static double cross_entropy(int64_t n, const float *x, int64_t label, double by) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
  for (int64_t i = 0; i < n; i++) sum += exp(((double)x[i] - max) / by);
  return (max - (double)x[label]) / by + log(sum);
}

/* Binary, of x against a truth t: log(1 + e^-|x|) + max(x, 0) - x·t. */
static double binary_cross_entropy(double x, double t) { return log1p(exp(-fabs(x))) + fmax(x, 0) - x * t; }

static void add_cross_entropies(PareMetric *m, const PareJudged *b) {
  for (int64_t r = 0; r < b->rows; r++) {
    const float *x = b->x + r * b->width;
    if (b->label[r] < 0) continue;
    m->loss += cross_entropy(b->width, x, b->label[r], 1);
    for (int k = 0; m->softens && k < PARE_TEMPERATURES; k++)
      m->softened[k] += cross_entropy(b->width, x, b->label[r], pare_temperature(k));
    m->nloss++;
  }
}

/* Of numbers the squares. */
static void add_errors(PareMetric *m, const PareJudged *b) {
  for (int64_t i = 0; i < b->rows * b->width; i++) {
    double x = (double)b->x[i], t = (double)b->want[i];
    m->loss += b->what == MARKS ? binary_cross_entropy(x, t) : (x - t) * (x - t);
    for (int k = 0; b->what == MARKS && m->softens && k < PARE_TEMPERATURES; k++)
      m->softened[k] += binary_cross_entropy(x / pare_temperature(k), t);
  }
  m->nloss += b->rows * b->width;
}

static PareStatus check_labels(PareCtx *c, const PareJudged *b) {
  for (int64_t r = 0; r < b->rows; r++)
    if (b->label[r] >= b->width)
      return pare_error(c, PARE_DATA, "a label is %" PRId64 ", but the model has %" PRId64 " %s", b->label[r], b->width,
                        b->what == SPANS ? "places" : "classes");
  return PARE_OK;
}

PareStatus pare_metric_add(PareCtx *c, PareMetric *m, const PareJudged *b) {
  m->what = b->what;
  m->width = b->width;
  if (b->what & (CLASSES | SPANS)) {
    PARE_TRY(check_labels(c, b));
    add_cross_entropies(m, b);
  }
  if (b->what & (NUMBERS | MARKS)) add_errors(m, b);
  return rows[m->kind].add(c, m, b);
}

PareStatus pare_metric_value(PareCtx *c, const PareMetric *m, double *out) {
  *out = NAN;
  if (!m->n) return PARE_OK;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = rows[m->kind].value(c, m, out);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

PareStatus pare_metric_loss(PareCtx *c, const PareMetric *m, double *out) {
  PARE_TRY(pare_metric_value(c, m, out));
  *out = m->what == REFERENCE ? 1 - *out : m->nloss ? m->loss / (double)m->nloss : NAN;
  return PARE_OK;
}

PareStatus pare_metric_softened_loss(PareCtx *c, const PareMetric *m, double *out) {
  PARE_TRY(pare_metric_loss(c, m, out));
  if (!m->nloss || !(m->what & (CLASSES | SPANS | MARKS))) return PARE_OK;
  for (int k = 0; k < PARE_TEMPERATURES; k++) *out = fmin(*out, m->softened[k] / (double)m->nloss);
  return PARE_OK;
}

/* --- the difference --- */

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
