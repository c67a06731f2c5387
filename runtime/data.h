/* data.h - the user's samples: named arrays that share axis 0, the order in
 * which an epoch visits them, and checked copies of chosen samples. Format
 * readers (npz.h, images.h, idx.h, text.h) make a PareData. */
#ifndef PARE_RUNTIME_DATA_H
#define PARE_RUNTIME_DATA_H

#include "base/ctx.h"
#include "ir/types.h"

typedef struct PareArray {
  const char *name;
  PareType type;    /* dim[0] counts samples; row-major */
  const void *data; /* 64-aligned, in the arena of its PareData */
} PareArray;

typedef struct PareData {
  PareArena *arena;  /* owns names and elements; readers allocate in it */
  const char *file;  /* where they came from: errors name it; may be NULL */
  int64_t nsamples;  /* 0 until the first array is added */
  PareArray *arrays; /* in file order */
  size_t narrays, cap;
} PareData;

/* Empty data from `file` (copied; may be NULL). Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_data_new(PareCtx *c, const char *file, PareData **out);
void pare_data_free(PareData *d); /* NULL is fine */

/* Reads `path`, an .npz; says how to make one from anything else. The rest of
 * this project sees data through this. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_data_load(PareCtx *c, const char *path, PareData **out);

/* A failure about the file of these data. */
#define pare_data_error(c, d, code, ...) \
  pare_diag_set(&(c)->diag, (code), (d)->file, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

/* Takes `data`, 64-aligned and in d->arena, as an array; the name is copied.
 * PARE_DATA when the name is taken, the rank is 0, there are no samples, or
 * their number differs from that of the arrays before. */
PARE_MUST_USE PareStatus pare_data_add(PareCtx *c, PareData *d, const char *name, const PareType *type,
                                       const void *data);
/* NULL when there is none of that name. */
const PareArray *pare_data_find(const PareData *d, const char *name);

/* The sample that stands at `place` of the epoch, 0 <= place < n: a permutation
 * of [0, n) for each (seed, epoch), and a function of its arguments alone, so a
 * resumed run needs no history. Swap-or-not shuffle (Hoang, Morris & Rogaway,
 * CRYPTO 2012). */
int64_t pare_data_order(uint64_t seed, int64_t epoch, int64_t n, int64_t place);

typedef struct PareSplit {
  int64_t *train, *held; /* ascending sample numbers, disjoint, all of them together */
  int64_t ntrain, nheld;
} PareSplit;

/* Holds out a tenth (rounded up), chosen by the seed; the lists are in `a`.
 * PARE_DATA when there are fewer than two samples. */
PARE_MUST_USE PareStatus pare_data_split(PareCtx *c, PareArena *a, const PareData *d, uint64_t seed, PareSplit *out);

/* Copies samples index[0..count) of `a` into `out` as `want`. Integers and BOOL
 * become integers or BOOL where the value fits; floats become floats, rounded
 * to nearest, a finite value never infinite; U8, I8 and BOOL become floats.
 * Anything else, or a value that does not fit, is PARE_DATA naming array and
 * types. Indices must be in range. */
PARE_MUST_USE PareStatus pare_data_batch(PareCtx *c, const PareData *d, const PareArray *a, const int64_t *index,
                                         int64_t count, PareDtype want, void *out);

/* The same as f32, whatever the type; rounded where it has more digits. PARE_DATA where a finite value is too large. */
PARE_MUST_USE PareStatus pare_data_numbers(PareCtx *c, const PareData *d, const PareArray *a, const int64_t *index,
                                           int64_t count, float *out);
/* Whether all elements are 0 or 1. */
bool pare_data_marks(const PareArray *a);

/* PARE_DATA naming array and sample when a float is NaN or infinite. */
PARE_MUST_USE PareStatus pare_data_check_finite(PareCtx *c, const PareData *d, const PareArray *a);
/* PARE_DATA naming array and sample when an integer is not in [0, end): labels
 * beyond the classes, token ids beyond the vocabulary. `what` names the limit:
 * "the model has". */
PARE_MUST_USE PareStatus pare_data_check_range(PareCtx *c, const PareData *d, const PareArray *a, int64_t end,
                                               const char *what);
/* The same, but negative ones, which say "not this", may be there. */
PARE_MUST_USE PareStatus pare_data_check_below(PareCtx *c, const PareData *d, const PareArray *a, int64_t end,
                                               const char *what);

/* Whether a path ends in ".tsv", say. */
bool pare_data_has_suffix(const char *path, const char *suffix);
/* Bytes that data may take by default: 16 GiB, or the memory that is available
 * now where that is less. Readers check announced sizes against it. */
uint64_t pare_data_memory_limit(void);
/* Room for the elements of `type` in d->arena, checked against `limit` first. */
PARE_MUST_USE PareStatus pare_data_room(PareCtx *c, PareData *d, const char *name, const PareType *type,
                                        uint64_t limit, void **out);

#endif
