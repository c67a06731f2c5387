#include "passes/classes.h"

#include "ir/op_columns.h"

enum { MAX_DEPTH = 16 };

static bool is_linear(const PareValue *v, int depth) {
  const PareNode *n = v->def;
  if (!n || depth == MAX_DEPTH) return false;
  const PareOpInfo *info = &pare_op_info[n->op];
  if (info->cut == pare_cut_matmul || info->cut == pare_cut_gemm || n->op == PARE_OP_LINEAR) return true;
  if (n->op == PARE_OP_SOFTMAX || n->op == PARE_OP_LOGSOFTMAX) return true;
  if (info->kernel == PARE_KERNEL_VIEW || n->op == PARE_OP_CAST) return is_linear(n->in[0], depth + 1);
  if (info->cut != pare_cut_same || n->nin != 2) return false;
  bool a = n->in[0]->role == PARE_CONST, b = n->in[1]->role == PARE_CONST;
  bool sum = n->op == PARE_OP_ADD || n->op == PARE_OP_SUB, scaled = n->op == PARE_OP_MUL || n->op == PARE_OP_DIV;
  if (a || b) return (sum || scaled) && is_linear(n->in[a], depth + 1);
  return sum && is_linear(n->in[0], depth + 1) && is_linear(n->in[1], depth + 1);
}

bool pare_output_is_classes(const PareValue *v) {
  return pare_dtype_is_float(v->type.dtype) && v->type.rank >= 2 && v->type.dim[v->type.rank - 1] >= 2 &&
         is_linear(v, 0);
}
