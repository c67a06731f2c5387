/* diff.c - pare diff. */
#include <inttypes.h>

#include "cli/cli.h"
#include "cli/progress.h"

static void print_change(const PareChange *x) {
  printf("%c %-9s ", !x->before ? '+' : !x->after ? '-' : '~', x->what);
  cli_text(stdout, x->name);
  fputs(": ", stdout);
  if (x->before) cli_text(stdout, x->before);
  if (x->before && x->after) fputs(" => ", stdout);
  if (x->after) cli_text(stdout, x->after);
  putchar('\n');
}

static void print_text(const PareDiff *d) {
  for (size_t i = 0; i < d->nchanges; i++) print_change(&d->changes[i]);
  printf("%zu change%s", d->nchanges, d->nchanges == 1 ? "" : "s");
  if (!d->ran) {
    fputs("; the outputs were not compared: ", stdout);
    cli_text(stdout, d->why.text);
  } else {
    fputs("; output '", stdout);
    cli_text(stdout, d->outputs.worst);
    printf("' differs most: by %.3g, which is %.3g of its largest value; %" PRId64 " samples", d->outputs.max_abs,
           d->outputs.max_rel, d->outputs.samples);
  }
  putchar('\n');
}

static void print_member(const char *key, const char *value) {
  printf(", \"%s\": ", key);
  if (value) cli_json_text(stdout, value);
  else fputs("null", stdout);
}

static void print_json(const PareDiff *d) {
  fputs("{\"changes\": [", stdout);
  for (size_t i = 0; i < d->nchanges; i++) {
    const PareChange *x = &d->changes[i];
    printf("%s{\"what\": \"%s\"", i ? ",\n  " : "\n  ", x->what);
    print_member("name", x->name);
    print_member("before", x->before);
    print_member("after", x->after);
    putchar('}');
  }
  fputs("],\n \"outputs\": ", stdout);
  if (d->ran) {
    fputs("{\"max_abs\": ", stdout);
    cli_json_number(stdout, d->outputs.max_abs);
    fputs(", \"max_rel\": ", stdout);
    cli_json_number(stdout, d->outputs.max_rel);
    print_member("worst", d->outputs.worst);
    printf(", \"samples\": %" PRId64 "}", d->outputs.samples);
  } else {
    fputs("null", stdout);
  }
  puts("}");
}

int cli_diff(int argc, char **argv, const volatile sig_atomic_t *stop) {
  bool json = false;
  const char *data = NULL;
  const CliOption options[] = {
      {"data", 0, CLI_TEXT, "DATA", "", "samples to compare the outputs on; else random ones", &data},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &json},
  };
  const CliCommand cmd = {.name = "diff", .operands = "BEFORE AFTER", .options = options,
                          .about = "Tells what changed from one model to another: opsets, metadata, interface, nodes, "
                                   "tensors, and how far\nthe outputs are apart. Exits 1 when anything did.",
                          .noptions = sizeof options / sizeof *options};
  CliInput in;
  CliProgress progress;
  PareDiff *d;
  PareError e;
  int code = cli_read(&cmd, argc, argv, &in);
  if (code >= 0) return code;
  PareHooks h = cli_hooks(&in, &progress, stop);
  code = pare_diff(in.operand[0], in.operand[1], data, &h, &d, &e);
  cli_progress_end(&progress);
  if (code) return cli_fail(&e);
  if (json) print_json(d);
  else print_text(d);
  bool same = d->nchanges == 0 && (!d->ran || d->outputs.max_abs == 0);
  pare_diff_free(d);
  return same ? 0 : 1;
}
