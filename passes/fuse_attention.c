/* fuse_attention - softmax(scale·q·k' [+ mask])·v becomes one pare.Attention, which
 * takes q, k and v as [batch, heads, rows, width] or before the Transpose that made
 * them so, and yields y behind or before the Transpose back. It has no gradient for its
 * mask, so where the mask follows from what is trained nothing is fused. */
#include <string.h>

#include "passes/match.h"
#include "passes/pass.h"

/* A value, and the axes of it that hold batch, heads, rows and width. */
typedef struct View {
  PareValue *v;
  int64_t axis[4];
  double scale; /* what it is times */
} View;

/* v = x times a number. */
static PareValue *unscaled(const PareValue *v, double *k) {
  const PareNode *mul = pare_made_by(v, PARE_OP_MUL), *div = pare_made_by(v, PARE_OP_DIV);
  if (div && pare_fixed_number(div->in[1], k)) return *k = 1 / *k, div->in[0];
  for (int i = 0; mul && i < 2; i++)
    if (pare_fixed_number(mul->in[i], k)) return mul->in[1 - i];
  return NULL;
}

static int64_t heads_axis(const View *w) {
  static const int64_t apart[] = {0, 1, 2, 3}, inside[] = {0, 2, 1, 3};
  if (!memcmp(w->axis, apart, sizeof apart)) return 1;
  return memcmp(w->axis, inside, sizeof inside) ? 0 : 2;
}

/* Goes back from w through factors and Transposes, as far as the kernel can read what is found. */
static bool look_behind(View w, View *out) {
  bool found = false;
  for (;;) {
    double k;
    if (w.v->type.rank != 4) return found;
    if (heads_axis(&w)) *out = w, found = true;
    PareValue *x = unscaled(w.v, &k);
    if (x && pare_type_equal(&x->type, &w.v->type)) {
      w.v = x, w.scale *= k;
      continue;
    }
    const PareNode *t = pare_made_by(w.v, PARE_OP_TRANSPOSE);
    if (!t || t->attr.perm.n != 4) return found;
    for (int i = 0; i < 4; i++) w.axis[i] = t->attr.perm.at[w.axis[i]];
    w.v = t->in[0];
  }
}

typedef struct Found {
  View q, k, v;
  PareValue *mask;
} Found;

/* product = q·k' */
static bool match_scores(const PareNode *product, double scale, Found *f) {
  const PareAttrs *a = &product->attr;
  if (pare_attr_get(a, transA, 0) || product->in[1]->type.rank != 4) return false;
  View q = {product->in[0], {0, 1, 2, 3}, scale * pare_attr_get(a, alpha, 1.0)};
  View k = {product->in[1], {0, 1, 3, 2}, 1};
  if (pare_attr_get(a, transB, 0)) k.axis[2] = 2, k.axis[3] = 3;
  return look_behind(q, &f->q) && look_behind(k, &f->k);
}

/* s = [k·] (q·k') [· k] [+ mask] */
static bool match_logits(PareValue *s, Found *f) {
  double k, scale = 1;
  const PareNode *add = pare_made_by(s, PARE_OP_ADD);
  if (add && !f->mask) {
    for (int i = 0; i < 2; i++) {
      PareValue *m = add->in[1 - i];
      if (m->type.rank < 1 || m->type.rank > 4 || m->type.dtype != s->type.dtype) continue;
      if (!pare_type_equal(&add->in[i]->type, &s->type)) continue;
      f->mask = m;
      if (match_logits(add->in[i], f)) return true;
      f->mask = NULL;
    }
    return false;
  }
  for (PareValue *x; (x = unscaled(s, &k)) && pare_type_equal(&x->type, &s->type); s = x) scale *= k;
  const PareNode *product = pare_made_by(s, PARE_OP_MATMUL);
  if (!product) product = pare_made_by(s, PARE_OP_FUSEDMATMUL);
  return product && match_scores(product, scale, f);
}

