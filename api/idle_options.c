/* idle_options.c - see idle_options.h: one row an option. */
#include "api/idle_options.h"

#include "api/call.h"
#include "api/options.h"

typedef bool Idle(const PareTuner *t);

static bool tunes_nothing(const PareTuner *t) { return !t->schedule.steps; }
static bool prunes_once(const PareTuner *t) { return tunes_nothing(t) || t->planned || t->schedule.kind != PARE_GRADUAL; }
static bool prunes_first(const PareTuner *t) {
  return tunes_nothing(t) || t->planned || t->schedule.kind == PARE_ONE_SHOT;
}
static bool ranks_nothing(const PareTuner *t) { return t->planned; }
static bool has_no_cross_term(const PareTuner *t) { return t->planned || !(t->criterion->options & PARE_SCORE_ETA); }
static bool has_no_power(const PareTuner *t) { return t->planned || !(t->criterion->options & PARE_SCORE_POWER); }
static bool averages_nothing(const PareTuner *t) {
  return t->planned || t->spec.sum || t->criterion->over_time != PARE_SCORES_AVERAGE ||
         t->criterion->needs == PARE_NEEDS_NOTHING;
}
static bool follows_no_states(const PareTuner *t) { return !t->spec.hidden.at.n; }
static bool follows_no_outputs(const PareTuner *t) { return !t->teacher || !t->spec.teach_outputs; }

static const struct {
  int id;
  Idle *idle;
  const char *why;
} rows[] = {
    {PARE_OPTION_ID_eta, has_no_cross_term, "the scores have no such term (those of --method loraprune do)"},
    {PARE_OPTION_ID_importance, has_no_power, "the scores have no power to choose"},
    {PARE_OPTION_ID_ema, averages_nothing, "no scores are averaged over steps here"},
    {PARE_OPTION_ID_ranking, ranks_nothing, "nothing is ranked"},
    {PARE_OPTION_ID_floor, ranks_nothing, "nothing is ranked"},
    {PARE_OPTION_ID_curve, prunes_once, "there are not several prunes"},
    {PARE_OPTION_ID_prune_every, prunes_once, "there are not several prunes"},
    {PARE_OPTION_ID_prune_warmup, prunes_once, "there are not several prunes"},
    {PARE_OPTION_ID_prune_cooldown, prunes_first, "all that goes has gone before the first step"},
    {PARE_OPTION_ID_hidden_weight, follows_no_states, "no hidden states are distilled (--distill)"},
    {PARE_OPTION_ID_temperature, follows_no_outputs, "no outputs are distilled (--distill)"},
    {PARE_OPTION_ID_lr, tunes_nothing, "nothing is tuned"},
    {PARE_OPTION_ID_lr_warmup, tunes_nothing, "nothing is tuned"},
    {PARE_OPTION_ID_lr_decay, tunes_nothing, "nothing is tuned"},
    {PARE_OPTION_ID_weight_decay, tunes_nothing, "nothing is tuned"},
    {PARE_OPTION_ID_clip, tunes_nothing, "nothing is tuned"},
    {PARE_OPTION_ID_time_limit, tunes_nothing, "nothing is tuned"},
};

/* A product of more columns than the weight has rows or columns says no more than one of as many. */
static void tell_rank(const PareTuner *t) {
  int64_t most = 0;
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    const PareAdapter *a = &t->params.full.at.at[i];
    int64_t full = a->k < a->n ? a->k : a->n;
    if (a->rank && full > most) most = full;
  }
  if (most && t->o->rank > most)
    pare_log(t->c, 0, "--rank %lld is more than any weight that is adapted has rows or columns: %lld says as much, for less memory and time",
             (long long)t->o->rank, (long long)most);
}

void pare_tuner_tell_idle(const PareTuner *t) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (pare_option_source(t->o, rows[i].id) != PARE_FROM_DEFAULT && rows[i].idle(t))
      pare_log(t->c, 0, "--%s changes nothing: %s", pare_option_name(rows[i].id), rows[i].why);
  tell_rank(t);
}
