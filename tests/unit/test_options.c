/* test_options - options of compress: defaults, values, recipes, refusals. What
 * the command line promises is in DESIGN 3; numbers here are written by hand. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pare/pare.h"

static PareCompressOptions fresh(void) {
  PareCompressOptions o;
  PareError e;
  cr_assert_eq(pare_options_init(&o, &e), 0, "%s", e.text);
  return o;
}

static int set(PareCompressOptions *o, const char *name, const char *value, PareError *e) {
  return pare_options_set(o, name, value, e);
}

/* Reads `text` as a recipe; *e tells how it went. */
static int recipe(PareCompressOptions *o, const char *text, PareError *e) {
  char path[] = "pare-recipe-XXXXXX";
  int fd = mkstemp(path);
  cr_assert_geq(fd, 0);
  cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  close(fd);
  int code = pare_options_recipe(o, path, e);
  unlink(path);
  return code;
}

Test(options, start_as_the_table_says) {
  PareCompressOptions o = fresh();
  cr_assert_float_eq(o.sparsity, 0.5, 0);
  cr_assert_str_eq(o.prune, "heads,ffn");
  cr_assert_eq(o.method, 1, "method is word %d, not gate", o.method);
  cr_assert_eq(o.rank, 8);
  cr_assert_eq(o.steps, -1);
  cr_assert_float_eq(o.lr, 1e-3, 0);
  cr_assert_not(o.resume);
  cr_assert_str_eq(o.eval, "");
  pare_options_free(&o);
}

Test(options, take_values_of_every_kind) {
  PareCompressOptions o = fresh();
  PareError e;
  cr_assert_eq(set(&o, "sparsity", "0.25", &e), 0, "%s", e.text);
  cr_assert_eq(set(&o, "steps", "0", &e), 0, "%s", e.text);
  cr_assert_eq(set(&o, "method", "magnitude", &e), 0, "%s", e.text);
  cr_assert_eq(set(&o, "train", "a b.npz", &e), 0, "%s", e.text);
  cr_assert_eq(set(&o, "overwrite", NULL, &e), 0, "%s", e.text);
  cr_assert_eq(set(&o, "target", "macs=0.4", &e), 0, "%s", e.text);
  cr_assert_float_eq(o.sparsity, 0.25, 0);
  cr_assert_eq(o.steps, 0);
  cr_assert_eq(o.method, 5, "magnitude is the sixth word, not number %d", o.method);
  cr_assert_str_eq(o.train, "a b.npz");
  cr_assert(o.overwrite);
  pare_options_free(&o);
}

Test(options, a_list_replaces_its_default_and_then_grows) {
  PareCompressOptions o = fresh();
  PareError e;
  cr_assert_eq(set(&o, "prune", "ffn", &e), 0, "%s", e.text);
  cr_assert_str_eq(o.prune, "ffn");
  cr_assert_eq(set(&o, "prune", "heads", &e), 0, "%s", e.text);
  cr_assert_str_eq(o.prune, "ffn,heads");
  pare_options_free(&o);
}

