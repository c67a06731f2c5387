#include "passes/classes.h"

#include "ir/op_columns.h"
#include "passes/match.h"

enum { MAX_DEPTH = 16 };

static bool is_linear(const PareValue *v, int depth) {
  const PareNode *n = v->def;
  if (!n || depth == MAX_DEPTH) return false;
  const PareOpInfo *info = &pare_op_info[n->op];
  if (info->cut == pare_cut_matmul || info->cut == pare_cut_gemm || n->op == PARE_OP_LINEAR) return true;
  if (n->op == PARE_OP_SOFTMAX || n->op == PARE_OP_LOGSOFTMAX) return true;
  bool as_it_is = info->kernel == PARE_KERNEL_VIEW || n->op == PARE_OP_CAST || info->cut == pare_cut_quantize ||
                  n->op == PARE_OP_FAKEQUANTIZE;
  if (as_it_is) return is_linear(n->in[0], depth + 1);
  if (info->cut != pare_cut_same || n->nin != 2) return false;
  bool a = pare_is_fixed(n->in[0]), b = pare_is_fixed(n->in[1]);
  bool sum = n->op == PARE_OP_ADD || n->op == PARE_OP_SUB, scaled = n->op == PARE_OP_MUL || n->op == PARE_OP_DIV;
  if (a || b) return (sum || scaled) && is_linear(n->in[a], depth + 1);
  return sum && is_linear(n->in[0], depth + 1) && is_linear(n->in[1], depth + 1);
}

bool pare_output_is_classes(const PareValue *v) {
  return pare_dtype_is_float(v->type.dtype) && v->type.rank >= 2 && v->type.dim[v->type.rank - 1] >= 2 &&
         is_linear(v, 0);
}
