/* op.c - the op table: ops.def and attrs.def as data. */
#include <string.h>

#include "ir/op_columns.h"

_Static_assert((int)PARE_ATTR_COUNT <= 64, "PareAttrs.set has a bit for each attribute");

const PareOpInfo pare_op_info[PARE_OP_COUNT] = {
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  {#id, name, domain, in_lo, in_hi, out_lo, out_hi, pare_infer_##infer, pare_grad_##grad, pare_cost_##cost,    \
   pare_cut_##cut, pare_want_##want, pare_rows_##rows, PARE_KERNEL_##kernel, writes},
#include "ir/ops.def"
#undef OP
};

int pare_moved_inputs(const PareNode *n) {
  const PareOpInfo *info = &pare_op_info[n->op];
  bool moves = info->cost == pare_cost_free || info->cost == pare_cost_move;
  if (!moves || info->cut == pare_cut_source || info->cut == pare_cut_fill || info->cut == pare_cut_opaque) return 0;
  if (n->nout != 1 && n->op != PARE_OP_SPLIT) return 0; /* the other results are not made of them */
  return info->max_in < 0 ? n->nin : 1;
}

PareOp pare_op_find(const char *domain, const char *name) {
  if (!strcmp(domain, "ai.onnx")) domain = "";
  for (int i = 0; i < PARE_OP_COUNT; i++)
    if (!strcmp(pare_op_info[i].name, name) && !strcmp(pare_op_info[i].domain, domain)) return (PareOp)i;
  return PARE_OP_COUNT;
}
