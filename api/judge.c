/* judge.c - see judge.h. */
#include "api/judge.h"

#include <math.h>
#include <string.h>

#include "api/feed.h"
#include "passes/classes.h"

/* --- by what --- */

PareJudges pare_judges_task(PareTaskKind kind) {
  static const PareJudges what[] = {
      [PARE_TASK_CLASSES] = PARE_JUDGES_CLASSES, [PARE_TASK_NUMBERS] = PARE_JUDGES_NUMBERS,
      [PARE_TASK_MARKS] = PARE_JUDGES_MARKS, [PARE_TASK_SPANS] = PARE_JUDGES_SPANS};
  return what[kind];
}

PareMetricKind pare_judge_usual(PareJudges what, bool several) {
  switch (what) {
    case PARE_JUDGES_CLASSES: return PARE_METRIC_ACCURACY;
    case PARE_JUDGES_NUMBERS: return PARE_METRIC_MSE;
    case PARE_JUDGES_MARKS: return several ? PARE_METRIC_F1 : PARE_METRIC_ACCURACY;
    case PARE_JUDGES_SPANS: return PARE_METRIC_SPAN_F1;
    default: return several ? PARE_METRIC_AGREEMENT : PARE_METRIC_COSINE;
  }
}

static PareStatus choose_reference(PareCtx *c, const PareGraph *g, const bool *aside, PareYardstick *out) {
  for (size_t i = 0; i < g->outputs.n; i++) {
    const PareValue *v = g->outputs.at[i];
    if (!pare_is_followed(g, aside, i)) continue;
    *out = (PareYardstick){.metric = pare_judge_usual(PARE_JUDGES_REFERENCE, pare_output_is_classes(v)),
                           .what = PARE_JUDGES_REFERENCE,
                           .task = {.output = i, .last = i}};
    return PARE_OK;
  }
  return pare_error(c, PARE_UNSUPPORTED, "the model has no output of floats to judge by");
}

/* One label a sample must be a class; of many, and of places, negative ones say "not this". */
static PareStatus check_labels(PareCtx *c, const PareGraph *g, const PareData *d, const PareArray *l,
                               const PareTask *task) {
  const PareType *t = &g->outputs.at[task->output]->type;
  if (task->kind == PARE_TASK_SPANS) return pare_data_check_below(c, d, l, t->dim[1], "the model's places number");
  if (task->kind != PARE_TASK_CLASSES) return PARE_OK;
  int64_t classes = t->dim[t->rank - 1];
  if (l->type.rank == 1) return pare_data_check_range(c, d, l, classes, "the model's classes number");
  return pare_data_check_below(c, d, l, classes, "the model's classes number");
}

static PareStatus choose_task(PareCtx *c, const PareGraph *g, const bool *aside, const PareData *d, const PareArray *l,
                              PareLabelsAs as, PareYardstick *out) {
  PareLabels labels = {l->type, pare_data_marks(l), as};
  PARE_TRY(pare_task_find(c, d->file, &labels, g, aside, &out->task));
  out->what = pare_judges_task(out->task.kind);
  out->metric = pare_judge_usual(out->what, pare_task_row(&g->outputs.at[out->task.output]->type) > 1);
  return check_labels(c, g, d, l, &out->task);
}

/* The metric that was asked for, where it has something to say of the task. */
static PareStatus take_metric(PareCtx *c, const PareGraph *g, const PareData *d, PareMetricKind asked,
                              PareYardstick *out) {
  int64_t width = pare_task_row(&g->outputs.at[out->task.output]->type);
  out->metric = asked;
  if (!pare_metric_takes(asked, out->what)) {
    const char *names = pare_metric_names(c->scratch, out->what);
    return names ? pare_data_error(c, d, PARE_USAGE, "--metric %s does not judge such labels: for these there are %s",
                                   pare_metric_name(asked), names) : pare_nomem(c);
  }
  if (width >= pare_metric_least(asked)) return PARE_OK;
  return pare_data_error(c, d, PARE_USAGE, "--metric %s says nothing of %lld classes: it needs %lld",
                         pare_metric_name(asked), (long long)width, (long long)pare_metric_least(asked));
}

PareStatus pare_judge_choose(PareCtx *c, const PareGraph *g, const bool *aside, const PareData *d, PareAsked by,
                             PareYardstick *out) {
  const PareArray *l = pare_data_find(d, "labels");
  PareMetricKind asked = (PareMetricKind)(by.metric - 1);
  bool reference = by.metric ? pare_metric_takes(asked, PARE_JUDGES_REFERENCE) : by.reference || !l;
  if (!l && !reference)
    return pare_data_error(c, d, PARE_DATA, "there is no array 'labels' for --metric %s to judge by",
                           pare_metric_name(asked));
  PARE_TRY(reference ? choose_reference(c, g, aside, out) : choose_task(c, g, aside, d, l, by.as, out));
  return by.metric ? take_metric(c, g, d, asked, out) : PARE_OK;
}

/* --- running --- */

typedef struct Judge {
  PareCtx *c;
  PareForward *f, *reference;
  const PareData *d;
  const PareYardstick *by;
  PareMetric m;
  PareArena *arena; /* of what follows */
  const PareArray *labels; /* NULL: none are read */
  int64_t *label;   /* of a batch */
  float *want;      /* the same for numbers */
  float *spans;     /* [2·batch][L] */
  uint8_t *skip;    /* room for the marks of a batch's rows */
} Judge;

