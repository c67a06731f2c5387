/* explained.c - see explained.h. */
#include "api/explained.h"

#include <math.h>

enum { MANY_LABELS = 1 << 22 };

/* Of classes label[0], label[stride] ..: the sum over labels of their entropy in nats, as a draw of so many tells it of
 * all that there might be (Miller 1955): with half of a nat for each class beyond the first. Negative ones are not asked
 * for; *asked is added the number of the others. */
static PareStatus entropies(PareCtx *c, PareArena *a, const int64_t *label, int64_t n, int64_t stride, double *out,
                            int64_t *asked) {
  int64_t end = 0, all = 0, classes = 0;
  for (int64_t i = 0; i < n; i++)
    if (label[i * stride] >= end) end = label[i * stride] + 1;
  int64_t *count = PARE_NEW_N(a, end + 1, int64_t);
  if (!count) return pare_nomem(c);
  for (int64_t i = 0; i < n; i++)
    if (label[i * stride] >= 0) count[label[i * stride]]++, all++;
  for (int64_t k = 0; k < end; k++) {
    if (!count[k]) continue;
    *out -= (double)count[k] * log((double)count[k] / (double)all);
    *out += classes++ ? 0.5 : 0;
  }
  *asked += all;
  return PARE_OK;
}

/* Of x[n][columns]: the mean over columns of the variance or, of marks, of the entropy. */
static double spread(const float *x, int64_t n, int64_t columns, bool marks) {
  double sum = 0;
  for (int64_t k = 0; k < columns; k++) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += (double)x[i * columns + k] / (double)n;
    for (int64_t i = 0; i < n; i++) square += pow((double)x[i * columns + k] - mean, 2) / (double)n;
    bool varies = mean > 0 && mean < 1;
    sum += !marks ? square : varies ? -mean * log(mean) - (1 - mean) * log1p(-mean) : 0;
  }
  return sum / (double)columns;
}

/* The loss of the best constant. */
static PareStatus constant_loss(PareCtx *c, PareArena *a, const PareData *d, PareChoice chosen, PareTaskKind kind,
                                double *out) {
  const PareArray *l = pare_data_find(d, "labels");
  int64_t each = pare_type_count(&l->type) / d->nsamples, most = each ? MANY_LABELS / each : chosen.n;
  if (chosen.n > most) chosen.n = most ? most : 1;
  int64_t n = chosen.n * each;
  if (kind == PARE_TASK_NUMBERS || kind == PARE_TASK_MARKS) {
    float *x = PARE_NEW_N(a, n, float);
    if (!x) return pare_nomem(c);
    PARE_TRY(pare_data_numbers(c, d, l, chosen.list, chosen.n, x));
    *out = spread(x, chosen.n, each, kind == PARE_TASK_MARKS);
    return PARE_OK;
  }
  int64_t *label = PARE_NEW_N(a, n, int64_t), columns = kind == PARE_TASK_SPANS ? 2 : 1;
  if (!label) return pare_nomem(c);
  PARE_TRY(pare_data_batch(c, d, l, chosen.list, chosen.n, PARE_I64, label));
  double sum = 0;
  int64_t asked = 0;
  for (int64_t k = 0; k < columns; k++) PARE_TRY(entropies(c, a, label + k, n / columns, columns, &sum, &asked));
  *out = asked ? sum / (double)asked : 0;
  return PARE_OK;
}

PareStatus pare_labels_explained(PareCtx *c, const PareGraph *g, const bool *aside, const PareData *d,
                                 PareLabelsAs as, PareChoice samples, PareChoice known,
                                 int64_t batch, PareDevice *device, const PareHooks *h, double *share) {
  PareForward *f = NULL;
  PareYardstick by;
  PareVerdict v = {0};
  double constant = 0;
  PareHooks silent = {.log = h->log, .verbose = h->verbose, .stop = h->stop};
  PareArena *a = pare_arena_new(1 << 12);
  PareStatus s = a ? pare_forward_new(c, g, d, batch, PARE_FORWARD_FUSED, device, &f) : pare_nomem(c);
  if (s == PARE_OK) s = pare_judge_choose(c, pare_forward_graph(f), aside, d, (PareAsked){.as = as}, &by);
  if (s == PARE_OK) s = constant_loss(c, a, d, known, by.task.kind, &constant);
  by.softens = true;
  if (s == PARE_OK) s = pare_judge_run(c, f, NULL, d, samples, &by, &silent, &v);
  double left = v.softened_loss / constant;
  *share = constant > 0 && left < 1 ? 1 - left : 0;
  pare_forward_free(f);
  pare_arena_free(a);
  return s;
}
