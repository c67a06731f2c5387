/* bench_train.c - runs the tuner itself on random data, and stops it after enough steps. */
#include "api/bench_train.h"

#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/ceiling.h"
#include "api/costs.h"
#include "api/forward.h"
#include "api/shapes.h"
#include "api/tuner.h"
#include "base/rng.h"
#include "passes/classes.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"

enum { DEFAULT_RUNS = 20, WARM_UP = 2, PROFILED = 2, ENDLESS = 1 << 30 };

typedef struct Watch {
  PareTuner tuner;
  const PareHooks *h;
  volatile sig_atomic_t stop;
  int runs, seen; /* steps timed, steps gone */
  int64_t from;   /* steps before those that are profiled; 0: not yet */
  PareStatus profile;
  double last, *seconds;
  PareArena *arena;
  PareBenchRow *row;
} Watch;

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static int most_first(const void *a, const void *b) {
  const PareBenchRow *x = a, *y = b;
  if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
  return strcmp(x->op, y->op);
}

/* Times of nodes, added up by op and taken per step. */
static PareStatus add_rows(Watch *w) {
  const PareTuner *t = &w->tuner;
  double steps = (double)(t->step - w->from), *by_node = PARE_NEW_N(w->arena, t->graph.g->nnodes, double);
  if (!by_node) return pare_nomem(t->c);
  PARE_TRY(pare_program_times(t->c, t->program, by_node));
  for (const PareNode *n = t->graph.g->first; n; n = n->next) {
    if (by_node[n->id] <= 0) continue;
    w->row[n->op].op = pare_op_info[n->op].name;
    w->row[n->op].seconds += by_node[n->id] / steps;
    w->row[n->op].count++;
  }
  return PARE_OK;
}

/* Steps: warm-up, those that count, then some with the profile on, which costs a little. */
static void after_step(void *arg, const PareProgress *p) {
  Watch *w = arg;
  (void)p;
  double t = pare_now();
  int i = w->seen++ - WARM_UP;
  if (i >= 0 && i < w->runs) w->seconds[i] = t - w->last;
  if (i + 1 == w->runs) {
    w->from = w->tuner.step;
    w->profile = pare_program_profile(w->tuner.c, w->tuner.program);
  }
  if (w->from && w->tuner.step >= w->from + PROFILED) w->stop = 1;
  if (w->profile != PARE_OK || pare_stopped(w->h)) w->stop = 1;
  w->last = pare_now();
}

/* Labels that fit the model's first float output: classes, or numbers of its shape. */
static PareStatus add_labels(PareCtx *c, const PareGraph *bound, PareData *d) {
  const PareValue *y = NULL;
  for (size_t i = 0; i < bound->outputs.n && !y; i++)
    if (pare_dtype_is_float(bound->outputs.at[i]->type.dtype)) y = bound->outputs.at[i];
  if (!y || y->type.rank < 1) return pare_error(c, PARE_UNSUPPORTED, "the model has no output of floats to tune on");
  PareType t = y->type;
  if (!pare_output_is_classes(y)) {
    float *x = pare_arena_alloc(d->arena, (size_t)pare_type_count(&t), sizeof *x);
    return x ? pare_data_add(c, d, "labels", &t, x) : pare_nomem(c);
  }
  int64_t classes = t.dim[--t.rank];
  t.dtype = PARE_I64;
  int64_t n = pare_type_count(&t), *label = PARE_NEW_N(d->arena, n, int64_t);
  if (!label) return pare_nomem(c);
  for (int64_t i = 0; i < n; i++) label[i] = (int64_t)(pare_rng_u64(1, (uint64_t)i) % (uint64_t)classes);
  return pare_data_add(c, d, "labels", &t, label);
}

static void fill(Watch *w, int64_t n, PareBenchResult *r) {
  const PareTuner *t = &w->tuner;
  PareDevice *d = t->device;
  qsort(w->seconds, (size_t)w->runs, sizeof *w->seconds, by_value);
  r->min_seconds = w->seconds[0];
  r->median_seconds = (w->seconds[(w->runs - 1) / 2] + w->seconds[w->runs / 2]) / 2;
  r->samples_per_second = (double)n / r->median_seconds;
  r->memory_bytes = (int64_t)t->peak_bytes;
  r->device_bytes = d->free_now ? (int64_t)(d->spare - d->free_now(d)) : 0;
  int64_t macs = pare_graph_macs(t->graph.g) * t->micro;
  r->macs = macs / n;
  r->gflops = 2e-9 * (double)macs / r->median_seconds;
}

