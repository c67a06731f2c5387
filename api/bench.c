/* bench.c - how fast a model runs, and how fast its file is read and written. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/bench_train.h"
#include "api/call.h"
#include "api/costs.h"
#include "api/forward.h"
#include "api/shapes.h"
#include "api/stopwatch.h"
#include "backend/emit.h"
#include "frontend/model.h"
#include "runtime/device.h"

enum { DEFAULT_RUNS = 20, IO_RUNS = 5 };

typedef struct Bench {
  PareCtx *c;
  PareArena *a; /* the result's */
  const char *model;
  const PareBenchOptions *o;
  const PareHooks *h;
  PareBenchResult *r;
  PareDevice *device; /* NULL: reading and writing only */
} Bench;

/* --- forward --- */

static int most_first(const void *a, const void *b) {
  const PareBenchRow *x = a, *y = b;
  if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
  return strcmp(x->op, y->op);
}

/* Times of nodes, added up by op and taken per run. */
static PareStatus make_rows(Bench *b, const PareGraph *g, const double *seconds, int runs) {
  PareBenchRow *row = PARE_NEW_N(b->a, PARE_OP_COUNT, PareBenchRow);
  if (!row) return pare_nomem(b->c);
  for (const PareNode *n = g->first; n; n = n->next) {
    if (seconds[n->id] <= 0) continue;
    row[n->op].op = pare_op_info[n->op].name;
    row[n->op].seconds += seconds[n->id] / runs;
    row[n->op].count++;
  }
  size_t used = 0;
  for (int i = 0; i < PARE_OP_COUNT; i++)
    if (row[i].op) row[used++] = row[i];
  if (used) qsort(row, used, sizeof *row, most_first);
  b->r->rows = row;
  b->r->nrows = used;
  return PARE_OK;
}

static PareStatus time_forward(Bench *b, PareForward *f) {
  PareCtx *c = b->c;
  int runs = b->o->runs > 0 ? b->o->runs : DEFAULT_RUNS;
  const PareGraph *g = pare_forward_graph(f);
  int64_t batch = pare_forward_batch(f);
  double *run = PARE_NEW_N(c->scratch, runs, double), *by_node = PARE_NEW_N(c->scratch, g->nnodes, double);
  if (!run || !by_node) return pare_nomem(c);
  PARE_TRY(pare_time_runs(c, f, b->h, runs, run));
  PARE_TRY(pare_program_profile(c, pare_forward_program(f))); /* apart: reading the clock costs a little */
  PARE_TRY(pare_time_runs(c, f, b->h, 0, NULL));
  PARE_TRY(pare_program_times(c, pare_forward_program(f), by_node));
  b->r->median_seconds = pare_median((size_t)runs, run);
  b->r->min_seconds = run[0];
  b->r->samples_per_second = (double)batch / b->r->median_seconds;
  double macs = (double)pare_graph_macs(g);
  b->r->macs = (int64_t)(macs / (double)batch);
  b->r->gflops = 2e-9 * macs / b->r->median_seconds;
  const PareDevice *d = b->device;
  b->r->memory_bytes = (int64_t)(d->own + pare_program_bytes(pare_forward_program(f)));
  b->r->device_bytes = d->free_now ? (int64_t)(d->spare - d->free_now(b->device)) : 0;
  return make_rows(b, g, by_node, PARE_WARM_UP);
}

static PareStatus bench_forward(Bench *b, PareModel *m) {
  PareCtx *c = b->c;
  PareArena *work = pare_arena_new(1 << 16);
  PareGraph *bound = NULL;
  PareData *d = NULL;
  PareForward *f = NULL;
  PareStatus s = work ? pare_shapes_bind(c, work, m->graph, b->o->shape, b->o->batch, 1, &bound) : pare_nomem(c);
  int64_t batch = s == PARE_OK && bound->inputs.n && bound->inputs.at[0]->type.rank ? bound->inputs.at[0]->type.dim[0] : 1;
  if (s == PARE_OK) s = pare_samples_random(c, bound, batch, 0, &d);
  if (s == PARE_OK) s = pare_forward_new(c, m->graph, d, batch, PARE_FORWARD_FUSED, b->device, &f);
  if (s == PARE_OK) s = time_forward(b, f);
  pare_forward_free(f);
  pare_data_free(d);
  pare_arena_free(work);
  return s;
}

/* --- reading and writing --- */