Test(options, refuse_what_they_do_not_take_with_a_sentence) {
  static const struct {
    const char *name, *value, *says;
  } cases[] = {
      {"sparsity", "1", "below 1"},
      {"ema", "1", "below 1"},
      {"sparsity", "-0.1", "at least 0"},
      {"sparsity", "half", "number"},
      {"sparsity", "nan", "number"},
      {"sparsity", "", "number"},
      {"steps", "1.5", "whole number"},
      {"steps", "-1", "0 or more"},
      {"steps", "99999999999999999999", "whole number"},
      {"rank", "0", "between 1"},
      {"method", "best", "loraprune, gate, grad, fisher, movement, magnitude, wanda, obs or random"},
      {"granularity", "4:8", "structured, unstructured or 2:4"},
      {"align", "0", "between 1 and 65536"},
      {"device", "gpu", "cuda:N"},
      {"device", "cuda:", "cuda:N"},
      {"device", "cuda:1x", "cuda:N"},
      {"target", "latency=0", "above 0"},
      {"target", "params", "params=X"},
      {"target", "params=1.5", "at most 1"},
      {"prune", "heads,tails", "tails"},
      {"include", "[", "regular expression"},
      {"train", NULL, "wants a value"},
      {"no-such", "1", "no option"},
  };
  PareCompressOptions o = fresh();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    PareError e = {0};
    int code = set(&o, cases[i].name, cases[i].value, &e);
    cr_assert_eq(code, 2, "--%s %s gives %d", cases[i].name, cases[i].value, code);
    cr_assert_eq(e.code, 2);
    cr_assert_not_null(strstr(e.text, cases[i].says), "'%s' does not say '%s'", e.text, cases[i].says);
    cr_assert_not_null(strstr(e.text, cases[i].name), "'%s' does not name '%s'", e.text, cases[i].name);
  }
  cr_assert_float_eq(o.sparsity, 0.5, 0, "a refused value was kept: %g", o.sparsity);
  pare_options_free(&o);
}

Test(options, a_recipe_gives_options_as_yaml) {
  PareCompressOptions o = fresh();
  PareError e;
  int code = recipe(&o,
                    "# a comment\n"
                    "sparsity: 0.25\n"
                    "prune: [heads]\n"
                    "shape:\n  - input_ids:1x16\n  - attention_mask:1x16\n"
                    "method: \"gate\"\n"
                    "dry-run: yes\n"
                    "resume: false\n",
                    &e);
  cr_assert_eq(code, 0, "%s", e.text);
  cr_assert_float_eq(o.sparsity, 0.25, 0);
  cr_assert_str_eq(o.prune, "heads");
  cr_assert_str_eq(o.shape, "input_ids:1x16,attention_mask:1x16");
  cr_assert_eq(o.method, 1);
  cr_assert(o.dry_run);
  cr_assert_not(o.resume);
  pare_options_free(&o);
}

Test(options, the_command_line_beats_a_recipe_in_either_order) {
  PareCompressOptions o = fresh();
  PareError e;
  cr_assert_eq(set(&o, "sparsity", "0.75", &e), 0, "%s", e.text);
  cr_assert_eq(recipe(&o, "sparsity: 0.25\nprune: [heads]\n", &e), 0, "%s", e.text);
  cr_assert_eq(set(&o, "prune", "ffn", &e), 0, "%s", e.text);
  cr_assert_float_eq(o.sparsity, 0.75, 0, "%g", o.sparsity);
  cr_assert_str_eq(o.prune, "ffn");
  pare_options_free(&o);
}

Test(options, a_bad_recipe_names_its_line) {
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"sparsity: 0.5\nsparcity: 0.5\n", "line 2: there is no option sparcity"},
      {"sparsity: 0.5\nrank: many\n", "line 2: rank takes a whole number"},
      {"sparsity: 2\n", "line 1: sparsity must be"},
      {"steps: 3\nsteps: 4\n", "line 2: steps stands here a second time"},
      {"sparsity: [0.1, 0.2]\n", "line 1: sparsity wants one value"},
      {"sparsity:\n", "line 1: sparsity wants one value"},
      {"rank: {a: 1}\n", "line 1: rank wants one value"},
      {"prune: [[heads]]\n", "line 1: the list of prune"},
      {"- sparsity\n", "line 1: a recipe is"},
      {"sparsity: \"0.5\n", "not YAML"},
      {"sparsity: 0.5\n---\nrank: 4\n", "a second document"},
      {"target: latency=1.5\n", "line 1: target names the share that is left"},
      {"align: 8.5\n", "line 1: align takes a whole number"},
      {"rank: &a 4\nsteps: *a\n", "line 2: steps wants one value"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    PareCompressOptions o = fresh();
    PareError e = {0};
    int code = recipe(&o, cases[i].text, &e);
    cr_assert_eq(code, 2, "%s gives %d: %s", cases[i].text, code, e.text);
    cr_assert_not_null(strstr(e.text, cases[i].says), "'%s' does not say '%s'", e.text, cases[i].says);
    pare_options_free(&o);
  }
}