static PareStatus run(PareCtx *c, Watch *w, const PareModel *m, const PareBenchOptions *o, PareData *d,
                      PareDevice *device, PareBenchResult *r) {
  PareCompressOptions opt;
  PareGraph *probe;
  PareDims *dims;
  PareHooks hooks = {.progress = after_step, .arg = w, .stop = &w->stop};
  int64_t n = d->nsamples, *samples = PARE_NEW_N(w->arena, n, int64_t);
  if (!samples) return pare_nomem(c);
  for (int64_t i = 0; i < n; i++) samples[i] = i;
  PareError e;
  if (pare_options_init(&opt, &e)) return pare_error(c, PARE_NOMEM, "%s", e.text);
  opt.batch = n, opt.steps = ENDLESS, opt.precision = o->precision;
  if (pare_options_set(&opt, "method", "loraprune", &e)) return pare_error(c, PARE_USAGE, "%s", e.text);
  PareStatus s = pare_probe_dims(c, w->arena, m->graph, 0, &probe);
  if (s == PARE_OK) s = pare_trace_dims(c, w->arena, probe, &dims);
  if (s == PARE_OK) s = pare_tuner_init(&w->tuner, c, w->arena, m, m->graph, dims, &opt, &hooks, d, samples, n, device);
  if (s == PARE_OK) s = pare_tuner_run(&w->tuner);
  pare_options_free(&opt);
  if (w->profile != PARE_OK) return w->profile;
  if (s != PARE_INTERRUPTED || !w->from || w->tuner.step < w->from + PROFILED) return s;
  c->diag = (PareDiag){0}; /* we stopped it */
  PARE_TRY(add_rows(w));
  fill(w, n, r);
  return PARE_OK;
}

PareStatus pare_bench_train(PareCtx *c, PareArena *a, const PareModel *m, const PareBenchOptions *o,
                            PareDevice *device, const PareHooks *h, PareBenchResult *r) {
  PareArena *work = pare_arena_new(1 << 16);
  Watch w = {.h = h, .runs = o->runs > 0 ? o->runs : DEFAULT_RUNS, .arena = work};
  w.row = PARE_NEW_N(a, PARE_OP_COUNT, PareBenchRow);
  w.seconds = work ? PARE_NEW_N(work, w.runs, double) : NULL;
  PareGraph *bound = NULL;
  PareData *d = NULL;
  PareStatus s = w.row && w.seconds ? PARE_OK : pare_nomem(c);
  int64_t batch = o->batch > 0 ? o->batch : 1;
  if (s == PARE_OK) s = pare_shapes_tell(c, m->graph, o->shape);
  if (s == PARE_OK) s = pare_shapes_bind(c, work, m->graph, o->shape, batch, 1, &bound);
  if (s == PARE_OK && bound->inputs.n && bound->inputs.at[0]->type.rank) batch = bound->inputs.at[0]->type.dim[0];
  if (s == PARE_OK) s = pare_samples_random(c, bound, batch, 0, &d);
  if (s == PARE_OK) s = add_labels(c, bound, d);
  if (s == PARE_OK) s = run(c, &w, m, o, d, device, r);
  bool bf16 = w.tuner.spec.bf16, tf32 = w.tuner.tf32;
  for (int i = 0; i < PARE_OP_COUNT; i++)
    if (w.row[i].op) w.row[r->nrows++] = w.row[i];
  if (r->nrows) qsort(w.row, r->nrows, sizeof *w.row, most_first);
  r->rows = w.row;
  pare_tuner_free(&w.tuner); /* the ceiling wants room */
  device->tf32 = tf32;
  if (s == PARE_OK && !device->host) s = pare_ceiling_measure(c, device, bf16, &r->ceiling_gflops);
  device->tf32 = false;
  r->ceiling_gflops *= 1e-9;
  pare_data_free(d);
  pare_arena_free(work);
  return s;
}
