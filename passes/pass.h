/* pass.h - the passes on bound graphs and their manager. */
#ifndef PARE_PASSES_PASS_H
#define PARE_PASSES_PASS_H

#include "ir/ir.h"

/* Changes g and keeps what it computes, to rounding (DESIGN 2, the pass law). */
typedef PareStatus ParePassFn(PareCtx *c, PareGraph *g);

typedef struct ParePass {
  const char *name;
  ParePassFn *run;
  const char *what;
} ParePass;

#define PASS(name, fn, what) ParePassFn pare_##fn;
#include "passes/passes.def"
#undef PASS

/* The rows of passes.def; ends with a row without a name. */
extern const ParePass pare_passes[];
const ParePass *pare_pass_find(const char *name); /* NULL when there is none */

/* Runs the passes named in `list`, separated by commas, in that order; pare_pass_done after each. */
PARE_MUST_USE PareStatus pare_run_passes(PareCtx *c, PareGraph *g, const char *list, const char *dump_after);

/* What follows a pass or a step of assembling: verifies g, and prints it to the log
 * when `name` is what `dump_after` (may be NULL or empty) asks for. */
PARE_MUST_USE PareStatus pare_pass_done(PareCtx *c, const PareGraph *g, const char *name, const char *dump_after);

#endif
