#include "api/teacher.h"

#include <math.h>
#include <string.h>

#include "passes/classes.h"
#include "passes/task.h"

enum { CACHE_LIMIT = 512 << 20 };

typedef struct Output {
  size_t number; /* among the model's */
  bool classes;  /* scores are followed */
  size_t each;  /* floats a sample */
  float *now;   /* [batch] samples */
  float *cache; /* [nsamples], or NULL */
} Output;

struct PareTeacher {
  PareArena *arena;
  PareForward *model;
  const PareData *data;
  int64_t batch, count; /* most, and in the last run */
  size_t noutputs;
  Output *outputs;
  bool *cached; /* by sample; NULL: nothing is */
};

static PareStatus add_output(PareCtx *c, PareTeacher *t, size_t number) {
  const PareValue *v = pare_forward_value(t->model, number);
  if (v->type.dtype != PARE_F32)
    return pare_error(c, PARE_UNSUPPORTED, "output '%s' is %s; tuning wants f32", v->name,
                      pare_dtype_name(v->type.dtype));
  if (v->type.rank < 1 || v->type.dim[0] != t->batch)
    return pare_error(c, PARE_UNSUPPORTED, "axis 0 of output '%s' does not count samples", v->name);
  Output o = {.number = number, .classes = pare_output_is_classes(v), .each = (size_t)pare_forward_width(t->model, number)};
  o.now = PARE_NEW_N(t->arena, o.each * (size_t)t->batch, float);
  if (!o.now) return pare_nomem(c);
  t->outputs[t->noutputs++] = o;
  return PARE_OK;
}

/* Room for the outputs of all samples, unless that is too much. */
static PareStatus make_cache(PareCtx *c, PareTeacher *t) {
  size_t total = 0, n = (size_t)t->data->nsamples;
  for (size_t i = 0; i < t->noutputs; i++) total += t->outputs[i].each * sizeof(float) * n;
  if (total > CACHE_LIMIT) return PARE_OK;
  if (!(t->cached = PARE_NEW_N(t->arena, n + 1, bool))) return pare_nomem(c);
  for (size_t i = 0; i < t->noutputs; i++)
    if (!(t->outputs[i].cache = PARE_NEW_N(t->arena, t->outputs[i].each * n + 1, float))) return pare_nomem(c);
  return PARE_OK;
}

static PareStatus add_outputs(PareCtx *c, PareTeacher *t, const bool *aside, bool cache) {
  const PareGraph *g = pare_forward_graph(t->model);
  size_t n = pare_forward_outputs(t->model);
  if (!(t->outputs = PARE_NEW_N(t->arena, n + 1, Output))) return pare_nomem(c);
  for (size_t i = 0; i < n; i++)
    if (pare_is_followed(g, aside, i)) PARE_TRY(add_output(c, t, i));
  return cache ? make_cache(c, t) : PARE_OK;
}

static PareStatus start(PareCtx *c, PareTeacher *t, const PareGraph *g, int64_t batch, const PareWatch *hidden,
                        bool pairs, PareDevice *device) {
  if (hidden->n || hidden->bf16) PARE_TRY(pare_forward_new_watching(c, g, t->data, batch, hidden, device, &t->model));
  else PARE_TRY(pare_forward_new(c, g, t->data, batch, PARE_FORWARD_FUSED, device, &t->model));
  t->batch = pare_forward_batch(t->model);
  return add_outputs(c, t, hidden->aside, hidden->n == 0 && !pairs);
}

PareStatus pare_teacher_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch, const PareWatch *hidden,
                            bool pairs, PareDevice *device, PareTeacher **out) {
  PareArena *a = pare_arena_new(1 << 16);
  PareTeacher *t = a ? PARE_NEW(a, PareTeacher) : NULL;
  if (!t) {
    pare_arena_free(a);
    return pare_nomem(c);
  }
  t->arena = a;
  t->data = d;
  PareStatus s = start(c, t, g, batch, hidden, pairs, device);
  if (s == PARE_OK) *out = t;
  else pare_teacher_free(t);
  return s;
}

