/* ctx.h - what a phase is handed instead of globals. */
#ifndef PARE_BASE_CTX_H
#define PARE_BASE_CTX_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

typedef struct PareCtx {
  PareDiag diag;
  PareArena *scratch; /* temporaries; whoever takes a mark rewinds it */
  const char *file;   /* the user's file that this phase is about, or NULL */
  FILE *log;          /* NULL: silent */
  int verbose;        /* -1 quiet, 0, 1 */
} PareCtx;

/* False when memory is out; pare_ctx_free is fine either way. */
PARE_MUST_USE bool pare_ctx_init(PareCtx *c, FILE *log, int verbose);
void pare_ctx_free(PareCtx *c);

/* One line to the log unless the context is quieter than `level` (0 normal, 1 verbose). */
__attribute__((format(printf, 3, 4))) void pare_log(const PareCtx *c, int level, const char *fmt, ...);

/* return pare_error(c, PARE_IO, "...") */
#define pare_error(c, code, ...) \
  pare_diag_set(&(c)->diag, (code), (c)->file, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)
#define pare_nomem(c) pare_error(c, PARE_NOMEM, "out of memory")

#endif
