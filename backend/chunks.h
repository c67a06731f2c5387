/* chunks.h - a file to be written, as pieces of memory, of the mapped original and of
 * thin constants: edits cost what they change, the rest is copied in the kernel. */
#ifndef PARE_BACKEND_CHUNKS_H
#define PARE_BACKEND_CHUNKS_H

#include "base/file.h"
#include "ir/slices.h"

typedef struct PareChunk {
  const uint8_t *p; /* in memory, or in the mapping of the original */
  size_t len;
  const PareSlices *slices; /* p is NULL: their bytes */
} PareChunk;

typedef struct PareChunks {
  PareArena *arena;
  const PareFile *original;
  PARE_VEC(PareChunk) at;
  size_t bytes;
  bool failed; /* memory ran out */
} PareChunks;

/* Appends; a piece that continues the last one in memory is joined with it. */
void pare_chunks_put(PareChunks *c, const void *p, size_t len);
/* Appends the `len` bytes of a constant, thin or not. */
void pare_chunks_put_constant(PareChunks *c, const PareValue *v, size_t len);
/* Makes room for a piece that is known later: its index, for pare_chunks_fill. */
size_t pare_chunks_reserve(PareChunks *c);
void pare_chunks_fill(PareChunks *c, size_t index, const void *p, size_t len);
PARE_MUST_USE PareStatus pare_chunks_write(PareCtx *c, const PareChunks *ch, PareOut *out);

#endif
