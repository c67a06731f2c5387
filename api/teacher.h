/* teacher.h - the untouched model's outputs, or another model's, on samples: what distillation tunes
 * towards and what scores draw labels from. Computed once a sample where the
 * outputs of all samples fit and are their own, else anew each time; so are its hidden states, which never fit. */
#ifndef PARE_API_TEACHER_H
#define PARE_API_TEACHER_H

#include "api/forward.h"
#include "passes/training.h"

typedef struct PareTeacher PareTeacher;

/* Runs `g` (unbound, borrowed) on batches of `batch` samples, on the device (NULL: the CPU). Its outputs of floats, but
 * for those that hidden->aside leaves out, are those of PareTrainGraph.outputs; with `pairs` what they say of a sample
 * depends on the others of the batch, so that it is not remembered. `hidden` (n may be 0) are the states that are
 * taught. PARE_UNSUPPORTED naming an output that is not one of each sample. Pair: pare_teacher_free. */
PARE_MUST_USE PareStatus pare_teacher_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                          const PareWatch *hidden, bool pairs, PareDevice *device, PareTeacher **out);
void pare_teacher_free(PareTeacher *t);
/* Samples that it takes at a time: those asked for, or fewer where the device has no room. */
int64_t pare_teacher_batch(const PareTeacher *t);
/* Makes the outputs of these samples ready: `count`, at most the batch. */
PARE_MUST_USE PareStatus pare_teacher_run(PareCtx *c, PareTeacher *t, const int64_t *samples, int64_t count);
/* Whether the outputs for a sample are remembered, or need not be: nothing is. */
bool pare_teacher_knows(const PareTeacher *t, int64_t sample);
/* Of the device, that it takes. */
size_t pare_teacher_bytes(const PareTeacher *t);
/* Output number i, as PareTrainGraph.outputs counts them, of the samples that were run: of classes the scores (api/forward.h). */
const float *pare_teacher_output(const PareTeacher *t, size_t i);

/* Hidden state i of the samples that were run, as the loss wants it: mean((scale·h - target)²) is then `weight` times
 * the error of h in units of the state's own variance, where positions count by their relevance.
 *   target [the state's shape, axis 0 the count]   scale [the same, last axis 1] */
PARE_MUST_USE PareStatus pare_teacher_hidden(PareCtx *c, const PareTeacher *t, size_t i, double weight, float *target,
                                             float *scale);

#endif
