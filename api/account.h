/* account.h - what a run did, as report.json and report.html. */
#ifndef PARE_API_ACCOUNT_H
#define PARE_API_ACCOUNT_H

#include "api/tuner.h"

/* Writes both into o->report. */
PARE_MUST_USE PareStatus pare_account_write(PareCtx *c, const PareTuner *t, const PareCompressResult *r,
                                            int64_t proof_samples);

#endif
