/* table.c - this level's kernels by op. A row of ops.def that promises a kernel
 * which does not exist does not link. */
#include "kernels/cpu/cpu.h"

#pragma GCC diagnostic ignored "-Woverride-init" /* rows of the second list replace rows of the first */
#define SLOT_ANY(id) {.run = PARE_CPU(id)}
#define SLOT_CPU(id) SLOT_ANY(id)
#define SLOT_VIEW(id) {.run = NULL}
#define SLOT_NONE(id) {.run = NULL}
const PareKernel PARE_CPU(table)[PARE_OP_COUNT] = {
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  [PARE_OP_##id] = SLOT_##kernel(id),
#include "ir/ops.def"
#undef OP
#define X(id, planned, freed) [PARE_OP_##id] = {.plan = planned, .run = PARE_CPU(id), .release = freed},
    PARE_PLANNED(X)
#undef X
#define X(id, bits) [PARE_OP_##id].loose = bits,
    PARE_LOOSE(X)
#undef X
};
