/* account.h - what a run did, as report.json and report.html. */
#ifndef PARE_API_ACCOUNT_H
#define PARE_API_ACCOUNT_H

#include "api/tuner.h"
#include "api/vocab.h"

/* What a run has come to, beside what its tuner knows. */
typedef struct PareAccount {
  const PareCompressResult *result;
  int64_t proof_samples;
  const PareLatency *latency; /* NULL: another target */
  PareTiming dense, compact;  /* at the end */
  const PareVocab *vocab;     /* NULL: all tokens stay */
} PareAccount;

/* Writes both into o->report. */
PARE_MUST_USE PareStatus pare_account_write(PareCtx *c, const PareTuner *t, const PareAccount *account);

#endif
