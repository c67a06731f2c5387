/* table.c - this level's kernels by op. A row of ops.def that promises a kernel
 * which does not exist does not link. */
#include "kernels/cpu/cpu.h"

#pragma GCC diagnostic ignored "-Woverride-init" /* rows of the second list replace rows of the first */
#define SLOT_CPU(id) {NULL, PARE_CPU(id), NULL, 0}
#define SLOT_VIEW(id) {NULL, NULL, NULL, 0}
#define SLOT_NONE(id) {NULL, NULL, NULL, 0}
const PareKernel PARE_CPU(table)[PARE_OP_COUNT] = {
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, kernel, writes) \
  [PARE_OP_##id] = SLOT_##kernel(id),
#include "ir/ops.def"
#undef OP
#define X(id, plan, release) [PARE_OP_##id] = {plan, PARE_CPU(id), release, 0},
    PARE_PLANNED(X)
#undef X
#define X(id, bits) [PARE_OP_##id].loose = bits,
    PARE_LOOSE(X)
#undef X
};
