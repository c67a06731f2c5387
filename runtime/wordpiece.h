/* wordpiece.h - BERT's tokenizer (Devlin et al. 2018): Unicode clean-up, words,
 * then the longest pieces of a vocabulary. The same ids as Hugging Face's
 * `tokenizers` gives; but that has Unicode 8's marks, punctuation and format
 * characters, and this has those of utf8proc (some 500 later characters). */
#ifndef PARE_RUNTIME_WORDPIECE_H
#define PARE_RUNTIME_WORDPIECE_H

#include "runtime/token.h"

typedef struct PareWordpiece PareWordpiece;

/* Reads a vocab.txt: one token a line, the line number is the id. Without
 * `lower_case`, accents stay too. Needs [PAD], [UNK], [CLS] and [SEP].
 * Errors: PARE_IO, PARE_FORMAT naming the vocabulary. Lives in `a`. */
PARE_MUST_USE PareStatus pare_wordpiece_load(PareCtx *c, PareArena *a, const char *vocab, bool lower_case,
                                             PareWordpiece **out);

/* The same of a vocabulary that was read elsewhere, from `path`; the entries' tokens are kept. */
PARE_MUST_USE PareStatus pare_wordpiece_make(PareCtx *c, PareArena *a, const char *path, size_t n,
                                             const PareVocabEntry *vocab, bool lower_case, PareWordpiece **out);

/* Appends the tokens of n bytes of UTF-8 text; what is not UTF-8 is skipped. The
 * tokens [PAD] [UNK] [CLS] [SEP] [MASK] written out in the text are themselves.
 * They grow in `a`, which is not c->scratch. */
PARE_MUST_USE PareStatus pare_wordpiece_encode(PareCtx *c, const PareWordpiece *w, PareArena *a, const char *text,
                                               size_t n, PareTokens *out);

int64_t pare_wordpiece_pad(const PareWordpiece *w);
int64_t pare_wordpiece_cls(const PareWordpiece *w);
int64_t pare_wordpiece_sep(const PareWordpiece *w);

#endif
