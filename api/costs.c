/* costs.c - see costs.h. */
#include "api/costs.h"

#include <stdlib.h>
#include <string.h>

bool pare_costs_weight(const PareNode *n, int k) {
  const PareValue *v = n->in[k];
  if (!pare_is_weight(n, k)) return false;
  bool branch = v->origin.kind == PARE_ORIGIN_NONE && n->onnx_input == PARE_INSIDE; /* of an If */
  return v->origin.kind == PARE_ORIGIN_INITIALIZER || v->origin.kind == PARE_ORIGIN_SPARSE ||
         ((branch || v->origin.kind == PARE_ORIGIN_NODE) && v->type.rank > 0);
}

int pare_by_origin(const PareValue *x, const PareValue *y) {
  if (x->origin.kind != y->origin.kind) return x->origin.kind < y->origin.kind ? -1 : 1;
  if (x->origin.body != y->origin.body) return x->origin.body < y->origin.body ? -1 : 1;
  if (x->origin.index != y->origin.index) return x->origin.index < y->origin.index ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

static int by_origin(const void *a, const void *b) {
  return pare_by_origin(*(PareValue *const *)a, *(PareValue *const *)b);
}

bool pare_same_weight(const PareValue *x, const PareValue *y) {
  size_t bytes;
  if (x->origin.kind != y->origin.kind || x->origin.index != y->origin.index) return false;
  if (!pare_type_equal(&x->type, &y->type) || !pare_type_bytes(&x->type, &bytes)) return false;
  return x->data == y->data || (x->data && y->data && !memcmp(x->data, y->data, bytes));
}

/* The weights that are read, each value once; *n of them, in c->scratch. */
static PareStatus collect(PareCtx *c, const PareGraph *g, PareValue ***out, size_t *n) {
  bool *seen = PARE_NEW_N(c->scratch, g->values.n, bool);
  PareValue **list = PARE_NEW_N(c->scratch, g->values.n, PareValue *);
  if (!seen || !list) return pare_nomem(c);
  *n = 0;
  for (const PareNode *node = g->first; node; node = node->next)
    for (int i = 0; i < node->nin; i++) {
      PareValue *v = node->in[i];
      if (!v || seen[v->id] || !pare_costs_weight(node, i)) continue;
      seen[v->id] = true;
      list[(*n)++] = v;
    }
  *out = list;
  return PARE_OK;
}

static PareStatus weigh(PareCtx *c, const PareGraph *g, PareWeights *out) {
  PareValue **list = NULL;
  size_t n = 0, bytes;
  PARE_TRY(collect(c, g, &list, &n));
  if (n) qsort(list, n, sizeof *list, by_origin);
  *out = (PareWeights){0};
  for (size_t i = 0; i < n; i++) {
    bool counted = false;
    for (size_t j = i; j > 0 && !counted && list[j - 1]->origin.index == list[i]->origin.index; j--)
      counted = pare_same_weight(list[j - 1], list[i]);
    if (counted || !pare_type_bytes(&list[i]->type, &bytes)) continue;
    out->params += pare_type_count(&list[i]->type);
    out->bytes += (int64_t)bytes;
  }
  return PARE_OK;
}

PareStatus pare_graph_weights(PareCtx *c, const PareGraph *g, PareWeights *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = weigh(c, g, out);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

bool pare_is_run(const PareNode *n) {
  for (int i = 0; i < n->nout; i++)
    if (n->out[i] && !n->out[i]->data) return true;
  return false;
}

int64_t pare_graph_macs(const PareGraph *bound) {
  double macs = 0;
  for (const PareNode *n = bound->first; n; n = n->next)
    if (pare_is_run(n)) macs += pare_op_info[n->op].cost(n).macs;
  return macs < 0x1p62 ? (int64_t)macs : INT64_MAX;
}
