/* latency_table.h - times that were measured, in a file that the next run reads (--latency-table). */
#ifndef PARE_API_LATENCY_TABLE_H
#define PARE_API_LATENCY_TABLE_H

#include "api/stopwatch.h"

/* What times depend on: a table of anything else does not fit. */
typedef struct PareLatencyKey {
  const char *sha256, *command, *device, *shapes;
  int threads;
  int64_t tokens; /* that stay of the vocabulary; 0: all of them */
} PareLatencyKey;

/* Layers of one shape. */
typedef struct PareLatencyClass {
  const char *kind;
  int64_t count;  /* groups of each */
  size_t nlayers; /* dimensions */
  const char **layer;
  size_t nsizes;
  int64_t *kept;      /* [nsizes], ascending; the last is `count` */
  PareTiming *timing; /* of the whole model with so many groups left in each of the layers */
} PareLatencyClass;

typedef struct PareLatencyTable PareLatencyTable;

/* Reads `path` where there is such a file; "" is no file. A table that does not fit the key is begun anew, which the log
 * says. PARE_FORMAT where the file is no table: it is not overwritten. Strings are borrowed. Pair: close (NULL is fine). */
PARE_MUST_USE PareStatus pare_latency_table_open(PareCtx *c, const char *path, const PareLatencyKey *key,
                                                 PareLatencyTable **out);
void pare_latency_table_close(PareLatencyTable *t);

/* The time of a class at a size, or of the whole model (NULL, "dense" or "base"): false when it has to be measured. */
bool pare_latency_table_find(const PareLatencyTable *t, const PareLatencyClass *class, int64_t kept, PareTiming *out);
bool pare_latency_table_find_whole(const PareLatencyTable *t, const char *name, PareTiming *out);
/* Adds one, and writes the file. */
PARE_MUST_USE PareStatus pare_latency_table_put(PareLatencyTable *t, const PareLatencyClass *class, int64_t kept,
                                                const PareTiming *timing);
PARE_MUST_USE PareStatus pare_latency_table_put_whole(PareLatencyTable *t, const char *name, const PareTiming *timing);

#endif
