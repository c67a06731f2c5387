/* ceiling.h - the most that a device does of what a training step mostly is: products of large matrices. */
#ifndef PARE_API_CEILING_H
#define PARE_API_CEILING_H

#include "base/ctx.h"
#include "kernels/device.h"

/* FLOP/s of a product of two square matrices of random numbers, in bf16 or f32, by the device's own kernel; they are
 * doubled until it takes long. */
PARE_MUST_USE PareStatus pare_ceiling_measure(PareCtx *c, PareDevice *d, bool bf16, double *flops_per_second);

#endif
