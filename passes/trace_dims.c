/* trace_dims - drives the cut rules over a bound graph, then reads off the
 * classes of leaves that begin and end in weights and met nothing that forbids
 * cutting. It knows no op and no layer: only terms and contractions. */
#include "passes/trace_dims.h"

#include <string.h>

#include "ir/op_columns.h"
#include "passes/trace_learned.h"
#include "passes/vanish.h"

typedef struct Leaf {
  PareAxis *axis;
  PARE_VEC(int) producers; /* contractions whose weight makes it */
  PARE_VEC(int) readers;   /* contractions that reduce over it */
  PARE_VEC(int) pairs;     /* products of two activations that do */
  PARE_VEC(int) learned;   /* products of two constants that do */
  PARE_VEC(PareMember) members;
} Leaf;

typedef struct Trace {
  PareCtx *c;
  PareArena *a;
  const PareGraph *g;
  unsigned kinds; /* PARE_KIND_BIT of classes beyond the usual */
  PareTracer *t;
  PareScores scores;
  PARE_VEC(Leaf) leaves; /* representatives, in the order in which weights name them */
  bool nomem;
} Trace;

/* --- running the rules --- */

static PareStatus freeze_interface(Trace *tr) {
  const PareGraph *g = tr->g;
  for (int side = 0; side < 2; side++) {
    size_t n = side ? g->outputs.n : g->inputs.n;
    for (size_t i = 0; i < n; i++) {
      const PareValue *v = side ? g->outputs.at[i] : g->inputs.at[i];
      const char *why = pare_arena_printf(tr->a, "is an axis of the graph's %s '%s'", side ? "output" : "input", v->name);
      if (!why) return pare_nomem(tr->c);
      for (int d = 0; v->role != PARE_CONST && d < v->type.rank; d++)
        pare_axis_meet(NULL, tr->t->value_axis[v->id][d], side ? PARE_MET_OUTPUT : PARE_MET_END, why);
    }
  }
  return PARE_OK;
}

/* Input k of n is a constant that stands nowhere in the file where it could be changed: in a branch of an If, or in
 * what a composite op was expanded into. */
static bool is_fixed(const PareNode *n, int k) {
  return n->onnx_input == PARE_INSIDE && n->in[k] && n->in[k]->role == PARE_CONST &&
         n->in[k]->origin.kind == PARE_ORIGIN_NONE;
}

/* Sizes that a Reshape or Expand takes from such a constant, but for those that it leaves open. */
static void freeze_sizes(Trace *tr, const PareNode *n, int k, const char *why) {
  PareWantFn *want = pare_op_info[n->op].want;
  int64_t count = pare_type_count(&n->in[k]->type), size[PARE_MAX_RANK];
  if ((want != pare_want_reshape && want != pare_want_expand) || k != 1 || count > PARE_MAX_RANK) return;
  want(tr->t, n, k, size);
  for (int d = n->out[0]->type.rank - (int)count, i = 0; i < count; d++, i++)
    if (size[i] != PARE_ANY) pare_axis_freeze(n, pare_axis_out(tr->t, n, 0, d), why);
}

static void freeze_fixed(Trace *tr, const PareNode *n) {
  static const char why[] = "is an axis of a constant inside of a branch or an op, which pare does not edit";
  static const char number[] = "is a number inside of a branch or an op, which pare does not edit";
  for (int k = 0; k < n->nin; k++) {
    if (!is_fixed(n, k)) continue;
    for (int d = 0; d < n->in[k]->type.rank; d++) pare_axis_freeze(n, pare_axis_in(tr->t, n, k, d), why);
    freeze_sizes(tr, n, k, number);
  }
}

static PareStatus run_rules(Trace *tr) {
  PARE_TRY(pare_tracer_new(tr->c, tr->a, tr->g, &tr->t));
  PARE_TRY(freeze_interface(tr));
  for (const PareNode *n = tr->g->first; n; n = n->next) PARE_TRY(pare_tie_node(tr->t, n));
  for (const PareNode *n = tr->g->first; n; n = n->next) freeze_fixed(tr, n);
  PARE_TRY(pare_scores_find(tr->c, tr->a, tr->t, &tr->scores));
  pare_mark_learned(tr->t, &tr->scores);
  return tr->t->nomem ? pare_nomem(tr->c) : PARE_OK;
}

/* --- collecting leaves --- */

