/* tuner.c - the loop. What changes numbers is the program's; what changes the
 * graph is pare_cut_dims'; here is only the order of things. */
#include "api/tuner.h"

#include <math.h>
#include <regex.h>
#include <string.h>

#include "api/call.h"
#include "api/checkpoint.h"
#include "api/forward.h"
#include "api/plan.h"
#include "base/rng.h"
#include "passes/fold_constants.h"
#include "passes/probe_dims.h"

enum {
  SCORE_BATCHES = 32, /* for scores without tuning */
  SCORE_EVERY = 2,    /* steps between scores that need a backward pass of their own */
  METRIC_POINTS = 50, /* of the report's curve */
};
static const double RESTAGE_SHARE = 0.1; /* of the living groups gone: compile anew */

/* --- what may go --- */

static bool kind_listed(const char *list, const char *kind) {
  size_t n = strlen(kind);
  for (const char *p = list; *p;) {
    size_t len = strcspn(p, ",");
    if (len == n && !memcmp(p, kind, n)) return true;
    p += len + (p[len] == ',');
  }
  return false;
}

static bool dim_matches(const regex_t *re, const PareDim *d) {
  if (regexec(re, d->name, 0, NULL, 0) == 0) return true;
  for (size_t i = 0; i < d->members.n; i++)
    if (regexec(re, d->members.at[i].weight->name, 0, NULL, 0) == 0) return true;
  return false;
}

static PareStatus filter(PareTuner *t, const char *pattern, const char *option, bool want) {
  regex_t re;
  if (!*pattern) return PARE_OK;
  if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB))
    return pare_error(t->c, PARE_USAGE, "--%s: '%s' is not a regular expression", option, pattern);
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (dim_matches(&re, &t->dims->dims.at[i]) != want) t->pruned[i] = false;
  regfree(&re);
  return PARE_OK;
}

static PareStatus nothing_to_prune(PareTuner *t) {
  return pare_error(t->c, PARE_TARGET, "nothing to prune: no group of kind %s was found (pare inspect --groups tells "
                    "what there is and what forbids it)", t->o->prune);
}

/* Sets pruned[], and keep[] where a plan says it. */
static PareStatus choose_pruned(PareTuner *t) {
  size_t n = t->dims->dims.n;
  t->planned = *t->o->plan;
  if (t->planned) PARE_TRY(pare_plan_load(t->c, t->arena, t->o->plan, t->dims, t->keep));
  for (size_t i = 0; i < n; i++)
    t->pruned[i] = t->planned ? t->keep[i] != NULL
                              : kind_listed(t->o->prune, pare_kind_name(t->dims->dims.at[i].kind));
  if (t->planned) return PARE_OK;
  PARE_TRY(filter(t, t->o->include, "include", true));
  return filter(t, t->o->exclude, "exclude", false);
}

static PareStatus choose_dims(PareTuner *t) {
  size_t n = t->dims->dims.n;
  t->pruned = PARE_NEW_N(t->arena, n + 1, bool);
  t->keep = PARE_NEW_N(t->arena, n + 1, bool *);
  t->stage_keep = PARE_NEW_N(t->arena, n + 1, bool *);
  t->score = PARE_NEW_N(t->arena, n + 1, double *);
  if (!t->pruned || !t->keep || !t->stage_keep || !t->score) return pare_nomem(t->c);
  PARE_TRY(choose_pruned(t));
  bool any = false;
  for (size_t i = 0; i < n; i++) {
    PareDim *d = &t->dims->dims.at[i];
    if (!t->pruned[i]) continue;
    any = true;
    if (!t->keep[i]) {
      t->keep[i] = PARE_NEW_N(t->arena, d->count, bool);
      if (t->keep[i]) memset(t->keep[i], 1, (size_t)d->count * sizeof(bool));
    }
    t->stage_keep[i] = PARE_NEW_N(t->arena, d->count, bool);
    t->score[i] = PARE_NEW_N(t->arena, d->count, double);
    if (!t->keep[i] || !t->stage_keep[i] || !t->score[i]) return pare_nomem(t->c);
    memcpy(t->stage_keep[i], t->keep[i], (size_t)d->count * sizeof(bool));
    d->leaf->keep = t->stage_keep[i];
  }
  return any ? PARE_OK : nothing_to_prune(t);
}

