/* test_rank.c - quotas, ranking, budgets and the schedule. Truth: METHOD 3's rules,
 * checked by counting and by brute force. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/rng.h"
#include "runtime/rank.h"
#include "runtime/schedule.h"
#include "support.h"

enum { LAYERS = 5, MOST = 24 };

typedef struct Case {
  Fix f;
  PareLayer layer[LAYERS];
  double score[LAYERS][MOST];
  bool keep[LAYERS][MOST];
} Case;

/* Layers of unequal counts, as in networks whose stages differ; the last is of another kind. */
static void start(Case *k, const int64_t *counts) {
  fix_init(&k->f);
  for (size_t i = 0; i < LAYERS; i++) {
    k->layer[i] = (PareLayer){.kind = i == LAYERS - 1, .count = counts[i], .score = k->score[i], .keep = k->keep[i],
                              .cost = 1};
    for (int64_t j = 0; j < counts[i]; j++) {
      k->score[i][j] = pare_rng_uniform(7 + i, (uint64_t)j);
      k->keep[i][j] = true;
    }
  }
}

static int64_t dead_in(const Case *k, size_t i) {
  int64_t n = 0;
  for (int64_t j = 0; j < k->layer[i].count; j++) n += !k->keep[i][j];
  return n;
}

static int64_t dead_of_kind(const Case *k, int kind) {
  int64_t n = 0;
  for (size_t i = 0; i < LAYERS; i++) n += k->layer[i].kind == kind ? dead_in(k, i) : 0;
  return n;
}

/* round(ratio · n), less where one group a layer must stay */
static int64_t wanted(const Case *k, int kind, double ratio) {
  int64_t n = 0, most = 0;
  for (size_t i = 0; i < LAYERS; i++)
    if (k->layer[i].kind == kind) n += k->layer[i].count, most += k->layer[i].count - 1;
  int64_t dead = (int64_t)floor(ratio * (double)n + 0.5);
  return dead < most ? dead : most;
}

static const int64_t UNEQUAL[LAYERS] = {3, 6, 12, 24, 7};

Test(rank, drops_exactly_the_rounded_share_of_every_kind_at_every_ratio) {
  Case k;
  for (int global = 0; global < 2; global++)
    for (int p = 0; p <= 100; p++) {
      double ratio = p / 100.0;
      start(&k, UNEQUAL);
      MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, ratio, ratio, global));
      for (int kind = 0; kind < 2; kind++)
        cr_assert_eq(dead_of_kind(&k, kind), wanted(&k, kind, ratio), "ratio %g, kind %d: %ld dead, not %ld", ratio,
                     kind, (long)dead_of_kind(&k, kind), (long)wanted(&k, kind, ratio));
      for (size_t i = 0; i < LAYERS; i++)
        cr_assert_lt(dead_in(&k, i), k.layer[i].count, "ratio %g: nothing is left of layer %zu", ratio, i);
      fix_free(&k.f);
    }
}

Test(rank, uniform_shares_are_within_one_group_of_the_ratio) {
  Case k;
  for (int p = 0; p <= 80; p++) { /* above, the floor of one group moves shares to other layers */
    double ratio = p / 100.0;
    start(&k, UNEQUAL);
    MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, ratio, ratio, false));
    for (size_t i = 0; i < LAYERS; i++) {
      double share = ratio * (double)k.layer[i].count;
      if (share > (double)k.layer[i].count - 1) continue;
      cr_assert_leq(fabs((double)dead_in(&k, i) - share), 1.0 + 1e-9, "ratio %g, layer %zu: %ld dead for a share of %g",
                    ratio, i, (long)dead_in(&k, i), share);
    }
    fix_free(&k.f);
  }
}

Test(rank, a_rising_ratio_ends_at_its_exact_count_though_shares_may_fall) {
  Case k;
  for (uint64_t seed = 0; seed < 300; seed++) {
    int64_t counts[LAYERS];
    for (size_t i = 0; i < LAYERS; i++) counts[i] = 2 + (int64_t)(pare_rng_u64(seed, i) % (MOST - 1));
    double final = 0.05 + 0.9 * pare_rng_uniform(seed, 99);
    start(&k, counts);
    for (int step = 1; step <= 12; step++)
      MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, final * step / 12, final, false));
    int64_t quota[LAYERS];
    MUST(&k.f, pare_rank_quota(&k.f.c, LAYERS, k.layer, final, quota));
    for (size_t i = 0; i < LAYERS; i++)
      cr_assert_eq(dead_in(&k, i), quota[i], "seed %lu, ratio %g, layer %zu: %ld dead, not %ld", (unsigned long)seed,
                   final, i, (long)dead_in(&k, i), (long)quota[i]);
    fix_free(&k.f);
  }
}

