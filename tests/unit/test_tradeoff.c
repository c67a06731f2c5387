/* test_tradeoff.c - what to give up where. Truth: Everett's theorem, checked by trying every choice, and closed forms. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/rng.h"
#include "runtime/split.h"
#include "runtime/tradeoff.h"
#include "support.h"

enum { TRADES = 3, POINTS = 7 };

typedef struct Case {
  Fix f;
  double gain[TRADES][POINTS], loss[TRADES][POINTS];
  PareTrade trade[TRADES];
} Case;

/* Losses and gains that need not rise, as noise makes them. */
static void start(Case *k, uint64_t seed) {
  fix_init(&k->f);
  for (size_t i = 0; i < TRADES; i++) {
    for (size_t j = 1; j < POINTS; j++) {
      uint64_t at = 100 * i + j;
      k->gain[i][j] = (double)j + 2 * pare_rng_uniform(seed, at) - 1;
      k->loss[i][j] = 0.1 * (double)(j * j) + 2 * pare_rng_uniform(seed + 1, at) - 0.5;
    }
    k->gain[i][0] = k->loss[i][0] = 0;
    k->trade[i] = (PareTrade){POINTS, k->gain[i], k->loss[i], 0};
  }
}

static void sum(const Case *k, double *gain, double *loss) {
  *gain = *loss = 0;
  for (size_t i = 0; i < TRADES; i++) *gain += k->gain[i][k->trade[i].chosen], *loss += k->loss[i][k->trade[i].chosen];
}

/* The least loss of all choices that gain so much. */
static double least_loss(const Case *k, double amount) {
  double best = INFINITY;
  for (size_t a = 0; a < POINTS; a++)
    for (size_t b = 0; b < POINTS; b++)
      for (size_t c = 0; c < POINTS; c++)
        if (k->gain[0][a] + k->gain[1][b] + k->gain[2][c] >= amount - 1e-9)
          best = fmin(best, k->loss[0][a] + k->loss[1][b] + k->loss[2][c]);
  return best;
}

Test(tradeoff, what_is_asked_for_is_gained_wherever_that_is_possible) {
  Case k;
  for (uint64_t seed = 0; seed < 300; seed++) {
    double gain, loss, most = 0;
    start(&k, 2 * seed);
    for (size_t i = 0; i < TRADES; i++) {
      double high = 0;
      for (size_t j = 0; j < POINTS; j++) high = fmax(high, k.gain[i][j]);
      most += high;
    }
    double amount = 1.2 * most * pare_rng_uniform(seed, 5000);
    MUST(&k.f, pare_trade_off(&k.f.c, TRADES, k.trade, amount));
    sum(&k, &gain, &loss);
    cr_assert_geq(gain, fmin(amount, most) - 1e-9, "seed %lu: %g gained, %g asked for, %g possible", (unsigned long)seed,
                  gain, amount, most);
    fix_free(&k.f);
  }
}

/* Every trade at the point that minimises loss - slope·gain: no choice gains as much for less (Everett 1963). */
Test(tradeoff, at_the_gain_of_any_slope_no_choice_loses_less) {
  Case k;
  int seen = 0;
  for (uint64_t seed = 0; seed < 300; seed++) {
    double slope = 0.05 + pare_rng_uniform(seed, 6000), amount = 0, gain, loss;
    start(&k, 2 * seed);
    for (size_t i = 0; i < TRADES; i++) {
      size_t best = 0;
      for (size_t j = 1; j < POINTS; j++)
        if (k.loss[i][j] - slope * k.gain[i][j] < k.loss[i][best] - slope * k.gain[i][best]) best = j;
      amount += k.gain[i][best];
    }
    MUST(&k.f, pare_trade_off(&k.f.c, TRADES, k.trade, amount));
    sum(&k, &gain, &loss);
    fix_free(&k.f);
    if (amount == 0) continue;
    seen++;
    cr_assert_float_eq(loss, least_loss(&k, amount), 1e-9, "seed %lu: %g is lost, %g would do", (unsigned long)seed, loss,
                       least_loss(&k, amount));
  }
  cr_assert_gt(seen, 200, "only %d amounts were tried", seen);
}

Test(tradeoff, the_last_step_ends_at_the_cheapest_point_that_is_enough) {
  Case k;
  start(&k, 0);
  const double gain[4] = {0, 1, 2, 10}, loss[4] = {0, 5, 8, 20}; /* the hull goes from 0 to 10 at once: 2 a unit */
  PareTrade t = {4, gain, loss, 0};
  static const struct { double amount; size_t point; } want[] = {{0, 0}, {0.5, 1}, {1, 1}, {1.5, 2}, {3, 3}, {99, 3}};
  for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
    MUST(&k.f, pare_trade_off(&k.f.c, 1, &t, want[i].amount));
    cr_assert_eq(t.chosen, want[i].point, "%g asked for: point %zu, not %zu", want[i].amount, t.chosen, want[i].point);
  }
  fix_free(&k.f);
}

