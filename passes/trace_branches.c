/* trace_branches - whole layers: the branches of residual streams. A branch is what is
 * made of x, by a weight at least, and then added to x; without it the sum is x. The sum
 * is a node of its own, or what an op of sum and norm, or one of integers, begins with.
 * Attention and feed-forward are a branch each: the smallest thing whose loss leaves
 * the stream as it is. Branches that weigh the same are the groups of one dimension. */
#include <string.h>

#include "ir/op_columns.h"
#include "passes/quantized.h"
#include "passes/sources.h"
#include "passes/trace_dims.h"

typedef struct Found {
  PareBranch branch;
  int64_t params, bytes;
  int64_t weights; /* params but for scales, which layers may share: those with as many are of a sort */
} Found;

typedef struct Search {
  PareCtx *c;
  PareArena *a;
  PareDims *d;
  const PareGraph *g;
  PareUses uses;
  PareNode **order;  /* by place */
  uint32_t *place;   /* by node id */
  int *contraction;  /* by node id: number, or -1 */
  bool *is_sum;      /* by node id: a branch was found to end there */
  bool *between;     /* by node id: made of x on the way to y */
  bool *goes;        /* by node id: nobody needs it without the branch */
  PARE_VEC(Found) found;
} Search;

/* --- what lies between the stream and the sum --- */

/* Floats and the integers that they are quantised to, not shapes and masks. */
static bool is_number(const PareValue *v) { return v && v->type.dtype != PARE_I64 && v->type.dtype != PARE_BOOL; }

/* What x is the numbers of, to a step of quantisation: a branch may have quantised them by itself. */
static const PareValue *behind_quantisation(const PareValue *x) {
  while (x->role == PARE_RESULT && pare_op_info[x->def->op].cut == pare_cut_quantize) x = x->def->in[0];
  return x;
}

/* Marks the nodes through which y is made of x; the number of them that multiply by a weight, or -1 when y is not
 * made of x or when a branch ends among them. */
static int mark_between(Search *s, const PareValue *x, const PareValue *y, uint32_t from) {
  int weights = 0;
  for (uint32_t i = from; i <= s->place[y->def->id]; i++) {
    const PareNode *n = s->order[i];
    bool reached = false;
    for (int k = 0; k < n->nin; k++) {
      const PareValue *v = n->in[k];
      reached |= v && is_number(v) && (v == x || (v->role == PARE_RESULT && s->between[v->def->id]));
    }
    s->between[n->id] = reached && n->nout && is_number(n->out[0]);
  }
  if (!s->between[y->def->id]) return -1;
  /* of these, those that y needs */
  bool *needed = s->goes;
  memset(needed, 0, s->g->nnodes * sizeof *needed);
  needed[y->def->id] = true;
  for (uint32_t i = s->place[y->def->id] + 1; i-- > from;) {
    const PareNode *n = s->order[i];
    s->between[n->id] &= needed[n->id];
    if (!s->between[n->id]) continue;
    if (s->is_sum[n->id]) return -1;
    weights += s->contraction[n->id] >= 0;
    for (int k = 0; k < n->nin; k++)
      if (n->in[k] && n->in[k]->role == PARE_RESULT) needed[n->in[k]->def->id] = true;
  }
  return weights;
}

/* --- what goes with it --- */

static bool needed_without(const Search *s, const PareNode *n, const PareNode *add, int input) {
  uint32_t readers = 0;
  for (int o = 0; o < n->nout; o++) {
    const PareValue *v = n->out[o];
    if (!v) continue;
    if (pare_is_output(s->g, v)) return true;
    for (uint32_t u = s->uses.first[v->id]; u < s->uses.first[v->id + 1]; u++, readers++) {
      const PareUse *use = &s->uses.at[u];
      if (!(use->node == add && use->input == input) && !s->goes[use->node->id]) return true;
    }
  }
  return readers == 0; /* was dead before */
}

/* The nodes of one ONNX node go together, but for those of the op that does the sum and what reads a sum that stays. */
static bool splits_a_node(const Search *s, const PareNode *add) {
  for (const PareNode *n = s->g->first; n && n->next; n = n->next) {
    bool own = n->onnx_input == PARE_IN_SUM || (add->onnx_input == PARE_IN_SUM && n->onnx_index == add->onnx_index);
    bool one = n->onnx_index == n->next->onnx_index && n->onnx_index != PARE_NO_INDEX;
    if (one && !own && s->goes[n->id] != s->goes[n->next->id]) return true;
  }
  return false;
}

