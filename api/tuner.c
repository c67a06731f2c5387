/* tuner.c - the loop. What changes numbers is the program's; what changes the
 * graph is pare_cut_dims'; here is only the order of things. */
#include <math.h>
#include <string.h>

#include "api/call.h"
#include "api/checkpoint.h"
#include "api/forward.h"
#include "api/idle_options.h"
#include "api/options.h"
#include "api/reconstruct.h"
#include "api/score_obs.h"
#include "api/trained.h"
#include "api/tuner_parts.h"
#include "base/rng.h"
#include "ir/trained.h"
#include "passes/probe_dims.h"

enum {
  SCORE_BATCHES = 32, /* for scores without tuning */
  SCORE_EVERY = 2,    /* steps between scores that need a backward pass of their own */
  /* --epochs auto (docs/method.md, "Labels, the untouched model, and few samples") */
  EPOCHS = 3, FEW_STEPS = 600, MANY_EPOCHS = 50, MANY_STEPS = 1800,
};
static const double RESTAGE_SHARE = 0.1; /* of the living groups gone: compile anew */

/* --- one step --- */

/* NULL: the program has no such input. */
static PareStatus fill_scalar(PareTuner *t, const PareValue *v, double x) {
  if (!v) return PARE_OK;
  *(float *)pare_program_buffer(t->program, v) = (float)x;
  return pare_program_push(t->c, t->program, v);
}

PareStatus pare_tuner_run_batch(PareTuner *t, int64_t run, bool score, PareFlight f) {
  PARE_TRY(pare_tuner_feed(t, run));
  PARE_TRY(fill_scalar(t, t->graph.dloss, f.weight));
  PARE_TRY(fill_scalar(t, t->graph.mu, t->mu * pare_schedule_ramp(t->step, t->schedule.steps, t->o->mu_ramp)));
  PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_TUNE));
  PARE_TRY(pare_program_fetch(t->c, t->program));
  if (score && t->graph.score_phase) PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_SCORE));
  return pare_tuner_take_off(t, f);
}

static PareStatus fill_hyper(PareTuner *t, double rate) {
  const double beta1 = 0.9, beta2 = 0.999;
  const PareCompressOptions *o = t->o;
  double n = (double)t->step + 1;
  float h[] = {(float)rate, (float)beta1, (float)beta2, 1e-8f, (float)o->weight_decay,
               (float)(1 / (1 - pow(beta1, n))), (float)(1 / (1 - pow(beta2, n))), (float)o->clip};
  memcpy(pare_program_buffer(t->program, t->graph.hyper), h, sizeof h);
  return pare_program_push(t->c, t->program, t->graph.hyper);
}

PareStatus pare_tuner_clear(PareTuner *t) {
  PARE_TRY(fill_hyper(t, 0));
  return pare_program_run(t->c, t->program, PARE_PHASE_UPDATE);
}

static bool pruning_is_over(const PareTuner *t) { return t->planned || pare_schedule_over(&t->schedule, t->step); }
static bool prunes_now(const PareTuner *t) { return !t->planned && pare_schedule_prunes(&t->schedule, t->step); }

/* Scores are taken as tuning goes, up to the last prune, or at the one prune that there is. */
static bool scored_while_tuning(const PareTuner *t) {
  return t->schedule.kind == PARE_GRADUAL && t->schedule.steps && !pruning_is_over(t);
}

static PareStatus tune_step(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  bool score = scored_while_tuning(t) && (!t->graph.score_phase || t->step % SCORE_EVERY == 0);
  PareFlight f = {.step = t->step + 1, .weight = 1 / (double)t->micro};
  for (int64_t m = 0; m < t->micro; m++) {
    f.last = m + 1 == t->micro;
    PARE_TRY(pare_tuner_run_batch(t, t->step * t->micro + m, score, f));
  }
  if (score) PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_RANK));
  PARE_TRY(fill_hyper(t, o->lr * pare_schedule_rate(t->step, t->schedule.steps, o->lr_warmup, (PareDecay)o->lr_decay)));
  PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_UPDATE));
  t->tuned += t->micro * t->batch;
  t->step++;
  return PARE_OK;
}