static Leaf *leaf_of(Trace *tr, PareAxis *axis) {
  for (size_t i = 0; i < tr->leaves.n; i++)
    if (tr->leaves.at[i].axis == axis) return &tr->leaves.at[i];
  Leaf l = {.axis = axis};
  if (!pare_vec_push(tr->a, &tr->leaves, l)) {
    tr->nomem = true;
    return NULL;
  }
  axis->dim = (int)tr->leaves.n - 1;
  return &tr->leaves.at[tr->leaves.n - 1];
}

typedef struct Found {
  Trace *tr;
  int contraction;
  bool reader;
  PareMember member;
} Found;

static void found_end(PareAxis *axis, void *arg) {
  Found *f = arg;
  Leaf *l = axis->size > 1 ? leaf_of(f->tr, axis) : NULL;
  if (!l) return;
  int pushed = f->reader ? pare_vec_push(f->tr->a, &l->readers, f->contraction)
                         : pare_vec_push(f->tr->a, &l->producers, f->contraction);
  if (!pushed) f->tr->nomem = true;
}

/* Only where a weight begins it: what else is summed over, positions say, is no dimension. */
static void found_pair(PareAxis *axis, void *arg) {
  Found *f = arg;
  Leaf *l = axis->size > 1 && axis->dim >= 0 ? &f->tr->leaves.at[axis->dim] : NULL;
  if (l && !pare_vec_push(f->tr->a, &l->pairs, f->contraction)) f->tr->nomem = true;
}

static void found_learned(PareAxis *axis, void *arg) {
  Found *f = arg;
  Leaf *l = axis->size > 1 && axis->dim >= 0 ? &f->tr->leaves.at[axis->dim] : NULL;
  if (l && !pare_vec_push(f->tr->a, &l->learned, f->contraction)) f->tr->nomem = true;
}

static void found_member(PareAxis *axis, void *arg) {
  Found *f = arg;
  if (axis->size < 2 || axis->dim < 0) return;
  Leaf *l = &f->tr->leaves.at[axis->dim];
  const PareMember *last = l->members.n ? &l->members.at[l->members.n - 1] : NULL;
  if (last && last->node == f->member.node && last->input == f->member.input && last->axis == f->member.axis) return;
  if (!pare_vec_push(f->tr->a, &l->members, f->member)) f->tr->nomem = true;
}

/* Ends first: only leaves at which a weight begins or ends matter. */
static PareStatus collect(Trace *tr) {
  for (size_t i = 0; i < tr->t->contractions.n; i++) {
    const PareContraction *x = &tr->t->contractions.at[i];
    Found f = {.tr = tr, .contraction = (int)i};
    for (int d = 0; d < x->node->in[x->weight]->type.rank; d++) {
      f.reader = d == x->weight_axis;
      pare_axis_leaves(pare_axis_in(tr->t, x->node, x->weight, d), found_end, &f);
    }
  }
  for (size_t i = 0; i < tr->t->products.n; i++) {
    const PareContraction *x = &tr->t->products.at[i];
    Found f = {.tr = tr, .contraction = (int)i};
    pare_axis_leaves(pare_axis_in(tr->t, x->node, x->input, x->axis), found_pair, &f);
  }
  for (size_t i = 0; i < tr->t->learned.n; i++) {
    const PareContraction *x = &tr->t->learned.at[i];
    Found f = {.tr = tr, .contraction = (int)i};
    pare_axis_leaves(pare_axis_in(tr->t, x->node, x->input, x->axis), found_learned, &f);
  }
  for (PareNode *n = tr->g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) {
      if (!n->in[k] || n->in[k]->role != PARE_CONST) continue;
      for (int d = 0; d < n->in[k]->type.rank; d++) {
        Found f = {.tr = tr, .member = {n->in[k], n, k, d}};
        pare_axis_leaves(pare_axis_in(tr->t, n, k, d), found_member, &f);
      }
    }
  return tr->nomem ? pare_nomem(tr->c) : PARE_OK;
}

/* --- shared weights: dimensions that share every weight are one --- */

/* Does b have m, a member of a, at the same place of the axis? Heads and their width stand in the same weights. */
static bool has_member(Trace *tr, const Leaf *a, const PareMember *m, const Leaf *b) {
  PareAxis *axis = pare_axis_in(tr->t, m->node, m->input, m->axis);
  for (size_t i = 0; i < b->members.n; i++) {
    const PareMember *k = &b->members.at[i];
    if (k->weight == m->weight && k->axis == m->axis &&
        pare_axis_same_place(axis, a->axis, pare_axis_in(tr->t, k->node, k->input, k->axis), b->axis))
      return true;
  }
  return false;
}

