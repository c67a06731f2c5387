/* why.c - what pare inspect --why prints. */
#include "cli/why.h"

#include <inttypes.h>

static void print_size(int64_t size) {
  if (size < 0) putchar('?');
  else printf("%" PRId64, size);
}

static void print_node(const char *node, const char *op) {
  cli_text(stdout, node);
  printf(" (%s)", op);
}

/* "by /q/MatMul (MatMul), /q/Add (Add)" */
static void print_steps(const PareWhyChain *c) {
  if (c->nsteps) fputs(" by ", stdout);
  for (size_t i = 0; i < c->nsteps; i++) {
    if (i) fputs(", ", stdout);
    if (c->steps[i].node) print_node(c->steps[i].node, c->steps[i].op);
    else fputs("the same weight", stdout);
  }
  putchar('\n');
}

static void print_chain(const char *what, const PareWhyChain *c) {
  printf("      %s ", what);
  cli_text(stdout, c->tensor);
  printf(":%d", c->axis);
  print_steps(c);
}

static void print_part(const PareWhyPart *p) {
  fputs("  ", stdout);
  print_size(p->size);
  if (p->dimension) {
    printf(" %s: ", p->kind);
    cli_text(stdout, p->dimension);
  } else {
    fputs(" frozen: ", stdout);
    cli_text(stdout, p->reason);
    if (p->node) fputs(": node ", stdout), print_node(p->node, p->op);
  }
  putchar('\n');
  for (size_t i = 0; i < p->nchains; i++) print_chain(p->dimension ? "tied to" : "up to", &p->chains[i]);
}

void cli_print_why(const PareWhy *w) {
  for (size_t i = 0; i < w->naxes; i++) {
    const PareWhyAxis *a = &w->axes[i];
    if (i) putchar('\n');
    cli_text(stdout, a->tensor);
    printf(":%d (", a->axis);
    print_size(a->size);
    puts(a->nparts ? ")" : "): one element, or none");
    for (size_t k = 0; k < a->nparts; k++) print_part(&a->parts[k]);
  }
  if (!w->naxes) cli_text(stdout, w->name), puts(" is a number: it has no axes");
}
