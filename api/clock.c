/* clock.c - see clock.h. */
#include "api/clock.h"

#include "api/shapes.h"
#include "backend/emit.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"

static PareStatus time_graph(const PareClock *k, PareArena *a, const PareGraph *g, const char *path, PareTiming *out) {
  PareGraph *bound;
  if (*k->watch.command) return pare_stopwatch_command(k->c, &k->watch, path, out);
  PARE_TRY(pare_shapes_like(k->c, a, g, k->sized, &bound));
  return pare_stopwatch_graph(k->c, &k->watch, g, bound, out);
}

static PareStatus emit(const PareClock *k, PareArena *a, const PareGraph *g, PareStage *stage) {
  PareGraph *bound;
  PARE_TRY(pare_probe_dims(k->c, a, g, 0, &bound));
  PareEmit e = {.file = &k->model->file, .before = k->model->graph, .after = g, .before_bound = k->probe,
                .after_bound = bound, .ninitializers = k->model->ninitializers, .nnodes = k->model->nnodes,
                .external = k->model->external.n > 0};
  return pare_emit_stage(k->c, a, &e, k->out, stage);
}

static PareStatus time_cut(const PareClock *k, PareArena *a, PareTiming *out) {
  PareGraph *g;
  PareStage stage = {0};
  PARE_TRY(pare_cut_dims(k->c, a, k->model->graph, k->dims, &g));
  PARE_TRY(pare_drop_branches(k->c, g, k->dims));
  PareStatus s = *k->watch.command ? emit(k, a, g, &stage) : PARE_OK;
  if (s == PARE_OK) s = time_graph(k, a, g, stage.model, out);
  pare_stage_remove(&stage);
  return s;
}

PareStatus pare_clock_cut(void *arg, bool whole, PareTiming *out) {
  const PareClock *k = arg;
  PareArena *a = pare_arena_new(1 << 16);
  if (!a) return pare_nomem(k->c);
  PareStatus s = whole ? time_graph(k, a, k->model->graph, k->path, out) : time_cut(k, a, out);
  pare_arena_free(a);
  return s;
}

PareStatus pare_clock_graph(const PareClock *k, const PareGraph *g, const char *path, PareTiming *out) {
  PareArena *a = pare_arena_new(1 << 16);
  PareStatus s = a ? time_graph(k, a, g, path, out) : pare_nomem(k->c);
  pare_arena_free(a);
  return s;
}