static const PareValue *judged(const Judge *j) { return pare_forward_value(j->f, j->by->task.output); }

/* Room for `n` samples at a time. */
static PareStatus judge_start(Judge *j, int64_t n) {
  const PareType *t = &judged(j)->type;
  pare_metric_start(&j->m, j->by->metric, j->arena);
  j->m.softens = j->by->softens;
  if (j->reference) {
    int64_t width = pare_task_row(t), rows = width ? pare_forward_width(j->f, j->by->task.output) / width : 0;
    j->skip = PARE_NEW_N(j->arena, n * rows + 1, uint8_t);
    return j->skip ? PARE_OK : pare_nomem(j->c);
  }
  j->labels = pare_data_find(j->d, "labels");
  int64_t labels = n * (pare_type_count(&j->labels->type) / j->d->nsamples);
  j->label = PARE_NEW_N(j->arena, labels, int64_t);
  j->want = PARE_NEW_N(j->arena, labels, float);
  if (j->by->what == PARE_JUDGES_SPANS) j->spans = PARE_NEW_N(j->arena, 2 * n * t->dim[1], float);
  return j->label && j->want && (j->spans || j->by->what != PARE_JUDGES_SPANS) ? PARE_OK : pare_nomem(j->c);
}

/* Scores of first and of last places in turns, a row each. */
static void gather_spans(Judge *j, int64_t count, int64_t length) {
  const PareTask *task = &j->by->task;
  const float *first = pare_forward_scores(j->f, task->output), *last = pare_forward_scores(j->f, task->last);
  bool both = task->output == task->last;
  for (int64_t i = 0; i < count; i++)
    for (int64_t k = 0; k < length; k++) {
      int64_t at = i * length + k;
      j->spans[2 * i * length + k] = both ? first[2 * at] : first[at];
      j->spans[(2 * i + 1) * length + k] = both ? first[2 * at + 1] : last[at];
    }
}

const float *pare_judge_rows(const PareYardstick *by, PareForward *f) {
  bool scores = (by->what & (PARE_JUDGES_CLASSES | PARE_JUDGES_MARKS)) || by->metric == PARE_METRIC_AGREEMENT;
  return scores ? pare_forward_scores(f, by->task.output) : pare_forward_floats(f, by->task.output);
}

static PareStatus add_reference(Judge *j, const int64_t *samples, int64_t count, PareJudged *b) {
  b->want = pare_judge_rows(j->by, j->reference);
  PARE_TRY(pare_feed_padded_rows(j->c, pare_forward_graph(j->f), j->d, judged(j), samples, count, b->rows, j->skip,
                                 &b->skip));
  return pare_metric_add(j->c, &j->m, b);
}

static PareStatus add_labels(Judge *j, const int64_t *samples, int64_t count, PareJudged *b) {
  bool whole = b->what == PARE_JUDGES_CLASSES || b->what == PARE_JUDGES_SPANS;
  if (whole) PARE_TRY(pare_data_batch(j->c, j->d, j->labels, samples, count, PARE_I64, j->label));
  else PARE_TRY(pare_data_numbers(j->c, j->d, j->labels, samples, count, j->want));
  b->label = j->label;
  b->want = j->want;
  return pare_metric_add(j->c, &j->m, b);
}

static PareStatus judge_batch(Judge *j, const int64_t *samples, int64_t count) {
  PARE_TRY(pare_forward_run(j->c, j->f, samples, count));
  if (j->reference) PARE_TRY(pare_forward_run(j->c, j->reference, samples, count));
  const PareType *t = &judged(j)->type;
  PareJudged b = {.what = j->by->what};
  if (j->spans) {
    gather_spans(j, count, t->dim[1]);
    b.x = j->spans, b.rows = 2 * count, b.width = t->dim[1];
    return add_labels(j, samples, count, &b);
  }
  int64_t n = pare_forward_width(j->f, j->by->task.output) * count;
  b.width = pare_task_row(t);
  b.rows = b.width ? n / b.width : 0;
  b.x = pare_judge_rows(j->by, j->f);
  return j->reference ? add_reference(j, samples, count, &b) : add_labels(j, samples, count, &b);
}

static PareStatus judge_all(Judge *j, PareChoice chosen, const PareHooks *h) {
  int64_t batch = pare_forward_batch(j->f);
  if (j->reference && pare_forward_batch(j->reference) < batch) batch = pare_forward_batch(j->reference);
  int64_t *samples = PARE_NEW_N(j->arena, batch, int64_t);
  if (!samples) return pare_nomem(j->c);
  PARE_TRY(judge_start(j, batch));
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
                          const PareYardstick *by, const PareHooks *h, PareVerdict *out) {
  Judge j = {.c = c, .f = f, .reference = reference, .d = d, .by = by, .arena = pare_arena_new(1 << 16)};
  PareStatus s = j.arena ? judge_all(&j, chosen, h) : pare_nomem(c);
  if (s == PARE_OK) s = pare_metric_value(c, &j.m, &out->value);
  if (s == PARE_OK) s = pare_metric_loss(c, &j.m, &out->loss);
  out->softened_loss = NAN;
  if (s == PARE_OK && by->softens) s = pare_metric_softened_loss(c, &j.m, &out->softened_loss);
  pare_arena_free(j.arena);
  return s;
}
