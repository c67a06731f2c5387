#include "base/ctx.h"

#include <stdarg.h>

bool pare_ctx_init(PareCtx *c, FILE *log, int verbose) {
  *c = (PareCtx){.log = log, .verbose = verbose};
  c->scratch = pare_arena_new(1 << 16);
  return c->scratch != NULL;
}

void pare_ctx_free(PareCtx *c) {
  pare_arena_free(c->scratch);
  c->scratch = NULL;
}

void pare_log(const PareCtx *c, int level, const char *fmt, ...) {
  if (!c->log || level > c->verbose) return;
  va_list ap;
  va_start(ap, fmt);
  vfprintf(c->log, fmt, ap);
  va_end(ap);
  fputc('\n', c->log);
}
