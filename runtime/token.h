/* token.h - what every tokenizer makes. */
#ifndef PARE_RUNTIME_TOKEN_H
#define PARE_RUNTIME_TOKEN_H

#include <stdint.h>

#include "base/ctx.h"

typedef struct PareToken {
  int64_t id;
  size_t from, to; /* the bytes of the text that it stands for, those that were stripped or folded away included */
} PareToken;
typedef PARE_VEC(PareToken) PareTokens;

/* A line of a vocabulary; the token is borrowed. */
typedef struct PareVocabEntry {
  const char *token;
  int64_t id;
} PareVocabEntry;

#endif
