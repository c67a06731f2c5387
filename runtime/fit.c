/* fit.c - bisection, class by class. */
#include "runtime/fit.h"

#include <assert.h>
#include <string.h>

static void set_from(const PareFit *f, int first, double to, double *ratio) {
  for (int k = first; k < f->n; k++) ratio[k] = to;
}

static void copy(const PareFit *f, double *to, const double *from) { memcpy(to, from, (size_t)f->n * sizeof *to); }

static bool is_near(const PareFit *f, double left) { return f->budget - left <= f->near; }

static double finest_step(const PareFit *f, int first) {
  double least = f->step[first];
  for (int k = first; k < f->n; k++) least = f->step[k] < least ? f->step[k] : least;
  return least;
}

/* One ratio for the classes from `first` on, which have one that keeps the budget and leaves *left: the least. */
static PareStatus bisect(const PareFit *f, int first, double *ratio, double *left) {
  double lo = 0, hi = ratio[first], enough = finest_step(f, first), x[PARE_FIT_MOST], cost;
  copy(f, x, ratio);
  set_from(f, first, 0, x);
  PARE_TRY(f->cost(f->arg, x, &cost));
  if (cost <= f->budget) return *left = cost, copy(f, ratio, x), PARE_OK;
  while (hi - lo > enough) {
    double mid = 0.5 * (lo + hi);
    set_from(f, first, mid, x);
    PARE_TRY(f->cost(f->arg, x, &cost));
    if (cost > f->budget) lo = mid;
    else hi = mid, *left = cost, copy(f, ratio, x);
  }
  return PARE_OK;
}

/* The greatest ratio of class k at which it costs more than at ratio[k]; *found false: there is none. */
static PareStatus step_before(const PareFit *f, int k, const double *ratio, double *out, bool *found) {
  double lo = 0, hi = ratio[k], x[PARE_FIT_MOST], here, cost;
  PARE_TRY(f->cost(f->arg, ratio, &here));
  copy(f, x, ratio);
  x[k] = 0;
  PARE_TRY(f->cost(f->arg, x, &cost));
  *found = cost > here;
  while (*found && hi - lo > f->step[k]) {
    x[k] = 0.5 * (lo + hi);
    PARE_TRY(f->cost(f->arg, x, &cost));
    if (cost > here) lo = x[k];
    else hi = x[k];
  }
  *out = lo;
  return PARE_OK;
}

static PareStatus solve(const PareFit *f, int first, double *ratio, double *left);

/* What comes of it when class `first` goes without its last step at the common ratio, taken where it is nearer. */
static PareStatus without_step(const PareFit *f, int first, double common, double *ratio, double *left) {
  double x[PARE_FIT_MOST], cost, before;
  bool found;
  copy(f, x, ratio);
  set_from(f, first, common, x);
  PARE_TRY(step_before(f, first, x, &before, &found));
  if (!found) return PARE_OK;
  x[first] = before;
  set_from(f, first + 1, 1, x);
  PARE_TRY(f->cost(f->arg, x, &cost));
  if (cost > f->budget) return PARE_OK;
  PARE_TRY(solve(f, first + 1, x, &cost));
  if (cost > *left) *left = cost, copy(f, ratio, x);
  return PARE_OK;
}

/* The classes before `first` have their ratios; the others one that keeps the budget and leaves *left. */
static PareStatus solve(const PareFit *f, int first, double *ratio, double *left) {
  PARE_TRY(bisect(f, first, ratio, left));
  if (first + 1 == f->n || (first == 0 && f->common && is_near(f, *left))) return PARE_OK;
  double common = ratio[first];
  PARE_TRY(solve(f, first + 1, ratio, left));
  return is_near(f, *left) ? PARE_OK : without_step(f, first, common, ratio, left);
}

PareStatus pare_fit(const PareFit *f, double *ratio, double *left) {
  assert(f->n <= PARE_FIT_MOST);
  set_from(f, 0, 1, ratio);
  PARE_TRY(f->cost(f->arg, ratio, left));
  return f->n && *left <= f->budget ? solve(f, 0, ratio, left) : PARE_OK;
}