static void count_groups(const PareTuner *t, bool *const *keep, int64_t *all, int64_t *dead) {
  *all = *dead = 0;
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; keep[i] && k < t->dims->dims.at[i].count; k++) ++*all, *dead += !keep[i][k];
}

void pare_tuner_count(const PareTuner *t, int64_t *all, int64_t *dead) { count_groups(t, t->keep, all, dead); }

/* --- the program on what is left --- */

static PareStatus carry_scores(PareTuner *t, bool to_program) {
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareValue *v = t->graph.score ? t->graph.score[i] : NULL;
    float *s = v ? pare_program_buffer(t->program, v) : NULL;
    if (!s) continue;
    if (!to_program) PARE_TRY(pare_program_pull(t->c, t->program, v));
    for (int64_t k = 0; k < t->dims->dims.at[i].count; k++) {
      if (to_program) s[k] = (float)t->score[i][k];
      else t->score[i][k] = (double)s[k];
    }
    if (to_program) PARE_TRY(pare_program_push(t->c, t->program, v));
  }
  return PARE_OK;
}

/* Brings scores and params to the host; the leaves' flags are still the program's. */
static PareStatus save_stage(PareTuner *t) {
  PARE_TRY(carry_scores(t, false));
  return pare_params_save(t->c, &t->params, t->dims, &t->graph, t->program);
}

static PareStatus leave_stage(PareTuner *t) {
  if (!t->program) return PARE_OK;
  PARE_TRY(save_stage(t));
  pare_program_free(t->program);
  t->program = NULL;
  pare_arena_free(t->stage);
  t->stage = NULL;
  return PARE_OK;
}

static PareStatus labels_type(PareTuner *t) {
  const PareArray *l = pare_data_find(t->data, "labels");
  t->spec.labels = (PareType){0};
  if (!l) return PARE_OK;
  t->spec.labels = l->type;
  t->spec.labels.dim[0] = t->batch;
  if (pare_dtype_is_int(l->type.dtype)) t->spec.labels.dtype = PARE_I64;
  return PARE_OK;
}

static void set_leaves(PareTuner *t) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (t->keep[i]) memcpy(t->stage_keep[i], t->keep[i], (size_t)t->dims->dims.at[i].count * sizeof(bool));
}

/* Labels fill the input that was made for them, and classes exist. */
static PareStatus check_labels(PareTuner *t) {
  const PareValue *want = t->graph.labels, *y = t->graph.outputs[0].output;
  if (!want) return PARE_OK;
  const PareArray *l = pare_data_find(t->data, "labels");
  char have[PARE_TYPE_TEXT], out[PARE_TYPE_TEXT];
  int64_t classes = t->spec.loss == PARE_LOSS_CE ? y->type.dim[y->type.rank - 1] : 1;
  int64_t n = pare_type_count(&l->type) / l->type.dim[0] * t->batch;
  if (n != pare_type_count(&want->type) || n * classes != pare_type_count(&y->type))
    return pare_data_error(t->c, t->data, PARE_DATA, "the labels are %s, which does not fit output '%s', %s",
                           pare_type_text(&l->type, have), y->name, pare_type_text(&y->type, out));
  if (t->spec.loss != PARE_LOSS_CE || l->type.rank > 1) return PARE_OK; /* negative: not this token */
  return pare_data_check_range(t->c, t->data, l, classes, "the model's classes number");
}

