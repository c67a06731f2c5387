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

/* However far that is under the budget. */
static PareStatus common_ratio(Case *k, bool global, double fixed, double budget, double *ratio) {
  PareBudget b = {fixed, budget, INFINITY};
  double of[LAYERS] = {0};
  PareStatus s = global ? pare_rank_budget_global(&k->f.c, LAYERS, k->layer, &b, of)
                        : pare_rank_budget(&k->f.c, LAYERS, k->layer, &b, of);
  for (size_t i = 1; i < LAYERS && s == PARE_OK; i++) cr_assert_eq(of[i], of[0], "the ratios are not one");
  *ratio = of[0];
  return s;
}

Test(rank, a_budget_gives_the_smallest_ratio_that_keeps_it) {
  Case k;
  start(&k, UNEQUAL);
  double all = 0, fixed = 40;
  for (size_t i = 0; i < LAYERS; i++) all += (k.layer[i].cost = (double)(1 + i)) * (double)k.layer[i].count;
  for (int p = 30; p < 100; p++) {
    int64_t dead[LAYERS];
    double budget = (all + fixed) * p / 100, ratio, cost = fixed, before = fixed;
    MUST(&k.f, common_ratio(&k, false, fixed, budget, &ratio));
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
    MUST(&k.f, common_ratio(&k, true, fixed, budget, &ratio));
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
      else MUST(&k.f, pare_rank_cost(&k.f.c, LAYERS, k.layer, p / 100.0 * cost_of(&k, false)));
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
      if (reach) MUST(&k.f, pare_rank_cost_reach(&k.f.c, LAYERS, k.layer, amount, amount, INFINITY));
      else MUST(&k.f, pare_rank_cost(&k.f.c, LAYERS, k.layer, amount));
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

/* Heads that cost much beside channels that cost little. */
static const int64_t COARSE[LAYERS] = {3, 2, 4, 3, 24};
static void start_coarse(Case *k, int seed) {
  start(k, COARSE);
  for (size_t i = 0; i < LAYERS; i++) k->layer[i].cost = 10 + (double)((seed * 7 + (int)i * 5) % 10);
  k->layer[LAYERS - 1].cost = 1;
  for (size_t i = 0; i < LAYERS; i++)
    for (int64_t j = 0; j < k->layer[i].count; j++)
      k->score[i][j] = pare_rng_uniform(100 * (uint64_t)seed + i, (uint64_t)j) * k->layer[i].cost;
}

/* More than a channel too much has gone only where the channels that are left are fewer than what was lacking. */
Test(rank, by_cost_a_group_that_is_too_much_is_passed_over_where_others_do) {
  for (int p = 1; p < 400; p++) {
    Case k, plain;
    start_coarse(&k, p);
    start_coarse(&plain, p);
    double amount = (p % 60 + 1) / 100.0 * cost_of(&k, false);
    MUST(&k.f, pare_rank_cost_reach(&k.f.c, LAYERS, k.layer, amount, amount, 0.5));
    MUST(&plain.f, pare_rank_cost_reach(&plain.f.c, LAYERS, plain.layer, amount, amount, INFINITY));
    double over = cost_of(&k, true) - amount, was = cost_of(&plain, true) - amount;
    cr_assert(over >= 0 && over <= was, "%d: %g over, %g before", p, over, was);
    if (was <= 0.5)
      for (size_t i = 0; i < LAYERS; i++) cr_assert_arr_eq(k.keep[i], plain.keep[i], (size_t)COARSE[i] * sizeof(bool));
    double channels = (double)(COARSE[LAYERS - 1] - dead_in(&k, LAYERS - 1) - 1), last = 0;
    for (size_t i = 0; i < LAYERS - 1; i++) last = dead_in(&k, i) ? fmax(last, k.layer[i].cost) : last;
    cr_assert(over < 1 || channels < last - over, "%d: %g over, though %g channels could go", p, over, channels);
    fix_free(&k.f);
    fix_free(&plain.f);
  }
}

/* What goes on the way to the end leaves room for it: at any number of prunes the end is as near. */
Test(rank, by_cost_what_goes_in_several_prunes_ends_as_near) {
  for (int p = 1; p < 60; p++) {
    Case k;
    start_coarse(&k, p);
    double amount = p / 100.0 * cost_of(&k, false), slack = 2;
    for (int step = 1; step <= 8; step++)
      MUST(&k.f, pare_rank_cost_reach(&k.f.c, LAYERS, k.layer, step / 8.0 * amount, amount, slack));
    Case once;
    start_coarse(&once, p);
    MUST(&once.f, pare_rank_cost_reach(&once.f.c, LAYERS, once.layer, amount, amount, slack));
    double over = cost_of(&k, true) - amount, want = cost_of(&once, true) - amount;
    cr_assert(over >= 0 && over <= fmax(want, slack), "%d %%: %g over in eight prunes, %g in one", p, over, want);
    fix_free(&k.f);
    fix_free(&once.f);
  }
}

static double left_at(const Case *k, double fixed, const double *ratio, bool global) {
  double cost = fixed;
  Case x = *k;
  for (size_t i = 0; i < LAYERS; i++) x.layer[i].score = x.score[i], x.layer[i].keep = x.keep[i];
  for (size_t i = 0; i < LAYERS; i++) { /* kinds one by one: each has its own */
    if (i && x.layer[i].kind == x.layer[i - 1].kind) continue;
    size_t n = x.layer[i].kind ? 1 : LAYERS - 1;
    MUST(&x.f, pare_rank_ratio(&x.f.c, n, x.layer + i, ratio[i], ratio[i], global));
  }
  for (size_t i = 0; i < LAYERS; i++) cost += x.layer[i].cost * (double)(x.layer[i].count - dead_in(&x, i));
  return cost;
}

/* Of the ratio that both kinds share and what a budget makes of it when that is not near. */
Test(rank, a_budget_that_one_ratio_misses_is_met_by_one_a_kind) {
  int within = 0, all = 0;
  for (int global = 0; global < 2; global++)
    for (int p = 50; p < 100; p++) { /* 45 % is less than the floors cost */
      Case k;
      double one, of[LAYERS], fixed = 40;
      start_coarse(&k, p);
      double budget = (cost_of(&k, false) + fixed) * p / 100;
      MUST(&k.f, common_ratio(&k, global, fixed, budget, &one));
      PareBudget b = {fixed, budget, 3};
      MUST(&k.f, global ? pare_rank_budget_global(&k.f.c, LAYERS, k.layer, &b, of)
                        : pare_rank_budget(&k.f.c, LAYERS, k.layer, &b, of));
      double plain = left_at(&k, fixed, (double[LAYERS]){one, one, one, one, one}, global);
      double left = left_at(&k, fixed, of, global);
      cr_assert(left <= budget && left >= plain, "%d %%: %g is left, %g by one ratio, %g may be", p, left, plain,
                budget);
      if (budget - plain <= 3) cr_assert_eq(of[LAYERS - 1], one, "%d %%: was near", p);
      within += budget - left <= 3;
      all++;
      fix_free(&k.f);
    }
  cr_expect_gt(within, 9 * all / 10, "%d of %d are near", within, all);
}

Test(rank, a_budget_below_one_group_a_layer_is_refused_and_says_what_can_be_reached) {
  Case k;
  double ratio;
  start(&k, UNEQUAL);
  cr_assert_eq(common_ratio(&k, false, 10, 14.9, &ratio), PARE_TARGET); /* 10 + 5 */
  cr_assert_eq(common_ratio(&k, true, 10, 14.9, &ratio), PARE_TARGET);
  cr_assert(strstr(fix_why(&k.f), "at least 15 would be left"), "%s", fix_why(&k.f));
  fix_free(&k.f);
}

/* --- multiples --- */

static const int64_t EVEN[LAYERS] = {8, 16, 24, 24, 12};

/* The least number of dead groups, at least `wanted`, when layer i keeps a multiple of m[i] and m[i] at least: by trying
 * every number of blocks of every layer. */
static int64_t fewest_dead(size_t n, const int64_t *count, const int64_t *m, int64_t wanted) {
  int64_t best = INT64_MAX, blocks[LAYERS] = {0};
  for (;;) {
    int64_t dead = 0;
    for (size_t i = 0; i < n; i++) dead += count[i] % m[i] + blocks[i] * m[i];
    if (dead >= wanted && dead < best) best = dead;
    size_t i = 0;
    while (i < n && ++blocks[i] > count[i] / m[i] - 1) blocks[i++] = 0;
    if (i == n) return best;
  }
}

Test(rank, kept_sizes_are_multiples_and_at_least_the_share_goes_by_less_than_a_block_more) {
  static const int64_t multiple[3] = {1, 4, 8};
  for (int way = 0; way < 3; way++)
    for (int p = 0; p <= 100; p += 2)
      for (int m = 0; m < 3; m++) {
        Case k;
        start(&k, EVEN);
        for (size_t i = 0; i < LAYERS; i++) k.layer[i].multiple = multiple[m];
        double ratio = p / 100.0, amount = ratio * 84;
        if (way < 2) MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, ratio, ratio, way));
        else MUST(&k.f, pare_rank_cost_reach(&k.f.c, LAYERS, k.layer, amount, amount, INFINITY));
        int64_t dead = 0, most[2] = {0};
        for (size_t i = 0; i < LAYERS; i++) {
          int64_t stay = EVEN[i] - dead_in(&k, i);
          cr_assert(stay > 0 && stay % multiple[m] == 0, "way %d, %d %%: %ld of layer %zu stay, no multiple of %ld", way, p,
                    (long)stay, i, (long)multiple[m]);
          dead += dead_in(&k, i);
          most[k.layer[i].kind] += EVEN[i] - multiple[m];
        }
        int64_t want = 0, all = (int64_t)ceil(amount - 1e-9), over = 12 % multiple[m];
        for (int kind = 0; kind < 2; kind++)
          want += wanted(&k, kind, ratio) < most[kind] ? wanted(&k, kind, ratio) : most[kind];
        if (way == 2) want = all < most[0] + most[1] ? all : most[0] + most[1];
        cr_assert(dead >= want && dead <= want + 2 * (multiple[m] - 1) + over, /* a block of each kind */
                  "way %d, %d %%, multiples of %ld: %ld dead, %ld wanted", way, p, (long)multiple[m], (long)dead, (long)want);
        fix_free(&k.f);
      }
}

