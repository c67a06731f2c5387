/* lower_precision - the products of layers and attention in bf16: Casts around every
 * pare.Linear and pare.Attention, and what lies between two of them (views, moves,
 * activations) on bf16 too; and around a Conv of an input of the graph (patches), whose
 * frozen weights are rounded. Weights and adapters stay f32 and are merged in f32; sums,
 * softmax, normalisation, the residual stream and losses are f32. */
#include "passes/match.h"
#include "passes/pass.h"

typedef struct Lower {
  PareCtx *c;
  PareGraph *g;
  PareValue **low; /* by id of the values that were there at the start: the same in bf16, or NULL */
  size_t n;
} Lower;

/* Ops that give the same result, to bf16's rounding, on a bf16 input 0. */
static bool carries(PareOp op) {
  static const PareOp ops[] = {PARE_OP_RESHAPE, PARE_OP_FLATTEN, PARE_OP_SQUEEZE, PARE_OP_UNSQUEEZE, PARE_OP_IDENTITY,
                               PARE_OP_TRANSPOSE, PARE_OP_SLICE, PARE_OP_GELU, PARE_OP_RELU};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
    if (ops[i] == op) return true;
  return false;
}

/* f32 made of a bf16 value by nothing but ops that carry. */
static bool comes_from_bf16(const PareValue *v) {
  const PareNode *n = v->def;
  if (!n) return false;
  if (n->op == PARE_OP_CAST) return n->in[0]->type.dtype == PARE_BF16;
  return carries(n->op) && comes_from_bf16(n->in[0]);
}

static PareStatus lower(Lower *k, PareValue *v, PareValue **out) {
  PareNode *n = v->def;
  if (v->type.dtype == PARE_BF16) return *out = v, PARE_OK;
  if (v->id < k->n && k->low[v->id]) return *out = k->low[v->id], PARE_OK;
  if (n && n->op == PARE_OP_CAST && n->in[0]->type.dtype == PARE_BF16) return *out = n->in[0], PARE_OK;
  PareNode *before = n ? n->next : k->g->first;
  if (comes_from_bf16(v)) {
    PareValue *x, *in[8];
    if (n->nin > 8) return pare_fail(k->c, n, PARE_UNSUPPORTED, "has too many inputs");
    for (int i = 0; i < n->nin; i++) in[i] = n->in[i];
    PARE_TRY(lower(k, n->in[0], &x));
    in[0] = x;
    *out = pare_emit(k->c, k->g, before, n->op, n->name, &n->attr, n->nin, in);
  } else {
    PareAttrs to = {0};
    pare_attr_set(&to, to, PARE_BF16);
    *out = PARE_EMIT(k->c, k->g, before, PARE_OP_CAST, v->name, &to, v);
  }
  if (!*out) return k->c->diag.code;
  if (v->id < k->n) k->low[v->id] = *out;
  return PARE_OK;
}

/* n on bf16 inputs 0..inputs-1; who read its result reads it as f32. */
static PareStatus lower_node(Lower *k, PareNode *n, int inputs) {
  for (int i = 0; i < inputs; i++) {
    PareValue *old = n->in[i];
    if (!old) continue;
    PARE_TRY(lower(k, old, &n->in[i]));
    pare_remove_dead(k->g, old);
  }
  PARE_TRY(pare_infer(k->c, n));
  PareAttrs to = {0};
  pare_attr_set(&to, to, PARE_F32);
  PareValue *y = PARE_EMIT(k->c, k->g, n->next, PARE_OP_CAST, n->name, &to, n->out[0]);
  if (!y) return k->c->diag.code;
  pare_replace_uses(k->g, n->out[0], y, y->def);
  return PARE_OK;
}

/* How many inputs n has that become bf16; 0: it stays as it is. */
static int lowered_inputs(const PareNode *n) {
  if (n->op == PARE_OP_LINEAR) return 1;
  if (n->op == PARE_OP_ATTENTION) return 3;
  if (n->op != PARE_OP_CONV || n->in[0]->role != PARE_INPUT) return 0;
  for (int i = 1; i < n->nin; i++)
    if (n->in[i] && n->in[i]->role != PARE_CONST) return 0;
  return n->nin;
}

PareStatus pare_lower_precision(PareCtx *c, PareGraph *g) {
  PareMark mark = pare_arena_mark(c->scratch);
  Lower k = {.c = c, .g = g, .n = g->values.n};
  k.low = PARE_NEW_N(c->scratch, k.n, PareValue *);
  PareStatus s = k.low ? PARE_OK : pare_nomem(c);
  for (PareNode *n = g->first; n && s == PARE_OK; n = n->next) {
    int inputs = lowered_inputs(n);
    if (inputs && n->in[0]->type.dtype == PARE_F32) s = lower_node(&k, n, inputs);
  }
  pare_arena_rewind(c->scratch, mark);
  return s;
}
