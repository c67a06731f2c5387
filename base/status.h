/* status.h - how every fallible function reports failure: a status travels as
 * the return value, the first failure is kept in the diagnostics of a context. */
#ifndef PARE_BASE_STATUS_H
#define PARE_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* code, exit status of the command line (docs: README, "Exit codes"), text */
#define PARE_STATUS_LIST(X)                           \
  X(OK, 0, "ok")                                      \
  X(GATE, 1, "a check failed")                        \
  X(USAGE, 2, "usage")                                \
  X(UNSUPPORTED, 3, "model not supported")            \
  X(IO, 4, "file cannot be read or written")          \
  X(FORMAT, 4, "malformed file")                      \
  X(DATA, 4, "data do not fit the model")             \
  X(NOMEM, 5, "out of memory")                        \
  X(DEVICE, 5, "device error")                        \
  X(TARGET, 6, "target cannot be reached")            \
  X(INTERRUPTED, 130, "interrupted")

typedef enum PareStatus {
#define X(id, exit_code, text) PARE_##id,
  PARE_STATUS_LIST(X)
#undef X
  PARE_STATUS_COUNT
} PareStatus;

/* The first failure of a run. Buffers are fixed, so that "out of memory" can be
 * reported too. */
typedef struct PareDiag {
  PareStatus code;
  char file[256]; /* the user's file, or "" */
  char node[128]; /* ONNX node name, or "" */
  char op[48];    /* ONNX op type, or "" */
  char text[512];
  const char *src; /* our source, printed only with -v */
  int line;
} PareDiag;

#define PARE_MUST_USE __attribute__((warn_unused_result))

#define PARE_TRY(expr)                               \
  do {                                               \
    PareStatus pare_try_ = (expr);                   \
    if (pare_try_ != PARE_OK) return pare_try_;      \
  } while (0)

const char *pare_status_text(PareStatus s);
int pare_status_exit(PareStatus s);

/* Records a failure unless one is recorded already; returns the recorded code.
 * `file`, `node` and `op` may be NULL. */
__attribute__((format(printf, 8, 9))) PareStatus
pare_diag_set(PareDiag *d, PareStatus code, const char *file, const char *node, const char *op,
              const char *src, int line, const char *fmt, ...);

/* "pare: FILE: node 'N' (Op): text" in one line. */
void pare_diag_print(const PareDiag *d, FILE *out, bool verbose);

#ifdef __cplusplus
}
#endif
#endif
