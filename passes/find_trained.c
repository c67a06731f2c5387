/* find_trained - which initializers --trainable means. What one is, is told by what is done with it, never by a name: a
 * bias is added to a layer's product, a scale multiplies what a norm has made, the head multiplies behind the last block. */
#include <math.h>
#include <string.h>

#include "ir/op_columns.h"
#include "passes/edit.h"
#include "passes/match.h"
#include "passes/quantized.h"
#include "passes/trained.h"

typedef struct Search {
  PareCtx *c;
  PareArena *a;
  PareTracer *t;
  const PareGraph *g; /* traced */
  PareUses uses;
  bool *felt;  /* by value id: the outputs follow from it, by ops that have a gradient */
  bool *layer; /* by node id: multiplies by a weight of heads or FFN */
  PareTrainedSet *out;
} Search;

/* --- what the outputs follow from --- */

static bool quantises(PareOp op) {
  return op == PARE_OP_QUANTIZELINEAR || op == PARE_OP_DEQUANTIZELINEAR || op == PARE_OP_DYNAMICQUANTIZELINEAR ||
         op == PARE_OP_MATMULINTEGER;
}

/* Gradients pass from n to its input k. Angles of rotary positions are no weights; nor are the statistics of a
 * BatchNormalization, or scales of integers. */
static bool passes_back(const PareNode *n, int k) {
  enum { MATRICES = 2, STATISTICS = 3 };
  PareGradFn *grad = pare_op_info[n->op].grad;
  if (quantises(n->op)) return k == 0 || (n->op == PARE_OP_MATMULINTEGER && k < MATRICES);
  if (n->op == PARE_OP_SIN || n->op == PARE_OP_COS) return false;
  if (n->op == PARE_OP_BATCHNORM && k >= STATISTICS) return false;
  return grad != pare_grad_none && grad != pare_grad_zero;
}

static PareStatus find_felt(Search *s) {
  if (!(s->felt = PARE_NEW_N(s->c->scratch, s->g->values.n + 1, bool))) return pare_nomem(s->c);
  for (size_t i = 0; i < s->g->outputs.n; i++) {
    const PareValue *y = s->g->outputs.at[i];
    s->felt[y->id] = pare_dtype_is_float(y->type.dtype);
  }
  for (const PareNode *n = s->g->last; n; n = n->prev) {
    bool any = false;
    for (int k = 0; k < n->nout; k++) any |= n->out[k] && s->felt[n->out[k]->id];
    for (int k = 0; k < n->nin && any; k++)
      if (n->in[k] && passes_back(n, k)) s->felt[n->in[k]->id] = true;
  }
  return PARE_OK;
}

/* --- what a weight is --- */

/* It follows from constants alone. */
static bool is_constant(const Search *s, const PareValue *v) {
  return v && (v->role == PARE_CONST || (v->role == PARE_RESULT && s->t->constant[v->id]));
}

static bool is_stored_float(const PareValue *v) {
  bool own = v->origin.kind == PARE_ORIGIN_INITIALIZER || v->origin.kind == PARE_ORIGIN_NODE;
  PareDtype d = v->type.dtype;
  return own && v->data && (d == PARE_F32 || d == PARE_F16 || d == PARE_BF16);
}

static bool may_train(const Search *s, const PareValue *v) {
  return v && v->role == PARE_CONST && is_stored_float(v) && s->felt[v->id] && !v->pinned && !pare_is_output(s->g, v);
}

/* More than one of its axes is longer than 1. */
static bool is_matrix(const PareType *t) {
  int axes = 0;
  for (int i = 0; i < t->rank; i++) axes += t->dim[i] > 1;
  return axes > 1;
}

typedef struct DimList {
  int at[16], n;
} DimList;

static void list_dim(PareAxis *leaf, void *arg) {
  DimList *l = arg;
  if (leaf->dim >= 0 && l->n < 16) l->at[l->n++] = leaf->dim;
}

/* x·W with a constant matrix on the right. */
static bool is_layer(const Search *s, const PareNode *n) {
  PareCutFn *cut = pare_op_info[n->op].cut;
  bool product = cut == pare_cut_matmul || cut == pare_cut_gemm || cut == pare_cut_matmulinteger;
  return product && is_constant(s, n->in[1]) && n->in[1]->type.rank == 2 && !is_constant(s, n->in[0]);
}

