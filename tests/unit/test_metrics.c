/* test_metrics - metrics against numbers worked out by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/metrics.h"

typedef struct Bench {
  PareCtx c;
  PareMetric m;
} Bench;

static Bench judge(PareMetricKind kind) {
  Bench b;
  cr_assert(pare_ctx_init(&b.c, NULL, 0));
  pare_metric_start(&b.m, kind, b.c.scratch);
  return b;
}

static void add_classes(Bench *b, int64_t rows, int64_t width, const float *x, const int64_t *label) {
  PareJudged j = {.what = PARE_JUDGES_CLASSES, .rows = rows, .width = width, .x = x, .label = label};
  cr_assert_eq(pare_metric_add(&b->c, &b->m, &j), PARE_OK, "%s", b->c.diag.text);
}

static void add_numbers(Bench *b, PareJudges what, int64_t rows, int64_t width, const float *x, const float *want) {
  PareJudged j = {.what = what, .rows = rows, .width = width, .x = x, .want = want};
  cr_assert_eq(pare_metric_add(&b->c, &b->m, &j), PARE_OK, "%s", b->c.diag.text);
}

static double value(Bench *b) {
  double v;
  cr_assert_eq(pare_metric_value(&b->c, &b->m, &v), PARE_OK);
  return v;
}

static double loss(Bench *b) {
  double v;
  cr_assert_eq(pare_metric_loss(&b->c, &b->m, &v), PARE_OK);
  return v;
}

static const double tolerance = 1e-12;
#define cr_assert_close(a, b) cr_assert_float_eq((a), (b), tolerance, "%.17g, not %.17g", (double)(a), (double)(b))

/* One row a number: its class is the greatest. */
static void add_said(Bench *b, int64_t n, int64_t classes, const int *said, const int64_t *label) {
  float x[16];
  for (int64_t i = 0; i < n; i++) {
    for (int64_t k = 0; k < classes; k++) x[k] = k == said[i];
    add_classes(b, 1, classes, x, label + i);
  }
}

Test(metrics, accuracy_counts_the_rows_whose_greatest_is_the_label) {
  Bench b = judge(PARE_METRIC_ACCURACY);
  const float x[] = {1, 2, 0, 5, 4, 3, 0, 0, 1};
  const int64_t label[] = {1, 0, 0};
  add_classes(&b, 2, 3, x, label);
  add_classes(&b, 1, 3, x + 6, label + 2);
  cr_assert_close(value(&b), 2.0 / 3);
  /* -log softmax: rows (1,2,0) at 1, (5,4,3) at 0, (0,0,1) at 0 */
  double p = log(1 + exp(-1) + exp(-2)), q = log(2 + exp(1));
  cr_assert_close(loss(&b), (p + p + q) / 3);
  pare_ctx_free(&b.c);
}

Test(metrics, negative_labels_are_left_out_and_too_large_ones_refused) {
  static const PareMetricKind kinds[] = {PARE_METRIC_ACCURACY, PARE_METRIC_F1, PARE_METRIC_TOKEN_F1};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    Bench b = judge(kinds[i]);
    const float x[] = {1, 0, 0, 1};
    add_classes(&b, 2, 2, x, (const int64_t[]){-100, 1});
    cr_assert_eq(b.m.n, 1, "%s", pare_metric_name(kinds[i]));
    cr_assert_close(value(&b), 1);
    PareJudged j = {.what = PARE_JUDGES_CLASSES, .rows = 1, .width = 2, .x = x, .label = (const int64_t[]){2}};
    cr_assert_eq(pare_metric_add(&b.c, &b.m, &j), PARE_DATA);
    cr_assert_not_null(strstr(b.c.diag.text, "a label is 2"), "%s", b.c.diag.text);
    pare_ctx_free(&b.c);
  }
}