Test(options, an_empty_recipe_changes_nothing_and_a_missing_one_is_an_error_of_files) {
  PareCompressOptions o = fresh();
  PareError e;
  cr_assert_eq(recipe(&o, "", &e), 0, "%s", e.text);
  cr_assert_eq(recipe(&o, "# nothing\n", &e), 0, "%s", e.text);
  cr_assert_eq(pare_options_recipe(&o, "no-such-recipe.yaml", &e), 4);
  cr_assert_not_null(strstr(e.text, "no-such-recipe.yaml"), "%s", e.text);
  pare_options_free(&o);
}

Test(options, take_auto_for_a_rank_and_nothing_else_that_is_no_number) {
  static const char *const bad[] = {"Auto", "automatic", "auto ", "", "8.5", "0", "-1", "4097", "99999999999999999999"};
  PareCompressOptions o = fresh();
  PareError e;
  cr_assert_eq(set(&o, "rank", "auto", &e), 0, "%s", e.text);
  cr_assert_eq(o.rank, PARE_AUTO);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cr_expect_eq(set(&o, "rank", bad[i], &e), 2, "'%s' was taken", bad[i]);
    cr_expect(strstr(e.text, "--rank"), "%s", e.text);
  }
  cr_assert_eq(set(&o, "rank", "16", &e), 0, "%s", e.text);
  cr_assert_eq(o.rank, 16);
  cr_assert_eq(recipe(&o, "rank: auto\n", &e), 0, "%s", e.text);
  cr_assert_eq(o.rank, 16, "the recipe won over the caller");
  pare_options_free(&o);
  o = fresh();
  cr_assert_eq(recipe(&o, "rank: auto\n", &e), 0, "%s", e.text);
  cr_assert_eq(o.rank, PARE_AUTO);
  pare_options_free(&o);
}

Test(options, take_auto_for_epochs_and_mu_and_nothing_else_that_is_no_number) {
  static const char *const bad[] = {"Auto", "auto ", "", "-1", "-0.5", "inf", "nan", "1e10"};
  static const char *const name[] = {"epochs", "mu"};
  PareCompressOptions o = fresh();
  const double *const field[] = {&o.epochs, &o.mu};
  PareError e;
  for (size_t k = 0; k < 2; k++) {
    cr_assert_eq(*field[k], (double)PARE_AUTO, "%s: the default is %g", name[k], *field[k]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
      cr_expect_eq(set(&o, name[k], bad[i], &e), 2, "%s '%s' was taken", name[k], bad[i]);
      cr_expect(strstr(e.text, name[k]), "%s", e.text);
    }
    cr_assert_eq(set(&o, name[k], "0.25", &e), 0, "%s", e.text);
    cr_expect_eq(*field[k], 0.25);
    cr_assert_eq(set(&o, name[k], "auto", &e), 0, "%s", e.text);
    cr_expect_eq(*field[k], (double)PARE_AUTO);
  }
  pare_options_free(&o);
}

Test(options, about_what_is_cut_are_told_from_those_that_tune) {
  static const char *const cut[] = {"sparsity", "target", "prune", "plan", "method", "granularity", "save-masked"};
  static const char *const tune[] = {"train", "steps", "rank", "lr", "adapters", "teacher", "no-such-option"};
  for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) cr_expect(pare_option_cuts(cut[i]), "%s", cut[i]);
  for (size_t i = 0; i < sizeof tune / sizeof *tune; i++) cr_expect_not(pare_option_cuts(tune[i]), "%s", tune[i]);
}
