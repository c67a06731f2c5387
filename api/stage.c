/* stage.c - the training program on what is left: compiled, filled, and left for the next one. */
#include <string.h>

#include "api/options.h"
#include "api/trained.h"
#include "api/tuner_parts.h"

static const char *const loss_name[] = {
#define X(id, name) name,
    PARE_LOSS_LIST(X)
#undef X
};

PareStatus pare_tuner_carry_scores(PareTuner *t, bool to_program) {
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
  return pare_tuner_carry_elements(t, to_program);
}

PareStatus pare_tuner_save_stage(PareTuner *t) {
  PARE_TRY(pare_tuner_carry_scores(t, false));
  return pare_params_save(t->c, &t->params, t->dims, &t->graph, t->program);
}

PareStatus pare_tuner_leave_stage(PareTuner *t) {
  if (!t->program) return PARE_OK;
  PARE_TRY(pare_tuner_save_stage(t));
  pare_program_free(t->program);
  t->program = NULL;
  pare_arena_free(t->stage);
  t->stage = NULL;
  return PARE_OK;
}

/* What the labels are for, and the loss that asks: of the bound model, so that sizes tell. */
static PareStatus choose_task(PareTuner *t, const PareGraph *g) {
  static const PareLossKind usual[] = {[PARE_TASK_CLASSES] = PARE_LOSS_CE, [PARE_TASK_NUMBERS] = PARE_LOSS_MSE,
                                       [PARE_TASK_MARKS] = PARE_LOSS_BCE, [PARE_TASK_SPANS] = PARE_LOSS_CE};
  const PareArray *l = pare_data_find(t->data, "labels");
  char type[PARE_TYPE_TEXT];
  if (t->spec.loss == PARE_LOSS_KD) return PARE_OK;
  t->spec.labels = l->type;
  t->spec.labels.dim[0] = t->batch;
  t->spec.labels.dtype = PARE_I64;
  PareLabels labels = {l->type, pare_data_marks(l), pare_option_labels_as(t->o)};
  PARE_TRY(pare_task_find(t->c, t->data->file, &labels, g, t->aside.of, &t->spec.task));
  PareTaskKind kind = t->spec.task.kind;
  if (t->o->loss == 0) t->spec.loss = usual[kind];
  if (t->spec.loss == PARE_LOSS_BCE && !labels.marks)
    return pare_data_error(t->c, t->data, PARE_DATA, "--loss bce wants labels of 0 and 1; there are others");
  if ((t->spec.loss == PARE_LOSS_CE) == (usual[kind] == PARE_LOSS_CE)) return PARE_OK;
  bool classes = usual[kind] == PARE_LOSS_CE;
  return pare_data_error(t->c, t->data, PARE_DATA,
                         "the labels are %s, which for output '%s' are %s: --loss %s wants %s",
                         pare_type_text(&l->type, type), g->outputs.at[t->spec.task.output]->name,
                         classes ? "classes or places" : "numbers", loss_name[t->spec.loss],
                         classes ? "numbers of its shape" : "classes, one a row");
}

void pare_tuner_show_leaves(PareTuner *t, bool *const *flags) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (t->keep[i]) t->dims->dims.at[i].leaf->keep = flags[i];
}

void pare_tuner_set_leaves(PareTuner *t) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (t->keep[i]) memcpy(t->stage_keep[i], t->keep[i], (size_t)t->dims->dims.at[i].count * sizeof(bool));
}

/* Classes, or places, exist, and there is one at least. Where scores are all that is made, nothing is judged. */
static PareStatus check_labels(PareTuner *t) {
  const PareArray *l = pare_data_find(t->data, "labels");
  if (t->spec.loss != PARE_LOSS_CE || !t->graph.judged) return PARE_OK;
  int64_t end = t->graph.judged->type.dim[t->graph.judged->type.rank - 1];
  bool spans = t->spec.task.kind == PARE_TASK_SPANS;
  const char *what = spans ? "the model's places number" : "the model's classes number";
  if (l->type.rank == 1) return pare_data_check_range(t->c, t->data, l, end, what);
  return pare_data_check_below(t->c, t->data, l, end, what); /* negative: not this token */
}

/* The program on the model as its file has it: weights are copied, and the file's pages given back. A cut model's are
 * copies already, and a teacher reads the file at every step. */
static PareStatus own_weights(PareTuner *t, const PareGraph *g, PareValue **y) {
  PARE_TRY(pare_program_new_resident(t->c, g, t->device, 1, y, &t->program));
  pare_file_forget(&t->model->file);
  for (size_t i = 0; i < t->model->external.n; i++) pare_file_forget(&t->model->external.at[i].file);
  return PARE_OK;
}

/* Compiles the training program on the model cut as the leaves' flags say, for t->most samples at most. */
static PareStatus compile(PareTuner *t, bool cut_any) {
  PareCtx *c = t->c;
  if (!(t->stage = pare_arena_new(1 << 20))) return pare_nomem(c);
  PareGraph *whole = t->base ? t->base : t->model->graph, *cut = whole, *g;
  if (cut_any) PARE_TRY(pare_cut_dims(c, t->stage, whole, t->dims, &cut));
  if (!(g = pare_graph_clone(c, t->stage, cut))) return c->diag.code;
  t->batch = t->most;
  PARE_TRY(pare_feed_bind(c, g, t->data, &t->batch));
  t->micro = (t->o->batch + t->batch - 1) / t->batch;
  t->spec.one_run = t->micro == 1 && t->device->host;
  PARE_TRY(choose_task(t, g));
  PareAdapters adapters;
  PARE_TRY(pare_params_cut(c, t->stage, &t->params, t->dims, &adapters));
  PARE_TRY(pare_build_training(c, g, t->dims, &adapters, &t->spec, &t->graph));
  PARE_TRY(check_labels(t));
  PareValue **y = &t->graph.judged;
  if (t->spec.scores_alone) return pare_program_new_on(c, g, t->device, 0, NULL, &t->program);
  if (cut_any || t->base || t->teacher) return pare_program_new_on(c, g, t->device, 1, y, &t->program);
  return own_weights(t, g, y);
}

