/* places.h - where a run may write, said before time is spent on it. */
#ifndef PARE_API_PLACES_H
#define PARE_API_PLACES_H

#include "frontend/model.h"
#include "pare/pare.h"

/* A file can be put at `path`, and is none of the data. Errors: PARE_IO, PARE_USAGE. */
PARE_MUST_USE PareStatus pare_place_check(PareCtx *c, PareArena *a, const PareCompressOptions *o, const char *path);

/* What a run from `model` to `out` writes can be written, and falls on nothing that it reads or writes elsewhere. */
PARE_MUST_USE PareStatus pare_places_check(PareCtx *c, PareArena *a, const char *model, const char *out,
                                           const PareCompressOptions *o);
/* Neither do the models, or their weights in PATH.data, fall on weights that `m` reads. */
PARE_MUST_USE PareStatus pare_places_check_external(PareCtx *c, PareArena *a, const PareModel *m, const char *out,
                                                    const PareCompressOptions *o);

#endif
