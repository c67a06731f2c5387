/* supported.c - what pare does not know in a model, all of it in one error. */
#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "frontend/expand.h"
#include "frontend/nodes.h"

bool pare_is_supported(const Onnx__NodeProto *n) {
  if (pare_is_constant_node(n) || pare_is_if(n)) return true;
  const char *domain = pare_domain_of(n), *name = pare_text(n->op_type);
  PareOp op = strcmp(domain, "pare") ? pare_op_find(domain, name) : PARE_OP_COUNT;
  return op != PARE_OP_COUNT || pare_expand_find(domain, name);
}

/* An op that pare does not know: its first node and how many there are. */
typedef struct Unknown {
  const Onnx__NodeProto *first;
  size_t count;
} Unknown;

typedef struct Unknowns {
  PareMap index; /* "domain:op" -> place in at */
  PARE_VEC(Unknown) at;
} Unknowns;

static bool count_unknown(PareArena *a, Unknowns *u, const Onnx__NodeProto *n) {
  const char *key = pare_arena_printf(a, "%s:%s", pare_domain_of(n), pare_text(n->op_type));
  int64_t i = key ? pare_map_get(&u->index, key) : -1;
  Unknown first = {n, 0};
  if (i < 0) {
    i = (int64_t)u->at.n;
    if (!key || !pare_map_put(&u->index, key, i) || !pare_vec_push(a, &u->at, first)) return false;
  }
  u->at.at[i].count++;
  return true;
}

typedef struct Search {
  PareCtx *c;
  const PareFunctions *f;
  bool *seen; /* functions, by number */
  Unknowns u;
} Search;

static PareStatus count_all(Search *s, size_t n, Onnx__NodeProto *const *node, int depth);

/* Which branch is taken is not known yet. */
static PareStatus count_branches(Search *s, const Onnx__NodeProto *p, int depth) {
  if (depth == PARE_MAX_CALLS)
    return pare_error(s->c, PARE_UNSUPPORTED, "branches stand more than %d deep in each other", PARE_MAX_CALLS);
  for (size_t i = 0; i < p->n_attribute; i++) {
    const Onnx__GraphProto *g = p->attribute[i]->g;
    if (g) PARE_TRY(count_all(s, g->n_node, g->node, depth + 1));
  }
  return PARE_OK;
}

/* Nodes of the graph, of a body or of a branch, and of the functions that they call. */
static PareStatus count_all(Search *s, size_t n, Onnx__NodeProto *const *node, int depth) {
  for (size_t i = 0; i < n; i++) {
    int64_t at;
    if (pare_is_if(node[i])) PARE_TRY(count_branches(s, node[i], depth));
    if (!pare_function_find(s->c->scratch, s->f, node[i]->domain, node[i]->op_type, &at)) return pare_nomem(s->c);
    if (at == PARE_NO_FUNCTION && !pare_is_supported(node[i]) && !count_unknown(s->c->scratch, &s->u, node[i]))
      return pare_nomem(s->c);
    if (at < 0 || s->seen[at]) continue;
    s->seen[at] = true;
    if (depth == PARE_MAX_CALLS)
      return pare_error(s->c, PARE_UNSUPPORTED, "functions call each other more than %d deep", PARE_MAX_CALLS);
    PARE_TRY(count_all(s, s->f->at[at]->n_node, s->f->at[at]->node, depth + 1));
  }
  return PARE_OK;
}

PareStatus pare_check_supported(PareCtx *c, const Onnx__ModelProto *p, const PareFunctions *f, const bool *left_out,
                                const char *why) {
  Search s = {.c = c, .f = f, .seen = PARE_NEW_N(c->scratch, f->n + 1, bool), .u = {.index = {.arena = c->scratch}}};
  if (!s.seen) return pare_nomem(c);
  for (size_t i = 0; i < p->graph->n_node; i++)
    if (!left_out || !left_out[i]) PARE_TRY(count_all(&s, 1, p->graph->node + i, 0));
  const Unknowns u = s.u;
  if (!u.at.n) return PARE_OK;
  char line[sizeof c->diag.text];
  size_t at = 0;
  for (size_t i = 0; i < u.at.n && at < sizeof line; i++) {
    const Onnx__NodeProto *n = u.at.at[i].first;
    const char *domain = *pare_domain_of(n) ? pare_domain_of(n) : "ai.onnx";
    const char *known = pare_expand_refusal(pare_domain_of(n), pare_text(n->op_type));
    at += (size_t)snprintf(line + at, sizeof line - at, "%s%s (%s, opset %" PRId64 ", first '%s', %zu time%s)%s%s",
                           i ? "; " : "", pare_text(n->op_type), domain, pare_opset_of(p, pare_domain_of(n)),
                           n->name && *n->name ? n->name : n->n_output ? pare_text(n->output[0]) : "", u.at.at[i].count,
                           u.at.at[i].count == 1 ? "" : "s", known ? ": " : "", known ? known : "");
  }
  return pare_error(c, PARE_UNSUPPORTED, "%zu kind%s of node not supported: %s%s%s", u.at.n, u.at.n == 1 ? "" : "s", line,
                    why ? "; it cannot be left as it is: " : "", why ? why : "");
}