/* Who reads it behind the Identities by which exporters name one initializer twice. */
static PareUse reader_behind(const Search *s, PareUse u) {
  while (u.node->op == PARE_OP_IDENTITY && pare_use_count(&s->uses, u.node->out[0]))
    u = s->uses.at[s->uses.first[u.node->out[0]->id]];
  return u;
}

/* The weight of the layer whose bias is read here; NULL where it is none. */
static const PareValue *weight_beside(const Search *s, const PareUse *reading) {
  PareUse u = reader_behind(s, *reading);
  PareNode *n = u.node, *root;
  int input;
  if (n->op == PARE_OP_ADD) n = n->in[1 - u.input]->def;
  else if (n->op != PARE_OP_GEMM || u.input != 2) return NULL;
  while (n && n->op == PARE_OP_CAST) n = n->in[0]->def;
  return n && is_layer(s, n) ? pare_root_constant(n, 1, &root, &input) : NULL;
}

/* Two readings of a constant are of one thing: they hold the same dimensions in the same places, so that a cut leaves
 * them the same, and they are not the biases of two layers, which are equal by chance where exporters merge what is. */
static bool are_one(const Search *s, const PareUse *x, const PareUse *y) {
  const PareType *t = &x->node->in[x->input]->type;
  for (int axis = 0; axis < t->rank; axis++) {
    DimList a = {.n = 0}, b = {.n = 0};
    pare_axis_leaves(pare_axis_in(s->t, x->node, x->input, axis), list_dim, &a);
    pare_axis_leaves(pare_axis_in(s->t, y->node, y->input, axis), list_dim, &b);
    if (a.n != b.n || memcmp(a.at, b.at, (size_t)a.n * sizeof *a.at) != 0) return false;
  }
  return weight_beside(s, x) == weight_beside(s, y);
}

/* --- adding to the set --- */

/* What n reads as input k, and all readings that are one with it. */
static PareStatus add(Search *s, PareNode *n, int k) {
  PareValue *v = n->in[k];
  PareUse use = {n, k};
  if (!may_train(s, v) || pare_trained_at(s->out, n->id, k) >= 0) return PARE_OK;
  PareTrained t = {.name = v->name, .type = v->type, .was = v, .decays = is_matrix(&v->type)};
  for (uint32_t i = s->uses.first[v->id]; i < s->uses.first[v->id + 1]; i++)
    if (are_one(s, &s->uses.at[i], &use) && !pare_vec_push(s->a, &t.readings, s->uses.at[i])) return pare_nomem(s->c);
  return pare_vec_push(s->a, &s->out->at, t) ? PARE_OK : pare_nomem(s->c);
}

/* The constant that n's input k is, behind ops that move its elements. */
static PareStatus add_behind(Search *s, PareNode *n, int k) {
  PareNode *root;
  int input;
  if (!is_constant(s, n->in[k])) return PARE_OK;
  const PareValue *v = pare_root_constant(n, k, &root, &input);
  if (!v || pare_type_count(&v->type) != pare_type_count(&n->in[k]->type)) return PARE_OK;
  return add(s, root, input);
}

/* A constant row of n numbers, or of as many as the last axis of y. */
static bool is_row(const Search *s, const PareValue *v, const PareValue *y) {
  if (!is_constant(s, v) || v->type.rank < 1 || y->type.rank < 1) return false;
  int64_t n = y->type.dim[y->type.rank - 1];
  return v->type.dim[v->type.rank - 1] == n && pare_type_count(&v->type) == n;
}

/* --- layers and their biases --- */

/* What is added to y by the one node that reads it, behind Casts and the scaling of integers. */
static PareStatus add_summand(Search *s, PareValue *y) {
  PareNode *next = pare_sole_reader(s->g, y);
  while (next && next->nin && next->in[0] == y && (next->op == PARE_OP_CAST || quantises(next->op))) {
    y = next->out[0];
    next = pare_sole_reader(s->g, y);
  }
  PareValue *other = next && next->op == PARE_OP_ADD ? pare_other_operand(next, y) : NULL;
  return other && is_row(s, other, y) ? add_behind(s, next, next->in[1] == other) : PARE_OK;
}

