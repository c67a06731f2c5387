#include "base/status.h"

#include <stdarg.h>
#include <string.h>

static const struct {
  int exit_code;
  const char *text;
} status_info[PARE_STATUS_COUNT] = {
#define X(id, code, text) {code, text},
    PARE_STATUS_LIST(X)
#undef X
};

const char *pare_status_text(PareStatus s) { return status_info[s].text; }
int pare_status_exit(PareStatus s) { return status_info[s].exit_code; }

/* Copies what fits, and replaces control characters: names come from files. */
static void copy_clean(char *dst, size_t cap, const char *src) {
  size_t n = 0;
  for (; src && src[n] && n + 1 < cap; n++) dst[n] = (unsigned char)src[n] < 32 ? '?' : src[n];
  dst[n] = 0;
}

PareStatus pare_diag_set(PareDiag *d, PareStatus code, const char *file, const char *node,
                         const char *op, const char *src, int line, const char *fmt, ...) {
  if (d->code != PARE_OK) return d->code;
  char text[sizeof d->text];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  copy_clean(d->text, sizeof d->text, text);
  copy_clean(d->file, sizeof d->file, file);
  copy_clean(d->node, sizeof d->node, node);
  copy_clean(d->op, sizeof d->op, op);
  d->code = code;
  d->src = src;
  d->line = line;
  return code;
}

void pare_diag_print(const PareDiag *d, FILE *out, bool verbose) {
  fputs("pare: ", out);
  if (d->file[0]) fprintf(out, "%s: ", d->file);
  if (d->node[0] || d->op[0]) fprintf(out, "node '%s' (%s): ", d->node, d->op);
  fprintf(out, "%s\n", d->text);
  if (verbose) fprintf(out, "  [%s, raised at %s:%d]\n", pare_status_text(d->code), d->src, d->line);
}
