/* flights.c - what runs gave: losses, the metric, the curves. A device may be a run ahead of the host, which so never
 * waits for what it has just asked for; a host's own runs are looked at as they end. */
#include <math.h>
#include <string.h>

#include "api/call.h"
#include "api/tuner_parts.h"

enum { METRIC_POINTS = 50 }; /* of the report's curve */

PareStatus pare_tuner_open_flights(PareTuner *t) {
  const PareValue *y = t->graph.outputs[0].output, *l = t->graph.labels;
  size_t bytes;
  if (pare_program_ahead(t->program)) {
    if (!pare_type_bytes(l ? &l->type : &y->type, &bytes)) return pare_nomem(t->c);
    for (int i = 0; i < 2; i++)
      if (!(t->truth_room[i] = pare_arena_alloc(t->stage, 1, bytes + 1))) return pare_nomem(t->c);
  }
  return pare_program_watch(t->c, t->program, 2, (const PareValue *[]){t->graph.loss, y});
}

/* On a host it is looked at before the next batch is fed. */
void pare_tuner_keep_truth(PareTuner *t, const void *truth, size_t bytes) {
  t->truth = truth;
  if (!pare_program_ahead(t->program)) return;
  void *room = t->truth_room[1];
  t->truth_room[1] = t->truth_room[0];
  t->truth_room[0] = room;
  t->truth = memcpy(room, truth, bytes);
}

/* Adds the batch's first output to the metric of the curve: against labels or the teacher. */
static PareStatus measure(PareTuner *t, const void *truth) {
  const PareTeacherOutput *o = &t->graph.outputs[0];
  const float *y = pare_program_buffer(t->program, o->output);
  int64_t width = o->output->type.dim[o->output->type.rank - 1], rows = pare_type_count(&o->output->type) / width;
  const PareValue *l = t->graph.labels;
  if (l && l->type.dtype == PARE_I64) {
    t->metric.kind = PARE_METRIC_ACCURACY;
    return pare_metric_add_labels(t->c, &t->metric, rows, width, y, truth);
  }
  t->metric.kind = l ? PARE_METRIC_MSE : o->classes ? PARE_METRIC_AGREEMENT : PARE_METRIC_COSINE;
  if (l) pare_metric_add_values(&t->metric, rows * width, y, truth);
  else pare_metric_add_rows(&t->metric, rows, width, y, truth);
  return PARE_OK;
}

/* The step is known: points of the curves, which are not worth a failure. */
static void note_step(PareTuner *t) {
  int64_t every = (t->schedule.steps + METRIC_POINTS - 1) / METRIC_POINTS, step = t->landed.step;
  PareCurvePoint point = {step, t->loss, t->landed.sparsity, pare_now() - t->started};
  if (!pare_vec_push(t->arena, &t->curve, point) || step % every) return;
  PareMetricPoint m = {step, pare_metric_value(&t->metric)};
  t->metric = (PareMetric){0};
  if (!pare_vec_push(t->arena, &t->metrics, m)) return;
}

static PareStatus land(PareTuner *t) {
  PareFlight f = t->flight[0];
  t->flight[0] = t->flight[1];
  t->nflights--;
  PARE_TRY(pare_program_show(t->c, t->program));
  if (!f.step) return PARE_OK;
  PARE_TRY(measure(t, f.truth));
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
    f.sparsity = (double)dead / (double)all;
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
