#include "api/other_teacher.h"

#include <string.h>

#include "api/aside.h"
#include "api/feed.h"
#include "passes/classes.h"
#include "passes/probe_dims.h"
#include "passes/task.h"
#include "passes/trace_dims.h"
#include "passes/untie.h"

typedef struct Pair {
  PareCtx *c;
  PareArena *a;
  const PareGraph *student, *teacher; /* bound to the same data */
  const bool *aside;                  /* of the student's outputs */
  const bool *teacher_aside;          /* of the teacher's */
  uint32_t *output;                   /* by output of the student that is followed: id of the teacher's */
  size_t noutputs;
  PareOtherTeacher *out;
} Pair;

static const PareValue *find(const PareValue *const *at, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (!strcmp(at[i]->name, name)) return at[i];
  return NULL;
}

/* --- inputs --- */

/* Sizes that both know are the same, but for axis 0, which counts samples. */
static bool agree(const PareType *a, const PareType *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 1; i < a->rank; i++)
    if (a->dim[i] >= 0 && b->dim[i] >= 0 && a->dim[i] != b->dim[i]) return false;
  return true;
}

static PareStatus check_inputs(PareCtx *c, const PareGraph *student, const PareGraph *teacher) {
  for (size_t i = 0; i < teacher->inputs.n; i++) {
    const PareValue *x = teacher->inputs.at[i];
    const PareValue *same = find((const PareValue *const *)student->inputs.at, student->inputs.n, x->name);
    char want[PARE_TYPE_TEXT], have[PARE_TYPE_TEXT];
    if (!same)
      return pare_error(c, PARE_DATA, "it has the input '%s', which the model to be tuned has not: a teacher is fed the same "
                        "data", x->name);
    if (!agree(&x->type, &same->type))
      return pare_error(c, PARE_DATA, "its input '%s' is %s, that of the model to be tuned %s on these data", x->name,
                        pare_type_text(&x->type, want), pare_type_text(&same->type, have));
  }
  return PARE_OK;
}

/* --- outputs --- */

/* The graph's outputs that may be followed. NULL when memory is out. */
static const PareValue **followed(PareArena *a, const PareGraph *g, const bool *aside, size_t *n) {
  const PareValue **at = PARE_NEW_N(a, g->outputs.n + 1, const PareValue *);
  *n = 0;
  for (size_t i = 0; at && i < g->outputs.n; i++)
    if (pare_is_followed(g, aside, i)) at[(*n)++] = g->outputs.at[i];
  return at;
}

/* Half-precision models run in f32. */
static bool same_shape(const PareType *a, const PareType *b) {
  return a->rank == b->rank && !memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim);
}

static PareStatus match_outputs(Pair *p) {
  size_t n, m;
  const PareValue **want = followed(p->a, p->student, p->aside, &n);
  const PareValue **have = followed(p->a, p->teacher, p->teacher_aside, &m);
  bool named = true;
  if (!want || !have) return pare_nomem(p->c);
  if (!(p->output = PARE_NEW_N(p->a, n + 1, uint32_t))) return pare_nomem(p->c);
  for (size_t i = 0; i < n; i++) named &= find(have, m, want[i]->name) != NULL;
  for (size_t i = 0; i < n; i++) {
    const PareValue *y = named ? find(have, m, want[i]->name) : i < m ? have[i] : NULL;
    char a[PARE_TYPE_TEXT], b[PARE_TYPE_TEXT];
    if (!y)
      return pare_error(p->c, PARE_DATA, "it has %zu outputs of floats that count samples, and the model to be tuned "
                        "has '%s' beyond them", m, want[i]->name);
    if (!same_shape(&y->type, &want[i]->type))
      return pare_error(p->c, PARE_DATA, "its output '%s' is %s on these data, and '%s' of the model to be tuned %s", y->name,
                        pare_type_text(&y->type, a), want[i]->name, pare_type_text(&want[i]->type, b));
    if (pare_output_is_sigmoid(y) != pare_output_is_sigmoid(want[i]))
      return pare_error(p->c, PARE_DATA, "a Sigmoid makes one of its output '%s' and '%s' of the model to be tuned, and not the "
                        "other: they cannot be compared", y->name, want[i]->name);
    p->output[p->noutputs++] = y->id;
  }
  return PARE_OK;
}

