/* training_losses.c - what a training program compares, and with what: labels, a teacher, and both. */
#include "passes/classes.h"
#include "passes/match.h"
#include "passes/training_build.h"

static PareStatus add_loss(PareBuild *b, PareValue **total, PareValue *v) {
  if (!v) return build_oom(b);
  *total = *total ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_ADD, "loss", NULL, *total, v) : v;
  return *total ? PARE_OK : b->c->diag.code;
}

/* 1 where a place of the output counts, 0 where it is padding: [N, L, 1, ...]. NULL where all count. */
static PareStatus find_padding(PareBuild *b, const PareValue *output, PareValue **out) {
  PareValue *mask = pare_task_padding(b->g, output);
  int64_t axes[PARE_MAX_RANK];
  PareAttrs to = {0};
  *out = NULL;
  if (!mask) return PARE_OK;
  for (int i = 2; i < output->type.rank; i++) axes[i - 2] = i;
  pare_attr_set(&to, to, PARE_BOOL);
  PareValue *truth = PARE_EMIT(b->c, b->g, NULL, PARE_OP_CAST, "loss", &to, mask);
  pare_attr_set(&to, to, PARE_F32);
  PareValue *number = truth ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_CAST, "loss", &to, truth) : NULL;
  PareValue *where = number ? pare_const_ints(b->c, b->g, "loss", output->type.rank - 2, axes) : NULL;
  *out = where ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_UNSQUEEZE, "loss", NULL, number, where) : NULL;
  return *out ? PARE_OK : build_oom(b);
}

/* The mean over all places of what is zero at padded ones becomes the mean over the others. */
static PareValue *over_unpadded(PareBuild *b, PareValue *loss, PareValue *mask) {
  PareAttrs all = {0};
  pare_attr_set(&all, keepdims, 0);
  PareValue *share = loss ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_REDUCEMEAN, "loss", &all, mask) : NULL;
  return share ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_DIV, "loss", NULL, loss, share) : NULL;
}

/* What is set against a teacher's: numbers, and what a Sigmoid gives, are as they are. */
static PareValue *compared(const PareTeacherOutput *o) { return o->classes ? o->scores : o->output; }

static PareStatus distill(PareBuild *b, PareTeacherOutput *o, PareValue **total) {
  PareAttrs t = {0};
  pare_attr_set(&t, temperature, b->spec->temperature);
  const char *name = pare_arena_printf(b->g->arena, "pare.teacher.%s", o->output->name);
  PareValue *mask, *x = compared(o), *y;
  if (!name || !(y = o->teacher = build_input(b, name, o->output->type))) return build_oom(b);
  PARE_TRY(find_padding(b, o->output, &mask));
  if (mask && !(x = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, x, mask))) return build_oom(b);
  if (mask && !(y = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, y, mask))) return build_oom(b);
  PareValue *loss = PARE_EMIT(b->c, b->g, NULL, o->classes ? PARE_OP_DISTILL : PARE_OP_MSE, "loss",
                              o->classes ? &t : NULL, x, y);
  return add_loss(b, total, mask ? over_unpadded(b, loss, mask) : loss);
}

/* mean((scale·h - target)²). */
static PareStatus distill_hidden(PareBuild *b, PareTeacherHidden *h, PareValue **total) {
  PareType row = h->state->type;
  row.dim[row.rank - 1] = 1;
  const char *target = pare_arena_printf(b->g->arena, "pare.hidden.%s", h->state->name);
  const char *scale = pare_arena_printf(b->g->arena, "pare.relevance.%s", h->state->name);
  if (!target || !scale || !(h->target = build_input(b, target, h->state->type)) || !(h->scale = build_input(b, scale, row)))
    return build_oom(b);
  PareValue *scaled = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, h->state, h->scale);
  return scaled ? add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, PARE_OP_MSE, "loss", NULL, scaled, h->target))
                : build_oom(b);
}

/* [N, 2, L]: the scores of first and of last tokens as two rows of a sample. */
static PareValue *stack_spans(PareBuild *b, PareValue *first, PareValue *last) {
  PareAttrs attr = {0};
  if (first == last) {
    PareInts order = {.n = 3, .at = {0, 2, 1}};
    pare_attr_set(&attr, perm, order);
    return PARE_EMIT(b->c, b->g, NULL, PARE_OP_TRANSPOSE, "loss", &attr, first);
  }
  PareValue *axis = pare_const_ints(b->c, b->g, "loss", 1, (int64_t[]){1});
  PareValue *x = axis ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_UNSQUEEZE, "loss", NULL, first, axis) : NULL;
  PareValue *y = x ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_UNSQUEEZE, "loss", NULL, last, axis) : NULL;
  pare_attr_set(&attr, axis, 1);
  return y ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_CONCAT, "loss", &attr, x, y) : NULL;
}

static PareValue *scores_of(const PareTrainGraph *t, const PareValue *output) {
  for (size_t i = 0; i < t->noutputs; i++)
    if (t->outputs[i].output == output) return t->outputs[i].scores;
  return NULL;
}

