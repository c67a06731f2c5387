/* axes.c - terms of axes: union-find with refinement into products and sums. */
#include "ir/axes.h"

#include <string.h>

#include "ir/op_columns.h"

enum { MAX_TERMS = 64 }; /* factors or segments of one axis that a tie looks at */

PareAxis *pare_axis_find(PareAxis *a) {
  while (a->link) {
    if (a->link->link) a->link = a->link->link;
    a = a->link;
  }
  return a;
}

PareAxis *pare_axis_leaf(PareTracer *t, int64_t size) {
  static PareAxis none; /* what rules get when memory is out: they run on, the driver reports */
  PareAxis *a = PARE_NEW(t->arena, PareAxis);
  if (!a) {
    t->nomem = true;
    none = (PareAxis){.size = size, .met = PARE_MET_END, .frozen_why = "out of memory", .dim = -1};
    return &none;
  }
  a->size = size;
  a->dim = -1;
  return a;
}

/* Appends the terms of `a` in the sense of `kind` to list[]; units are left out
 * of products and empty segments of sums. Returns the new length, or -1 when full. */
static int flatten(PareAxis *a, PareAxisKind kind, PareAxis **list, int n) {
  a = pare_axis_find(a);
  if (a->kind == kind) {
    for (int i = 0; i < a->n && n >= 0; i++) n = flatten(a->kid[i], kind, list, n);
    return n;
  }
  if (n < 0 || a->size == (kind == PARE_AXIS_PROD ? 1 : 0)) return n;
  if (n == MAX_TERMS) return -1;
  list[n] = a;
  return n + 1;
}

/* Makes leaf `a` stand for a product or sum of the given terms. */
static void refine(PareTracer *t, PareAxis *a, PareAxisKind kind, int n, PareAxis *const *kid) {
  PareAxis **copy = PARE_NEW_N(t->arena, n, PareAxis *);
  if (!copy) {
    t->nomem = true;
    return;
  }
  memcpy(copy, kid, (size_t)n * sizeof *copy);
  a->kind = kind;
  a->n = n;
  a->kid = copy;
  for (int i = 0; i < n; i++) {
    if (a->met) pare_axis_meet(a->frozen_by, kid[i], a->met, a->frozen_why);
    PareAxis *k = pare_axis_find(kid[i]);
    k->batched |= a->batched;
    k->inner |= a->inner;
    k->measured |= a->measured;
  }
}

PareAxis *pare_axis_sum(PareTracer *t, int n, PareAxis *const *kid) {
  int64_t size = 0;
  for (int i = 0; i < n; i++) size += kid[i]->size;
  PareAxis *a = pare_axis_leaf(t, size);
  if (n == 1) return kid[0];
  if (n > 0) refine(t, a, PARE_AXIS_SUM, n, kid);
  return a;
}

void pare_axis_meet(const PareNode *n, PareAxis *a, unsigned met, const char *why) {
  a = pare_axis_find(a);
  for (int i = 0; a->kind != PARE_AXIS_LEAF && i < a->n; i++) pare_axis_meet(n, a->kid[i], met, why);
  if (a->kind != PARE_AXIS_LEAF) return;
  if (!a->met) {
    a->frozen_why = why;
    a->frozen_by = n;
  }
  a->met |= met;
}

void pare_axis_freeze(const PareNode *n, PareAxis *a, const char *why) { pare_axis_meet(n, a, PARE_MET_END, why); }

/* Leaf a joins b, whatever b is. */
static void join_leaf(PareAxis *a, PareAxis *b) {
  if (a->met) pare_axis_meet(a->frozen_by, b, a->met, a->frozen_why);
  b->batched |= a->batched;
  b->inner |= a->inner;
  b->measured |= a->measured;
  a->link = b;
}

static void conflict(const PareNode *n, PareAxis *a, PareAxis *b) {
  pare_axis_freeze(n, a, "is read in two ways that do not fit together");
  pare_axis_freeze(n, b, "is read in two ways that do not fit together");
}

/* Splits the leaf list[i] into `first` and the rest; the list grows by one. */
static bool split_term(PareTracer *t, PareAxisKind kind, PareAxis **list, int *n, int i, int64_t first) {
  PareAxis *a = list[i];
  if (a->kind != PARE_AXIS_LEAF || *n == MAX_TERMS) return false;
  PareAxis *part[2] = {pare_axis_leaf(t, first),
                       pare_axis_leaf(t, kind == PARE_AXIS_PROD ? a->size / first : a->size - first)};
  refine(t, a, kind, 2, part);
  memmove(list + i + 2, list + i + 1, (size_t)(*n - i - 1) * sizeof *list);
  list[i] = part[0];
  list[i + 1] = part[1];
  ++*n;
  return true;
}

