/* token_file_parts.h - between the files that make a PareTokenFile. */
#ifndef PARE_RUNTIME_TOKEN_FILE_PARTS_H
#define PARE_RUNTIME_TOKEN_FILE_PARTS_H

#include "runtime/token_file.h"

typedef struct PareTokenReader {
  PareCtx *c;
  PareArena *a;
  PareTokenFile *f;
} PareTokenReader;

typedef struct PareTokenCut {
  PareCtx *c;
  PareArena *a;
  const PareTokenFile *f;
  const bool *keep;
  const int64_t *new_id;
  PareTokenTexts *out;
} PareTokenCut;

/* Of a reader or a cut. */
#define pare_token_error(r, code, ...) \
  pare_diag_set(&(r)->c->diag, (code), (r)->f->path, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

/* The id has a row. */
PARE_MUST_USE PareStatus pare_token_check(PareTokenReader *r, const char *token, int64_t id);
/* `token`, which is kept, has that id. */
PARE_MUST_USE PareStatus pare_token_add(PareTokenReader *r, const char *token, int64_t id);
/* It stays whatever is asked for; -1: nothing does. */
PARE_MUST_USE PareStatus pare_token_need(PareTokenReader *r, int64_t id, PareNeed why);
/* GPT-2's characters for the 256 bytes stay, wherever in a word they stand. */
PARE_MUST_USE PareStatus pare_token_need_bytes(PareTokenReader *r);
/* The next merge; `where` is its file. */
PARE_MUST_USE PareStatus pare_token_merge(PareTokenReader *r, const char *where, const char *left, const char *right);
/* The same of "left right", n bytes. */
PARE_MUST_USE PareStatus pare_token_merge_text(PareTokenReader *r, const char *where, const char *text, size_t n);

/* Of f->root, whose text is f->file; a vocab.json lacks its merges and what they need. */
PARE_MUST_USE PareStatus pare_token_file_read_json(PareTokenReader *r);
PARE_MUST_USE PareStatus pare_token_file_cut_json(const PareTokenCut *t);
/* The root is the vocabulary itself (vocab.json), not a tokenizer. */
bool pare_token_file_is_plain(const PareTokenFile *f);
/* All three of its tokens stay. */
bool pare_merge_stays(const PareMergeIds *m, const bool *keep);

#endif