/* --- splitting a budget by loss curves --- */

enum { KNOTS = 17 };

/* loss = w·gone², a point for every group: the marginal loss is w·(2·gone + 1). */
static void quadratic(double w, int64_t *gone, double *loss, PareLossCurve *out) {
  for (int64_t k = 0; k < KNOTS; k++) gone[k] = k, loss[k] = w * (double)(k * k);
  *out = (PareLossCurve){KNOTS, gone, loss};
}

Test(split, takes_from_each_layer_at_the_same_marginal_loss) {
  Fix f;
  static const double w[3] = {1, 2, 4};
  int64_t gone[3][KNOTS], dead[3];
  double loss[3][KNOTS];
  PareLossCurve curve[3];
  PareLayer layer[3];
  fix_init(&f);
  for (int i = 0; i < 3; i++) {
    quadratic(w[i], gone[i], loss[i], &curve[i]);
    layer[i] = (PareLayer){.kind = 0, .count = 16};
  }
  for (int total = 1; total <= 27; total++) { /* beyond, the first layer's floor of one group decides */
    MUST(&f, pare_split_by_loss(&f.c, 3, layer, curve, (double[]){total / 48.0}, dead));
    int64_t sum = dead[0] + dead[1] + dead[2];
    cr_assert_eq(sum, total, "%ld gone, not %d", (long)sum, total);
    double last = 0, next = INFINITY;
    for (int i = 0; i < 3; i++) {
      if (dead[i] > 0) last = fmax(last, w[i] * (double)(2 * dead[i] - 1));
      next = fmin(next, w[i] * (double)(2 * dead[i] + 1));
    }
    cr_assert_leq(last, next, "total %d: a group went that cost %g, one that costs %g stays", total, last, next);
  }
  fix_free(&f);
}

Test(split, lets_no_more_go_than_is_asked_for_where_chance_makes_more_look_cheaper) {
  Fix f;
  int64_t gone[3][KNOTS], dead[3];
  double loss[3][KNOTS];
  PareLossCurve curve[3];
  PareLayer layer[3];
  fix_init(&f);
  for (uint64_t seed = 0; seed < 50; seed++) {
    for (int i = 0; i < 3; i++) {
      quadratic(1 + i, gone[i], loss[i], &curve[i]);
      for (uint64_t k = 1; k < KNOTS; k++) loss[i][k] = 0.1 * loss[i][k] + 20 * pare_rng_uniform(seed, 100 * (uint64_t)i + k) - 10;
      layer[i] = (PareLayer){.kind = 0, .count = 16};
    }
    for (int total = 0; total <= 45; total++) {
      MUST(&f, pare_split_by_loss(&f.c, 3, layer, curve, (double[]){total / 48.0}, dead));
      int64_t sum = dead[0] + dead[1] + dead[2];
      cr_assert_eq(sum, total, "seed %d: %ld gone, not %d", (int)seed, (long)sum, total);
    }
  }
  fix_free(&f);
}

Test(split, keeps_multiples_floors_and_classes_apart) {
  Fix f;
  int64_t gone[4][KNOTS], dead[4];
  double loss[4][KNOTS];
  PareLossCurve curve[4];
  PareLayer layer[4];
  fix_init(&f);
  for (int i = 0; i < 4; i++) {
    quadratic(1 + i, gone[i], loss[i], &curve[i]);
    layer[i] = (PareLayer){.kind = i / 2, .count = 16, .multiple = i < 2 ? 4 : 1, .least = i == 2 ? 14 : 0};
  }
  for (int p = 0; p <= 100; p += 5) {
    const double ratio[] = {p / 100.0, (p + 20) % 100 / 100.0}; /* each class has its own */
    MUST(&f, pare_split_by_loss(&f.c, 4, layer, curve, ratio, dead));
    int64_t want = (int64_t)floor(ratio[0] * 32 + 0.5), other = (int64_t)floor(ratio[1] * 32 + 0.5), first = dead[0] + dead[1], second = dead[2] + dead[3];
    cr_assert(dead[0] % 4 == 0 && dead[1] % 4 == 0 && first <= 24 && first >= (want < 24 ? want : 24) && first < want + 4,
              "%d %%: %ld and %ld of the first class", p, (long)dead[0], (long)dead[1]);
    cr_assert(dead[2] <= 2 && second == (other < 17 ? other : 17), "%d %%: %ld and %ld of the second", p, (long)dead[2],
              (long)dead[3]);
  }
  fix_free(&f);
}