/* PROD(m, rest) against a SUM of segments, each a number of `rest`: m is the sum of these numbers. */
static bool tie_numbers(PareTracer *t, const PareNode *n, PareAxis **f, int nf, PareAxis *const *s, int ns) {
  PareAxis *number[MAX_TERMS], *outer = f[0];
  int64_t rest = 1;
  for (int i = 1; i < nf; i++) rest *= f[i]->size;
  for (int i = 0; i < ns; i++)
    if (rest < 1 || s[i]->size % rest) return false;
  for (int i = 0; i < ns; i++) number[i] = pare_axis_leaf(t, s[i]->size / rest);
  pare_axis_tie(t, n, outer, pare_axis_sum(t, ns, number));
  for (int i = 0; i < ns; i++) {
    f[0] = number[i];
    pare_axis_tie_lists(t, n, 1, &s[i], nf, f);
  }
  f[0] = outer;
  return true;
}

/* PROD(m, rest) against SUM of m equal segments: every segment is `rest`. */
static bool tie_prod_sum(PareTracer *t, const PareNode *n, PareAxis *prod, PareAxis *sum) {
  PareAxis *f[MAX_TERMS], *s[MAX_TERMS];
  int nf = flatten(prod, PARE_AXIS_PROD, f, 0), ns = flatten(sum, PARE_AXIS_SUM, s, 0);
  if (nf < 2 || ns < 1) return false;
  bool equal = f[0]->size == ns;
  for (int i = 0; i < ns; i++) equal &= s[i]->size == prod->size / ns;
  for (int i = 0; equal && i < ns; i++) pare_axis_tie_lists(t, n, 1, &s[i], nf - 1, f + 1);
  if (equal) pare_axis_freeze(n, f[0], "is parted by a Split");
  else if (!tie_numbers(t, n, f, nf, s, ns)) return false;
  sum->link = prod;
  return true;
}

/* A sum among factors is as large as the product of several factors opposite, from list[*at] on. */
static bool tie_factors(PareTracer *t, const PareNode *n, PareAxis *sum, PareAxis **list, int *at, int count) {
  int64_t size = 1;
  int first = *at;
  while (*at < count && size < sum->size) size *= list[(*at)++]->size;
  if (size != sum->size) return false;
  PareAxis *prod = pare_axis_leaf(t, size);
  refine(t, prod, PARE_AXIS_PROD, *at - first, list + first);
  return tie_prod_sum(t, n, prod, sum);
}

/* Walks two lists of terms, refining the larger of each pair until they agree. */
static bool tie_terms(PareTracer *t, const PareNode *n, PareAxisKind kind, PareAxis **a, int na, PareAxis **b, int nb) {
  int i = 0, j = 0;
  while (i < na && j < nb) {
    int64_t x = a[i]->size, y = b[j]->size;
    bool fits = kind == PARE_AXIS_SUM || (x > 0 && y > 0 && (x > y ? x % y == 0 : y % x == 0));
    if (x == y) pare_axis_tie(t, n, a[i++], b[j++]);
    else if (kind == PARE_AXIS_PROD && (x > y ? a[i] : b[j])->kind == PARE_AXIS_SUM) {
      if (!(x > y ? tie_factors(t, n, a[i++], b, &j, nb) : tie_factors(t, n, b[j++], a, &i, na))) return false;
    } else if (!fits || !(x > y ? split_term(t, kind, a, &na, i, y) : split_term(t, kind, b, &nb, j, x))) {
      return false;
    }
    /* a tie may have refined what is still ahead */
    if (i < na) a[i] = pare_axis_find(a[i]);
    if (j < nb) b[j] = pare_axis_find(b[j]);
    if (i < na && a[i]->kind == kind) {
      PareAxis *rest[MAX_TERMS];
      int m = 0;
      for (int k = i; k < na && m >= 0; k++) m = flatten(a[k], kind, rest, m);
      if (m < 0 || i + m > MAX_TERMS) return false;
      memcpy(a + i, rest, (size_t)m * sizeof *a);
      na = i + m;
    }
    if (j < nb && b[j]->kind == kind) {
      PareAxis *rest[MAX_TERMS];
      int m = 0;
      for (int k = j; k < nb && m >= 0; k++) m = flatten(b[k], kind, rest, m);
      if (m < 0 || j + m > MAX_TERMS) return false;
      memcpy(b + j, rest, (size_t)m * sizeof *b);
      nb = j + m;
    }
  }
  return i == na && j == nb;
}

