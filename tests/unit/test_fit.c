/* test_fit.c - shares of classes that meet a budget. Truth: counting all that could go. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "runtime/fit.h"

/* Classes whose groups cost alike; one of each stays. */
typedef struct Case {
  int n;
  double count[3], cost[3], step[3];
} Case;

static double dead_at(const Case *x, int k, double ratio) {
  return fmin(floor(ratio * x->count[k] + 0.5), x->count[k] - 1);
}

static double left_of(const Case *x, const double *dead) {
  double left = 10;
  for (int k = 0; k < x->n; k++) left += x->cost[k] * (x->count[k] - dead[k]);
  return left;
}

static PareStatus cost(void *arg, const double *ratio, double *left) {
  const Case *x = arg;
  double dead[3] = {0};
  for (int k = 0; k < x->n; k++) dead[k] = dead_at(x, k, ratio[k]);
  *left = left_of(x, dead);
  return PARE_OK;
}

static uint64_t draw(uint64_t seed, uint64_t i, uint64_t n) { return pare_rng_u64(seed, i) % n; }

/* Few groups that cost much, many that cost little. */
static Case make(uint64_t seed, int n) {
  Case x = {.n = n};
  for (int k = 0; k < n; k++) {
    bool fine = k == n - 1;
    x.count[k] = (double)(fine ? 20 + draw(seed, 3 * (uint64_t)k, 50) : 2 + draw(seed, 3 * (uint64_t)k, 7));
    uint64_t some = 60 + draw(seed, 3 * (uint64_t)k + 1, 90), few = 1 + draw(seed, 3 * (uint64_t)k + 1, 4);
    x.cost[k] = (double)(fine ? few : some >> (2 * k));
    x.step[k] = 1e-12;
  }
  return x;
}

static PareFit fit_of(Case *x, double share, double near, bool common) {
  double none[3] = {0}, all[3], least = left_of(x, none);
  for (int k = 0; k < x->n; k++) all[k] = x->count[k] - 1;
  double low = left_of(x, all);
  return (PareFit){.n = x->n, .step = x->step, .budget = floor(low + share * (least - low)), .near = near,
                   .common = common, .cost = cost, .arg = x};
}

/* The least ratio that both share, by trying all at which either count changes. */
static double common_ratio(Case *x, double budget) {
  for (double r = 0;;) {
    double both[3] = {r, r, r}, left, next = 2;
    cr_assert_eq(cost(x, both, &left), PARE_OK);
    if (left <= budget) return r;
    for (int k = 0; k < x->n; k++) next = fmin(next, (floor(r * x->count[k] + 0.5) + 0.5) / x->count[k] + 1e-12);
    r = next;
  }
}

Test(fit, of_two_classes_is_the_nearest_that_goes_with_the_last_coarse_step_or_without_it) {
  for (uint64_t seed = 0; seed < 3000; seed++) {
    Case x = make(seed, 2);
    PareFit f = fit_of(&x, pare_rng_uniform(seed, 99), 0, false);
    double ratio[3] = {0}, left, best = 0, coarse = dead_at(&x, 0, common_ratio(&x, f.budget));
    cr_assert_eq(pare_fit(&f, ratio, &left), PARE_OK);
    for (double d0 = fmax(coarse - 1, 0); d0 <= coarse; d0++)
      for (double d1 = 0; d1 < x.count[1]; d1++) {
        double would = left_of(&x, (double[]){d0, d1});
        if (would <= f.budget) best = fmax(best, would);
      }
    cr_assert_eq(left, best, "seed %d: %g is left, %g could be of %g", (int)seed, left, best, f.budget);
  }
}

Test(fit, of_three_classes_keeps_the_budget_and_takes_less_than_the_common_ratio) {
  int nearer = 0;
  for (uint64_t seed = 0; seed < 2000; seed++) {
    Case x = make(seed, 3);
    PareFit f = fit_of(&x, pare_rng_uniform(seed, 99), 0, false);
    double r = common_ratio(&x, f.budget), both[3] = {r, r, r}, ratio[3] = {0}, plain, left, said;
    cr_assert_eq(cost(&x, both, &plain), PARE_OK);
    cr_assert_eq(pare_fit(&f, ratio, &left), PARE_OK);
    cr_assert_eq(cost(&x, ratio, &said), PARE_OK);
    cr_assert(left == said && left <= f.budget && left >= plain, "seed %d: %g, said %g, %g by one ratio, %g may be",
              (int)seed, left, said, plain, f.budget);
    nearer += f.budget - left < x.cost[2];
  }
  cr_expect_gt(nearer, 1900, "%d of 2000 are within a group of the finest class", nearer);
}

Test(fit, keeps_a_common_ratio_that_is_near) {
  for (uint64_t seed = 0; seed < 500; seed++) {
    Case x = make(seed, 3);
    PareFit f = fit_of(&x, pare_rng_uniform(seed, 99), 40, true);
    double r = common_ratio(&x, f.budget), both[3] = {r, r, r}, ratio[3] = {0}, plain, left;
    cr_assert_eq(cost(&x, both, &plain), PARE_OK);
    cr_assert_eq(pare_fit(&f, ratio, &left), PARE_OK);
    if (f.budget - plain <= 40) cr_assert_eq(left, plain, "seed %d: %g, not %g", (int)seed, left, plain);
    else cr_assert(left > plain || left == plain, "seed %d: %g, less than %g", (int)seed, left, plain);
  }
}

Test(fit, says_what_is_left_at_least_where_that_is_too_much) {
  Case x = make(1, 2);
  PareFit f = fit_of(&x, 0, 0, false);
  double ratio[3] = {0}, left, least = f.budget;
  f.budget -= 1;
  cr_assert_eq(pare_fit(&f, ratio, &left), PARE_OK);
  cr_assert_eq(left, least, "%g, not %g", left, least);
}
