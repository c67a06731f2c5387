/* bench_train.h - how fast a LoRAPrune step is. */
#ifndef PARE_API_BENCH_TRAIN_H
#define PARE_API_BENCH_TRAIN_H

#include "frontend/model.h"
#include "kernels/device.h"
#include "pare/pare.h"

/* Times o->runs steps (data, forward, backward, importance, update) at o->batch samples on random data, with the
 * options of `pare compress` at their defaults; fills r, whose rows live in `a`. */
PARE_MUST_USE PareStatus pare_bench_train(PareCtx *c, PareArena *a, const PareModel *m, const PareBenchOptions *o,
                                          PareDevice *device, const PareHooks *h, PareBenchResult *r);

#endif
