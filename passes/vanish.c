/* vanish - goes back from a weight over the ops that make it of constants: a sum is zero where all of its terms are, a
 * product where one factor is, and what is moved where it comes from. */
#include "passes/vanish.h"

/* When is the result of an op zero? */
typedef enum Rule {
  NEVER, /* not known to be */
  FIRST, /* where input 0 is: it moves or scales it, or is 0 at 0 */
  ONE,   /* where one of inputs 0 and 1 is; what else there is, a bias, has to be as well */
  EACH,  /* where all inputs are */
  PARTS, /* where those inputs are that have a part of it */
  CHOICE /* where inputs 1 and 2 are */
} Rule;

static const uint8_t rule_of[PARE_OP_COUNT] = {
    [PARE_OP_ADD] = EACH,          [PARE_OP_SUB] = EACH,          [PARE_OP_SUM] = EACH,
    [PARE_OP_MEAN] = EACH,         [PARE_OP_MIN] = EACH,          [PARE_OP_MAX] = EACH,
    [PARE_OP_MUL] = ONE,           [PARE_OP_MATMUL] = ONE,        [PARE_OP_FUSEDMATMUL] = ONE,
    [PARE_OP_GEMM] = ONE,          [PARE_OP_CONV] = ONE,          [PARE_OP_EINSUM] = ONE,
    [PARE_OP_WHERE] = CHOICE,      [PARE_OP_CONCAT] = PARTS,      [PARE_OP_DIV] = FIRST,
    [PARE_OP_POW] = FIRST,         [PARE_OP_PRELU] = FIRST,       [PARE_OP_NEG] = FIRST,
    [PARE_OP_ABS] = FIRST,         [PARE_OP_SIGN] = FIRST,        [PARE_OP_ROUND] = FIRST,
    [PARE_OP_FLOOR] = FIRST,       [PARE_OP_CEIL] = FIRST,        [PARE_OP_SQRT] = FIRST,
    [PARE_OP_SIN] = FIRST,         [PARE_OP_TAN] = FIRST,         [PARE_OP_TANH] = FIRST,
    [PARE_OP_ERF] = FIRST,         [PARE_OP_RELU] = FIRST,        [PARE_OP_GELU] = FIRST,
    [PARE_OP_LEAKYRELU] = FIRST,   [PARE_OP_ELU] = FIRST,         [PARE_OP_SELU] = FIRST,
    [PARE_OP_CELU] = FIRST,        [PARE_OP_SWISH] = FIRST,       [PARE_OP_MISH] = FIRST,
    [PARE_OP_HARDSWISH] = FIRST,   [PARE_OP_SOFTSIGN] = FIRST,    [PARE_OP_CLIP] = FIRST,
    [PARE_OP_CAST] = FIRST,        [PARE_OP_CASTLIKE] = FIRST,    [PARE_OP_QUANTIZELINEAR] = FIRST,
    [PARE_OP_PAD] = FIRST,         [PARE_OP_REDUCESUM] = FIRST,   [PARE_OP_REDUCEMEAN] = FIRST,
    [PARE_OP_REDUCEMAX] = FIRST,   [PARE_OP_REDUCEMIN] = FIRST,   [PARE_OP_REDUCEL1] = FIRST,
    [PARE_OP_REDUCEL2] = FIRST,    [PARE_OP_TRILU] = FIRST,       [PARE_OP_DEQUANTIZELINEAR] = FIRST,
};

static Rule rule(const PareNode *n) {
  if (rule_of[n->op] != NEVER) return (Rule)rule_of[n->op];
  return pare_moved_inputs(n) ? FIRST : NEVER;
}

/* --- what an op makes of 0 with the numbers that it reads beside it --- */
static bool is_zero(double x) { return x == 0; }
static bool at_most_zero(double x) { return x <= 0; }
static bool at_least_zero(double x) { return x >= 0; }
static bool is_positive(double x) { return x > 0; }

/* All numbers of input k, which are known, fit; `none`: so does an input that is left out. */
static bool numbers_fit(const PareNode *n, int k, bool none, bool (*fits)(double)) {
  const PareValue *v = k < n->nin ? n->in[k] : NULL;
  if (!v) return none;
  for (int64_t i = 0; v->data && i < pare_type_count(&v->type); i++)
    if (!fits(pare_data_float(v, i))) return false;
  return v->data != NULL;
}

/* Of Div, 0 / 0 is for the caller to exclude. */
static bool keeps_zero(const PareNode *n) {
  if (n->op == PARE_OP_PAD) return numbers_fit(n, 2, true, is_zero);
  if (n->op == PARE_OP_POW) return numbers_fit(n, 1, false, is_positive);
  if (n->op == PARE_OP_CLIP) return numbers_fit(n, 1, true, at_most_zero) && numbers_fit(n, 2, true, at_least_zero);
  return true;
}

