/* task.h - what a model is asked to do, told by the shapes of labels and outputs. Loss and metric both go by it. */
#ifndef PARE_PASSES_TASK_H
#define PARE_PASSES_TASK_H

#include "ir/ir.h"

typedef enum PareTaskKind {
  PARE_TASK_CLASSES, /* integers [N, ...] for an output [N, ..., C > 1]: the class of a sentence, or of each token */
  PARE_TASK_NUMBERS, /* floats of the output's shape, or numbers [N] for an output [N, 1] */
  PARE_TASK_MARKS,   /* 0 and 1 alone, for an output as above whose numbers are marks (classes.h): which of C hold */
  PARE_TASK_SPANS,   /* integers [N, 2], the first and the last token, for two outputs [N, L] or one [N, L, 2] */
} PareTaskKind;

typedef struct PareTask {
  PareTaskKind kind;
  size_t output; /* number of the output; SPANS: of the first tokens' scores, */
  size_t last;   /* and of the last tokens': the same where one output has both. Else `output` too */
} PareTask;

/* What somebody says that labels of an output's shape are (--loss mse, bce), whatever they look like. */
typedef enum PareLabelsAs { PARE_LABELS_AS_THEY_LOOK, PARE_LABELS_AS_NUMBERS, PARE_LABELS_AS_MARKS } PareLabelsAs;

/* The labels of some data. */
typedef struct PareLabels {
  PareType type; /* rank 0: there are none */
  bool marks;    /* all are 0 or 1 */
  PareLabelsAs as;
} PareLabels;

/* Marks by id the values of a bound graph that follow from what its inputs hold, not from their shapes alone. */
void pare_mark_varying(const PareGraph *g, bool *varies);

/* Do losses and metrics look at output i of g? Not at integers, nor at what `aside`, by output, leaves out (NULL:
 * nothing). */
bool pare_is_followed(const PareGraph *g, const bool *aside, size_t i);

/* Numbers that belong together in an output, whose axis 0 counts samples: those along its last axis, or one. */
int64_t pare_task_row(const PareType *output);

/* The task of labels and the outputs of a bound graph: the first that is followed and fits. Sizes of axis 0 are not
 * compared. PARE_DATA naming `file` (may be NULL), the labels' shape and every output's where none fits. */
PARE_MUST_USE PareStatus pare_task_find(PareCtx *c, const char *file, const PareLabels *labels, const PareGraph *g,
                                        const bool *aside, PareTask *out);

/* The input whose zeros say which places along axis 1 of an output [N, L, ...] are padding: integers or truth values
 * 'attention_mask' [N, L]; NULL where there is none. Such places count neither in distillation nor where models are
 * compared. */
PareValue *pare_task_padding(const PareGraph *g, const PareValue *output);

#endif
