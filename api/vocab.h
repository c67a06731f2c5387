/* vocab.h - a vocabulary that is cut by the user's word (--prune vocab): which tokens
 * stay, samples in the new ids, and the shortened vocabulary file. */
#ifndef PARE_API_VOCAB_H
#define PARE_API_VOCAB_H

#include "ir/dims.h"
#include "pare/pare.h"
#include "runtime/data.h"

typedef struct PareVocab {
  const PareDims *dims; /* which inputs hold ids */
  int64_t count, left;  /* tokens before and after */
  bool *keep;           /* [count] */
  int64_t *new_id;      /* [count]: of [UNK] for what goes, or -1 */
  int64_t *old_id;      /* [left] */
  bool outputs;         /* an output is over the vocabulary */
  bool labels;          /* so are the labels */
} PareVocab;

/* Reads --vocab-keep, or takes what the plan says, and notes it as `given` in the
 * dimensions of kind vocab. *out is NULL where the class is not asked for. Errors:
 * PARE_TARGET with the reason when the model has no vocabulary that can be cut;
 * PARE_DATA naming file and line. Lives in `a`. */
PARE_MUST_USE PareStatus pare_vocab_read(PareCtx *c, PareArena *a, const PareCompressOptions *o, PareDims *d,
                                         PareVocab **out);

/* The samples in new ids, *out; tokens that went are [UNK]. Where nobody knows [UNK]
 * the samples that hold such tokens are left out, of *raw too, which has the old ids.
 * The log says how many. Pair: pare_data_free for both. */
PARE_MUST_USE PareStatus pare_vocab_renumber(PareCtx *c, const PareVocab *v, const PareData *d, PareData **out,
                                             PareData **raw);
/* From new ids back to old ones. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_vocab_restore(PareCtx *c, const PareVocab *v, const PareData *d, PareData **out);

/* Writes the lines of --vocab that stay to OUT.vocab.txt; nothing without --vocab. */
PARE_MUST_USE PareStatus pare_vocab_write(PareCtx *c, const PareVocab *v, const char *vocab, const char *out);

#endif
