/* bpe.h - byte-level BPE (Radford et al. 2019: GPT-2, RoBERTa): words by GPT-2's pattern, bytes as characters, and the
 * pairs of a list merged in its order. The same ids as Hugging Face's `tokenizers` gives; letters and numbers are
 * utf8proc's. */
#ifndef PARE_RUNTIME_BPE_H
#define PARE_RUNTIME_BPE_H

#include "runtime/token.h"

typedef struct PareBpe PareBpe;

/* A token that is looked for in the text before anything else. */
typedef struct PareAddedToken {
  const char *text;
  int64_t id;
  bool lstrip, rstrip; /* takes the white space before or behind it along */
} PareAddedToken;

typedef struct PareMerge {
  const char *left, *right;
} PareMerge;

/* What a tokenizer is made of; strings are borrowed for as long as it lives. */
typedef struct PareBpeParts {
  size_t nvocab, nmerges, nadded;
  const PareVocabEntry *vocab; /* bytes written as GPT-2 does: a space is U+0120 */
  const PareMerge *merges;     /* in their order */
  const PareAddedToken *added;
  bool prefix_space; /* before text that does not start with one */
} PareBpeParts;

/* `where` names merge i in a message: a file, and the line that merge 0 is on (0: no lines).
 * PARE_FORMAT when a merge names a token that is not in the vocabulary. Lives in a. */
PARE_MUST_USE PareStatus pare_bpe_make(PareCtx *c, PareArena *a, const PareBpeParts *parts, const char *file,
                                       int64_t line, PareBpe **out);

enum { PARE_BYTES = 256, PARE_BYTE_TEXT = 5 };

/* GPT-2's bytes_to_unicode: how the vocabulary writes a byte. Printable ones are themselves, the others U+0100 and on,
 * in their order. */
void pare_bpe_alphabet(char text[PARE_BYTES][PARE_BYTE_TEXT]);

/* -1 when there is none. */
int64_t pare_bpe_id(const PareBpe *b, const char *token);

/* Appends the tokens of n bytes of UTF-8 text, which begins with a space for its sake where `word` is set or the
 * tokenizer says so. Bytes that the vocabulary does not have are skipped. They grow in `a`, which is not c->scratch. */
PARE_MUST_USE PareStatus pare_bpe_encode(PareCtx *c, const PareBpe *b, PareArena *a, const char *text, size_t n,
                                         bool word, PareTokens *out);

#endif
