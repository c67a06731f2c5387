/* emit.h - writes the edited model: surgery on the original, not a rewrite.
 * Every field that no edit touches is copied as it stands. */
#ifndef PARE_BACKEND_EMIT_H
#define PARE_BACKEND_EMIT_H

#include "backend/chunks.h"
#include "ir/ir.h"

typedef struct PareProperty {
  const char *key, *value;
} PareProperty;

typedef struct PareEmit {
  const PareFile *file;              /* the original, mapped */
  const PareGraph *before, *after;   /* as imported; as it shall be */
  const PareGraph *before_bound, *after_bound; /* both at the same sizes: declared shapes follow; may be NULL */
  size_t ninitializers, nsparse, nnodes; /* in the file */
  bool sparse;                       /* initializers that change become sparse ones where that is smaller */
  bool external;                     /* the original keeps weights in other files */
  size_t nproperties;
  const PareProperty *properties; /* provenance; keys begin with "pare.", which replaces earlier ones */
} PareEmit;

/* Files in a folder of their own beside the place where they will go. */
typedef struct PareStage {
  char *dir;
  char *model, *data;         /* there; data is NULL without external data */
  char *model_to, *data_to;   /* their places */
} PareStage;

/* Writes the model under its own name into a temporary folder beside `path`, and
 * its weights as NAME.data when the original had external data or the file
 * would pass 2 GB. Strings live in a. */
PARE_MUST_USE PareStatus pare_emit_stage(PareCtx *c, PareArena *a, const PareEmit *e, const char *path,
                                         PareStage *out);
/* Waits until both are on the disk: emission and the proof, which reads them, need not. */
PARE_MUST_USE PareStatus pare_stage_sync(PareCtx *c, const PareStage *s);
/* Puts both in place, the data first, once they are synced. */
PARE_MUST_USE PareStatus pare_stage_commit(PareCtx *c, PareStage *s);
/* Removes what is left of the folder; fine after commit and on a zeroed stage. */
void pare_stage_remove(PareStage *s);

#endif
