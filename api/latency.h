/* latency.h - what kept sizes mean in milliseconds (--target latency): each class of layers of one shape is cut to a grid
 * of sizes, all its layers at once, and the whole model is timed. What a layer takes is its share of the difference. */
#ifndef PARE_API_LATENCY_H
#define PARE_API_LATENCY_H

#include "api/latency_table.h"
#include "ir/dims.h"

/* Times the model: as it is (`whole`), in milliseconds; or cut as the leaves' flags say, as a share of what the model takes
 * beside it. */
typedef PareStatus PareTimeFn(void *arg, bool whole, PareTiming *out);

typedef struct PareLatencyAsk {
  const char *path; /* of the table; "": none */
  PareLatencyKey key;
  const PareDims *dims;
  const bool *pruned;   /* by dimension: what may lose groups */
  bool *const *flags;   /* by dimension: the leaves'; written, and as they were at the end */
  const PareGraph *sized; /* by which layers of one shape are told from others */
  int64_t align;
  const PareHooks *h;
  PareTimeFn *time;
  void *arg;
} PareLatencyAsk;

typedef struct PareLatency {
  PareTiming dense, base; /* base: with what was given up beforehand (a vocabulary) gone; mostly dense */
  size_t nclasses;
  PareLatencyClass *class;
  double **curve; /* by dimension [count + 1]: what it adds to base with so many groups left, so 0 at count; NULL: it
                   * loses none. */
} PareLatency;

/* Measures what the table does not know. Lives in a; strings of the table are borrowed. */
PARE_MUST_USE PareStatus pare_latency_measure(PareCtx *c, PareArena *a, const PareLatencyAsk *ask, PareLatency *out);

/* Milliseconds when keep[] says what lives, by dimension (NULL: all). */
double pare_latency_predict(const PareLatency *l, const PareDims *d, bool *const *keep);

/* The sizes of a layer of `count` groups at which it is timed, ascending, `count` last; every multiple where there are
 * few, else eighths. To kept[], which has room for PARE_LATENCY_SIZES; their number. */
enum { PARE_LATENCY_SIZES = 18 };
size_t pare_latency_grid(int64_t count, int64_t multiple, int64_t *kept);

#endif
