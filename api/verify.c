/* verify.c - two models run on the same samples, every output compared. */
#include <math.h>
#include <string.h>

#include "api/forward.h"
#include "api/call.h"
#include "api/shapes.h"
#include "frontend/model.h"
#include "runtime/metrics.h"

enum { BATCH = 8 };

typedef struct Verify {
  PareCtx *c;
  const char *path[2], *data;
  double atol, rtol;
  const PareHooks *h;
  PareVerifyResult *out;
  PareModel *m[2];
  PareDifference *diff; /* of each output of the reference */
} Verify;

/* The number of the second model's output with this name, or -1. */
static int find_output(const PareForward *f, const char *name) {
  for (size_t i = 0; i < pare_forward_outputs(f); i++)
    if (!strcmp(pare_forward_value(f, i)->name, name)) return (int)i;
  return -1;
}

/* Numbers of a batch of `count` samples: of all that there is, where axis 0 does not count them. */
static int64_t numbers(const PareForward *f, size_t i, int64_t count) {
  const PareType *t = &pare_forward_value(f, i)->type;
  bool by_sample = t->rank > 0 && t->dim[0] == pare_forward_batch(f);
  return by_sample ? count * pare_forward_width(f, i) : pare_type_count(t);
}

/* A batch of each, compared sample by sample: the batches may differ. */
static PareStatus compare_output(Verify *v, PareForward *f[2], size_t i, int64_t count) {
  PareCtx *c = v->c;
  char a[PARE_TYPE_TEXT], b[PARE_TYPE_TEXT];
  const PareValue *want = pare_forward_value(f[0], i);
  int k = find_output(f[1], want->name);
  if (k < 0) return pare_error(c, PARE_GATE, "the output '%s' of %s is missing", want->name, v->path[0]);
  const PareValue *have = pare_forward_value(f[1], (size_t)k);
  int64_t n = numbers(f[0], i, count);
  if (n != numbers(f[1], (size_t)k, count) || want->type.rank != have->type.rank)
    return pare_error(c, PARE_GATE, "the output '%s' is %s, but %s in %s", want->name,
                      pare_type_text(&have->type, a), pare_type_text(&want->type, b), v->path[0]);
  pare_difference_add(&v->diff[i], n, pare_forward_floats(f[0], i), pare_forward_floats(f[1], (size_t)k));
  return PARE_OK;
}

static PareStatus compare(Verify *v, PareForward *f[2], const PareData *d) {
  int64_t batch = pare_forward_batch(f[0]), samples[BATCH];
  if (pare_forward_batch(f[1]) < batch) batch = pare_forward_batch(f[1]);
  if (batch > BATCH) batch = BATCH; /* a fixed, large one is filled by repeating */
  double start = pare_now();
  for (int64_t at = 0; at < d->nsamples; at += batch) {
    if (pare_stopped(v->h)) return pare_error(v->c, PARE_INTERRUPTED, "interrupted");
    int64_t count = d->nsamples - at < batch ? d->nsamples - at : batch;
    for (int64_t i = 0; i < count; i++) samples[i] = at + i;
    for (int side = 0; side < 2; side++) {
      v->c->file = v->path[side];
      PARE_TRY(pare_forward_run(v->c, f[side], samples, count));
    }
    for (size_t i = 0; i < pare_forward_outputs(f[0]); i++) PARE_TRY(compare_output(v, f, i, count));
    double rate = (double)(at + count) / (pare_now() - start);
    pare_progress(v->h, &(PareProgress){.phase = "comparing", .step = at + count, .steps = d->nsamples, .loss = NAN,
                                        .sparsity = NAN, .samples_per_second = rate,
                                        .seconds_left = (double)(d->nsamples - at - count) / rate});
  }
  v->out->samples += d->nsamples;
  return PARE_OK;
}

static PareStatus compare_on(Verify *v, const PareData *d, int64_t batch) {
  PareForward *f[2] = {NULL, NULL};
  PareStatus s = PARE_OK;
  for (int side = 0; s == PARE_OK && side < 2; side++) {
    v->c->file = v->path[side];
    s = pare_forward_new(v->c, v->m[side]->graph, d, batch, PARE_FORWARD_PLAIN, NULL, &f[side]);
  }
  if (s == PARE_OK) s = compare(v, f, d);
  for (int side = 0; side < 2; side++) pare_forward_free(f[side]);
  return s;
}