Test(metrics, a_row_with_nan_is_wrong) {
  Bench b = judge(PARE_METRIC_ACCURACY), r = judge(PARE_METRIC_AGREEMENT), t = judge(PARE_METRIC_TOP5);
  const float x[] = {NAN, 1, 2, NAN}, six[] = {NAN, 9, 0, 0, 0, 0};
  add_classes(&b, 2, 2, x, (const int64_t[]){1, 0});
  cr_assert_close(b.m.sum, 0);
  add_numbers(&r, PARE_JUDGES_REFERENCE, 2, 2, x, x);
  cr_assert_close(r.m.sum, 0);
  add_classes(&t, 1, 6, six, (const int64_t[]){1});
  cr_assert_close(t.m.sum, 0);
  pare_ctx_free(&b.c), pare_ctx_free(&r.c), pare_ctx_free(&t.c);
}

Test(metrics, agreement_compares_the_places_of_the_greatest) {
  Bench b = judge(PARE_METRIC_AGREEMENT);
  const float x[] = {1, 2, 9, 8, 0, 1, 3, 3}, y[] = {-5, -4, 1, 2, 7, 8, 1, 0};
  add_numbers(&b, PARE_JUDGES_REFERENCE, 4, 2, x, y); /* the last: of equals the first */
  cr_assert_close(value(&b), 0.75);
  pare_ctx_free(&b.c);
}

Test(metrics, cosine_is_the_mean_over_rows) {
  Bench b = judge(PARE_METRIC_COSINE);
  const float x[] = {1, 0, 3, 4, 0, 0, 0, 0}, y[] = {0, 2, 6, 8, 0, 0, 1, 0};
  add_numbers(&b, PARE_JUDGES_REFERENCE, 4, 2, x, y); /* 0, 1, both zero: 1, one zero: 0 */
  cr_assert_close(value(&b), 0.5);
  cr_assert_close(loss(&b), 0.5);
  pare_ctx_free(&b.c);
}

Test(metrics, rows_that_are_padding_are_left_out_of_a_comparison) {
  Bench b = judge(PARE_METRIC_AGREEMENT), r = judge(PARE_METRIC_COSINE);
  const float x[] = {1, 0, 0, 1, 1, 0}, y[] = {1, 0, 1, 0, 1, 0};
  const uint8_t skip[] = {0, 1, 0};
  PareJudged j = {.what = PARE_JUDGES_REFERENCE, .rows = 3, .width = 2, .x = x, .want = y, .skip = skip};
  cr_assert_eq(pare_metric_add(&b.c, &b.m, &j), PARE_OK);
  cr_assert_eq(pare_metric_add(&r.c, &r.m, &j), PARE_OK);
  cr_assert_eq(b.m.n, 2);
  cr_assert_close(value(&b), 1);
  cr_assert_close(value(&r), 1);
  pare_ctx_free(&b.c), pare_ctx_free(&r.c);
}

Test(metrics, mean_squared_error_adds_up_over_batches) {
  Bench b = judge(PARE_METRIC_MSE);
  add_numbers(&b, PARE_JUDGES_NUMBERS, 2, 1, (const float[]){1, 2}, (const float[]){1, 4});
  add_numbers(&b, PARE_JUDGES_NUMBERS, 1, 1, (const float[]){-1}, (const float[]){1});
  cr_assert_close(value(&b), 8.0 / 3);
  cr_assert_close(loss(&b), 8.0 / 3);
  pare_ctx_free(&b.c);
}

Test(metrics, nothing_added_is_not_a_number) {
  for (int k = 0; k < PARE_METRIC_COUNT; k++) {
    Bench b = judge((PareMetricKind)k);
    cr_assert(isnan(value(&b)), "%s", pare_metric_name((PareMetricKind)k));
    pare_ctx_free(&b.c);
  }
}

Test(metrics, sums_keep_what_floats_would_lose) {
  Bench b = judge(PARE_METRIC_MSE);
  add_numbers(&b, PARE_JUDGES_NUMBERS, 1, 1, (const float[]){1e4f}, (const float[]){0});
  for (int i = 0; i < 1000; i++) add_numbers(&b, PARE_JUDGES_NUMBERS, 1, 1, (const float[]){1}, (const float[]){0});
  cr_assert_close(b.m.sum, 1e8 + 1000); /* a float sum would stay at 1e8 */
  pare_ctx_free(&b.c);
}

