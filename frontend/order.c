/* order.c - nodes in an order in which they can be run. */
#include <string.h>

#include "base/map.h"
#include "frontend/nodes.h"

/* A stack of nodes of the file: each waits for those above it. */
typedef struct Order {
  const Onnx__GraphProto *g;
  PareMap maker; /* value name -> node number */
  PARE_VEC(uint32_t) stack;
  uint8_t *state; /* 0: not seen, 1: on the way down to it, 2: listed */
  uint32_t *list;
  uint32_t n;
} Order;

static PareStatus push_makers(PareCtx *c, Order *o, uint32_t at) {
  const Onnx__NodeProto *n = o->g->node[at];
  for (size_t i = 0; i < n->n_input; i++) {
    int64_t maker = *pare_text(n->input[i]) ? pare_map_get(&o->maker, n->input[i]) : -1;
    if (maker < 0 || o->state[maker] == 2) continue;
    if (o->state[maker] == 1)
      return pare_diag_set(&c->diag, PARE_FORMAT, c->file, pare_text(n->name), pare_text(n->op_type), __FILE__,
                           __LINE__, "its input '%s' depends on its own result (a cycle)", n->input[i]);
    if (!pare_vec_push(c->scratch, &o->stack, (uint32_t)maker)) return pare_nomem(c);
  }
  return PARE_OK;
}

/* Depth first, so that nodes that stand in order, as the standard wants, keep it. */
static PareStatus list_nodes(PareCtx *c, Order *o) {
  for (uint32_t i = 0; i < o->g->n_node; i++) {
    if (!o->state[i] && !pare_vec_push(c->scratch, &o->stack, i)) return pare_nomem(c);
    while (o->stack.n) {
      uint32_t at = o->stack.at[o->stack.n - 1];
      if (o->state[at] == 0) {
        o->state[at] = 1;
        PARE_TRY(push_makers(c, o, at));
        continue;
      }
      if (o->state[at] == 1) o->list[o->n++] = at;
      o->state[at] = 2;
      o->stack.n--;
    }
  }
  return PARE_OK;
}

PareStatus pare_order_nodes(PareCtx *c, const Onnx__GraphProto *g, const uint32_t **list) {
  Order o = {.g = g, .maker = {.arena = c->scratch}};
  o.state = PARE_NEW_N(c->scratch, g->n_node + 1, uint8_t);
  o.list = PARE_NEW_N(c->scratch, g->n_node + 1, uint32_t);
  if (!o.state || !o.list || g->n_node >= UINT32_MAX) return pare_nomem(c);
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++)
      if (*pare_text(g->node[i]->output[k]) && !pare_map_put(&o.maker, g->node[i]->output[k], (int64_t)i))
        return pare_nomem(c);
  PARE_TRY(list_nodes(c, &o));
  *list = o.list;
  return PARE_OK;
}