static bool same_weights(Trace *tr, const Leaf *a, const Leaf *b) {
  for (size_t i = 0; i < a->members.n; i++)
    if (!has_member(tr, a, &a->members.at[i], b)) return false;
  for (size_t i = 0; i < b->members.n; i++)
    if (!has_member(tr, b, &b->members.at[i], a)) return false;
  return a->members.n > 0;
}

/* Returns true when two leaves were tied; then the leaves are collected anew. */
static bool tie_shared(Trace *tr) {
  bool tied = false;
  for (size_t i = 0; i < tr->leaves.n; i++)
    for (size_t j = i + 1; j < tr->leaves.n; j++) {
      Leaf *a = &tr->leaves.at[i], *b = &tr->leaves.at[j];
      PareAxis *x = pare_axis_find(a->axis), *y = pare_axis_find(b->axis);
      if (x == y || x->size != y->size || !same_weights(tr, a, b)) continue;
      if (a->members.at[0].node == b->members.at[0].node) continue;
      pare_axis_tie(tr->t, a->members.at[0].node, x, y);
      tied = true;
    }
  return tied;
}

static void forget_leaves(Trace *tr) {
  for (size_t i = 0; i < tr->leaves.n; i++) tr->leaves.at[i].axis->dim = -1;
  tr->leaves.n = 0;
  tr->leaves.at = NULL;
  tr->leaves.cap = 0;
}

/* --- from leaves to dimensions --- */

typedef struct LeafSet {
  PareAxis *at[16];
  int n;
} LeafSet;

static void add_leaf(PareAxis *axis, void *arg) {
  LeafSet *s = arg;
  if (axis->size > 1 && s->n < 16) s->at[s->n++] = axis;
}

static bool same_terms(PareAxis *a, PareAxis *b) {
  LeafSet x = {.n = 0}, y = {.n = 0};
  pare_axis_leaves(a, add_leaf, &x);
  pare_axis_leaves(b, add_leaf, &y);
  return x.n == y.n && !memcmp(x.at, y.at, (size_t)x.n * sizeof *x.at);
}

static void add_heads(PareAxis *axis, void *arg) { *(bool *)arg |= axis->batched; }

/* What a weight sums over. */
static PareAxis *read_by(Trace *tr, int contraction) {
  const PareContraction *p = &tr->t->contractions.at[contraction];
  return pare_axis_in(tr->t, p->node, p->weight, p->weight_axis);
}

static bool makes(Trace *tr, int contraction, PareAxis *term) {
  const PareContraction *r = &tr->t->contractions.at[contraction];
  bool yes = false;
  for (int d = 0; d < r->node->in[r->weight]->type.rank; d++)
    yes |= d != r->weight_axis && same_terms(term, pare_axis_in(tr->t, r->node, r->weight, d));
  return yes;
}

/* Have weights of `rank`, those of the list, the channels too? Then these are heads, and it is their width. */
static bool has_both(Trace *tr, size_t n, const int *list, const Leaf *channels) {
  bool both = false;
  for (size_t i = 0; i < n; i++) {
    const PareContraction *x = &tr->t->contractions.at[list[i]];
    for (int d = 0; d < x->node->in[x->weight]->type.rank; d++)
      both |= pare_axis_holds(pare_axis_in(tr->t, x->node, x->weight, d), channels->axis);
  }
  return both;
}

/* A weight that makes the channels reads the stream, or what is made of it alone: the rank of a LoRA branch. */
static bool reads_stream(Trace *tr, const Leaf *channels, int contraction, PareAxis *stream) {
  PareAxis *term = read_by(tr, contraction);
  if (same_terms(term, stream)) return true;
  for (size_t i = 0; i < tr->leaves.n; i++) {
    const Leaf *rank = &tr->leaves.at[i];
    bool all = rank->axis == term && rank->producers.n && !has_both(tr, rank->producers.n, rank->producers.at, channels);
    for (size_t k = 0; all && k < rank->producers.n; k++) all = same_terms(read_by(tr, rank->producers.at[k]), stream);
    if (all) return true;
  }
  return false;
}