int pare_zero_inputs(const PareNode *n) {
  if (!keeps_zero(n) || (n->op == PARE_OP_DIV && n->in[1]->role != PARE_CONST)) return 0;
  switch (rule(n)) {
    case FIRST: return 1;
    case ONE: return n->nin == 2;
    case EACH:
    case PARTS: return n->nin;
    case CHOICE:
    case NEVER: break;
  }
  return 0;
}

/* --- back to the constants --- */
enum { MAX_STEPS = 1000 }; /* readings that are looked at: sums of sums branch */

typedef struct Search {
  PareArena *a;
  PareTracer *t;
  const PareAxis *leaf;
  PareZeros *zeros;
  int steps;
  bool nomem;
} Search;

/* Has what n reads as input k the leaf on one of its axes? */
static bool holds(const Search *s, const PareNode *n, int k) {
  bool any = false;
  for (int d = 0; d < n->in[k]->type.rank; d++) any |= pare_axis_holds(pare_axis_in(s->t, n, k, d), s->leaf);
  return any;
}

static bool all_zero(const PareValue *v) {
  if (!v->data) return false;
  for (int64_t i = 0; i < pare_type_count(&v->type); i++)
    if (pare_data_float(v, i) != 0) return false;
  return true;
}

static bool vanishes(Search *s, const PareNode *n, int k);

/* Inputs `from` up to `to` of n: all of them, or those alone that have the leaf. */
static bool all_vanish(Search *s, const PareNode *n, int from, int to, bool parts) {
  bool any = false;
  for (int k = from; k < to; k++) {
    if (!n->in[k] || (parts && !holds(s, n, k))) continue;
    if (!vanishes(s, n, k)) return false;
    any = true;
  }
  return any || !parts;
}

static bool one_vanishes(Search *s, const PareNode *n) {
  size_t before = s->zeros->at.n;
  for (int k = 0; k < 2 && k < n->nin; k++) {
    if (vanishes(s, n, k) && all_vanish(s, n, 2, n->nin, false)) return true;
    s->zeros->at.n = before;
  }
  return false;
}

/* Is v made of what the readings from number `first` on yield? Not where a number is added to it, or it is kept from
 * being less than one. */
static bool is_made_of(Search *s, const PareValue *v, size_t first) {
  if (!v || v->role != PARE_RESULT) return false;
  if (++s->steps > MAX_STEPS) return true;
  const PareNode *n = v->def;
  if (n->op == PARE_OP_ADD || n->op == PARE_OP_CLIP || n->op == PARE_OP_MAX) return false;
  for (size_t i = first; i < s->zeros->at.n; i++)
    if (s->zeros->at.at[i].node == n) return true;
  for (int k = 0; k < n->nin; k++)
    if (is_made_of(s, n->in[k], first)) return true;
  return false;
}

/* 0 / 0 is no number: v / |v|, with one reading of v before both. */
static bool quotient_vanishes(Search *s, const PareNode *n) {
  size_t before = s->zeros->at.n;
  if (vanishes(s, n, 0) && !is_made_of(s, n->in[1], before)) return true;
  s->zeros->at.n = before;
  return false;
}

static bool vanishes(Search *s, const PareNode *n, int k) {
  const PareValue *v = n->in[k];
  if (++s->steps > MAX_STEPS) return false;
  if (!holds(s, n, k)) return all_zero(v);
  if (v->role == PARE_CONST) {
    PareUse use = {(PareNode *)(uintptr_t)n, k};
    s->nomem |= !pare_vec_push(s->a, &s->zeros->at, use);
    return true;
  }
  if (v->role != PARE_RESULT) return false;
  if (!keeps_zero(v->def)) return all_zero(v);
  switch (rule(v->def)) {
    case FIRST: return v->def->op == PARE_OP_DIV ? quotient_vanishes(s, v->def) : vanishes(s, v->def, 0);
    case ONE: return one_vanishes(s, v->def);
    case EACH: return all_vanish(s, v->def, 0, v->def->nin, false);
    case PARTS: return all_vanish(s, v->def, 0, v->def->nin, true);
    case CHOICE: return all_vanish(s, v->def, 1, 3, false);
    case NEVER: break;
  }
  return all_zero(v);
}

PareStatus pare_vanish(PareCtx *c, PareArena *a, PareTracer *t, const PareAxis *leaf, const PareNode *n, int k,
                       PareZeros *zeros, bool *yes) {
  Search s = {.a = a, .t = t, .leaf = leaf, .zeros = zeros};
  size_t before = zeros->at.n;
  *yes = vanishes(&s, n, k);
  if (!*yes) zeros->at.n = before;
  return s.nomem ? pare_nomem(c) : PARE_OK;
}
