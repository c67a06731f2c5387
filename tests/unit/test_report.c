/* test_report - the account of a run: the fields of DESIGN 3, and a page that
 * stands alone. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/report.h"

static const bool kept[4] = {true, false, true, false};
static const double scores[4] = {0.5, 0.125, NAN, 0.25};
static const PareReportGroup groups[] = {{"layer<0>:heads", "heads", 4, 2, kept, scores},
                                         {"layer0:\xff" "ffn", "ffn", 8, 8, NULL, NULL}};
static const PareReportClass classes[] = {{"heads", 0.5}, {"ffn", 0}};
static const PareReportOption options[] = {{"sparsity", "0.5", false}, {"train", "0.5", true}, {"resume", "false", false}};
static const PareReportPoint points[] = {{1, 2.5, 0, 0.25}, {2, NAN, 0.5, 0.5}};
static const PareReportEval evals[] = {{0, 0.9}, {2, 0.8}};

static const char *const rewriters[] = {"ONNX Runtime"};
static const PareForm forms[] = {{"attention", "Softmax and MatMul", 3}, {"gelu", "Erf", 2}};
static const PareFingerprint fingerprint = {"pytorch", "1.13.0", "PyTorch TorchScript", 1, rewriters, 2, forms};

static PareReport example(void) {
  return (PareReport){.version = "0.1.0", .seed = 7, .fingerprint = &fingerprint,
                      .input = {"a&b.onnx", "aa", 17, 1000, 2000, 4000, 0.002},
                      .output = {"c.onnx", "bb", 17, 600, 1000, 2500, 0.001},
                      .target = {"sparsity", 0.5, 0.5, 2, classes}, .ngroups = 2, .groups = groups,
                      .metric = {"accuracy", 0.9, 0.8, 100, true}, .validation = {1e-6, 1e-7, 64, true},
                      .training = {"cpu", "fp32", 2, 1 << 20, 30, 0.03, 1.5, 40, NAN},
                      .noptions = 3, .options = options, .npoints = 2, .points = points, .nevals = 2, .evals = evals};
}

/* A report in a folder of its own, removed by clean. */
static void make(char dir[], const PareReport *r) {
  PareCtx c;
  cr_assert(pare_ctx_init(&c, NULL, 0));
  cr_assert_not_null(mkdtemp(dir));
  PareStatus s = pare_report_write(&c, dir, r);
  cr_assert_eq(s, PARE_OK, "%s", c.diag.text);
  pare_ctx_free(&c);
}

static void path_of(char out[64], const char *dir, const char *name) { snprintf(out, 64, "%s/%s", dir, name); }

static void clean(const char *dir) {
  char path[64];
  path_of(path, dir, "report.json");
  unlink(path);
  path_of(path, dir, "report.html");
  unlink(path);
  cr_assert_eq(rmdir(dir), 0, "something else was left in %s", dir);
}

static const json_t *at(const json_t *o, const char *key) {
  const json_t *v = json_object_get(o, key);
  cr_assert_not_null(v, "no '%s'", key);
  return v;
}

Test(report, json_has_what_scripts_depend_on) {
  static const char *const fields[] = {"exporter.exporter", "exporter.rewritten_by", "exporter.producer_name",
    "exporter.producer_version", "exporter.attention", "exporter.layernorm", "exporter.gelu",
    "input.path", "input.sha256", "input.opset", "input.params", "input.macs",
    "input.bytes", "output.path", "output.bytes", "target.kind", "target.requested", "target.reached",
    "target.reached_by_class", "metrics.name", "metrics.dense", "metrics.compact", "metrics.points",
    "validation.masked_vs_compact_max_abs", "validation.masked_vs_compact_rel", "validation.samples",
    "validation.passed", "training.device", "training.precision", "training.steps", "training.seconds",
    "training.trained_parameters", "training.trained_share",
    "training.samples_per_second", "training.peak_memory_bytes", "training.final_loss"};
  char dir[] = "pare-report-XXXXXX", path[64];
  PareReport r = example();
  make(dir, &r);
  path_of(path, dir, "report.json");
  json_error_t e;
  json_t *o = json_load_file(path, 0, &e);
  cr_assert_not_null(o, "%s", e.text);
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    const char *dot = strchr(fields[i], '.');
    char head[32];
    snprintf(head, sizeof head, "%.*s", (int)(dot - fields[i]), fields[i]);
    at(at(o, head), dot + 1);
  }
  cr_assert_eq(json_integer_value(at(o, "seed")), 7);
  cr_assert_str_eq(json_string_value(at(o, "version")), "0.1.0");
  cr_assert(json_is_null(at(at(o, "training"), "final_loss")), "NaN has no JSON");
  cr_assert_eq(json_integer_value(at(at(o, "training"), "trained_parameters")), 30);
  cr_assert(json_is_real(at(at(o, "options"), "sparsity")));
  cr_assert(json_is_string(at(at(o, "options"), "train")), "text that looks like a number is text");
  cr_assert(json_is_false(at(at(o, "options"), "resume")));
  const json_t *first = json_array_get(at(o, "groups"), 0);
  cr_assert_eq(json_integer_value(at(first, "before")), 4);
  cr_assert_eq(json_integer_value(at(first, "after")), 2);
  cr_assert_eq(json_integer_value(json_array_get(at(first, "kept"), 1)), 2);
  cr_assert_eq(json_array_size(at(first, "scores")), 4, "what has gone had a score too");
  cr_assert_eq(json_real_value(json_array_get(at(first, "scores"), 1)), 0.125);
  cr_assert(json_is_null(json_array_get(at(first, "scores"), 2)), "NaN has no JSON");
  cr_assert_null(json_object_get(json_array_get(at(o, "groups"), 1), "scores"), "none were taken");
  json_decref(o);
  clean(dir);
}

Test(report, the_page_stands_alone_and_escapes_names) {
  char dir[] = "pare-report-XXXXXX", path[64];
  PareReport r = example();
  make(dir, &r);
  path_of(path, dir, "report.html");
  static char page[1 << 16];
  FILE *f = fopen(path, "r");
  cr_assert_not_null(f);
  page[fread(page, 1, sizeof page - 1, f)] = 0;
  fclose(f);
  cr_assert_null(strstr(page, "http"), "it reads something from elsewhere");
  cr_assert_null(strstr(page, "<script"));
  cr_assert_null(strstr(page, "layer<0>"));
  cr_assert_not_null(strstr(page, "layer&lt;0&gt;:heads"));
  cr_assert_not_null(strstr(page, "a&amp;b.onnx"));
  cr_assert_not_null(strstr(page, "2 of 4"));
  cr_assert_not_null(strstr(page, "80.00 %"));
  cr_assert_null(strstr(page, "nan,"), "a point that is not a number was drawn");
  clean(dir);
}

Test(report, a_run_without_tuning_or_metric_has_a_page_too) {
  char dir[] = "pare-report-XXXXXX";
  PareReport r = example();
  r.npoints = r.nevals = r.ngroups = 0;
  r.metric.name = NULL;
  make(dir, &r);
  clean(dir);
}

Test(report, a_folder_that_cannot_be_made_is_an_error_of_files) {
  PareCtx c;
  cr_assert(pare_ctx_init(&c, NULL, 0));
  PareReport r = example();
  cr_assert_eq(pare_report_write(&c, "no/such/folder", &r), PARE_IO);
  pare_ctx_free(&c);
}