void pare_axis_tie(PareTracer *t, const PareNode *n, PareAxis *a, PareAxis *b) {
  a = pare_axis_find(a);
  b = pare_axis_find(b);
  if (a == b) return;
  if (a->size != b->size) {
    conflict(n, a, b);
  } else if (a->kind == PARE_AXIS_LEAF) {
    join_leaf(a, b);
  } else if (b->kind == PARE_AXIS_LEAF) {
    join_leaf(b, a);
  } else if (a->kind == b->kind) {
    PareAxis *x[MAX_TERMS], *y[MAX_TERMS];
    int nx = flatten(a, a->kind, x, 0), ny = flatten(b, b->kind, y, 0);
    if (nx < 0 || ny < 0 || !tie_terms(t, n, a->kind, x, nx, y, ny)) {
      conflict(n, a, b);
      return;
    }
    b = pare_axis_find(b);
    a = pare_axis_find(a);
    if (a != b) a->link = b;
  } else if (!(a->kind == PARE_AXIS_PROD ? tie_prod_sum(t, n, a, b) : tie_prod_sum(t, n, b, a))) {
    conflict(n, a, b);
  }
}

void pare_axis_tie_lists(PareTracer *t, const PareNode *n, int na, PareAxis *const *a, int nb, PareAxis *const *b) {
  PareAxis *x[MAX_TERMS], *y[MAX_TERMS];
  int nx = 0, ny = 0;
  for (int i = 0; i < na && nx >= 0; i++) nx = flatten(a[i], PARE_AXIS_PROD, x, nx);
  for (int i = 0; i < nb && ny >= 0; i++) ny = flatten(b[i], PARE_AXIS_PROD, y, ny);
  if (nx >= 0 && ny >= 0 && tie_terms(t, n, PARE_AXIS_PROD, x, nx, y, ny)) return;
  for (int i = 0; i < na; i++) pare_axis_freeze(n, a[i], "is reshaped across its parts");
  for (int i = 0; i < nb; i++) pare_axis_freeze(n, b[i], "is reshaped across its parts");
}

void pare_axis_segments(PareTracer *t, const PareNode *n, PareAxis *a, int count, const int64_t *sizes,
                        PareAxis **out) {
  for (int i = 0; i < count; i++) out[i] = pare_axis_leaf(t, sizes[i]);
  pare_axis_tie(t, n, a, pare_axis_sum(t, count, out));
  for (int i = 0; i < count; i++) out[i] = pare_axis_find(out[i]);
}

void pare_axis_part(PareTracer *t, const PareNode *n, PareAxis *a, int64_t first, int64_t count, PareAxis **part) {
  const int64_t sizes[3] = {first, count, a->size - first - count};
  int64_t size[3];
  PareAxis *segment[3];
  int segments = 0;
  for (int i = 0; i < 3; i++)
    if (sizes[i] > 0) size[segments++] = sizes[i];
  pare_axis_segments(t, n, a, segments, size, segment);
  for (int i = 3; i-- > 0;) part[i] = sizes[i] > 0 ? segment[--segments] : NULL;
}

void pare_axis_leaves(PareAxis *a, void (*fn)(PareAxis *leaf, void *arg), void *arg) {
  a = pare_axis_find(a);
  if (a->kind == PARE_AXIS_LEAF) fn(a, arg);
  else
    for (int i = 0; i < a->n; i++) pare_axis_leaves(a->kid[i], fn, arg);
}

typedef struct Look {
  PareAxis *other;
  const PareAxis *leaf;
  bool yes;
} Look;

static void is_leaf(PareAxis *leaf, void *arg) {
  Look *l = arg;
  l->yes |= leaf == l->leaf;
}

bool pare_axis_holds(PareAxis *a, const PareAxis *leaf) {
  Look l = {.leaf = leaf};
  pare_axis_leaves(a, is_leaf, &l);
  return l.yes;
}

static void in_other(PareAxis *leaf, void *arg) {
  Look *l = arg;
  l->yes |= leaf->size > 1 && pare_axis_holds(l->other, leaf);
}

bool pare_axis_share(PareAxis *a, PareAxis *b) {
  Look l = {.other = b};
  pare_axis_leaves(a, in_other, &l);
  return l.yes;
}

/* --- under a cut --- */