Test(metrics, top5_looks_for_the_label_among_the_five_greatest) {
  Bench b = judge(PARE_METRIC_TOP5);
  const float x[] = {6, 5, 4, 3, 2, 1, 0, /* all equal: the first five */ 1, 1, 1, 1, 1, 1, 1};
  for (int64_t label = 0; label < 7; label++) {
    add_classes(&b, 1, 7, x, &label);
    add_classes(&b, 1, 7, x + 7, &label);
  }
  cr_assert_close(value(&b), 5.0 / 7);
  cr_assert_eq(pare_metric_least(PARE_METRIC_TOP5), 6);
  pare_ctx_free(&b.c);
}

/* scikit-learn's own example: f1_score of these three classes is 0.8, 0, 0, macro 0.2667. */
Test(metrics, f1_of_three_classes_is_that_of_scikit_learn) {
  const int said[] = {0, 2, 1, 0, 0, 1};
  const int64_t label[] = {0, 1, 2, 0, 1, 2};
  Bench b = judge(PARE_METRIC_F1), macro = judge(PARE_METRIC_F1_MACRO), token = judge(PARE_METRIC_TOKEN_F1);
  add_said(&b, 6, 3, said, label);
  add_said(&macro, 6, 3, said, label);
  add_said(&token, 6, 3, said, label);
  cr_assert_close(value(&b), 0.8 / 3);
  cr_assert_close(value(&macro), 0.8 / 3);
  cr_assert_close(value(&token), 0); /* classes 1 and 2 are never right */
  pare_ctx_free(&b.c), pare_ctx_free(&macro.c), pare_ctx_free(&token.c);
}

/* 3 right of 4 said and 5 labelled: precision 3/4, recall 3/5, F1 2/3. */
Test(metrics, f1_of_two_classes_is_that_of_class_one) {
  const int said[] = {1, 1, 1, 1, 0, 0, 0};
  const int64_t label[] = {1, 1, 1, 0, 1, 1, 0};
  Bench b = judge(PARE_METRIC_F1), macro = judge(PARE_METRIC_F1_MACRO), token = judge(PARE_METRIC_TOKEN_F1);
  add_said(&b, 7, 2, said, label);
  add_said(&macro, 7, 2, said, label);
  add_said(&token, 7, 2, said, label);
  cr_assert_close(value(&b), 2.0 / 3);
  cr_assert_close(value(&macro), (2.0 / 3 + 2 * 1.0 / 5) / 2); /* class 0: 1 right of 3 said, 2 labelled */
  cr_assert_close(value(&token), 2.0 / 3);
  pare_ctx_free(&b.c), pare_ctx_free(&macro.c), pare_ctx_free(&token.c);
}

/* Two classes, logits ±8 for 12 rows right and 4 wrong: one loss is the binary cross-entropy q·L(8/T) + (1-q)·L(-8/T), q
 * 3/4, which is least, as the entropy of q, where 8/T = log(q/(1-q)) (closed form): far above T = 1. */
Test(metrics, a_softened_loss_is_that_of_the_best_temperature) {
  Bench b = judge(PARE_METRIC_ACCURACY);
  b.m.softens = true;
  double got, want = INFINITY, entropy = -0.75 * log(0.75) - 0.25 * log(0.25);
  for (int64_t i = 0; i < 16; i++) {
    const float x[] = {4, -4};
    const int64_t label = i % 4 == 3;
    add_classes(&b, 1, 2, x, &label);
  }
  for (int k = 0; k < PARE_TEMPERATURES; k++) {
    double margin = 8 / pow(2, k / 2.0);
    want = fmin(want, 0.75 * log(1 + exp(-margin)) + 0.25 * log(1 + exp(margin)));
  }
  cr_assert_eq(pare_metric_softened_loss(&b.c, &b.m, &got), PARE_OK);
  cr_assert_close(got, want);
  cr_assert(loss(&b) > log(2) && got >= entropy && got < entropy + 1e-2, "%g, softened %g, entropy %g", loss(&b), got, entropy);
  pare_ctx_free(&b.c);
}