/* --- pruning --- */

/* Groups died that no mask stands for: the program is compiled anew without them. */
static bool must_cut(const PareTuner *t) {
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareDim *d = &t->dims->dims.at[i];
    if (t->keep[i] && !d->exact && memcmp(t->keep[i], t->stage_keep[i], (size_t)d->count * sizeof(bool))) return true;
  }
  return false;
}

/* The program ends, and what went goes on in the weights that stay. */
static PareStatus hand_over(PareTuner *t) {
  PARE_TRY(pare_tuner_leave_stage(t));
  return t->reconstructs ? pare_tuner_reconstruct(t) : PARE_OK;
}

/* A plan has said what goes before anything was run. */
static PareStatus hand_over_planned(PareTuner *t) {
  if (!t->planned || !t->reconstructs || t->o->resume) return PARE_OK;
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (t->keep[i] && !t->dims->dims.at[i].given)
      memset(t->stage_keep[i], 1, (size_t)t->dims->dims.at[i].count * sizeof(bool));
  t->batch = t->o->batch;
  PARE_TRY(pare_tuner_reconstruct(t));
  pare_tuner_set_leaves(t);
  return PARE_OK;
}

/* The program for what comes next: cut to what lives, unless that may change its mind, and with scores or without. */
static PareStatus restage(PareTuner *t, bool scored) {
  PARE_TRY(hand_over(t));
  if (!t->sequential && (!t->o->regrow || pruning_is_over(t))) pare_tuner_set_leaves(t);
  t->spec.criterion = scored ? t->criterion : pare_criterion_find("random");
  PARE_TRY(pare_tuner_enter_stage(t));
  return pare_tuner_update_masks(t);
}

/* Sums of the scores of a number of batches, each by itself: the sum of all their gradients is near zero in a model that
 * has converged. Adapters and their moments stay as they are. */
static PareStatus score_batches(PareTuner *t) {
  bool data = t->criterion->needs != PARE_NEEDS_NOTHING;
  PARE_TRY(pare_tuner_save_stage(t));
  if (t->criterion->needs & PARE_NEEDS_SAMPLED) {
    PARE_TRY(pare_tuner_score_obs(t));
    return pare_tuner_carry_scores(t, true);
  }
  for (int64_t r = 0; r < (data ? SCORE_BATCHES : 1); r++) {
    if (pare_stopped(t->h)) return pare_error(t->c, PARE_INTERRUPTED, "interrupted");
    if (data) PARE_TRY(pare_tuner_run_batch(t, t->step * t->micro + r, true, (PareFlight){.weight = 1}));
    PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_RANK));
    PARE_TRY(pare_tuner_clear(t));
  }
  PARE_TRY(pare_tuner_land_all(t));
  return pare_params_load(t->c, &t->params, t->dims, &t->graph, t->program);
}

/* The one prune of a schedule that has no more. */
static PareStatus prune_at_once(PareTuner *t) {
  if (t->planned) return PARE_OK;
  if (t->program && t->spec.criterion != t->criterion) PARE_TRY(restage(t, true));
  if (t->program) PARE_TRY(score_batches(t));
  PARE_TRY(pare_tuner_prune(t, 1));
  return t->step < t->schedule.steps ? restage(t, false) : hand_over(t);
}

/* Groups that were to go stay for now. What is reconstructed goes when it is cut: tuning under a mask would make up for
 * it a first time. */
static void put_off(PareTuner *t) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (t->keep[i]) memcpy(t->keep[i], t->stage_keep[i], (size_t)t->dims->dims.at[i].count * sizeof(bool));
}

