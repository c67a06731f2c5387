/* score_obs.c - see score_obs.h. */
#include "api/score_obs.h"

#include <math.h>

#include "api/call.h"
#include "api/readers.h"
#include "runtime/obs.h"

typedef struct Scoring {
  PareTuner *t;
  const PareReader *r;
  const double *h, *w; /* moments of the inputs, weights [K, N] */
  double ridge;
  PareStatus status;
} Scoring;

static PareStatus score_dim(Scoring *s, PareAxis *leaf) {
  PareTuner *t = s->t;
  int64_t *group = PARE_NEW_N(t->c->scratch, s->r->k + 1, int64_t);
  if (!group) return pare_nomem(t->c);
  pare_axis_kept_positions(s->r->axis, leaf, group);
  return pare_obs_scores(t->c, s->r->k, s->h, s->ridge, s->r->n, s->w, t->dims->dims.at[leaf->dim].count, group,
                         t->score[leaf->dim]);
}

static void score_leaf(PareAxis *leaf, void *arg) {
  Scoring *s = arg;
  if (s->status == PARE_OK && leaf->dim >= 0 && s->t->pruned[leaf->dim]) s->status = score_dim(s, leaf);
}

static double mean_diagonal(int64_t k, const double *h) {
  double trace = 0;
  for (int64_t i = 0; i < k; i++) trace += h[i * k + i];
  return trace / (double)k;
}

static PareStatus score_reader(PareTuner *t, const PareReader *r) {
  const double *h;
  int64_t rows;
  PARE_TRY(pare_second_moments_get(t->c, r->moments, r->bias, &h, NULL, &rows));
  PareMark mark = pare_arena_mark(t->c->scratch);
  double *w = PARE_NEW_N(t->c->scratch, r->k * r->n + 1, double);
  if (!w) return pare_nomem(t->c);
  for (int64_t i = 0; i < r->k; i++)
    for (int64_t j = 0; j < r->n; j++) w[i * r->n + j] = r->alpha * pare_reader_weight(r, i, j);
  Scoring s = {.t = t, .r = r, .h = h, .w = w, .ridge = PARE_DAMPING * mean_diagonal(r->k, h)};
  if (rows) pare_axis_leaves(r->axis, score_leaf, &s);
  pare_arena_rewind(t->c->scratch, mark);
  return s.status;
}

/* Errors of different layers are of different things (METHOD 2, "Scale"). */
static void to_unit_norm(int64_t n, double *x) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  for (int64_t i = 0; i < n && sum > 0; i++) x[i] /= sqrt(sum);
}

static PareStatus score_all(PareTuner *t, PareArena *a, PareReaders *all) {
  PARE_TRY(pare_readers_look(t, a, true, all));
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; t->score[i] && k < t->dims->dims.at[i].count; k++) t->score[i][k] = 0;
  for (size_t i = 0; i < all->at.n; i++)
    if (all->at.at[i].w) PARE_TRY(score_reader(t, &all->at.at[i]));
  for (size_t i = 0; i < t->dims->dims.n && t->spec.normalise; i++)
    if (t->score[i]) to_unit_norm(t->dims->dims.at[i].count, t->score[i]);
  return PARE_OK;
}

PareStatus pare_tuner_score_obs(PareTuner *t) {
  PareReaders all = {.nsamples = t->nsamples};
  PareArena *a = pare_arena_new(1 << 20);
  if (!a) return pare_nomem(t->c);
  PareStatus s = score_all(t, a, &all);
  pare_readers_free(&all);
  pare_arena_free(a);
  return s;
}