/* Brute force over all numbers of blocks, layers of one kind having multiples of their own. */
Test(rank, uniform_quotas_in_blocks_are_the_fewest_that_reach_the_share_when_multiples_are_alike) {
  static const int64_t count[3] = {12, 20, 32}, multiple[3] = {4, 4, 4};
  for (int p = 0; p <= 100; p++) {
    Case k;
    int64_t dead[3], sum = 0, quota = (int64_t)floor(p / 100.0 * 64 + 0.5);
    start(&k, UNEQUAL);
    for (size_t i = 0; i < 3; i++) k.layer[i].kind = 0, k.layer[i].count = count[i], k.layer[i].multiple = multiple[i];
    MUST(&k.f, pare_rank_quota(&k.f.c, 3, k.layer, p / 100.0, dead));
    for (size_t i = 0; i < 3; i++) sum += dead[i];
    int64_t want = fewest_dead(3, count, multiple, quota < 52 ? quota : 52);
    cr_assert_eq(sum, want, "%d %%: %ld dead, not %ld", p, (long)sum, (long)want);
    fix_free(&k.f);
  }
}

Test(rank, a_layer_that_has_no_such_multiple_keeps_what_the_scores_say) {
  Case k;
  start(&k, UNEQUAL); /* 3, 6, 12, 24; 7 */
  for (size_t i = 0; i < LAYERS; i++) k.layer[i].multiple = 8;
  k.layer[2].least = 10; /* no multiple of 8 between 10 and 12 */
  MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, 0.5, 0.5, true));
  cr_assert_eq((24 - dead_in(&k, 3)) % 8, 0, "%ld of 24 stay", (long)(24 - dead_in(&k, 3)));
  cr_assert_eq(dead_in(&k, 4), 4, "%ld of 7 went, not round(3.5)", (long)dead_in(&k, 4));
  cr_assert_leq(dead_in(&k, 2), 2, "%ld of layer 2 went", (long)dead_in(&k, 2));
  fix_free(&k.f);
}