int64_t pare_axis_count(PareAxis *a) {
  a = pare_axis_find(a);
  if (a->kind == PARE_AXIS_LEAF) {
    int64_t n = 0;
    if (!a->keep) return a->size;
    for (int64_t i = 0; i < a->size; i++) n += a->keep[i];
    return n;
  }
  int64_t n = a->kind == PARE_AXIS_PROD;
  for (int i = 0; i < a->n; i++) {
    int64_t k = pare_axis_count(a->kid[i]);
    n = a->kind == PARE_AXIS_PROD ? n * k : n + k;
  }
  return n;
}

/* Writes base + stride·index for every index of a that stays; returns how many. */
static int64_t indices(PareAxis *a, int64_t base, int64_t stride, int64_t *out);

static int64_t product_indices(PareAxis *const *kid, int n, int64_t base, int64_t stride, int64_t *out) {
  if (n == 1) return indices(kid[0], base, stride, out);
  int64_t inner = 1, count = pare_axis_count(kid[0]), done = 0;
  for (int i = 1; i < n; i++) inner *= pare_axis_find(kid[i])->size;
  /* the outer factor's indices are parked at the end of what they will fill */
  int64_t per = 1;
  for (int i = 1; i < n; i++) per *= pare_axis_count(kid[i]);
  int64_t *outer = out + count * per - count;
  if (count * per == 0) return 0;
  indices(kid[0], 0, 1, outer);
  for (int64_t i = 0; i < count; i++) {
    int64_t at = outer[i];
    done += product_indices(kid + 1, n - 1, base + at * inner * stride, stride, out + done);
  }
  return done;
}

static int64_t indices(PareAxis *a, int64_t base, int64_t stride, int64_t *out) {
  a = pare_axis_find(a);
  int64_t n = 0;
  if (a->kind == PARE_AXIS_LEAF) {
    for (int64_t i = 0; i < a->size; i++)
      if (!a->keep || a->keep[i]) out[n++] = base + i * stride;
    return n;
  }
  if (a->kind == PARE_AXIS_PROD) return product_indices(a->kid, a->n, base, stride, out);
  for (int i = 0; i < a->n; i++) {
    n += indices(a->kid[i], base, stride, out + n);
    base += pare_axis_find(a->kid[i])->size * stride;
  }
  return n;
}

void pare_axis_indices(PareAxis *a, int64_t *out) { indices(a, 0, 1, out); }

/* The index of `leaf` at position i of a, or -1. */
static int64_t position(PareAxis *a, const PareAxis *leaf, int64_t i) {
  a = pare_axis_find(a);
  if (a->kind == PARE_AXIS_LEAF) return a == leaf ? i : -1;
  int64_t inner = a->size;
  for (int k = 0; k < a->n; k++) {
    int64_t size = pare_axis_find(a->kid[k])->size;
    if (a->kind == PARE_AXIS_SUM) {
      if (i < size) return position(a->kid[k], leaf, i);
      i -= size;
    } else {
      inner /= size;
      int64_t p = position(a->kid[k], leaf, i / inner % size);
      if (p >= 0) return p;
    }
  }
  return -1;
}

void pare_axis_positions(PareAxis *a, const PareAxis *leaf, int64_t *out) {
  for (int64_t i = 0, n = pare_axis_find(a)->size; i < n; i++) out[i] = position(a, leaf, i);
}

bool pare_axis_same_place(PareAxis *a, const PareAxis *leaf, PareAxis *b, const PareAxis *other) {
  int64_t n = pare_axis_find(a)->size;
  if (n != pare_axis_find(b)->size) return false;
  for (int64_t i = 0; i < n; i++)
    if (position(a, leaf, i) != position(b, other, i)) return false;
  return true;
}

void pare_axis_kept_positions(PareAxis *a, const PareAxis *leaf, int64_t *out) {
  int64_t n = pare_axis_count(a);
  pare_axis_indices(a, out);
  for (int64_t i = 0; i < n; i++) out[i] = position(a, leaf, out[i]);
}

/* --- the tracer --- */

static PareAxis **axes_new(PareTracer *t, const PareType *type) {
  PareAxis **a = PARE_NEW_N(t->arena, type->rank + 1, PareAxis *);
  for (int d = 0; a && d < type->rank; d++) a[d] = pare_axis_leaf(t, type->dim[d]);
  if (!a) t->nomem = true;
  return a;
}

static bool is_made_counted(const PareTracer *t, const PareValue *v) {
  return v->role == PARE_RESULT && t->counted[v->def->id];
}

/* Is v read where the file has no place for other numbers: inside of an expansion, or of a branch? */
static void mark_inside(const PareGraph *g, bool *inside) {
  for (const PareNode *n = g->first; n; n = n->next)
    for (int k = 0; k < n->nin; k++)
      if (n->in[k] && n->onnx_input && (n->onnx_input < 0 || k > 0)) inside[n->in[k]->id] = true;
}