/* Surer than they are told to be they do not become: T is 1 at least. Numbers have no temperature. */
Test(metrics, a_softened_loss_of_what_is_not_too_sure_is_the_loss) {
  const float x[] = {0.1F, -0.1F}, number[] = {3, 5}, want[] = {1, 9}, mark[] = {0, 1};
  const int64_t label[] = {0};
  Bench b = judge(PARE_METRIC_ACCURACY), n = judge(PARE_METRIC_MSE), m = judge(PARE_METRIC_F1);
  b.m.softens = n.m.softens = m.m.softens = true;
  double got[3];
  add_classes(&b, 1, 2, x, label);
  add_numbers(&n, PARE_JUDGES_NUMBERS, 1, 2, number, want);
  add_numbers(&m, PARE_JUDGES_MARKS, 1, 2, (const float[]){9, -9}, mark); /* both wrong: best said least surely */
  cr_assert_eq(pare_metric_softened_loss(&b.c, &b.m, &got[0]), PARE_OK);
  cr_assert_eq(pare_metric_softened_loss(&n.c, &n.m, &got[1]), PARE_OK);
  cr_assert_eq(pare_metric_softened_loss(&m.c, &m.m, &got[2]), PARE_OK);
  cr_assert_close(got[0], loss(&b));
  cr_assert_close(got[1], 10);
  cr_assert_close(got[2], log(1 + exp(9.0 / 16)));
  pare_ctx_free(&b.c), pare_ctx_free(&n.c), pare_ctx_free(&m.c);
}

Test(metrics, classes_that_never_occur_are_not_averaged_over) {
  Bench b = judge(PARE_METRIC_F1_MACRO);
  add_said(&b, 3, 9, (const int[]){0, 4, 4}, (const int64_t[]){0, 4, 0});
  cr_assert_close(value(&b), (2 * 1.0 / 3 + 2 * 1.0 / 3) / 2);
  pare_ctx_free(&b.c);
}

/* Marks [2][3]: logits above 0 say yes. Right: 1, 1, 0 of said 2, 1, 1 and labelled 1, 2, 0. */
Test(metrics, f1_of_marks_counts_each_label_apart) {
  const float x[] = {3, 2, -1, 1, -1, 5}, want[] = {1, 1, 0, 0, 1, 0};
  Bench b = judge(PARE_METRIC_F1), macro = judge(PARE_METRIC_F1_MACRO);
  add_numbers(&b, PARE_JUDGES_MARKS, 2, 3, x, want);
  add_numbers(&macro, PARE_JUDGES_MARKS, 2, 3, x, want);
  cr_assert_close(value(&b), 2 * 2.0 / (4 + 3));
  cr_assert_close(value(&macro), (2.0 / 3 + 2.0 / 3 + 0) / 3);
  double bce = 0;
  for (int i = 0; i < 6; i++) bce -= log(want[i] > 0 ? 1 / (1 + exp(-(double)x[i])) : 1 / (1 + exp((double)x[i])));
  cr_assert_float_eq(loss(&b), bce / 6, 1e-14, "%.17g, not %.17g", loss(&b), bce / 6);
  pare_ctx_free(&b.c), pare_ctx_free(&macro.c);
}

