/* clock.c - see clock.h. */
#include "api/clock.h"

#include "api/shapes.h"
#include "backend/emit.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"

/* For this runtime, the sizes; a command reads the file. */
static PareStatus open_graph(const PareClock *k, PareArena *a, const PareGraph *g, const char *path, PareTimed *out) {
  PareGraph *bound = NULL;
  if (!*k->watch.command) PARE_TRY(pare_shapes_like(k->c, a, g, k->sized, &bound));
  return pare_timed_open(k->c, &k->watch, g, bound, path, out);
}

PareStatus pare_clock_start(PareClock *k) {
  return pare_timed_open(k->c, &k->watch, k->file, k->sized, k->path, &k->dense);
}

void pare_clock_stop(PareClock *k) { pare_timed_close(&k->dense); }

static PareStatus compare(const PareClock *k, PareArena *a, const PareGraph *g, const char *path, PareTiming *dense,
                          PareTiming *out, PareTiming *share) {
  PareTimed t;
  PARE_TRY(open_graph(k, a, g, path, &t));
  PareStatus s = pare_stopwatch_compare(k->c, &k->watch, &k->dense, &t, dense, out, share);
  pare_timed_close(&t);
  return s;
}

static PareStatus emit(const PareClock *k, PareArena *a, const PareGraph *g, PareStage *stage) {
  PareGraph *bound;
  PARE_TRY(pare_probe_dims(k->c, a, g, 0, &bound));
  PareEmit e = {.file = &k->model->file, .before = k->file, .after = g, .before_bound = k->file_bound,
                .after_bound = bound, .ninitializers = k->model->ninitializers, .nnodes = k->model->nnodes,
                .external = k->model->external.n > 0};
  return pare_emit_stage(k->c, a, &e, k->out, stage);
}

static PareStatus time_cut(const PareClock *k, PareArena *a, PareTiming *share) {
  PareGraph *g;
  PareStage stage = {0};
  PareTiming dense, cut;
  PARE_TRY(pare_cut_dims(k->c, a, k->model->graph, k->dims, &g));
  PARE_TRY(pare_drop_branches(k->c, g, k->dims));
  PareStatus s = *k->watch.command ? emit(k, a, g, &stage) : PARE_OK;
  if (s == PARE_OK) s = compare(k, a, g, stage.model, &dense, &cut, share);
  pare_stage_remove(&stage);
  return s;
}

PareStatus pare_clock_cut(void *arg, bool whole, PareTiming *out) {
  const PareClock *k = arg;
  if (whole) return pare_stopwatch_time(k->c, &k->watch, &k->dense, out);
  PareArena *a = pare_arena_new(1 << 16);
  PareStatus s = a ? time_cut(k, a, out) : pare_nomem(k->c);
  pare_arena_free(a);
  return s;
}

PareStatus pare_clock_compare(const PareClock *k, const PareGraph *g, const char *path, PareTiming *dense,
                              PareTiming *out, PareTiming *share) {
  PareArena *a = pare_arena_new(1 << 16);
  PareStatus s = a ? compare(k, a, g, path, dense, out, share) : pare_nomem(k->c);
  pare_arena_free(a);
  return s;
}
