/* reconstruct.c - see reconstruct.h: what is taken over, and whether it is worth it. */
#include "api/reconstruct.h"

#include <math.h>
#include <string.h>

#include "api/call.h"
#include "api/options.h"
#include "api/readers.h"
#include "api/ruler.h"
#include "api/trained.h"
#include "api/tuner_parts.h"

/* Samples to judge by, the part of few that they are, and how few say nothing. */
enum { HELD_OUT = 128, HELD_OUT_OF = 5, HELD_OUT_LEAST = 8 };

/* --- what the rest takes over --- */

/* G [nkept, n] into the weight; what the means leave over into the bias. */
static PareStatus take_over(PareTuner *t, const PareReader *r, const double *g, const double *lost, const double *mean) {
  PARE_TRY(pare_params_add_dense(t->c, &t->params, r->adapter));
  float *dense = t->params.dense[r->adapter];
  for (int64_t i = 0; i < r->nkept; i++)
    for (int64_t j = 0; j < r->n; j++) dense[r->row[r->kept[i]] * r->a->n + r->col[j]] += (float)g[i * r->n + j];
  if (!r->bias) return PARE_OK;
  PARE_TRY(pare_params_add_bias(t->c, &t->params, r->adapter));
  for (int64_t j = 0; j < r->n; j++) {
    double sum = 0;
    for (int64_t i = 0; i < r->nlost; i++) sum += mean[r->lost[i]] * lost[i * r->n + j];
    for (int64_t i = 0; i < r->nkept; i++) sum -= mean[r->kept[i]] * g[i * r->n + j];
    t->params.bias[r->adapter][r->col[j]] += (float)(r->alpha * sum);
  }
  return PARE_OK;
}

static PareStatus solve(PareTuner *t, const PareReader *r) {
  const double *h, *mean;
  int64_t rows;
  PARE_TRY(pare_second_moments_get(t->c, r->moments, r->bias, &h, &mean, &rows));
  if (!rows) return PARE_OK;
  PareMark mark = pare_arena_mark(t->c->scratch);
  double *lost = PARE_NEW_N(t->c->scratch, r->nlost * r->n + 1, double);
  double *g = PARE_NEW_N(t->c->scratch, r->nkept * r->n + 1, double);
  if (!lost || !g) return pare_nomem(t->c);
  for (int64_t i = 0; i < r->nlost; i++)
    for (int64_t j = 0; j < r->n; j++) lost[i * r->n + j] = pare_reader_weight(r, r->lost[i], j);
  PareDiag before = t->c->diag;
  PareStatus s = pare_least_squares(t->c, r->k, h, r->nkept, r->kept, r->nlost, r->lost, r->n, lost, PARE_DAMPING, g);
  if (s == PARE_OK) PARE_TRY(take_over(t, r, g, lost, mean));
  pare_arena_rewind(t->c->scratch, mark);
  if (s != PARE_DATA) return s;
  t->c->diag = before;
  pare_log(t->c, 0, "nothing takes over what '%s' loses: its inputs are not finite", r->a->name);
  return PARE_OK;
}

/* --- whether it is worth it --- */

/* What a reader's adapter had beside it before; NULL: nothing. */
typedef struct Before {
  float *dense, *bias;
} Before;

static PareStatus copy_of(PareCtx *c, PareArena *a, const float *x, int64_t n, float **out) {
  if (!x) return PARE_OK;
  if (!(*out = PARE_NEW_N(a, n, float))) return pare_nomem(c);
  memcpy(*out, x, (size_t)n * sizeof(float));
  return PARE_OK;
}

static PareStatus remember(PareTuner *t, PareArena *a, const PareReaders *all, Before **out) {
  Before *was = *out = PARE_NEW_N(a, all->at.n + 1, Before);
  if (!was) return pare_nomem(t->c);
  for (size_t i = 0; i < all->at.n; i++) {
    const PareReader *r = &all->at.at[i];
    PARE_TRY(copy_of(t->c, a, t->params.dense[r->adapter], r->a->k * r->a->n, &was[i].dense));
    PARE_TRY(copy_of(t->c, a, t->params.bias[r->adapter], r->a->n, &was[i].bias));
  }
  return PARE_OK;
}

/* Arrays that this cut has made stay, as zeros: the next cut may need them. */
static void put_back(float *now, const float *was, int64_t n) {
  if (now && was) memcpy(now, was, (size_t)n * sizeof(float));
  if (now && !was) memset(now, 0, (size_t)n * sizeof(float));
}

static void give_up(PareTuner *t, const PareReaders *all, const Before *was) {
  for (size_t i = 0; i < all->at.n; i++) {
    const PareReader *r = &all->at.at[i];
    put_back(t->params.dense[r->adapter], was[i].dense, r->a->k * r->a->n);
    put_back(t->params.bias[r->adapter], was[i].bias, r->a->n);
  }
}

