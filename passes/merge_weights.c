/* merge_weights - what a layer multiplies by is made once a run for forward and backward alike, of all layers before
 * anything else runs, so that a device can make all of them at once (runtime/group.h):
 *   Linear(x, W, bias, A, B, mask)         ->  W', bias' = MergedWeight(W, bias, A, B, mask),  Linear(x, W', bias')
 *   LinearGrad(x, W, dy, A, B, mask, add)  ->  LinearGrad(x, W', dy, A, B, mask, add) {merged}
 * W' and bias' have x's type; a bias of that type stays as it is. Layers without adapter and mask are left alone. It comes
 * last: who looks for products by W has found them, and what is made again (recompute.h) needs no W' of its own. */
#include "passes/match.h"
#include "passes/pass.h"

enum { X, W, BIAS, A, B, MASK, LINEAR_INPUTS, SCORES = 4 };

typedef struct Merge {
  PareCtx *c;
  PareGraph *g;
  PareNode *first; /* of what was there before: all MergedWeights stand in front of it */
  bool *written;   /* by value id: states that a node so far has written */
} Merge;

static PareValue *input(const PareNode *n, int i) { return i < n->nin ? n->in[i] : NULL; }

/* Is it the same now as before all nodes? */
static bool lasts(const Merge *m, const PareValue *v) {
  if (!v) return true;
  return v->role == PARE_STATE ? !m->written[v->id] : v->role != PARE_RESULT || pare_is_fixed(v);
}

static bool is_adapted(const Merge *m, const PareNode *n) {
  if (n->op != PARE_OP_LINEAR && n->op != PARE_OP_LINEARGRAD) return false;
  if (pare_attr_get(&n->attr, merged, 0) || !(input(n, A) || input(n, MASK))) return false;
  if (n->nout > SCORES) return false; /* it scores what it merges */
  return lasts(m, n->in[W]) && lasts(m, input(n, A)) && lasts(m, input(n, B)) && lasts(m, input(n, MASK));
}

/* v, or in its place and for all who read it a constant over the same bytes, which may be read before all nodes. */
static PareValue *in_front(Merge *m, PareValue *v) {
  if (!v || v->role != PARE_RESULT) return v;
  PareValue *k = pare_const_add(m->c, m->g, v->name, v->type, v->data);
  if (k) pare_replace_uses(m->g, v, k, NULL);
  return k;
}

/* Makes n's W' and, of a Linear, its bias. */
static PareNode *make(Merge *m, const PareNode *n) {
  PareDtype to = n->in[X]->type.dtype;
  PareValue *bias = n->op == PARE_OP_LINEAR ? input(n, BIAS) : NULL;
  if (bias && (bias->type.dtype == to || !lasts(m, bias))) bias = NULL;
  PareValue *w = in_front(m, n->in[W]), *b = in_front(m, bias);
  if (!w || (bias && !b)) return NULL;
  PareValue *in[] = {w, b, input(n, A), input(n, B), input(n, MASK)};
  PareNode *made = pare_node_add(m->c, m->g, m->first, PARE_OP_MERGEDWEIGHT, n->name, in[4] ? 5 : 4, in, bias ? 2 : 1);
  if (!made) return NULL;
  pare_attr_set(&made->attr, to, to);
  if (pare_attr_get(&n->attr, transB, 0)) pare_attr_set(&made->attr, transB, 1);
  if (in[2]) pare_attr_set(&made->attr, scale, pare_attr_get(&n->attr, scale, 1.0));
  return pare_infer(m->c, made) == PARE_OK ? made : NULL;
}

static bool makes(const PareNode *made, const PareNode *n) {
  for (int i = A; i <= MASK; i++)
    if (input(made, i - 1) != input(n, i)) return false;
  bool alike = pare_attr_get(&made->attr, transB, 0) == pare_attr_get(&n->attr, transB, 0) &&
               pare_attr_get(&made->attr, scale, 1.0) == pare_attr_get(&n->attr, scale, 1.0);
  return alike && made->in[0] == n->in[W] && made->out[0]->type.dtype == n->in[X]->type.dtype;
}

static PareNode *find(const Merge *m, const PareNode *n) {
  for (PareNode *made = m->g->first; made != m->first; made = made->next)
    if (makes(made, n)) return made;
  return NULL;
}

static PareStatus merge(Merge *m, PareNode *n) {
  PareNode *made = find(m, n);
  if (!made && !(made = make(m, n))) return m->c->diag.code;
  n->in[W] = made->out[0];
  if (n->op == PARE_OP_LINEARGRAD) {
    pare_attr_set(&n->attr, merged, 1);
    return pare_infer(m->c, n);
  }
  PareAttrs attr = {0};
  if (pare_attr_get(&n->attr, transB, 0)) pare_attr_set(&attr, transB, 1);
  n->attr = attr;
  n->nin = n->in[BIAS] ? BIAS + 1 : W + 1;
  if (made->nout > 1 && made->in[1] == n->in[BIAS]) n->in[BIAS] = made->out[1];
  return pare_infer(m->c, n);
}

static void note_written(Merge *m, const PareNode *n) {
  unsigned writes = pare_op_info[n->op].writes;
  for (int i = 0; i < n->nin && writes >> i; i++)
    if (writes >> i & 1u) m->written[n->in[i]->id] = true;
}

PareStatus pare_merge_weights(PareCtx *c, PareGraph *g) {
  PareMark mark = pare_arena_mark(c->scratch);
  Merge m = {c, g, g->first, PARE_NEW_N(c->scratch, g->values.n, bool)};
  PareStatus s = m.written ? PARE_OK : pare_nomem(c);
  for (PareNode *n = g->first; n && s == PARE_OK; n = n->next) {
    if (is_adapted(&m, n)) s = merge(&m, n);
    note_written(&m, n);
  }
  pare_arena_rewind(c->scratch, mark);
  return s;
}