/* Compiles the training program on the model cut as the leaves' flags say, for t->most samples at most. */
static PareStatus compile(PareTuner *t, bool cut_any) {
  PareCtx *c = t->c;
  if (!(t->stage = pare_arena_new(1 << 20))) return pare_nomem(c);
  PareGraph *cut = t->model->graph, *g;
  if (cut_any) PARE_TRY(pare_cut_dims(c, t->stage, t->model->graph, t->dims, &cut));
  if (!(g = pare_graph_clone(c, t->stage, cut))) return c->diag.code;
  t->batch = t->most;
  PARE_TRY(pare_feed_bind(c, g, t->data, &t->batch));
  t->micro = (t->o->batch + t->batch - 1) / t->batch;
  PARE_TRY(labels_type(t));
  PareAdapters adapters;
  PARE_TRY(pare_params_cut(c, t->stage, &t->params, t->dims, &adapters));
  PARE_TRY(pare_build_training(c, g, t->dims, &adapters, &t->spec, &t->graph));
  PARE_TRY(check_labels(t));
  return pare_program_new_on(c, g, t->device, 1, &t->graph.outputs[0].output, &t->program);
}

/* A GPU has the memory that it has: as long as the program does not fit, a run gets half of the samples and a step
 * more runs. */
static PareStatus compile_to_fit(PareTuner *t, bool cut_any) {
  if (!t->most) t->most = t->o->batch;
  for (;;) {
    PareDiag before = t->c->diag;
    PareStatus s = compile(t, cut_any);
    if (s != PARE_NOMEM || t->device->host || t->batch < 2) return s;
    pare_log(t->c, 0, "%s has no room for %lld samples at a time: a step is made of runs of %lld", t->device->name,
             (long long)t->batch, (long long)(t->batch + 1) / 2);
    t->most = (t->batch + 1) / 2;
    t->c->diag = before;
    pare_arena_free(t->stage);
    t->stage = NULL;
  }
}

static PareStatus enter_stage(PareTuner *t) {
  PareCtx *c = t->c;
  int64_t all, dead;
  count_groups(t, t->stage_keep, &all, &dead);
  PARE_TRY(compile_to_fit(t, dead > 0));
  PARE_TRY(pare_params_load(c, &t->params, t->dims, &t->graph, t->program));
  PARE_TRY(carry_scores(t, true));
  t->stage_alive = all - dead;
  PareProgramMemory m = pare_program_memory(t->program);
  size_t bytes = m.results + m.workspace + m.states + m.inputs + m.constants;
  bool first = !t->peak_bytes && !t->device->host; /* a GPU's is told before the first step */
  if (bytes > t->peak_bytes) t->peak_bytes = bytes;
  pare_log(c, first ? 0 : 1, "program on %lld groups: %zu MB, %lld samples at a time", (long long)t->stage_alive,
           bytes >> 20, (long long)t->batch);
  return PARE_OK;
}

/* Zeroes the masks of groups that died since the program was made. */
static PareStatus update_masks(PareTuner *t) {
  for (size_t i = 0; i < t->graph.masks.at.n; i++) {
    const PareMask *m = &t->graph.masks.at.at[i];
    float *mask = pare_program_buffer(t->program, m->mask);
    for (int64_t k = 0; mask && t->keep[m->dim] && k < m->k; k++)
      if (m->group[k] >= 0 && !t->keep[m->dim][m->group[k]]) mask[k] = 0;
    if (mask) PARE_TRY(pare_program_push(t->c, t->program, m->mask));
  }
  return PARE_OK;
}

/* --- one step --- */

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
  PARE_TRY(pare_teacher_run(t->c, t->teacher, samples));
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

