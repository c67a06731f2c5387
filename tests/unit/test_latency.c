/* test_latency.c - times that a program prints, what lies between sizes that were timed, and the table's file. Truth:
 * closed forms, and scripts that are written here. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/latency.h"
#include "base/file.h"
#include "base/process.h"
#include "runtime/interpolate.h"
#include "support.h"

/* --- numbers in text --- */

Test(last_number, is_what_stands_last_and_not_part_of_a_word) {
  static const struct {
    const char *text;
    double value; /* NAN: none */
  } cases[] = {
      {"1.5", 1.5},
      {"12.25 ms\n", 12.25},
      {"12.25ms", 12.25},
      {"run 1: 3.5\nrun 2: 4.5\n", 4.5},
      {"latency=0.75", 0.75},
      {"mean 2e-1 ms (on gpu0)\n", 0.2},
      {"p50:.5", 0.5},
      {"-3", -3},
      {"3 of v2", 3},
      {"1.2.3", 1.2},
      {"[1, 2, 8]", 8},
      {"", NAN},
      {"no number: nan, inf, x86_64", NAN},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    double v = NAN;
    bool found = pare_last_number(cases[i].text, &v);
    cr_assert_eq(found, !isnan(cases[i].value), "'%s': found %d", cases[i].text, found);
    if (found) cr_assert_float_eq(v, cases[i].value, 1e-12, "'%s': %g, not %g", cases[i].text, v, cases[i].value);
  }
}

/* --- commands --- */

static PareStopwatch watch(const char *command, double timeout) { return (PareStopwatch){.command = command, .timeout = timeout}; }

