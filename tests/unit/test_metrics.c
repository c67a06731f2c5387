/* test_metrics - metrics against numbers worked out by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "runtime/metrics.h"

static PareCtx ctx(void) {
  PareCtx c;
  cr_assert(pare_ctx_init(&c, NULL, 0));
  return c;
}

static const double tolerance = 1e-12;
#define cr_assert_close(a, b) cr_assert_float_eq((a), (b), tolerance, "%.17g, not %.17g", (double)(a), (double)(b))

Test(metrics, accuracy_counts_the_rows_whose_greatest_is_the_label) {
  PareCtx c = ctx();
  PareMetric m = {.kind = PARE_METRIC_ACCURACY};
  const float x[] = {1, 2, 0, 5, 4, 3, 0, 0, 1};
  const int64_t label[] = {1, 0, 0};
  cr_assert_eq(pare_metric_add_labels(&c, &m, 2, 3, x, label), PARE_OK);
  cr_assert_eq(pare_metric_add_labels(&c, &m, 1, 3, x + 6, label + 2), PARE_OK);
  cr_assert_close(pare_metric_value(&m), 2.0 / 3);
  /* -log softmax: rows (1,2,0) at 1, (5,4,3) at 0, (0,0,1) at 0 */
  double a = log(1 + exp(-1) + exp(-2)), b = log(2 + exp(1));
  cr_assert_close(pare_metric_loss(&m), (a + a + b) / 3);
  pare_ctx_free(&c);
}

Test(metrics, negative_labels_are_left_out_and_too_large_ones_refused) {
  PareCtx c = ctx();
  PareMetric m = {.kind = PARE_METRIC_ACCURACY};
  const float x[] = {1, 0, 1, 0};
  cr_assert_eq(pare_metric_add_labels(&c, &m, 2, 2, x, (const int64_t[]){-100, 0}), PARE_OK);
  cr_assert_eq(m.n, 1);
  cr_assert_close(pare_metric_value(&m), 1);
  cr_assert_eq(pare_metric_add_labels(&c, &m, 1, 2, x, (const int64_t[]){2}), PARE_DATA);
  cr_assert_not_null(strstr(c.diag.text, "a label is 2"), "%s", c.diag.text);
  pare_ctx_free(&c);
}

Test(metrics, a_row_with_nan_is_wrong) {
  PareCtx c = ctx();
  PareMetric m = {.kind = PARE_METRIC_ACCURACY}, r = {.kind = PARE_METRIC_AGREEMENT};
  const float x[] = {NAN, 1, 2, NAN};
  cr_assert_eq(pare_metric_add_labels(&c, &m, 2, 2, x, (const int64_t[]){1, 0}), PARE_OK);
  cr_assert_close(m.sum, 0);
  pare_metric_add_rows(&r, 2, 2, x, x);
  cr_assert_close(r.sum, 0);
  pare_ctx_free(&c);
}

Test(metrics, agreement_compares_the_places_of_the_greatest) {
  PareMetric m = {.kind = PARE_METRIC_AGREEMENT};
  const float a[] = {1, 2, 9, 8, 0, 1, 3, 3}, b[] = {-5, -4, 1, 2, 7, 8, 1, 0};
  pare_metric_add_rows(&m, 4, 2, a, b); /* the last: of equals the first */
  cr_assert_close(pare_metric_value(&m), 0.75);
}

Test(metrics, cosine_is_the_mean_over_rows) {
  PareMetric m = {.kind = PARE_METRIC_COSINE};
  const float a[] = {1, 0, 3, 4, 0, 0, 0, 0}, b[] = {0, 2, 6, 8, 0, 0, 1, 0};
  pare_metric_add_rows(&m, 4, 2, a, b); /* 0, 1, both zero: 1, one zero: 0 */
  cr_assert_close(pare_metric_value(&m), 0.5);
  cr_assert_close(pare_metric_loss(&m), 0.5);
}

Test(metrics, mean_squared_error_adds_up_over_batches) {
  PareMetric m = {.kind = PARE_METRIC_MSE};
  pare_metric_add_values(&m, 2, (const float[]){1, 2}, (const float[]){1, 4});
  pare_metric_add_values(&m, 1, (const float[]){-1}, (const float[]){1});
  cr_assert_close(pare_metric_value(&m), 8.0 / 3);
  cr_assert_close(pare_metric_loss(&m), 8.0 / 3);
}

Test(metrics, nothing_added_is_not_a_number) {
  PareMetric m = {.kind = PARE_METRIC_ACCURACY};
  cr_assert(isnan(pare_metric_value(&m)));
}

Test(metrics, sums_keep_what_floats_would_lose) {
  PareMetric m = {.kind = PARE_METRIC_MSE};
  pare_metric_add_values(&m, 1, (const float[]){1e4f}, (const float[]){0});
  for (int i = 0; i < 1000; i++) pare_metric_add_values(&m, 1, (const float[]){1}, (const float[]){0});
  cr_assert_close(m.sum, 1e8 + 1000); /* a float sum would stay at 1e8 */
}

Test(difference, is_the_largest_and_relative_to_the_largest) {
  PareDifference d = {0};
  pare_difference_add(&d, 3, (const float[]){1, -8, 2}, (const float[]){1, -8, 4});
  cr_assert_close(d.max_abs, 2);
  cr_assert_close(pare_difference_rel(&d), 0.25);
}

Test(difference, sees_nan_and_infinity) {
  const float nan1[] = {NAN}, one[] = {1}, inf[] = {INFINITY};
  PareDifference same = {0}, other = {0}, far = {0}, both = {0};
  pare_difference_add(&same, 1, nan1, nan1);
  cr_assert_close(same.max_abs, 0);
  pare_difference_add(&other, 1, one, nan1);
  cr_assert(isinf(other.max_abs));
  pare_difference_add(&far, 1, inf, one);
  cr_assert(isinf(far.max_abs) && isinf(pare_difference_rel(&far)));
  pare_difference_add(&both, 1, inf, inf);
  cr_assert_close(both.max_abs, 0);
}