Test(rank, what_is_over_a_multiple_always_goes_and_the_lowest_scores_first) {
  Case k;
  start(&k, UNEQUAL);
  k.layer[1].multiple = 4; /* 6: two are too many */
  const double score[6] = {0.5, 0.1, 0.3, 0.2, 0.4, 0.9};
  memcpy(k.score[1], score, sizeof score);
  MUST(&k.f, pare_rank_ratio(&k.f.c, 1, k.layer + 1, 0, 0, true));
  for (int j = 0; j < 6; j++) cr_assert_eq(k.keep[1][j], j != 1 && j != 3, "group %d: kept %d", j, k.keep[1][j]);
  fix_free(&k.f);
}

/* Blocks are worth the mean of their groups: by hand, two layers of four in blocks of two. */
Test(rank, blocks_go_by_the_mean_of_their_scores) {
  Case k;
  static const int64_t fours[LAYERS] = {4, 4, 4, 4, 4};
  start(&k, fours);
  const double a[4] = {1, 9, 1, 9}, b[4] = {0, 3, 8, 8}; /* pairs of 1 and 9; of 1.5 and 8 */
  memcpy(k.score[0], a, sizeof a);
  memcpy(k.score[1], b, sizeof b);
  for (size_t i = 0; i < 2; i++) k.layer[i].multiple = 2;
  MUST(&k.f, pare_rank_ratio(&k.f.c, 2, k.layer, 0.25, 0.25, true));
  cr_assert(!k.keep[0][0] && !k.keep[0][2] && dead_in(&k, 1) == 0, "not the pair of mean 1");
  MUST(&k.f, pare_rank_ratio(&k.f.c, 2, k.layer, 0.5, 0.5, true));
  cr_assert(!k.keep[1][0] && !k.keep[1][1] && dead_in(&k, 0) == 2, "not the pair of mean 1.5");
  fix_free(&k.f);
}

