/* tokenizer_json.h - the tokenizer.json of Hugging Face's library, and the vocab.json of older ones. */
#ifndef PARE_RUNTIME_TOKENIZER_JSON_H
#define PARE_RUNTIME_TOKENIZER_JSON_H

#include "runtime/tokenizer.h"

/* As pare_tokenizer_load, of a file of JSON. */
PARE_MUST_USE PareStatus pare_tokenizer_load_json(PareCtx *c, PareArena *a, const char *path, const char *merges,
                                                  PareTokenizer *out);

#endif