enum { FULL_RUN = 8 }; /* samples: less of them leave a GPU idle, and making results again costs less than that */

/* The program has no room: a run gets half of the samples and a step more runs, or backward makes again what it reads,
 * merged weights among it. False when nothing is left to give. */
static bool give_way(PareTuner *t) {
  bool divisible = t->batch > 1 && t->batch <= t->most, lean = t->spec.recompute.dear == PARE_RECOMPUTE_LEAN;
  if (divisible && (t->batch > FULL_RUN || lean)) return t->most = (t->batch + 1) / 2, true;
  if (lean) return false;
  t->spec.recompute = (PareRecompute){0, PARE_RECOMPUTE_LEAN};
  t->spec.merge = false;
  t->spec.reread = true;
  return true;
}

static void tell_what_fits(const PareTuner *t, int64_t wanted, bool lean) {
  if (t->batch < wanted)
    pare_log(t->c, 0, "%s has no room for %lld samples at a time: a step is made of runs of %lld", t->device->name,
             (long long)wanted, (long long)t->batch);
  if (t->spec.recompute.dear == PARE_RECOMPUTE_LEAN && !lean)
    pare_log(t->c, 0, "%s has no room for all that backward reads: it is made again there", t->device->name);
}

/* A GPU has the memory that it has. */
static PareStatus fit(PareTuner *t, bool cut_any) {
  if (!t->most) t->most = t->o->batch;
  if (t->teacher && pare_teacher_batch(t->teacher) < t->most) t->most = pare_teacher_batch(t->teacher);
  int64_t wanted = 0;
  bool lean = t->spec.recompute.dear == PARE_RECOMPUTE_LEAN;
  for (;;) {
    PareDiag before = t->c->diag;
    PareStatus s = compile(t, cut_any);
    if (!wanted) wanted = t->batch;
    if (s == PARE_OK) tell_what_fits(t, wanted, lean);
    if (s != PARE_NOMEM || t->device->host || !give_way(t)) return s;
    t->c->diag = before;
    pare_arena_free(t->stage);
    t->stage = NULL;
  }
}

static PareStatus compile_to_fit(PareTuner *t, bool cut_any) {
  t->device->tf32 = t->tf32; /* of this program alone: what judges is exact */
  PareStatus s = fit(t, cut_any);
  t->device->tf32 = false;
  return s;
}

static bool cuts_any(const PareTuner *t) {
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (t->stage_keep[i] && pare_axis_count(t->dims->dims.at[i].leaf) < t->dims->dims.at[i].count) return true;
  return false;
}

/* Once: how much is tuned, and what was to be but has no part in the loss. */
static void tell_trained(PareTuner *t) {
  size_t untouched = 0;
  const char *first = NULL;
  if (t->trained_parameters || !t->schedule.steps) return;
  t->trained_parameters = pare_trained_count(&t->params, &t->graph);
  for (size_t i = 0; i < t->params.trained.at.n; i++) {
    if (t->graph.trained[i].grad) continue;
    if (!untouched++) first = t->params.trained.at.at[i].name;
    pare_log(t->c, 1, "no gradient reaches '%s'", t->params.trained.at.at[i].name);
  }
  if (untouched)
    pare_log(t->c, 0, "%zu weights stay as they are, since no gradient reaches them: '%s'%s", untouched, first,
             untouched > 1 ? " and others" : "");
}

PareStatus pare_tuner_enter_stage(PareTuner *t) {
  PareCtx *c = t->c;
  int64_t all, dead;
  pare_tuner_count_in(t, t->stage_keep, &all, &dead);
  PARE_TRY(compile_to_fit(t, cuts_any(t)));
  tell_trained(t);
  if (!t->spec.scores_alone) PARE_TRY(pare_tuner_open_flights(t));
  PARE_TRY(pare_params_load(c, &t->params, t->dims, &t->graph, t->program));
  PARE_TRY(pare_tuner_carry_scores(t, true));
  t->stage_alive = all - dead;
  size_t bytes = t->device->own + pare_program_bytes(t->program) + (t->teacher ? pare_teacher_bytes(t->teacher) : 0);
  bool first = !t->peak_bytes && !t->device->host; /* a GPU's is told before the first step */
  if (bytes > t->peak_bytes) t->peak_bytes = bytes;
  pare_log(c, first ? 0 : 1, "program on %lld groups: %zu MiB, %lld samples at a time", (long long)t->stage_alive,
           bytes >> 20, (long long)t->batch);
  return PARE_OK;
}

PareStatus pare_tuner_update_masks(PareTuner *t) {
  for (size_t i = 0; i < t->graph.masks.at.n; i++) {
    const PareMask *m = &t->graph.masks.at.at[i];
    if (!t->dims->dims.at[m->dim].exact) continue; /* it scores; what is dead is cut at once */
    float *mask = pare_program_buffer(t->program, m->mask);
    for (int64_t k = 0; mask && t->keep[m->dim] && k < m->k; k++)
      if (m->group[k] >= 0) mask[k] = t->keep[m->dim][m->group[k]];
    if (mask) PARE_TRY(pare_program_push(t->c, t->program, m->mask));
  }
  return pare_tuner_mask_elements(t);
}
