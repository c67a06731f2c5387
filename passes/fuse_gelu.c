/* fuse_gelu - GELU spelled out becomes Gelu:
 *   x·½·(1 + erf(x/√2))                         the product in any order
 *   x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³)))    {approximate=tanh} */
#include <math.h>

#include "passes/match.h"
#include "passes/pass.h"

/* v = x times or divided by a number that makes the factor `k`: x, or NULL. */
static PareValue *scaled(const PareValue *v, double k) {
  const PareNode *mul = pare_made_by(v, PARE_OP_MUL), *div = pare_made_by(v, PARE_OP_DIV);
  if (div) return pare_is_number(div->in[1], 1 / k) ? div->in[0] : NULL;
  for (int i = 0; mul && i < 2; i++)
    if (pare_is_number(mul->in[i], k)) return mul->in[1 - i];
  return NULL;
}

/* v = x³. */
static bool is_cube(const PareValue *v, const PareValue *x) {
  const PareNode *pow = pare_made_by(v, PARE_OP_POW), *mul = pare_made_by(v, PARE_OP_MUL);
  if (pow) return pow->in[0] == x && pare_is_number(pow->in[1], 3);
  const PareValue *square = mul ? pare_other_operand(mul, x) : NULL;
  const PareNode *sq = square ? pare_made_by(square, PARE_OP_MUL) : NULL;
  const PareNode *sqp = square ? pare_made_by(square, PARE_OP_POW) : NULL;
  return (sq && sq->in[0] == x && sq->in[1] == x) || (sqp && sqp->in[0] == x && pare_is_number(sqp->in[1], 2));
}

/* v = x + 0.044715·x³: x, or NULL. */
static PareValue *bent(const PareValue *v) {
  const PareNode *add = pare_made_by(v, PARE_OP_ADD);
  for (int i = 0; add && i < 2; i++) {
    PareValue *x = add->in[i], *cube = scaled(add->in[1 - i], 0.044715);
    if (cube && is_cube(cube, x)) return x;
  }
  return NULL;
}

/* What the product ½·x·v is made of: the node that yields it, given v's only reader. */
static PareNode *half_times(const PareGraph *g, const PareValue *v, const PareValue *x) {
  PareNode *first = pare_sole_reader_op(g, v, PARE_OP_MUL);
  PareValue *other = first ? pare_other_operand(first, v) : NULL;
  if (!other) return NULL;
  if (scaled(other, 0.5) == x) return first;
  bool half = pare_is_number(other, 0.5);
  if (!half && other != x) return NULL;
  PareNode *second = pare_sole_reader(g, first->out[0]);
  if (second && second->op == PARE_OP_DIV && !half)
    return second->in[0] == first->out[0] && pare_is_number(second->in[1], 2) ? second : NULL;
  if (!second || second->op != PARE_OP_MUL) return NULL;
  PareValue *rest = pare_other_operand(second, first->out[0]);
  if (!rest) return NULL;
  return (half ? rest == x : pare_is_number(rest, 0.5)) ? second : NULL;
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *n) {
  bool tanh = n->op == PARE_OP_TANH;
  PareValue *x = scaled(n->in[0], tanh ? sqrt(2 / acos(-1)) : sqrt(0.5));
  if (tanh && x) x = bent(x);
  PareNode *add = x ? pare_sole_reader_op(g, n->out[0], PARE_OP_ADD) : NULL;
  PareValue *one = add ? pare_other_operand(add, n->out[0]) : NULL;
  PareNode *last = one && pare_is_number(one, 1) ? half_times(g, add->out[0], x) : NULL;
  if (!last || !pare_type_equal(&last->out[0]->type, &x->type)) return PARE_OK;
  PareAttrs attr = {0};
  if (tanh) pare_attr_set(&attr, approximate, 1);
  PareValue *y = PARE_EMIT(c, g, last->next, PARE_OP_GELU, last->name, &attr, x);
  if (!y) return c->diag.code;
  pare_fuse_into(g, last->out[0], y);
  return PARE_OK;
}

static bool is_root(const PareNode *n) { return n->op == PARE_OP_ERF || n->op == PARE_OP_TANH; }

PareStatus pare_fuse_gelu(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_root, fuse); }
