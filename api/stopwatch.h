/* stopwatch.h - how long a model takes: by a program of the user's, or in this runtime. */
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

/* The median of several measurements. */
typedef struct PareTiming {
  double ms, spread; /* spread: of the measurements, their range over their median */
  int runs;
} PareTiming;

/* The last number in a text, digits within words ("gpu0") apart. False when there is none. */
bool pare_last_number(const char *text, double *out);

/* Times the file by the command: three runs, five where these are more than 2 % apart. PARE_DEVICE when the command fails
 * or runs too long, PARE_DATA when the last number that it prints is no time; both quote the command and its output. */
PARE_MUST_USE PareStatus pare_stopwatch_command(PareCtx *c, const PareStopwatch *w, const char *model, PareTiming *out);
/* Times the graph, as imported, in this runtime on random inputs of the sizes that `bound`'s have. */
PARE_MUST_USE PareStatus pare_stopwatch_graph(PareCtx *c, const PareStopwatch *w, const PareGraph *g,
                                              const PareGraph *bound, PareTiming *out);

enum { PARE_WARM_UP = 3 };
/* `runs` forward runs after PARE_WARM_UP others, to seconds[runs]; the samples of a run are the data's first. */
PARE_MUST_USE PareStatus pare_time_runs(PareCtx *c, PareForward *f, const PareHooks *h, int runs, double *seconds);
/* Sorts v. */
double pare_median(size_t n, double *v);

#endif
