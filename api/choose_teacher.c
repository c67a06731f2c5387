/* choose_teacher.c - what tuning follows beside labels, or without them, and how far. */
#include <math.h>

#include "api/explained.h"
#include "api/options.h"
#include "api/other_teacher.h"
#include "api/tuner_parts.h"

enum {
  FEW = 64, MANY = 512, /* samples that are run: as many as are tuned on, between these */
  KNOWN = 20000,        /* whose labels are counted, at most */
  SAYS_LITTLE = 4       /* numbers in all outputs of a sample */
};
/* Shares of the labels (docs/method.md has what they were chosen by). */
static const double LEAST_MU = 0.1, /* less is not worth a teacher */
                    ASKED_MU = 0.5, /* what --distill means at least */
                    MOST_MU = 0.95; /* more leaves labels next to no gradient to score by: they are as good as none */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* --mu auto: the share of the labels that the teacher explains (explained.h), at least what was asked for. Samples are
 * drawn: they may lie in the order of their labels. */
static PareStatus choose_mu(PareTuner *t, const PareGraph *teacher, const bool *aside, double asked) {
  int64_t n = least(t->nsamples, KNOWN), tuned = t->schedule.steps * t->o->batch;
  int64_t run = least(n, tuned < FEW ? FEW : least(tuned, MANY));
  PareMark mark = pare_arena_mark(t->c->scratch);
  t->mu = t->o->mu;
  if (t->mu != PARE_AUTO) return PARE_OK;
  int64_t *sample = PARE_NEW_N(t->c->scratch, n, int64_t);
  if (!sample) return pare_nomem(t->c);
  for (int64_t i = 0; i < n; i++) sample[i] = t->samples[pare_data_order((uint64_t)t->o->seed, 0, t->nsamples, i)];
  PARE_TRY(pare_labels_explained(t->c, teacher, aside, t->data, pare_option_labels_as(t->o), (PareChoice){sample, run},
                                 (PareChoice){sample, n}, t->o->batch, t->device, t->h, &t->mu));
  pare_arena_rewind(t->c->scratch, mark);
  if (asked) t->mu = fmin(fmax(t->mu, asked), MOST_MU);
  return PARE_OK;
}

/* Another teacher's share is asked of its outputs; what is wrong is wrong with it. */
static PareStatus choose_other_mu(PareTuner *t) {
  const char *file = t->c->file;
  if (t->spec.loss == PARE_LOSS_KD) return PARE_OK;
  t->c->file = t->o->teacher;
  PareStatus s = choose_mu(t, t->other->graph, NULL, ASKED_MU);
  t->c->file = file;
  return s;
}

static PareStatus take_other_teacher(PareTuner *t) {
  PareOtherTeacher other;
  PareStatus s = pare_other_teacher_open(t->c, t->arena, t->o->teacher, t->dense, t->aside.of, &t->spec.hidden,
                                         t->data, &other);
  t->other = other.model;
  if (s != PARE_OK) return s;
  t->spec.hidden.at.n = other.nhidden;
  if (!other.nhidden) t->spec.teach_outputs = true;
  PareWatch w = {.n = other.nhidden, .value = other.hidden, .felt = other.nhidden, .bf16 = t->spec.bf16};
  PARE_TRY(choose_other_mu(t));
  return pare_teacher_new(t->c, t->other->graph, t->data, t->o->batch, &w, other.pairs, t->device, &t->teacher);
}

static PareStatus take_own_teacher(PareTuner *t) {
  PareWatch w = {.n = t->spec.hidden.at.n, .felt = t->spec.hidden.at.n, .aside = t->aside.of, .bf16 = t->spec.bf16};
  uint32_t *value = PARE_NEW_N(t->arena, w.n + 1, uint32_t);
  if (!value) return pare_nomem(t->c);
  for (size_t i = 0; i < w.n; i++) value[i] = t->spec.hidden.at.at[i].value;
  w.value = value;
  if (!w.n) t->spec.teach_outputs = true; /* no state has the same shape throughout */
  return pare_teacher_new(t->c, t->dense, t->data, t->o->batch, &w, t->aside.pairs, t->device, &t->teacher);
}

/* Whether the samples say if labels alone teach (--distill auto): unless --loss says what is minimised, where something
 * goes. */
static bool is_measured(const PareTuner *t) {
  const PareCompressOptions *o = t->o;
  return t->spec.loss != PARE_LOSS_KD && !*o->teacher && !o->num_labels && t->schedule.steps && o->mu == PARE_AUTO &&
         !o->loss && pare_options_may_cut(o);
}

/* --mu and --mu-ramp are about two losses: a usage error where the options alone leave one. */
static PareStatus check_mu(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  const char *name = o->mu != PARE_AUTO ? "mu" : o->mu_ramp > 0 ? "mu-ramp" : NULL;
  bool kd = t->spec.loss == PARE_LOSS_KD, may = *o->teacher || is_measured(t) || (o->mu != PARE_AUTO && !o->num_labels);
  if (o->distill != PARE_DISTILL_AUTO) may = o->distill != PARE_DISTILL_NONE;
  if (!name || !t->schedule.steps || (may && !kd)) return PARE_OK;
  return pare_error(t->c, PARE_USAGE, "--%s blends the losses of labels and of distillation, and there is one of them "
                    "only: give labels and --distill logits, hidden or both", name);
}