/* All results are known, and none is read inside. */
static bool can_be_given(const PareNode *n, const bool *inside) {
  for (int k = 0; k < n->nout; k++)
    if (n->out[k] && (!n->out[k]->data || inside[n->out[k]->id])) return false;
  return n->nin > 0;
}

/* Made by position, or of what is and of single numbers. */
static bool counts(const PareTracer *t, const PareNode *n, const bool *inside) {
  PareCutFn *cut = pare_op_info[n->op].cut;
  bool by_position = n->op == PARE_OP_RANGE || cut == pare_cut_opaque || cut == pare_cut_cumsum;
  bool counted = by_position, weights = false;
  for (int k = 0; k < n->nin; k++) {
    const PareValue *v = n->in[k];
    if (!v) continue;
    if (!t->constant[v->id]) return false;
    counted |= is_made_counted(t, v);
    weights |= !is_made_counted(t, v) && pare_dtype_is_float(v->type.dtype) && pare_type_count(&v->type) > 1;
  }
  return counted && (by_position || !weights) && can_be_given(n, inside);
}

static PareStatus add_node(PareCtx *c, PareTracer *t, const PareNode *n, const bool *inside) {
  if (!(t->use_axis[n->id] = PARE_NEW_N(t->arena, n->nin + 1, PareAxis **))) return pare_nomem(c);
  bool constant = n->nin > 0;
  for (int k = 0; k < n->nin; k++) {
    const PareValue *v = n->in[k];
    if (!v) continue;
    constant &= t->constant[v->id];
    if (v->role == PARE_CONST || is_made_counted(t, v)) t->use_axis[n->id][k] = axes_new(t, &v->type);
  }
  for (int k = 0; k < n->nout; k++)
    if (n->out[k]) t->constant[n->out[k]->id] = constant;
  t->counted[n->id] = counts(t, n, inside);
  return PARE_OK;
}

PareStatus pare_tracer_new(PareCtx *c, PareArena *a, const PareGraph *g, PareTracer **out) {
  PareTracer *t = PARE_NEW(a, PareTracer);
  if (!t) return pare_nomem(c);
  *t = (PareTracer){.c = c, .arena = a, .g = g};
  t->value_axis = PARE_NEW_N(a, g->values.n + 1, PareAxis **);
  t->use_axis = PARE_NEW_N(a, g->nnodes + 1, PareAxis ***);
  t->constant = PARE_NEW_N(a, g->values.n + 1, bool);
  t->counted = PARE_NEW_N(a, g->nnodes + 1, bool);
  bool *inside = PARE_NEW_N(a, g->values.n + 1, bool);
  if (!t->value_axis || !t->use_axis || !t->constant || !t->counted || !inside) return pare_nomem(c);
  mark_inside(g, inside);
  for (size_t i = 0; i < g->values.n; i++) {
    t->constant[i] = g->values.at[i]->role == PARE_CONST;
    if (!t->constant[i]) t->value_axis[i] = axes_new(t, &g->values.at[i]->type);
  }
  for (const PareNode *n = g->first; n; n = n->next) PARE_TRY(add_node(c, t, n, inside));
  *out = t;
  return t->nomem ? pare_nomem(c) : PARE_OK;
}

PareAxis **pare_axes(PareTracer *t, const PareNode *n, int k) {
  PareAxis **own = t->use_axis[n->id][k];
  return own ? own : t->value_axis[n->in[k]->id];
}

PareAxis *pare_axis_in(PareTracer *t, const PareNode *n, int k, int d) { return pare_axis_find(pare_axes(t, n, k)[d]); }

PareAxis *pare_axis_out(PareTracer *t, const PareNode *n, int k, int d) {
  return pare_axis_find(t->value_axis[n->out[k]->id][d]);
}

void pare_axis_set(PareTracer *t, const PareNode *n, int k, int d, PareAxis *a) {
  if (n->out[k]) pare_axis_tie(t, n, t->value_axis[n->out[k]->id][d], a);
}

PareStatus pare_tie_node(PareTracer *t, const PareNode *n) {
  return t->counted[n->id] ? PARE_OK : pare_op_info[n->op].cut(t, n);
}

PareType pare_axis_type(PareTracer *t, const PareValue *v) {
  PareType type = v->type;
  for (int d = 0; d < type.rank; d++) type.dim[d] = pare_axis_count(t->value_axis[v->id][d]);
  return type;
}