/* A weight that reads the channels makes what is added to the stream, or what that alone is made of. */
static bool writes_stream(Trace *tr, const Leaf *channels, int contraction, PareAxis *stream) {
  if (makes(tr, contraction, stream)) return true;
  for (size_t i = 0; i < tr->leaves.n; i++) {
    const Leaf *rank = &tr->leaves.at[i];
    bool all = rank->readers.n && makes(tr, contraction, rank->axis) &&
               !has_both(tr, rank->readers.n, rank->readers.at, channels);
    for (size_t k = 0; all && k < rank->readers.n; k++) all = makes(tr, rank->readers.at[k], stream);
    if (all) return true;
  }
  return false;
}

/* All of them, one by itself. */
static bool lies_on(Trace *tr, const Leaf *l, PareAxis *stream) {
  bool all = true, itself = false, heads = false;
  for (size_t i = 0; i < l->producers.n; i++) all = all && reads_stream(tr, l, l->producers.at[i], stream);
  for (size_t i = 0; all && i < l->readers.n; i++) {
    all = writes_stream(tr, l, l->readers.at[i], stream);
    itself |= makes(tr, l->readers.at[i], stream);
  }
  pare_axis_leaves(stream, add_heads, &heads);
  return all && itself && !heads;
}

/* A feed-forward's channels: every producer reads one stream and every reader
 * writes to it. A residual width has producers that read several. */
static bool on_one_stream(Trace *tr, const Leaf *l) {
  for (size_t i = 0; i < l->producers.n; i++)
    if (lies_on(tr, l, read_by(tr, l->producers.at[i]))) return true;
  return false;
}

/* --- heads that share k and v --- */

/* Does every index of the axis belong to an index of y? */
static bool everywhere(PareAxis *a, const PareAxis *y) {
  a = pare_axis_find(a);
  bool all = a->kind == PARE_AXIS_SUM;
  if (a->kind == PARE_AXIS_LEAF) return a == y;
  for (int i = 0; i < a->n; i++) {
    bool kid = everywhere(a->kid[i], y);
    all = a->kind == PARE_AXIS_SUM ? all && kid : all || kid;
  }
  return all;
}

/* Does every index of the axis that belongs to one of x belong to one of y? In a product another factor may see to it. */
static bool goes_with(PareAxis *a, const PareAxis *x, const PareAxis *y) {
  a = pare_axis_find(a);
  if (a->kind == PARE_AXIS_LEAF) return a != x || x == y;
  if (a->kind == PARE_AXIS_PROD && everywhere(a, y)) return true;
  for (int i = 0; i < a->n; i++)
    if (!goes_with(a->kid[i], x, y)) return false;
  return true;
}

static bool all_with(Trace *tr, const Leaf *x, const Leaf *y) {
  for (size_t i = 0; i < x->members.n; i++) {
    const PareMember *m = &x->members.at[i];
    if (!goes_with(pare_axis_in(tr->t, m->node, m->input, m->axis), x->axis, y->axis)) return false;
  }
  return true;
}

static bool may_go(const Leaf *l) { return l->producers.n && l->readers.n && !l->axis->met; }

/* The heads that share one of k and v, in every group of them: q's heads are groups x these, k's and v's are groups
 * alone. A rectangle is all that the ops of a file can say, so one of each group goes. Where groups can go, whole ones
 * are the heads; where they cannot (a past, or a single one), these are. */
static bool are_queries(Trace *tr, const Leaf *l) {
  for (size_t i = 0; i < tr->leaves.n; i++) {
    const Leaf *group = &tr->leaves.at[i];
    if (group != l && group->axis->batched && may_go(group) && all_with(tr, l, group) && !all_with(tr, group, l))
      return true;
  }
  return false;
}

/* q and k of attention; v too where one Reshape gives all three their width. */
static bool is_pair(const Leaf *l) {
  return l->axis->met == PARE_MET_PRODUCT && !l->axis->batched && l->producers.n && l->pairs.n;
}

/* A residual stream: norms are taken over it, and it is more than one feed-forward's channels. */
static bool is_width(Trace *tr, const Leaf *l) {
  const PareAxis *a = l->axis;
  return a->met == PARE_MET_NORM && !a->batched && !a->inner && l->producers.n && l->readers.n && !on_one_stream(tr, l);
}

/* The width of q and k, one of which follows from constants: nothing but scores is made of it. */
static bool makes_scores(Trace *tr, const Leaf *l) {
  for (size_t i = 0; i < l->readers.n; i++)
    if (!pare_makes_scores(tr->t, &tr->scores, &tr->t->contractions.at[l->readers.at[i]])) return false;
  return l->readers.n > 0;
}

