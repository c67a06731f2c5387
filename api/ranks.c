/* ranks.c - --rank auto: the number of parameters that adapters of one rank would have, where gradients want them.
 *
 * While B is zero its gradient is s·A'·G, a sketch of G = dL/dW by A's random columns. The eigenvalues of the sum over
 * batches of dB·dB' say along how many directions G moves, and how much along each. One more rank costs a weight rows + N
 * parameters and is worth the next eigenvalue's share of all of the weight's own: AdamW makes steps of one size wherever
 * it is, so that how large G is tells nothing. Ranks go, one at a time, to where the next one is worth most for its cost,
 * as long as the budget allows. Every weight has at least one. */
#include <string.h>

#include "api/call.h"
#include "api/tuner_parts.h"
#include "runtime/svd.h"

enum { PROBE_BATCHES = 16 };

/* An adapter on its way to a rank. */
typedef struct Bid {
  double *gram, *worth; /* [probe rank, probe rank], [probe rank]: falling, for one parameter */
  int64_t cost, most, rank; /* of one rank more; at most; now */
} Bid;

PareStatus pare_tuner_take_ranks(PareTuner *t, const int64_t *rank) {
  enum { PISSA = 1 };
  t->start.ranks = rank;
  t->start.rank = PARE_UNIFORM_RANK;
  t->start.principal = t->o->adapter_init == PISSA;
  return pare_params_start(t->c, &t->start, &t->params);
}

/* gram += dB·dB'. */
static PareStatus add_gradient(PareTuner *t, size_t i, Bid *b) {
  const PareValue *v = t->graph.b[i].score_grad;
  const float *g = pare_program_buffer(t->program, v);
  int64_t r = v->type.dim[0], n = v->type.dim[1];
  if (!g) return PARE_OK;
  PARE_TRY(pare_program_pull(t->c, t->program, v));
  for (int64_t p = 0; p < r; p++)
    for (int64_t q = 0; q <= p; q++) {
      double sum = 0;
      for (int64_t k = 0; k < n; k++) sum += (double)g[p * n + k] * (double)g[q * n + k];
      b->gram[p * r + q] += sum;
      if (p != q) b->gram[q * r + p] += sum;
    }
  return PARE_OK;
}

static PareStatus probe(PareTuner *t, Bid *bid) {
  for (int64_t run = 0; run < PROBE_BATCHES; run++) {
    if (pare_stopped(t->h)) return pare_error(t->c, PARE_INTERRUPTED, "interrupted");
    PARE_TRY(pare_tuner_run_batch(t, run, true, (PareFlight){.weight = 1}));
    for (size_t i = 0; i < t->params.full.at.n; i++) PARE_TRY(add_gradient(t, i, &bid[i]));
    PARE_TRY(pare_program_run(t->c, t->program, PARE_PHASE_RANK));
    PARE_TRY(pare_tuner_clear(t));
  }
  return pare_tuner_land_all(t);
}

/* Nothing of the probe stays: its scores are not the run's. */
static void end_probe(PareTuner *t) {
  pare_program_free(t->program);
  pare_arena_free(t->stage);
  t->program = NULL;
  t->stage = NULL;
}

static PareStatus make_bids(PareTuner *t, Bid *bid) {
  int64_t r = PARE_RANK_MOST;
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    const PareAdapter *a = &t->params.full.at.at[i];
    int64_t rows = pare_adapter_rows(a), least = rows < a->n ? rows : a->n;
    bid[i] = (Bid){PARE_NEW_N(t->arena, r * r, double), PARE_NEW_N(t->arena, r, double), rows + a->n,
                   least < r ? least : r, 1};
    if (!bid[i].gram || !bid[i].worth) return pare_nomem(t->c);
  }
  return PARE_OK;
}

static void weigh(PareTuner *t, Bid *bid) {
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    double all = 0;
    pare_eigen_symmetric(PARE_RANK_MOST, bid[i].gram, bid[i].worth, NULL);
    for (int64_t k = 0; k < PARE_RANK_MOST; k++) all += bid[i].worth[k];
    for (int64_t k = 0; k < PARE_RANK_MOST; k++) bid[i].worth[k] = all > 0 ? bid[i].worth[k] / all / (double)bid[i].cost : 0;
  }
}

/* The next rank that is worth anything and can be had for what is left; NULL: none. The first of equals. */
static Bid *best(size_t n, Bid *bid, int64_t left) {
  Bid *found = NULL;
  for (size_t i = 0; i < n; i++) {
    Bid *b = &bid[i];
    if (b->rank >= b->most || b->cost > left || b->worth[b->rank] <= 0) continue;
    if (!found || b->worth[b->rank] > found->worth[found->rank]) found = b;
  }
  return found;
}

static PareStatus share_out(PareTuner *t, Bid *bid) {
  size_t n = t->params.full.at.n;
  int64_t left = 0, *rank = PARE_NEW_N(t->arena, n + 1, int64_t);
  if (!rank) return pare_nomem(t->c);
  for (size_t i = 0; i < n; i++) left += (PARE_UNIFORM_RANK - 1) * bid[i].cost;
  for (Bid *b; (b = best(n, bid, left)); left -= b->cost) b->rank++;
  for (size_t i = 0; i < n; i++) {
    rank[i] = bid[i].rank;
    pare_log(t->c, 1, "rank %lld for '%s'", (long long)rank[i], t->params.full.at.at[i].name);
  }
  return pare_tuner_take_ranks(t, rank);
}

PareStatus pare_tuner_choose_ranks(PareTuner *t) {
  const PareCriterion *criterion = t->spec.criterion;
  Bid *bid = PARE_NEW_N(t->arena, t->params.full.at.n + 1, Bid);
  if (!bid) return pare_nomem(t->c);
  if (!t->schedule.steps) return PARE_OK; /* nothing is tuned */
  PARE_TRY(make_bids(t, bid));
  t->start.rank = PARE_RANK_MOST;
  PARE_TRY(pare_params_start(t->c, &t->start, &t->params));
  t->spec.criterion = pare_criterion_find("loraprune"); /* so that adapters have gradients where nothing is labelled */
  PARE_TRY(pare_tuner_enter_stage(t));
  PARE_TRY(pare_tuner_update_masks(t));
  PARE_TRY(probe(t, bid));
  end_probe(t);
  t->spec.criterion = criterion;
  weigh(t, bid);
  return share_out(t, bid);
}