Test(rank, the_lowest_scores_go_and_ties_go_to_the_lower_index) {
  Case k;
  start(&k, UNEQUAL);
  const double score[6] = {0.5, 0.1, 0.3, 0.1, 0.3, 0.9};
  memcpy(k.score[1], score, sizeof score);
  MUST(&k.f, pare_rank_ratio(&k.f.c, 1, k.layer + 1, 0.5, 0.5, false));
  const bool keep[6] = {true, false, false, false, true, true};
  for (int j = 0; j < 6; j++)
    cr_assert_eq(k.keep[1][j], keep[j], "group %d: kept %d, not %d", j, k.keep[1][j], keep[j]);
  fix_free(&k.f);
}

Test(rank, what_is_dead_stays_dead) {
  Case k;
  start(&k, UNEQUAL);
  k.keep[3][5] = k.keep[3][6] = false;
  k.score[3][5] = k.score[3][6] = 1e9;
  MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, 0.5, 0.5, false));
  cr_assert(!k.keep[3][5] && !k.keep[3][6]);
  cr_assert_eq(dead_in(&k, 3), 12, "%ld dead, not 12", (long)dead_in(&k, 3));
  fix_free(&k.f);
}

Test(rank, global_ranking_compares_score_over_cost_across_layers) {
  Case k;
  start(&k, UNEQUAL);
  for (int64_t j = 0; j < 6; j++) k.score[1][j] = 2; /* 2 / 4 */
  for (int64_t j = 0; j < 12; j++) k.score[2][j] = 1; /* 1 / 1 */
  k.layer[1].cost = 4;
  MUST(&k.f, pare_rank_ratio(&k.f.c, 2, k.layer + 1, 4 / 18.0, 4 / 18.0, true));
  cr_assert_eq(dead_in(&k, 1), 4, "%ld dead, not 4", (long)dead_in(&k, 1));
  cr_assert_eq(dead_in(&k, 2), 0, "%ld dead, not 0", (long)dead_in(&k, 2));
  fix_free(&k.f);
}

Test(rank, a_budget_gives_the_smallest_ratio_that_keeps_it) {
  Case k;
  start(&k, UNEQUAL);
  double all = 0, fixed = 40;
  for (size_t i = 0; i < LAYERS; i++) all += (k.layer[i].cost = (double)(1 + i)) * (double)k.layer[i].count;
  for (int p = 30; p < 100; p++) {
    int64_t dead[LAYERS];
    double budget = (all + fixed) * p / 100, ratio, cost = fixed, before = fixed;
    MUST(&k.f, pare_rank_budget(&k.f.c, LAYERS, k.layer, fixed, budget, &ratio));
    MUST(&k.f, pare_rank_quota(&k.f.c, LAYERS, k.layer, ratio, dead));
    for (size_t i = 0; i < LAYERS; i++) cost += k.layer[i].cost * (double)(k.layer[i].count - dead[i]);
    MUST(&k.f, pare_rank_quota(&k.f.c, LAYERS, k.layer, ratio - 1e-9, dead));
    for (size_t i = 0; i < LAYERS; i++) before += k.layer[i].cost * (double)(k.layer[i].count - dead[i]);
    cr_assert_leq(cost, budget, "%d %%: %g is over %g", p, cost, budget);
    cr_assert_gt(before, budget, "%d %%: a smaller ratio keeps %g too", p, budget);
  }
  fix_free(&k.f);
}

/* Brute force: the least number of dead groups, class by class, at which ranking keeps the budget. */
Test(rank, a_global_budget_gives_the_smallest_ratio_that_keeps_it_also_when_some_are_dead) {
  for (int p = 30; p < 100; p++) {
    Case k, less;
    start(&k, UNEQUAL);
    double all = 0, fixed = 40, ratio, cost = fixed, before = fixed;
    for (size_t i = 0; i < LAYERS; i++) all += (k.layer[i].cost = (double)(1 + i)) * (double)k.layer[i].count;
    for (int j = 0; j < p % 3; j++) k.keep[3][2 * j] = k.keep[4][j] = false;
    double budget = (all + fixed) * p / 100;
    MUST(&k.f, pare_rank_budget_global(&k.f.c, LAYERS, k.layer, fixed, budget, &ratio));
    memcpy(&less, &k, sizeof less);
    for (size_t i = 0; i < LAYERS; i++) less.layer[i].score = less.score[i], less.layer[i].keep = less.keep[i];
    MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, ratio, ratio, true));
    for (size_t i = 0; i < LAYERS; i++) cost += k.layer[i].cost * (double)(k.layer[i].count - dead_in(&k, i));
    cr_assert_leq(cost, budget, "%d %%: %g is over %g", p, cost, budget);
    if (ratio > 0) {
      MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, less.layer, ratio - 1e-9, ratio - 1e-9, true));
      for (size_t i = 0; i < LAYERS; i++) before += less.layer[i].cost * (double)(less.layer[i].count - dead_in(&less, i));
      cr_assert(before > budget || before == cost, "%d %%: a smaller ratio keeps %g too", p, budget);
    }
    fix_free(&k.f);
  }
}