/* Dropout and Identity do nothing here. */
static PareValue *skip_views(const PareGraph *g, PareValue *v) {
  PareNode *n;
  while ((n = pare_sole_reader(g, v)) && (n->op == PARE_OP_IDENTITY || n->op == PARE_OP_DROPOUT)) v = n->out[0];
  return v;
}

static bool is_plain(const PareNode *mix) {
  return !pare_attr_get(&mix->attr, transA, 0) && !pare_attr_get(&mix->attr, transB, 0) &&
         pare_attr_get(&mix->attr, alpha, 1.0) == 1;
}

/* Does v follow from a state of the graph: from an adapter, or from a mask of groups? */
static PareStatus follows_state(PareCtx *c, const PareGraph *g, const PareValue *v, bool *yes) {
  PareMark mark = pare_arena_mark(c->scratch);
  bool *follows = PARE_NEW_N(c->scratch, g->values.n + 1, bool);
  if (!follows) return pare_nomem(c);
  for (size_t i = 0; i < g->values.n; i++) follows[i] = g->values.at[i]->role == PARE_STATE;
  for (const PareNode *n = g->first; n; n = n->next) {
    bool any = false;
    for (int k = 0; k < n->nin; k++) any |= n->in[k] && follows[n->in[k]->id];
    for (int k = 0; k < n->nout; k++)
      if (n->out[k]) follows[n->out[k]->id] = any;
  }
  *yes = follows[v->id];
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* Is nothing broadcast: neither learned queries over the batch, nor k and v over heads that share them? */
static bool same_batch(const View *a, const View *b) {
  for (int i = 0; i < 2; i++)
    if (a->v->type.dim[a->axis[i]] != b->v->type.dim[b->axis[i]]) return false;
  return true;
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *softmax) {
  Found f = {.mask = NULL};
  PareValue *p = skip_views(g, softmax->out[0]);
  PareNode *mix = pare_sole_reader_op(g, p, PARE_OP_MATMUL);
  if (!mix || mix->in[0] != p || mix->in[1]->type.rank != 4 || !is_plain(mix)) return PARE_OK;
  if (!match_logits(softmax->in[0], &f)) return PARE_OK;
  if (!look_behind((View){mix->in[1], {0, 1, 2, 3}, 1}, &f.v) || f.v.scale != 1) return PARE_OK;
  PareNode *back = pare_sole_reader_op(g, mix->out[0], PARE_OP_TRANSPOSE);
  static const int64_t inside[] = {0, 2, 1, 3};
  bool turned = back && back->attr.perm.n == 4 && !memcmp(back->attr.perm.at, inside, sizeof inside);
  if (!same_batch(&f.q, &f.k) || !same_batch(&f.q, &f.v)) return PARE_OK;
  bool trained = false;
  if (f.mask) PARE_TRY(follows_state(c, g, f.mask, &trained));
  if (trained) return PARE_OK;
  PareAttrs attr = {0};
  PareInts heads = {4, {heads_axis(&f.q), heads_axis(&f.k), heads_axis(&f.v), turned ? 2 : 1}};
  pare_attr_set(&attr, heads, heads);
  pare_attr_set(&attr, scale, f.q.scale * f.k.scale);
  PareNode *last = turned ? back : mix;
  PareValue *in[] = {f.q.v, f.k.v, f.v.v, f.mask};
  PareNode *n = pare_node_add(c, g, last->next, PARE_OP_ATTENTION, mix->name, f.mask ? 4 : 3, in, 2);
  if (!n) return c->diag.code;
  n->attr = attr;
  PARE_TRY(pare_infer(c, n));
  pare_fuse_into(g, last->out[0], n->out[0]);
  return PARE_OK;
}

static bool is_root(const PareNode *n) {
  const PareType *t = &n->in[0]->type;
  if (n->op != PARE_OP_SOFTMAX || t->rank != 4 || pare_attr_get(&n->attr, flatten, 0)) return false;
  int64_t axis = pare_attr_get(&n->attr, axis, -1);
  return (axis == -1 || axis == 3) && (t->dtype == PARE_F32 || t->dtype == PARE_F64) && pare_type_count(t) > 0;
}

PareStatus pare_fuse_attention(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_root, fuse); }