static PareStatus prune_now(PareTuner *t) {
  int64_t all, before, after;
  if (t->schedule.kind != PARE_GRADUAL) return prune_at_once(t);
  pare_tuner_count(t, &all, &before);
  PARE_TRY(pare_tuner_prune(t, pare_schedule_sparsity(&t->schedule, t->step)));
  pare_tuner_count(t, &all, &after);
  if (t->step >= t->schedule.steps) return hand_over(t);
  if (pruning_is_over(t)) return restage(t, false);
  bool much = (double)(t->stage_alive - (all - after)) >= RESTAGE_SHARE * (double)t->stage_alive || must_cut(t);
  bool whole = t->o->regrow || t->sequential || t->element;
  if (after > before && much && !whole) return restage(t, true);
  if (!t->reconstructs) return pare_tuner_update_masks(t);
  put_off(t);
  return PARE_OK;
}

/* For a criterion that appends no scores. Others start at zero: the moving average would keep what stood there. */
static void draw_scores(PareTuner *t) {
  if (t->criterion->over_time != PARE_SCORES_DRAWN) return;
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; t->score[i] && k < t->dims->dims.at[i].count; k++)
      t->score[i][k] = pare_rng_uniform(pare_rng_u64((uint64_t)t->o->seed, 0x5c0 + i), (uint64_t)k);
  pare_tuner_draw_elements(t);
}

/* --- the whole --- */

/* --time-limit: the schedule is shortened once, by the speed of the first steps. */
static PareStatus keep_time(PareTuner *t) {
  enum { MEASURED = 5 };
  if (t->o->time_limit <= 0 || t->step != MEASURED) return PARE_OK;
  PARE_TRY(pare_tuner_land_all(t));
  double each = (pare_now() - t->started) / MEASURED;
  int64_t fits = (int64_t)(t->o->time_limit / each);
  if (fits < MEASURED + 1) fits = MEASURED + 1;
  if (fits >= t->schedule.steps) return PARE_OK;
  pare_log(t->c, 0, "the time limit allows %lld of %lld steps", (long long)fits, (long long)t->schedule.steps);
  t->schedule.steps = fits;
  return PARE_OK;
}

enum { SAVE_SECONDS = 30 };

static PareStatus save(PareTuner *t) {
  PARE_TRY(pare_tuner_land_all(t));
  if (!*t->o->checkpoint) return PARE_OK;
  PARE_TRY(pare_tuner_save_stage(t));
  PARE_TRY(pare_checkpoint_save(t, t->o->checkpoint));
  t->saved_at = pare_now();
  return PARE_OK;
}

static PareStatus stop(PareTuner *t) {
  PARE_TRY(save(t));
  return pare_error(t->c, PARE_INTERRUPTED, "interrupted at step %lld%s", (long long)t->step,
                    *t->o->checkpoint ? "; go on with --resume" : "");
}

static PareStatus steps(PareTuner *t) {
  t->started = t->saved_at = pare_now();
  while (t->step < t->schedule.steps) {
    if (pare_stopped(t->h)) return stop(t);
    if (prunes_now(t)) PARE_TRY(pare_tuner_land_all(t));
    if (prunes_now(t)) PARE_TRY(prune_now(t));
    PARE_TRY(tune_step(t));
    PARE_TRY(keep_time(t));
    pare_tuner_tell(t);
    if (pare_now() - t->saved_at > SAVE_SECONDS) PARE_TRY(save(t));
  }
  PARE_TRY(save(t)); /* what follows may be interrupted, or fail a gate */
  return prunes_now(t) ? prune_now(t) : PARE_OK;
}

