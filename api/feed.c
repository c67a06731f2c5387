#include "api/feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "passes/bind_shapes.h"

static bool is_ours(const PareValue *v) { return !strncmp(v->name, "pare.", 5); }

static void list_names(const PareData *d, char *buf, size_t cap) {
  size_t at = 0;
  buf[0] = 0;
  for (size_t i = 0; i < d->narrays && at < cap; i++)
    at += (size_t)snprintf(buf + at, cap - at, "%s%s", i ? ", " : "", d->arrays[i].name);
}

static PareStatus find_array(PareCtx *c, const PareData *d, const PareValue *v, const PareArray **out) {
  char names[256];
  if ((*out = pare_data_find(d, v->name))) return PARE_OK;
  list_names(d, names, sizeof names);
  return pare_data_error(c, d, PARE_DATA, "the model's input '%s' has no array of that name; the data have: %s", v->name,
                         names);
}

/* The dims of one input from its array. */
static PareStatus bind_input(PareCtx *c, PareValue *v, const PareData *d, const PareArray *a, int64_t batch) {
  if (a->type.rank != v->type.rank)
    return pare_data_error(c, d, PARE_DATA, "array '%s' has rank %d, the model's input has rank %d", v->name,
                           a->type.rank, v->type.rank);
  for (int i = 0; i < v->type.rank; i++) {
    int64_t has = i ? a->type.dim[i] : batch;
    if (v->type.dim[i] < 0) v->type.dim[i] = has;
    else if (i && v->type.dim[i] != has)
      return pare_data_error(c, d, PARE_DATA, "axis %d of array '%s' has %" PRId64 " elements, the model wants %" PRId64,
                             i, v->name, has, v->type.dim[i]);
  }
  return PARE_OK;
}

static void log_strays(PareCtx *c, const PareGraph *g, const PareData *d) {
  for (size_t i = 0; i < d->narrays; i++) {
    bool used = !strcmp(d->arrays[i].name, "labels");
    for (size_t k = 0; k < g->inputs.n; k++) used |= !strcmp(g->inputs.at[k]->name, d->arrays[i].name);
    if (!used) pare_log(c, 1, "%s: array '%s' is no input of the model", d->file ? d->file : "data", d->arrays[i].name);
  }
}

PareStatus pare_feed_bind(PareCtx *c, PareGraph *g, const PareData *d, int64_t batch, int64_t *out) {
  *out = batch;
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    if (v->type.rank == 0)
      return pare_error(c, PARE_UNSUPPORTED, "input '%s' is a scalar: it has no axis for samples", v->name);
    if (v->type.dim[0] >= 0) *out = v->type.dim[0];
  }
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareArray *a;
    PARE_TRY(find_array(c, d, g->inputs.at[i], &a));
    PARE_TRY(bind_input(c, g->inputs.at[i], d, a, *out));
  }
  log_strays(c, g, d);
  return pare_bind_shapes(c, g, 0, NULL);
}

PareStatus pare_feed_fill(PareCtx *c, const PareGraph *g, const PareProgram *p, const PareData *d,
                          const int64_t *samples, int64_t count, int64_t batch) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *index = PARE_NEW_N(c->scratch, batch + 1, int64_t);
  if (!index) return pare_nomem(c);
  for (int64_t i = 0; i < batch; i++) index[i] = samples[i < count ? i : count - 1];
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    void *to = is_ours(v) ? NULL : pare_program_buffer(p, v);
    if (to) PARE_TRY(pare_data_batch(c, d, pare_data_find(d, v->name), index, batch, v->type.dtype, to));
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
