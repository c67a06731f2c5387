/* judge.c - see judge.h. */
#include "api/judge.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "passes/classes.h"

/* --- which output, which metric --- */

/* Axes 1.. of labels and output are the same, but for `less` at the end. */
static bool same_rows(const PareType *labels, const PareType *out, int less) {
  if (labels->rank != out->rank - less) return false;
  for (int i = 1; i < labels->rank; i++)
    if (labels->dim[i] != out->dim[i]) return false;
  return true;
}

static bool fit_labels(const PareArray *labels, const PareType *out, PareMetricKind *kind) {
  if (!pare_dtype_is_float(out->dtype) || out->rank < 1) return false;
  int64_t last = out->dim[out->rank - 1];
  bool numbers = pare_dtype_is_float(labels->type.dtype);
  if (!numbers && last > 1 && same_rows(&labels->type, out, 1)) return *kind = PARE_METRIC_ACCURACY, true;
  bool one = last == 1 && same_rows(&labels->type, out, 1); /* [N] for [N, 1] */
  if (!one && !(numbers && same_rows(&labels->type, out, 0))) return false;
  return *kind = PARE_METRIC_MSE, true;
}

PareStatus pare_judge_find(PareCtx *c, const PareForward *f, const PareData *d, size_t *output, PareMetricKind *kind) {
  char have[PARE_TYPE_TEXT], want[300] = "", type[PARE_TYPE_TEXT];
  size_t n = 0;
  const PareArray *labels = pare_data_find(d, "labels");
  if (!labels) return pare_data_error(c, d, PARE_DATA, "there is no array 'labels' to judge by");
  for (size_t i = 0; i < pare_forward_outputs(f); i++) {
    const PareValue *v = pare_forward_value(f, i);
    if (!fit_labels(labels, &v->type, kind)) {
      if (n < sizeof want)
        n += (size_t)snprintf(want + n, sizeof want - n, "%s%s %s", i ? ", " : "", v->name, pare_type_text(&v->type, type));
      continue;
    }
    *output = i;
    /* One label a sample must be a class; of many, negative ones say "not this token". */
    if (*kind != PARE_METRIC_ACCURACY || labels->type.rank > 1) return PARE_OK;
    return pare_data_check_range(c, d, labels, v->type.dim[v->type.rank - 1], "the model's classes number");
  }
  return pare_data_error(c, d, PARE_DATA, "the labels are %s, which fits no output of the model: %s",
                         pare_type_text(&labels->type, have), want);
}

PareStatus pare_judge_pick(PareCtx *c, const PareForward *f, size_t *output, PareMetricKind *kind) {
  for (size_t i = 0; i < pare_forward_outputs(f); i++) {
    const PareValue *v = pare_forward_value(f, i);
    if (!pare_dtype_is_float(v->type.dtype)) continue;
    *kind = pare_output_is_classes(v) ? PARE_METRIC_AGREEMENT : PARE_METRIC_COSINE;
    *output = i;
    return PARE_OK;
  }
  return pare_error(c, PARE_UNSUPPORTED, "the model has no output of floats to judge by");
}

/* --- running --- */

typedef struct Judge {
  PareCtx *c;
  PareForward *f, *reference;
  const PareData *d;
  size_t output;
  PareMetric *m;
  const PareArray *labels;
  int64_t *classes; /* labels of a batch; of integer type */
  float *numbers;   /* the same for MSE */
  int64_t per_sample; /* of labels */
} Judge;

static PareStatus judge_start(Judge *j) {
  if (j->m->kind != PARE_METRIC_ACCURACY && j->m->kind != PARE_METRIC_MSE) return PARE_OK;
  j->labels = pare_data_find(j->d, "labels");
  j->per_sample = pare_type_count(&j->labels->type) / j->d->nsamples;
  int64_t n = j->per_sample * pare_forward_batch(j->f);
  j->classes = PARE_NEW_N(j->c->scratch, n, int64_t);
  j->numbers = PARE_NEW_N(j->c->scratch, n, float);
  return j->classes && j->numbers ? PARE_OK : pare_nomem(j->c);
}

static PareStatus add_labels(Judge *j, const int64_t *samples, int64_t count, int64_t last, const float *x) {
  int64_t n = j->per_sample * count;
  bool integers = !pare_dtype_is_float(j->labels->type.dtype);
  if (integers) PARE_TRY(pare_data_batch(j->c, j->d, j->labels, samples, count, PARE_I64, j->classes));
  else PARE_TRY(pare_data_batch(j->c, j->d, j->labels, samples, count, PARE_F32, j->numbers));
  if (j->m->kind == PARE_METRIC_ACCURACY) return pare_metric_add_labels(j->c, j->m, n, last, x, j->classes);
  for (int64_t i = 0; integers && i < n; i++) j->numbers[i] = (float)j->classes[i];
  pare_metric_add_values(j->m, n, x, j->numbers);
  return PARE_OK;
}

static PareStatus judge_batch(Judge *j, const int64_t *samples, int64_t count) {
  PARE_TRY(pare_forward_run(j->c, j->f, samples, count));
  if (j->reference) PARE_TRY(pare_forward_run(j->c, j->reference, samples, count));
  const PareType *t = &pare_forward_value(j->f, j->output)->type;
  int64_t last = t->rank ? t->dim[t->rank - 1] : 1, n = pare_forward_width(j->f, j->output) * count;
  const float *x = pare_forward_floats(j->f, j->output);
  if (j->reference) {
    pare_metric_add_rows(j->m, last ? n / last : 0, last, x, pare_forward_floats(j->reference, j->output));
    return PARE_OK;
  }
  return add_labels(j, samples, count, last, x);
}

static PareStatus judge_all(Judge *j, PareChoice chosen, const PareHooks *h) {
  int64_t batch = pare_forward_batch(j->f);
  if (j->reference && pare_forward_batch(j->reference) < batch) batch = pare_forward_batch(j->reference);
  int64_t *samples = PARE_NEW_N(j->c->scratch, batch, int64_t);
  if (!samples) return pare_nomem(j->c);
  PARE_TRY(judge_start(j));
  double start = pare_now();
  for (int64_t at = 0; at < chosen.n; at += batch) {
    if (pare_stopped(h)) return pare_error(j->c, PARE_INTERRUPTED, "interrupted");
    int64_t count = chosen.n - at < batch ? chosen.n - at : batch;
    for (int64_t i = 0; i < count; i++) samples[i] = chosen.list ? chosen.list[at + i] : at + i;
    PARE_TRY(judge_batch(j, samples, count));
    double rate = (double)(at + count) / (pare_now() - start);
    pare_progress(h, &(PareProgress){.phase = "judging", .step = at + count, .steps = chosen.n, .loss = NAN,
                                     .sparsity = NAN, .samples_per_second = rate,
                                     .seconds_left = (double)(chosen.n - at - count) / rate});
  }
  return PARE_OK;
}

PareStatus pare_judge_run(PareCtx *c, PareForward *f, PareForward *reference, const PareData *d, PareChoice chosen,
                          size_t output, PareMetricKind kind, const PareHooks *h, PareMetric *out) {
  *out = (PareMetric){.kind = kind};
  Judge j = {.c = c, .f = f, .reference = reference, .d = d, .output = output, .m = out};
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = judge_all(&j, chosen, h);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
