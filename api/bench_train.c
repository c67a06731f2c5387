/* bench_train.c - runs the tuner itself on random data, and stops it after enough steps. */
#include "api/bench_train.h"

#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/ceiling.h"
#include "api/costs.h"
#include "api/forward.h"
#include "api/shapes.h"
#include "api/stopwatch.h"
#include "api/tuner_parts.h"
#include "base/rng.h"
#include "passes/classes.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"

enum { DEFAULT_RUNS = 20, WARM_UP = 2, PROFILED = 2, ENDLESS = 1 << 30 };

typedef struct Watch {
  PareTuner tuner;
  PareTuner *plain;   /* takes the same steps without scores, one after each of the tuner's; NULL: nobody asks */
  double *difference; /* by step that is timed */
  const PareHooks *h;
  volatile sig_atomic_t stop;
  int runs, seen; /* steps timed, steps gone */
  int64_t from;   /* steps before those that are profiled; 0: not yet */
  PareStatus status;
  double last, *seconds;
  PareArena *arena;
  PareBenchRow *row;
} Watch;

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

static PareStatus step_plainly(PareTuner *t, int64_t step) {
  for (int64_t m = 0; m < t->micro; m++)
    PARE_TRY(pare_tuner_run_batch(t, step * t->micro + m, false, (PareFlight){.weight = 1 / (double)t->micro}));
  return pare_tuner_clear(t);
}

/* Steps: warm-up, those that count, then some with the profile on, which costs a little. */
static void after_step(void *arg, const PareProgress *p) {
  Watch *w = arg;
  (void)p;
  double t = pare_now();
  int i = w->seen++ - WARM_UP;
  bool timed = i >= 0 && i < w->runs;
  if (timed) w->seconds[i] = t - w->last;
  if (w->plain && i < w->runs && w->status == PARE_OK) {
    w->status = step_plainly(w->plain, w->seen);
    if (timed) w->difference[i] = w->seconds[i] - (pare_now() - t);
  }
  if (i + 1 == w->runs && w->status == PARE_OK) {
    w->from = w->tuner.step;
    w->status = pare_program_profile(w->tuner.c, w->tuner.program);
  }
  if (w->from && w->tuner.step >= w->from + PROFILED) w->stop = 1;
  if (w->status != PARE_OK || pare_stopped(w->h)) w->stop = 1;
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
  r->median_seconds = pare_median((size_t)w->runs, w->seconds);
  r->min_seconds = w->seconds[0];
  if (w->plain) r->importance_seconds = pare_median((size_t)w->runs, w->difference);
  r->samples_per_second = (double)n / r->median_seconds;
  r->memory_bytes = (int64_t)t->peak_bytes;
  r->device_bytes = d->free_now ? (int64_t)(d->spare - d->free_now(d)) : 0;
  int64_t macs = pare_graph_macs(t->graph.g) * t->micro;
  r->macs = macs / n;
  r->gflops = 2e-9 * (double)macs / r->median_seconds;
}

/* What a bench runs on: the model, its data, all samples of which are a batch, and where. */
typedef struct Bench {
  PareCtx *c;
  PareArena *arena;
  const PareModel *model;
  const PareBenchOptions *options;
  const PareData *data;
  PareDevice *device;
  const PareHooks *hooks; /* of whoever waits for it */
} Bench;

/* Steps of a tuner without end, until `hooks` stop it, which is PARE_OK. It keeps `opt`. */
static PareStatus tune(const Bench *b, const char *method, const PareHooks *hooks, PareCompressOptions *opt,
                       PareTuner *t) {
  PareCtx *c = b->c;
  PareGraph *probe;
  PareDims *dims;
  PareError e;
  int64_t n = b->data->nsamples, *samples = PARE_NEW_N(b->arena, n, int64_t);
  if (!samples) return pare_nomem(c);
  for (int64_t i = 0; i < n; i++) samples[i] = i;
  opt->batch = n, opt->steps = ENDLESS, opt->precision = b->options->precision;
  bool labelled = pare_data_find(b->data, "labels"); /* at random: no model knows them */
  if (pare_options_set(opt, "method", method, &e) || (labelled && pare_options_set(opt, "distill", "none", &e)))
    return pare_error(c, PARE_USAGE, "%s", e.text);
  PARE_TRY(pare_probe_dims(c, b->arena, b->model->graph, 0, &probe));
  PARE_TRY(pare_trace_dims(c, b->arena, probe, &dims));
  PARE_TRY(pare_tuner_init(t, c, b->arena, b->model, b->model->graph, dims, opt, hooks, b->data, samples, n,
                           b->device));
  PareStatus s = pare_tuner_run(t);
  if (s != PARE_INTERRUPTED || pare_stopped(b->hooks)) return s;
  c->diag = (PareDiag){0}; /* we stopped it */
  return PARE_OK;
}

