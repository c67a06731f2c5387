/* batches.c - what a run of the program is fed: which samples, their labels, and what the teacher says of them. */
#include <math.h>
#include <string.h>

#include "api/tuner_parts.h"
#include "base/rng.h"

/* The samples of a run: places in an endless sequence of shuffled epochs. */
static void choose_samples(const PareTuner *t, int64_t first, int64_t *out) {
  for (int64_t i = 0; i < t->batch; i++) {
    int64_t at = first + i;
    out[i] = t->samples[pare_data_order((uint64_t)t->o->seed, at / t->nsamples, t->nsamples, at % t->nsamples)];
  }
}

static PareStatus note_first_runs(PareTuner *t) {
  if (!(t->first_run = PARE_NEW_N(t->arena, t->data->nsamples + 1, int64_t))) return pare_nomem(t->c);
  for (int64_t i = 0; i < t->nsamples; i++)
    t->first_run[t->samples[pare_data_order((uint64_t)t->o->seed, 0, t->nsamples, i)]] = i / t->batch;
  return PARE_OK;
}

/* The teacher's outputs for a run. What it remembers of a sample must come from the batch that the sample was first
 * in, also when that was before a resume: the last bits of an output depend on its neighbours. */
static PareStatus teach(PareTuner *t, int64_t run) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  int64_t *samples = PARE_NEW_N(t->c->scratch, t->batch, int64_t);
  if (!samples) return pare_nomem(t->c);
  if (!t->first_run) PARE_TRY(note_first_runs(t));
  choose_samples(t, run * t->batch, samples);
  for (int64_t i = 0; i < t->batch; i++)
    if (t->first_run[samples[i]] < run && !pare_teacher_knows(t->teacher, samples[i]))
      PARE_TRY(teach(t, t->first_run[samples[i]]));
  PARE_TRY(pare_teacher_run(t->c, t->teacher, samples, t->batch));
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

static int64_t draw(const float *logits, int64_t n, double u) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) max = fmax(max, (double)logits[i]);
  for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
  for (int64_t i = 0; i < n; i++)
    if ((u -= exp((double)logits[i] - max) / sum) < 0) return i;
  return n - 1;
}

/* Labels drawn from the teacher, or random signs; none where a place is padding. */
static PareStatus fill_fisher(PareTuner *t, const PareTeacherOutput *o, const float *y, const uint8_t *padding,
                              uint64_t key) {
  const PareType *type = &o->output->type;
  int64_t last = type->dim[type->rank - 1], places = padding ? type->dim[0] * type->dim[1] : 1;
  if (o->sampled) {
    int64_t *label = pare_program_buffer(t->program, o->sampled), rows = pare_type_count(&o->sampled->type);
    for (int64_t i = 0, each = rows / places; i < rows; i++)
      label[i] = padding && padding[i / each] ? -1 : draw(y + i * last, last, pare_rng_uniform(key, (uint64_t)i));
    return pare_program_push(t->c, t->program, o->sampled);
  } else if (o->signs) {
    float *sign = pare_program_buffer(t->program, o->signs);
    for (int64_t i = 0, n = pare_type_count(type), each = n / places; i < n; i++)
      sign[i] = padding && padding[i / each] ? 0 : pare_rng_u64(key, (uint64_t)i) & 1 ? 1 : -1;
    return pare_program_push(t->c, t->program, o->signs);
  }
  return PARE_OK;
}

static PareStatus fill_hidden(PareTuner *t) {
  double weight = t->o->hidden_weight / (double)(t->graph.nhidden ? t->graph.nhidden : 1);
  for (size_t i = 0; i < t->graph.nhidden; i++) {
    const PareTeacherHidden *h = &t->graph.hidden[i];
    PARE_TRY(pare_teacher_hidden(t->c, t->teacher, i, weight, pare_program_buffer(t->program, h->target),
                                 pare_program_buffer(t->program, h->scale)));
    PARE_TRY(pare_program_push(t->c, t->program, h->target));
    PARE_TRY(pare_program_push(t->c, t->program, h->scale));
  }
  return PARE_OK;
}

static PareStatus fill_labels(PareTuner *t, const int64_t *samples) {
  const PareArray *l = pare_data_find(t->data, "labels");
  const PareType *type = &t->graph.labels->type;
  void *to = pare_program_buffer(t->program, t->graph.labels);
  if (type->dtype == PARE_I64) PARE_TRY(pare_data_batch(t->c, t->data, l, samples, t->batch, PARE_I64, to));
  else PARE_TRY(pare_data_numbers(t->c, t->data, l, samples, t->batch, to));
  pare_tuner_keep_truth(t, to, (size_t)pare_type_count(type) * pare_dtype_size(type->dtype));
  return pare_program_push(t->c, t->program, t->graph.labels);
}

static PareStatus fill_targets(PareTuner *t, const int64_t *samples, int64_t run) {
  if (t->graph.labels) PARE_TRY(fill_labels(t, samples));
  if (!t->teacher) return PARE_OK;
  PARE_TRY(teach(t, run));
  for (size_t i = 0; i < t->graph.noutputs; i++) {
    const PareTeacherOutput *o = &t->graph.outputs[i];
    const float *y = pare_teacher_output(t->teacher, i);
    size_t bytes = (size_t)pare_type_count(&o->output->type) * sizeof *y;
    uint8_t *padding;
    PARE_TRY(pare_feed_padding(t->c, t->graph.g, t->data, o->output, samples, t->batch, &padding));
    if (i == 0 && !t->graph.labels) pare_tuner_keep_reference(t, y, bytes, padding);
    if (o->teacher) {
      memcpy(pare_program_buffer(t->program, o->teacher), y, bytes);
      PARE_TRY(pare_program_push(t->c, t->program, o->teacher));
    }
    PARE_TRY(fill_fisher(t, o, y, padding, pare_rng_u64((uint64_t)t->o->seed + 1, (uint64_t)run * 64 + i)));
  }
  return fill_hidden(t);
}

PareStatus pare_tuner_feed(PareTuner *t, int64_t run) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  int64_t *samples = PARE_NEW_N(t->c->scratch, t->batch, int64_t);
  if (!samples) return pare_nomem(t->c);
  choose_samples(t, run * t->batch, samples);
  PARE_TRY(pare_feed_fill(t->c, t->graph.g, t->program, t->data, samples, t->batch, t->batch));
  PARE_TRY(fill_targets(t, samples, run));
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}
