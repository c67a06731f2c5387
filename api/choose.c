/* choose.c - what of a model may go: kinds, names, or what a plan says. */
#include <regex.h>
#include <string.h>

#include "api/plan.h"
#include "api/tuner_parts.h"

static bool kind_listed(const char *list, const char *kind) {
  size_t n = strlen(kind);
  for (const char *p = list; *p;) {
    size_t len = strcspn(p, ",");
    if (len == n && !memcmp(p, kind, n)) return true;
    p += len + (p[len] == ',');
  }
  return false;
}

static bool dim_matches(const regex_t *re, const PareDim *d) {
  if (regexec(re, d->name, 0, NULL, 0) == 0) return true;
  for (size_t i = 0; i < d->members.n; i++)
    if (regexec(re, d->members.at[i].weight->name, 0, NULL, 0) == 0) return true;
  return false;
}

static PareStatus filter(PareTuner *t, const char *pattern, const char *option, bool want) {
  regex_t re;
  if (!*pattern) return PARE_OK;
  if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB))
    return pare_error(t->c, PARE_USAGE, "--%s: '%s' is not a regular expression", option, pattern);
  for (size_t i = 0; i < t->dims->dims.n; i++)
    if (dim_matches(&re, &t->dims->dims.at[i]) != want) t->pruned[i] = false;
  regfree(&re);
  return PARE_OK;
}

static PareStatus nothing_to_prune(PareTuner *t) {
  return pare_error(t->c, PARE_TARGET, "nothing to prune: no group of kind %s was found (pare inspect --groups tells "
                    "what there is and what forbids it)", t->o->prune);
}

/* What is given goes whatever the patterns say. */
static PareStatus take_given(PareTuner *t) {
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareDim *d = &t->dims->dims.at[i];
    if (!d->given) continue;
    t->pruned[i] = true;
    if (!(t->keep[i] = PARE_NEW_N(t->arena, d->count, bool))) return pare_nomem(t->c);
    memcpy(t->keep[i], d->given, (size_t)d->count * sizeof(bool));
  }
  return PARE_OK;
}

/* Sets pruned[], and keep[] where a plan says it. */
static PareStatus choose_pruned(PareTuner *t) {
  size_t n = t->dims->dims.n;
  t->planned = *t->o->plan || t->keeps_all;
  if (*t->o->plan) PARE_TRY(pare_plan_load(t->c, t->arena, t->o->plan, t->dims, t->keep));
  for (size_t i = 0; i < n; i++)
    t->pruned[i] = *t->o->plan ? t->keep[i] != NULL
                               : kind_listed(t->o->prune, pare_kind_name(t->dims->dims.at[i].kind));
  if (*t->o->plan) return PARE_OK;
  PARE_TRY(filter(t, t->o->include, "include", true));
  PARE_TRY(filter(t, t->o->exclude, "exclude", false));
  return take_given(t);
}

PareStatus pare_tuner_choose(PareTuner *t) {
  size_t n = t->dims->dims.n;
  t->pruned = PARE_NEW_N(t->arena, n + 1, bool);
  t->keep = PARE_NEW_N(t->arena, n + 1, bool *);
  t->stage_keep = PARE_NEW_N(t->arena, n + 1, bool *);
  t->score = PARE_NEW_N(t->arena, n + 1, double *);
  if (!t->pruned || !t->keep || !t->stage_keep || !t->score) return pare_nomem(t->c);
  PARE_TRY(choose_pruned(t));
  bool any = false;
  for (size_t i = 0; i < n; i++) {
    PareDim *d = &t->dims->dims.at[i];
    if (!t->pruned[i]) continue;
    any = true;
    if (!t->keep[i]) {
      t->keep[i] = PARE_NEW_N(t->arena, d->count, bool);
      if (t->keep[i]) memset(t->keep[i], 1, (size_t)d->count * sizeof(bool));
    }
    t->stage_keep[i] = PARE_NEW_N(t->arena, d->count, bool);
    t->score[i] = PARE_NEW_N(t->arena, d->count, double);
    if (!t->keep[i] || !t->stage_keep[i] || !t->score[i]) return pare_nomem(t->c);
    if (t->sequential && !d->given) memset(t->stage_keep[i], 1, (size_t)d->count * sizeof(bool));
    else memcpy(t->stage_keep[i], t->keep[i], (size_t)d->count * sizeof(bool));
    d->leaf->keep = t->stage_keep[i];
  }
  int64_t ranked, dead;
  pare_tuner_count(t, &ranked, &dead);
  t->planned |= !ranked;
  return any || t->keeps_all ? PARE_OK : nothing_to_prune(t);
}

bool pare_tuner_ranks(const PareTuner *t, bool *const *keep, size_t dim) {
  return keep[dim] && !t->dims->dims.at[dim].given && !pare_dims_gone(t->dims, keep, dim);
}

void pare_tuner_count_in(const PareTuner *t, bool *const *keep, int64_t *all, int64_t *dead) {
  *all = *dead = 0;
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; pare_tuner_ranks(t, keep, i) && k < t->dims->dims.at[i].count; k++) ++*all, *dead += !keep[i][k];
}

void pare_tuner_count(const PareTuner *t, int64_t *all, int64_t *dead) {
  if (t->element) pare_tuner_count_elements(t, all, dead);
  else pare_tuner_count_in(t, t->keep, all, dead);
}
