/* tokenizer.h - from text to a model's ids: WordPiece (vocab.txt), byte-level BPE (vocab.json and merges.txt), or
 * either as a tokenizer.json, with the special tokens that the model wants around its texts. */
#ifndef PARE_RUNTIME_TOKENIZER_H
#define PARE_RUNTIME_TOKENIZER_H

#include "runtime/bpe.h"
#include "runtime/wordpiece.h"

/* What stands in a sample, in order. */
typedef struct PareTemplatePiece {
  enum { PARE_PIECE_TOKEN, PARE_PIECE_TEXT, PARE_PIECE_PAIR } what;
  int64_t id, type; /* the token; its type, or that of the text's tokens */
} PareTemplatePiece;

typedef struct PareTemplate {
  size_t n;
  PareTemplatePiece piece[12];
} PareTemplate;

typedef struct PareTokenizer {
  PareWordpiece *words; /* one of the two */
  PareBpe *bpe;
  int64_t pad;
  PareTemplate single, pair; /* for one text, for two */
} PareTokenizer;

/* Reads `vocab`, told by its name and what is in it. `merges` (NULL: pare_merges_beside) belongs to a vocab.json;
 * `lower_case` to a vocab.txt. PARE_IO; PARE_FORMAT naming file and line, or what a tokenizer.json asks for that is not
 * here. Lives in a. */
PARE_MUST_USE PareStatus pare_tokenizer_load(PareCtx *c, PareArena *a, const char *vocab, const char *merges,
                                             bool lower_case, PareTokenizer *out);

/* Appends the tokens of n bytes of UTF-8, without those of the template. `word`: it is a word of a sentence, not one's
 * beginning. They grow in `a`, which is not c->scratch. */
PARE_MUST_USE PareStatus pare_tokenizer_encode(PareCtx *c, const PareTokenizer *t, PareArena *a, const char *text,
                                               size_t n, bool word, PareTokens *out);

/* Cuts two lists so that together they hold at most `room` ids: the longer one
 * first, then both. n2 is 0 when there is no second text. */
void pare_tokens_truncate(size_t room, size_t *n1, size_t *n2);

/* Tokens of a template that are not the texts'. */
size_t pare_template_special(const PareTemplate *t);

#endif