static PareStatus add_bias(Search *s, PareNode *n) {
  if (n->op == PARE_OP_CONV) return n->nin > 2 && n->in[2] ? add_behind(s, n, 2) : PARE_OK;
  if (!is_layer(s, n)) return PARE_OK;
  if (n->op == PARE_OP_GEMM && n->nin > 2 && n->in[2])
    return is_row(s, n->in[2], n->out[0]) ? add_behind(s, n, 2) : PARE_OK;
  PareScaledProduct p;
  bool scaled = n->op == PARE_OP_MATMULINTEGER && pare_scaled_product(s->g, n, &p);
  return add_summand(s, scaled ? p.scaled->out[0] : n->out[0]);
}

/* --- norms --- */

enum { NORM_STEPS = 8 };

/* v is one number a row, made of the root of a mean over the row. */
static bool is_row_deviation(const Search *s, const PareValue *v) {
  bool root = false;
  if (!v || v->type.rank < 1 || v->type.dim[v->type.rank - 1] != 1) return false;
  for (int i = 0; v && v->def && i < NORM_STEPS; i++) {
    const PareNode *n = v->def;
    if (n->op == PARE_OP_REDUCEMEAN) return root && pare_is_row_mean(n);
    root |= n->op == PARE_OP_SQRT || n->op == PARE_OP_POW;
    v = n->nin > 1 && is_constant(s, n->in[0]) ? n->in[1] : n->in[0];
  }
  return false;
}

/* What a norm over the last axis has made, spelled out: x, or x less its mean, over the deviation. */
static bool is_normalised(const Search *s, const PareValue *v) {
  const PareNode *n = v ? v->def : NULL;
  while (n && n->op == PARE_OP_CAST) n = n->in[0]->def;
  if (!n || (n->op != PARE_OP_MUL && n->op != PARE_OP_DIV)) return false;
  return is_row_deviation(s, n->in[1]) || (n->op == PARE_OP_MUL && is_row_deviation(s, n->in[0]));
}

/* Scale and shift of a norm that is one node, or that is spelled out and n multiplies by its scale. */
static PareStatus add_norm(Search *s, PareNode *n) {
  bool one = n->op == PARE_OP_LAYERNORM || n->op == PARE_OP_BATCHNORM || n->op == PARE_OP_INSTANCENORM;
  for (int k = 1; k < 3 && k < n->nin && one; k++)
    if (n->in[k]) PARE_TRY(add_behind(s, n, k));
  if (n->op != PARE_OP_MUL) return PARE_OK;
  for (int k = 0; k < 2; k++) {
    if (!is_row(s, n->in[k], n->out[0]) || !is_normalised(s, n->in[1 - k])) continue;
    PARE_TRY(add_behind(s, n, k));
    return add_summand(s, n->out[0]);
  }
  return PARE_OK;
}

/* --- the head --- */

/* By node id: it follows from a layer of heads or FFN, or such a layer follows from it. */
static PareStatus find_around(Search *s, bool **follows, bool **leads) {
  bool *value = PARE_NEW_N(s->c->scratch, s->g->values.n + 1, bool);
  *follows = PARE_NEW_N(s->c->scratch, s->g->nnodes + 1, bool);
  *leads = PARE_NEW_N(s->c->scratch, s->g->nnodes + 1, bool);
  if (!value || !*follows || !*leads) return pare_nomem(s->c);
  for (const PareNode *n = s->g->first; n; n = n->next) {
    for (int k = 0; k < n->nin; k++) (*follows)[n->id] |= n->in[k] && value[n->in[k]->id];
    for (int k = 0; k < n->nout; k++)
      if (n->out[k]) value[n->out[k]->id] = (*follows)[n->id] || s->layer[n->id];
  }
  memset(value, 0, s->g->values.n * sizeof *value);
  for (const PareNode *n = s->g->last; n; n = n->prev) {
    for (int k = 0; k < n->nout; k++) (*leads)[n->id] |= n->out[k] && value[n->out[k]->id];
    for (int k = 0; k < n->nin; k++)
      if (n->in[k]) value[n->in[k]->id] |= (*leads)[n->id] || s->layer[n->id];
  }
  return PARE_OK;
}

static PareStatus add_head(Search *s) {
  bool *follows, *leads;
  PARE_TRY(find_around(s, &follows, &leads));
  for (PareNode *n = s->g->first; n; n = n->next) {
    if (!is_layer(s, n) || !follows[n->id] || leads[n->id] || s->layer[n->id]) continue;
    PARE_TRY(add_behind(s, n, 1));
    PARE_TRY(add_bias(s, n));
  }
  return PARE_OK;
}

