/* inspect.c - pare inspect. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/why.h"

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
  printf("\nexporter   %s", *i->exporter ? i->exporter : "unknown");
  printf("\nopset      %" PRId64 " (IR version %" PRId64 "), %" PRId64 " nodes\n", i->opset, i->ir_version, i->nodes);
  printf("params     %s\n", cli_count(i->params, a));
  printf("MACs       %s (%s) for one sample, ", cli_count(i->macs, a), cli_scaled((double)i->macs, "", b));
  if (shape) printf("at %s\n", shape);
  else printf("other dynamic axes at %" PRId64 ": --shape sets them\n", i->axes_at);
  printf("bytes      %s (%s)\n", cli_count(i->bytes, a), cli_scaled((double)i->bytes, "B", b));
  for (size_t k = 0; k < i->ninputs; k++) print_tensor(k ? "" : "inputs", &i->inputs[k]);
  for (size_t k = 0; k < i->noutputs; k++) print_tensor(k ? "" : "outputs", &i->outputs[k]);
}

static void print_opaque(const PareInspection *i) {
  for (size_t k = 0; k < i->nopaque; k++) {
    printf("%-10s ", k ? "" : "opaque");
    cli_text(stdout, i->opaque[k].node);
    fputs(" (", stdout);
    cli_text(stdout, i->opaque[k].op);
    fputs(*i->opaque[k].domain ? ", " : "", stdout);
    cli_text(stdout, i->opaque[k].domain);
    fputs(")\n", stdout);
  }
  if (i->nopaque)
    printf("           %" PRId64 " node%s left as they are; the outputs above are what they read\n", i->left_out,
           i->left_out == 1 ? " is" : "s are");
}

/* "8 dimensions: 4 heads, 4 ffn" */
static void print_summary(const PareInspection *i) {
  char a[CLI_NUMBER_TEXT];
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
  printf("           %s params (%.1f %%) lie in heads and FFN channels\n", cli_count(i->prunable_params, a),
         i->params ? 100 * (double)i->prunable_params / (double)i->params : 0);
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

static int print_json(char *text) {
  if (!text) return cli_fail(&(PareError){5, "out of memory"});
  fputs(text, stdout);
  free(text);
  return 0;
}

static double prunable_share(const PareInspection *i) {
  return i->params ? (double)i->prunable_params / (double)i->params : 0;
}

/* --strict: exit 1 when too little of the model can be pruned. */
static int check_share(const PareInspection *i, double strict) {
  PareError e = {.code = 1};
  if (prunable_share(i) >= strict) return 0;
  snprintf(e.text, sizeof e.text, "%s: %.4g of the parameters lie in heads and FFN channels that can be pruned, less than "
           "--strict %g asks for (--groups tells what forbids the rest)", i->path, prunable_share(i), strict);
  return cli_fail(&e);
}

typedef struct Wanted {
  bool groups, json;
  const char *shape, *why, *prune;
  double strict; /* -1: not asked for */
} Wanted;

static int explain(const char *model, const Wanted *want, const PareHooks *h) {
  PareWhy *w;
  PareError e;
  if (pare_why(model, want->why, h, &w, &e)) return cli_fail(&e);
  int code = 0;
  if (want->json) code = print_json(pare_why_json(w));
  else cli_print_why(w);
  pare_why_free(w);
  return code;
}

static int inspect(const char *model, const Wanted *want, const PareHooks *h) {
  PareInspection *i;
  PareError e;
  if (pare_inspect(model, want->shape, want->prune, h, &i, &e)) return cli_fail(&e);
  int code = 0;
  if (want->json) code = print_json(pare_inspection_json(i));
  else {
    print_facts(i, want->shape);
    print_opaque(i);
    print_summary(i);
    if (want->groups) print_groups(i);
  }
  if (!code && want->strict >= 0) code = check_share(i, want->strict);
  pare_inspection_free(i);
  return code;
}

int cli_inspect(int argc, char **argv, const volatile sig_atomic_t *stop) {
  Wanted want = {.strict = -1};
  const CliOption options[] = {
      {"groups", 0, CLI_FLAG, "", "", "every dimension that can be pruned, and those that cannot with the reason",
       &want.groups},
      {"why", 0, CLI_TEXT, "NAME", "", "of a weight, node or tensor: the dimension of each axis, and the chain of ops that "
       "ties it to other weights or forbids cutting it", &want.why},
      {"strict", 0, CLI_NUMBER, "SHARE", "", "fail (exit 1) when a smaller share of the parameters lies in heads and FFN "
       "channels that can be pruned", &want.strict},
      {"prune", 0, CLI_TEXT, "KINDS", "", "also look for what these classes can cut: head-dim (of q and k), width, depth, "
       "vocab", &want.prune},
      {"shape", 0, CLI_TEXT, "NAME:DIMS", "", "sizes of dynamic axes for the MACs: input_ids:1x128", &want.shape},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &want.json},
  };
  const CliCommand cmd = {.name = "inspect", .operands = "MODEL", .options = options,
                          .about = "Prints what a model is, what it costs and what can be pruned of it.",
                          .noptions = sizeof options / sizeof *options};
  CliInput in;
  CliProgress progress;
  int code = cli_read(&cmd, argc, argv, &in);
  if (code >= 0) return code;
  if (want.strict > 1) return cli_usage_error("--strict takes a share between 0 and 1, not %g", want.strict);
  if (want.why && (want.groups || want.shape || want.strict >= 0))
    return cli_usage_error("--why answers one question: it goes with --json alone");
  PareHooks h = cli_hooks(&in, &progress, stop);
  return want.why ? explain(in.operand[0], &want, &h) : inspect(in.operand[0], &want, &h);
}