static double cost_of(const Case *k, bool dead) {
  double cost = 0;
  for (size_t i = 0; i < LAYERS; i++)
    cost += k->layer[i].cost * (double)(dead ? dead_in(k, i) : k->layer[i].count);
  return cost;
}

Test(rank, floors_keep_their_share_of_every_layer_at_every_ratio_and_ranking) {
  for (int way = 0; way < 3; way++)
    for (int p = 0; p <= 100; p += 5) {
      Case k;
      start(&k, UNEQUAL);
      for (size_t i = 0; i < LAYERS; i++) k.layer[i].least = pare_rank_least(k.layer[i].count, 0.4);
      if (way < 2) MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, p / 100.0, p / 100.0, way));
      else MUST(&k.f, pare_rank_cost(&k.f.c, LAYERS, k.layer, p / 100.0 * cost_of(&k, false), false));
      int64_t most = 0, dead = 0, all = 0;
      for (size_t i = 0; i < LAYERS; i++) {
        int64_t stay = k.layer[i].count - dead_in(&k, i), least = (int64_t)ceil(0.4 * (double)k.layer[i].count);
        cr_assert_geq(stay, least, "%d %%, layer %zu: %ld stay, not %ld", p, i, (long)stay, (long)least);
        most += k.layer[i].count - least, dead += dead_in(&k, i), all += k.layer[i].count;
      }
      if (p == 100) cr_assert_eq(dead, most, "%ld dead, though %ld may go", (long)dead, (long)most);
      fix_free(&k.f);
    }
  cr_assert(pare_rank_least(5, 0.2) == 1 && pare_rank_least(12, 0.1) == 2 && pare_rank_least(7, 0) == 1);
}

/* Brute force: no group that stays is worth less for its cost than one that goes, and the cost is the nearest. */
Test(rank, by_cost_the_least_worth_of_all_kinds_goes_until_the_cost_is_met) {
  for (int p = 1; p <= 80; p++)
    for (int reach = 0; reach < 2; reach++) {
      Case k;
      double highest_dead = 0, lowest_alive = INFINITY, last = 0;
      start(&k, UNEQUAL);
      for (size_t i = 0; i < LAYERS; i++) k.layer[i].cost = (double)(1 + 2 * i);
      double amount = p / 100.0 * cost_of(&k, false);
      MUST(&k.f, pare_rank_cost(&k.f.c, LAYERS, k.layer, amount, reach));
      for (size_t i = 0; i < LAYERS; i++)
        for (int64_t j = 0; j < k.layer[i].count; j++) {
          double worth = k.score[i][j] / k.layer[i].cost;
          bool held = dead_in(&k, i) == k.layer[i].count - 1; /* by the floor */
          if (!k.keep[i][j] && worth > highest_dead) highest_dead = worth, last = k.layer[i].cost;
          if (k.keep[i][j] && !held) lowest_alive = fmin(lowest_alive, worth);
        }
      double gone = cost_of(&k, true), over = gone - amount;
      cr_assert_leq(highest_dead, lowest_alive, "%d %%: %g went and %g stays", p, highest_dead, lowest_alive);
      cr_assert(reach ? over >= 0 && over < last : fabs(over) <= 9 / 2.0, "%d %%: %g went, not %g", p, gone, amount);
      fix_free(&k.f);
    }
}

Test(rank, a_budget_below_one_group_a_layer_is_refused_and_says_what_can_be_reached) {
  Case k;
  double ratio;
  start(&k, UNEQUAL);
  cr_assert_eq(pare_rank_budget(&k.f.c, LAYERS, k.layer, 10, 14.9, &ratio), PARE_TARGET); /* 10 + 5 */
  cr_assert_eq(pare_rank_budget_global(&k.f.c, LAYERS, k.layer, 10, 14.9, &ratio), PARE_TARGET);
  cr_assert(strstr(fix_why(&k.f), "at least 15 would be left"), "%s", fix_why(&k.f));
  fix_free(&k.f);
}

/* --- schedule --- */

Test(schedule, mu_rises_over_its_share_of_the_steps) {
  cr_assert_eq(pare_schedule_ramp(0, 100, 0), 1, "without a ramp it is whole at once");
  cr_assert_eq(pare_schedule_ramp(0, 100, 0.5), 0);
  cr_assert_float_eq(pare_schedule_ramp(10, 100, 0.5), 0.2, 1e-15);
  cr_assert_eq(pare_schedule_ramp(50, 100, 0.5), 1);
  cr_assert_eq(pare_schedule_ramp(99, 100, 0.5), 1);
}

