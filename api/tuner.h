/* tuner.h - the LoRAPrune loop: tune, score, rank, drop groups, and compile the
 * program anew on the cut weights as they go (METHOD 3). */
#ifndef PARE_API_TUNER_H
#define PARE_API_TUNER_H

#include "api/aside.h"
#include "api/params.h"
#include "api/feed.h"
#include "api/target.h"
#include "api/teacher.h"
#include "frontend/model.h"
#include "pare/pare.h"
#include "runtime/metrics.h"
#include "runtime/rank.h"
#include "runtime/schedule.h"

/* A point of the report's curves. */
typedef struct PareCurvePoint {
  int64_t step;
  double loss, sparsity, seconds; /* since tuning began */
} PareCurvePoint;

/* The metric on the training batches since the last such point. */
typedef struct PareMetricPoint {
  int64_t step;
  double value;
} PareMetricPoint;

/* Of a weight whose elements go one by one, as the nodes read it: both [K·N]. */
typedef struct PareElementMask {
  float *score;
  uint8_t *alive; /* 0 or 1 */
} PareElementMask;

/* What an output is measured against. */
typedef struct PareTruth {
  const void *at;      /* labels, or the teacher's first output */
  const uint8_t *skip; /* by row of the teacher's: 1 where it is padding; NULL: all count */
} PareTruth;

/* A run whose loss and output have not been looked at. */
typedef struct PareFlight {
  int64_t step; /* that it is of, from 1; 0: of none, the loss is not wanted */
  bool last;    /* of its step */
  double weight;   /* of its loss in the step's */
  double sparsity; /* at the end of its step */
  int64_t tuned;   /* samples, its step's included */
  PareTruth truth;
} PareFlight;

typedef struct PareTuner {
  PareCtx *c;
  const PareCompressOptions *o;
  const PareHooks *h;
  const PareModel *model;
  const PareGraph *dense; /* what distillation follows: the model with the adapters that it starts from */
  const PareData *data;   /* NULL: no tuning */
  PareData *stand_in;     /* random inputs, where scores of the weights alone need a program and there are no data */
  const int64_t *samples; /* those to tune on */
  int64_t nsamples;
  PareArena *arena;

  PareDevice *device;
  bool tf32; /* products of f32 may round to it in tuning */

  PareDims *dims;   /* of the uncut model; keep flags are on its leaves */
  bool *pruned;     /* by dimension: may lose groups */
  bool **keep;      /* by dimension: what lives; NULL where not pruned */
  bool **stage_keep; /* what lived when the program was made: the leaves' flags */
  double **score;   /* by dimension, moving averages */
  PareRanking ranking; /* --ranking, or what the target wants where none is given */
  double ratio;     /* of the groups of each kind, at the end; global ranking to a goal has its own */
  PareGoal goal;
  bool planned;     /* what goes has been said: nothing is ranked */
  bool keeps_all;   /* nothing goes */
  bool sequential;  /* adapters read whole outputs: nothing is cut before the end */
  PareElementMask *element; /* by adapter; NULL where groups go */
  ParePeft *peft;   /* the adapters to start from; NULL: none */
  PareParamsSpec start; /* of the adapters */
  PareParams params;
  PareGraph *base; /* the model with what was reconstructed (reconstruct.h); NULL: nothing was */
  PareArena *base_arena;
  bool reconstructs, reconstruction_judged; /* the latter: where held-out samples say that it helps */
  const PareCriterion *criterion;
  PareAside aside; /* outputs that are not one of each sample */
  PareTrainSpec spec;
  double mu; /* of distillation in the loss, where labels have the rest; NAN: it is all of one kind */
  PareSchedule schedule;

  /* the program on what is left now */
  PareArena *stage;
  PareTrainGraph graph;
  PareProgram *program;
  PareTeacher *teacher;
  PareModel *other; /* that teaches, instead of the untouched one; NULL: that one does */
  int64_t *first_run; /* by sample of the data: the run that it is first in; NULL without a teacher */
  int64_t batch, micro; /* samples a run; runs a step */
  int64_t most;         /* samples that a run may have: what fits in the device's memory */
  int64_t stage_alive;  /* groups when it was made */

  int64_t step; /* steps that have been asked for; looked at: those before the first flight */
  PareFlight flight[2], landed; /* in their order; the last step that was looked at and not told (step 0: none) */
  int nflights;
  PareTruth truth; /* of the batch that was fed last */
  void *truth_room[2];
  uint8_t *skip_room[2];
  double partial; /* loss of the runs of a step that were looked at */
  double started, saved_at; /* tuning, the last checkpoint */
  int64_t saved_step;       /* of the last checkpoint, written or read; 0: there is none */
  double loss, seconds;     /* of the last step that was looked at; since the start */
  int64_t tuned; /* samples */
  int64_t trained_parameters;
  size_t peak_bytes;
  PARE_VEC(PareCurvePoint) curve;
  PareMetric metric; /* over the batches since the last point */
  PARE_VEC(PareMetricPoint) metrics;
} PareTuner;

/* Reads the options, chooses what may go, and makes the adapters. `dims` is the
 * trace of the model at full size, `dense` what the data are for and distillation
 * follows: the model, less the tokens that are given up. Borrowed: everything. Pair: pare_tuner_free. */
PARE_MUST_USE PareStatus pare_tuner_init(PareTuner *t, PareCtx *c, PareArena *arena, const PareModel *model,
                                         const PareGraph *dense, PareDims *dims, const PareCompressOptions *o, const PareHooks *h,
                                         const PareData *data, const int64_t *samples, int64_t nsamples,
                                         PareDevice *device);
/* Runs the whole schedule; afterwards the leaves' keep flags are the result and
 * the params are on the host. PARE_INTERRUPTED when the hooks' flag was set. */
PARE_MUST_USE PareStatus pare_tuner_run(PareTuner *t);
/* Where groups overlap (PareGoal): sets `ratio` to the share of the groups with which what is left is within the
 * goal, by the scores and flags as they are now. PARE_TARGET when there is none. Every prune finds its own. */
PARE_MUST_USE PareStatus pare_tuner_fit(PareTuner *t);
/* Scores alone, of the model as it is, to score[]: what a run without steps would rank by. */
PARE_MUST_USE PareStatus pare_tuner_score(PareTuner *t);
void pare_tuner_free(PareTuner *t);

/* The criterion's name, "plan", or "none" where nothing goes. */
const char *pare_tuner_method(const PareTuner *t);
/* What a group of dimension `dim` costs, in the target's unit; without a target, in parameters. */
double pare_tuner_cost(const PareTuner *t, size_t dim);
/* The share of the groups that is dead or, under --ranking cost, of what they cost. */
double pare_tuner_share(const PareTuner *t);
/* Groups, or elements, that may go, and of these the dead ones. */
void pare_tuner_count(const PareTuner *t, int64_t *all, int64_t *dead);

#endif
