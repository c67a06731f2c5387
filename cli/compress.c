/* compress.c - pare compress, and its kin: options.def as a command line, and the result. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/compress.h"
#include "cli/options.h"
#include "cli/progress.h"

/* "params  2,116,098  1,518,210   71.7 %" */
static void row(const char *name, int64_t before, int64_t after) {
  char a[CLI_NUMBER_TEXT], b[CLI_NUMBER_TEXT];
  printf("%-12s %16s %16s", name, cli_count(before, a), cli_count(after, b));
  if (before > 0) printf(" %7.1f %%", 100 * (double)after / (double)before);
  putchar('\n');
}

static void print(const CliVerb *verb, const PareCompressResult *r) {
  if (verb->cuts || r->metric) printf("%-12s %16s %16s%s\n", "", "before", "after", verb->cuts ? "      left" : "");
  if (verb->cuts) {
    row("params", r->input.params, r->output.params);
    row("MACs", r->input.macs, r->output.macs);
    row("bytes", r->input.bytes, r->output.bytes);
  }
  if (r->metric) {
    double scale = r->share ? 100 : 1;
    printf("%-12s %16.*f %16.*f\n", r->metric, r->share ? 2 : 5, scale * r->dense, r->share ? 2 : 5, scale * r->compact);
  }
  if (r->measured_ms > 0)
    printf("%-12s %13.4g ms %13.4g ms %7.1f %%   predicted %.4g of %.4g ms\n", "latency", r->dense_ms_now, r->measured_ms,
           100 * r->measured_ms / r->dense_ms_now, r->predicted_ms, r->dense_ms);
  if (r->target && verb->cuts) printf("%-12s %16.4g %16.4g   asked for, reached\n", r->target, r->requested, r->reached);
  if (verb->cuts)
    printf("%s and cut model differ by %.2g (relative %.2g)\n", r->exact ? "masked" : "re-specialised",
           r->masked_vs_compact_abs, r->masked_vs_compact_rel);
  if (r->steps > 0)
    printf("%" PRId64 " steps in %.1f s, %.0f samples/s\n", r->steps, r->seconds, r->samples_per_second);
}

static int run(const CliVerb *verb, const CliInput *in, const PareCompressOptions *o, const volatile sig_atomic_t *stop) {
  CliProgress progress;
  PareCompressResult *r = NULL;
  PareError e;
  PareHooks h = cli_hooks(in, &progress, stop);
  int code = verb->run(in->operand[0], in->operand[1], o, &h, &r, &e);
  cli_progress_end(&progress);
  if (code) return cli_fail(&e);
  if (r && r->output.path && in->verbose >= 0) print(verb, r); /* none after --dry-run */
  pare_compress_result_free(r);
  return 0;
}

int cli_run_verb(const CliVerb *verb, int argc, char **argv, const volatile sig_atomic_t *stop) {
  const char *recipe = NULL;
  PareCompressOptions o;
  PareError e;
  CliOption options[] = {
      {"recipe", 0, CLI_TEXT, "FILE.yaml", "", "options from a file, NAME: VALUE a line; the command line wins", &recipe},
#include "pare/options.def"
#undef OPTION
  };
  const CliCommand cmd = {.name = verb->name, .operands = verb->operands, .options = options, .take = cli_take_option, .arg = &o,
                          .about = verb->about, .noptions = sizeof options / sizeof *options};
  CliInput in;
  for (size_t i = 0; i < cmd.noptions; i++)
    if (!verb->cuts && pare_option_cuts(options[i].name)) options[i].help = NULL;
  if (pare_options_init(&o, &e)) return cli_fail(&e);
  int code = cli_read(&cmd, argc, argv, &in);
  if (code < 0 && recipe && pare_options_recipe(&o, recipe, &e)) code = cli_fail(&e);
  if (code < 0) code = run(verb, &in, &o, stop);
  pare_options_free(&o);
  return code;
}

int cli_compress(int argc, char **argv, const volatile sig_atomic_t *stop) {
  static const CliVerb verb = {.name = "compress", .operands = "MODEL OUT", .cuts = true, .run = pare_compress,
                               .about = "Prunes and tunes a model, and writes a smaller one that is proven equal to the "
                                        "pruned one."};
  return cli_run_verb(&verb, argc, argv, stop);
}
