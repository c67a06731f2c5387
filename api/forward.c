/* forward.c - see forward.h. */
#include "api/forward.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "passes/bind_shapes.h"

struct PareForward {
  PareArena *arena;
  const PareData *data;
  PareGraph *graph;
  PareProgram *program;
  const PareArray **array; /* of each input */
  int64_t batch, *index;   /* index[batch] */
  float **floats;          /* of each output that is not f32 */
};

void pare_forward_free(PareForward *f) {
  if (!f) return;
  pare_program_free(f->program);
  pare_arena_free(f->arena);
}

/* --- do the data fit? --- */

/* "input_ids i64[?,?], mask i64[?,?]" */
static void list_inputs(char *buf, size_t cap, const PareGraph *g) {
  char type[PARE_TYPE_TEXT];
  size_t n = 0;
  for (size_t i = 0; i < g->inputs.n && n < cap; i++)
    n += (size_t)snprintf(buf + n, cap - n, "%s%s %s", i ? ", " : "", g->inputs.at[i]->name,
                          pare_type_text(&g->inputs.at[i]->type, type));
}

static void list_arrays(char *buf, size_t cap, const PareData *d) {
  char type[PARE_TYPE_TEXT];
  size_t n = 0;
  for (size_t i = 0; i < d->narrays && n < cap; i++)
    n += (size_t)snprintf(buf + n, cap - n, "%s%s %s", i ? ", " : "", d->arrays[i].name,
                          pare_type_text(&d->arrays[i].type, type));
}

static PareStatus no_array(PareCtx *c, const PareGraph *g, const PareData *d, const char *name) {
  char want[220], have[220];
  list_inputs(want, sizeof want, g);
  list_arrays(have, sizeof have, d);
  return pare_data_error(c, d, PARE_DATA, "no array is named '%s'; the model's inputs are %s; the file holds %s", name,
                         want, have);
}

static PareStatus check_input(PareCtx *c, const PareGraph *g, const PareData *d, const PareValue *v,
                              const PareArray **out) {
  char want[PARE_TYPE_TEXT], have[PARE_TYPE_TEXT];
  if (v->type.rank < 1)
    return pare_error(c, PARE_UNSUPPORTED, "the input '%s' is a scalar: axis 0 of every input must count the samples",
                      v->name);
  const PareArray *a = pare_data_find(d, v->name);
  if (!a) return no_array(c, g, d, v->name);
  bool fits = a->type.rank == v->type.rank;
  for (int axis = 1; fits && axis < v->type.rank; axis++)
    fits = v->type.dim[axis] < 0 || v->type.dim[axis] == a->type.dim[axis];
  if (!fits)
    return pare_data_error(c, d, PARE_DATA, "array '%s' is %s, but the model wants %s", a->name,
                           pare_type_text(&a->type, have), pare_type_text(&v->type, want));
  *out = a;
  return pare_data_batch(c, d, a, NULL, 0, v->type.dtype, NULL); /* can it be converted? */
}

/* The axis-0 size that inputs insist on; 0 where all are dynamic. */
static PareStatus fixed_batch(PareCtx *c, const PareGraph *g, int64_t *out) {
  const PareValue *by = NULL;
  *out = 0;
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    if (v->type.dim[0] < 0) continue;
    if (by && v->type.dim[0] != *out)
      return pare_error(c, PARE_UNSUPPORTED,
                        "axis 0 of the inputs '%s' and '%s' is %" PRId64 " and %" PRId64
                        ": it must count the samples in both",
                        by->name, v->name, *out, v->type.dim[0]);
    by = v;
    *out = v->type.dim[0];
  }
  return by && *out < 1 ? pare_error(c, PARE_UNSUPPORTED, "the input '%s' is empty", by->name) : PARE_OK;
}

/* Axes of one name must have one length in the data. */
static PareStatus check_names(PareCtx *c, PareForward *f, const PareGraph *g) {
  for (size_t i = 0; i < g->inputs.n; i++)
    for (size_t j = 0; j < i; j++) {
      const PareValue *v = g->inputs.at[i], *w = g->inputs.at[j];
      for (int x = 1; v->dim_name && x < v->type.rank; x++)
        for (int y = 1; w->dim_name && y < w->type.rank; y++) {
          bool one = v->dim_name[x] && w->dim_name[y] && !strcmp(v->dim_name[x], w->dim_name[y]);
          int64_t a = f->array[i]->type.dim[x], b = f->array[j]->type.dim[y];
          if (one && a != b)
            return pare_data_error(c, f->data, PARE_DATA,
                                   "the axis '%s' is %" PRId64 " long in '%s', but %" PRId64 " in '%s'", v->dim_name[x],
                                   a, v->name, b, w->name);
        }
    }
  return PARE_OK;
}

/* --- binding --- */

