/* yardstick.c - see yardstick.h. */
#include "api/yardstick.h"

#include <math.h>
#include <string.h>

const char *pare_yardstick_loss_name(const PareYardstick *y) {
  if (y->labels) return y->kind == PARE_METRIC_MSE ? "mse" : "ce";
  return y->kind == PARE_METRIC_AGREEMENT ? "kl" : "1 - cosine";
}

/* log of the sum of exp, shifted by the greatest. */
static double log_sum(int64_t n, const float *x) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
  for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
  return max + log(sum);
}

/* Kullback and Leibler's divergence of softmax(x) from softmax(reference). */
static double divergence(int64_t n, const float *x, const float *reference) {
  double lx = log_sum(n, x), lr = log_sum(n, reference), sum = 0;
  for (int64_t i = 0; i < n; i++) {
    double p = (double)reference[i] - lr, q = (double)x[i] - lx;
    sum += exp(p) * (p - q);
  }
  return sum;
}

static PareStatus run_batch(PareCtx *c, const PareYardstick *y, PareForward *f, int64_t at, int64_t *samples,
                            int64_t *count) {
  int64_t left = y->chosen.n - at, batch = pare_forward_batch(f);
  if (pare_stopped(y->h)) return pare_error(c, PARE_INTERRUPTED, "interrupted");
  *count = left < batch ? left : batch;
  for (int64_t i = 0; i < *count; i++) samples[i] = y->chosen.list ? y->chosen.list[at + i] : at + i;
  return pare_forward_run(c, f, samples, *count);
}

static PareStatus compare(PareCtx *c, const PareYardstick *y, PareForward *f, double *loss, double *value) {
  const PareType *t = &pare_forward_value(f, y->output)->type;
  int64_t width = pare_forward_width(f, y->output), last = t->rank ? t->dim[t->rank - 1] : 1, count, rows = 0;
  int64_t *samples = PARE_NEW_N(c->scratch, pare_forward_batch(f), int64_t);
  PareMetric m = {.kind = y->kind};
  if (!samples) return pare_nomem(c);
  *loss = 0;
  for (int64_t at = 0; at < y->chosen.n; at += count) {
    PARE_TRY(run_batch(c, y, f, at, samples, &count));
    const float *x = pare_forward_floats(f, y->output), *r = y->reference + at * width;
    int64_t n = last ? width * count / last : 0;
    pare_metric_add_rows(&m, n, last, x, r);
    for (int64_t i = 0; i < n && y->kind == PARE_METRIC_AGREEMENT; i++) *loss += divergence(last, x + i * last, r + i * last);
    rows += n;
  }
  *value = pare_metric_value(&m);
  *loss = y->kind == PARE_METRIC_AGREEMENT ? *loss / (double)rows : 1 - *value;
  return PARE_OK;
}

static PareStatus judge(PareCtx *c, const PareYardstick *y, PareForward *f, double *loss, double *value) {
  PareMetric m;
  PareHooks quiet = {.stop = y->h ? y->h->stop : NULL};
  if (!y->labels) return compare(c, y, f, loss, value);
  PARE_TRY(pare_judge_run(c, f, NULL, y->data, y->chosen, y->output, y->kind, &quiet, &m));
  *loss = pare_metric_loss(&m);
  *value = pare_metric_value(&m);
  return PARE_OK;
}

static PareStatus remember(PareCtx *c, PareArena *a, PareYardstick *y, PareForward *f) {
  int64_t width = pare_forward_width(f, y->output), count;
  int64_t *samples = PARE_NEW_N(c->scratch, pare_forward_batch(f), int64_t);
  y->reference = PARE_NEW_N(a, y->chosen.n * width, float);
  if (!samples || !y->reference) return pare_nomem(c);
  for (int64_t at = 0; at < y->chosen.n; at += count) {
    PARE_TRY(run_batch(c, y, f, at, samples, &count));
    memcpy(y->reference + at * width, pare_forward_floats(f, y->output), (size_t)(count * width) * sizeof(float));
  }
  return PARE_OK;
}

static PareStatus set_up(PareCtx *c, PareArena *a, PareYardstick *y, PareForward *f) {
  y->labels = pare_data_find(y->data, "labels") != NULL;
  if (y->labels) PARE_TRY(pare_judge_find(c, f, y->data, &y->output, &y->kind));
  else PARE_TRY(pare_judge_pick(c, f, &y->output, &y->kind));
  if (!y->labels) PARE_TRY(remember(c, a, y, f));
  return judge(c, y, f, &y->loss, &y->value);
}

PareStatus pare_yardstick_new(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d, PareChoice chosen,
                              int64_t batch, PareDevice *device, const PareHooks *h, PareYardstick *out) {
  PareForward *f = NULL;
  *out = (PareYardstick){.data = d, .chosen = chosen, .batch = batch, .device = device, .h = h};
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = pare_forward_new(c, g, d, batch, PARE_FORWARD_FUSED, device, &f);
  if (s == PARE_OK) s = set_up(c, a, out, f);
  pare_forward_free(f);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

PareStatus pare_yardstick_measure(PareCtx *c, const PareYardstick *y, const PareGraph *g, double *loss, double *value) {
  PareForward *f = NULL;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = pare_forward_new(c, g, y->data, y->batch, PARE_FORWARD_FUSED, y->device, &f);
  if (s == PARE_OK) s = judge(c, y, f, loss, value);
  pare_forward_free(f);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
