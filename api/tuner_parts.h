/* tuner_parts.h - what the loop's files share: what may go (choose.c), what is followed (choose_teacher.c), the program
 * on what is left (stage.c), what a run is fed (batches.c), what it gave (flights.c), the order of things (tuner.c). */
#ifndef PARE_API_TUNER_PARTS_H
#define PARE_API_TUNER_PARTS_H

#include "api/tuner.h"

/* Sets pruned[] by options and plan, makes keep[] and score[], and hangs the leaves' flags in. PARE_TARGET when
 * nothing may go. */
PARE_MUST_USE PareStatus pare_tuner_choose(PareTuner *t);
/* Do scores decide about dimension `dim`? Not where somebody said what stays, nor when it went with a whole branch. */
bool pare_tuner_ranks(const PareTuner *t, bool *const *keep, size_t dim);
/* pare_tuner_count by other flags. */
void pare_tuner_count_in(const PareTuner *t, bool *const *keep, int64_t *all, int64_t *dead);

/* What is taken from the untouched model or --teacher (--distill), how much of the loss it has (--mu), and how it is run.
 * Scores alone need its outputs only. */
PARE_MUST_USE PareStatus pare_tuner_choose_teacher(PareTuner *t);

/* That floors and multiples let as much go as is asked for: else the log tells, or PARE_TARGET where they let nothing go. */
PARE_MUST_USE PareStatus pare_tuner_check_room(PareTuner *t);
/* Kills groups by their scores, to a share, 0 to 1, of what shall go in the end. */
PARE_MUST_USE PareStatus pare_tuner_prune(PareTuner *t, double share);

/* Compiles the program on what the leaves' flags leave and fills it from the host. */
PARE_MUST_USE PareStatus pare_tuner_enter_stage(PareTuner *t);
/* Brings scores and params to the host; the leaves' flags are still the program's. */
PARE_MUST_USE PareStatus pare_tuner_save_stage(PareTuner *t);
/* The same, and ends the program, if there is one. */
PARE_MUST_USE PareStatus pare_tuner_leave_stage(PareTuner *t);
PARE_MUST_USE PareStatus pare_tuner_carry_scores(PareTuner *t, bool to_program);
/* The leaves show these flags, keep[] or stage_keep[], whose they are between two calls. */
void pare_tuner_show_leaves(PareTuner *t, bool *const *flags);
/* The leaves' flags become those of keep[]. */
void pare_tuner_set_leaves(PareTuner *t);
/* Zeroes the masks of groups that died since the program was made; those of others are one. */
PARE_MUST_USE PareStatus pare_tuner_update_masks(PareTuner *t);

/* --rank auto (ranks.c): runs the untuned model on some batches, and starts the adapters with ranks by what their
 * gradients hold. The program is gone afterwards. */
PARE_MUST_USE PareStatus pare_tuner_choose_ranks(PareTuner *t);
/* Starts the adapters anew with ranks of their own, by adapter; `rank` stays borrowed. */
PARE_MUST_USE PareStatus pare_tuner_take_ranks(PareTuner *t, const int64_t *rank);

/* --granularity other than structured (elements.c): which weights lose elements, PARE_TARGET when there are none. */
PARE_MUST_USE PareStatus pare_tuner_choose_elements(PareTuner *t);
/* These do nothing where no elements go: the scores to the host or to the program, and the masks to the program. */
PARE_MUST_USE PareStatus pare_tuner_carry_elements(PareTuner *t, bool to_program);
PARE_MUST_USE PareStatus pare_tuner_mask_elements(PareTuner *t);
/* Random scores. */
void pare_tuner_draw_elements(PareTuner *t);
/* Kills elements to a share, 0 to 1, of what shall go in the end. */
PARE_MUST_USE PareStatus pare_tuner_prune_elements(PareTuner *t, double share);
void pare_tuner_count_elements(const PareTuner *t, int64_t *all, int64_t *dead);

/* Forward and backward of one run, for the scores too if it is to be scored. */
PARE_MUST_USE PareStatus pare_tuner_run_batch(PareTuner *t, int64_t run, bool score, PareFlight f);
/* An update at a rate of zero: clears the gradients, and leaves parameters as they are, but not AdamW's moments. */
PARE_MUST_USE PareStatus pare_tuner_clear(PareTuner *t);

/* Fills the inputs of run number `run`: samples are places in an endless sequence of shuffled epochs. */
PARE_MUST_USE PareStatus pare_tuner_feed(PareTuner *t, int64_t run);

/* Makes ready to look at runs of a new program. */
PARE_MUST_USE PareStatus pare_tuner_open_flights(PareTuner *t);
/* What the batch that is fed now is measured against: `bytes` that stay as they are until it is pushed, or the teacher
 * is run again. */
void pare_tuner_keep_truth(PareTuner *t, const void *truth, size_t bytes);
/* The same for the teacher's first output; `padding` is 1 by place along its axes 0 and 1, or NULL, and is copied. */
void pare_tuner_keep_reference(PareTuner *t, const void *truth, size_t bytes, const uint8_t *padding);
/* The program has run, and the results were fetched: they are looked at as soon as the device is no more than
 * pare_program_ahead runs ahead, on a host at once. PARE_GATE when a loss is not a number. */
PARE_MUST_USE PareStatus pare_tuner_take_off(PareTuner *t, PareFlight f);
/* Looks at all runs, and tells of the last step. */
PARE_MUST_USE PareStatus pare_tuner_land_all(PareTuner *t);
/* Tells the hooks of the last step that was looked at, if they do not know of it. */
void pare_tuner_tell(PareTuner *t);

#endif
