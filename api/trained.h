/* trained.h - initializers that are tuned themselves, on the host at full size in f32, beside the adapters of params.h. */
#ifndef PARE_API_TRAINED_H
#define PARE_API_TRAINED_H

#include "api/params.h"

/* Those that `what`, a set of PARE_TRAIN_*, means, with the values that the model has. After pare_params_new. */
PARE_MUST_USE PareStatus pare_trained_new(PareCtx *c, PareParams *p, const PareDims *d, unsigned what);
/* Copies what lives, and its moments, into the program's states, or back from them. */
PARE_MUST_USE PareStatus pare_trained_transfer(PareCtx *c, const PareParams *p, const PareDims *d,
                                               const PareTrainGraph *t, PareProgram *program, bool save);
/* *out <- the model g, at full size, with them: a clone in a, or g itself where there are none. */
PARE_MUST_USE PareStatus pare_trained_write(PareCtx *c, PareArena *a, const PareParams *p, const PareGraph *g,
                                            const PareGraph **out);
/* What reconstruction has added since becomes part of their values: `was` is the model before it, `is` the model with
 * it, both at full size. */
void pare_trained_absorb(PareParams *p, const PareGraph *was, const PareGraph *is);
/* Numbers that tuning changes: elements of adapters, and of those initializers that have a gradient in the program; of all
 * of them where there is none yet (t NULL). */
int64_t pare_trained_count(const PareParams *p, const PareTrainGraph *t);

#endif
