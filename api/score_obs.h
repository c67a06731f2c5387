/* score_obs.h - what it would cost to lose a group whose layer takes over what it can (criterion obs). */
#ifndef PARE_API_SCORE_OBS_H
#define PARE_API_SCORE_OBS_H

#include "api/tuner.h"

/* Scores of all groups (METHOD 4, obs): the error that is left when a group goes and the rest of its layer takes over,
 * from the moments that reconstruction has (readers.h). Sets t->score. */
PARE_MUST_USE PareStatus pare_tuner_score_obs(PareTuner *t);

#endif