/* Anonymous memory of this process, in bytes; 0 where the system does not tell. */
static int64_t private_memory(void) {
  FILE *f = fopen("/proc/self/status", "r");
  char line[128];
  long long kib = 0;
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "RssAnon: %lld", &kib) == 1) break;
  if (f) fclose(f);
  return (int64_t)kib << 10;
}

static PareStatus time_load(Bench *b) {
  double run[IO_RUNS + 1];
  for (int i = 0; i <= IO_RUNS; i++) { /* the first warms the page cache */
    PareModel *m;
    int64_t before = private_memory();
    double start = pare_now();
    PARE_TRY(pare_model_load(b->c, b->model, &m));
    run[i] = pare_now() - start;
    int64_t grown = private_memory() - before;
    if (grown > b->r->memory_bytes) b->r->memory_bytes = grown;
    pare_model_free(m);
  }
  b->r->load_seconds = pare_median(IO_RUNS, run + 1);
  return PARE_OK;
}

static PareStatus write_once(Bench *b, const PareModel *m, PareArena *a, const char *path, double *write, double *sync) {
  PareEmit e = {.file = &m->file, .before = m->graph, .after = m->graph, .ninitializers = m->ninitializers,
                .nsparse = m->nsparse, .nnodes = m->nnodes, .external = m->external.n > 0};
  PareStage stage = {0};
  double start = pare_now();
  PareStatus s = pare_emit_stage(b->c, a, &e, path, &stage);
  double written = pare_now();
  if (s == PARE_OK) s = pare_stage_sync(b->c, &stage);
  *write = written - start;
  *sync = pare_now() - written;
  pare_stage_remove(&stage);
  return s;
}

/* Writes the model, nothing changed, in $TMPDIR or beside itself. It is not proven equal or hashed. */
static PareStatus time_write(Bench *b, const PareModel *m) {
  const char *dir = getenv("TMPDIR");
  double write[IO_RUNS], sync[IO_RUNS];
  for (int i = 0; i < IO_RUNS; i++) {
    PareArena *a = pare_arena_new(1 << 16);
    if (!a) return pare_nomem(b->c);
    const char *path = dir && *dir ? pare_arena_printf(a, "%s/pare-bench.onnx", dir)
                                   : pare_arena_printf(a, "%s.bench", b->model);
    PareStatus s = path ? write_once(b, m, a, path, &write[i], &sync[i]) : pare_nomem(b->c);
    pare_arena_free(a);
    if (s != PARE_OK) return s;
  }
  b->r->write_seconds = pare_median(IO_RUNS, write);
  b->r->sync_seconds = pare_median(IO_RUNS, sync);
  return PARE_OK;
}

/* --- the whole --- */

typedef struct BenchCall {
  const char *model;
  const PareBenchOptions *o;
  const PareHooks *h;
  PareBenchResult **out;
} BenchCall;

static PareStatus bench(Bench *b, PareModel **m) {
  if (b->o->io) PARE_TRY(time_load(b));
  PARE_TRY(pare_model_load(b->c, b->model, m));
  b->c->file = b->model;
  if (!b->o->io) PARE_TRY(pare_device_open(b->c, b->o->device ? b->o->device : "auto", &b->device));
  if (b->o->train) return pare_bench_train(b->c, b->a, *m, b->o, b->device, b->h, b->r);
  return b->o->io ? time_write(b, *m) : bench_forward(b, *m);
}

static PareStatus bench_body(PareCtx *c, void *arg) {
  BenchCall *call = arg;
  PareModel *m = NULL;
  Bench b = {.c = c, .model = call->model, .o = call->o, .h = call->h, .a = pare_arena_new(1 << 12)};
  b.r = b.a ? PARE_NEW(b.a, PareBenchResult) : NULL;
  PareStatus s = b.r ? bench(&b, &m) : pare_nomem(c);
  pare_model_free(m);
  pare_device_close(b.device);
  if (s != PARE_OK) return pare_arena_free(b.a), s;
  b.r->owner = b.a;
  *call->out = b.r;
  return PARE_OK;
}

int pare_bench(const char *model, const PareBenchOptions *o, const PareHooks *h, PareBenchResult **out, PareError *e) {
  BenchCall call = {model, o, h, out};
  *out = NULL;
  return pare_call(h, o->threads, e, bench_body, &call);
}

void pare_bench_result_free(PareBenchResult *r) {
  if (r) pare_arena_free(r->owner); /* r lives in it */
}
