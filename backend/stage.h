/* stage.h - opens the folder in which a model waits; the rest is in emit.h. */
#ifndef PARE_BACKEND_STAGE_H
#define PARE_BACKEND_STAGE_H

#include "backend/emit.h"

/* Makes the folder and names the files; `data` is to be cleared if none is written. */
PARE_MUST_USE PareStatus pare_stage_open(PareCtx *c, PareArena *a, const char *path, PareStage *s);

#endif