void pare_teacher_free(PareTeacher *t) {
  if (!t) return;
  pare_forward_free(t->model);
  pare_arena_free(t->arena);
}

static void store(PareTeacher *t, const int64_t *samples, int64_t count) {
  for (size_t i = 0; i < t->noutputs; i++) {
    Output *o = &t->outputs[i];
    const float *y = (o->classes ? pare_forward_scores : pare_forward_floats)(t->model, o->number);
    memcpy(o->now, y, o->each * (size_t)count * sizeof *y);
    for (int64_t s = 0; o->cache && s < count; s++)
      if (!t->cached[samples[s]])
        memcpy(o->cache + (size_t)samples[s] * o->each, y + (size_t)s * o->each, o->each * sizeof *y);
  }
  for (int64_t s = 0; t->cached && s < count; s++) t->cached[samples[s]] = true;
}

PareStatus pare_teacher_run(PareCtx *c, PareTeacher *t, const int64_t *samples, int64_t count) {
  bool known = t->cached != NULL;
  t->count = count;
  for (int64_t s = 0; known && s < count; s++) known = t->cached[samples[s]];
  if (!known) {
    PARE_TRY(pare_forward_run(c, t->model, samples, count));
    store(t, samples, count);
    return PARE_OK;
  }
  for (size_t i = 0; i < t->noutputs; i++) {
    Output *o = &t->outputs[i];
    for (int64_t s = 0; s < count; s++)
      memcpy(o->now + (size_t)s * o->each, o->cache + (size_t)samples[s] * o->each, o->each * sizeof *o->now);
  }
  return PARE_OK;
}

bool pare_teacher_knows(const PareTeacher *t, int64_t sample) { return !t->cached || t->cached[sample]; }

int64_t pare_teacher_batch(const PareTeacher *t) { return t->batch; }
size_t pare_teacher_bytes(const PareTeacher *t) { return pare_program_bytes(pare_forward_program(t->model)); }

const float *pare_teacher_output(const PareTeacher *t, size_t i) { return t->outputs[i].now; }

/* --- hidden states --- */

/* Sum over rows of r·|h - mean|², the mean of each column weighted as well. mean [n] is room. */
static double spread(int64_t rows, int64_t n, const float *h, const float *r, double *mean) {
  double total = 0, sum = 0;
  for (int64_t j = 0; j < n; j++) mean[j] = 0;
  for (int64_t i = 0; i < rows; i++) {
    total += (double)r[i];
    for (int64_t j = 0; j < n; j++) mean[j] += (double)r[i] * (double)h[i * n + j];
  }
  for (int64_t j = 0; j < n; j++) mean[j] /= total > 0 ? total : 1;
  for (int64_t i = 0; i < rows; i++) {
    double row = 0;
    for (int64_t j = 0; j < n; j++) row += pow((double)h[i * n + j] - mean[j], 2);
    sum += (double)r[i] * row;
  }
  return sum;
}

PareStatus pare_teacher_hidden(PareCtx *c, const PareTeacher *t, size_t i, double weight, float *target,
                               float *scale) {
  PareType type;
  const float *h = pare_forward_watched(t->model, i, &type);
  int64_t n = type.dim[type.rank - 1], all = pare_type_count(&type) / n, rows = all / t->batch * t->count;
  PareMark mark = pare_arena_mark(c->scratch);
  double *mean = PARE_NEW_N(c->scratch, n + 1, double);
  float *felt = PARE_NEW_N(c->scratch, all + 1, float);
  if (!mean || !felt) return pare_nomem(c);
  pare_forward_relevance(t->model, i, felt);
  double sum = spread(rows, n, h, felt, mean);
  for (int64_t r = 0; r < rows; r++) {
    scale[r] = sum > 0 ? (float)sqrt(weight * (double)(rows * n) * (double)felt[r] / sum) : 0;
    for (int64_t j = 0; j < n; j++) target[r * n + j] = scale[r] * h[r * n + j];
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
