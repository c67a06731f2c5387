/* eval.c - pare eval. */
#include <inttypes.h>

#include "cli/cli.h"
#include "cli/progress.h"

static void print(const PareEvalResult *r, bool json) {
  if (json) {
    fputs("{\"metric\": ", stdout);
    cli_json_text(stdout, r->metric);
    fputs(", \"value\": ", stdout);
    cli_json_number(stdout, r->value);
    fputs(", \"loss\": ", stdout);
    cli_json_number(stdout, r->loss);
    printf(", \"points\": %g, \"samples\": %" PRId64 ", \"seconds\": ", r->points, r->samples);
    cli_json_number(stdout, r->seconds);
    puts("}");
    return;
  }
  if (r->share) printf("%s %.2f %%", r->metric, 100 * r->value);
  else printf("%s %.6g", r->metric, r->value);
  printf("  loss %.4f  %" PRId64 " samples in %.2f s\n", r->loss, r->samples, r->seconds);
}

int cli_eval(int argc, char **argv, const volatile sig_atomic_t *stop) {
  bool json = false;
  const char *data = NULL, *metric = NULL, *device = NULL;
  int64_t batch = 0, threads = 0;
  const CliOption options[] = {
      {"data", 0, CLI_TEXT, "DATA", "", "labelled samples: .npz with an array for each input, and labels", &data},
      {"metric", 0, CLI_TEXT, "NAME", "auto", "accuracy, f1, f1-macro, token-f1, matthews, top5, mse, pearson, "
       "spearman, span-f1 or span-em; auto: what fits the labels", &metric},
      {"batch", 0, CLI_WHOLE, "N", "32", "samples at a time", &batch},
      {"threads", 0, CLI_WHOLE, "N", "", "one for each core, unless given", &threads},
      {"device", 0, CLI_TEXT, "DEVICE", "auto", "where to run: auto, cpu, cuda or cuda:N", &device},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &json},
  };
  const CliCommand cmd = {.name = "eval", .operands = "MODEL", .options = options,
                          .about = "Judges a model by labels: accuracy of classes, mean squared error of numbers, or\n"
                                   "what --metric says.",
                          .noptions = sizeof options / sizeof *options};
  CliInput in;
  CliProgress progress;
  PareEvalResult r;
  PareError e;
  int code = cli_read(&cmd, argc, argv, &in);
  if (code >= 0) return code;
  if (!data) return cli_usage_error("'pare eval' wants --data DATA");
  if (batch > 1 << 20 || threads > 4096) return cli_usage_error("--batch or --threads is too large");
  PareHooks h = cli_hooks(&in, &progress, stop);
  code = pare_eval(in.operand[0], data, metric, batch, (int)threads, device, &h, &r, &e);
  cli_progress_end(&progress);
  if (code) return cli_fail(&e);
  print(&r, json);
  return 0;
}
