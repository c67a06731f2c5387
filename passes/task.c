#include "passes/task.h"

#include <stdio.h>
#include <string.h>

#include "passes/classes.h"

/* Axes 1.. of the labels are those of the output, but for `less` at its end. */
static bool same_rows(const PareType *labels, const PareType *out, int less) {
  if (labels->rank != out->rank - less) return false;
  for (int i = 1; i < labels->rank; i++)
    if (labels->dim[i] != out->dim[i]) return false;
  return true;
}

void pare_mark_varying(const PareGraph *g, bool *varies) {
  for (size_t i = 0; i < g->inputs.n; i++) varies[g->inputs.at[i]->id] = true;
  for (const PareNode *n = g->first; n; n = n->next) {
    bool any = false;
    for (int k = 0; k < n->nin; k++) any |= n->in[k] && varies[n->in[k]->id];
    for (int o = 0; o < n->nout; o++)
      if (n->out[o]) varies[n->out[o]->id] = any && !n->out[o]->data;
  }
}

bool pare_is_followed(const PareGraph *g, const bool *aside, size_t i) {
  return pare_dtype_is_float(g->outputs.at[i]->type.dtype) && !(aside && aside[i]);
}

int64_t pare_task_row(const PareType *output) { return output->rank >= 2 ? output->dim[output->rank - 1] : 1; }

/* What labels may speak of. */
typedef struct Outputs {
  const PareGraph *g;
  const bool *aside;
} Outputs;

static bool is_scores(const Outputs *o, size_t i) {
  return pare_is_followed(o->g, o->aside, i) && o->g->outputs.at[i]->type.rank >= 1;
}

static bool fits_classes(const PareLabels *l, const PareValue *v) {
  return pare_dtype_is_int(l->type.dtype) && v->type.dim[v->type.rank - 1] > 1 && same_rows(&l->type, &v->type, 1);
}

/* Integers of the output's own shape must be marks: they may as well be classes of another model. */
static bool fits_numbers(const PareLabels *l, const PareValue *v) {
  bool one = v->type.dim[v->type.rank - 1] == 1 && same_rows(&l->type, &v->type, 1); /* [N] for [N, 1] */
  return one || ((pare_dtype_is_float(l->type.dtype) || l->marks) && same_rows(&l->type, &v->type, 0));
}

static bool fits(const PareLabels *l, const PareValue *v, PareTaskKind *kind) {
  if (fits_classes(l, v)) return *kind = PARE_TASK_CLASSES, true;
  if (!fits_numbers(l, v)) return false;
  bool looks = pare_output_is_mark(v, !pare_dtype_is_float(l->type.dtype));
  bool mark = l->as == PARE_LABELS_AS_THEY_LOOK ? looks : l->as == PARE_LABELS_AS_MARKS;
  *kind = mark && l->marks ? PARE_TASK_MARKS : PARE_TASK_NUMBERS;
  return true;
}

/* One output [N, L, 2], or the first two [N, L], which are the starts and the ends unless their names say otherwise. */
static bool fits_spans(const PareLabels *l, const Outputs *o, PareTask *out) {
  PareValue *const *outputs = o->g->outputs.at;
  size_t two[2], found = 0;
  if (!pare_dtype_is_int(l->type.dtype) || l->type.rank != 2 || l->type.dim[1] != 2) return false;
  for (size_t i = 0; i < o->g->outputs.n && found < 2; i++) {
    const PareType *t = &outputs[i]->type;
    if (!is_scores(o, i)) continue;
    if (t->rank == 3 && t->dim[2] == 2) return *out = (PareTask){PARE_TASK_SPANS, i, i}, true;
    if (t->rank == 2 && (!found || t->dim[1] == outputs[two[0]]->type.dim[1])) two[found++] = i;
  }
  if (found < 2) return false;
  bool turned = strstr(outputs[two[0]]->name, "end") && strstr(outputs[two[1]]->name, "start");
  return *out = (PareTask){PARE_TASK_SPANS, two[turned], two[!turned]}, true;
}

static PareStatus refuse(PareCtx *c, const char *file, const PareLabels *l, const Outputs *o) {
  PareValue *const *outputs = o->g->outputs.at;
  char have[PARE_TYPE_TEXT], type[PARE_TYPE_TEXT], there[400] = "";
  size_t at = 0;
  for (size_t i = 0; i < o->g->outputs.n && at < sizeof there; i++)
    if (is_scores(o, i))
      at += (size_t)snprintf(there + at, sizeof there - at, "%s'%s', %s", at ? ", nor " : "", outputs[i]->name,
                             pare_type_text(&outputs[i]->type, type));
  return pare_diag_set(&c->diag, PARE_DATA, file, NULL, NULL, __FILE__, __LINE__,
                       "the labels are %s, which does not fit output %s: give integers, one a row of an output's last "
                       "axis, numbers of its shape, or [samples, 2] for the places of spans",
                       pare_type_text(&l->type, have), there);
}

PareStatus pare_task_find(PareCtx *c, const char *file, const PareLabels *labels, const PareGraph *g, const bool *aside,
                          PareTask *out) {
  Outputs o = {g, aside};
  for (size_t i = 0; i < g->outputs.n; i++) {
    PareTaskKind kind;
    if (is_scores(&o, i) && fits(labels, g->outputs.at[i], &kind)) return *out = (PareTask){kind, i, i}, PARE_OK;
  }
  if (fits_spans(labels, &o, out)) return PARE_OK;
  return refuse(c, file, labels, &o);
}

PareValue *pare_task_padding(const PareGraph *g, const PareValue *output) {
  const PareType *out = &output->type;
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareType *t = &g->inputs.at[i]->type;
    bool mask = !pare_dtype_is_float(t->dtype) && !strcmp(g->inputs.at[i]->name, "attention_mask");
    if (mask && t->rank == 2 && out->rank >= 3 && t->dim[0] == out->dim[0] && t->dim[1] == out->dim[1])
      return g->inputs.at[i];
  }
  return NULL;
}
