/* aside.h - outputs that are not one of each sample (a scale, a weight passed out, a sum over the batch): losses and
 * metrics leave them aside. The proof compares them all. */
#ifndef PARE_API_ASIDE_H
#define PARE_API_ASIDE_H

#include "ir/ir.h"
#include "runtime/data.h"

typedef struct PareAside {
  const bool *of;         /* by output: it is left aside; NULL: none is */
  const char *const *why; /* by output: "it is one number"; NULL where it is one of each sample */
  bool pairs;             /* one that is of each sample has a number for every other of the batch as well */
} PareAside;

/* Of the outputs of floats of g (unbound), those whose axis 0 does not count samples: told by what becomes of their
 * shapes when the batch is another. Where none would be left, none is left aside, and all have their reasons. Where
 * the model takes no other batch, nothing is known against any. Lives in a. */
PARE_MUST_USE PareStatus pare_find_aside(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d,
                                         PareAside *out);
/* Says of each to the log that it is left out, and why. PARE_UNSUPPORTED, naming the first, where none would be
 * left. */
PARE_MUST_USE PareStatus pare_tell_aside(PareCtx *c, const PareGraph *g, const PareAside *x);

#endif
