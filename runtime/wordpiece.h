/* wordpiece.h - BERT's tokenizer (Devlin et al. 2018): Unicode clean-up, words,
 * then the longest pieces of a vocabulary. The same ids as Hugging Face's
 * `tokenizers` gives; but that has Unicode 8's marks, punctuation and format
 * characters, and this has those of utf8proc (some 500 later characters). */
#ifndef PARE_RUNTIME_WORDPIECE_H
#define PARE_RUNTIME_WORDPIECE_H

#include <stdint.h>

#include "base/ctx.h"

typedef struct PareWordpiece PareWordpiece;
typedef PARE_VEC(int64_t) PareIds;

/* Reads a vocab.txt: one token a line, the line number is the id. Without
 * `lower_case`, accents stay too. Needs [PAD], [UNK], [CLS] and [SEP].
 * Errors: PARE_IO, PARE_FORMAT naming the vocabulary. Lives in `a`. */
PARE_MUST_USE PareStatus pare_wordpiece_load(PareCtx *c, PareArena *a, const char *vocab, bool lower_case,
                                             PareWordpiece **out);

/* Appends the ids of n bytes of UTF-8 text; what is not UTF-8 is skipped. The
 * tokens [PAD] [UNK] [CLS] [SEP] [MASK] written out in the text are themselves.
 * The ids grow in `a`, which is not c->scratch. */
PARE_MUST_USE PareStatus pare_wordpiece_encode(PareCtx *c, const PareWordpiece *w, PareArena *a, const char *text,
                                               size_t n, PareIds *ids);

/* Cuts two lists so that together they hold at most `room` ids: the longer one
 * first, then both. n2 is 0 when there is no second text. */
void pare_wordpiece_truncate(size_t room, size_t *n1, size_t *n2);

int64_t pare_wordpiece_pad(const PareWordpiece *w);
int64_t pare_wordpiece_cls(const PareWordpiece *w);
int64_t pare_wordpiece_sep(const PareWordpiece *w);

#endif
