/* clock.h - how long a model takes as it is, or cut with nothing tuned: what a table of times is made by. */
#ifndef PARE_API_CLOCK_H
#define PARE_API_CLOCK_H

#include "api/stopwatch.h"
#include "frontend/model.h"
#include "ir/dims.h"

typedef struct PareClock {
  PareCtx *c;
  PareStopwatch watch;
  const PareModel *model;
  const char *path, *out;         /* of the model; a command's models wait in a folder beside `out` */
  const PareGraph *probe, *sized; /* the model bound to trace it, and to the sizes at which it is timed */
  PareDims *dims;
} PareClock;

/* A PareTimeFn, `arg` being the clock: the model, or its cut by the leaves' flags. Which groups go makes no difference
 * to the time. */
PARE_MUST_USE PareStatus pare_clock_cut(void *arg, bool whole, PareTiming *out);
/* Any graph of the model's inputs, which lies in the file `path`. */
PARE_MUST_USE PareStatus pare_clock_graph(const PareClock *k, const PareGraph *g, const char *path, PareTiming *out);

#endif