Test(rank, budgets_are_kept_in_blocks_too) {
  for (int global = 0; global < 2; global++)
    for (int p = 41; p < 100; p++) { /* 40 % is less than the floors cost */
      Case k;
      start(&k, EVEN);
      double all = 0, fixed = 40, ratio, cost = fixed;
      for (size_t i = 0; i < LAYERS; i++) {
        k.layer[i].multiple = i % 2 ? 8 : 4;
        all += (k.layer[i].cost = (double)(1 + i)) * (double)EVEN[i];
      }
      double budget = (all + fixed) * p / 100;
      if (global) MUST(&k.f, common_ratio(&k, true, fixed, budget, &ratio));
      else MUST(&k.f, common_ratio(&k, false, fixed, budget, &ratio));
      MUST(&k.f, pare_rank_ratio(&k.f.c, LAYERS, k.layer, ratio, ratio, global));
      for (size_t i = 0; i < LAYERS; i++) cost += k.layer[i].cost * (double)(EVEN[i] - dead_in(&k, i));
      cr_assert_leq(cost, budget, "global %d, %d %%: %g is over %g", global, p, cost, budget);
      fix_free(&k.f);
    }
}

/* --- costs that are curves --- */

/* Times fall in steps of four, as with a kernel that works four at a time. */
static void stairs(int64_t count, double each, double *curve) {
  for (int64_t k = 0; k <= count; k++) curve[k] = each * (double)((k + 3) / 4 * 4);
}

