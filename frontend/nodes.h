/* nodes.h - what import asks about nodes of the file before it makes any of its own. */
#ifndef PARE_FRONTEND_NODES_H
#define PARE_FRONTEND_NODES_H

#include <onnx.pb-c.h>
#include <string.h>

#include "frontend/functions.h"

static inline const char *pare_text(const char *s) { return s ? s : ""; }
/* "ai.onnx" is "". */
static inline const char *pare_domain_of(const Onnx__NodeProto *n) {
  return !n->domain || !strcmp(n->domain, "ai.onnx") ? "" : n->domain;
}
static inline bool pare_is_constant_node(const Onnx__NodeProto *n) {
  return !strcmp(pare_text(n->op_type), "Constant") && !*pare_domain_of(n);
}
static inline bool pare_is_if(const Onnx__NodeProto *n) {
  return !strcmp(pare_text(n->op_type), "If") && !*pare_domain_of(n);
}
/* Of a domain, as the model imports it; 0: it does not. */
static inline int64_t pare_opset_of(const Onnx__ModelProto *p, const char *domain) {
  for (size_t i = 0; i < p->n_opset_import; i++) {
    const char *d = pare_text(p->opset_import[i]->domain);
    if (!strcmp(!strcmp(d, "ai.onnx") ? "" : d, domain)) return p->opset_import[i]->version;
  }
  return 0;
}

/* Is there a row for it in ir/ops.def or frontend/expand.def? Functions of the model are not looked for. */
bool pare_is_supported(const Onnx__NodeProto *n);
/* Names every kind of node that pare does not know, in the graph and in the functions that it calls. Nodes of the graph
 * that are left out (by number; NULL: none) are not looked at; `why` they could not be left out, or NULL. */
PARE_MUST_USE PareStatus pare_check_supported(PareCtx *c, const Onnx__ModelProto *p, const PareFunctions *f,
                                              const bool *left_out, const char *why);
/* An order in which the nodes can be run: ONNX Runtime takes files whose nodes
 * do not stand in one. In c->scratch. PARE_FORMAT: there is a cycle. */
PARE_MUST_USE PareStatus pare_order_nodes(PareCtx *c, const Onnx__GraphProto *g, const uint32_t **list);

#endif
