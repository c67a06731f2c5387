/* idle_options.h - options that were given and change nothing in this run. */
#ifndef PARE_API_IDLE_OPTIONS_H
#define PARE_API_IDLE_OPTIONS_H

#include "api/tuner.h"

/* Tells the log each of them and why, once the tuner has chosen its method, schedule and teacher. They are no errors: a
 * script that tries several methods gives the same options to all. */
void pare_tuner_tell_idle(const PareTuner *t);

#endif
