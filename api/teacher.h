/* teacher.h - the untouched model's outputs on samples: what distillation tunes
 * towards and what scores draw labels from. Computed once a sample where the
 * outputs of all samples fit, else anew each time. */
#ifndef PARE_API_TEACHER_H
#define PARE_API_TEACHER_H

#include "api/forward.h"
#include "passes/training.h"

typedef struct PareTeacher PareTeacher;

/* Runs `g` (unbound, borrowed) on batches of `batch` samples, on the device (NULL: the CPU). Pair: pare_teacher_free. */
PARE_MUST_USE PareStatus pare_teacher_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                          PareDevice *device, PareTeacher **out);
void pare_teacher_free(PareTeacher *t);
/* Makes the outputs of these samples (a whole batch of the program's) ready. */
PARE_MUST_USE PareStatus pare_teacher_run(PareCtx *c, PareTeacher *t, const int64_t *samples);
/* Whether the outputs for a sample are remembered, or need not be: nothing is. */
bool pare_teacher_knows(const PareTeacher *t, int64_t sample);
/* Float output number i (as PareTrainGraph.outputs counts them) of the samples that were run. */
const float *pare_teacher_output(const PareTeacher *t, size_t i);

#endif