/* All marks of a row, as scikit-learn's accuracy_score has it; what is no number is wrong. */
Test(metrics, a_row_of_marks_is_right_where_all_of_them_are) {
  const float x[] = {3, 2, -1, 1, -1, 5, -2, 1, NAN, 4, 1, 1}, want[] = {1, 1, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1};
  Bench rows = judge(PARE_METRIC_ACCURACY), each = judge(PARE_METRIC_ACCURACY);
  add_numbers(&rows, PARE_JUDGES_MARKS, 4, 3, x, want);
  add_numbers(&each, PARE_JUDGES_MARKS, 12, 1, x, want);
  cr_assert_close(value(&rows), 2.0 / 4);
  cr_assert_close(value(&each), 10.0 / 12);
  pare_ctx_free(&rows.c), pare_ctx_free(&each.c);
}

/* scikit-learn's own example: y_true +1 +1 +1 -1, y_pred +1 -1 +1 +1 gives -0.3333. */
Test(metrics, matthews_of_two_classes_is_the_phi_coefficient) {
  Bench b = judge(PARE_METRIC_MATTHEWS), one = judge(PARE_METRIC_MATTHEWS);
  add_said(&b, 4, 2, (const int[]){1, 0, 1, 1}, (const int64_t[]){1, 1, 1, 0});
  cr_assert_close(value(&b), -1.0 / 3);
  add_said(&one, 3, 2, (const int[]){1, 1, 1}, (const int64_t[]){1, 0, 1});
  cr_assert_close(value(&one), 0); /* one class alone is said */
  pare_ctx_free(&b.c), pare_ctx_free(&one.c);
}

/* R_K is the correlation of one-hot rows: the covariance of the two matrices over the root of those with themselves. */
Test(metrics, matthews_of_many_classes_is_the_correlation_of_one_hot_rows) {
  enum { N = 40, K = 4 };
  int said[N];
  int64_t label[N];
  Bench b = judge(PARE_METRIC_MATTHEWS);
  double xy = 0, xx = 0, yy = 0;
  for (int i = 0; i < N; i++) said[i] = (i * 7 + i / 5) % K, label[i] = i % 3 ? said[i] : (i * 5) % K;
  add_said(&b, N, K, said, label);
  for (int k = 0; k < K; k++) {
    double mx = 0, my = 0;
    for (int i = 0; i < N; i++) mx += (said[i] == k) / (double)N, my += (label[i] == k) / (double)N;
    for (int i = 0; i < N; i++) {
      double x = (said[i] == k) - mx, y = (label[i] == k) - my;
      xy += x * y, xx += x * x, yy += y * y;
    }
  }
  cr_assert_close(value(&b), xy / sqrt(xx * yy));
  pare_ctx_free(&b.c);
}

Test(metrics, pearson_is_one_for_a_line_and_not_a_number_for_a_constant) {
  Bench b = judge(PARE_METRIC_PEARSON), down = judge(PARE_METRIC_PEARSON), flat = judge(PARE_METRIC_PEARSON);
  add_numbers(&b, PARE_JUDGES_NUMBERS, 3, 1, (const float[]){1, 2, 3}, (const float[]){10, 30, 50});
  cr_assert_close(value(&b), 1);
  /* a column up, a column down: the mean of 1 and -1; far from zero, where sums of squares would lose it */
  add_numbers(&down, PARE_JUDGES_NUMBERS, 3, 2, (const float[]){1, 1, 2, 2, 3, 3},
              (const float[]){1e6f, 1e6f + 2, 1e6f + 1, 1e6f + 1, 1e6f + 2, 1e6f});
  cr_assert_close(value(&down), 0);
  add_numbers(&flat, PARE_JUDGES_NUMBERS, 2, 1, (const float[]){1, 1}, (const float[]){0, 1});
  cr_assert(isnan(value(&flat)));
  pare_ctx_free(&b.c), pare_ctx_free(&down.c), pare_ctx_free(&flat.c);
}