static PareStatus whole(PareTuner *t) {
  if (t->o->rank == PARE_AUTO && !t->o->resume) PARE_TRY(pare_tuner_choose_ranks(t));
  draw_scores(t);
  if (t->o->resume) {
    if (!*t->o->checkpoint) return pare_error(t->c, PARE_USAGE, "--resume needs --checkpoint DIR");
    PARE_TRY(pare_checkpoint_load(t, t->o->checkpoint));
  }
  if (pare_params_shifted(&t->params) || (t->o->resume && t->reconstructs)) PARE_TRY(pare_tuner_make_base(t));
  PARE_TRY(hand_over_planned(t));
  bool scored = scored_while_tuning(t) || (!t->planned && prunes_now(t)) || !t->schedule.steps;
  if (!scored) t->spec.criterion = pare_criterion_find("random");
  if (t->data) {
    PARE_TRY(pare_tuner_enter_stage(t));
    PARE_TRY(pare_tuner_update_masks(t));
  }
  PARE_TRY(t->schedule.steps ? steps(t) : prune_at_once(t));
  PARE_TRY(pare_tuner_leave_stage(t));
  pare_tuner_set_leaves(t);
  return PARE_OK;
}

PareStatus pare_tuner_score(PareTuner *t) {
  draw_scores(t);
  PARE_TRY(pare_tuner_enter_stage(t));
  PARE_TRY(pare_tuner_update_masks(t));
  PARE_TRY(score_batches(t));
  return pare_tuner_leave_stage(t);
}

/* A device that fails takes what has been tuned with it, but for what the last checkpoint has. */
PareStatus pare_tuner_run(PareTuner *t) {
  PareStatus s = whole(t);
  char *text = t->c->diag.text;
  size_t n = strlen(text);
  if (s == PARE_DEVICE && t->saved_step)
    snprintf(text + n, sizeof t->c->diag.text - n, "; the checkpoint of step %lld is whole: go on with --resume",
             (long long)t->saved_step);
  return s;
}

static PareStatus choose_loss(PareTuner *t) {
  const PareArray *l = t->data ? pare_data_find(t->data, "labels") : NULL;
  static const PareLossKind words[] = {PARE_LOSS_KD, PARE_LOSS_CE, PARE_LOSS_MSE, PARE_LOSS_BCE, PARE_LOSS_KD};
  t->spec.loss = words[t->o->loss];
  if (t->o->loss == 0 && l) t->spec.loss = PARE_LOSS_CE; /* or what the shapes ask for, once they are bound */
  if (t->spec.loss != PARE_LOSS_KD && !l)
    return pare_error(t->c, PARE_DATA, "--loss wants labels: the data have no array 'labels'");
  if (t->o->num_labels && !l)
    return pare_error(t->c, PARE_DATA, "--num-labels wants labels, which its classifier learns: the data have no array "
                      "'labels'");
  return PARE_OK;
}

static PareStatus choose_precision(PareTuner *t) {
  enum { AUTO, FP32, BF16, TF32 };
  int64_t precision = t->o->precision;
  if (precision == AUTO) precision = t->device->host ? FP32 : BF16;
  if (precision == TF32 && t->device->host)
    return pare_error(t->c, PARE_USAGE, "--precision tf32 is for GPUs: on the CPU take fp32 or bf16");
  t->spec.bf16 = precision == BF16;
  t->spec.renorm = !t->device->host;
  t->spec.merge = !t->device->host; /* a host's cache takes a weight as it is merged */
  t->tf32 = precision == TF32;
  return PARE_OK;
}

static PareStatus choose_reconstruction(PareTuner *t) {
  enum { AUTO, ON };
  const PareCompressOptions *o = t->o;
  if (o->reconstruct == ON && !t->data)
    return pare_error(t->c, PARE_USAGE, "--reconstruct on needs data: give --train");
  if (o->reconstruct == ON && o->regrow)
    return pare_error(t->c, PARE_USAGE, "--reconstruct on and --regrow: what was made up for cannot come back");
  if (o->reconstruct == ON && t->sequential)
    return pare_error(t->c, PARE_USAGE, "--reconstruct on adds to weights, which --adapter sequential stands behind: take "
                      "--adapter parallel");
  if (o->reconstruct == ON && t->element)
    return pare_error(t->c, PARE_USAGE, "--reconstruct on is about groups: it needs --granularity structured");
  bool wanted = o->reconstruct == ON || o->reconstruct == AUTO;
  t->reconstructs = wanted && t->data && !o->regrow && !t->sequential && !t->element && !t->keeps_all;
  t->reconstruction_judged = o->reconstruct == AUTO && t->schedule.steps && t->schedule.kind == PARE_GRADUAL && !t->planned;
  return PARE_OK;
}