Test(rank, a_straight_curve_ranks_as_a_cost_does) {
  for (int p = 1; p <= 80; p++) {
    Case a, b;
    double curve[LAYERS][MOST + 1], amount = 0;
    start(&a, UNEQUAL);
    start(&b, UNEQUAL);
    for (size_t i = 0; i < LAYERS; i++) {
      a.layer[i].cost = b.layer[i].cost = (double)(1 + 2 * i);
      for (int64_t k = 0; k <= UNEQUAL[i]; k++) curve[i][k] = 5 + a.layer[i].cost * (double)k;
      b.layer[i].curve = curve[i];
      amount += p / 100.0 * a.layer[i].cost * (double)UNEQUAL[i];
    }
    MUST(&a.f, pare_rank_cost_reach(&a.f.c, LAYERS, a.layer, amount, amount, INFINITY));
    MUST(&b.f, pare_rank_curve(&b.f.c, LAYERS, b.layer, amount));
    int64_t last = 0;
    for (size_t i = 0; i < LAYERS; i++) /* the last to go may be cheaper where more is saved than has to be */
      for (int64_t j = 0; j < UNEQUAL[i]; j++) last += a.keep[i][j] != b.keep[i][j];
    cr_assert_leq(last, 2, "%d %%: %ld groups differ", p, (long)last);
    fix_free(&a.f);
    fix_free(&b.f);
  }
}

/* Brute force: of all sizes of three layers that save enough, the one that loses the least score. */
Test(rank, by_curves_no_choice_of_sizes_saves_what_is_saved_for_a_lower_score) {
  static const int64_t count[3] = {9, 13, 16};
  for (uint64_t seed = 0; seed < 200; seed++) {
    Case k;
    double curve[3][MOST + 1], lost[3][MOST + 1], all = 0, saved = 0, loss = 0, best = INFINITY;
    start(&k, UNEQUAL);
    for (size_t i = 0; i < 3; i++) {
      k.layer[i].count = count[i], k.layer[i].curve = curve[i];
      double score[MOST];
      for (int64_t j = 0; j < count[i]; j++) score[j] = k.score[i][j] = pare_rng_uniform(seed, 100 * i + (uint64_t)j), k.keep[i][j] = true;
      stairs(count[i], 1 + 3 * pare_rng_uniform(seed, 999 + i), curve[i]);
      all += curve[i][count[i]] - curve[i][1];
      lost[i][0] = 0;
      for (int64_t n = 0; n < count[i]; n++) { /* the lowest n + 1 */
        int64_t low = 0;
        for (int64_t j = 1; j < count[i]; j++) low = score[j] < score[low] ? j : low;
        lost[i][n + 1] = lost[i][n] + score[low], score[low] = INFINITY;
      }
    }
    double amount = all * (0.1 + 0.8 * pare_rng_uniform(seed, 7));
    MUST(&k.f, pare_rank_curve(&k.f.c, 3, k.layer, amount));
    for (size_t i = 0; i < 3; i++)
      saved += curve[i][count[i]] - curve[i][count[i] - dead_in(&k, i)], loss += lost[i][dead_in(&k, i)];
    for (int64_t a = 0; a < count[0]; a++)
      for (int64_t b = 0; b < count[1]; b++)
        for (int64_t c = 0; c < count[2]; c++) {
          double s = curve[0][9] - curve[0][9 - a] + curve[1][13] - curve[1][13 - b] + curve[2][16] - curve[2][16 - c];
          if (s >= saved - 1e-9) best = fmin(best, lost[0][a] + lost[1][b] + lost[2][c]);
        }
    cr_assert_geq(saved, amount - 1e-9, "seed %lu: %g is saved, not %g", (unsigned long)seed, saved, amount);
    /* the last step may leave the hull, where the optimum has a gap: it stays within a step's loss */
    cr_assert_leq(loss, best + 4, "seed %lu: %g is lost, %g would do", (unsigned long)seed, loss, best);
    fix_free(&k.f);
  }
}

