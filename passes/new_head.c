/* new_head - a fresh classifier in the place of the model's: another number of outputs, numbers drawn from the seed. */
#include <math.h>

#include "base/rng.h"
#include "passes/edit.h"
#include "passes/match.h"

/* The last layer, whose result is the output but for Casts. */
typedef struct Head {
  PareNode *product, *adder; /* adder: that adds the bias, maybe the product; NULL: there is none */
  int bias;                  /* its input */
  int64_t classes, width;
} Head;

static const PareValue *first_floats(const PareGraph *g) {
  for (size_t i = 0; i < g->outputs.n; i++)
    if (pare_dtype_is_float(g->outputs.at[i]->type.dtype)) return g->outputs.at[i];
  return NULL;
}

static size_t count_readers(const PareGraph *g, const PareValue *v) {
  size_t count = pare_is_output(g, v);
  for (const PareNode *n = g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) count += n->in[k] == v;
  return count;
}

static bool is_constant(const PareNode *n, int k) {
  PareNode *root;
  int input;
  return pare_is_fixed(n->in[k]) && pare_root_constant((PareNode *)(uintptr_t)n, k, &root, &input);
}

static bool is_product(const PareNode *n) {
  return (n->op == PARE_OP_MATMUL || n->op == PARE_OP_GEMM) && n->in[1]->type.rank == 2 && is_constant(n, 1);
}

static PareStatus none(PareCtx *c, const PareNode *n, const PareValue *y, const char *why) {
  return pare_fail(c, n, PARE_UNSUPPORTED, "%s, so there is no linear layer at the end of '%s' that --num-labels could "
                   "replace", why, y->name);
}

/* In a bound graph. */
static PareStatus find_head(PareCtx *c, const PareGraph *g, Head *h) {
  const PareValue *y = first_floats(g), *v = y;
  *h = (Head){.bias = -1};
  if (!y || !y->def) return pare_error(c, PARE_UNSUPPORTED, "the model has no output of floats for --num-labels to replace");
  while (!h->product) {
    PareNode *n = v->def;
    if (!n) return pare_error(c, PARE_UNSUPPORTED, "output '%s' is made by no linear layer that --num-labels could replace",
                              y->name);
    if (count_readers(g, v) > 1) return none(c, n, y, "its result is read more than once");
    bool first = n->op == PARE_OP_ADD && is_constant(n, 0), second = n->op == PARE_OP_ADD && is_constant(n, 1);
    if (is_product(n)) h->product = n;
    else if (n->op == PARE_OP_IDENTITY || n->op == PARE_OP_CAST) v = n->in[0];
    else if (!h->adder && first != second) h->adder = n, h->bias = second, v = n->in[first];
    else return none(c, n, y, "it makes the output");
  }
  const PareNode *p = h->product;
  bool turned = pare_attr_get(&p->attr, transB, 0);
  h->classes = p->in[1]->type.dim[!turned], h->width = p->in[1]->type.dim[turned];
  if (p->op == PARE_OP_GEMM && p->nin > 2 && p->in[2]) h->adder = h->product, h->bias = 2;
  return PARE_OK;
}

/* --- new numbers --- */

/* The constant that n reads as input k, with `labels` in the place of `classes` along the axis that has them, and
 * numbers within the bound. */
static PareStatus renew(PareCtx *c, PareGraph *g, PareNode *n, int k, int axis, int64_t labels, double bound,
                        uint64_t key) {
  PareNode *root;
  int input;
  size_t bytes;
  const PareValue *was = pare_root_constant(n, k, &root, &input);
  for (const PareNode *m = n->in[k]->def; m; m = m->in[0]->def) {
    bool turns = m->op == PARE_OP_TRANSPOSE && m->in[0]->type.rank == 2;
    if (!turns && m->op != PARE_OP_IDENTITY && m->op != PARE_OP_CAST)
      return pare_fail(c, m, PARE_UNSUPPORTED, "it makes a weight of the classifier, which --num-labels can only replace "
                       "where it is stored as it is multiplied");
    if (turns && (!m->attr.perm.n || m->attr.perm.at[0] == 1)) axis = 1 - axis;
  }
  if (!was || !pare_dtype_is_float(was->type.dtype))
    return pare_fail(c, n, PARE_UNSUPPORTED, "its weight is of integers: --num-labels replaces weights of floats");
  PareType type = was->type;
  type.dim[axis] = labels;
  void *data = pare_type_bytes(&type, &bytes) ? pare_arena_alloc(g->arena, bytes, 1) : NULL;
  if (!data) return pare_nomem(c);
  for (int64_t i = 0; i < pare_type_count(&type); i++)
    pare_store_float(type.dtype, data, i, bound * (2 * pare_rng_uniform(key, (uint64_t)i) - 1));
  return pare_replace_constant(c, g, root, input, type, data);
}

static PareNode *same_node(const PareGraph *g, const PareNode *n) {
  PareNode *m = g->first;
  while (m->id != n->id) m = m->next;
  return m;
}

PareStatus pare_new_head(PareCtx *c, PareArena *a, const PareGraph *g, const PareGraph *bound, int64_t labels,
                         uint64_t seed, PareGraph **out) {
  Head h;
  PARE_TRY(find_head(c, bound, &h));
  if (h.adder) {
    const PareType *b = &h.adder->in[h.bias]->type;
    bool row = b->rank > 0 && b->dim[b->rank - 1] == h.classes && pare_type_count(b) == h.classes;
    if (!row) return pare_fail(c, h.adder, PARE_UNSUPPORTED, "what it adds is not one number for each of the classifier's "
                               "outputs, so --num-labels cannot replace it");
  }
  if (!(*out = pare_graph_clone(c, a, g))) return c->diag.code;
  bool turned = pare_attr_get(&h.product->attr, transB, 0);
  uint64_t key = pare_rng_u64(seed, 0x4ead);
  PARE_TRY(renew(c, *out, same_node(*out, h.product), 1, !turned, labels, 1 / sqrt((double)h.width), key));
  if (!h.adder) return PARE_OK;
  return renew(c, *out, same_node(*out, h.adder), h.bias, h.adder->in[h.bias]->type.rank - 1, labels, 0, key);
}