/* Scores of the weights alone come from the program as well, which reads no data; its loss is never run. */
static PareStatus stand_in(PareTuner *t) {
  PareArena *tmp = pare_arena_new(1 << 16);
  PareGraph *bound;
  t->spec.teach_outputs = true;
  PareStatus s = tmp ? pare_probe_dims(t->c, tmp, t->model->graph, 0, &bound) : pare_nomem(t->c);
  if (s == PARE_OK) s = pare_samples_random(t->c, bound, 1, 0, &t->stand_in);
  pare_arena_free(tmp);
  t->data = t->stand_in;
  return s;
}

/* Some passes; of few samples more of them, of many fewer, but one. In steps, as a pass is. */
static double enough_steps(double epoch) {
  return fmax(fmin(FEW_STEPS, MANY_EPOCHS * epoch), fmin(EPOCHS * epoch, fmax(MANY_STEPS, epoch)));
}

static PareStatus choose_steps(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  double epoch = (double)t->nsamples / (double)o->batch; /* in steps */
  double many = o->epochs == PARE_AUTO ? enough_steps(epoch) : o->epochs * epoch;
  int64_t steps = o->steps >= 0 ? o->steps : t->data ? (int64_t)ceil(many) : 0;
  if (steps > 0 && !t->data) return pare_error(t->c, PARE_USAGE, "tuning needs data: give --train, or --steps 0");
  if (t->criterion->needs != PARE_NEEDS_NOTHING && !t->data)
    return pare_error(t->c, PARE_USAGE, "--method %s scores groups on data: give --train", t->criterion->name);
  if ((t->criterion->needs & PARE_NEEDS_SAMPLED) && steps > 0 && o->schedule == PARE_GRADUAL)
    return pare_error(t->c, PARE_USAGE, "--method %s scores groups at one prune: take --schedule one-shot or "
                      "tune-then-one-shot, or --steps 0", t->criterion->name);
  t->schedule = (PareSchedule){.steps = steps, .prune_every = o->prune_every, .warmup = o->prune_warmup,
                               .cooldown = o->prune_cooldown, .share = *o->target || *o->plan ? 1 : o->sparsity,
                               .kind = (PareScheduleKind)o->schedule, .curve = (PareCurve)o->curve,
                               .learns = o->num_labels > 0};
  return PARE_OK;
}

/* gate, the default, is about groups: elements are scored as the paper does. */
static const PareCriterion *choose_criterion(const PareCompressOptions *o) {
  bool chosen = pare_option_source(o, PARE_OPTION_ID_method) != PARE_FROM_DEFAULT;
  bool adapters = pare_option_trainable(o) & PARE_TRAIN_LORA;
  return o->granularity && !chosen ? pare_criterion_find(adapters ? "loraprune" : "grad") : &pare_criteria[o->method];
}

/* Nothing goes, and nothing has to be scored for it. */
static bool keeps_all(const PareCompressOptions *o) {
  bool nothing = o->sparsity == 0 && o->steps == 0 && !*o->target && !*o->plan && !*o->vocab_keep && !o->granularity;
  return o->keep_all || nothing;
}

