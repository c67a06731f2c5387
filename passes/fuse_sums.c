/* fuse_sums - residual sums and copies in bf16 go into the ops beside them. It comes last, when gradients are there:
 *   Add(x, d) -> LayerNormalization -> Cast                    AddNorm
 *   Add(dy, dy2) -> LayerNormGrad -> Add(dx, v) -> Cast        LayerNormGrad(.., dy, dy2, v)
 *   LinearGrad -> Add(dx, v)                                   LinearGrad(.., v)
 * where each of Add and Cast may be missing, and d, dy and dy2 are read as they are in front of a Cast from bf16. The
 * norm, or LinearGrad, becomes the fused op where it stands, and takes over the values of the others: a sum that
 * somebody else reads is one of its results. */
#include "passes/match.h"
#include "passes/pass.h"

static bool is_read(const PareGraph *g, const PareValue *v) {
  if (pare_is_output(g, v)) return true;
  for (const PareNode *n = v->def->next; n; n = n->next)
    if (pare_reads(n, v)) return true;
  return false;
}

static bool is_before(const PareNode *a, const PareNode *b) {
  while (a && a != b) a = a->next;
  return a != NULL;
}

/* A result that is there when n runs. */
static bool is_ready(const PareValue *v, const PareNode *n) {
  return v->role == PARE_RESULT && v->def != n && is_before(v->def, n);
}

/* v, or what v is in bf16 if that is what it was made of. */
static PareValue *uncast(PareValue *v) {
  const PareNode *cast = pare_made_by(v, PARE_OP_CAST);
  return cast && cast->in[0]->type.dtype == PARE_BF16 ? cast->in[0] : v;
}

/* v as a sum, in n's phase, of two values of its own type that do not change. */
static PareNode *sum_of_equals(const PareValue *v, const PareNode *n) {
  PareNode *add = pare_made_by(v, PARE_OP_ADD);
  if (!add || add->phase != n->phase) return NULL;
  for (int i = 0; i < 2; i++)
    if (add->in[i]->role == PARE_STATE || !pare_type_equal(&add->in[i]->type, &v->type)) return NULL;
  return add;
}

/* The Cast of v to bf16 in n's phase, or NULL. */
static PareNode *copy_in_bf16(const PareValue *v, const PareNode *n) {
  for (PareNode *m = v->def->next; m; m = m->next)
    if (m->op == PARE_OP_CAST && m->in[0] == v && m->out[0]->type.dtype == PARE_BF16 && m->phase == n->phase) return m;
  return NULL;
}

static void drop_result(PareNode *n, int i) {
  n->out[i]->def = NULL;
  n->out[i] = NULL;
}

/* Result `full` in bf16 becomes result `low`; what is then read by nobody is not made. */
static void take_low(PareGraph *g, PareNode *n, int full, int low) {
  PareNode *cast = copy_in_bf16(n->out[full], n);
  if (!cast) return;
  pare_take_result(g, cast, n, low);
  if (!is_read(g, n->out[full])) drop_result(n, full);
}

/* n's inputs i and k become the operands of `add`, i one of the sum's type; what is left of `add` goes. */
static void read_operands(PareGraph *g, PareNode *n, const PareNode *add, int i, int k) {
  bool swap = uncast(add->in[0]) != add->in[0];
  n->in[i] = add->in[swap];
  n->in[k] = uncast(add->in[!swap]);
  pare_remove_dead(g, add->in[!swap]);
}

static PareStatus fuse_norm(PareCtx *c, PareGraph *g, PareNode *n) {
  enum { X, BRANCH = 3, SUM = 0, Y, LOW = 4 };
  PareValue *x = n->in[X];
  PareNode *add = sum_of_equals(x, n);
  if (add && (pare_is_read_between(x, n) || n->in[1] == x)) add = NULL;
  if (!add && !copy_in_bf16(n->out[0], n)) return PARE_OK;
  PARE_TRY(pare_node_widen(c, g, n, add ? BRANCH + 1 : n->nin, LOW + 1, Y));
  n->op = PARE_OP_ADDNORM;
  if (add) {
    n->in[X] = NULL;
    if (is_read(g, x)) pare_take_result(g, add, n, SUM);
    else pare_node_remove(g, add);
    read_operands(g, n, add, X, BRANCH);
  }
  take_low(g, n, Y, LOW);
  return pare_infer(c, n);
}

/* The sum of n's result 0 and of what is there when n runs, if it is all that the result is for. */
static PareNode *sum_behind(const PareGraph *g, const PareNode *n, PareValue **other) {
  const PareValue *dx = n->out[0];
  PareNode *add = pare_sole_reader_op(g, dx, PARE_OP_ADD);
  *other = add ? pare_other_operand(add, dx) : NULL;
  if (!*other || add->phase != n->phase || !is_ready(*other, n)) return NULL;
  return pare_type_equal(&(*other)->type, &dx->type) ? add : NULL;
}

static void take_sum(PareGraph *g, PareNode *n, PareNode *add, PareValue *other, int i) {
  drop_result(n, 0);
  pare_take_result(g, add, n, 0);
  n->in[i] = other;
}

static PareStatus fuse_norm_grad(PareCtx *c, PareGraph *g, PareNode *n) {
  enum { DY = 4, DY2, ADDED, DX = 0, LOW = 3 };
  PARE_TRY(pare_node_widen(c, g, n, ADDED + 1, LOW + 1, 0));
  PareValue *dy = n->in[DY], *other;
  PareNode *add = pare_sole_reader(g, dy) == n ? sum_of_equals(dy, n) : NULL;
  n->in[DY] = uncast(dy);
  if (add) read_operands(g, n, add, DY, DY2);
  pare_remove_dead(g, dy);
  if ((add = sum_behind(g, n, &other))) take_sum(g, n, add, other, ADDED);
  take_low(g, n, DX, LOW);
  while (!n->in[n->nin - 1]) n->nin--;
  return pare_infer(c, n);
}

static PareStatus fuse_linear_grad(PareCtx *c, PareGraph *g, PareNode *n) {
  enum { ADDED = 6 };
  PareValue *other;
  PareNode *add = n->out[0] ? sum_behind(g, n, &other) : NULL;
  if (!add) return PARE_OK;
  PARE_TRY(pare_node_widen(c, g, n, ADDED + 1, n->nout, 0));
  take_sum(g, n, add, other, ADDED);
  return pare_infer(c, n);
}

/* What a node takes in stands before it, or behind it where the list goes on. */
PareStatus pare_fuse_sums(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next) {
    if (n->op == PARE_OP_LAYERNORM) PARE_TRY(fuse_norm(c, g, n));
    else if (n->op == PARE_OP_LAYERNORMGRAD) PARE_TRY(fuse_norm_grad(c, g, n));
    else if (n->op == PARE_OP_LINEARGRAD) PARE_TRY(fuse_linear_grad(c, g, n));
  }
  return PARE_OK;
}
