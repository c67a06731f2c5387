/* profile.h - how long the steps of a program take. A device with an order of its own is not waited for in between:
 * its marks tell the times afterwards. */
#ifndef PARE_RUNTIME_PROFILE_H
#define PARE_RUNTIME_PROFILE_H

#include "base/ctx.h"
#include "kernels/device.h"

typedef struct PareProfile {
  bool on;
  size_t nsteps;
  double *seconds; /* by step, over all its runs */
  double start;    /* of the step that runs; on a host */
  void **mark;     /* by step: its beginning and its end; NULL on a host */
  bool *open;      /* by step: has been run, and its time not taken */
} PareProfile;

/* Makes what is needed, of `a`, the first time; sets all times to zero. Pair: pare_profile_free, of marks alone. */
PARE_MUST_USE PareStatus pare_profile_start(PareDevice *d, PareProfile *f, PareArena *a, size_t nsteps);
void pare_profile_free(PareDevice *d, PareProfile *f);
/* Around the run of step i; the end after it has been queued. */
PARE_MUST_USE PareStatus pare_profile_begin(PareDevice *d, PareProfile *f, size_t i);
PARE_MUST_USE PareStatus pare_profile_end(PareDevice *d, PareProfile *f, size_t i);
/* Waits for what has been queued; `seconds` is then complete. */
PARE_MUST_USE PareStatus pare_profile_stop(PareDevice *d, PareProfile *f);

#endif
