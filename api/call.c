/* call.c - see call.h. */
#include "api/call.h"

#include <omp.h>
#include <time.h>

const char *pare_version(void) { return PARE_VERSION; }

double pare_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void pare_call_error(const PareDiag *d, PareError *e) {
  if (!e) return;
  *e = (PareError){.code = pare_status_exit(d->code)};
  if (d->code == PARE_OK) return;
  bool file = d->file[0], node = d->node[0] || d->op[0];
  size_t n = 0;
  if (file) n = (size_t)snprintf(e->text, sizeof e->text, "%s: ", d->file);
  if (node) n += (size_t)snprintf(e->text + n, sizeof e->text - n, "node '%s' (%s): ", d->node, d->op);
  snprintf(e->text + n, sizeof e->text - n, "%s", d->text);
}

/* Of `asked` (0: as many as there are): a limit of OpenMP's, or a parallel region of the caller's, may allow fewer, and
 * oneDNN leaves out the work of those that it counted on and does not get. */
static void take_threads(int asked) {
  int got = 1;
  omp_set_dynamic(0);
  if (asked > 0) omp_set_num_threads(asked);
#pragma omp parallel
#pragma omp single
  got = omp_get_num_threads();
  omp_set_num_threads(got);
}

int pare_call(const PareHooks *h, int threads, PareError *e, PareBodyFn *body, void *arg) {
  PareCtx c;
  int before = omp_get_max_threads(), dynamic = omp_get_dynamic();
  take_threads(threads);
  PareStatus s = PARE_OK;
  if (!pare_ctx_init(&c, h ? h->log : NULL, h ? h->verbose : 0)) s = pare_nomem(&c);
  else s = body(&c, arg);
  if (s != PARE_OK && c.diag.code == PARE_OK) c.diag.code = s;
  pare_call_error(&c.diag, e);
  if (h && h->log && h->verbose > 0 && c.diag.code != PARE_OK && c.diag.src)
    pare_log(&c, 1, "[%s, raised at %s:%d]", pare_status_text(c.diag.code), c.diag.src, c.diag.line);
  int code = pare_status_exit(c.diag.code);
  pare_ctx_free(&c);
  omp_set_num_threads(before);
  omp_set_dynamic(dynamic);
  return code;
}