/* What is not followed is no output any more. */
static PareStatus take_outputs(Pair *p) {
  PareGraph *g = p->out->model->graph;
  g->outputs.n = 0;
  for (size_t i = 0; i < p->noutputs; i++)
    if (!pare_vec_push(g->arena, &g->outputs, g->values.at[p->output[i]])) return pare_nomem(p->c);
  return PARE_OK;
}

/* --- hidden states --- */

/* The teacher's own, in node order. */
static PareStatus find_states(Pair *p, PareHiddens *out) {
  PareGraph *probe;
  PareDims *dims;
  PARE_TRY(pare_probe_dims(p->c, p->a, p->out->model->graph, 0, &probe));
  PARE_TRY(pare_trace_dims(p->c, p->a, probe, &dims));
  bool *all = PARE_NEW_N(p->a, dims->dims.n + 1, bool);
  if (!all) return pare_nomem(p->c);
  memset(all, 1, dims->dims.n * sizeof *all);
  return pare_find_hidden(p->c, p->a, dims, all, out);
}

/* State i of n follows the one that stands as far on its way through the teacher's m. */
static size_t place(size_t i, size_t n, size_t m) {
  size_t at = (i + 1) * m / n;
  return at ? at - 1 : 0;
}

static PareStatus match_hidden(Pair *p, const PareHiddens *states) {
  PareHiddens own;
  size_t n = states->at.n;
  uint32_t *hidden = PARE_NEW_N(p->a, n + 1, uint32_t);
  if (!hidden) return pare_nomem(p->c);
  if (n) PARE_TRY(find_states(p, &own));
  for (size_t i = 0; i < n; i++) {
    const PareValue *h = p->student->values.at[states->at.at[i].value];
    const PareValue *t = own.at.n ? p->teacher->values.at[own.at.at[place(i, n, own.at.n)].value] : NULL;
    char a[PARE_TYPE_TEXT], b[PARE_TYPE_TEXT];
    if (t && same_shape(&h->type, &t->type)) {
      hidden[i] = t->id;
      continue;
    }
    pare_log(p->c, 0, "hidden states are not distilled: '%s' is %s, and the teacher's %s", h->name,
             pare_type_text(&h->type, a), t ? pare_type_text(&t->type, b) : "are not found");
    return PARE_OK;
  }
  p->out->nhidden = n;
  p->out->hidden = hidden;
  return PARE_OK;
}

/* --- the whole --- */

static PareStatus bound(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *data, const PareGraph **out) {
  int64_t batch = 1;
  PareGraph *clone = pare_graph_clone(c, a, g);
  *out = clone;
  return clone ? pare_feed_bind(c, clone, data, &batch) : c->diag.code;
}

static PareStatus open(Pair *p, const char *path, const PareGraph *student, const PareHiddens *states,
                       const PareData *data) {
  PareAside own;
  PARE_TRY(pare_model_load(p->c, path, &p->out->model));
  PareGraph *g = p->out->model->graph;
  PARE_TRY(pare_untie(p->c, g));
  PARE_TRY(bound(p->c, p->a, student, data, &p->student));
  PARE_TRY(check_inputs(p->c, p->student, g));
  PARE_TRY(bound(p->c, p->a, g, data, &p->teacher));
  PARE_TRY(pare_find_aside(p->c, p->a, g, data, &own));
  p->teacher_aside = own.of;
  p->out->pairs = own.pairs;
  PARE_TRY(match_outputs(p));
  PARE_TRY(match_hidden(p, states));
  return take_outputs(p);
}

PareStatus pare_other_teacher_open(PareCtx *c, PareArena *a, const char *path, const PareGraph *student,
                                   const bool *aside, const PareHiddens *states, const PareData *data,
                                   PareOtherTeacher *out) {
  const char *file = c->file;
  Pair p = {.c = c, .a = a, .aside = aside, .out = out};
  *out = (PareOtherTeacher){0};
  c->file = path; /* what is wrong is wrong with it */
  PareStatus s = open(&p, path, student, states, data);
  c->file = file;
  return s;
}
