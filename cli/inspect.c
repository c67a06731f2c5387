/* inspect.c - pare inspect. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

static void print_tensor(const char *what, const PareTensorInfo *t) {
  printf("%-10s ", what);
  cli_text(stdout, t->name);
  printf(" %s[", t->dtype);
  for (int d = 0; d < t->rank; d++) {
    if (d) fputs(", ", stdout);
    if (t->dim[d] >= 0) printf("%" PRId64, t->dim[d]);
    else cli_text(stdout, t->dim_name[d] ? t->dim_name[d] : "?");
  }
  puts("]");
}

static void print_facts(const PareInspection *i, const char *shape) {
  char a[CLI_NUMBER_TEXT], b[CLI_NUMBER_TEXT];
  printf("model      ");
  cli_text(stdout, i->path);
  printf("\nproducer   ");
  cli_text(stdout, *i->producer ? i->producer : "unknown");
  printf("\nopset      %" PRId64 " (IR version %" PRId64 "), %" PRId64 " nodes\n", i->opset, i->ir_version, i->nodes);
  printf("params     %s\n", cli_count(i->params, a));
  printf("MACs       %s (%s) for one sample, %s%s\n", cli_count(i->macs, a), cli_scaled((double)i->macs, "", b),
         shape ? "at " : "other dynamic axes at 1: --shape sets them", shape ? shape : "");
  printf("bytes      %s (%s)\n", cli_count(i->bytes, a), cli_scaled((double)i->bytes, "B", b));
  for (size_t k = 0; k < i->ninputs; k++) print_tensor(k ? "" : "inputs", &i->inputs[k]);
  for (size_t k = 0; k < i->noutputs; k++) print_tensor(k ? "" : "outputs", &i->outputs[k]);
}

/* "8 dimensions: 4 heads, 4 ffn" */
static void print_summary(const PareInspection *i) {
  printf("prunable   %zu dimension%s", i->ngroups, i->ngroups == 1 ? "" : "s");
  for (size_t k = 0; k < i->ngroups; k++) {
    size_t n = 0;
    bool told = false;
    for (size_t j = 0; j < i->ngroups; j++) {
      if (strcmp(i->groups[j].kind, i->groups[k].kind)) continue;
      told |= j < k;
      n++;
    }
    if (!told) printf("%s %zu %s", k ? "," : ":", n, i->groups[k].kind);
  }
  printf("; %zu that look like one are frozen\n", i->nfrozen);
}

static void print_groups(const PareInspection *i) {
  char a[CLI_NUMBER_TEXT];
  int width = 9;
  for (size_t k = 0; k < i->ngroups; k++)
    if ((int)strlen(i->groups[k].name) > width) width = (int)strlen(i->groups[k].name);
  if (i->ngroups) printf("\n%-*s %-9s %6s %12s\n", width, "dimension", "kind", "groups", "params each");
  for (size_t k = 0; k < i->ngroups; k++) {
    const PareGroupInfo *g = &i->groups[k];
    cli_text(stdout, g->name);
    printf("%*s %-9s %6" PRId64 " %12s\n", width - (int)strlen(g->name), "", g->kind, g->count, cli_count(g->params, a));
    for (size_t m = 0; m < g->nmembers; m++) {
      fputs("    ", stdout);
      cli_text(stdout, g->members[m]);
      putchar('\n');
    }
  }
  if (i->nfrozen) puts("\nfrozen");
  for (size_t k = 0; k < i->nfrozen; k++) {
    cli_text(stdout, i->frozen[k].name);
    printf(" (%" PRId64 "): ", i->frozen[k].count);
    cli_text(stdout, i->frozen[k].reason);
    putchar('\n');
  }
}

static int print_json(const PareInspection *i) {
  char *text = pare_inspection_json(i);
  if (!text) return cli_fail(&(PareError){5, "out of memory"});
  fputs(text, stdout);
  free(text);
  return 0;
}

int cli_inspect(int argc, char **argv, const volatile sig_atomic_t *stop) {
  bool groups = false, json = false;
  const char *shape = NULL;
  const CliOption options[] = {
      {"groups", 0, CLI_FLAG, "", "", "every dimension that can be pruned, and those that cannot with the reason", &groups},
      {"shape", 0, CLI_TEXT, "NAME:DIMS", "", "sizes of dynamic axes for the MACs: input_ids:1x128", &shape},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &json},
  };
  const CliCommand cmd = {.name = "inspect", .operands = "MODEL", .options = options,
                          .about = "Prints what a model is, what it costs and what can be pruned of it.",
                          .noptions = sizeof options / sizeof *options};
  CliInput in;
  CliProgress progress;
  PareInspection *i;
  PareError e;
  int code = cli_read(&cmd, argc, argv, &in);
  if (code >= 0) return code;
  PareHooks h = cli_hooks(&in, &progress, stop);
  if (pare_inspect(in.operand[0], shape, &h, &i, &e)) return cli_fail(&e);
  code = 0;
  if (json) code = print_json(i);
  else {
    print_facts(i, shape);
    print_summary(i);
    if (groups) print_groups(i);
  }
  pare_inspection_free(i);
  return code;
}
