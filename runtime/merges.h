/* merges.h - byte-pair encoding's one rule (Sennrich et al. 2016): of the pairs that stand side by side the one that is
 * earliest in a list becomes one symbol, of equal ones the leftmost, until no pair is in the list. */
#ifndef PARE_RUNTIME_MERGES_H
#define PARE_RUNTIME_MERGES_H

#include <stdint.h>

#include "base/ctx.h"

typedef struct PareMerges PareMerges;

/* The ids of two tokens, and of the one that they become. */
typedef struct PareMergeIds {
  int64_t left, right, made;
} PareMergeIds;

/* Of equal pairs the last one in the list counts. NULL when memory is out. Lives in a. */
PareMerges *pare_merges_new(PareArena *a, size_t n, const PareMergeIds *list);

typedef struct PareSymbol {
  int64_t id; /* -1: gone into the one before it */
  size_t from, to; /* the caller's: the span of a merged symbol is that of its parts */
  int64_t before, behind; /* -1: none */
} PareSymbol;

typedef struct PareMergeCandidate {
  size_t rank;
  int64_t at, made;
} PareMergeCandidate;

/* One word after the other: what grows here is used again. Zeroed but for the first two. */
typedef struct PareMergeWord {
  const PareMerges *merges;
  PareArena *a;
  PARE_VEC(PareSymbol) symbols;
  PARE_VEC(PareMergeCandidate) heap;
  bool keep_made;
  PARE_VEC(int64_t) made; /* what was merged on the way, in its order, where keep_made is set */
} PareMergeWord;

/* The next word begins. */
void pare_merge_begin(PareMergeWord *w);
/* Its next symbol. False when memory is out, here and below. */
bool pare_merge_add(PareMergeWord *w, int64_t id, size_t from, size_t to);
/* Merges all that can be; what is left is symbols.at[0] and on by `behind`. */
bool pare_merge_run(PareMergeWord *w);

#endif
