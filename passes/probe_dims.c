/* probe_dims - binds dynamic axes to primes that divide nothing else. */
#include "passes/probe_dims.h"

#include <stdio.h>
#include <string.h>

#include "passes/bind_shapes.h"

enum { MAX_AXES = 32 };

/* Small, since tables of positions bound the lengths that a model takes. */
static const int64_t primes[] = {7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83};
enum { NPRIMES = sizeof primes / sizeof *primes };

static bool divides_a_dim(const PareGraph *g, int64_t p) {
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (v->role != PARE_CONST && v->role != PARE_INPUT) continue;
    for (int d = 0; d < v->type.rank; d++)
      if (v->type.dim[d] > 1 && v->type.dim[d] < 8192 && v->type.dim[d] % p == 0) return true;
  }
  return false;
}

/* AS_TOLD: what is known is kept, the batch aside. HALVED: all but the batch can be halved five times, as models want
 * it that join what they have halved with what they double again. */
typedef enum Fallback { ALL_PRIMES, BATCH_ONE, AS_TOLD, ALL_ONE, HALVED, FALLBACKS } Fallback;
enum { HALVES = 32 };

static PareStatus bind(PareCtx *c, PareArena *a, const PareGraph *g, int salt, Fallback how, PareGraph **out) {
  PareDimBinding dims[MAX_AXES];
  int n = 0, next = salt * 3;
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    for (int d = 0; d < v->type.rank; d++) {
      const char *key = v->type.dim[d] < 0 ? pare_axis_key(a, v, d) : "";
      if (!key) return pare_nomem(c);
      bool known = !*key;
      for (int j = 0; j < n; j++) known |= !strcmp(dims[j].name, key);
      if (known) continue;
      if (n == MAX_AXES) return pare_error(c, PARE_UNSUPPORTED, "more than %d dynamic axes", MAX_AXES);
      int64_t size = how == AS_TOLD && d > 0 ? pare_bound_size(g->told.n, g->told.at, key) : -1;
      if (how == ALL_ONE || (how == BATCH_ONE && d == 0)) size = 1;
      if (size < 0) {
        for (int tries = 0; tries < NPRIMES && divides_a_dim(g, primes[next % NPRIMES]); tries++) next++;
        size = primes[next++ % NPRIMES] * (how == HALVED && d > 0 ? HALVES : 1);
      }
      dims[n++] = (PareDimBinding){key, size};
    }
  }
  *out = pare_graph_clone(c, a, g);
  return *out ? pare_bind_shapes(c, *out, n, dims) : c->diag.code;
}

static bool is_dynamic(const PareGraph *g) {
  bool any = false;
  for (size_t i = 0; i < g->inputs.n; i++)
    for (int d = 1; d < g->inputs.at[i]->type.rank; d++) any |= g->inputs.at[i]->type.dim[d] < 0;
  return any;
}

void pare_ask_for_sizes(const PareGraph *g, PareDiag *d) {
  size_t n = strlen(d->text);
  if (!is_dynamic(g)) return;
  snprintf(d->text + n, sizeof d->text - n, " (if it takes certain sizes only, --shape tells them)");
}

PareStatus pare_probe_dims(PareCtx *c, PareArena *a, const PareGraph *g, int salt, PareGraph **out) {
  PareDiag first = c->diag;
  for (int how = 0; how < FALLBACKS; how++) {
    if (how == AS_TOLD && !g->told.n) continue;
    PareDiag before = c->diag;
    PareStatus s = bind(c, a, g, salt, (Fallback)how, out);
    if (s == PARE_OK || s == PARE_NOMEM) return s;
    if (how == 0) first = c->diag;
    c->diag = before;
  }
  c->diag = first; /* what primes met is the model's fault */
  if (!g->told.n) pare_ask_for_sizes(g, &c->diag);
  return c->diag.code;
}
