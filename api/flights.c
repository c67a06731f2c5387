/* flights.c - what runs gave: losses, the metric, the curves. A device may be a run ahead of the host, which so never
 * waits for what it has just asked for; a host's own runs are looked at as they end. */
#include <math.h>
#include <string.h>

#include "api/call.h"
#include "api/feed.h"
#include "api/judge.h"
#include "api/tuner_parts.h"

enum { METRIC_POINTS = 50 }; /* of the report's curve */

static int64_t judged_rows(const PareTuner *t) {
  const PareType *y = &t->graph.judged->type;
  return pare_type_count(y) / pare_task_row(y);
}

PareStatus pare_tuner_open_flights(PareTuner *t) {
  const PareValue *y = t->graph.judged, *l = t->graph.labels;
  bool ahead = pare_program_ahead(t->program), padded = !l && pare_task_padding(t->graph.g, y);
  size_t bytes;
  if (!pare_type_bytes(l ? &l->type : &y->type, &bytes)) return pare_nomem(t->c);
  for (int i = 0; i < 2; i++) {
    if (ahead && !(t->truth_room[i] = pare_arena_alloc(t->stage, 1, bytes + 1))) return pare_nomem(t->c);
    if (padded && !(t->skip_room[i] = PARE_NEW_N(t->stage, judged_rows(t), uint8_t))) return pare_nomem(t->c);
  }
  return pare_program_watch(t->c, t->program, 2, (const PareValue *[]){t->graph.loss, y});
}

/* On a host it is looked at before the next batch is fed. */
void pare_tuner_keep_truth(PareTuner *t, const void *truth, size_t bytes) {
  t->truth = (PareTruth){.at = truth};
  if (!pare_program_ahead(t->program)) return;
  void *room = t->truth_room[1];
  t->truth_room[1] = t->truth_room[0];
  t->truth_room[0] = room;
  t->truth.at = memcpy(room, truth, bytes);
}

void pare_tuner_keep_reference(PareTuner *t, const void *truth, size_t bytes, const uint8_t *padding) {
  const PareType *y = &t->graph.judged->type;
  pare_tuner_keep_truth(t, truth, bytes);
  if (!padding) return;
  uint8_t *room = t->skip_room[1];
  t->skip_room[1] = t->skip_room[0];
  t->skip_room[0] = room;
  pare_feed_spread(y->dim[0] * y->dim[1], padding, judged_rows(t), room);
  t->truth.skip = room;
}

/* The metric of the curve: the one that was asked for, where it fits what the batches are measured against, else the
 * usual one. */
static PareMetricKind curve_metric(const PareTuner *t, PareJudges what) {
  const PareType *y = &t->graph.judged->type;
  bool several = what == PARE_JUDGES_REFERENCE ? t->graph.outputs[0].classes : pare_task_row(y) > 1;
  PareMetricKind usual = pare_judge_usual(what, several);
  PareMetricKind asked = t->o->metric ? (PareMetricKind)(t->o->metric - 1) : usual;
  return pare_metric_takes(asked, what) ? asked : usual;
}

/* Adds what the labels speak of, or without labels the first output and the teacher's, to the metric of the curve. */
static PareStatus measure(PareTuner *t, const PareTruth *truth) {
  const PareValue *y = t->graph.judged, *l = t->graph.labels;
  PareJudged b = {.what = l ? pare_judges_task(t->spec.task.kind) : PARE_JUDGES_REFERENCE,
                  .width = pare_task_row(&y->type), .x = pare_program_buffer(t->program, y)};
  b.rows = pare_type_count(&y->type) / b.width;
  if (l && l->type.dtype == PARE_I64) b.label = truth->at;
  else b.want = truth->at;
  b.skip = truth->skip;
  if (!t->metric.arena) pare_metric_start(&t->metric, curve_metric(t, b.what), t->arena);
  return pare_metric_add(t->c, &t->metric, &b);
}

/* The step is known: points of the curves, which are not worth a failure. */
static void note_step(PareTuner *t) {
  int64_t every = (t->schedule.steps + METRIC_POINTS - 1) / METRIC_POINTS, step = t->landed.step;
  PareCurvePoint point = {step, t->loss, t->landed.sparsity, pare_now() - t->started};
  if (!pare_vec_push(t->arena, &t->curve, point) || step % every) return;
  PareMetricPoint m = {.step = step};
  if (pare_metric_value(t->c, &t->metric, &m.value) != PARE_OK) return;
  pare_metric_again(&t->metric);
  if (!pare_vec_push(t->arena, &t->metrics, m)) return;
}

static PareStatus land(PareTuner *t) {
  PareFlight f = t->flight[0];
  t->flight[0] = t->flight[1];
  t->nflights--;
  PARE_TRY(pare_program_show(t->c, t->program));
  if (!f.step) return PARE_OK;
  PARE_TRY(measure(t, &f.truth));
  t->partial += f.weight * (double)*(float *)pare_program_buffer(t->program, t->graph.loss);
  if (!f.last) return PARE_OK;
  t->loss = t->partial;
  t->partial = 0;
  if (!isfinite(t->loss))
    return pare_error(t->c, PARE_GATE, "the loss is not a number at step %lld: lower --lr", (long long)f.step);
  t->landed = f;
  note_step(t);
  return PARE_OK;
}

PareStatus pare_tuner_take_off(PareTuner *t, PareFlight f) {
  int64_t all, dead;
  f.truth = t->truth;
  f.tuned = t->tuned + t->micro * t->batch;
  if (f.last) {
    pare_tuner_count(t, &all, &dead);
    f.sparsity = all ? (double)dead / (double)all : 0;
  }
  t->flight[t->nflights++] = f;
  while (t->nflights > pare_program_ahead(t->program)) PARE_TRY(land(t));
  return PARE_OK;
}

PareStatus pare_tuner_land_all(PareTuner *t) {
  while (t->nflights) PARE_TRY(land(t));
  pare_tuner_tell(t);
  return PARE_OK;
}

void pare_tuner_tell(PareTuner *t) {
  const PareFlight *f = &t->landed;
  if (!f->step) return;
  t->seconds = pare_now() - t->started;
  PareProgress p = {.phase = "tuning", .step = f->step, .steps = t->schedule.steps, .loss = t->loss,
                    .sparsity = f->sparsity, .samples_per_second = (double)f->tuned / t->seconds,
                    .seconds_left = t->seconds / (double)f->step * (double)(t->schedule.steps - f->step)};
  t->landed.step = 0;
  if (t->h->progress) t->h->progress(t->h->arg, &p);
}