/* The op that holds `add` adds a bias to the sum; node NULL: it does not. */
static PareUse bias_behind(PareNode *add) {
  PareUse none = {NULL, 0};
  if (add->onnx_input != PARE_IN_SUM) return none;
  for (PareNode *n = add->next; n && n->onnx_index == add->onnx_index; n = n->next)
    for (int k = 0; k < n->nin && n->onnx_input == PARE_IN_SUM; k++)
      if (n->in[k] == add->out[0]) return (PareUse){n, 1 - k};
  return none;
}

/* Marks what goes; false when something of the branch has to stay. */
static bool mark_goes(Search *s, const PareNode *add, int input) {
  memset(s->goes, 0, s->g->nnodes * sizeof *s->goes);
  for (uint32_t i = s->place[add->id]; i-- > 0;)
    s->goes[s->order[i]->id] = !needed_without(s, s->order[i], add, input);
  for (uint32_t i = 0; i < s->place[add->id]; i++) {
    const PareNode *n = s->order[i];
    if (s->between[n->id] && s->contraction[n->id] >= 0 && !s->goes[n->id]) return false;
  }
  return s->goes[add->in[input]->def->id] && !splits_a_node(s, add);
}

/* --- the constants that make it zero --- */

typedef struct Ends {
  const Search *s;
  const PareNode *reader; /* of the branch */
  PareBranch *b;
  bool nomem;
} Ends;

/* A constant that others are made of too, at one node, is not this branch's to make zero. */
static bool push_end(PareUse reading, void *arg) {
  Ends *e = arg;
  if (reading.node != e->reader && !e->s->goes[reading.node->id]) return false;
  return pare_vec_push(e->s->a, &e->b->ends, reading) || (e->nomem = true, false);
}

/* All that n's input k is made of. */
static PareStatus add_end(Search *s, PareNode *n, int k, PareBranch *b, bool *found) {
  Ends e = {s, n, b, false};
  if (pare_each_source(n, k, push_end, &e)) *found = true;
  return e.nomem ? pare_nomem(s->c) : PARE_OK;
}

enum { MAX_DEPTH = 16 };

static PareStatus find_ends(Search *s, const PareValue *v, PareBranch *b, int depth, bool *found);

/* Each of the operands has to be zero. */
static PareStatus zero_all(Search *s, PareNode *n, int from, PareBranch *b, int depth, bool *found) {
  *found = true;
  for (int k = from; k < n->nin && *found; k++) {
    if (!n->in[k]) continue;
    *found = false;
    if (s->d->tracer->constant[n->in[k]->id]) PARE_TRY(add_end(s, n, k, b, found));
    else PARE_TRY(find_ends(s, n->in[k], b, depth + 1, found));
  }
  return PARE_OK;
}

/* One of the factors: a constant if there is one. */
static PareStatus zero_factor(Search *s, PareNode *n, PareBranch *b, int depth, bool *found) {
  for (int k = 0; k < n->nin; k++)
    if (s->d->tracer->constant[n->in[k]->id]) return add_end(s, n, k, b, found);
  for (int k = 0; k < n->nin && !*found; k++) PARE_TRY(find_ends(s, n->in[k], b, depth + 1, found));
  return PARE_OK;
}

static PareStatus zero_product(Search *s, PareNode *n, PareBranch *b, bool *found) {
  const PareContraction *x = &s->d->tracer->contractions.at[s->contraction[n->id]];
  bool bias = true;
  PARE_TRY(add_end(s, n, x->weight, b, found));
  for (int k = 2; k < n->nin && *found; k++) {
    if (!n->in[k]) continue;
    PARE_TRY(add_end(s, n, k, b, &bias));
    if (!s->d->tracer->constant[n->in[k]->id]) *found = false;
  }
  return PARE_OK;
}

