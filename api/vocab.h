/* vocab.h - a vocabulary that is cut by the user's word (--prune vocab): which tokens
 * stay, samples in the new ids, and the shortened files that number them. */
#ifndef PARE_API_VOCAB_H
#define PARE_API_VOCAB_H

#include "base/file.h"
#include "ir/dims.h"
#include "pare/pare.h"
#include "runtime/data.h"
#include "runtime/token_file.h"

typedef struct PareVocab {
  const PareDims *dims; /* which inputs hold ids */
  int64_t count, left;  /* tokens before and after */
  bool *keep;           /* [count] */
  int64_t *new_id;      /* [count]: of [UNK] for what goes, or -1 */
  int64_t *old_id;      /* [left] */
  bool outputs;         /* an output is over the vocabulary */
  bool labels;          /* so are the labels */
  const char *unknown;  /* the token that stands for what goes; NULL: nobody knows one */
  /* with --vocab */
  PareTokensAdded added; /* beside what was asked for */
  PareTokenTexts texts;
  PareOut out[2];        /* of each text, from pare_vocab_stage on */
  const char *path[2];   /* from pare_vocab_place on */
} PareVocab;

/* Reads --vocab-keep, or takes what the plan says, and notes it as `given` in the
 * dimensions of kind vocab; reads --vocab, adds what its tokenizer needs, and makes its
 * new texts. *out is NULL where the class is not asked for. Errors:
 * PARE_TARGET with the reason when the model has no vocabulary that can be cut, or when a
 * plan lets go what the tokenizer needs; PARE_DATA and PARE_FORMAT naming file and line.
 * Lives in `a`. */
PARE_MUST_USE PareStatus pare_vocab_read(PareCtx *c, PareArena *a, const PareCompressOptions *o, PareDims *d,
                                         PareVocab **out);

/* The samples in new ids, *out; tokens that went are v->unknown. Where there is none
 * the samples that hold such tokens are left out, of *raw too, which has the old ids.
 * The log says how many. Pair: pare_data_free for both. */
PARE_MUST_USE PareStatus pare_vocab_renumber(PareCtx *c, const PareVocab *v, const PareData *d, PareData **out,
                                             PareData **raw);
/* From new ids back to old ones. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_vocab_restore(PareCtx *c, const PareVocab *v, const PareData *d, PareData **out);

/* Where the files of --vocab will go, which is beside `out`: OUT.vocab.txt and so on. Errors: as pare_place_check. */
PARE_MUST_USE PareStatus pare_vocab_place(PareCtx *c, PareArena *a, PareVocab *v, const PareCompressOptions *o,
                                          const char *out);
/* Writes them under temporary names; puts them in place; removes what was not. The last is fine at any time, and on
 * NULL. */
PARE_MUST_USE PareStatus pare_vocab_stage(PareCtx *c, PareArena *a, PareVocab *v);
PARE_MUST_USE PareStatus pare_vocab_commit(PareCtx *c, PareVocab *v);
void pare_vocab_abort(PareVocab *v);

#endif
