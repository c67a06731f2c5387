/* progress.c - see progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Seconds between two lines: on a terminal, elsewhere at the least, and at the most. */
#define TERMINAL_PAUSE 0.1
#define LINE_PAUSE 2.0
#define LINE_MOST 30.0

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print(const PareProgress *p) {
  double share = p->steps > 0 ? (double)p->step / (double)p->steps : 0;
  fprintf(stderr, "%s %" PRId64 "/%" PRId64 " %3.0f%%", p->phase, p->step, p->steps, 100 * share);
  if (isfinite(p->loss)) fprintf(stderr, "  loss %.4f", p->loss);
  if (isfinite(p->sparsity)) fprintf(stderr, "  sparsity %.0f%%", 100 * p->sparsity);
  if (isfinite(p->samples_per_second)) fprintf(stderr, "  %.0f samples/s", p->samples_per_second);
  if (isfinite(p->seconds_left) && p->seconds_left < 1e7)
    fprintf(stderr, "  %d:%02d left", (int)p->seconds_left / 60, (int)p->seconds_left % 60);
}

/* The cursor goes back to the first column, so that a line of the log covers the bar. */
static void show_bar(CliProgress *s, const PareProgress *p, double t) {
  if (t - s->at < TERMINAL_PAUSE && p->step < p->steps) return;
  s->at = t;
  print(p);
  fputs("\033[K\r", stderr);
  fflush(stderr);
}

static void show_line(CliProgress *s, const PareProgress *p, double t) {
  int tenth = p->steps > 0 ? (int)(10 * p->step / p->steps) : 0;
  bool due = (tenth > s->tenth && t - s->at >= LINE_PAUSE) || t - s->at >= LINE_MOST;
  if (!due) return;
  s->at = t;
  s->tenth = tenth;
  print(p);
  fputc('\n', stderr);
}

static void report(void *arg, const PareProgress *p) {
  CliProgress *s = arg;
  double t = now();
  if (!s->phase || strcmp(s->phase, p->phase)) {
    s->phase = p->phase;
    s->tenth = 0;
    s->at = t - (s->terminal ? 1 : 0);
  }
  if (s->terminal) show_bar(s, p, t);
  else show_line(s, p, t);
}

PareHooks cli_hooks(const CliInput *in, CliProgress *p, const volatile sig_atomic_t *stop) {
  *p = (CliProgress){.terminal = isatty(STDERR_FILENO) == 1};
  return (PareHooks){.log = stderr, .verbose = in->verbose, .progress = in->verbose >= 0 ? report : NULL, .arg = p,
                     .stop = stop};
}

void cli_progress_end(CliProgress *p) {
  if (p->terminal && p->phase) fputs("\033[K", stderr);
}
