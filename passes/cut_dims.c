/* cut_dims - slices constants and makes shape arithmetic follow (DESIGN 6,
 * "Shape arithmetic"). Every element of an integer operand that steers a shape
 * has a required value; where the graph no longer yields it, the constant that
 * it comes from is changed, for this reader alone. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "ir/op_columns.h"
#include "ir/slices.h"
#include "passes/bind_shapes.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"

/* An element that some shape depends on, as one node reads it: other shapes must want the same. */
typedef struct Settled {
  uint32_t node; /* id of the reader */
  int input;
  int64_t element, value;
} Settled;

typedef struct Cut {
  PareCtx *c;
  const PareDims *d;
  PareTracer *t;
  PareArena *tmp;
  const PareGraph *g;    /* before the cut, unbound */
  PareGraph *out;        /* the result: unbound */
  PareGraph *bound;      /* its clone, bound as the traced graph is */
  PareGraph *elsewhere;  /* g at other sizes of its dynamic axes, once that is asked for */
  PareNode **out_node;   /* by id */
  PareNode **bound_node; /* by id */
  bool *changed;         /* by value id: follows from constants that are not those of the traced graph, tuned or cut */
  PARE_VEC(Settled) settled;
} Cut;

/* --- slicing constants --- */

static bool is_cut(PareAxis **axes, const PareType *type) {
  for (int d = 0; d < type->rank; d++)
    if (pare_axis_count(axes[d]) != type->dim[d]) return true;
  return false;
}

/* Which indices of an axis stay, in a. NULL when memory is out. */
static const bool *alive_on(PareCtx *c, PareArena *a, PareAxis *axis, int64_t dim) {
  bool *alive = PARE_NEW_N(a, dim + 1, bool);
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *kept = PARE_NEW_N(c->scratch, dim + 1, int64_t);
  if (!alive || !kept) return NULL;
  pare_axis_indices(axis, kept);
  int64_t n = pare_axis_count(axis); /* it walks the axis */
  for (int64_t i = 0; i < n; i++) {
    assert(!i || kept[i] > kept[i - 1]);
    alive[kept[i]] = true;
  }
  pare_arena_rewind(c->scratch, mark);
  return alive;
}

/* What stays of the constant v, and its type. */
static PareStatus slice_constant(Cut *x, PareAxis **axes, const PareValue *v, PareType *type, PareSlices **out) {
  PareSlices *s = *out = PARE_NEW(x->out->arena, PareSlices);
  if (!s) return pare_nomem(x->c);
  assert(!v->slices);
  *s = (PareSlices){.whole = v->type, .data = v->data};
  *type = v->type;
  for (int d = 0; d < v->type.rank; d++) {
    type->dim[d] = pare_axis_count(axes[d]);
    if (type->dim[d] != v->type.dim[d] && !(s->alive[d] = alive_on(x->c, x->out->arena, axes[d], v->type.dim[d])))
      return pare_nomem(x->c);
  }
  return PARE_OK;
}

/* The cut form of a constant that an earlier reader has got already, if it is the same. */
static PareValue *same_slice(const PareGraph *g, size_t from, const PareValue *old, const PareValue *is) {
  size_t bytes;
  for (size_t i = from; i < g->values.n; i++) {
    PareValue *v = g->values.at[i];
    if (v == is || v->role != PARE_CONST || v->origin.kind != old->origin.kind || v->origin.index != old->origin.index ||
        strcmp(v->name, old->name) || !pare_type_equal(&v->type, &is->type) || !v->slices != !is->slices)
      continue;
    if (is->slices ? pare_slices_equal(v->slices, is->slices)
                   : pare_type_bytes(&is->type, &bytes) && !memcmp(v->data, is->data, bytes))
      return v;
  }
  return NULL;
}

/* n reads what stays of its input k: bytes, or where these are many a thin constant. */
static PareStatus slice_input(Cut *x, const PareUses *uses, size_t first_new, PareNode *n, int k) {
  const PareValue *old = n->in[k];
  PareType type;
  PareSlices *s;
  PARE_TRY(slice_constant(x, x->t->use_axis[n->id][k], old, &type, &s));
  PARE_TRY(pare_replace_sliced(x->c, x->out, n, k, type, s));
  PareValue *is = n->in[k];
  if (!pare_slices_wanted(&old->type)) {
    if (!(is->data = pare_constant_bytes(x->out->arena, is))) return pare_nomem(x->c);
    is->slices = NULL;
  }
  PareValue *twin = pare_use_count(uses, old) > 1 ? same_slice(x->out, first_new, old, is) : NULL;
  if (twin) n->in[k] = twin;
  return PARE_OK;
}

