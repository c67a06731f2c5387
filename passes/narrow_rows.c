/* narrow_rows - where all that reads a result picks the same few of its indices along one axis, only these are made:
 * the class token's row of the last layer, not the rows of all tokens. The pick moves from behind an op to before it,
 * and from there on, until something reads what is not picked.
 *   y = Gather(Gelu(Linear(x, W)), [0])  ->  y = Gelu(Linear(Gather(x, [0]), W)) */
#include <string.h>

#include "passes/match.h"
#include "passes/pass.h"

enum {
  LEAST_SAVING = 2, /* at most one of so many indices is picked, or it is not worth the copy */
  MOST_INPUTS = 64
};

/* What a node picks of its input 0. */
typedef struct Pick {
  int axis;
  int64_t n, *at;
} Pick;

static bool pick_alloc(PareCtx *c, int64_t n, Pick *p) {
  p->n = n;
  return (p->at = PARE_NEW_N(c->scratch, n + 1, int64_t)) != NULL;
}

/* Gather of known indices, of rank 1 or 0. */
static bool gather_picks(PareCtx *c, const PareNode *n, Pick *p) {
  const PareType *x = &n->in[0]->type;
  if (!pare_is_fixed(n->in[1]) || n->in[1]->type.rank > 1) return false;
  int64_t axis = pare_attr_get(&n->attr, axis, 0);
  p->axis = (int)(axis < 0 ? axis + x->rank : axis);
  if (!pick_alloc(c, pare_type_count(&n->in[1]->type), p)) return false;
  for (int64_t i = 0; i < p->n; i++) {
    p->at[i] = pare_data_int(n->in[1], i);
    if (p->at[i] < 0) p->at[i] += x->dim[p->axis];
    if (p->at[i] < 0 || p->at[i] >= x->dim[p->axis]) return false;
  }
  return true;
}

/* Slice along one axis, forwards. */
static bool slice_picks(PareCtx *c, const PareNode *n, Pick *p) {
  const PareType *x = &n->in[0]->type;
  for (int k = 1; k < n->nin; k++)
    if (n->in[k] && (!pare_is_fixed(n->in[k]) || pare_type_count(&n->in[k]->type) != 1)) return false;
  int64_t axis = n->nin > 3 && n->in[3] ? pare_data_int(n->in[3], 0) : 0;
  int64_t step = n->nin > 4 && n->in[4] ? pare_data_int(n->in[4], 0) : 1, first = pare_data_int(n->in[1], 0);
  p->axis = (int)(axis < 0 ? axis + x->rank : axis);
  if (step < 1 || !pick_alloc(c, n->out[0]->type.dim[p->axis], p)) return false;
  if (first < 0) first += x->dim[p->axis];
  if (first < 0) first = 0;
  for (int64_t i = 0; i < p->n; i++) p->at[i] = first + i * step;
  return true;
}

static bool picks(PareCtx *c, const PareNode *n, const PareValue *v, Pick *p) {
  if (n->in[0] != v) return false;
  for (int k = 1; k < n->nin; k++)
    if (n->in[k] == v) return false;
  if (n->op == PARE_OP_GATHER) return gather_picks(c, n, p);
  return n->op == PARE_OP_SLICE && slice_picks(c, n, p);
}

typedef struct Readers {
  PARE_VEC(PareNode *) at;
} Readers;

/* What all readers of v together pick, ascending. False: something reads more, or they pick too much. */
static bool find_picked(PareCtx *c, const PareGraph *g, const PareValue *v, Pick *all, Readers *readers) {
  const PareType *t = &v->type;
  bool *picked = NULL;
  Pick one;
  if (pare_is_output(g, v)) return false;
  *all = (Pick){.axis = -1};
  for (PareNode *r = v->def->next; r; r = r->next) {
    if (!pare_reads(r, v)) continue;
    if (!picks(c, r, v, &one) || (picked && one.axis != all->axis)) return false;
    if (!pare_vec_push(c->scratch, &readers->at, r)) return false;
    all->axis = one.axis;
    if (!picked && !(picked = PARE_NEW_N(c->scratch, t->dim[one.axis] + 1, bool))) return false;
    for (int64_t i = 0; i < one.n; i++) all->n += !picked[one.at[i]], picked[one.at[i]] = true;
  }
  if (!all->n || all->n > t->dim[all->axis] / LEAST_SAVING || !pick_alloc(c, all->n, all)) return false;
  for (int64_t i = 0, k = 0; i < t->dim[all->axis]; i++)
    if (picked[i]) all->at[k++] = i;
  return true;
}

static bool read_between(const PareNode *from, const PareNode *to, const PareValue *v, const Pick *p, PareValue **out) {
  for (const PareNode *n = from; n && n != to; n = n->next) {
    if (n->op != PARE_OP_GATHER || n->in[0] != v || pare_attr_get(&n->attr, axis, 0) != p->axis) continue;
    if (!pare_is_fixed(n->in[1]) || n->in[1]->type.rank != 1 || n->in[1]->type.dim[0] != p->n) continue;
    bool same = true;
    for (int64_t i = 0; same && i < p->n; i++) same = pare_data_int(n->in[1], i) == p->at[i];
    if (same) return *out = n->out[0], true;
  }
  return false;
}

