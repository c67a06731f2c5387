#include "runtime/profile.h"

#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static PareStatus make(PareDevice *d, PareProfile *f, PareArena *a, size_t nsteps) {
  f->seconds = PARE_NEW_N(a, nsteps + 1, double);
  f->open = PARE_NEW_N(a, nsteps + 1, bool);
  if (!f->seconds || !f->open) return PARE_NOMEM;
  f->nsteps = nsteps;
  if (d->host) return PARE_OK;
  if (!(f->mark = PARE_NEW_N(a, 2 * nsteps + 1, void *))) return PARE_NOMEM;
  for (size_t i = 0; i < 2 * nsteps; i++) PARE_TRY(d->mark_new(d, true, &f->mark[i]));
  return PARE_OK;
}

PareStatus pare_profile_start(PareDevice *d, PareProfile *f, PareArena *a, size_t nsteps) {
  if (!f->seconds) PARE_TRY(make(d, f, a, nsteps));
  memset(f->seconds, 0, nsteps * sizeof *f->seconds);
  f->on = true;
  return PARE_OK;
}

void pare_profile_free(PareDevice *d, PareProfile *f) {
  for (size_t i = 0; f->mark && i < 2 * f->nsteps; i++) d->mark_free(d, f->mark[i]);
}

static PareStatus take(PareDevice *d, PareProfile *f, size_t i) {
  double seconds = 0;
  if (!f->open[i]) return PARE_OK;
  f->open[i] = false;
  PARE_TRY(d->await(d, f->mark[2 * i + 1]));
  PARE_TRY(d->elapsed(d, f->mark[2 * i], f->mark[2 * i + 1], &seconds));
  f->seconds[i] += seconds;
  return PARE_OK;
}

PareStatus pare_profile_begin(PareDevice *d, PareProfile *f, size_t i) {
  if (!f->mark) return f->start = now(), PARE_OK;
  PARE_TRY(take(d, f, i));
  return d->mark_set(d, f->mark[2 * i], PARE_LANE_WORK);
}

PareStatus pare_profile_end(PareDevice *d, PareProfile *f, size_t i) {
  if (!f->mark) return f->seconds[i] += now() - f->start, PARE_OK;
  f->open[i] = true;
  return d->mark_set(d, f->mark[2 * i + 1], PARE_LANE_WORK);
}

PareStatus pare_profile_stop(PareDevice *d, PareProfile *f) {
  f->on = false;
  for (size_t i = 0; i < f->nsteps; i++) PARE_TRY(take(d, f, i));
  return PARE_OK;
}