static PareStatus slice_constants(Cut *x, const PareUses *uses) {
  size_t first_new = x->out->values.n;
  for (PareNode *n = x->out->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++) {
      const PareValue *v = n->in[k];
      if (!v || v->role != PARE_CONST || v->id >= first_new) continue;
      if (is_cut(x->t->use_axis[n->id][k], &v->type)) PARE_TRY(slice_input(x, uses, first_new, n, k));
    }
  return PARE_OK;
}

/* --- token ids --- */

static void put_int(PareDtype d, void *data, int64_t e, int64_t v) {
  int32_t v32 = (int32_t)v;
  if (d == PARE_I64) memcpy((char *)data + e * 8, &v, 8);
  else memcpy((char *)data + e * 4, &v32, 4);
}

/* Where a token stands among those that stay; -1, which no id is, for one that goes. */
static int64_t new_id(const bool *keep, int64_t count, int64_t id) {
  int64_t at = 0;
  if (id < 0 || id >= count || !keep[id]) return -1;
  for (int64_t i = 0; i < id; i++) at += keep[i];
  return at;
}

static PareStatus renumber(Cut *x, const bool *keep, int64_t count, const PareUse *use) {
  PareNode *n = x->out_node[use->node->id];
  const PareValue *was = use->node->in[use->input];
  size_t bytes;
  bool wide = was->type.dtype == PARE_I64 || was->type.dtype == PARE_I32;
  if (!was->data || !wide || !pare_type_bytes(&was->type, &bytes))
    return pare_fail(x->c, n, PARE_UNSUPPORTED, "token ids are compared with '%s', whose numbers are not known", was->name);
  uint8_t *data = pare_arena_alloc(x->out->arena, bytes, 1);
  if (!data) return pare_nomem(x->c);
  for (int64_t e = 0; e < pare_type_count(&was->type); e++)
    put_int(was->type.dtype, data, e, new_id(keep, count, pare_data_int(was, e)));
  if (n->in[use->input]->role == PARE_CONST)
    return pare_replace_constant(x->c, x->out, n, use->input, was->type, data);
  PareValue *v = pare_const_add(x->c, x->out, was->name, was->type, data);
  if (!v) return x->c->diag.code;
  n->in[use->input] = v;
  return PARE_OK;
}

/* Ids are compared with what the tokens are called now. */
static PareStatus renumber_tokens(Cut *x) {
  int64_t count = 0;
  const bool *keep = pare_dims_tokens(x->d, &count);
  for (size_t i = 0; keep && i < x->d->tokens.n; i++)
    for (size_t j = 0; j < x->d->tokens.at[i].compared.n; j++)
      PARE_TRY(renumber(x, keep, count, &x->d->tokens.at[i].compared.at[j]));
  return PARE_OK;
}

/* --- shape operands --- */

/* Ops that only move elements, from input 0 or, where the arity is open, from any. */
static bool moves(const PareNode *n) {
  PareCostFn *cost = pare_op_info[n->op].cost;
  PareCutFn *cut = pare_op_info[n->op].cut;
  return (cost == pare_cost_free || cost == pare_cost_move || n->op == PARE_OP_CAST) && cut != pare_cut_source &&
         cut != pare_cut_fill && cut != pare_cut_opaque;
}

enum { TAG_SHIFT = 40 };