Test(rank, by_curves_sizes_end_where_the_time_falls) {
  Case k;
  double curve[2][MOST + 1];
  static const int64_t two[LAYERS] = {16, 16, 1, 1, 1};
  start(&k, two);
  for (size_t i = 0; i < 2; i++) stairs(16, 1, curve[i]), k.layer[i].curve = curve[i];
  for (double amount = 1; amount <= 24; amount++) {
    MUST(&k.f, pare_rank_curve(&k.f.c, 2, k.layer, amount));
    double saved = 0;
    for (size_t i = 0; i < 2; i++) {
      int64_t stay = 16 - dead_in(&k, i);
      cr_assert_eq(stay % 4, 0, "%g ms: %ld stay, though no time is saved before a multiple of 4", amount, (long)stay);
      saved += 16 - curve[i][stay];
    }
    cr_assert_eq(saved, ceil(amount / 4) * 4, "%g ms asked for, %g saved", amount, saved);
  }
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

Test(schedule, by_itself_it_prunes_from_a_tenth_to_a_half_and_of_many_steps_the_longer_the_more_goes) {
  static const struct {
    double share;
    int64_t steps, first, last;
    bool learns;
  } cases[] = {{0.5, 1, 0, 1, 0},        {0.5, 10, 1, 5, 0},       {0.5, 300, 30, 150, 0},     {0.5, 399, 40, 200, 0},
               {0.5, 400, 40, 200, 0},   {0.5, 401, 40, 200, 0},   {0.5, 100000, 40, 200, 0},  {0.25, 1800, 20, 100, 0},
               {0.75, 599, 60, 300, 0},  {0.75, 1800, 60, 300, 0}, {0.9, 1800, 60, 300, 0},    {1, 100000, 60, 300, 0},
               {0.5, 300, 30, 150, 1},   {0.5, 100000, 10000, 50000, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t steps = cases[i].steps, first = -1, last = -1;
    PareSchedule s = {.steps = steps, .prune_every = 1, .warmup = -1, .cooldown = -1, .share = cases[i].share,
                      .learns = cases[i].learns};
    for (int64_t t = 0; t <= steps; t++) {
      if (pare_schedule_sparsity(&s, t) == 0) first = t;
      if (pare_schedule_prunes(&s, t)) last = t;
    }
    cr_assert(first == cases[i].first && last == cases[i].last, "%g of all in %ld steps: %ld to %ld, not %ld to %ld",
              s.share, (long)steps, (long)first, (long)last, (long)cases[i].first, (long)cases[i].last);
    s.kind = PARE_TUNE_THEN_ONE_SHOT;
    cr_assert_eq(pare_schedule_prunes(&s, steps - steps / 2), true, "%ld steps: half of them are tuned with all", (long)steps);
  }
}

Test(schedule, a_share_that_is_given_bounds_the_one_that_is_not) {
  PareSchedule early = {.steps = 1000, .prune_every = 10, .warmup = -1, .cooldown = 0.98, .share = 1};
  PareSchedule late = {.steps = 1000, .prune_every = 10, .warmup = 0.7, .cooldown = -1, .share = 1};
  cr_assert_eq(pare_schedule_over(&early, 19), false);
  cr_assert_eq(pare_schedule_over(&early, 20), true, "a cool-down of 980 steps is kept to");
  cr_assert_eq(pare_schedule_over(&late, 699), false, "a warm-up of 700 steps is kept to");
  cr_assert_eq(pare_schedule_over(&late, 700), true);
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
