/* other_teacher.h - --teacher: another model in the untouched one's place. */
#ifndef PARE_API_OTHER_TEACHER_H
#define PARE_API_OTHER_TEACHER_H

#include "frontend/model.h"
#include "passes/hidden.h"
#include "runtime/data.h"

/* A model to learn from, on the same data as its student. */
typedef struct PareOtherTeacher {
  PareModel *model;       /* its outputs are those that the student's follow, in their order */
  bool pairs;             /* what they say of a sample depends on the others of the batch (aside.h) */
  size_t nhidden;
  const uint32_t *hidden; /* by state of the student: id of the teacher's value; NULL where theirs do not fit */
} PareOtherTeacher;

/* Loads the model, and finds what of it the student (unbound), but for what `aside` leaves out, follows. Outputs are
 * matched by name, or where not all names are there by their order; hidden states by their place between the first
 * and the last. PARE_DATA where inputs or outputs differ. Lists live in a. Pair: pare_model_free for `model`, also
 * after an error. */
PARE_MUST_USE PareStatus pare_other_teacher_open(PareCtx *c, PareArena *a, const char *path, const PareGraph *student,
                                                 const bool *aside, const PareHiddens *states, const PareData *data,
                                                 PareOtherTeacher *out);

#endif
