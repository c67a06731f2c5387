/* schedule.h - when groups go and how fast the tuning goes: functions of the step alone. */
#ifndef PARE_RUNTIME_SCHEDULE_H
#define PARE_RUNTIME_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* Words of --schedule and --curve. */
typedef enum PareScheduleKind { PARE_GRADUAL, PARE_ONE_SHOT, PARE_TUNE_THEN_ONE_SHOT } PareScheduleKind;
typedef enum PareCurve { PARE_CURVE_CUBIC, PARE_CURVE_LINEAR } PareCurve;

typedef struct PareSchedule {
  int64_t steps;            /* T */
  int64_t prune_every;
  double warmup, cooldown;  /* shares of T before the first and after the last prune; negative: a tenth and a half, of a
                             * gradual schedule at most 400 steps * `share`, and 300, to the last and a fifth to the first */
  double share;             /* of the groups that goes in the end; 1 where it is not known before */
  PareScheduleKind kind;
  PareCurve curve;
  bool learns;              /* the model has to learn first, as a fresh head has: no at most */
} PareSchedule;

/* s_t / s_f (METHOD 3). Gradual: 0 in the warm-up, 1 from the cool-down on, between them the curve. One-shot: 1 from the
 * start. Tune, then one-shot: 0 up to the cool-down. */
double pare_schedule_sparsity(const PareSchedule *s, int64_t step);
/* Whether groups are dropped before step `step` (0-based; step == steps: after the
 * last one). The last prune is made whatever the interval, at the final ratio. */
bool pare_schedule_prunes(const PareSchedule *s, int64_t step);
/* Whether `step` is behind the last prune: scores are of no use any more. */
bool pare_schedule_over(const PareSchedule *s, int64_t step);

typedef enum PareDecay { PARE_DECAY_LINEAR, PARE_DECAY_COSINE, PARE_DECAY_NONE } PareDecay;
/* The factor of the learning rate at a step: a linear rise over `warmup` of all
 * steps, then the decay to zero. */
double pare_schedule_rate(int64_t step, int64_t steps, double warmup, PareDecay decay);

/* The factor of mu, distillation's share in the loss, at a step: a linear rise from zero over `ramp` of all steps. */
double pare_schedule_ramp(int64_t step, int64_t steps, double ramp);

#endif
