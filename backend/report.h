/* report.h - the account of a run for scripts (report.json) and for people
 * (report.html: one file, nothing from elsewhere). */
#ifndef PARE_BACKEND_REPORT_H
#define PARE_BACKEND_REPORT_H

#include <stdint.h>

#include "base/ctx.h"
#include "ir/fingerprint.h"

typedef struct PareReportModel {
  const char *path, *sha256;
  int64_t opset, params, macs, bytes;
  double latency_seconds; /* 0: not measured */
} PareReportModel;

/* A dimension. */
typedef struct PareReportGroup {
  const char *name, *kind;
  int64_t before, after;
  const bool *kept;    /* [before]; NULL: all of them */
  const double *score; /* [before], as they stood at the last prune; NULL: none were taken */
} PareReportGroup;

typedef struct PareReportClass { /* heads, ffn */
  const char *kind;
  double reached;
} PareReportClass;

typedef struct PareReportPoint { /* after an optimiser step; NaN where not known */
  int64_t step;
  double loss, sparsity, seconds; /* since tuning began */
} PareReportPoint;

typedef struct PareReportEval { /* the metric, measured on the way */
  int64_t step;
  double value;
} PareReportEval;

typedef struct PareReportAdapter {
  const char *weight;
  int64_t rank;
  double scale;
} PareReportAdapter;

typedef struct PareReportCount {
  const char *name;
  int64_t n;
} PareReportCount;

typedef struct PareReportSpan {
  const char *name;
  double seconds;
} PareReportSpan;

typedef struct PareReportOutput {
  const char *name, *why;
} PareReportOutput;

typedef struct PareReportOption {
  const char *name, *value;
  bool quoted; /* text, not a number or a truth value */
} PareReportOption;

/* Layers of one shape, timed with fewer groups in all of them. */
typedef struct PareReportTimes {
  const char *kind;
  int64_t count;
  size_t nlayers, nsizes;
  const char *const *layers;
  const int64_t *kept;        /* [nsizes] */
  const double *ms, *spread;  /* of the whole model */
} PareReportTimes;

typedef struct PareReport {
  const char *version;
  int64_t seed;
  PareReportModel input, output;
  const PareFingerprint *fingerprint; /* of the input */
  struct {
    const char *kind;
    double requested, reached;
    size_t nclasses;
    const PareReportClass *classes;
  } target;
  struct {
    const char *command; /* NULL: nothing was timed */
    double dense_ms, dense_spread, predicted_ms;                            /* by the table */
    double dense_now_ms, dense_now_spread, measured_ms, measured_spread; /* at the end */
    size_t nclasses;
    const PareReportTimes *classes;
  } latency;
  struct {
    int64_t align; /* of --align */
    size_t nuneven;
    const char *const *uneven; /* dimensions that have no such size, or were told another */
  } alignment;
  struct {
    int64_t tokens, left;        /* tokens 0: all of them stay */
    int64_t merges, merges_left; /* of BPE; 0: there are none */
    size_t nadded, nfiles;
    const PareReportCount *added; /* that stay for the tokenizer's sake, by its reasons */
    const char *const *files;     /* that number what is left */
  } vocabulary;
  size_t ngroups;
  const PareReportGroup *groups;
  struct {
    const char *name; /* NULL: nothing was measured */
    double dense, compact;
    double points; /* that a metric of 1 is */
    bool share;    /* shown in % */
  } metric;
  struct {
    double max_abs, max_rel;
    int64_t samples;
    bool passed;
    bool exact; /* the compact model is compared with the masked one; else with one that is cut where a norm is taken */
  } validation;
  struct {
    const char *device, *precision;
    int64_t steps, peak_memory_bytes;
    int64_t trained_parameters; /* numbers that tuning changed, of the uncut model */
    double trained_share;       /* of the input's parameters */
    double seconds, samples_per_second, final_loss;
    double mu; /* of distillation in the loss; NAN: it is all of one kind */
    size_t naside;
    const PareReportOutput *aside; /* outputs that losses and metrics leave out */
  } training;
  size_t nspans;
  const PareReportSpan *spans; /* in their order */
  size_t noptions, npoints, nevals, nadapters;
  const PareReportOption *options;
  const PareReportPoint *points;
  const PareReportEval *evals;
  const PareReportAdapter *adapters;
} PareReport;

/* Writes both files into `dir`, which is made if it is not there; each whole or not at all. */
PARE_MUST_USE PareStatus pare_report_write(PareCtx *c, const char *dir, const PareReport *r);

/* The same for the reports of other commands: report.json from `json` (of malloc, taken over; NULL: memory is out),
 * report.html from `page`. */
typedef bool PareReportPageFn(FILE *f, const void *r);
PARE_MUST_USE PareStatus pare_report_put(PareCtx *c, const char *dir, char *json, PareReportPageFn *page, const void *r);

/* The page, to f; false when it cannot be written. */
bool pare_report_page(FILE *f, const PareReport *r);

#endif
