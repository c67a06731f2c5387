/* checkpoint.h - a tuner's state in a file: killed at any moment and resumed from
 * it, a run ends with the bytes of an unbroken one. */
#ifndef PARE_API_CHECKPOINT_H
#define PARE_API_CHECKPOINT_H

#include "api/tuner.h"

/* Writes DIR/state.pare, whole or not at all. The params on the host must be current. */
PARE_MUST_USE PareStatus pare_checkpoint_save(PareTuner *t, const char *dir);
/* Reads it into a tuner that was made with the same model and options. PARE_USAGE
 * when they differ, PARE_FORMAT when the file is damaged. */
PARE_MUST_USE PareStatus pare_checkpoint_load(PareTuner *t, const char *dir);

#endif