/* Ranks 1, 2.5, 2.5, 4 against 2, 1, 3, 4 (by hand): covariance 3, squares 4.5 and 5. */
Test(metrics, spearman_gives_equal_values_the_mean_of_their_ranks) {
  Bench b = judge(PARE_METRIC_SPEARMAN);
  add_numbers(&b, PARE_JUDGES_NUMBERS, 2, 1, (const float[]){-5, 7}, (const float[]){20, 10});
  add_numbers(&b, PARE_JUDGES_NUMBERS, 2, 1, (const float[]){7, 900}, (const float[]){30, 4000});
  double want = (-1.5 * -0.5 + 0 * -1.5 + 0 * 0.5 + 1.5 * 1.5) / sqrt(4.5 * 5);
  cr_assert_close(value(&b), want);
  pare_ctx_free(&b.c);
}

static void add_spans(Bench *b, int64_t samples, int64_t length, const float *x, const int64_t *label) {
  PareJudged j = {.what = PARE_JUDGES_SPANS, .rows = 2 * samples, .width = length, .x = x, .label = label};
  cr_assert_eq(pare_metric_add(&b->c, &b->m, &j), PARE_OK, "%s", b->c.diag.text);
}

Test(metrics, a_span_is_the_best_pair_that_does_not_end_before_it_starts) {
  Bench em = judge(PARE_METRIC_SPAN_EM), f1 = judge(PARE_METRIC_SPAN_F1);
  /* greatest start at 4, greatest end at 1: the best that is one is 1..2 */
  const float x[] = {0, 6, 0, 0, 7, /* ends */ 0, 5, 4.5f, 0, -9};
  add_spans(&em, 1, 5, x, (const int64_t[]){1, 1});
  add_spans(&f1, 1, 5, x, (const int64_t[]){1, 1});
  cr_assert_close(value(&em), 1); /* 6 + 5 */
  add_spans(&em, 1, 5, x, (const int64_t[]){1, 2});
  add_spans(&f1, 1, 5, x, (const int64_t[]){1, 3}); /* 1 common of 1 said and 3 true */
  add_spans(&em, 1, 5, x, (const int64_t[]){-1, -1}); /* not counted */
  cr_assert_close(value(&em), 0.5);
  cr_assert_close(value(&f1), (1 + 2.0 / 4) / 2);
  pare_ctx_free(&em.c), pare_ctx_free(&f1.c);
}

Test(metrics, a_span_is_no_longer_than_thirty_tokens) {
  enum { L = 64 };
  float x[2 * L] = {0};
  Bench em = judge(PARE_METRIC_SPAN_EM);
  x[3] = 9, x[L + 33] = 9, x[L + 32] = 8; /* 31 tokens, 30 tokens */
  add_spans(&em, 1, L, x, (const int64_t[]){3, 32});
  cr_assert_close(value(&em), 1);
  pare_ctx_free(&em.c);
}

/* --metric is "auto" or a word of this order: options.def is the public side of the table. */
Test(metrics, the_options_words_are_the_names_of_the_table) {
  static const struct {
    const char *name, *words;
  } options[] = {
#define OPTION(field, kind, name, dflt, words, help) {name, words},
#include "pare/options.def"
#undef OPTION
  };
  char want[400] = "auto";
  size_t i = 0;
  while (strcmp(options[i].name, "metric")) i++;
  for (int k = 0; k < PARE_METRIC_COUNT; k++)
    snprintf(want + strlen(want), sizeof want - strlen(want), " %s", pare_metric_name((PareMetricKind)k));
  cr_assert_str_eq(options[i].words, want, "%s, not %s", options[i].words, want);
}

Test(metrics, again_forgets_what_was_added) {
  static const float x[] = {0, 1, 1, 0};
  static const int64_t label[] = {0, 1};
  for (int k = 0; k < PARE_METRIC_COUNT; k++) {
    Bench b = judge((PareMetricKind)k);
    if (!pare_metric_takes(b.m.kind, PARE_JUDGES_CLASSES) || k == PARE_METRIC_TOP5) continue;
    add_classes(&b, 2, 2, x, label);
    pare_metric_again(&b.m);
    cr_assert(isnan(value(&b)));
    add_classes(&b, 2, 2, x, (const int64_t[]){1, 0});
    cr_assert_close(value(&b), 1);
    pare_ctx_free(&b.c);
  }
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
