/* verify.c - pare verify. */
#include <inttypes.h>

#include "cli/cli.h"
#include "cli/progress.h"

static void print(const PareVerifyResult *r, bool json) {
  if (!json) {
    printf("%s: output '", r->passed ? "equal" : "different");
    cli_text(stdout, r->worst);
    printf("' differs most: by %.3g, which is %.3g of its largest value; %" PRId64 " samples\n", r->max_abs,
           r->max_rel, r->samples);
    return;
  }
  printf("{\"passed\": %s, \"max_abs\": ", r->passed ? "true" : "false");
  cli_json_number(stdout, r->max_abs);
  fputs(", \"max_rel\": ", stdout);
  cli_json_number(stdout, r->max_rel);
  fputs(", \"worst\": ", stdout);
  cli_json_text(stdout, r->worst);
  printf(", \"samples\": %" PRId64 "}\n", r->samples);
}

int cli_verify(int argc, char **argv, const volatile sig_atomic_t *stop) {
  bool json = false;
  const char *data = NULL;
  double atol = 1e-8, rtol = 1e-4;
  const CliOption options[] = {
      {"data", 0, CLI_TEXT, "DATA", "", "samples to run; else random ones, at two sizes of each dynamic axis", &data},
      {"atol", 0, CLI_NUMBER, "X", "1e-8", "an output may differ by atol + rtol * its largest value", &atol},
      {"rtol", 0, CLI_NUMBER, "X", "1e-4", "see --atol", &rtol},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &json},
  };
  const CliCommand cmd = {.name = "verify", .operands = "REFERENCE MODEL", .options = options,
                          .about = "Runs two models on the same inputs and compares every output. Exits 1 when one differs.",
                          .noptions = sizeof options / sizeof *options};
  CliInput in;
  CliProgress progress;
  PareVerifyResult r;
  PareError e;
  int code = cli_read(&cmd, argc, argv, &in);
  if (code >= 0) return code;
  PareHooks h = cli_hooks(&in, &progress, stop);
  code = pare_verify(in.operand[0], in.operand[1], data, atol, rtol, &h, &r, &e);
  cli_progress_end(&progress);
  if (code == 0 || (code == 1 && r.worst_name[0])) print(&r, json);
  return code ? cli_fail(&e) : 0;
}
