#include "passes/classes.h"

#include "ir/op_columns.h"
#include "passes/match.h"
#include "passes/task.h"

enum { MAX_DEPTH = 16 };

static bool is_rounded(const PareNode *n) {
  return pare_op_info[n->op].cut == pare_cut_quantize || n->op == PARE_OP_FAKEQUANTIZE;
}

/* The same numbers, but for their type and how they lie. */
static bool is_as_it_was(const PareNode *n) {
  return pare_op_info[n->op].kernel == PARE_KERNEL_VIEW || n->op == PARE_OP_CAST || is_rounded(n);
}

/* One column of [.., L, several], for all L: scores of first places, or of last ones. */
static bool is_column(const PareValue *v) {
  const PareNode *n = v->def;
  bool picks = n->op == PARE_OP_GATHER && pare_is_fixed(n->in[1]);
  if (!picks && n->op != PARE_OP_SPLIT && n->op != PARE_OP_SLICE) return false;
  const PareType *from = &n->in[0]->type, *t = &v->type;
  if (from->rank < 3 || pare_task_row(from) < 2) return false;
  if (!picks) return t->rank == from->rank && t->dim[t->rank - 1] == 1;
  int64_t axis = pare_attr_get(&n->attr, axis, 0);
  return t->rank == from->rank - 1 && (axis == -1 || axis == from->rank - 1);
}

/* Out of linear layers or, with `squashed`, of a Softmax or its logarithm behind them. */
static bool is_linear(const PareValue *v, bool squashed, int depth) {
  const PareNode *n = v->def;
  if (!n || depth == MAX_DEPTH) return false;
  const PareOpInfo *info = &pare_op_info[n->op];
  if (info->cut == pare_cut_matmul || info->cut == pare_cut_gemm || n->op == PARE_OP_LINEAR) return true;
  if (n->op == PARE_OP_SOFTMAX || n->op == PARE_OP_LOGSOFTMAX) return squashed;
  if (is_as_it_was(n)) return is_linear(n->in[0], squashed, depth + 1);
  if (is_column(v)) return is_linear(n->in[0], false, depth + 1);
  if (info->cut != pare_cut_same || n->nin != 2) return false;
  bool a = pare_is_fixed(n->in[0]), b = pare_is_fixed(n->in[1]);
  bool sum = n->op == PARE_OP_ADD || n->op == PARE_OP_SUB, scaled = n->op == PARE_OP_MUL || n->op == PARE_OP_DIV;
  if (a || b) return (sum || scaled) && is_linear(n->in[a], squashed, depth + 1);
  return sum && is_linear(n->in[0], squashed, depth + 1) && is_linear(n->in[1], squashed, depth + 1);
}

bool pare_output_is_classes(const PareValue *v) {
  return pare_dtype_is_float(v->type.dtype) && pare_task_row(&v->type) >= 2 && is_linear(v, true, 0);
}

/* Taken over rows of the last axis, whether or not all axes from one on are one. */
static bool is_over_rows(const PareNode *softmax) {
  const PareType *t = &softmax->in[0]->type;
  int64_t axis = pare_attr_get(&softmax->attr, axis, -1), over = 1;
  if (axis < 0) axis += t->rank;
  if (!pare_attr_get(&softmax->attr, flatten, 0)) return axis == t->rank - 1;
  for (int64_t i = axis; i < t->rank; i++) over *= t->dim[i];
  return over == t->dim[t->rank - 1];
}

/* The Softmax over rows of v's last axis, or the Sigmoid, that v comes out of; NULL. */
static const PareNode *squashed_by(const PareValue *v) {
  bool rows = true;
  for (int depth = 0; v->def && depth < MAX_DEPTH; depth++) {
    const PareNode *n = v->def;
    if (n->op == PARE_OP_SIGMOID) return n;
    if (n->op == PARE_OP_SOFTMAX) return rows && is_over_rows(n) ? n : NULL;
    if (!is_as_it_was(n)) return NULL;
    const PareValue *x = n->in[0];
    rows &= pare_task_row(&x->type) == pare_task_row(&v->type);
    v = x;
  }
  return NULL;
}

static bool is_behind(const PareValue *v, PareOp op) {
  const PareNode *n = squashed_by(v);
  return n && n->op == op;
}

bool pare_output_is_probabilities(const PareValue *v) { return pare_output_is_classes(v) && is_behind(v, PARE_OP_SOFTMAX); }

bool pare_output_is_sigmoid(const PareValue *v) { return is_behind(v, PARE_OP_SIGMOID); }

bool pare_output_is_mark(const PareValue *v, bool marks) {
  if (!pare_dtype_is_float(v->type.dtype)) return false;
  if (pare_output_is_sigmoid(v)) return true;
  return (marks || pare_task_row(&v->type) >= 2) && is_linear(v, false, 0);
}

/* What lies behind the Softmax or Sigmoid, done to what lies before it; quantised it is not. */
static PareValue *before(PareCtx *c, PareGraph *g, PareValue *v) {
  PareNode *n = v->def;
  if (n->op == PARE_OP_SOFTMAX || n->op == PARE_OP_SIGMOID) return n->in[0];
  PareValue *x = before(c, g, n->in[0]);
  if (!x || is_rounded(n)) return x;
  PareValue **in = PARE_NEW_N(g->arena, n->nin, PareValue *);
  if (!in) return NULL;
  for (int i = 0; i < n->nin; i++) in[i] = i ? n->in[i] : x;
  return pare_emit(c, g, NULL, n->op, n->name, &n->attr, n->nin, in);
}

PareValue *pare_output_logits(PareCtx *c, PareGraph *g, PareValue *v) {
  return pare_output_is_probabilities(v) || pare_output_is_sigmoid(v) ? before(c, g, v) : v;
}