static PareStatus fill_fisher(PareTuner *t, const PareTeacherOutput *o, const float *y, uint64_t key) {
  int64_t last = o->output->type.dim[o->output->type.rank - 1];
  if (o->sampled) {
    int64_t *label = pare_program_buffer(t->program, o->sampled), rows = pare_type_count(&o->sampled->type);
    for (int64_t i = 0; i < rows; i++) label[i] = draw(y + i * last, last, pare_rng_uniform(key, (uint64_t)i));
    return pare_program_push(t->c, t->program, o->sampled);
  } else if (o->signs) {
    float *sign = pare_program_buffer(t->program, o->signs);
    for (int64_t i = 0, n = pare_type_count(&o->signs->type); i < n; i++)
      sign[i] = pare_rng_u64(key, (uint64_t)i) & 1 ? 1 : -1;
    return pare_program_push(t->c, t->program, o->signs);
  }
  return PARE_OK;
}

static PareStatus fill_targets(PareTuner *t, const int64_t *samples, int64_t run) {
  if (t->graph.labels) {
    const PareArray *l = pare_data_find(t->data, "labels");
    PARE_TRY(pare_data_batch(t->c, t->data, l, samples, t->batch, t->graph.labels->type.dtype,
                             pare_program_buffer(t->program, t->graph.labels)));
    PARE_TRY(pare_program_push(t->c, t->program, t->graph.labels));
  }
  if (!t->teacher) return PARE_OK;
  PARE_TRY(teach(t, run));
  for (size_t i = 0; i < t->graph.noutputs; i++) {
    const PareTeacherOutput *o = &t->graph.outputs[i];
    const float *y = pare_teacher_output(t->teacher, i);
    size_t bytes = (size_t)pare_type_count(&o->output->type) * sizeof *y;
    if (o->teacher) {
      memcpy(pare_program_buffer(t->program, o->teacher), y, bytes);
      PARE_TRY(pare_program_push(t->c, t->program, o->teacher));
    }
    PARE_TRY(fill_fisher(t, o, y, pare_rng_u64((uint64_t)t->o->seed + 1, (uint64_t)run * 64 + i)));
  }
  return PARE_OK;
}

/* Adds the batch's first output to the metric of the curve: against labels or the teacher. */
static PareStatus measure(PareTuner *t) {
  const PareTeacherOutput *o = &t->graph.outputs[0];
  const float *y = pare_program_buffer(t->program, o->output);
  PARE_TRY(pare_program_pull(t->c, t->program, o->output));
  int64_t width = o->output->type.dim[o->output->type.rank - 1], rows = pare_type_count(&o->output->type) / width;
  const PareValue *l = t->graph.labels;
  if (l && l->type.dtype == PARE_I64) {
    t->metric.kind = PARE_METRIC_ACCURACY;
    return pare_metric_add_labels(t->c, &t->metric, rows, width, y, pare_program_buffer(t->program, l));
  }
  t->metric.kind = l ? PARE_METRIC_MSE : o->classes ? PARE_METRIC_AGREEMENT : PARE_METRIC_COSINE;
  if (l) pare_metric_add_values(&t->metric, rows * width, y, pare_program_buffer(t->program, l));
  else pare_metric_add_rows(&t->metric, rows, width, y, pare_program_buffer(t->program, o->teacher));
  return PARE_OK;
}

/* Forward and backward of one micro-batch. */
static PareStatus run_micro(PareTuner *t, int64_t run, double weight, bool score, double *loss) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  int64_t *samples = PARE_NEW_N(t->c->scratch, t->batch, int64_t);
  if (!samples) return pare_nomem(t->c);
  choose_samples(t, run * t->batch, samples);
  PARE_TRY(pare_feed_fill(t->c, t->graph.g, t->program, t->data, samples, t->batch, t->batch));
  PARE_TRY(fill_targets(t, samples, run));
  pare_arena_rewind(t->c->scratch, mark);
  *(float *)pare_program_buffer(t->program, t->graph.dloss) = (float)weight;
  PARE_TRY(pare_program_push(t->c, t->program, t->graph.dloss));
  PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_TUNE));
  PARE_TRY(measure(t));
  if (score && t->graph.score_phase) PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_SCORE));
  PARE_TRY(pare_program_pull(t->c, t->program, t->graph.loss));
  *loss += weight * (double)*(float *)pare_program_buffer(t->program, t->graph.loss);
  return PARE_OK;
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

