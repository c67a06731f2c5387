/* fuse_layernorm - (x - mean) / sqrt(var + eps)·gamma [+ beta], spelled out, becomes
 * LayerNormalization over the last axis. Known spellings: one or two Subs; the square
 * as Pow or Mul; Div, or Reciprocal and Mul; operands of products and sums either way. */
#include "passes/match.h"
#include "passes/pass.h"

/* d = x - mean(x): x, or NULL. */
static PareValue *centred(const PareValue *d) {
  const PareNode *sub = pare_made_by(d, PARE_OP_SUB);
  const PareNode *mean = sub ? pare_made_by(sub->in[1], PARE_OP_REDUCEMEAN) : NULL;
  return mean && pare_is_row_mean(mean) && mean->in[0] == sub->in[0] ? sub->in[0] : NULL;
}

/* sq = d²: d, or NULL. */
static PareValue *squared(const PareValue *sq) {
  const PareNode *mul = pare_made_by(sq, PARE_OP_MUL), *pow = pare_made_by(sq, PARE_OP_POW);
  if (mul) return mul->in[0] == mul->in[1] ? mul->in[0] : NULL;
  return pow && pare_is_number(pow->in[1], 2) ? pow->in[0] : NULL;
}

/* root = sqrt(mean((x - mean(x))²) + eps): x, or NULL. */
static PareValue *deviation(const PareNode *root, double *eps) {
  const PareNode *add = pare_made_by(root->in[0], PARE_OP_ADD);
  for (int i = 0; add && i < 2; i++) {
    const PareNode *var = pare_made_by(add->in[i], PARE_OP_REDUCEMEAN);
    if (var && pare_is_row_mean(var) && pare_fixed_number(add->in[1 - i], eps)) {
      PareValue *d = squared(var->in[0]);
      return d ? centred(d) : NULL;
    }
  }
  return NULL;
}

/* The node that yields (x - mean) / root. */
static PareNode *quotient(const PareGraph *g, const PareNode *root, const PareValue *x) {
  PareNode *n = pare_sole_reader(g, root->out[0]);
  if (n && n->op == PARE_OP_DIV) return n->in[1] == root->out[0] && centred(n->in[0]) == x ? n : NULL;
  if (!n || n->op != PARE_OP_RECIPROCAL) return NULL;
  PareNode *mul = pare_sole_reader_op(g, n->out[0], PARE_OP_MUL);
  PareValue *d = mul ? pare_other_operand(mul, n->out[0]) : NULL;
  return d && centred(d) == x ? mul : NULL;
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *root) {
  double eps;
  PareValue *x = deviation(root, &eps);
  PareNode *q = x ? quotient(g, root, x) : NULL;
  PareNode *mul = q ? pare_sole_reader_op(g, q->out[0], PARE_OP_MUL) : NULL;
  if (!mul) return PARE_OK;
  int64_t n = x->type.dim[x->type.rank - 1];
  PareValue *gamma = pare_other_operand(mul, q->out[0]), *beta = NULL;
  if (!gamma || !pare_is_vector(gamma, n) || !pare_type_equal(&mul->out[0]->type, &x->type)) return PARE_OK;
  PareNode *add = pare_sole_reader_op(g, mul->out[0], PARE_OP_ADD), *last = mul;
  if (add) beta = pare_other_operand(add, mul->out[0]);
  if (beta && pare_is_vector(beta, n) && pare_type_equal(&add->out[0]->type, &x->type)) last = add;
  else beta = NULL;
  if (!(gamma = pare_as_vector(c, g, gamma)) || (beta && !(beta = pare_as_vector(c, g, beta)))) return c->diag.code;
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, -1);
  pare_attr_set(&attr, epsilon, eps);
  PareValue *in[] = {x, gamma, beta};
  PareValue *y = pare_emit(c, g, last->next, PARE_OP_LAYERNORM, last->name, &attr, beta ? 3 : 2, in);
  if (!y) return c->diag.code;
  pare_fuse_into(g, last->out[0], y);
  return PARE_OK;
}

static bool is_root(const PareNode *n) { return n->op == PARE_OP_SQRT; }

PareStatus pare_fuse_layernorm(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_root, fuse); }
