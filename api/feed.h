/* feed.h - from samples to a program's inputs. */
#ifndef PARE_API_FEED_H
#define PARE_API_FEED_H

#include "runtime/data.h"
#include "runtime/program.h"

/* Gives the unknown dims of g's inputs the data's: axis 0 is the batch where it is
 * dynamic (else what the model has fixed, usually 1), other axes take the data's
 * lengths. Then binds all shapes. *batch: samples a run takes. Errors (PARE_DATA)
 * name the array and what the model wants; arrays that the model has no input for
 * are logged. */
PARE_MUST_USE PareStatus pare_feed_bind(PareCtx *c, PareGraph *g, const PareData *d, int64_t batch, int64_t *out);

/* Copies samples into the program's input buffers; `count` samples, the rest of
 * the batch repeats the last. Inputs of ours ("pare.") are left alone. */
PARE_MUST_USE PareStatus pare_feed_fill(PareCtx *c, const PareGraph *g, const PareProgram *p, const PareData *d,
                                        const int64_t *samples, int64_t count, int64_t batch);

#endif
