/* progress.h - how far a run is: a line that is written over on a terminal, a
 * line now and then elsewhere. */
#ifndef PARE_CLI_PROGRESS_H
#define PARE_CLI_PROGRESS_H

#include "cli/args.h"

typedef struct CliProgress {
  bool terminal;
  const char *phase; /* of the last report */
  int tenth;         /* of the phase, at the last line */
  double at;         /* time of the last line */
} CliProgress;

/* Hooks for a command: log and progress on stderr, as loud as `in` asks. */
PareHooks cli_hooks(const CliInput *in, CliProgress *p, const volatile sig_atomic_t *stop);
/* Clears the line on a terminal. */
void cli_progress_end(CliProgress *p);

#endif