static PareKind kind_of(Trace *tr, const Leaf *l) {
  if (l->axis->met == PARE_MET_NORM) return PARE_KIND_WIDTH;
  if (l->axis->batched) return are_queries(tr, l) ? PARE_KIND_QUERIES : PARE_KIND_HEADS;
  if (l->axis->inner || makes_scores(tr, l)) return PARE_KIND_HEAD_DIM;
  return on_one_stream(tr, l) ? PARE_KIND_FFN : PARE_KIND_OTHER;
}

static size_t common_prefix(const char *a, size_t n, const char *b) {
  size_t i = 0;
  while (i < n && a[i] == b[i]) i++;
  return i;
}

/* The scope that all its weights' nodes share, or the first node's name. */
static const char *name_of(Trace *tr, const Leaf *l, const char *kind) {
  const PareContraction *at = tr->t->contractions.at;
  const char *first = l->producers.n ? at[l->producers.at[0]].node->name : at[l->readers.at[0]].node->name;
  size_t n = strlen(first);
  for (size_t i = 0; i < l->producers.n; i++) n = common_prefix(first, n, at[l->producers.at[i]].node->name);
  for (size_t i = 0; i < l->readers.n; i++) n = common_prefix(first, n, at[l->readers.at[i]].node->name);
  while (n > 0 && first[n] && first[n - 1] != '/' && first[n - 1] != '.') n--;
  while (n > 0 && (first[n - 1] == '/' || first[n - 1] == '.')) n--;
  return n ? pare_arena_printf(tr->a, "%.*s:%s", (int)n, first, kind) : pare_arena_printf(tr->a, "%s:%s", first, kind);
}

PareStatus pare_dim_weigh(PareCtx *c, PareTracer *t, PareDim *out) {
  for (size_t i = 0; i < out->members.n; i++) {
    const PareMember *m = &out->members.at[i], *all = out->members.at;
    bool seen = false;
    for (size_t j = 0; j < i; j++) seen |= all[j].weight == m->weight && all[j].axis == m->axis;
    if (seen) continue;
    int64_t size = m->weight->type.dim[m->axis], own = 0;
    PareMark mark = pare_arena_mark(c->scratch);
    int64_t *pos = PARE_NEW_N(c->scratch, size, int64_t);
    if (!pos) return pare_nomem(c);
    pare_axis_positions(pare_axis_in(t, m->node, m->input, m->axis), out->leaf, pos);
    for (int64_t p = 0; p < size; p++) own += pos[p] == 0;
    pare_arena_rewind(c->scratch, mark);
    own *= pare_type_count(&m->weight->type) / size;
    out->bytes += own * (int64_t)pare_dtype_size(m->weight->type.dtype);
    if (pare_is_weight(m->node, m->input)) out->params += own;
  }
  return PARE_OK;
}

/* The class that may cut what is frozen for the others. */
static bool other_class(Trace *tr, const Leaf *l, PareKind *out) {
  *out = is_pair(l) ? PARE_KIND_HEAD_DIM : PARE_KIND_WIDTH;
  return is_pair(l) || is_width(tr, l);
}

static PareStatus add_frozen(Trace *tr, const Leaf *l, PareDims *d) {
  const PareNode *by = l->axis->frozen_by;
  PareKind kind;
  PareFrozen f = {.count = l->axis->size, .name = name_of(tr, l, "frozen")};
  f.reason = by ? pare_arena_printf(tr->a, "%s: node '%s' (%s)", l->axis->frozen_why, by->name, pare_op_info[by->op].name)
                : l->axis->frozen_why;
  if (f.reason && other_class(tr, l, &kind))
    f.reason = pare_arena_printf(tr->a, "%s; --prune %s cuts it", f.reason, pare_kind_name(kind));
  return f.name && f.reason && pare_vec_push(tr->a, &d->frozen, f) ? PARE_OK : pare_nomem(tr->c);
}

static PareStatus push_readers(Trace *tr, size_t n, const int *list, const PareContraction *from, PareDim *out) {
  for (size_t i = 0; i < n; i++)
    if (!pare_vec_push(tr->a, &out->readers, from[list[i]])) return pare_nomem(tr->c);
  return PARE_OK;
}

/* Constants that are zero where a product sums over dead groups: of its weight or, where both of its operands follow
 * from constants, of either. Where no zeros do it, the leaf is frozen. */