static PareStatus bind(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch) {
  f->graph = pare_graph_clone(c, f->arena, g);
  if (!f->graph) return c->diag.code;
  for (size_t i = 0; i < f->graph->inputs.n; i++) {
    PareValue *v = f->graph->inputs.at[i];
    for (int axis = 1; axis < v->type.rank; axis++) v->type.dim[axis] = f->array[i]->type.dim[axis];
    v->type.dim[0] = batch;
  }
  f->batch = batch;
  return pare_bind_shapes(c, f->graph, 0, NULL);
}

static bool outputs_follow(const PareForward *f) {
  for (size_t i = 0; i < f->graph->outputs.n; i++) {
    const PareType *t = &f->graph->outputs.at[i]->type;
    if (t->rank < 1 || t->dim[0] != f->batch) return false;
  }
  return true;
}

/* A batch of 1 may be baked into the model: then 1 is what it gets. */
static PareStatus bind_batch(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch) {
  int64_t fixed;
  PARE_TRY(fixed_batch(c, g, &fixed));
  if (fixed) return bind(c, f, g, fixed);
  PareDiag before = c->diag;
  PareStatus s = bind(c, f, g, batch);
  if (s == PARE_NOMEM || batch == 1 || (s == PARE_OK && outputs_follow(f))) return s;
  PareDiag first = c->diag;
  c->diag = before;
  if (bind(c, f, g, 1) == PARE_OK) return PARE_OK;
  if (first.code != PARE_OK) c->diag = first;
  return c->diag.code;
}

static PareStatus make(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch) {
  f->array = PARE_NEW_N(f->arena, g->inputs.n, const PareArray *);
  if (!f->array) return pare_nomem(c);
  for (size_t i = 0; i < g->inputs.n; i++) PARE_TRY(check_input(c, g, f->data, g->inputs.at[i], &f->array[i]));
  PARE_TRY(check_names(c, f, g));
  PARE_TRY(bind_batch(c, f, g, batch < f->data->nsamples ? batch : f->data->nsamples));
  PARE_TRY(pare_program_new(c, f->graph, pare_cpu_kernels(), &f->program));
  size_t nout = f->graph->outputs.n;
  f->index = PARE_NEW_N(f->arena, f->batch, int64_t);
  f->floats = PARE_NEW_N(f->arena, nout, float *);
  if (!f->index || !f->floats) return pare_nomem(c);
  for (size_t i = 0; i < nout; i++) {
    const PareType *t = &f->graph->outputs.at[i]->type;
    if (t->dtype == PARE_F32) continue;
    f->floats[i] = PARE_NEW_N(f->arena, pare_type_count(t), float);
    if (!f->floats[i]) return pare_nomem(c);
  }
  return PARE_OK;
}

PareStatus pare_forward_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch, PareForward **out) {
  *out = NULL;
  PareArena *a = pare_arena_new(1 << 16);
  PareForward *f = a ? PARE_NEW(a, PareForward) : NULL;
  if (!f) return pare_arena_free(a), pare_nomem(c);
  f->arena = a;
  f->data = d;
  PareStatus s = make(c, f, g, batch);
  if (s == PARE_OK) *out = f;
  else pare_forward_free(f);
  return s;
}

/* --- running --- */

int64_t pare_forward_batch(const PareForward *f) { return f->batch; }

PareStatus pare_forward_run(PareCtx *c, PareForward *f, const int64_t *samples, int64_t count) {
  assert(count > 0 && count <= f->batch);
  for (int64_t i = 0; i < f->batch; i++) f->index[i] = samples[i < count ? i : count - 1];
  for (size_t i = 0; i < f->graph->inputs.n; i++) {
    const PareValue *v = f->graph->inputs.at[i];
    PARE_TRY(pare_data_batch(c, f->data, f->array[i], f->index, f->batch, v->type.dtype,
                             pare_program_buffer(f->program, v)));
  }
  return pare_program_run(c, f->program, -1);
}

size_t pare_forward_outputs(const PareForward *f) { return f->graph->outputs.n; }
const PareValue *pare_forward_value(const PareForward *f, size_t i) { return f->graph->outputs.at[i]; }
int64_t pare_forward_width(const PareForward *f, size_t i) {
  return pare_type_count(&f->graph->outputs.at[i]->type) / f->batch;
}
const void *pare_forward_output(const PareForward *f, size_t i) {
  return pare_program_buffer(f->program, f->graph->outputs.at[i]);
}

const float *pare_forward_floats(PareForward *f, size_t i) {
  const PareValue *v = f->graph->outputs.at[i];
  if (v->type.dtype == PARE_F32) return pare_forward_output(f, i);
  PareValue shown = *v;
  shown.data = pare_forward_output(f, i);
  int64_t n = pare_type_count(&v->type);
  for (int64_t k = 0; k < n; k++) f->floats[i][k] = (float)pare_data_float(&shown, k);
  return f->floats[i];
}

const PareGraph *pare_forward_graph(const PareForward *f) { return f->graph; }
PareProgram *pare_forward_program(const PareForward *f) { return f->program; }
