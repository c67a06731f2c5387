/* op_columns.h - the functions that the columns of ops.def name. A column's
 * rules are files by family: infer_*.c, grad_*.c, cut_*.c, op_cost.c, op_want.c, op_rows.c.
 * A row that names a rule that does not exist does not link. */
#ifndef PARE_IR_OP_COLUMNS_H
#define PARE_IR_OP_COLUMNS_H

#include "ir/ir.h"

#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  PareInferFn pare_infer_##infer;                                                                              \
  PareGradFn pare_grad_##grad;                                                                                 \
  PareCostFn pare_cost_##cost;                                                                                 \
  PareCutFn pare_cut_##cut;                                                                                    \
  PareWantFn pare_want_##want;                                                                                 \
  PareRowsFn pare_rows_##rows;
#include "ir/ops.def"
#undef OP

#endif
