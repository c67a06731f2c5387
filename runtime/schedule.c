#include "runtime/schedule.h"

#include <math.h>

/* Of a schedule that finds its own shares. Of many steps, the later ones do more for what is left than for what is to be
 * ranked, and the more goes the oftener the rest has to be ranked anew (docs/method.md, "Schedules"). */
enum { LAST_FOR_ALL = 400, LAST_AT_MOST = 300, FIRST_OF_LAST = 5 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static bool is_short(const PareSchedule *s) { return s->kind == PARE_GRADUAL && !s->learns; }
static int64_t last_at_most(const PareSchedule *s) { return least(llrint(LAST_FOR_ALL * s->share), LAST_AT_MOST); }

static int64_t cooldown_starts(const PareSchedule *s) {
  if (s->cooldown >= 0) return s->steps - (int64_t)floor(s->cooldown * (double)s->steps);
  int64_t half = s->steps - s->steps / 2;
  return is_short(s) ? least(half, last_at_most(s)) : half;
}

static int64_t first_prune(const PareSchedule *s) {
  if (s->warmup >= 0) return (int64_t)ceil(s->warmup * (double)s->steps);
  int64_t tenth = (s->steps + 9) / 10, first = is_short(s) ? least(tenth, last_at_most(s) / FIRST_OF_LAST) : tenth;
  return least(first, cooldown_starts(s));
}

static int64_t last_prune(const PareSchedule *s) {
  if (s->kind == PARE_ONE_SHOT) return 0;
  int64_t last = cooldown_starts(s), first = first_prune(s);
  if (s->kind == PARE_TUNE_THEN_ONE_SHOT) return last;
  if (last < first) last = first;
  return last == 0 && s->steps > 0 ? 1 : last; /* not before a step was scored */
}

bool pare_schedule_over(const PareSchedule *s, int64_t step) { return step >= last_prune(s); }

double pare_schedule_sparsity(const PareSchedule *s, int64_t step) {
  int64_t first = first_prune(s), last = last_prune(s);
  if (step >= last) return 1;
  if (step < first || s->kind != PARE_GRADUAL) return 0;
  double left = 1 - (double)(step - first) / (double)(last - first);
  return s->curve == PARE_CURVE_LINEAR ? 1 - left : 1 - left * left * left;
}

bool pare_schedule_prunes(const PareSchedule *s, int64_t step) {
  int64_t first = first_prune(s), last = last_prune(s);
  if (step == last) return true;
  if (s->kind != PARE_GRADUAL) return false;
  return step > first && step < last && s->prune_every > 0 && (step - first) % s->prune_every == 0;
}

double pare_schedule_rate(int64_t step, int64_t steps, double warmup, PareDecay decay) {
  double rise = warmup * (double)steps, t = (double)step + 1;
  if (t < rise) return t / rise;
  if (decay == PARE_DECAY_NONE || (double)steps <= rise) return 1;
  double p = ((double)step - rise) / ((double)steps - rise);
  if (p < 0) p = 0;
  return decay == PARE_DECAY_COSINE ? 0.5 * (1 + cos(3.14159265358979323846 * p)) : 1 - p;
}

double pare_schedule_ramp(int64_t step, int64_t steps, double ramp) {
  double rise = ramp * (double)steps;
  return (double)step < rise ? (double)step / rise : 1;
}
