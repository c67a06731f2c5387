/* sweep.c - pare sweep: those of compress's options that say what goes and by which scores, and the curves. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"

/* Of options.def. */
static const char *const shared[] = {
    "train", "eval",   "sparsity", "target", "prune",  "method",  "ranking",   "floor",   "align",   "importance", "eta",
    "rank",  "alpha",  "loss",     "batch",  "seed",    "threads",   "device",  "include", "exclude",    "precision",
    "temperature", "metric", "save-plan", "report",
};
enum { NSHARED = sizeof shared / sizeof *shared };

static const CliOption all[] = {
#include "pare/options.def"
#undef OPTION
};

static size_t list_options(CliOption *out) {
  size_t n = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    for (size_t k = 0; k < NSHARED; k++)
      if (!strcmp(all[i].name, shared[k])) out[n++] = all[i];
  return n;
}

/* --- printing --- */

enum { COLUMN = 9, MOST_NAME = 48 };

static int name_width(const PareSweepResult *r) {
  int width = 8;
  for (size_t i = 0; i < r->ncurves; i++) {
    int n = (int)strlen(r->curves[i].name) + 2;
    if (n > width) width = n < MOST_NAME ? n : MOST_NAME;
  }
  return width;
}

static void row(const PareSweepCurve *c, int width) {
  char kept[CLI_NUMBER_TEXT];
  bool layer = *c->name;
  fputs(layer ? "  " : "", stdout);
  cli_text(stdout, layer ? c->name : c->kind);
  int used = (int)strlen(layer ? c->name : c->kind) + 2 * layer;
  printf("%*s", used < width ? width - used : 0, "");
  for (size_t k = 0; k < c->npoints; k++) printf(" %*.4g", COLUMN, c->points[k].loss);
  snprintf(kept, sizeof kept, "%" PRId64 "/%" PRId64, c->kept, c->count);
  printf(" %12s\n", kept);
}

static void judged(const PareSweepResult *r, const char *what, double loss, double value) {
  printf("%-32s %s %.4g, %s %.*f%s\n", what, r->loss_name, loss, r->metric, r->share ? 2 : 5,
         r->share ? 100 * value : value, r->share ? " %" : "");
}

static void print(const PareSweepResult *r) {
  char kept[64], what[64];
  int width = name_width(r);
  printf("%-*s", width, r->loss_name);
  for (size_t k = 0; r->ncurves && k < r->curves[0].npoints; k++) printf(" %*.4g %%", COLUMN - 2, 100 * r->curves[0].points[k].share);
  snprintf(kept, sizeof kept, "less %.4g %%", 100 * r->sparsity);
  printf(" %12s\n", kept);
  for (size_t i = 0; i < r->ncurves; i++) {
    if (*r->curves[i].name) continue;
    row(&r->curves[i], width);
    for (size_t k = 0; k < r->ncurves; k++)
      if (*r->curves[k].name && !strcmp(r->curves[k].kind, r->curves[i].kind)) row(&r->curves[k], width);
  }
  putchar('\n');
  judged(r, "the whole model", r->loss, r->value);
  snprintf(what, sizeof what, "%s %.4g, by curves%s", r->target, r->requested, r->by_scores ? "" : ", as above");
  judged(r, what, r->split_loss, r->split_value);
  snprintf(what, sizeof what, "%s %.4g, by scores%s", r->target, r->requested, r->by_scores ? ", as above" : "");
  judged(r, what, r->ranked_loss, r->ranked_value);
  printf("%" PRId64 " samples, nothing tuned, scored by %s\n", r->samples, r->method);
}

/* --- the command --- */

static int run(const CliInput *in, const PareCompressOptions *o, bool json, const volatile sig_atomic_t *stop) {
  CliProgress progress;
  PareSweepResult *r = NULL;
  PareError e;
  PareHooks h = cli_hooks(in, &progress, stop);
  int code = pare_sweep(in->operand[0], o, &h, &r, &e);
  cli_progress_end(&progress);
  if (code) return cli_fail(&e);
  char *text = json ? pare_sweep_json(r) : NULL;
  if (!json) print(r);
  else if (text) fputs(text, stdout);
  free(text); /* the library's, by malloc */
  bool ok = !json || text;
  pare_sweep_result_free(r);
  return ok ? 0 : cli_fail(&(PareError){5, "out of memory"});
}

int cli_sweep(int argc, char **argv, const volatile sig_atomic_t *stop) {
  bool json = false;
  const char *data = NULL;
  PareCompressOptions o;
  PareError e;
  CliOption options[NSHARED + 2] = {
      {"data", 0, CLI_TEXT, "DATA", "", "the same as --train: samples to score and, a tenth that is held out, to judge by", &data},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &json},
  };
  CliCommand cmd = {.name = "sweep", .operands = "MODEL", .options = options, .take = cli_take_option, .arg = &o,
                    .about = "Tells what the loss does when groups go, by class and by layer, before any tuning, and how a\n"
                             "budget should be split over the layers because of it (--save-plan writes that for compress).",
                    .noptions = 2 + list_options(options + 2)};
  CliInput in;
  if (pare_options_init(&o, &e)) return cli_fail(&e);
  int code = cli_read(&cmd, argc, argv, &in);
  if (code < 0 && data && *o.train) code = cli_usage_error("--data and --train are the same thing: give one of them");
  if (code < 0 && data && pare_options_set(&o, "train", data, &e)) code = cli_fail(&e);
  if (code < 0) code = run(&in, &o, json, stop);
  pare_options_free(&o);
  return code;
}