/* Zeroing the constants listed in b makes v zero; *found is false when none are known to. */
static PareStatus find_ends(Search *s, const PareValue *v, PareBranch *b, int depth, bool *found) {
  PareNode *n = v->role == PARE_RESULT ? v->def : NULL;
  *found = false;
  if (!n || depth == MAX_DEPTH || !is_number(v)) return PARE_OK;
  PareCostFn *cost = pare_op_info[n->op].cost;
  if (n->op == PARE_OP_ADD || n->op == PARE_OP_SUM || n->op == PARE_OP_CONCAT) return zero_all(s, n, 0, b, depth, found);
  if (n->op == PARE_OP_LAYERNORM) return zero_all(s, n, 1, b, depth, found);
  if (n->op == PARE_OP_MUL) return zero_factor(s, n, b, depth, found);
  if (s->contraction[n->id] >= 0 && n->op != PARE_OP_MATMULINTEGER) return zero_product(s, n, b, found);
  bool moves = cost == pare_cost_free || cost == pare_cost_move || n->op == PARE_OP_CAST || n->op == PARE_OP_DIV ||
               n->op == PARE_OP_QUANTIZELINEAR || n->op == PARE_OP_DEQUANTIZELINEAR; /* 0 has an integer of its own */
  return moves && n->nin ? find_ends(s, n->in[0], b, depth + 1, found) : PARE_OK;
}

/* The bias that is added behind the sum, which goes as well. */
static PareStatus zero_bias(Search *s, PareBranch *b, bool *found) {
  const PareValue *v = b->bias.node->in[b->bias.input];
  *found = false;
  if (!s->d->tracer->constant[v->id]) return PARE_OK;
  if (v->role == PARE_RESULT && v->def->onnx_index == b->bias.node->onnx_index) s->goes[v->def->id] = true;
  return add_end(s, b->bias.node, b->bias.input, b, found);
}

/* --- branches --- */

/* A weight goes when all that read it do. A number inside of an op is none. */
static void weigh(const Search *s, const PareValue *w, PareNode *reader, int input, Found *f) {
  size_t bytes;
  if (reader->onnx_input == PARE_INSIDE && w->origin.kind == PARE_ORIGIN_NONE && w->type.rank == 0) return;
  for (uint32_t u = s->uses.first[w->id]; u < s->uses.first[w->id + 1]; u++) {
    if (!s->goes[s->uses.at[u].node->id]) return;
    if (u == s->uses.first[w->id] && (s->uses.at[u].node != reader || s->uses.at[u].input != input)) return; /* once */
  }
  int64_t own = pare_is_weight(reader, input) ? pare_type_count(&w->type) : 0;
  f->params += own;
  if (own && !pare_is_scale(s->g, reader, input)) f->weights += own;
  if (pare_type_bytes(&w->type, &bytes)) f->bytes += (int64_t)bytes;
}

static PareStatus describe(Search *s, Found *f) {
  const PareNode *last = f->branch.bias.node ? f->branch.bias.node : f->branch.sum.node;
  for (uint32_t i = 0; i < s->place[last->id]; i++) {
    PareNode *n = s->order[i];
    if (!s->goes[n->id]) continue;
    if (!pare_vec_push(s->a, &f->branch.nodes, n)) return pare_nomem(s->c);
    for (int k = 0; k < n->nin; k++)
      if (n->in[k] && n->in[k]->role == PARE_CONST) weigh(s, n->in[k], n, k, f);
  }
  return PARE_OK;
}

static PareStatus try_branch(Search *s, PareNode *add, int input) {
  const PareValue *y = add->in[input], *x = add->in[1 - input], *stream = behind_quantisation(x);
  const PareTracer *t = s->d->tracer;
  if (y->role != PARE_RESULT || y->type.rank < 1 || t->constant[x->id] || !pare_type_equal(&x->type, &add->out[0]->type) ||
      !pare_type_equal(&y->type, &x->type))
    return PARE_OK;
  uint32_t from = stream->role == PARE_RESULT ? s->place[stream->def->id] + 1 : 0;
  if (s->place[y->def->id] < from) return PARE_OK;
  memset(s->between, 0, s->g->nnodes * sizeof *s->between);
  if (mark_between(s, stream, y, from) < 1 || !mark_goes(s, add, input)) return PARE_OK;
  Found f = {.branch = {.sum = {add, input, y->type.rank - 1, 1 - input, y->type.rank - 1}, .bias = bias_behind(add)}};
  bool zero, no_bias = true;
  PARE_TRY(find_ends(s, y, &f.branch, 0, &zero));
  if (zero && f.branch.bias.node) PARE_TRY(zero_bias(s, &f.branch, &no_bias));
  if (!zero || !no_bias) return PARE_OK;
  PARE_TRY(describe(s, &f));
  s->is_sum[add->id] = true;
  return pare_vec_push(s->a, &s->found, f) ? PARE_OK : pare_nomem(s->c);
}