/* --- all weights --- */

/* Numbers that say who sees whom: one is as good as minus infinity, or all are zeros and ones and both occur. */
static bool is_mask(const PareValue *v) {
  static const double FORBIDDEN = -1e4;
  int64_t n = pare_type_count(&v->type), zeros = 0, ones = 0;
  for (int64_t i = 0; i < n; i++) {
    double x = pare_data_float(v, i);
    if (!isfinite(x) || x <= FORBIDDEN) return true;
    zeros += x == 0, ones += x == 1;
  }
  return zeros && ones && zeros + ones == n;
}

/* Cosine and sine of the same angles: rotary positions that the exporter has worked out. */
static bool are_turns(const PareValue *x, const PareValue *y) {
  static const double ROUNDING = 1e-2; /* of bf16 */
  if (x == y || !is_matrix(&x->type) || !pare_type_equal(&x->type, &y->type)) return false;
  for (int64_t i = 0; i < pare_type_count(&x->type); i++) {
    double a = pare_data_float(x, i), b = pare_data_float(y, i);
    if (!(fabs(a * a + b * b - 1) < ROUNDING)) return false;
  }
  return true;
}

static bool is_rotary(const Search *s, const PareValue *v) {
  for (size_t i = 0; i < s->g->values.n; i++) {
    const PareValue *w = s->g->values.at[i];
    if (w->role == PARE_CONST && is_stored_float(w) && are_turns(v, w)) return true;
  }
  return false;
}

/* One number is part of a formula. */
static bool is_weight(const Search *s, const PareValue *v) {
  return may_train(s, v) && pare_type_count(&v->type) > 1 && !is_mask(v) && !is_rotary(s, v);
}

static PareStatus add_all(Search *s) {
  for (PareNode *n = s->g->first; n; n = n->next) {
    PareStored stored;
    if (is_layer(s, n) && pare_quantized(s->g, n, 1, &stored))
      return pare_fail(s->c, n, PARE_UNSUPPORTED, "its weight is of integers, which cannot be tuned themselves: leave all "
                       "out of --trainable");
    bool felt = false;
    for (int k = 0; k < n->nout; k++) felt |= n->out[k] && s->felt[n->out[k]->id];
    for (int k = 0; k < n->nin && felt; k++)
      if (n->in[k] && passes_back(n, k) && is_weight(s, n->in[k])) PARE_TRY(add(s, n, k));
  }
  return PARE_OK;
}

/* --- the whole --- */

static PareStatus search(Search *s, unsigned what) {
  PARE_TRY(pare_uses(s->c, s->c->scratch, s->g, &s->uses));
  PARE_TRY(find_felt(s));
  if (what & PARE_TRAIN_ALL) PARE_TRY(add_all(s));
  for (PareNode *n = s->g->first; n; n = n->next) {
    if (what & PARE_TRAIN_BIAS) PARE_TRY(add_bias(s, n));
    if (what & PARE_TRAIN_NORM) PARE_TRY(add_norm(s, n));
  }
  return what & PARE_TRAIN_HEAD ? add_head(s) : PARE_OK;
}

PareStatus pare_find_trained(PareCtx *c, PareArena *a, const PareDims *d, const PareAdapters *layers, unsigned what,
                             PareTrainedSet *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  Search s = {.c = c, .a = a, .t = d->tracer, .g = d->tracer->g, .out = out};
  *out = (PareTrainedSet){0};
  if (!(s.layer = PARE_NEW_N(c->scratch, s.g->nnodes + 1, bool))) return pare_nomem(c);
  for (size_t i = 0; i < layers->at.n; i++)
    for (size_t k = 0; k < layers->at.at[i].sites.n; k++) s.layer[layers->at.at[i].sites.at[k].node] = true;
  PareStatus status = search(&s, what);
  pare_arena_rewind(c->scratch, mark);
  return status;
}

int pare_trained_at(const PareTrainedSet *set, uint32_t id, int k) {
  for (size_t i = 0; i < set->at.n; i++)
    for (size_t j = 0; j < set->at.at[i].readings.n; j++) {
      const PareUse *u = &set->at.at[i].readings.at[j];
      if (u->node->id == id && u->input == k) return (int)i;
    }
  return -1;
}