/* The loss of the model without what goes. */
static PareStatus loss_of_cut(PareTuner *t, const PareRuler *ruler, double *loss) {
  PareArena *a = pare_arena_new(1 << 20);
  PareGraph *cut;
  PareVerdict v;
  if (!a) return pare_nomem(t->c);
  pare_tuner_show_leaves(t, t->keep);
  PareStatus s = pare_readers_model(t, a, &cut);
  pare_tuner_show_leaves(t, t->stage_keep);
  if (s == PARE_OK) s = pare_ruler_measure(t->c, ruler, cut, &v);
  if (s == PARE_OK) *loss = v.loss;
  pare_arena_free(a);
  return s;
}

/* By labels or, where they are not followed, by what the model said before, on samples that were not looked at. */
static PareStatus new_ruler(PareTuner *t, PareArena *a, const PareReaders *all, PareRuler *out) {
  int64_t n = t->nsamples - all->nsamples, *held = PARE_NEW_N(a, n, int64_t);
  if (!held) return pare_nomem(t->c);
  n = n < HELD_OUT ? n : HELD_OUT;
  for (int64_t i = 0; i < n; i++) held[i] = pare_readers_sample(t, all->nsamples + i);
  PareAsked asked = {.as = pare_option_labels_as(t->o), .reference = t->spec.loss == PARE_LOSS_KD};
  return pare_ruler_new(t->c, a, all->model, t->data, (PareChoice){held, n}, t->batch, asked, t->device, t->h, out);
}

static PareStatus solve_all(PareTuner *t, const PareReaders *all) {
  for (size_t i = 0; i < all->at.n; i++)
    if (all->at.at[i].w) PARE_TRY(solve(t, &all->at.at[i]));
  return PARE_OK;
}

static PareStatus solve_if_worth(PareTuner *t, PareArena *a, const PareReaders *all, bool *worth) {
  PareRuler ruler;
  Before *was;
  double without, with;
  PARE_TRY(new_ruler(t, a, all, &ruler));
  PARE_TRY(remember(t, a, all, &was));
  PARE_TRY(loss_of_cut(t, &ruler, &without));
  PARE_TRY(solve_all(t, all));
  PARE_TRY(loss_of_cut(t, &ruler, &with));
  const char *name = pare_ruler_loss_name(&ruler);
  pare_log(t->c, 1, "%s on %lld held-out samples: %.4g, and %.4g where the rest takes over", name,
           (long long)ruler.chosen.n, without, with);
  *worth = with < without || isnan(without); /* none of them has a label, say */
  if (*worth) return PARE_OK;
  pare_log(t->c, 0, "what goes at step %lld is not made up for: on held-out samples %s is %.4g without, %.4g with it",
           (long long)t->step, name, without, with);
  give_up(t, all, was);
  return PARE_OK;
}

/* --- the whole --- */

/* Samples to look at: all, or all but those that are held out. */
static int64_t looked_at(const PareTuner *t) {
  int64_t n = t->nsamples, part = n / HELD_OUT_OF;
  if (!t->reconstruction_judged || part < HELD_OUT_LEAST) return n;
  return n - (part < HELD_OUT ? part : HELD_OUT);
}

static PareStatus reconstruct(PareTuner *t, PareArena *a, PareReaders *all) {
  double started = pare_now();
  bool worth = true;
  PARE_TRY(pare_readers_look(t, a, false, all));
  if (!all->at.n) return PARE_OK;
  PARE_TRY(all->nsamples < t->nsamples ? solve_if_worth(t, a, all, &worth) : solve_all(t, all));
  PARE_TRY(pare_tuner_make_base(t));
  if (worth) pare_log(t->c, 1, "%zu weights took over what their inputs lost, in %.1f s", all->at.n, pare_now() - started);
  return PARE_OK;
}

PareStatus pare_tuner_reconstruct(PareTuner *t) {
  PareReaders all = {.nsamples = looked_at(t)};
  PareArena *a = pare_arena_new(1 << 20);
  if (!a) return pare_nomem(t->c);
  PareStatus s = reconstruct(t, a, &all);
  pare_readers_free(&all);
  pare_arena_free(a);
  return s;
}

PareStatus pare_tuner_make_base(PareTuner *t) {
  PareArena *a = pare_arena_new(1 << 20);
  PareGraph *base = NULL;
  PareStatus s = a ? pare_params_fold(t->c, a, &t->params, t->model->graph, PARE_FOLD_FROZEN, &base) : pare_nomem(t->c);
  if (s != PARE_OK) return pare_arena_free(a), s;
  pare_trained_absorb(&t->params, t->model->graph, base);
  pare_arena_free(t->base_arena);
  t->base_arena = a;
  t->base = base;
  return PARE_OK;
}