static bool pruning_is_over(const PareTuner *t) { return t->planned || pare_schedule_over(&t->schedule, t->step); }
static bool prunes_now(const PareTuner *t) { return !t->planned && pare_schedule_prunes(&t->schedule, t->step); }

static PareStatus tune_step(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  bool score = !pruning_is_over(t) && (!t->graph.score_phase || t->step % SCORE_EVERY == 0);
  t->loss = 0;
  for (int64_t m = 0; m < t->micro; m++)
    PARE_TRY(run_micro(t, t->step * t->micro + m, 1 / (double)t->micro, score, &t->loss));
  if (!isfinite(t->loss))
    return pare_error(t->c, PARE_GATE, "the loss is not a number at step %lld: lower --lr", (long long)t->step + 1);
  if (score) PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_RANK));
  PARE_TRY(fill_hyper(t, o->lr * pare_schedule_rate(t->step, t->schedule.steps, o->lr_warmup, (PareDecay)o->lr_decay)));
  PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_UPDATE));
  t->tuned += t->micro * t->batch;
  t->step++;
  return PARE_OK;
}

/* --- pruning --- */

/* Drops groups to a share, 0 to 1, of what shall go in the end. Under global ranking the scores decide how many groups
 * that takes, where they cost unlike much. */
static PareStatus prune(PareTuner *t, double share) {
  size_t n = 0;
  double ratio = t->ratio;
  bool global = t->o->ranking == 1;
  PareMark mark = pare_arena_mark(t->c->scratch);
  PareLayer *layer = PARE_NEW_N(t->c->scratch, t->dims->dims.n + 1, PareLayer);
  if (!layer) return pare_nomem(t->c);
  if (t->program) PARE_TRY(carry_scores(t, false));
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareDim *d = &t->dims->dims.at[i];
    if (t->pruned[i])
      layer[n++] = (PareLayer){.kind = (int)d->kind, .count = d->count, .score = t->score[i], .keep = t->keep[i],
                               .cost = t->goal.cost ? t->goal.cost[i] : (double)d->params};
  }
  if (global && t->goal.cost)
    PARE_TRY(pare_rank_budget_global(t->c, n, layer, t->goal.fixed, t->goal.budget, &ratio));
  PARE_TRY(pare_rank_ratio(t->c, n, layer, share * ratio, ratio, global));
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

static PareStatus prune_now(PareTuner *t) {
  int64_t all, before, after;
  pare_tuner_count(t, &all, &before);
  PARE_TRY(prune(t, pare_schedule_sparsity(&t->schedule, t->step)));
  pare_tuner_count(t, &all, &after);
  bool much = (double)(t->stage_alive - (all - after)) >= RESTAGE_SHARE * (double)t->stage_alive;
  if (after == before || !(much || pruning_is_over(t)) || t->step >= t->schedule.steps) return update_masks(t);
  PARE_TRY(leave_stage(t));
  set_leaves(t);
  return enter_stage(t);
}

/* For a criterion that appends no scores. Others start at zero: the moving average would keep what stood there. */
static void draw_scores(PareTuner *t) {
  if (strcmp(t->criterion->name, "random")) return;
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; t->score[i] && k < t->dims->dims.at[i].count; k++)
      t->score[i][k] = pare_rng_uniform(pare_rng_u64((uint64_t)t->o->seed, 0x5c0 + i), (uint64_t)k);
}

/* Without tuning: scores of a number of batches, averaged, then one prune. Each batch is scored by itself: the sum of all
 * their gradients is near zero in a model that has converged. */
