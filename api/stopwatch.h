/* stopwatch.h - how long models take: by a program of the user's, or in this runtime. */
#ifndef PARE_API_STOPWATCH_H
#define PARE_API_STOPWATCH_H

#include "api/forward.h"
#include "pare/pare.h"

typedef struct PareStopwatch {
  const char *command; /* of the user, given a model file; "": this runtime */
  double timeout;      /* seconds that one run of the command may take */
  PareDevice *device;  /* of this runtime */
  const PareHooks *h;
} PareStopwatch;

/* A model that is ready to be timed: a file for the command, or a program on random samples. */
typedef struct PareTimed {
  const char *path;
  PareForward *f;
  PareData *d;
  int runs; /* of the program, that make one measurement */
} PareTimed;

/* The median of several measurements. */
typedef struct PareTiming {
  double ms, spread; /* spread: of the measurements, their range over their median */
  int runs;
} PareTiming;

/* The last number in a text, digits within words ("gpu0") apart. False when there is none. */
bool pare_last_number(const char *text, double *out);

/* `g`, as imported, lies in the file `path`, which the command reads; for this runtime it runs on samples of the sizes that
 * `bound`'s inputs have. One of the two may be NULL, as the stopwatch goes. Borrowed: all. Pair: close. */
PARE_MUST_USE PareStatus pare_timed_open(PareCtx *c, const PareStopwatch *w, const PareGraph *g, const PareGraph *bound,
                                         const char *path, PareTimed *out);
void pare_timed_close(PareTimed *t);

/* Three measurements, or five where three are more than 2 % apart. PARE_DEVICE when the command fails or runs too long,
 * PARE_DATA when the last number that it prints is no time; both quote the command and its output. */
PARE_MUST_USE PareStatus pare_stopwatch_time(PareCtx *c, const PareStopwatch *w, const PareTimed *t, PareTiming *out);
/* As many of both models in turn, so that a machine that slows down does so for both. *share: the ratio of b to a (its `ms`
 * has no unit). */
PARE_MUST_USE PareStatus pare_stopwatch_compare(PareCtx *c, const PareStopwatch *w, const PareTimed *a,
                                                const PareTimed *b, PareTiming *ta, PareTiming *tb, PareTiming *share);

enum { PARE_WARM_UP = 3 };
/* `runs` forward runs after PARE_WARM_UP others, to seconds[runs]; the samples of a run are the data's first. */
PARE_MUST_USE PareStatus pare_time_runs(PareCtx *c, PareForward *f, const PareHooks *h, int runs, double *seconds);
/* Sorts v. */
double pare_median(size_t n, double *v);

#endif