/* Random inputs with every dynamic axis at `size`; at 1 where the model wants that. */
static PareStatus random_samples(Verify *v, PareArena *a, int64_t count, int64_t size, PareData **out) {
  PareGraph *bound;
  PareDiag before = v->c->diag;
  v->c->file = v->path[0];
  PareStatus s = pare_shapes_bind(v->c, a, v->m[0]->graph, NULL, 1, size, &bound);
  if (s != PARE_OK && s != PARE_NOMEM) {
    v->c->diag = before;
    s = pare_shapes_bind(v->c, a, v->m[0]->graph, NULL, 1, 1, &bound);
  }
  return s == PARE_OK ? pare_samples_random(v->c, bound, count, (uint64_t)size, out) : s;
}

/* Two values of each dynamic axis, the batch among them: what holds for both
 * does not hold by a number baked in. */
static PareStatus compare_random(Verify *v) {
  static const struct {
    int64_t count, size;
  } round[] = {{5, 7}, {8, 12}};
  for (size_t i = 0; i < sizeof round / sizeof *round; i++) {
    PareData *d = NULL;
    PareArena *a = pare_arena_new(1 << 16);
    PareStatus s = a ? random_samples(v, a, round[i].count, round[i].size, &d) : pare_nomem(v->c);
    if (s == PARE_OK) s = compare_on(v, d, round[i].count);
    pare_data_free(d);
    pare_arena_free(a);
    if (s != PARE_OK) return s;
  }
  return PARE_OK;
}

static PareStatus compare_data(Verify *v) {
  PareData *d;
  PARE_TRY(pare_samples_load(v->c, v->m[0]->graph, v->data, &d));
  PareStatus s = compare_on(v, d, BATCH);
  pare_data_free(d);
  return s;
}

static PareStatus conclude(Verify *v) {
  const PareGraph *g = v->m[0]->graph;
  PareVerifyResult *r = v->out;
  r->passed = true;
  r->max_rel = -1;
  for (size_t i = 0; i < g->outputs.n; i++) {
    const PareDifference *d = &v->diff[i];
    double rel = pare_difference_rel(d);
    if (!(d->max_abs <= v->atol + v->rtol * d->scale)) r->passed = false;
    if (rel <= r->max_rel) continue;
    r->max_rel = rel;
    r->max_abs = d->max_abs;
    snprintf(r->worst_name, sizeof r->worst_name, "%s", g->outputs.at[i]->name);
  }
  r->worst = r->worst_name;
  if (r->passed) return PARE_OK;
  return pare_error(v->c, PARE_GATE, "the output '%s' differs from that of %s by %.3g, which is %.3g of its largest value",
                    r->worst_name, v->path[0], r->max_abs, r->max_rel);
}

static PareStatus verify_body(PareCtx *c, void *arg) {
  Verify *v = arg;
  v->c = c;
  *v->out = (PareVerifyResult){.worst = ""};
  PareStatus s = PARE_OK;
  for (int side = 0; s == PARE_OK && side < 2; side++) s = pare_model_load(c, v->path[side], &v->m[side]);
  for (int side = 0; s == PARE_OK && side < 2; side++) pare_model_tell(c, v->m[side]);
  if (s == PARE_OK && !(v->diff = PARE_NEW_N(c->scratch, v->m[0]->graph->outputs.n, PareDifference))) s = pare_nomem(c);
  if (s == PARE_OK) s = v->data ? compare_data(v) : compare_random(v);
  c->file = v->path[1];
  if (s == PARE_OK) s = conclude(v);
  for (int side = 0; side < 2; side++) pare_model_free(v->m[side]);
  return s;
}

int pare_verify(const char *reference, const char *model, const char *data, double atol, double rtol,
                const PareHooks *h, PareVerifyResult *out, PareError *e) {
  Verify v = {.path = {reference, model}, .data = data, .atol = atol, .rtol = rtol, .h = h, .out = out};
  return pare_call(h, 0, e, verify_body, &v);
}