/* Labels that the untouched model knows by heart are left to it, unless somebody counts on them at first. */
static void leave_to_teacher(PareTuner *t) {
  t->mu = MOST_MU;
  if (t->o->mu_ramp > 0) return;
  t->spec.loss = PARE_LOSS_KD;
  pare_log(t->c, 0, "the untouched model knows all that the labels say: it alone is followed, as with --loss kd");
}

/* --distill auto: something is, without labels; with another teacher; with --mu; and where the untouched model knows the
 * labels. */
static PareStatus is_followed(PareTuner *t, bool *follows) {
  const PareCompressOptions *o = t->o;
  *follows = t->spec.loss == PARE_LOSS_KD || *o->teacher || (o->mu != PARE_AUTO && t->schedule.steps);
  t->mu = o->mu;
  if (!is_measured(t)) return PARE_OK;
  PARE_TRY(choose_mu(t, t->dense, t->aside.of, 0));
  *follows = t->mu >= LEAST_MU;
  if (!*follows) pare_log(t->c, 0, "the untouched model explains %.2f of the labels: they alone teach", t->mu);
  if (t->mu > MOST_MU) leave_to_teacher(t);
  return PARE_OK;
}

/* Numbers of a sample in the outputs of a bound graph that are followed. */
static int64_t count_numbers(const PareGraph *g, const bool *aside, int64_t batch) {
  int64_t n = 0;
  for (size_t i = 0; i < g->outputs.n; i++)
    if (pare_is_followed(g, aside, i)) n += pare_type_count(&g->outputs.at[i]->type);
  return n / batch;
}

/* Outputs of a few numbers a sample alone teach little (docs/method.md). */
static PareStatus says_little(PareTuner *t, PareArena *a, bool *little) {
  int64_t batch = t->o->batch;
  PareGraph *g = pare_graph_clone(t->c, a, t->dense);
  if (!g) return t->c->diag.code;
  PARE_TRY(pare_feed_bind(t->c, g, t->data, &batch));
  *little = count_numbers(g, t->aside.of, batch) <= SAYS_LITTLE;
  return PARE_OK;
}

static PareStatus follow(PareTuner *t, int64_t *what) {
  bool little = false;
  PareArena *a = pare_arena_new(1 << 16);
  PareStatus s = a ? says_little(t, a, &little) : pare_nomem(t->c);
  pare_arena_free(a);
  *what = little ? PARE_DISTILL_BOTH : PARE_DISTILL_LOGITS;
  return s;
}

/* Where something is cut, and outputs are of a sample alone; another model's hidden states need not mean the same. */
static bool may_follow_hidden(const PareTuner *t) {
  return !*t->o->teacher && t->schedule.steps && !t->keeps_all && !t->aside.pairs;
}

/* --distill, and what auto stands for. */
static PareStatus choose_what(PareTuner *t, int64_t *what) {
  bool follows;
  *what = t->o->distill;
  if (*what != PARE_DISTILL_AUTO) return PARE_OK;
  PARE_TRY(is_followed(t, &follows));
  *what = follows ? PARE_DISTILL_LOGITS : PARE_DISTILL_NONE;
  return follows && may_follow_hidden(t) ? follow(t, what) : PARE_OK;
}

PareStatus pare_tuner_choose_teacher(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  int64_t what;
  PARE_TRY(check_mu(t));
  PARE_TRY(choose_what(t, &what));
  bool kd = t->spec.loss == PARE_LOSS_KD, own = o->distill != PARE_DISTILL_AUTO && !*o->teacher;
  if (kd && what == PARE_DISTILL_NONE)
    return pare_error(t->c, PARE_USAGE, "--distill none leaves nothing to tune on: the loss is kd");
  if (!t->schedule.steps) what = kd ? PARE_DISTILL_LOGITS : PARE_DISTILL_NONE;
  if (!kd && what != PARE_DISTILL_NONE && own) PARE_TRY(choose_mu(t, t->dense, t->aside.of, ASKED_MU));
  t->spec.teach_outputs = what == PARE_DISTILL_LOGITS || what == PARE_DISTILL_BOTH;
  if (what == PARE_DISTILL_HIDDEN || what == PARE_DISTILL_BOTH)
    PARE_TRY(pare_find_hidden(t->c, t->arena, t->dims, t->pruned, &t->spec.hidden));
  if (kd || what == PARE_DISTILL_NONE) t->mu = NAN;
  if (what == PARE_DISTILL_NONE) return PARE_OK;
  PARE_TRY(*o->teacher ? take_other_teacher(t) : take_own_teacher(t));
  if (o->mu == PARE_AUTO && !kd) pare_log(t->c, 0, "distillation has %.2f of the loss (--mu), labels the rest", t->mu);
  return PARE_OK;
}
