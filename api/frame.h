/* frame.h - what a file holds beside the numbers of its weights and goes with nodes: the nodes, the names and shapes
 * of what only they read, and what is declared of what they make. */
#ifndef PARE_API_FRAME_H
#define PARE_API_FRAME_H

#include "frontend/model.h"

typedef struct PareFrame PareFrame;

/* Of the model's file, which stays open. Lives in a. */
PARE_MUST_USE PareStatus pare_frame_read(PareCtx *c, PareArena *a, const PareModel *m, const PareFrame **out);
/* Bytes of it that go with nodes of g, a graph of that file: gone[] by id. What pare_cut_weights counts is not among
 * them. */
PARE_MUST_USE PareStatus pare_frame_gone(PareCtx *c, const PareFrame *f, const PareGraph *g, const bool *gone,
                                         double *bytes);

#endif