static PareValue *indices(PareCtx *c, PareGraph *g, int rank, int64_t n, const int64_t *at) {
  int64_t *data = PARE_NEW_N(g->arena, n + 1, int64_t);
  if (!data) return NULL;
  memcpy(data, at, (size_t)n * sizeof *data);
  return pare_const_add(c, g, "pare.rows", (PareType){PARE_I64, rank, {n}}, data);
}

/* v at the picked indices: right behind what makes v, so that all readers find one Gather. NULL: out of memory. */
static PareValue *picked_of(PareCtx *c, PareGraph *g, PareValue *v, const PareNode *reader, const Pick *p) {
  PareNode *behind = v->def ? v->def->next : g->first;
  PareAttrs attr = {0};
  PareValue *found;
  if (read_between(behind, reader, v, p, &found)) return found;
  pare_attr_set(&attr, axis, p->axis);
  PareValue *at = indices(c, g, 1, p->n, p->at);
  return at ? PARE_EMIT(c, g, behind, PARE_OP_GATHER, v->name, &attr, v, at) : NULL;
}

static PareStatus out_of(PareCtx *c) { return c->diag.code ? c->diag.code : pare_nomem(c); }

/* n makes what is picked of its result 0. */
static PareStatus narrow(PareCtx *c, PareGraph *g, PareNode *n, const Pick *p) {
  PareType y = n->out[0]->type;
  int axis[MOST_INPUTS];
  y.dim[p->axis] = p->n;
  for (int k = 0; k < n->nin; k++) axis[k] = n->in[k] ? pare_op_info[n->op].rows(n, p->axis, k) : PARE_ROWS_ALL;
  for (int k = 0; k < n->nin; k++) {
    Pick of = {axis[k], p->n, p->at};
    if (of.axis >= 0 && !(n->in[k] = picked_of(c, g, n->in[k], n, &of))) return out_of(c);
  }
  if (n->op == PARE_OP_RESHAPE && !(n->in[1] = pare_const_ints(c, g, "pare.rows", y.rank, y.dim))) return out_of(c);
  return pare_infer(c, n);
}

static int64_t place_of(const Pick *all, int64_t index) {
  int64_t k = 0;
  while (all->at[k] != index) k++;
  return k;
}

/* r, which picks of the whole v, picks the same of what is left of it, or is a view of that, or goes. */
static PareStatus pick_again(PareCtx *c, PareGraph *g, PareNode *r, PareValue *v, const Pick *all) {
  PareValue *y = r->out[0];
  int rank = r->op == PARE_OP_SLICE ? 1 : r->in[1]->type.rank;
  Pick one;
  if (!picks(c, r, v, &one)) return out_of(c);
  bool whole = one.n == all->n;
  for (int64_t i = 0; i < one.n; i++) one.at[i] = place_of(all, one.at[i]), whole &= one.at[i] == i;
  if (whole && rank && !pare_is_output(g, y)) return pare_replace_uses(g, y, v, NULL), pare_node_remove(g, r), PARE_OK;
  r->attr = (PareAttrs){0};
  if (!whole) pare_attr_set(&r->attr, axis, all->axis);
  r->op = whole ? PARE_OP_RESHAPE : PARE_OP_GATHER;
  r->nin = 2;
  r->in[1] = whole ? pare_const_ints(c, g, "pare.rows", y->type.rank, y->type.dim) : indices(c, g, rank, one.n, one.at);
  return r->in[1] ? PARE_OK : out_of(c);
}

/* Result 0 can be made in part, and no other is read. */
static bool can_narrow(const PareGraph *g, const PareNode *n, int axis) {
  if (n->nin > MOST_INPUTS || n->phase) return false;
  for (int i = 1; i < n->nout; i++) {
    if (!n->out[i]) continue;
    if (pare_is_output(g, n->out[i])) return false;
    for (const PareNode *r = n->next; r; r = r->next)
      if (pare_reads(r, n->out[i])) return false;
  }
  bool any = false;
  for (int k = 0; k < n->nin; k++) {
    int in = n->in[k] ? pare_op_info[n->op].rows(n, axis, k) : PARE_ROWS_ALL;
    if (in == PARE_ROWS_NO) return false;
    any |= in >= 0;
  }
  return any;
}

static PareStatus narrow_if_picked(PareCtx *c, PareGraph *g, PareNode *n) {
  PareValue *v = n->nout > 0 ? n->out[0] : NULL;
  Readers readers = {0};
  Pick all;
  if (!v || v->data || !find_picked(c, g, v, &all, &readers) || !can_narrow(g, n, all.axis)) return PARE_OK;
  for (size_t i = 0; i < readers.at.n; i++) PARE_TRY(pick_again(c, g, readers.at.at[i], v, &all));
  return narrow(c, g, n, &all);
}

/* From the last node to the first: picks that are put before a node are met again on the way. */
PareStatus pare_narrow_rows(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->last; n; n = n->prev) {
    PareMark mark = pare_arena_mark(c->scratch);
    PareStatus s = narrow_if_picked(c, g, n);
    pare_arena_rewind(c->scratch, mark);
    PARE_TRY(s);
  }
  return PARE_OK;
}
