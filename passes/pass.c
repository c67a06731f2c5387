/* pass.c - the table of passes and the manager: each is followed by the verifier. */
#include "passes/pass.h"

#include <string.h>

#include "ir/text.h"

const ParePass pare_passes[] = {
#define PASS(name, fn, what) {name, pare_##fn, what},
#include "passes/passes.def"
#undef PASS
    {NULL, NULL, NULL},
};

static const ParePass *find(const char *name, size_t n) {
  for (const ParePass *p = pare_passes; p->name; p++)
    if (strlen(p->name) == n && !memcmp(p->name, name, n)) return p;
  return NULL;
}

const ParePass *pare_pass_find(const char *name) { return find(name, strlen(name)); }

PareStatus pare_pass_done(PareCtx *c, const PareGraph *g, const char *name, const char *dump_after) {
  PARE_TRY(pare_graph_verify(c, g));
  if (!dump_after || strcmp(dump_after, name) || !c->log) return PARE_OK;
  fprintf(c->log, "# after %s\n", name);
  pare_text_print(g, c->log);
  return PARE_OK;
}

PareStatus pare_run_passes(PareCtx *c, PareGraph *g, const char *list, const char *dump_after) {
  for (const char *at = list; *at;) {
    size_t n = strcspn(at, ",");
    const ParePass *p = find(at, n);
    if (!p) return pare_error(c, PARE_USAGE, "there is no pass '%.*s'", (int)n, at);
    PARE_TRY(p->run(c, g));
    PARE_TRY(pare_pass_done(c, g, p->name, dump_after));
    at += n + (at[n] == ',');
  }
  return PARE_OK;
}
