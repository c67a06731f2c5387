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
  const char *path, *out;      /* of the model; a command's models wait in a folder beside `out` */
  const PareGraph *file, *file_bound, *sized; /* the model as its file has it, and bound: as emission wants it, and to the
                                               * sizes at which it is timed */
  PareDims *dims;
  PareTimed dense; /* the model, ready; NULL members before start */
} PareClock;

/* Makes the model ready; the rest has been set. Pair: stop (fine on a zeroed clock). */
PARE_MUST_USE PareStatus pare_clock_start(PareClock *k);
void pare_clock_stop(PareClock *k);

/* A PareTimeFn, `arg` being the clock: the model, or its cut by the leaves' flags. Which groups go makes no difference
 * to the time. */
PARE_MUST_USE PareStatus pare_clock_cut(void *arg, bool whole, PareTiming *out);
/* The model, and any graph of its inputs, which lies in the file `path`, beside it. */
PARE_MUST_USE PareStatus pare_clock_compare(const PareClock *k, const PareGraph *g, const char *path, PareTiming *dense,
                                            PareTiming *out, PareTiming *share);

#endif
