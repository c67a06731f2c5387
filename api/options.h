/* options.h - what the pipeline asks about the options of compress beyond their
 * values: the rows are in include/pare/options.def. */
#ifndef PARE_API_OPTIONS_H
#define PARE_API_OPTIONS_H

#include "base/ctx.h"
#include "passes/task.h"
#include "pare/pare.h"

/* Numbers of the rows: PARE_OPTION_ID_sparsity. */
enum PareOptionId {
#define OPTION(field, kind, name, dflt, words, help) PARE_OPTION_ID_##field,
#include "pare/options.def"
#undef OPTION
  PARE_OPTION_COUNT
};

/* The words of --distill, in their order. */
enum { PARE_DISTILL_AUTO, PARE_DISTILL_NONE, PARE_DISTILL_LOGITS, PARE_DISTILL_HIDDEN, PARE_DISTILL_BOTH };

/* Who gave a value; a later one of the list beats an earlier one. */
typedef enum PareOptionSource { PARE_FROM_DEFAULT, PARE_FROM_RECIPE, PARE_FROM_CALLER } PareOptionSource;

/* pare_options_set for one source: PARE_USAGE in a sentence about "--name", or
 * about "name" from a recipe. A weaker source than the present one changes nothing. */
PARE_MUST_USE PareStatus pare_option_take(PareCtx *c, PareCompressOptions *o, const char *name, const char *value,
                                          PareOptionSource source);
PareOptionSource pare_option_source(const PareCompressOptions *o, int id);
const char *pare_option_name(int id);
bool pare_option_is_list(int id);
/* Its present value as it could be given; *quoted tells text from numbers and
 * truth values. NULL when memory is out. Lives in a. */
const char *pare_option_text(PareArena *a, const PareCompressOptions *o, int id, bool *quoted);
/* The word of a WORD option. */
bool pare_option_is(const PareCompressOptions *o, int id, const char *word);
/* PARE_USAGE when two options contradict each other: option_rules.c. */
PARE_MUST_USE PareStatus pare_options_check(PareCtx *c, const PareCompressOptions *o);

/* What --loss says that labels are. */
PareLabelsAs pare_option_labels_as(const PareCompressOptions *o);

/* Whether anything may go. */
bool pare_options_may_cut(const PareCompressOptions *o);

/* --prune as a set of PARE_KIND_BIT; all of them where a plan says what goes. */
unsigned pare_option_kinds(const PareCompressOptions *o);

/* --trainable as a set of PARE_TRAIN_*: as it is listed, and with what other options make of it. */
unsigned pare_option_trainable_listed(const PareCompressOptions *o);
unsigned pare_option_trainable(const PareCompressOptions *o);

/* --target: kind "params", "macs", "bytes" or "latency" and what is left, in (0, 1].
 * False when it is not given. */
bool pare_option_target(const PareCompressOptions *o, const char **kind, double *left);

#endif