/* Which element of which input becomes element e of n's output v: the op is run on numbered elements. */
static PareStatus find_source(Cut *x, PareNode *n, const PareValue *v, int64_t e, int *input, int64_t *element) {
  PareCtx *c = x->c;
  *input = 0;
  *element = e;
  if (pare_is_view(n) || n->op == PARE_OP_CAST) return PARE_OK;
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode probe = *n;
  int ndata = pare_op_info[n->op].max_in < 0 ? n->nin : 1;
  probe.in = PARE_NEW_N(c->scratch, n->nin, PareValue *);
  probe.out = PARE_NEW_N(c->scratch, n->nout, PareValue *);
  if (!probe.in || !probe.out) return pare_nomem(c);
  memcpy(probe.in, n->in, (size_t)n->nin * sizeof *probe.in);
  for (int k = 0; k < ndata; k++) {
    PareValue *w = PARE_NEW(c->scratch, PareValue);
    int64_t count = pare_type_count(&n->in[k]->type), *number = PARE_NEW_N(c->scratch, count + 1, int64_t);
    if (!w || !number) return pare_nomem(c);
    for (int64_t i = 0; i < count; i++) number[i] = (int64_t)k << TAG_SHIFT | i;
    *w = *n->in[k];
    w->type.dtype = PARE_I64;
    w->data = number;
    w->role = PARE_CONST;
    probe.in[k] = w;
  }
  const PareValue *result = NULL;
  for (int o = 0; o < n->nout; o++) {
    if (!n->out[o]) continue;
    PareValue *w = PARE_NEW(c->scratch, PareValue);
    if (!w) return pare_nomem(c);
    *w = *n->out[o];
    w->type.dtype = PARE_I64;
    w->def = &probe;
    probe.out[o] = w;
    if (n->out[o] == v) result = w;
  }
  PareMark numbers = pare_arena_mark(x->tmp); /* not scratch, which the evaluation rewinds */
  PARE_TRY(pare_node_eval(c, &probe, x->tmp));
  int64_t source = pare_data_int(result, e);
  pare_arena_rewind(x->tmp, numbers);
  *input = (int)(source >> TAG_SHIFT);
  *element = source & (((int64_t)1 << TAG_SHIFT) - 1);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* Operand y such that `op`(known, y) or, with first, op(y, known) is want. False: there is none. */
static bool solve(PareOp op, bool first, int64_t known, int64_t want, int64_t *y) {
  switch (op) {
  case PARE_OP_ADD: return !__builtin_sub_overflow(want, known, y);
  case PARE_OP_SUB: return !(first ? __builtin_add_overflow(want, known, y) : __builtin_sub_overflow(known, want, y));
  case PARE_OP_MUL: return known > 0 && want % known == 0 && (*y = want / known, true);
  case PARE_OP_DIV:
    if (first) return pare_mul_i64(want, known, y);
    return want > 0 && known > 0 && (*y = known / want, *y != 0 && known / *y == want);
  default: return false;
  }
}

static bool is_constant(const Cut *x, const PareValue *v) {
  return v->role == PARE_CONST || x->t->constant[v->id];
}

/* Changes element e of the constant that node `id` reads as input k, for this reader. */
static PareStatus patch(Cut *x, uint32_t id, int k, int64_t e, int64_t want) {
  PareNode *n = x->out_node[id], *b = x->bound_node[id];
  const PareValue *v = n->in[k];
  size_t bytes;
  if ((v->type.dtype != PARE_I64 && v->type.dtype != PARE_I32) || !pare_type_bytes(&v->type, &bytes))
    return pare_fail(x->c, n, PARE_UNSUPPORTED, "'%s' has to follow the cut and is not an integer tensor", v->name);
  uint8_t *data = pare_arena_alloc(x->out->arena, bytes, 1);
  if (!data) return pare_nomem(x->c);
  memcpy(data, v->data, bytes);
  put_int(v->type.dtype, data, e, want);
  PARE_TRY(pare_replace_constant(x->c, x->out, n, k, v->type, data));
  return pare_replace_constant(x->c, x->bound, b, k, v->type, data);
}

/* Says that this element has to be `value`. False when another shape has said otherwise. */
static PareStatus settle(Cut *x, const PareNode *n, int k, int64_t e, int64_t value, bool *agreed) {
  *agreed = true;
  for (size_t i = 0; i < x->settled.n; i++) {
    const Settled *s = &x->settled.at[i];
    if (s->node != n->id || s->input != k || s->element != e) continue;
    *agreed = s->value == value;
    return PARE_OK;
  }
  Settled s = {n->id, k, e, value};
  return pare_vec_push(x->tmp, &x->settled, s) ? PARE_OK : pare_nomem(x->c);
}

/* The reader reads a number of its own instead of a computed one. */
static PareStatus replace_result(Cut *x, uint32_t id, int k, int64_t want) {
  const PareType type = x->bound_node[id]->in[k]->type;
  for (int side = 0; side < 2; side++) {
    PareGraph *g = side ? x->bound : x->out;
    PareNode *n = side ? x->bound_node[id] : x->out_node[id];
    void *data = pare_arena_alloc(g->arena, 8, 1);
    if (!data) return pare_nomem(x->c);
    put_int(type.dtype, data, 0, want);
    PareValue *v = pare_const_add(x->c, g, n->in[k]->name, type, data);
    if (!v) return x->c->diag.code;
    n->in[k] = v;
  }
  return PARE_OK;
}

/* Element e of v's type, in a tensor of type `from` that is broadcast to it. */
static int64_t broadcast_element(const PareType *from, const PareType *to, int64_t e) {
  int64_t at = 0, stride = 1;
  for (int d = 1; d <= from->rank; d++) {
    int64_t size = from->dim[from->rank - d], index = e % to->dim[to->rank - d];
    if (size != 1) at += index * stride;
    stride *= size;
    e /= to->dim[to->rank - d];
  }
  return at;
}

/* Where: the operand that the condition picks for this element. */
static void chosen(const PareNode *n, const PareValue *v, int64_t e, int *input, int64_t *element) {
  bool yes = pare_data_int(n->in[0], broadcast_element(&n->in[0]->type, &v->type, e)) != 0;
  *input = yes ? 1 : 2;
  *element = broadcast_element(&n->in[*input]->type, &v->type, e);
}

/* Where element e of the result v = n's output comes from, and what it must be
 * for e to be *want. False: v does not follow from anything that can be changed. */
static PareStatus step_back(Cut *x, PareNode *n, const PareValue *v, int64_t e, int *input, int64_t *element,
                            int64_t *want, bool *found) {
  *found = true;
  if (moves(n)) return find_source(x, n, v, e, input, element);
  if (n->op == PARE_OP_WHERE) return chosen(n, v, e, input, element), PARE_OK;
  *found = false;
  if (n->nin != 2 || !n->in[0] || !n->in[1]) return PARE_OK;
  int64_t y, at[2];
  for (int k = 0; k < 2; k++) at[k] = pare_type_count(&n->in[k]->type) == 1 ? 0 : e;
  for (int k = 1; k >= 0 && !*found; k--) {
    if (!is_constant(x, n->in[k]) || !solve(n->op, k == 0, pare_data_int(n->in[1 - k], at[1 - k]), *want, &y)) continue;
    *found = true;
    *input = k;
    *element = at[k];
    *want = y;
  }
  return PARE_OK;
}

enum { MAX_STEPS = 64 };

static PareStatus hold(Cut *x, PareNode *n, int k, int64_t e, int depth);

/* Makes element e of what n reads as input k be `want`: by changing the constant
 * that it comes from or, where it comes from a shape, by a constant in its place.
 * What is right already is only settled. Not done: others need it otherwise, or
 * it comes from nothing that can be changed. */
static PareStatus require(Cut *x, PareNode *n, int k, int64_t e, int64_t want, int depth, bool *done) {
  PareValue *v = n->in[k];
  bool agreed, found, fits;
  *done = false;
  if (!v->data || pare_dtype_is_float(v->type.dtype) || depth == MAX_STEPS) return PARE_OK;
  PARE_TRY(settle(x, n, k, e, want, &agreed));
  if (!agreed) return PARE_OK;
  *done = fits = pare_data_int(v, e) == want;
  if (v->role == PARE_CONST) {
    *done = true;
    return fits ? PARE_OK : patch(x, n->id, k, e, want);
  }
  PareNode *p = v->def;
  int input = 0;
  int64_t element = e, operand = want;
  PARE_TRY(step_back(x, p, v, e, &input, &element, &operand, &found));
  if (fits) return found ? hold(x, p, input, element, depth + 1) : PARE_OK;
  if (found) PARE_TRY(require(x, p, input, element, operand, depth + 1, done));
  if (*done) return pare_bind_node(x->c, x->bound, p);
  if (pare_type_count(&v->type) != 1 || (v->type.dtype != PARE_I64 && v->type.dtype != PARE_I32)) return PARE_OK;
  *done = true;
  return replace_result(x, n->id, k, want);
}

/* Requires what is there. */
static PareStatus hold(Cut *x, PareNode *n, int k, int64_t e, int depth) {
  const PareValue *v = n->in[k];
  bool done;
  if (!v->data || pare_dtype_is_float(v->type.dtype)) return PARE_OK;
  return require(x, n, k, e, pare_data_int(v, e), depth, &done);
}

/* The node in g bound to other sizes; NULL when that failed. */
static const PareNode *elsewhere(Cut *x, uint32_t id) {
  if (!x->elsewhere && pare_probe_dims(x->c, x->tmp, x->g, 1, &x->elsewhere) != PARE_OK) return NULL;
  const PareNode *n = x->elsewhere->first;
  while (n->id != id) n = n->next;
  return n;
}

/* Reshape can name a size without knowing it: 0 copies the input's, -1 is what is
 * left. A reader whose computed target other readers need otherwise gets one of
 * its own in this form, if no two sizes have to be -1. A size is known when it
 * is the same whatever the dynamic axes are. */
static PareStatus constant_target(Cut *x, PareNode *b, const PareNode *traced, bool *done) {
  *done = false;
  if (pare_op_info[b->op].want != pare_want_reshape) return PARE_OK;
  const PareNode *other = elsewhere(x, b->id);
  if (!other) return x->c->diag.code;
  const PareType *in = &b->in[0]->type, *far_in = &other->in[0]->type, *far_out = &other->out[0]->type;
  PareType out = pare_axis_type(x->t, traced->out[0]);
  int64_t target[PARE_MAX_RANK];
  bool copies = !pare_attr_get(&b->attr, allowzero, 0);
  int unknown = 0;
  for (int d = 0; d < out.rank; d++) {
    bool fixed = traced->out[0]->type.dim[d] == far_out->dim[d];
    bool copied = copies && d < in->rank && in->dim[d] == out.dim[d] && far_in->dim[d] == far_out->dim[d];
    target[d] = fixed ? out.dim[d] : copied ? 0 : -1;
    unknown += target[d] < 0;
  }
  if (unknown > 1) return PARE_OK;
  *done = true;
  for (int side = 0; side < 2; side++) {
    PareNode *n = side ? x->bound_node[b->id] : x->out_node[b->id];
    PareValue *v = pare_const_ints(x->c, side ? x->bound : x->out, n->in[1]->name, out.rank, target);
    if (!v) return x->c->diag.code;
    n->in[1] = v;
  }
  return PARE_OK;
}

/* Makes element e of what n reads as input k -1, by changing the constant that it is. */
static PareStatus leave_open(Cut *x, PareNode *n, int k, int64_t e, int depth, bool *done) {
  PareValue *v = n->in[k];
  *done = false;
  if (!v->data || pare_dtype_is_float(v->type.dtype) || depth == MAX_STEPS) return PARE_OK;
  if (v->role == PARE_CONST) {
    *done = true;
    for (size_t i = 0; i < x->settled.n; i++) {
      Settled *s = &x->settled.at[i];
      if (s->node == n->id && s->input == k && s->element == e) s->value = -1;
    }
    return patch(x, n->id, k, e, -1);
  }
  PareNode *p = v->def;
  int input;
  int64_t element;
  if (!moves(p)) return PARE_OK;
  PARE_TRY(find_source(x, p, v, e, &input, &element));
  PARE_TRY(leave_open(x, p, input, element, depth + 1, done));
  return *done ? pare_bind_node(x->c, x->bound, p) : PARE_OK;
}

/* Reshapes that share a target and need one number of it differently all read -1 there.
 * Readers that take no -1 are found by check_again. */
static PareStatus shared_target(Cut *x, PareNode *b, const int64_t *want, bool *done) {
  *done = false;
  if (pare_op_info[b->op].want != pare_want_reshape || !b->in[1]->data) return PARE_OK;
  int64_t wrong = -1;
  for (int64_t e = 0; e < pare_type_count(&b->in[1]->type); e++) {
    int64_t now = pare_data_int(b->in[1], e);
    if (want[e] == PARE_ANY || now == want[e] || now == -1) continue;
    if (wrong >= 0) return PARE_OK;
    wrong = e;
  }
  *done = wrong < 0;
  return *done ? PARE_OK : leave_open(x, b, 1, wrong, 0, done);
}

static PareStatus require_operand(Cut *x, PareNode *n, const PareNode *traced, int k, int64_t count,
                                  const int64_t *want) {
  bool done = true;
  for (int64_t e = 0; e < count && done; e++)
    if (want[e] != PARE_ANY) PARE_TRY(require(x, n, k, e, want[e], 0, &done));
  if (!done) PARE_TRY(constant_target(x, n, traced, &done));
  if (!done) PARE_TRY(shared_target(x, n, want, &done));
  if (done) return PARE_OK;
  return pare_fail(x->c, n, PARE_UNSUPPORTED, "the shape that it takes from '%s' cannot be made to follow the cut",
                   n->in[k]->name);
}

static PareStatus patch_operands(Cut *x, PareNode *b, const PareNode *traced) {
  for (int k = 0; k < b->nin; k++) {
    if (!b->in[k] || pare_slices_wanted(&traced->in[k]->type)) continue; /* the list alone would take megabytes */
    int64_t count = pare_type_count(&traced->in[k]->type);
    PareMark mark = pare_arena_mark(x->c->scratch);
    int64_t *want = PARE_NEW_N(x->c->scratch, count + traced->nout + 1, int64_t);
    if (!want) return pare_nomem(x->c);
    if (pare_op_info[b->op].want(x->t, traced, k, want)) PARE_TRY(require_operand(x, b, traced, k, count, want));
    pare_arena_rewind(x->c->scratch, mark);
  }
  return PARE_OK;
}

static bool same_number(const PareValue *a, const PareValue *b) {
  size_t bytes;
  return a->data && b->data && pare_type_equal(&a->type, &b->type) && pare_type_bytes(&a->type, &bytes) &&
         !memcmp(a->data, b->data, bytes);
}

/* Does the node read what is another number than in the traced graph because of constants that have been tuned or cut? Then
 * so is what it makes. Both graphs have the same nodes. */
static bool reads_changed(Cut *x, const PareNode *traced) {
  const PareNode *n = x->out_node[traced->id];
  bool any = false;
  for (int k = 0; k < n->nin; k++) {
    const PareValue *is = n->in[k];
    if (is) any |= is->role == PARE_CONST ? is->data != traced->in[k]->data : x->changed[is->id];
  }
  for (int k = 0; k < n->nout; k++)
    if (n->out[k]) x->changed[n->out[k]->id] = any && !pare_reads_type(n);
  return any;
}

/* A float that shapes give (attention's 1 / sqrt(width)) and that meets an activation, or what has been cut, keeps the
 * value that it had. */
static PareStatus keep_numbers(Cut *x, PareNode *b, const PareNode *traced, bool changed) {
  if (pare_node_known(traced) && !changed) return PARE_OK;
  for (int k = 0; k < b->nin; k++) {
    const PareValue *was = traced->in[k];
    if (!was || was->role != PARE_RESULT || !was->data || !pare_dtype_is_float(was->type.dtype)) continue;
    if (x->changed[was->id]) continue; /* weights: shapes have no part in it */
    if (!pare_type_equal(&was->type, &b->in[k]->type) || same_number(was, b->in[k])) continue;
    const PareNode *other = elsewhere(x, b->id);
    if (!other) return x->c->diag.code;
    if (!same_number(was, other->in[k]))
      return pare_fail(x->c, b, PARE_UNSUPPORTED, "'%s' is a number that follows from dynamic axes and from what is cut",
                       was->name);
    for (int side = 0; side < 2; side++) {
      PareNode *n = side ? b : x->out_node[b->id];
      PareValue *v = pare_const_add(x->c, side ? x->bound : x->out, was->name, was->type, was->data);
      if (!v) return x->c->diag.code;
      n->in[k] = v;
    }
  }
  return PARE_OK;
}

static PareStatus check_types(Cut *x, const PareNode *b, const PareNode *traced) {
  char is[PARE_TYPE_TEXT], should[PARE_TYPE_TEXT];
  if (x->t->counted[traced->id]) return PARE_OK; /* follow_count */
  for (int o = 0; o < b->nout; o++) {
    if (!b->out[o]) continue;
    PareType want = pare_axis_type(x->t, traced->out[o]);
    if (!pare_type_equal(&want, &b->out[o]->type))
      return pare_fail(x->c, b, PARE_UNSUPPORTED, "cut, '%s' would be %s instead of %s", b->out[o]->name,
                       pare_type_text(&b->out[o]->type, is), pare_type_text(&want, should));
  }
  return PARE_OK;
}

static PareStatus index_nodes(PareCtx *c, PareArena *a, const PareGraph *g, PareNode ***out) {
  if (!(*out = PARE_NEW_N(a, g->nnodes + 1, PareNode *))) return pare_nomem(c);
  for (PareNode *n = g->first; n; n = n->next) (*out)[n->id] = n;
  return PARE_OK;
}

/* A depthwise convolution has as many groups as channels. */
static void follow_channels(Cut *x, PareNode *b, const PareNode *traced) {
  if (!pare_is_depthwise(traced)) return;
  int64_t channels = pare_axis_count(pare_axis_in(x->t, traced, 0, 1));
  pare_attr_set(&b->attr, group, channels);
  pare_attr_set(&x->out_node[b->id]->attr, group, channels);
}

/* n reads a list of its own as its last input. */
static PareStatus add_list(Cut *x, PareGraph *g, PareNode *n, int count, const int64_t *numbers) {
  PareValue **in = PARE_NEW_N(g->arena, 2, PareValue *), *v = pare_const_ints(x->c, g, n->out[0]->name, count, numbers);
  if (!in || !v) return pare_nomem(x->c);
  in[0] = n->in[0];
  in[1] = v;
  n->in = in;
  n->nin = 2;
  return PARE_OK;
}

/* The axis of input 0 that a Split, Concat or Gather is about. */
static int axis_of(const PareNode *n) {
  int64_t axis = pare_attr_get(&n->attr, axis, 0);
  return (int)(axis < 0 ? axis + n->in[0]->type.rank : axis);
}

/* Sizes of the parts of a Split after the cut. False where it needs none: they are as they were, or equal. */
static bool parts_differ(Cut *x, const PareNode *traced, int64_t *size) {
  int axis = axis_of(traced);
  bool cut = false, equal = true;
  for (int o = 0; o < traced->nout; o++) {
    if (!traced->out[o]) return false;
    size[o] = pare_axis_type(x->t, traced->out[o]).dim[axis];
    cut |= size[o] != traced->out[o]->type.dim[axis];
    equal &= size[o] == size[0];
  }
  return cut && !equal;
}

/* The parts of a Split without sizes are equal. Where they are no longer, it gets sizes. */
static PareStatus part_unevenly(Cut *x, PareNode *b, const PareNode *traced) {
  if (b->op != PARE_OP_SPLIT || b->nin > 1 || b->onnx_input) return PARE_OK;
  PareMark mark = pare_arena_mark(x->c->scratch);
  int64_t *size = PARE_NEW_N(x->c->scratch, b->nout, int64_t);
  if (!size) return pare_nomem(x->c);
  if (parts_differ(x, traced, size)) {
    PARE_TRY(add_list(x, x->out, x->out_node[b->id], b->nout, size));
    PARE_TRY(add_list(x, x->bound, b, b->nout, size));
  }
  pare_arena_rewind(x->c->scratch, mark);
  return PARE_OK;
}

/* A Concat of copies reads as many as stay; all of them are the same. */
static void follow_copies(Cut *x, PareNode *b, const PareNode *traced) {
  if (!pare_is_repeated(traced)) return;
  int axis = axis_of(traced);
  int64_t one = pare_axis_count(pare_axis_in(x->t, traced, 0, axis));
  int64_t all = pare_axis_count(pare_axis_out(x->t, traced, 0, axis));
  if (one) b->nin = x->out_node[b->id]->nin = (int)(all / one);
}

/* The indices of a Gather that stay, each by its place among those of the axis that stay; row has room for all. */
static PareStatus rows_that_stay(Cut *x, const PareNode *traced, int64_t *row) {
  int axis = axis_of(traced);
  PareAxis *from = pare_axis_in(x->t, traced, 0, axis), *to = pare_axis_out(x->t, traced, 0, axis);
  int64_t *kept = PARE_NEW_N(x->c->scratch, from->size + 1, int64_t);
  int64_t *place = PARE_NEW_N(x->c->scratch, from->size + 1, int64_t);
  if (!kept || !place) return pare_nomem(x->c);
  pare_axis_indices(from, kept);
  for (int64_t i = 0, n = pare_axis_count(from); i < n; i++) place[kept[i]] = i;
  pare_axis_indices(to, row);
  for (int64_t i = 0, n = pare_axis_count(to); i < n; i++) {
    int64_t old = pare_data_int(traced->in[1], row[i]);
    row[i] = place[old < 0 ? old + from->size : old];
  }
  return PARE_OK;
}

/* Gather n reads these, in a constant of its own. */
static PareStatus set_rows(Cut *x, PareGraph *g, PareNode *n, PareType type, const int64_t *row) {
  const PareValue *old = n->in[1];
  size_t bytes;
  uint8_t *data = pare_type_bytes(&type, &bytes) ? pare_arena_alloc(g->arena, bytes + 1, 1) : NULL;
  if (!data) return pare_nomem(x->c);
  for (int64_t i = 0; i < type.dim[0]; i++) put_int(type.dtype, data, i, row[i]);
  if (old->role == PARE_CONST) return pare_replace_constant(x->c, g, n, 1, type, data);
  return (n->in[1] = pare_const_add(x->c, g, old->name, type, data)) ? PARE_OK : x->c->diag.code;
}

/* A list of indices into an axis, one of which has lost some. */
static PareStatus follow_rows(Cut *x, PareNode *b, const PareNode *traced) {
  if (!pare_picks_by_list(x->t, traced)) return PARE_OK;
  int axis = axis_of(traced);
  PareAxis *from = pare_axis_in(x->t, traced, 0, axis), *to = pare_axis_out(x->t, traced, 0, axis);
  PareType type = {traced->in[1]->type.dtype, 1, {pare_axis_count(to)}};
  if (pare_axis_count(from) == from->size && type.dim[0] == to->size) return PARE_OK;
  PareMark mark = pare_arena_mark(x->c->scratch);
  int64_t *row = PARE_NEW_N(x->c->scratch, to->size + 1, int64_t);
  if (!row) return pare_nomem(x->c);
  PARE_TRY(rows_that_stay(x, traced, row));
  PARE_TRY(set_rows(x, x->out, x->out_node[b->id], type, row));
  PARE_TRY(set_rows(x, x->bound, b, type, row));
  pare_arena_rewind(x->c->scratch, mark);
  return PARE_OK;
}

/* Reader b of what is counted as input k is given what stays of v, which it is where nothing is cut. */
static PareStatus give_numbers(Cut *x, PareNode *b, const PareNode *traced, int k, const PareValue *v) {
  PareValue is = {.role = PARE_CONST};
  PareSlices *s;
  PARE_TRY(slice_constant(x, x->t->use_axis[traced->id][k], v, &is.type, &s));
  is.slices = s;
  const void *data = pare_constant_bytes(x->out->arena, &is);
  if (!data) return pare_nomem(x->c);
  for (int side = 0; side < 2; side++) {
    PareNode *n = side ? b : x->out_node[b->id];
    if (!(n->in[k] = pare_const_add(x->c, side ? x->bound : x->out, v->name, is.type, data))) return x->c->diag.code;
  }
  return PARE_OK;
}

/* What is counted is still all that it was, of which less may stay; or it is less itself, where it counts to a size that
 * is cut. */
static PareStatus follow_count(Cut *x, PareNode *b, const PareNode *traced) {
  for (int k = 0; k < traced->nin; k++) {
    const PareValue *was = traced->in[k];
    if (!was || was->role != PARE_RESULT || !x->t->counted[was->def->id]) continue;
    if (!is_cut(x->t->use_axis[traced->id][k], &was->type) && pare_type_equal(&was->type, &b->in[k]->type)) continue;
    const PareNode *whole = elsewhere(x, b->id);
    if (!whole) return x->c->diag.code;
    PARE_TRY(give_numbers(x, b, traced, k, whole->in[k]));
  }
  return PARE_OK;
}

static PareStatus patch_shapes(Cut *x) {
  const PareGraph *traced = x->t->g;
  for (size_t i = 0; i < traced->inputs.n; i++) x->bound->inputs.at[i]->type = traced->inputs.at[i]->type;
  const PareNode *t = traced->first;
  for (PareNode *b = x->bound->first; b; b = b->next, t = t->next) {
    PARE_TRY(follow_count(x, b, t));
    bool changed = reads_changed(x, t);
    PARE_TRY(patch_operands(x, b, t));
    PARE_TRY(keep_numbers(x, b, t, changed));
    follow_channels(x, b, t);
    follow_copies(x, b, t);
    PARE_TRY(follow_rows(x, b, t));
    PARE_TRY(part_unevenly(x, b, t));
    PARE_TRY(pare_bind_node(x->c, x->bound, b));
    PARE_TRY(check_types(x, b, t));
  }
  return PARE_OK;
}

/* A patch may have reached a node that was checked before: all types once more,
 * and once at other sizes of the dynamic axes. */
static PareStatus check_again(Cut *x, PareArena *a) {
  PareGraph *again = pare_graph_clone(x->c, a, x->out), *other;
  if (!again) return x->c->diag.code;
  const PareGraph *traced = x->t->g;
  for (size_t i = 0; i < traced->inputs.n; i++) again->inputs.at[i]->type = traced->inputs.at[i]->type;
  const PareNode *t = traced->first;
  for (PareNode *n = again->first; n; n = n->next, t = t->next) {
    PARE_TRY(pare_bind_node(x->c, again, n));
    PARE_TRY(check_types(x, n, t));
  }
  return pare_probe_dims(x->c, a, x->out, 1, &other);
}

/* Results whose type was known without sizes of the dynamic axes: what follows from constants. */
static PareStatus infer_again(Cut *x) {
  for (PareNode *n = x->out->first; n; n = n->next)
    if (n->nout && n->out[0] && pare_type_known(&n->out[0]->type) && pare_infer_ready(n)) PARE_TRY(pare_infer(x->c, n));
  return PARE_OK;
}

static PareStatus cut(Cut *x, PareArena *tmp) {
  PareUses uses;
  PARE_TRY(pare_uses(x->c, tmp, x->out, &uses));
  if (!(x->changed = PARE_NEW_N(tmp, x->g->values.n + 1, bool))) return pare_nomem(x->c);
  PARE_TRY(slice_constants(x, &uses));
  PARE_TRY(index_nodes(x->c, tmp, x->out, &x->out_node));
  PARE_TRY(renumber_tokens(x));
  x->bound = pare_graph_clone(x->c, tmp, x->out);
  if (!x->bound) return x->c->diag.code;
  PARE_TRY(index_nodes(x->c, tmp, x->bound, &x->bound_node));
  PARE_TRY(patch_shapes(x));
  PARE_TRY(infer_again(x));
  return check_again(x, tmp);
}

PareStatus pare_cut_dims_thin(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  PareArena *tmp = pare_arena_new(1 << 16);
  if (!tmp) return pare_nomem(c);
  Cut x = {.c = c, .d = d, .t = d->tracer, .tmp = tmp, .g = g, .out = pare_graph_clone(c, a, g)};
  PareStatus s = x.out ? cut(&x, tmp) : c->diag.code;
  /* the file is sound: what does not fit any more is the cut's doing */
  if (s == PARE_FORMAT || s == PARE_DATA || s == PARE_USAGE) s = c->diag.code = PARE_UNSUPPORTED;
  pare_arena_free(tmp);
  *out = x.out;
  return s;
}

PareStatus pare_cut_dims(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  PARE_TRY(pare_cut_dims_thin(c, a, g, d, out));
  return pare_fill_slices(c, *out);
}

PareStatus pare_cut_inexact(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  const bool **saved = PARE_NEW_N(a, d->dims.n + 1, const bool *);
  if (!saved) return pare_nomem(c);
  pare_dims_hide(d, true, saved);
  PareStatus s = pare_cut_dims(c, a, g, d, out);
  pare_dims_show(d, saved);
  return s;
}