Test(schedule, follows_the_cubic_of_the_paper) {
  PareSchedule s = {.steps = 200, .prune_every = 10, .warmup = 0.1, .cooldown = 0.1};
  for (int64_t t = 0; t <= 200; t++) {
    double want = t < 20 ? 0 : t >= 180 ? 1 : 1 - pow(1 - (double)(t - 20) / 160, 3);
    cr_assert_float_eq(pare_schedule_sparsity(&s, t), want, 1e-12, "step %ld: %g, not %g", (long)t,
                       pare_schedule_sparsity(&s, t), want);
  }
}

Test(schedule, prunes_at_the_final_ratio_exactly_once_and_last_at_any_number_of_steps) {
  for (int64_t steps = 1; steps <= 60; steps++)
    for (int every = 1; every <= 20; every += 19)
      for (int share = 0; share <= 10; share++)
        for (int cool = 0; cool <= 10 - share; cool++) {
          PareSchedule s = {.steps = steps, .prune_every = every, .warmup = share / 10.0, .cooldown = cool / 10.0,
                            .curve = (PareCurve)(steps % 2)};
          int final = 0;
          double before = 0;
          for (int64_t t = 0; t <= steps; t++) {
            if (!pare_schedule_prunes(&s, t)) continue;
            double now = pare_schedule_sparsity(&s, t);
            cr_assert(t > 0, "steps %ld, warm-up %d: a prune before any score", (long)steps, share);
            cr_assert_geq(now, before, "steps %ld: sparsity falls at %ld", (long)steps, (long)t);
            cr_assert_eq(pare_schedule_over(&s, t), now == 1, "steps %ld, step %ld", (long)steps, (long)t);
            cr_assert_eq(final, 0, "steps %ld: a prune at %ld, behind the last", (long)steps, (long)t);
            final += now == 1;
            before = now;
          }
          cr_assert_eq(final, 1, "steps %ld, every %d, warm-up %d, cool-down %d: %d prunes at the final ratio",
                       (long)steps, every, share, cool, final);
        }
}

Test(schedule, linear_is_a_straight_line) {
  PareSchedule s = {.steps = 200, .prune_every = 10, .warmup = 0.1, .cooldown = 0.1, .curve = PARE_CURVE_LINEAR};
  for (int64_t t = 0; t <= 200; t++) {
    double want = fmin(fmax((double)(t - 20) / 160, 0), 1), got = pare_schedule_sparsity(&s, t);
    cr_assert_float_eq(got, want, 1e-12, "step %ld: %g, not %g", (long)t, got, want);
  }
}

Test(schedule, one_shots_prune_once_at_the_start_or_where_the_cool_down_begins) {
  for (int64_t steps = 1; steps <= 60; steps++)
    for (int cool = 0; cool <= 10; cool++)
      for (int late = 0; late < 2; late++) {
        PareSchedule s = {.steps = steps, .prune_every = 1, .warmup = 0.1, .cooldown = cool / 10.0,
                          .kind = late ? PARE_TUNE_THEN_ONE_SHOT : PARE_ONE_SHOT};
        int64_t at = late ? steps - (int64_t)floor(cool / 10.0 * (double)steps) : 0;
        for (int64_t t = 0; t <= steps; t++) {
          cr_assert_eq(pare_schedule_prunes(&s, t), t == at, "steps %ld, cool-down %d, step %ld", (long)steps, cool, (long)t);
          cr_assert_eq(pare_schedule_sparsity(&s, t), t >= at, "steps %ld, cool-down %d, step %ld", (long)steps, cool, (long)t);
        }
      }
}

Test(schedule, the_rate_rises_to_one_and_falls_to_zero) {
  for (int d = 0; d < 2; d++) {
    PareDecay decay = d ? PARE_DECAY_COSINE : PARE_DECAY_LINEAR;
    double before = 0;
    for (int64_t t = 0; t < 5; t++) {
      double r = pare_schedule_rate(t, 100, 0.05, decay);
      cr_assert(r > before && r <= 1, "step %ld: %g after %g", (long)t, r, before);
      before = r;
    }
    for (int64_t t = 5; t < 100; t++) {
      double r = pare_schedule_rate(t, 100, 0.05, decay);
      cr_assert(r <= before && r > 0, "step %ld: %g after %g", (long)t, r, before);
      before = r;
    }
    cr_assert_lt(before, 0.02);
  }
  cr_assert_float_eq(pare_schedule_rate(0, 1, 0, PARE_DECAY_LINEAR), 1, 1e-12);
}