static PareStatus timed(Fix *f, const PareStopwatch *w, const char *path, PareTiming *out) {
  PareTimed t;
  MUST(f, pare_timed_open(&f->c, w, NULL, NULL, path, &t));
  PareStatus s = pare_stopwatch_time(&f->c, w, &t, out);
  pare_timed_close(&t);
  return s;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

Test(command, gets_the_model_in_the_place_of_the_braces_or_at_its_end_whatever_its_name) {
  Fix f;
  PareTiming t;
  const char *name = "/tmp/it's a \"$HOME\" {model}";
  fix_init(&f);
  PareStopwatch end = watch("sh -c 'printf %s \"$1\" | wc -c' x", 10), middle = watch("printf %s {} | wc -c; true {}", 10);
  MUST(&f, timed(&f, &end, name, &t));
  cr_assert_eq(t.ms, (double)strlen(name), "%g characters, not %zu", t.ms, strlen(name));
  MUST(&f, timed(&f, &middle, name, &t));
  cr_assert_eq(t.ms, (double)strlen(name), "%g characters, not %zu", t.ms, strlen(name));
  fix_free(&f);
}

Test(command, runs_three_times_where_they_agree_and_five_times_where_not_and_gives_the_median) {
  Fix f;
  PareTiming t;
  fix_init(&f);
  char *dir = dir_make(&f), *command = fmt(&f, "n=$(cat %s/n || echo 0); echo $((n + 1)) > %s/n; echo $((10 + n * n)); true", dir, dir);
  PareStopwatch steady = watch("echo 7; true", 10), rising = watch(command, 10);
  MUST(&f, timed(&f, &steady, "m", &t));
  cr_assert(t.ms == 7 && t.spread == 0 && t.runs == 3, "%g ms, spread %g, %d runs", t.ms, t.spread, t.runs);
  MUST(&f, timed(&f, &rising, "m", &t)); /* 10 11 14 19 26 */
  cr_assert(t.ms == 14 && t.runs == 5, "%g ms in %d runs", t.ms, t.runs);
  cr_assert_float_eq(t.spread, 16.0 / 14, 1e-12, "spread %g", t.spread);
  dir_remove(dir);
  fix_free(&f);
}

Test(command, runs_on_two_models_in_turn_and_their_ratio_is_free_of_drift) {
  Fix f;
  PareTiming a, b, share;
  PareTimed one = {.path = "1"}, two = {.path = "2"};
  fix_init(&f);
  char *dir = dir_make(&f);
  PareStopwatch w = watch(fmt(&f, "n=$(cat %s/n || echo 0); echo $((n + 1)) > %s/n; echo $(((n / 2 + 1) * 10)) {} | awk '{print $1 * $2}'",
                              dir, dir), 10);
  MUST(&f, pare_stopwatch_compare(&f.c, &w, &one, &two, &a, &b, &share)); /* 10 20, 20 40, 30 60: it slows down */
  cr_assert(a.ms == 20 && b.ms == 40 && a.runs == 3, "%g and %g ms in %d runs", a.ms, b.ms, a.runs);
  cr_assert(share.ms == 2 && share.spread == 0, "ratio %g, spread %g", share.ms, share.spread);
  dir_remove(dir);
  fix_free(&f);
}

Test(command, that_fails_hangs_or_prints_no_time_is_quoted_with_what_it_said) {
  static const struct {
    const char *command;
    PareStatus status;
    const char *says;
  } cases[] = {
      {"no-such-program-anywhere", PARE_DEVICE, "status 127"},
      {"echo out of cheese >&2; exit 3; true", PARE_DEVICE, "status 3: 'out of cheese'"},
      {"kill -9 $$; true", PARE_DEVICE, "status 137"},
      {"echo waiting; sleep 60; true", PARE_DEVICE, "longer than 0.3 s (--latency-timeout); it said 'waiting'"},
      {"sleep 60 & wait; true", PARE_DEVICE, "longer than 0.3 s"},
      {"echo fast; true", PARE_DATA, "printed 'fast'"},
      {"true", PARE_DATA, "printed ''"},
      {"echo 0; true", PARE_DATA, "printed 0 as its last number"},
      {"echo -4; true", PARE_DATA, "printed -4 as its last number"},
      {"echo 3 >&2; true", PARE_DATA, "has to print milliseconds"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix f;
    PareTiming t;
    PareStopwatch w = watch(cases[i].command, 0.3);
    fix_init(&f);
    double start = seconds();
    PareStatus s = timed(&f, &w, "m", &t);
    cr_assert_eq(s, cases[i].status, "'%s' gives %d: %s", cases[i].command, s, fix_why(&f));
    cr_assert(strstr(fix_why(&f), cases[i].says), "'%s' does not say '%s'", fix_why(&f), cases[i].says);
    cr_assert(strstr(fix_why(&f), cases[i].command), "'%s' does not name '%s'", fix_why(&f), cases[i].command);
    cr_assert_lt(seconds() - start, 20, "'%s' took %g s", cases[i].command, seconds() - start);
    fix_free(&f);
  }
}

Test(command, leaves_nothing_running_and_keeps_the_last_bytes_of_much_output) {
  Fix f;
  PareProcess p;
  fix_init(&f);
  char *dir = dir_make(&f);
  MUST(&f, pare_process_run(&f.c, fmt(&f, "(sleep 1; touch %s/late) & yes | head -c 300000; echo 42", dir), 20, NULL, &p));
  cr_assert(p.exit_code == 0 && !p.late);
  cr_assert(strstr(p.out, "42") && strlen(p.out) == PARE_PROCESS_TEXT - 1, "%zu bytes: ...%s", strlen(p.out),
            p.out + strlen(p.out) - 4);
  sleep(2);
  cr_assert(access(fmt(&f, "%s/late", dir), F_OK), "a process that the command left behind went on");
  dir_remove(dir);
  fix_free(&f);
}

Test(command, stops_when_it_is_told_to) {
  Fix f;
  PareProcess p;
  volatile sig_atomic_t stop = 1;
  fix_init(&f);
  cr_assert_eq(pare_process_run(&f.c, "sleep 60", 60, &stop, &p), PARE_INTERRUPTED);
  fix_free(&f);
}

/* --- sizes --- */

Test(grid, has_every_multiple_where_they_are_few_and_eighths_where_not) {
  static const struct {
    int64_t count, multiple;
    int64_t want[PARE_LATENCY_SIZES];
  } cases[] = {
      {1, 1, {1}},
      {6, 1, {1, 2, 3, 4, 5, 6}},
      {6, 2, {2, 4, 6}},
      {7, 2, {2, 4, 6, 7}},
      {3, 8, {1, 2, 3}},
      {3072, 1, {1, 384, 768, 1152, 1536, 1920, 2304, 2688, 3072}},
      {100, 4, {4, 12, 24, 36, 48, 60, 72, 84, 100}},
      {384, 8, {8, 48, 96, 144, 192, 240, 288, 336, 384}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t kept[PARE_LATENCY_SIZES];
    size_t n = pare_latency_grid(cases[i].count, cases[i].multiple, kept), want = 0;
    while (want < PARE_LATENCY_SIZES && cases[i].want[want]) want++;
    cr_assert_eq(n, want, "%ld by %ld: %zu sizes, not %zu", (long)cases[i].count, (long)cases[i].multiple, n, want);
    for (size_t k = 0; k < n; k++)
      cr_assert_eq(kept[k], cases[i].want[k], "%ld by %ld: size %zu is %ld, not %ld", (long)cases[i].count,
                   (long)cases[i].multiple, k, (long)kept[k], (long)cases[i].want[k]);
  }
  for (int64_t count = 1; count < 300; count++)
    for (int64_t multiple = 1; multiple < 40; multiple++) {
      int64_t kept[PARE_LATENCY_SIZES], step = multiple <= count ? multiple : 1;
      size_t n = pare_latency_grid(count, multiple, kept);
      cr_assert(n >= 1 && n <= PARE_LATENCY_SIZES && kept[0] >= 1 && kept[n - 1] == count);
      for (size_t k = 1; k < n; k++) cr_assert(kept[k] > kept[k - 1] && (k + 1 == n || kept[k] % step == 0));
    }
}

Test(interpolation, is_linear_between_sizes_and_level_beyond_them) {
  const int64_t at[3] = {2, 4, 8};
  const double ms[3] = {1, 3, 2}, want[11] = {1, 1, 1, 2, 3, 2.75, 2.5, 2.25, 2, 2, 2};
  double got[11];
  pare_interpolate(3, at, ms, 10, got);
  for (int k = 0; k <= 10; k++) cr_assert_float_eq(got[k], want[k], 1e-12, "at %d: %g, not %g", k, got[k], want[k]);
}

/* --- the file --- */

static const char *layers[2] = {"a:ffn", "b:ffn"};
static PareLatencyClass ffn(void) { return (PareLatencyClass){.kind = "ffn", .count = 8, .nlayers = 2, .layer = layers}; }

Test(table, gives_back_what_was_put_and_nothing_else) {
  Fix f;
  PareLatencyTable *t;
  PareTiming x;
  PareLatencyKey key = {"0123", "time it", "cpu", "x f32[1,4]", 2, 0};
  PareLatencyClass class = ffn(), other = ffn();
  fix_init(&f);
  char *dir = dir_make(&f), *path = fmt(&f, "%s/t.json", dir);
  MUST(&f, pare_latency_table_open(&f.c, path, &key, &t));
  cr_assert(!pare_latency_table_find_whole(t, "dense", &x) && !pare_latency_table_find(t, &class, 4, &x));
  MUST(&f, pare_latency_table_put_whole(t, "dense", &(PareTiming){10, 0.01, 3}));
  MUST(&f, pare_latency_table_put(t, &class, 4, &(PareTiming){6.5, 0.2, 5}));
  pare_latency_table_close(t);
  MUST(&f, pare_latency_table_open(&f.c, path, &key, &t));
  cr_assert(pare_latency_table_find_whole(t, "dense", &x) && x.ms == 10 && x.runs == 3);
  cr_assert(pare_latency_table_find(t, &class, 4, &x) && x.ms == 6.5 && x.spread == 0.2 && x.runs == 5);
  cr_assert(!pare_latency_table_find(t, &class, 5, &x), "a size that was not timed");
  other.nlayers = 1;
  cr_assert(!pare_latency_table_find(t, &other, 4, &x), "other layers");
  pare_latency_table_close(t);
  dir_remove(dir);
  fix_free(&f);
}

Test(table, of_another_model_command_device_shape_or_thread_count_is_begun_anew) {
  const PareLatencyKey key = {"0123", "time it", "cpu", "x f32[1,4]", 2, 0};
  const PareLatencyKey other[] = {{"4567", "time it", "cpu", "x f32[1,4]", 2, 0}, {"0123", "it", "cpu", "x f32[1,4]", 2, 0},
                                  {"0123", "time it", "cuda:0", "x f32[1,4]", 2, 0}, {"0123", "time it", "cpu", "x f32[2,4]", 2, 0},
                                  {"0123", "time it", "cpu", "x f32[1,4]", 1, 0}, {"0123", "time it", "cpu", "x f32[1,4]", 2, 9}};
  for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
    Fix f;
    PareLatencyTable *t;
    PareTiming x;
    fix_init(&f);
    char *dir = dir_make(&f), *path = fmt(&f, "%s/t.json", dir);
    MUST(&f, pare_latency_table_open(&f.c, path, &key, &t));
    MUST(&f, pare_latency_table_put_whole(t, "dense", &(PareTiming){10, 0, 3}));
    pare_latency_table_close(t);
    MUST(&f, pare_latency_table_open(&f.c, path, &other[i], &t));
    cr_assert_not(pare_latency_table_find_whole(t, "dense", &x), "key %zu", i);
    pare_latency_table_close(t);
    dir_remove(dir);
    fix_free(&f);
  }
}

Test(table, does_not_overwrite_a_file_that_is_none) {
  static const char *const texts[] = {"", "hello", "{}", "[1]", "{\"format\": \"pare latency table 1\"}"};
  PareLatencyKey key = {"0123", "time it", "cpu", "x", 1, 0};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    Fix f;
    PareLatencyTable *t;
    fix_init(&f);
    char *dir = dir_make(&f), *path = fmt(&f, "%s/t.json", dir);
    write_file(path, texts[i], strlen(texts[i]));
    cr_assert_eq(pare_latency_table_open(&f.c, path, &key, &t), PARE_FORMAT, "'%s'", texts[i]);
    cr_assert(strstr(fix_why(&f), "t.json") && strstr(fix_why(&f), "--latency-table"), "%s", fix_why(&f));
    dir_remove(dir);
    fix_free(&f);
  }
}