static PareStatus run(const Bench *b, Watch *w, PareCompressOptions opt[2], PareBenchResult *r) {
  static const volatile sig_atomic_t at_once = 1;
  const PareHooks compiled = {.stop = &at_once}, hooks = {.progress = after_step, .arg = w, .stop = &w->stop};
  const char *method = b->options->method ? b->options->method : "loraprune";
  if (!strcmp(method, "obs"))
    return pare_error(b->c, PARE_USAGE, "--method obs scores once, not at every step: there is nothing to time");
  if (w->plain) PARE_TRY(tune(b, "random", &compiled, &opt[1], w->plain));
  PARE_TRY(tune(b, method, &hooks, &opt[0], &w->tuner));
  PARE_TRY(w->status);
  PARE_TRY(add_rows(w));
  fill(w, b->data->nsamples, r);
  return PARE_OK;
}

/* Random data of all that the model reads, and labels. */
static PareStatus make_data(PareCtx *c, PareArena *work, const PareModel *m, const PareBenchOptions *o, PareData **d) {
  PareGraph *bound;
  int64_t batch = o->batch > 0 ? o->batch : 1;
  PARE_TRY(pare_shapes_tell(c, m->graph, o->shape));
  PARE_TRY(pare_shapes_bind(c, work, m->graph, o->shape, batch, 1, &bound));
  if (bound->inputs.n && bound->inputs.at[0]->type.rank) batch = bound->inputs.at[0]->type.dim[0];
  PARE_TRY(pare_samples_random(c, bound, batch, 0, d));
  return add_labels(c, bound, *d);
}

static void sort_rows(Watch *w, PareBenchResult *r) {
  for (int i = 0; i < PARE_OP_COUNT; i++)
    if (w->row[i].op) w->row[r->nrows++] = w->row[i];
  if (r->nrows) qsort(w->row, r->nrows, sizeof *w->row, most_first);
  r->rows = w->row;
}

PareStatus pare_bench_train(PareCtx *c, PareArena *a, const PareModel *m, const PareBenchOptions *o,
                            PareDevice *device, const PareHooks *h, PareBenchResult *r) {
  PareArena *work = pare_arena_new(1 << 16);
  PareCompressOptions opt[2];
  PareTuner plain = {0};
  PareError e;
  PareData *d = NULL;
  Watch w = {.h = h, .runs = o->runs > 0 ? o->runs : DEFAULT_RUNS, .plain = o->importance ? &plain : NULL};
  if (o->importance && !device->host) /* whose clock is not the host's */
    return pare_arena_free(work), pare_error(c, PARE_USAGE, "--importance is measured on the CPU: give --device cpu");
  if (!work) return pare_nomem(c);
  if (pare_options_init(&opt[0], &e)) return pare_arena_free(work), pare_nomem(c);
  if (pare_options_init(&opt[1], &e)) return pare_options_free(&opt[0]), pare_arena_free(work), pare_nomem(c);
  w.arena = work;
  w.row = PARE_NEW_N(a, PARE_OP_COUNT, PareBenchRow);
  w.seconds = PARE_NEW_N(work, w.runs, double), w.difference = PARE_NEW_N(work, w.runs, double);
  PareStatus s = w.row && w.seconds && w.difference ? make_data(c, work, m, o, &d) : pare_nomem(c);
  if (s == PARE_OK) s = run(&(Bench){c, work, m, o, d, device, h}, &w, opt, r);
  if (w.row) sort_rows(&w, r);
  bool bf16 = w.tuner.spec.bf16, tf32 = w.tuner.tf32;
  pare_tuner_free(&w.tuner), pare_tuner_free(&plain); /* the ceiling wants room */
  device->tf32 = tf32;
  if (s == PARE_OK && !device->host) s = pare_ceiling_measure(c, device, bf16, &r->ceiling_gflops);
  device->tf32 = false;
  r->ceiling_gflops *= 1e-9;
  pare_data_free(d);
  for (int i = 0; i < 2; i++) pare_options_free(&opt[i]);
  pare_arena_free(work);
  return s;
}
