/* process.h - a shell command that is run with a time limit, and the end of what it prints. */
#ifndef PARE_BASE_PROCESS_H
#define PARE_BASE_PROCESS_H

#include <signal.h>

#include "base/ctx.h"

enum { PARE_PROCESS_TEXT = 2048 };

typedef struct PareProcess {
  int exit_code; /* 128 + the number of the signal that ended it */
  bool late;     /* it was ended because the time was up */
  char out[PARE_PROCESS_TEXT], err[PARE_PROCESS_TEXT]; /* the last bytes of standard output and standard error */
} PareProcess;

/* Runs `command` by sh -c, with no input, in a process group of its own. The group is ended when `seconds` have passed
 * or `stop` (may be NULL) is set: PARE_INTERRUPTED. However the command ends is no error: see *out. Errors:
 * PARE_DEVICE where none can be started. */
PARE_MUST_USE PareStatus pare_process_run(PareCtx *c, const char *command, double seconds,
                                          const volatile sig_atomic_t *stop, PareProcess *out);

#endif