static PareStatus prune_once(PareTuner *t) {
  double loss = 0;
  if (t->planned) return PARE_OK;
  int64_t runs = t->criterion->needs == PARE_NEEDS_NOTHING ? 1 : SCORE_BATCHES;
  for (int64_t r = 0; t->program && r < runs; r++) {
    if (pare_stopped(t->h)) return pare_error(t->c, PARE_INTERRUPTED, "interrupted");
    if (t->criterion->needs != PARE_NEEDS_NOTHING) PARE_TRY(run_micro(t, r, 1, true, &loss));
    PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_RANK));
    PARE_TRY(fill_hyper(t, 0)); /* changes nothing but the gradients, which are cleared */
    PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_UPDATE));
  }
  return prune(t, 1);
}

/* --- the whole --- */

static void report(PareTuner *t, double started) {
  int64_t all, dead;
  pare_tuner_count(t, &all, &dead);
  t->seconds = pare_now() - started;
  double each = t->seconds / (double)(t->step ? t->step : 1);
  PareProgress p = {.phase = "tuning", .step = t->step, .steps = t->schedule.steps, .loss = t->loss,
                    .sparsity = (double)dead / (double)all, .samples_per_second = (double)t->tuned / t->seconds,
                    .seconds_left = each * (double)(t->schedule.steps - t->step)};
  PareCurvePoint point = {t->step, t->loss, p.sparsity};
  if (!pare_vec_push(t->arena, &t->curve, point)) return; /* a curve is not worth a failure */
  int64_t every = (t->schedule.steps + METRIC_POINTS - 1) / METRIC_POINTS;
  if (t->step % every == 0) {
    PareMetricPoint m = {t->step, pare_metric_value(&t->metric)};
    t->metric = (PareMetric){0};
    if (!pare_vec_push(t->arena, &t->metrics, m)) return;
  }
  if (t->h->progress) t->h->progress(t->h->arg, &p);
}

/* --time-limit: the schedule is shortened once, by the speed of the first steps. */
static void keep_time(PareTuner *t, double started) {
  enum { MEASURED = 5 };
  if (t->o->time_limit <= 0 || t->step != MEASURED) return;
  double each = (pare_now() - started) / MEASURED;
  int64_t fits = (int64_t)(t->o->time_limit / each);
  if (fits < MEASURED + 1) fits = MEASURED + 1;
  if (fits >= t->schedule.steps) return;
  pare_log(t->c, 0, "the time limit allows %lld of %lld steps", (long long)fits, (long long)t->schedule.steps);
  t->schedule.steps = fits;
}

enum { SAVE_SECONDS = 30 };

static PareStatus save(PareTuner *t) {
  if (!*t->o->checkpoint) return PARE_OK;
  PARE_TRY(save_stage(t));
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
  double started = pare_now();
  t->saved_at = started;
  while (t->step < t->schedule.steps) {
    if (pare_stopped(t->h)) return stop(t);
    if (prunes_now(t)) PARE_TRY(prune_now(t));
    PARE_TRY(tune_step(t));
    keep_time(t, started);
    report(t, started);
    if (pare_now() - t->saved_at > SAVE_SECONDS) PARE_TRY(save(t));
  }
  PARE_TRY(save(t)); /* what follows may be interrupted, or fail a gate */
  return prunes_now(t) ? prune_now(t) : PARE_OK;
}

PareStatus pare_tuner_run(PareTuner *t) {
  draw_scores(t);
  if (t->o->resume) {
    if (!*t->o->checkpoint) return pare_error(t->c, PARE_USAGE, "--resume needs --checkpoint DIR");
    PARE_TRY(pare_checkpoint_load(t, t->o->checkpoint));
  }
  if (t->data) {
    PARE_TRY(enter_stage(t));
    PARE_TRY(update_masks(t));
  }
  PARE_TRY(t->schedule.steps ? steps(t) : prune_once(t));
  PARE_TRY(leave_stage(t));
  set_leaves(t);
  return PARE_OK;
}

