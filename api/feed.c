/* feed.c - do the data fit the model, and which samples stand in its inputs. */
#include "api/feed.h"

#include <inttypes.h>
#include <string.h>

#include "passes/bind_shapes.h"
#include "passes/task.h"

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
static PareStatus check_names(PareCtx *c, const PareData *d, const PareArray *const *array, const PareGraph *g) {
  for (size_t i = 0; i < g->inputs.n; i++)
    for (size_t j = 0; j < i; j++) {
      const PareValue *v = g->inputs.at[i], *w = g->inputs.at[j];
      for (int x = 1; v->dim_name && x < v->type.rank; x++)
        for (int y = 1; w->dim_name && y < w->type.rank; y++) {
          bool one = v->dim_name[x] && w->dim_name[y] && !strcmp(v->dim_name[x], w->dim_name[y]);
          int64_t a = array[i]->type.dim[x], b = array[j]->type.dim[y];
          if (one && a != b)
            return pare_data_error(c, d, PARE_DATA,
                                   "the axis '%s' is %" PRId64 " long in '%s', but %" PRId64 " in '%s'", v->dim_name[x],
                                   a, v->name, b, w->name);
        }
    }
  return PARE_OK;
}

/* --- binding --- */

static PareStatus bind(PareCtx *c, PareGraph *g, const PareArray *const *array, int64_t batch) {
  for (size_t i = 0; i < g->inputs.n; i++) {
    PareValue *v = g->inputs.at[i];
    for (int axis = 1; axis < v->type.rank; axis++) v->type.dim[axis] = array[i]->type.dim[axis];
    v->type.dim[0] = batch;
  }
  return pare_bind_shapes(c, g, 0, NULL);
}

/* Some outputs have as many samples as the batch, and no other one has a single one: what is not of samples at all (a
 * scale, a weight) says nothing. */
static PareStatus outputs_follow(PareCtx *c, const PareGraph *g, int64_t batch, bool *out) {
  bool *varies = PARE_NEW_N(c->scratch, g->values.n + 1, bool), some = false, single = false;
  if (!varies) return pare_nomem(c);
  pare_mark_varying(g, varies);
  for (size_t i = 0; i < g->outputs.n; i++) {
    const PareValue *v = g->outputs.at[i];
    if (!varies[v->id] || v->type.rank < 1) continue;
    some |= v->type.dim[0] == batch;
    single |= v->type.dim[0] == 1;
  }
  *out = some && !single;
  return PARE_OK;
}

/* A batch of 1 may be baked into the model: then 1 is what it gets. */
static PareStatus bind_batch(PareCtx *c, PareGraph *g, const PareArray *const *array, int64_t *batch) {
  int64_t fixed;
  PARE_TRY(fixed_batch(c, g, &fixed));
  if (fixed) return bind(c, g, array, *batch = fixed);
  PareDiag before = c->diag;
  bool follow = false;
  PareStatus s = bind(c, g, array, *batch);
  if (s == PARE_OK && *batch > 1) PARE_TRY(outputs_follow(c, g, *batch, &follow));
  if (s == PARE_NOMEM || *batch == 1 || follow) return s;
  PareDiag first = c->diag;
  c->diag = before;
  if (bind(c, g, array, 1) == PARE_OK) return *batch = 1, PARE_OK;
  if (first.code != PARE_OK) c->diag = first;
  return c->diag.code;
}

static PareStatus check_and_bind(PareCtx *c, PareGraph *g, const PareData *d, int64_t *batch) {
  const PareArray **array = PARE_NEW_N(c->scratch, g->inputs.n + 1, const PareArray *);
  if (!array) return pare_nomem(c);
  for (size_t i = 0; i < g->inputs.n; i++) PARE_TRY(check_input(c, g, d, g->inputs.at[i], &array[i]));
  PARE_TRY(check_names(c, d, array, g));
  return bind_batch(c, g, array, batch);
}

PareStatus pare_feed_bind(PareCtx *c, PareGraph *g, const PareData *d, int64_t *batch) {
  if (*batch > d->nsamples) *batch = d->nsamples;
  return pare_feed_bind_free(c, g, d, batch);
}

PareStatus pare_feed_bind_free(PareCtx *c, PareGraph *g, const PareData *d, int64_t *batch) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = check_and_bind(c, g, d, batch);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

/* --- feeding --- */

static bool is_ours(const PareValue *v) { return !strncmp(v->name, "pare.", 5); }

PareStatus pare_feed_fill(PareCtx *c, const PareGraph *g, PareProgram *p, const PareData *d,
                          const int64_t *samples, int64_t count, int64_t batch) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *index = PARE_NEW_N(c->scratch, batch + 1, int64_t);
  if (!index) return pare_nomem(c);
  for (int64_t i = 0; i < batch; i++) index[i] = samples[i < count ? i : count - 1];
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    void *to = is_ours(v) ? NULL : pare_program_buffer(p, v);
    if (!to) continue;
    PARE_TRY(pare_data_batch(c, d, pare_data_find(d, v->name), index, batch, v->type.dtype, to));
    PARE_TRY(pare_program_push(c, p, v));
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_feed_padding(PareCtx *c, const PareGraph *g, const PareData *d, const PareValue *output,
                             const int64_t *samples, int64_t count, uint8_t **out) {
  const PareValue *mask = pare_task_padding(g, output);
  *out = NULL;
  if (!mask) return PARE_OK;
  int64_t n = count * mask->type.dim[1], *real = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!real || !(*out = PARE_NEW_N(c->scratch, n + 1, uint8_t))) return pare_nomem(c);
  PARE_TRY(pare_data_batch(c, d, pare_data_find(d, mask->name), samples, count, PARE_I64, real));
  for (int64_t i = 0; i < n; i++) (*out)[i] = real[i] == 0;
  return PARE_OK;
}

void pare_feed_spread(int64_t n, const uint8_t *place, int64_t rows, uint8_t *out) {
  for (int64_t i = 0, each = rows / n; i < rows; i++) out[i] = place[i / each];
}

PareStatus pare_feed_padded_rows(PareCtx *c, const PareGraph *g, const PareData *d, const PareValue *output,
                                 const int64_t *samples, int64_t count, int64_t rows, uint8_t *room, const uint8_t **out) {
  PareMark mark = pare_arena_mark(c->scratch);
  uint8_t *place;
  PARE_TRY(pare_feed_padding(c, g, d, output, samples, count, &place));
  if (place) pare_feed_spread(count * output->type.dim[1], place, rows, room);
  *out = place ? room : NULL;
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
