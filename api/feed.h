/* feed.h - from samples to a program's inputs. */
#ifndef PARE_API_FEED_H
#define PARE_API_FEED_H

#include "runtime/data.h"
#include "runtime/program.h"

/* Checks that the data fit the inputs of g (unbound; a clone of the model) and
 * binds its shapes: axis 0 is *batch where it is dynamic and nothing in the model
 * insists on 1, other axes take the data's lengths. *batch becomes what it is, no more
 * than there are samples. Errors (PARE_DATA) name the array and what the model wants. */
PARE_MUST_USE PareStatus pare_feed_bind(PareCtx *c, PareGraph *g, const PareData *d, int64_t *batch);
/* The same for a batch that may be more than there are samples. */
PARE_MUST_USE PareStatus pare_feed_bind_free(PareCtx *c, PareGraph *g, const PareData *d, int64_t *batch);

/* Copies samples into the program's inputs; `count` samples, the rest of
 * the batch repeats the last. Inputs of ours ("pare.") are left alone. */
PARE_MUST_USE PareStatus pare_feed_fill(PareCtx *c, const PareGraph *g, PareProgram *p, const PareData *d,
                                        const int64_t *samples, int64_t count, int64_t batch);

/* Which places of an output [N, L, ...] of g are padding (pare_task_padding) in these samples: 1 for each of [count, L],
 * in scratch; NULL where all count. */
PARE_MUST_USE PareStatus pare_feed_padding(PareCtx *c, const PareGraph *g, const PareData *d, const PareValue *output,
                                           const int64_t *samples, int64_t count, uint8_t **out);
/* Marks of `n` places as marks of `rows` rows, as many for each place. */
void pare_feed_spread(int64_t n, const uint8_t *place, int64_t rows, uint8_t *out);
/* Which of the `rows` rows that the output has for these samples are padding: 1 for each in `room`, which *out points to
 * then; NULL where all count. */
PARE_MUST_USE PareStatus pare_feed_padded_rows(PareCtx *c, const PareGraph *g, const PareData *d, const PareValue *output,
                                               const int64_t *samples, int64_t count, int64_t rows, uint8_t *room,
                                               const uint8_t **out);

#endif