/* What labels speak of. */
static PareStatus find_judged(PareBuild *b) {
  PareTrainGraph *t = b->t;
  const PareTask *task = &b->spec->task;
  t->judged = compared(&t->outputs[0]);
  if (b->spec->loss == PARE_LOSS_KD) return PARE_OK;
  t->judged = b->g->outputs.at[task->output];
  if (b->spec->loss == PARE_LOSS_MSE) return PARE_OK;
  t->judged = scores_of(t, t->judged);
  if (task->kind == PARE_TASK_SPANS) t->judged = stack_spans(b, t->judged, scores_of(t, b->g->outputs.at[task->last]));
  return t->judged ? PARE_OK : build_oom(b);
}

static PareStatus supervise(PareBuild *b, PareValue **total) {
  static const PareOp op[] = {[PARE_LOSS_CE] = PARE_OP_CROSSENTROPY, [PARE_LOSS_MSE] = PARE_OP_MSE,
                              [PARE_LOSS_BCE] = PARE_OP_BCE};
  PareValue *y = b->t->judged;
  PareType type = b->spec->loss == PARE_LOSS_CE ? b->spec->labels : y->type;
  if (!(b->t->labels = build_input(b, "pare.labels", type))) return build_oom(b);
  return add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, op[b->spec->loss], "loss", NULL, y, b->t->labels));
}

/* Cross-entropy against sampled labels, or a random projection: what the scores
 * are taken from when tuning has no labels (METHOD 5). */
static PareStatus fisher_loss(PareBuild *b, PareTeacherOutput *o, PareValue **total) {
  PareType type = o->output->type;
  if (o->classes) {
    type.dtype = PARE_I64;
    type.rank--;
    const char *name = pare_arena_printf(b->g->arena, "pare.sampled.%s", o->output->name);
    if (!name || !(o->sampled = build_input(b, name, type))) return build_oom(b);
    return add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, PARE_OP_CROSSENTROPY, "score", NULL, o->scores, o->sampled));
  }
  PareAttrs all = {0};
  pare_attr_set(&all, keepdims, 0);
  const char *name = pare_arena_printf(b->g->arena, "pare.signs.%s", o->output->name);
  if (!name || !(o->signs = build_input(b, name, type))) return build_oom(b);
  PareValue *p = PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "score", NULL, o->output, o->signs);
  return p ? add_loss(b, total, PARE_EMIT(b->c, b->g, NULL, PARE_OP_REDUCEMEAN, "score", &all, p)) : build_oom(b);
}

PareStatus pare_build_find_outputs(PareBuild *b) {
  PareTrainGraph *t = b->t;
  size_t n = b->g->outputs.n - t->nhidden;
  for (size_t i = 0, k = 0; i < n; i++)
    if (pare_is_followed(b->g, b->spec->aside, i)) t->outputs[k++].output = b->g->outputs.at[i];
  for (size_t i = 0; i < t->nhidden; i++) t->hidden[i].state = b->g->outputs.at[n + i];
  for (size_t i = 0; i < t->noutputs; i++) {
    PareTeacherOutput *o = &t->outputs[i];
    o->classes = pare_output_is_classes(o->output);
    if (!(o->scores = pare_output_logits(b->c, b->g, o->output))) return build_oom(b);
  }
  return PARE_OK;
}

/* task + mu·(taught - task); of one of them, that one. */
static PareStatus blend(PareBuild *b, PareValue *task, PareValue *taught) {
  PareTrainGraph *t = b->t;
  t->loss = task ? task : taught;
  if (!task || !taught) return PARE_OK;
  if (!(t->mu = build_input(b, "pare.mu", (PareType){task->type.dtype, 0, {0}}))) return build_oom(b);
  PareValue *apart = PARE_EMIT(b->c, b->g, NULL, PARE_OP_SUB, "loss", NULL, taught, task);
  PareValue *part = apart ? PARE_EMIT(b->c, b->g, NULL, PARE_OP_MUL, "loss", NULL, apart, t->mu) : NULL;
  t->loss = task;
  return part ? add_loss(b, &t->loss, part) : build_oom(b);
}

PareStatus pare_build_losses(PareBuild *b) {
  PareTrainGraph *t = b->t;
  PareValue *task = NULL, *taught = NULL;
  for (size_t i = 0; b->spec->teach_outputs && i < t->noutputs; i++) PARE_TRY(distill(b, &t->outputs[i], &taught));
  for (size_t i = 0; i < t->nhidden; i++) PARE_TRY(distill_hidden(b, &t->hidden[i], &taught));
  PARE_TRY(find_judged(b));
  if (b->spec->loss != PARE_LOSS_KD) PARE_TRY(supervise(b, &task));
  return blend(b, task, taught);
}

void pare_build_drop_outputs(PareBuild *b) {
  PareTrainGraph *t = b->t;
  b->g->outputs.n = 0;
  for (size_t i = 0; i < t->noutputs; i++)
    if (t->outputs[i].scores != t->outputs[i].output && t->outputs[i].output != t->judged)
      pare_remove_dead(b->g, t->outputs[i].output);
}

PareStatus pare_build_score_loss(PareBuild *b, PareValue **loss) {
  for (size_t i = 0; i < b->t->noutputs; i++) PARE_TRY(fisher_loss(b, &b->t->outputs[i], loss));
  return PARE_OK;
}