static PareStatus choose_loss(PareTuner *t) {
  const PareArray *l = t->data ? pare_data_find(t->data, "labels") : NULL;
  static const PareLossKind words[] = {PARE_LOSS_KD, PARE_LOSS_CE, PARE_LOSS_MSE, PARE_LOSS_BCE, PARE_LOSS_KD};
  t->spec.loss = words[t->o->loss];
  if (t->o->loss == 0 && l) t->spec.loss = pare_dtype_is_float(l->type.dtype) ? PARE_LOSS_MSE : PARE_LOSS_CE;
  if (t->spec.loss != PARE_LOSS_KD && !l)
    return pare_error(t->c, PARE_DATA, "--loss wants labels: the data have no array 'labels'");
  return PARE_OK;
}

/* Scores of the weights alone come from the program as well, which reads no data. */
static PareStatus stand_in(PareTuner *t) {
  PareGraph *bound;
  PARE_TRY(pare_probe_dims(t->c, t->arena, t->model->graph, 0, &bound));
  PARE_TRY(pare_samples_random(t->c, bound, 1, 0, &t->stand_in));
  t->data = t->stand_in;
  return PARE_OK;
}

static PareStatus choose_steps(PareTuner *t) {
  const PareCompressOptions *o = t->o;
  int64_t steps = o->steps >= 0 ? o->steps : 0;
  if (o->steps < 0 && t->data) steps = (int64_t)ceil(o->epochs * (double)t->nsamples / (double)o->batch);
  if (steps > 0 && !t->data) return pare_error(t->c, PARE_USAGE, "tuning needs data: give --train, or --steps 0");
  if (t->criterion->needs != PARE_NEEDS_NOTHING && !t->data)
    return pare_error(t->c, PARE_USAGE, "--method %s scores groups on data: give --train", t->criterion->name);
  t->schedule = (PareSchedule){steps, o->prune_every, o->prune_warmup, o->prune_cooldown};
  return PARE_OK;
}

PareStatus pare_tuner_init(PareTuner *t, PareCtx *c, PareArena *arena, const PareModel *model, PareDims *dims,
                           const PareCompressOptions *o, const PareHooks *h, const PareData *data,
                           const int64_t *samples, int64_t nsamples, PareDevice *device) {
  *t = (PareTuner){.c = c, .o = o, .h = h, .model = model, .data = data, .samples = samples, .nsamples = nsamples,
                   .arena = arena, .device = device, .dims = dims, .loss = NAN};
  t->ratio = o->sparsity;
  PARE_TRY(choose_dims(t));
  t->criterion = t->planned ? pare_criterion_find("random") /* scores nothing */ : &pare_criteria[o->method];
  PARE_TRY(choose_loss(t));
  PARE_TRY(choose_steps(t));
  t->spec.temperature = o->temperature;
  t->spec.criterion = t->criterion;
  t->spec.power = o->importance == 0 ? 2 : 1;
  t->spec.eta = o->eta;
  t->spec.ema = t->schedule.steps ? o->ema : 1 - 1.0 / SCORE_BATCHES;
  t->spec.normalise = o->ranking == 1;
  t->spec.pruned = t->pruned;
  t->spec.dump_after = o->dump_after;
  t->spec.bf16 = o->precision == 2 || (o->precision == 0 && !device->host); /* auto is fp32 on a CPU */
  PARE_TRY(pare_params_new(c, arena, dims, o->rank, o->alpha, (uint64_t)o->seed, &t->params));
  if (!data) return stand_in(t);
  if (t->spec.loss != PARE_LOSS_KD) return PARE_OK;
  return pare_teacher_new(c, model->graph, data, o->batch, device, &t->teacher);
}

const char *pare_tuner_method(const PareTuner *t) { return t->planned ? "plan" : t->criterion->name; }

void pare_tuner_free(PareTuner *t) {
  pare_program_free(t->program);
  pare_arena_free(t->stage);
  pare_teacher_free(t->teacher);
  pare_data_free(t->stand_in);
}
