/* stopwatch.c - see stopwatch.h. */
#include "api/stopwatch.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "base/process.h"

enum { FEW = 3, MANY = 5, LEAST_RUNS = 20, MOST_RUNS = 2000, QUOTED = 160 };
static const double STEADY = 0.02;        /* spread at which few measurements are enough */
static const double ROUND_SECONDS = 0.1;  /* that a measurement in this runtime takes at least */

/* --- numbers --- */

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

double pare_median(size_t n, double *v) {
  qsort(v, n, sizeof *v, by_value);
  return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static PareTiming timing_of(int n, const double *ms) {
  double sorted[MANY];
  memcpy(sorted, ms, (size_t)n * sizeof *ms);
  PareTiming t = {.ms = pare_median((size_t)n, sorted), .runs = n};
  t.spread = (sorted[n - 1] - sorted[0]) / t.ms;
  return t;
}

/* A number may begin here: not within a word or another number. */
static bool begins_number(const char *text, const char *at) {
  const char *digit = at + (*at == '-' || *at == '+');
  digit += *digit == '.';
  if (!isdigit((unsigned char)*digit)) return false;
  return at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_' || at[-1] == '.');
}

bool pare_last_number(const char *text, double *out) {
  bool found = false;
  for (const char *at = text; *at;) {
    char *end = NULL;
    if (begins_number(text, at)) *out = strtod(at, &end), found = true;
    at = end && end > at ? end : at + 1;
  }
  return found;
}

/* --- the user's program --- */

/* The path as one word of the shell. */
static const char *quote(PareArena *a, const char *path) {
  size_t n = 0;
  char *out = PARE_NEW_N(a, 4 * strlen(path) + 3, char);
  if (!out) return NULL;
  out[n++] = '\'';
  for (; *path; path++) {
    if (*path == '\'') memcpy(out + n, "'\\''", 4), n += 4;
    else out[n++] = *path;
  }
  out[n] = '\'';
  return out;
}

/* CMD PATH, or CMD with every {} replaced. */
static const char *command_line(PareArena *a, const char *command, const char *path) {
  const char *word = quote(a, path), *line = "";
  if (!word) return NULL;
  if (!strstr(command, "{}")) return pare_arena_printf(a, "%s %s", command, word);
  for (const char *hole; line && (hole = strstr(command, "{}")); command = hole + 2)
    line = pare_arena_printf(a, "%s%.*s%s", line, (int)(hole - command), command, word);
  return line ? pare_arena_printf(a, "%s%s", line, command) : NULL;
}

/* The end of a text in one line, for a sentence. */
static const char *last_words(PareArena *a, const char *text) {
  size_t n = strlen(text);
  while (n > 0 && isspace((unsigned char)text[n - 1])) n--;
  size_t from = n > QUOTED ? n - QUOTED : 0;
  char *line = pare_arena_printf(a, "%s%.*s", from ? "..." : "", (int)(n - from), text + from);
  for (char *p = line; p && *p; p++)
    if ((unsigned char)*p < 32) *p = ' ';
  return line ? line : "";
}

static PareStatus read_time(PareCtx *c, const PareStopwatch *w, const PareProcess *p, double *ms) {
  const char *said = last_words(c->scratch, p->exit_code && *p->err ? p->err : *p->out ? p->out : p->err);
  if (p->late)
    return pare_error(c, PARE_DEVICE, "--latency-cmd '%.120s' took longer than %g s (--latency-timeout); it said '%s'",
                      w->command, w->timeout, said);
  if (p->exit_code)
    return pare_error(c, PARE_DEVICE, "--latency-cmd '%.120s' failed with status %d: '%s'", w->command, p->exit_code,
                      said);
  if (!pare_last_number(p->out, ms))
    return pare_error(c, PARE_DATA, "--latency-cmd '%.120s' has to print milliseconds as its last number, and printed "
                      "'%s'", w->command, said);
  if (!(isfinite(*ms) && *ms > 0))
    return pare_error(c, PARE_DATA, "--latency-cmd '%.120s' printed %g as its last number, which is no time: '%s'",
                      w->command, *ms, said);
  return PARE_OK;
}

static PareStatus ask_command(PareCtx *c, const PareStopwatch *w, const char *model, double *ms) {
  PareMark mark = pare_arena_mark(c->scratch);
  const char *line = command_line(c->scratch, w->command, model);
  PareProcess p;
  if (!line) return pare_nomem(c);
  PARE_TRY(pare_process_run(c, line, w->timeout, w->h ? w->h->stop : NULL, &p));
  PARE_TRY(read_time(c, w, &p, ms));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* --- this runtime --- */

static PareStatus one_run(PareCtx *c, PareForward *f, const PareHooks *h, int64_t *samples, double *seconds) {
  if (pare_stopped(h)) return pare_error(c, PARE_INTERRUPTED, "interrupted");
  for (int64_t i = 0; i < pare_forward_batch(f); i++) samples[i] = i;
  double start = pare_now();
  PARE_TRY(pare_forward_run(c, f, samples, pare_forward_batch(f)));
  *seconds = pare_now() - start;
  return PARE_OK;
}

PareStatus pare_time_runs(PareCtx *c, PareForward *f, const PareHooks *h, int runs, double *seconds) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *samples = PARE_NEW_N(c->scratch, pare_forward_batch(f), int64_t);
  double cold;
  if (!samples) return pare_nomem(c);
  for (int i = 0; i < PARE_WARM_UP; i++) PARE_TRY(one_run(c, f, h, samples, &cold));
  for (int i = 0; i < runs; i++) PARE_TRY(one_run(c, f, h, samples, &seconds[i]));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static PareStatus time_program(PareCtx *c, const PareStopwatch *w, const PareTimed *t, double *ms) {
  PareMark mark = pare_arena_mark(c->scratch);
  double *run = PARE_NEW_N(c->scratch, t->runs, double);
  if (!run) return pare_nomem(c);
  PARE_TRY(pare_time_runs(c, t->f, w->h, t->runs, run));
  *ms = 1e3 * pare_median((size_t)t->runs, run);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static int enough_runs(double seconds) {
  double n = ROUND_SECONDS / seconds;
  return n < LEAST_RUNS ? LEAST_RUNS : n > MOST_RUNS ? MOST_RUNS : (int)n;
}

static PareStatus make_program(PareCtx *c, const PareStopwatch *w, const PareGraph *g, const PareGraph *bound,
                               PareTimed *t) {
  double seconds[FEW];
  const PareValue *first = bound->inputs.n ? bound->inputs.at[0] : NULL;
  int64_t batch = first && first->type.rank ? first->type.dim[0] : 1;
  PARE_TRY(pare_samples_random(c, bound, batch, 0, &t->d));
  PARE_TRY(pare_forward_new(c, g, t->d, batch, PARE_FORWARD_FUSED, w->device, &t->f));
  PARE_TRY(pare_time_runs(c, t->f, w->h, FEW, seconds));
  t->runs = enough_runs(pare_median(FEW, seconds));
  return PARE_OK;
}

/* --- both --- */

PareStatus pare_timed_open(PareCtx *c, const PareStopwatch *w, const PareGraph *g, const PareGraph *bound,
                           const char *path, PareTimed *out) {
  *out = (PareTimed){.path = path};
  PareStatus s = *w->command ? PARE_OK : make_program(c, w, g, bound, out);
  if (s != PARE_OK) pare_timed_close(out);
  return s;
}

void pare_timed_close(PareTimed *t) {
  pare_forward_free(t->f);
  pare_data_free(t->d);
  *t = (PareTimed){.path = NULL};
}

static PareStatus once(PareCtx *c, const PareStopwatch *w, const PareTimed *t, double *ms) {
  return *w->command ? ask_command(c, w, t->path, ms) : time_program(c, w, t, ms);
}

static bool enough(int n, const double *v) { return n == MANY || (n == FEW && timing_of(n, v).spread <= STEADY); }

PareStatus pare_stopwatch_time(PareCtx *c, const PareStopwatch *w, const PareTimed *t, PareTiming *out) {
  double ms[MANY];
  int n = 0;
  do PARE_TRY(once(c, w, t, &ms[n++]));
  while (!enough(n, ms));
  *out = timing_of(n, ms);
  return PARE_OK;
}

PareStatus pare_stopwatch_compare(PareCtx *c, const PareStopwatch *w, const PareTimed *a, const PareTimed *b,
                                  PareTiming *ta, PareTiming *tb, PareTiming *share) {
  double x[MANY], y[MANY], ratio[MANY];
  int n = 0;
  do {
    PARE_TRY(once(c, w, a, &x[n]));
    PARE_TRY(once(c, w, b, &y[n]));
    ratio[n] = y[n] / x[n];
  } while (!enough(++n, ratio));
  *ta = timing_of(n, x);
  *tb = timing_of(n, y);
  *share = timing_of(n, ratio);
  return PARE_OK;
}
