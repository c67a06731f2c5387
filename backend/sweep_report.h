/* sweep_report.h - what a sweep found, for scripts (report.json) and for people (report.html). */
#ifndef PARE_BACKEND_SWEEP_REPORT_H
#define PARE_BACKEND_SWEEP_REPORT_H

#include <stdint.h>

#include "base/ctx.h"

typedef struct PareSweepReportPoint {
  double share; /* of the groups, that shall go */
  int64_t gone;
  double loss, value;
} PareSweepReportPoint;

typedef struct PareSweepReportCurve {
  const char *name, *kind; /* name "": of the whole class */
  int64_t count, kept;     /* groups; those that the proposal keeps */
  size_t npoints;
  const PareSweepReportPoint *points;
} PareSweepReportCurve;

typedef struct PareSweepReport {
  const char *version, *model, *method, *metric, *loss_name;
  double loss, value; /* of the whole model */
  const char *target;
  double requested, sparsity, split_loss, split_value, ranked_loss, ranked_value;
  bool by_scores;
  int64_t samples;
  double seconds;
  size_t ncurves;
  const PareSweepReportCurve *curves;
} PareSweepReport;

/* Indented, with a newline. Free with free(); NULL when memory is out. */
char *pare_sweep_report_json(const PareSweepReport *r);
/* The page, to f; false when it cannot be written. */
bool pare_sweep_report_page(FILE *f, const PareSweepReport *r);
/* Writes both files into `dir`, which is made if it is not there; each whole or not at all. */
PARE_MUST_USE PareStatus pare_sweep_report_write(PareCtx *c, const char *dir, const PareSweepReport *r);

#endif