static PareStatus start(Search *s) {
  size_t n = s->g->nnodes + 1;
  uint32_t at = 0;
  s->order = PARE_NEW_N(s->a, n, PareNode *);
  s->place = PARE_NEW_N(s->a, n, uint32_t);
  s->contraction = PARE_NEW_N(s->a, n, int);
  s->is_sum = PARE_NEW_N(s->a, n, bool);
  s->between = PARE_NEW_N(s->a, n, bool);
  s->goes = PARE_NEW_N(s->a, n, bool);
  if (!s->order || !s->place || !s->contraction || !s->is_sum || !s->between || !s->goes) return pare_nomem(s->c);
  for (PareNode *p = s->g->first; p; p = p->next) {
    s->contraction[p->id] = -1;
    s->order[at] = p;
    s->place[p->id] = at++;
  }
  for (size_t i = 0; i < s->d->tracer->contractions.n; i++)
    s->contraction[s->d->tracer->contractions.at[i].node->id] = (int)i;
  return pare_uses(s->c, s->a, s->g, &s->uses);
}

/* --- dimensions --- */

static PareStatus add_dimension(Search *s, size_t first) {
  Found *f = s->found.at;
  PareDim dim = {.kind = PARE_KIND_DEPTH, .exact = true, .params = f[first].params, .bytes = f[first].bytes};
  for (size_t i = first; i < s->found.n; i++)
    if (f[i].weights == f[first].weights && !pare_vec_push(s->a, &dim.branches, f[i].branch)) return pare_nomem(s->c);
  dim.count = (int64_t)dim.branches.n;
  if (dim.count < 2) return PARE_OK; /* one always stays */
  dim.leaf = pare_axis_leaf(s->d->tracer, dim.count);
  dim.name = pare_arena_printf(s->a, "%s:depth", f[first].branch.sum.node->name);
  if (!dim.name || s->d->tracer->nomem) return pare_nomem(s->c);
  return pare_dims_add(s->c, s->a, s->d, dim);
}

static bool lies_inside(const PareDim *dim, const PareBranch *b) {
  for (size_t r = 0; r < dim->readers.n; r++) {
    bool inside = false;
    for (size_t i = 0; i < b->nodes.n; i++) inside |= b->nodes.at[i] == dim->readers.at[r].node;
    if (!inside) return false;
  }
  return dim->readers.n > 0;
}

/* Notes which dimensions go with a branch. */
static void nest(PareDims *d, size_t first) {
  for (size_t i = first; i < d->dims.n; i++)
    for (size_t b = 0; b < d->dims.at[i].branches.n; b++) {
      PareBranch *branch = &d->dims.at[i].branches.at[b];
      branch->leaf = d->dims.at[i].leaf;
      branch->number = (int64_t)b;
      for (size_t k = 0; k < first; k++)
        if (lies_inside(&d->dims.at[k], branch)) d->dims.at[k].inside = branch;
    }
}

PareStatus pare_trace_branches(PareCtx *c, PareArena *a, PareDims *d) {
  Search s = {.c = c, .a = a, .d = d, .g = d->tracer->g};
  size_t first = d->dims.n;
  PARE_TRY(start(&s));
  for (PareNode *n = s.g->first; n; n = n->next) {
    if (n->op != PARE_OP_ADD || (n->onnx_input && n->onnx_input != PARE_IN_SUM) || !is_number(n->out[0])) continue;
    for (int k = 0; k < 2 && !s.is_sum[n->id]; k++) PARE_TRY(try_branch(&s, n, k));
  }
  for (size_t i = 0; i < s.found.n; i++) {
    bool seen = false;
    for (size_t j = 0; j < i; j++) seen |= s.found.at[j].weights == s.found.at[i].weights;
    if (!seen) PARE_TRY(add_dimension(&s, i));
  }
  nest(d, first);
  return PARE_OK;
}