static PareStatus add_zeros(Trace *tr, const Leaf *l, const PareContraction *x, bool learned, PareZeros *out) {
  bool yes;
  PARE_TRY(pare_vanish(tr->c, tr->a, tr->t, l->axis, x->node, x->weight, out, &yes));
  if (!yes && learned) PARE_TRY(pare_vanish(tr->c, tr->a, tr->t, l->axis, x->node, x->input, out, &yes));
  if (!yes) pare_axis_freeze(x->node, l->axis, "meets computed numbers that no zeros in a constant make zero");
  return PARE_OK;
}

/* Width is cut in both models that are compared, and of two activations the makers are zero: both need none. */
static PareStatus find_zeros(Trace *tr, const Leaf *l, PareZeros *out) {
  *out = (PareZeros){0};
  if (is_pair(l) || l->axis->met == PARE_MET_NORM) return PARE_OK;
  for (size_t i = 0; i < l->readers.n; i++)
    PARE_TRY(add_zeros(tr, l, &tr->t->contractions.at[l->readers.at[i]], false, out));
  for (size_t i = 0; i < l->learned.n; i++)
    PARE_TRY(add_zeros(tr, l, &tr->t->learned.at[l->learned.at[i]], true, out));
  return PARE_OK;
}

static PareStatus add_dim(Trace *tr, const Leaf *l, const PareZeros *zeros, PareDims *d) {
  PareDim dim = {.kind = kind_of(tr, l), .leaf = l->axis, .count = l->axis->size, .pair = is_pair(l), .zeros = *zeros};
  dim.exact = dim.kind != PARE_KIND_WIDTH;
  bool scores = dim.pair || (dim.kind == PARE_KIND_HEAD_DIM && makes_scores(tr, l));
  dim.name = name_of(tr, l, scores ? "head-dim-qk" : pare_kind_name(dim.kind));
  if (!dim.name) return pare_nomem(tr->c);
  for (size_t i = 0; i < l->members.n; i++)
    if (!pare_vec_push(tr->a, &dim.members, l->members.at[i])) return pare_nomem(tr->c);
  PARE_TRY(pare_dim_weigh(tr->c, tr->t, &dim));
  PARE_TRY(push_readers(tr, l->pairs.n, l->pairs.at, tr->t->products.at, &dim));
  PARE_TRY(push_readers(tr, l->readers.n, l->readers.at, tr->t->contractions.at, &dim));
  l->axis->dim = (int)d->dims.n;
  return pare_dims_add(tr->c, tr->a, d, dim);
}

/* One that nothing forbids, or that is what a class asked for is about. */
static PareStatus settle(Trace *tr, const Leaf *l, PareDims *d) {
  PareKind kind;
  PareZeros zeros;
  l->axis->dim = -1;
  if (!l->producers.n || !(l->readers.n || l->axis->batched || l->pairs.n)) return PARE_OK;
  bool asked = other_class(tr, l, &kind) && (tr->kinds & PARE_KIND_BIT(kind));
  if (asked || (!l->axis->met && l->readers.n)) {
    PARE_TRY(find_zeros(tr, l, &zeros));
    if (asked || !l->axis->met) return add_dim(tr, l, &zeros, d);
  }
  return l->axis->met ? add_frozen(tr, l, d) : PARE_OK;
}

PareStatus pare_trace_classes(PareCtx *c, PareArena *a, const PareGraph *g, unsigned kinds, PareDims **out) {
  Trace tr = {.c = c, .a = a, .g = g, .kinds = kinds};
  PareDims *d = PARE_NEW(a, PareDims);
  if (!d) return pare_nomem(c);
  PARE_TRY(run_rules(&tr));
  do {
    forget_leaves(&tr);
    PARE_TRY(collect(&tr));
  } while (tie_shared(&tr));
  for (size_t i = 0; i < tr.leaves.n; i++) PARE_TRY(settle(&tr, &tr.leaves.at[i], d));
  d->tracer = tr.t;
  *out = d;
  if (kinds & PARE_KIND_BIT(PARE_KIND_VOCAB)) PARE_TRY(pare_trace_vocab(c, a, d));
  return kinds & PARE_KIND_BIT(PARE_KIND_DEPTH) ? pare_trace_branches(c, a, d) : PARE_OK;
}

PareStatus pare_trace_dims(PareCtx *c, PareArena *a, const PareGraph *g, PareDims **out) {
  return pare_trace_classes(c, a, g, 0, out);
}
