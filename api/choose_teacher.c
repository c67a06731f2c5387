/* choose_teacher.c - what tuning follows beside labels, or without them, and how far. */
#include <math.h>

#include "api/explained.h"
#include "api/options.h"
#include "api/other_teacher.h"
#include "api/tuner_parts.h"

enum { FEW = 64, MANY = 512 }; /* samples: the mean of so many losses is known to some hundredths of what it varies by */
static const double LEAST_MU = 0.1, /* less is not worth a teacher */
                    ASKED_MU = 0.5, /* what --distill means at least */
                    MOST_MU = 0.95; /* more leaves labels next to no gradient to score by: they are as good as none */

/* A draw of the samples to tune on, which may lie in the order of their labels; no more than are tuned on. */
static int64_t draw(const PareTuner *t, int64_t sample[MANY]) {
  int64_t tuned = t->schedule.steps * t->o->batch, most = tuned < FEW ? FEW : tuned > MANY ? MANY : tuned;
  int64_t n = t->nsamples < most ? t->nsamples : most;
  for (int64_t i = 0; i < n; i++) sample[i] = t->samples[pare_data_order((uint64_t)t->o->seed, 0, t->nsamples, i)];
  return n;
}

/* --mu auto: the share of the labels that the teacher explains (explained.h), at least what was asked for. */
static PareStatus choose_mu(PareTuner *t, const PareGraph *teacher, const bool *aside, double asked) {
  int64_t sample[MANY];
  t->mu = t->o->mu;
  if (t->mu != PARE_AUTO) return PARE_OK;
  PARE_TRY(pare_labels_explained(t->c, teacher, aside, t->data, sample, draw(t, sample), t->o->batch, t->device, t->h, &t->mu));
  if (asked) t->mu = fmin(fmax(t->mu, asked), MOST_MU);
  return PARE_OK;
}

static PareStatus take_other_teacher(PareTuner *t) {
  PareOtherTeacher other;
  PareStatus s = pare_other_teacher_open(t->c, t->arena, t->o->teacher, t->dense, t->aside.of, &t->spec.hidden,
                                         t->data, &other);
  t->other = other.model;
  if (s != PARE_OK) return s;
  t->spec.hidden.at.n = other.nhidden;
  if (!other.nhidden) t->spec.teach_outputs = true;
  PareWatch w = {.n = other.nhidden, .value = other.hidden, .felt = other.nhidden, .aside = other.aside.of,
                 .bf16 = t->spec.bf16};
  if (t->spec.loss != PARE_LOSS_KD) PARE_TRY(choose_mu(t, t->other->graph, other.aside.of, ASKED_MU));
  return pare_teacher_new(t->c, t->other->graph, t->data, t->o->batch, &w, other.order, t->device, &t->teacher);
}

/* --mu is about two losses. */
static PareStatus check_mu(PareTuner *t, bool both) {
  static const int ids[] = {PARE_OPTION_ID_mu, PARE_OPTION_ID_mu_ramp};
  for (size_t i = 0; i < sizeof ids / sizeof *ids && !both; i++)
    if (pare_option_source(t->o, ids[i]) != PARE_FROM_DEFAULT)
      return pare_error(t->c, PARE_USAGE, "--%s blends the losses of labels and of distillation, and there is one of them "
                        "only: give labels and --distill logits, hidden or both", pare_option_name(ids[i]));
  return PARE_OK;
}

static PareStatus take_own_teacher(PareTuner *t) {
  PareOutputOrder order = {.pairs = t->aside.pairs};
  PareWatch w = {.n = t->spec.hidden.at.n, .felt = t->spec.hidden.at.n, .aside = t->aside.of, .bf16 = t->spec.bf16};
  uint32_t *value = PARE_NEW_N(t->arena, w.n + 1, uint32_t);
  if (!value) return pare_nomem(t->c);
  for (size_t i = 0; i < w.n; i++) value[i] = t->spec.hidden.at.at[i].value;
  w.value = value;
  if (!w.n) t->spec.teach_outputs = true; /* no state has the same shape throughout */
  return pare_teacher_new(t->c, t->dense, t->data, t->o->batch, &w, order, t->device, &t->teacher);
}

/* --distill auto: without labels; another teacher; --mu; and, unless --loss says what else is minimised, where something
 * goes of a model that knows the labels; where it knows them all, they are left out. */
static PareStatus is_followed(PareTuner *t, bool *follows) {
  const PareCompressOptions *o = t->o;
  *follows = t->spec.loss == PARE_LOSS_KD || *o->teacher;
  if (*follows || o->num_labels || !t->schedule.steps) return PARE_OK;
  if (o->mu == PARE_AUTO && (o->loss || !pare_options_may_cut(o))) return PARE_OK;
  PARE_TRY(choose_mu(t, t->dense, t->aside.of, 0));
  *follows = o->mu != PARE_AUTO || t->mu >= LEAST_MU;
  if (o->mu != PARE_AUTO || t->mu <= MOST_MU) return PARE_OK;
  t->mu = MOST_MU;
  if (o->mu_ramp > 0) return PARE_OK; /* somebody counts on labels at first */
  t->spec.loss = PARE_LOSS_KD;
  pare_log(t->c, 0, "the untouched model knows all that the labels say: it alone is followed, as with --loss kd");
  return PARE_OK;
}

PareStatus pare_tuner_choose_teacher(PareTuner *t) {
  enum { AUTO, NONE, LOGITS, HIDDEN, BOTH };
  const PareCompressOptions *o = t->o;
  int64_t what = o->distill;
  bool follows;
  if (what == AUTO) PARE_TRY(is_followed(t, &follows));
  if (what == AUTO) what = follows ? LOGITS : NONE;
  bool kd = t->spec.loss == PARE_LOSS_KD;
  if (kd && what == NONE) return pare_error(t->c, PARE_USAGE, "--distill none leaves nothing to tune on: the loss is kd");
  PARE_TRY(check_mu(t, !kd && what != NONE));
  if (!t->schedule.steps) what = kd ? LOGITS : NONE;
  if (!kd && what != NONE && o->distill != AUTO && !*o->teacher) PARE_TRY(choose_mu(t, t->dense, t->aside.of, ASKED_MU));
  t->spec.teach_outputs = what == LOGITS || what == BOTH;
  if (what == HIDDEN || what == BOTH) PARE_TRY(pare_find_hidden(t->c, t->arena, t->dims, t->pruned, &t->spec.hidden));
  if (kd || what == NONE) t->mu = NAN;
  if (what == NONE) return PARE_OK;
  PARE_TRY(*o->teacher ? take_other_teacher(t) : take_own_teacher(t));
  if (o->mu == PARE_AUTO && !kd) pare_log(t->c, 0, "distillation has %.2f of the loss (--mu), labels the rest", t->mu);
  return PARE_OK;
}
