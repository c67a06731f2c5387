/* idle_options.c - see idle_options.h: one row an option. */
#include "api/idle_options.h"

#include <string.h>

#include "api/call.h"
#include "api/options.h"

typedef bool Idle(const PareTuner *t);

static bool scores_by(const PareTuner *t, const char *name) { return !strcmp(t->criterion->name, name); }

static bool tunes_nothing(const PareTuner *t) { return !t->schedule.steps; }
static bool prunes_once(const PareTuner *t) { return tunes_nothing(t) || t->schedule.kind != PARE_GRADUAL; }
static bool prunes_first(const PareTuner *t) { return tunes_nothing(t) || t->schedule.kind == PARE_ONE_SHOT; }
static bool has_no_cross_term(const PareTuner *t) { return !scores_by(t, "loraprune"); }
static bool weighs_no_weights(const PareTuner *t) {
  return scores_by(t, "movement") || scores_by(t, "obs") || scores_by(t, "random");
}
static bool averages_nothing(const PareTuner *t) {
  return t->spec.sum || t->criterion->over_time == PARE_SCORES_SUM || t->criterion->needs == PARE_NEEDS_NOTHING;
}
static bool follows_no_states(const PareTuner *t) { return !t->spec.hidden.at.n; }
static bool follows_no_outputs(const PareTuner *t) { return !t->teacher || !t->spec.teach_outputs; }

static const struct {
  int id;
  Idle *idle;
  bool of_scores; /* a plan does without them */
  const char *why;
} rows[] = {
    {PARE_OPTION_ID_eta, has_no_cross_term, true, "it weighs a term that --method loraprune alone has"},
    {PARE_OPTION_ID_importance, weighs_no_weights, true, "the method has no power to choose"},
    {PARE_OPTION_ID_ema, averages_nothing, true, "no scores are averaged over steps here"},
    {PARE_OPTION_ID_curve, prunes_once, false, "there is one prune"},
    {PARE_OPTION_ID_prune_every, prunes_once, false, "there is one prune"},
    {PARE_OPTION_ID_prune_warmup, prunes_once, false, "there is one prune"},
    {PARE_OPTION_ID_prune_cooldown, prunes_first, false, "all groups go before the first step"},
    {PARE_OPTION_ID_hidden_weight, follows_no_states, false, "no hidden states are distilled (--distill)"},
    {PARE_OPTION_ID_temperature, follows_no_outputs, false, "no outputs are distilled (--distill)"},
    {PARE_OPTION_ID_lr, tunes_nothing, false, "nothing is tuned"},
    {PARE_OPTION_ID_lr_warmup, tunes_nothing, false, "nothing is tuned"},
    {PARE_OPTION_ID_lr_decay, tunes_nothing, false, "nothing is tuned"},
    {PARE_OPTION_ID_weight_decay, tunes_nothing, false, "nothing is tuned"},
    {PARE_OPTION_ID_clip, tunes_nothing, false, "nothing is tuned"},
    {PARE_OPTION_ID_time_limit, tunes_nothing, false, "nothing is tuned"},
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
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    bool unasked = rows[i].of_scores && t->planned;
    if (pare_option_source(t->o, rows[i].id) == PARE_FROM_DEFAULT || !(unasked || rows[i].idle(t))) continue;
    pare_log(t->c, 0, "--%s changes nothing: %s", pare_option_name(rows[i].id), unasked ? "nothing is ranked" : rows[i].why);
  }
  tell_rank(t);
}
