/* call.h - the frame of every public function: a context made from the caller's
 * hooks, and one sentence for him when it fails. */
#ifndef PARE_API_CALL_H
#define PARE_API_CALL_H

#include "base/ctx.h"
#include "pare/pare.h"

/* `arg` is the caller's struct of arguments and results. */
typedef PareStatus PareBodyFn(PareCtx *c, void *arg);

/* Runs `body` with as many threads (0: as OpenMP has it), and gives the exit
 * code; *e says what failed. `h` and `e` may be NULL. */
int pare_call(const PareHooks *h, int threads, PareError *e, PareBodyFn *body, void *arg);

/* "FILE: node 'N' (Op): text" */
void pare_call_error(const PareDiag *d, PareError *e);

/* Has the caller's stop flag been set? */
static inline bool pare_stopped(const PareHooks *h) { return h && h->stop && *h->stop; }
static inline void pare_progress(const PareHooks *h, const PareProgress *p) {
  if (h && h->progress) h->progress(h->arg, p);
}

/* Seconds of the monotonic clock. */
double pare_now(void);

#endif
