/* readers.h - the weights that read what groups leave behind, and the second moments of their inputs on samples. Rows are
 * weighed by how much the outputs feel them, so that padding and what nobody reads decide nothing. */
#ifndef PARE_API_READERS_H
#define PARE_API_READERS_H

#include "api/tuner.h"
#include "runtime/least_squares.h"

/* A weight whose inputs lose groups. Sizes are those of the model as it is. */
typedef struct PareReader {
  size_t adapter;
  const PareAdapter *a;
  PareAxis *axis; /* of its inputs */
  int64_t k, n;
  int64_t nkept, *kept, nlost, *lost; /* positions among its inputs */
  const int64_t *row, *col;           /* their places in the uncut weight */
  const PareValue *w;                 /* with its adapter, f32; NULL: it has none of that kind */
  size_t watched;                     /* number of its first site's result among the watched; inputs come behind all */
  bool bias;
  double alpha;
  PareSecondMoments *moments;
} PareReader;

typedef struct PareReaders {
  PARE_VEC(PareReader) at;
  PARE_VEC(uint32_t) result, input; /* by site, over all readers: value ids */
  PareGraph *model;                 /* as it is, which pare_readers_look makes */
  int64_t nsamples;                 /* to look at: the first that the seed draws of the tuner's */
} PareReaders;

/* The model on the host, cut to what the leaves' flags say, with all that was tuned and reconstructed. Lives in a. */
PARE_MUST_USE PareStatus pare_readers_model(PareTuner *t, PareArena *a, PareGraph **out);
/* Weights of the model as it is whose inputs lose groups now (by keep[]) or, with `may`, that may do so, and what they
 * read on the first 512 of out->nsamples samples (the caller sets it), the same ones for the same seed. What is found
 * lives in a; pair: pare_readers_free, whatever came of it. */
PARE_MUST_USE PareStatus pare_readers_look(PareTuner *t, PareArena *a, bool may, PareReaders *out);
void pare_readers_free(PareReaders *r);
/* Sample number i of those that the seed draws from the tuner's. */
int64_t pare_readers_sample(const PareTuner *t, int64_t i);
/* Element [k, n] of a reader's weight, as the product reads it. */
double pare_reader_weight(const PareReader *r, int64_t k, int64_t n);

#endif