/* What is tuned on and distilled from has the adapters that are given. */
static PareStatus fold_given(PareTuner *t) {
  PareGraph *folded;
  PARE_TRY(pare_params_fold(t->c, t->arena, &t->params, t->model->graph, PARE_FOLD_ALL, &folded));
  t->dense = folded;
  return PARE_OK;
}

/* Whole layers of PEFT's folder are not adapters, and go with nothing that is tuned as a whole itself. */
static PareStatus check_whole_layers(PareTuner *t, bool alone) {
  const char *layer = pare_peft_saved(t->peft);
  if (!layer || (alone && !*t->o->save_adapters)) return PARE_OK;
  return pare_error(t->c, PARE_USAGE, "--%s: '%s' replaces the weights of '%s': fold it first (pare tune MODEL OUT --adapters "
                    "DIR --steps 0) and tune that", alone ? "save-adapters" : "trainable", t->o->adapters, layer);
}

/* `alone`: nothing else is tuned. */
static PareStatus make_adapters(PareTuner *t, int64_t rank, bool alone) {
  enum { PISSA = 1, RSLORA = 1 };
  const PareCompressOptions *o = t->o;
  if (*o->adapters) PARE_TRY(pare_peft_open(t->c, t->arena, o->adapters, &t->peft));
  bool later = rank == PARE_AUTO; /* ranks are not known yet */
  t->start = (PareParamsSpec){.model = t->model->graph, .rank = later ? PARE_UNIFORM_RANK : rank, .alpha = o->alpha,
                              .root_scale = o->lora_scale == RSLORA, .principal = o->adapter_init == PISSA && !later,
                              .sequential = t->sequential, .seed = (uint64_t)o->seed, .given = t->peft};
  PARE_TRY(check_whole_layers(t, alone));
  PARE_TRY(pare_params_new(t->c, t->arena, t->dims, &t->start, &t->params));
  if (o->keep_all && alone && !t->params.full.at.n)
    return pare_error(t->c, PARE_TARGET, "nothing to tune: no weight of attention or FFN was found that could carry an "
                      "adapter (pare inspect --groups)");
  return t->peft ? fold_given(t) : PARE_OK;
}

/* Adapters of rank 0 say which weights are scored where none are tuned beside them. */
static PareStatus choose_trained(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  unsigned what = pare_option_trainable(o);
  int64_t rank = (what & PARE_TRAIN_LORA) && !t->spec.scores_alone ? o->rank : 0;
  PARE_TRY(make_adapters(t, rank, what == PARE_TRAIN_LORA));
  if (what == PARE_TRAIN_LORA || !t->schedule.steps) return PARE_OK;
  PARE_TRY(pare_trained_new(t->c, &t->params, t->dims, what));
  t->spec.trained = &t->params.trained;
  if (t->params.trained.at.n) return PARE_OK;
  if (!rank)
    return pare_error(t->c, PARE_UNSUPPORTED, "nothing to tune: the model has no weights of floats that --trainable %s means",
                      o->trainable);
  pare_log(t->c, 0, "the model has nothing that --trainable %s means but adapters", o->trainable);
  return PARE_OK;
}

/* Times are saved where a score costs the least a millisecond, whatever the class. */
static PareRanking choose_ranking(const PareCompressOptions *o) {
  const char *kind = "";
  double left;
  bool chosen = pare_option_source(o, PARE_OPTION_ID_ranking) != PARE_FROM_DEFAULT;
  bool timed = pare_option_target(o, &kind, &left) && !strcmp(kind, "latency");
  return timed && !chosen ? PARE_RANK_COST : (PareRanking)o->ranking;
}

/* No sample is run: scores are of the weights alone. */
static bool is_idle(const PareTuner *t) {
  bool plain = !*t->o->adapters && !t->o->adapter_init; /* else the weights are not the model's own */
  return plain && !t->schedule.steps && t->criterion->needs == PARE_NEEDS_NOTHING && !t->o->resume;
}

