/* fuse_linear - x·W with its bias and its LoRA branch becomes one pare.Linear:
 *   MatMul|Gemm(x, W) [+ bias] [+ s·((x·A)·B)]  ->  Linear(x, W, bias, A, B) {transB, scale}
 * in any order of the sums. */
#include "passes/match.h"
#include "passes/pass.h"

typedef struct Found {
  PareNode *last; /* makes the whole sum */
  PareValue *bias, *a, *b;
  double scale;
} Found;

static bool is_plain_type(const PareValue *v) { return v->type.dtype == PARE_F32 || v->type.dtype == PARE_F64; }

static bool is_root(const PareNode *n) {
  if (n->op != PARE_OP_MATMUL && n->op != PARE_OP_GEMM) return false;
  if (pare_attr_get(&n->attr, transA, 0) || pare_attr_get(&n->attr, alpha, 1.0) != 1) return false;
  const PareValue *x = n->in[0], *w = n->in[1];
  if (!pare_is_parameter(w) || w->type.rank != 2 || !is_plain_type(w) || x->type.rank < 2) return false;
  if (pare_is_fixed(x) || pare_type_count(&x->type) <= 0 || pare_type_count(&w->type) <= 0) return false;
  if (n->nin < 3 || !n->in[2]) return true;
  return pare_attr_get(&n->attr, beta, 1.0) == 1 && pare_is_vector(n->in[2], n->out[0]->type.dim[1]);
}

/* v = s·((x·A)·B) with states A and B. */
static bool is_branch(const PareValue *v, const PareValue *x, Found *f) {
  double s = 1;
  const PareNode *mul = pare_made_by(v, PARE_OP_MUL);
  for (int i = 0; mul && i < 2; i++)
    if (pare_fixed_number(mul->in[i], &s)) {
      v = mul->in[1 - i];
      break;
    }
  const PareNode *vb = pare_made_by(v, PARE_OP_MATMUL);
  const PareNode *ua = vb ? pare_made_by(vb->in[0], PARE_OP_MATMUL) : NULL;
  if (!ua || ua->in[0] != x || vb->attr.set || ua->attr.set) return false;
  PareValue *a = ua->in[1], *b = vb->in[1];
  if (a->role != PARE_STATE || b->role != PARE_STATE || a->type.rank != 2 || b->type.rank != 2) return false;
  f->a = a, f->b = b, f->scale = s;
  return true;
}

/* Takes in what is added to the product, as long as nobody else reads the sum so far. */
static Found collect(PareGraph *g, PareNode *n) {
  Found f = {.last = n};
  int64_t cols = n->out[0]->type.dim[n->out[0]->type.rank - 1];
  if (n->op == PARE_OP_GEMM && n->nin > 2) f.bias = n->in[2];
  for (PareNode *add; (add = pare_sole_reader_op(g, f.last->out[0], PARE_OP_ADD)); f.last = add) {
    PareValue *other = pare_other_operand(add, f.last->out[0]);
    if (!other || !pare_type_equal(&add->out[0]->type, &n->out[0]->type)) break;
    if (!f.bias && pare_is_vector(other, cols)) f.bias = other;
    else if (f.a || !is_branch(other, n->in[0], &f)) break;
  }
  return f;
}

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *n) {
  Found found = collect(g, n), *f = &found;
  PareAttrs attr = {0};
  if (pare_attr_get(&n->attr, transB, 0)) pare_attr_set(&attr, transB, 1);
  if (f->a) pare_attr_set(&attr, scale, f->scale);
  PareValue *bias = f->bias ? pare_as_vector(c, g, f->bias) : NULL;
  if (f->bias && !bias) return c->diag.code;
  PareValue *in[] = {n->in[0], n->in[1], bias, f->a, f->b};
  PareValue *y = pare_emit(c, g, f->last->next, PARE_OP_LINEAR, n->name, &attr, f->a ? 5 : bias ? 3 : 2, in);
  if (!y) return c->diag.code;
  pare_fuse_into(g, f->last->out[0], y);
  return PARE_OK;
}

PareStatus pare_fuse_linear(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_root, fuse); }

/* Linear(v·mask, ...) -> Linear(v, ..., mask): the weight's rows are masked instead of x. */
PareStatus pare_fuse_masks(PareCtx *c, PareGraph *g) {
  for (PareNode *n = g->first; n; n = n->next) {
    if (n->op != PARE_OP_LINEAR || (n->nin > 5 && n->in[5])) continue;
    PareValue *x = n->in[0];
    const PareNode *mul = pare_made_by(x, PARE_OP_MUL);
    if (!mul || pare_is_output(g, x)) continue;
    for (int i = 0; i < 2; i++) {
      PareValue *m = mul->in[i], *v = mul->in[1 - i];
      if (m->role != PARE_STATE || m->type.rank != 1 || m->type.dim[0] != x->type.dim[x->type.rank - 1] ||
          m->type.dtype != n->in[1]->type.dtype || !pare_type_equal(&v->type, &x->type))
        continue;
      PareValue **in = PARE_NEW_N(g->arena, 6, PareValue *);
      if (!in) return pare_nomem(c);
      for (int k = 1; k < n->nin; k++) in[k] = n->in[k];
      in[0] = v, in[5] = m;
      n->in = in;
      n->nin = 6;
      pare_remove_dead(g, x);
      break;
    }
  }
  return PARE_OK;
}
