/* token_file.h - the file that numbers a model's tokens, and the same file for fewer of them: a WordPiece's vocab.txt,
 * the vocab.json of byte-level BPE with its merges.txt, or a tokenizer.json. */
#ifndef PARE_RUNTIME_TOKEN_FILE_H
#define PARE_RUNTIME_TOKEN_FILE_H

#include <jansson.h>

#include "base/file.h"
#include "base/map.h"
#include "runtime/merges.h"

/* Why a token stays that nobody named: it is what unknown text becomes, pads, or stands around a text; it is one of the
 * bytes, of which every text can be spelled; merges make it on the way to one that stays; it has the lowest score, by
 * which Unigram prices the characters that it does not know. */
#define PARE_NEEDS(X)             \
  X(SPECIAL, special, "special")  \
  X(BYTE, bytes, "bytes")         \
  X(PART, parts, "parts of merges") \
  X(LOWEST, lowest, "of the lowest score")
typedef enum PareNeed {
#define X(ID, name, text) PARE_NEED_##ID,
  PARE_NEEDS(X)
#undef X
  PARE_NEED_COUNT
} PareNeed;

const char *pare_need_name(PareNeed n); /* for scripts */
const char *pare_need_text(PareNeed n); /* for people */

typedef struct PareTokenNeed {
  int64_t id;
  PareNeed why;
} PareTokenNeed;

typedef struct PareTokenFile {
  const char *path;
  int64_t rows;       /* of the model's table: ids are below */
  PareMap ids;        /* by token */
  const char **token; /* [rows]; NULL: no token has that id */
  int64_t unknown;    /* id of what text becomes that has no token; -1: there is none */
  bool spells;        /* such text falls into bytes instead */
  PARE_VEC(PareTokenNeed) needs;
  PARE_VEC(PareMergeIds) merges;
  const char *prefix, *suffix; /* of BPE's symbols behind a word's first, and of its last; "" */
  PARE_VEC(int64_t) beyond;    /* ids of added tokens that the model's own vocabulary does not have, in their order */
  /* what it was read from */
  PareFile file, merges_file; /* the latter of a vocab.json */
  const char *merges_path;
  json_t *root; /* NULL: lines */
} PareTokenFile;

/* Reads `path`, told by its name and what is in it. Errors: PARE_IO; PARE_FORMAT naming file and place, and what a
 * tokenizer.json holds that is not known here; PARE_DATA where an id has no row. Lives in a; pair, whatever the status:
 * pare_token_file_close. */
PARE_MUST_USE PareStatus pare_token_file_open(PareCtx *c, PareArena *a, const char *path, int64_t rows,
                                              PareTokenFile *out);
void pare_token_file_close(PareTokenFile *f); /* a zeroed one is fine */

/* What stayed beside what was asked for. */
typedef struct PareTokensAdded {
  int64_t n[PARE_NEED_COUNT], first[PARE_NEED_COUNT]; /* how many, and the lowest id of them */
} PareTokensAdded;

/* Sets in keep [rows] what the tokenizer cannot do without, and what it takes so that a text whose tokens all stay is
 * cut into the same ones as before. */
PARE_MUST_USE PareStatus pare_token_file_complete(PareCtx *c, const PareTokenFile *f, bool *keep, PareTokensAdded *added);

/* A file's new text. */
typedef struct PareTokenText {
  const char *name; /* vocab.txt, vocab.json, merges.txt, tokenizer.json */
  const char *text; /* [n] */
  size_t n;
} PareTokenText;

typedef struct PareTokenTexts {
  size_t n;
  PareTokenText at[2];
  int64_t merges, merges_left;
} PareTokenTexts;

/* The file for what stays, which is complete; id i becomes new_id[i], in the old order. What neither goes nor is numbered
 * anew stays as it is written. Error: PARE_DATA where such a file cannot say these ids. Lives in a. */
PARE_MUST_USE PareStatus pare_token_file_cut(PareCtx *c, PareArena *a, const PareTokenFile *f, const bool *keep,
                                             const int64_t *new_id, PareTokenTexts *out);

/* The merges of a vocab.json: what is called like it but for merges.txt (c.vocab.json: c.merges.txt), where that is
 * there, else merges.txt beside it. NULL when memory is out. Lives in a. */
const char *pare_merges_beside(PareArena *a, const char *vocab);

#endif