/* What goes, how it is scored, and what is tuned. */
static PareStatus choose_all(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  t->keeps_all = keeps_all(o);
  t->ratio = t->keeps_all ? 0 : o->sparsity;
  t->ranking = choose_ranking(o);
  t->sequential = o->adapter == 1;
  PARE_TRY(pare_tuner_choose(t));
  if (!*o->target && !o->granularity && !t->planned) PARE_TRY(pare_tuner_check_room(t));
  t->criterion = t->planned ? pare_criterion_find("random") /* scores nothing */ : choose_criterion(o);
  PARE_TRY(choose_loss(t));
  PARE_TRY(choose_steps(t));
  t->spec.temperature = o->temperature;
  t->spec.criterion = t->criterion;
  t->spec.scores_alone = is_idle(t);
  t->spec.power = o->importance == 0 ? 2 : 1;
  t->spec.eta = o->eta;
  t->spec.ema = o->ema;
  t->spec.sum = !t->schedule.steps || t->schedule.kind != PARE_GRADUAL;
  t->spec.normalise = t->ranking != PARE_RANK_UNIFORM;
  t->spec.pruned = t->pruned;
  t->spec.regrow = t->o->regrow;
  t->spec.dump_after = o->dump_after;
  PARE_TRY(choose_precision(t));
  PARE_TRY(choose_trained(t));
  if (o->granularity) PARE_TRY(pare_tuner_choose_elements(t));
  return choose_reconstruction(t);
}

/* What losses and scores read of the data. */
static PareStatus choose_data(PareTuner *t) {
  if (!t->data) return stand_in(t);
  PARE_TRY(pare_find_aside(t->c, t->arena, t->dense, t->data, &t->aside));
  PARE_TRY(pare_tell_aside(t->c, t->dense, &t->aside));
  t->spec.aside = t->aside.of;
  return pare_tuner_choose_teacher(t);
}

PareStatus pare_tuner_init(PareTuner *t, PareCtx *c, PareArena *arena, const PareModel *model, const PareGraph *dense,
                           PareDims *dims, const PareCompressOptions *o, const PareHooks *h, const PareData *data,
                           const int64_t *samples, int64_t nsamples, PareDevice *device) {
  *t = (PareTuner){.c = c, .o = o, .h = h, .model = model, .dense = dense, .data = data, .samples = samples, .nsamples = nsamples,
                   .arena = arena, .device = device, .dims = dims, .loss = NAN, .mu = NAN};
  PARE_TRY(choose_all(t));
  PARE_TRY(choose_data(t));
  pare_tuner_tell_idle(t);
  return PARE_OK;
}

double pare_tuner_cost(const PareTuner *t, size_t dim) {
  double params = (double)t->dims->dims.at[dim].params;
  return t->goal.cost ? t->goal.cost[dim] : params > 0 ? params : 1; /* branches that share all weights own none */
}

double pare_tuner_share(const PareTuner *t) {
  double all = 0, dead = 0;
  if (t->element) {
    int64_t elements, gone;
    pare_tuner_count_elements(t, &elements, &gone);
    return (double)gone / (double)elements;
  }
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; pare_tuner_ranks(t, t->keep, i) && k < t->dims->dims.at[i].count; k++) {
      double cost = t->ranking == PARE_RANK_COST && !t->planned ? pare_tuner_cost(t, i) : 1;
      all += cost;
      dead += t->keep[i][k] ? 0 : cost;
    }
  return all > 0 ? dead / all : 0;
}

const char *pare_tuner_method(const PareTuner *t) {
  return t->keeps_all ? "none" : t->planned ? "plan" : t->criterion->name;
}

void pare_tuner_free(PareTuner *t) {
  pare_program_free(t->program);
  pare_arena_free(t->stage);
  pare_arena_free(t->base_arena);
  pare_teacher_free(t->teacher);
  pare_model_free(t->other);
  pare_peft_close(t->peft);
  pare_data_free(t->stand_in);
}
