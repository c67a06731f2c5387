/* safetensors.h - HF's container of tensors: 8 bytes little-endian that say how long the header is, a JSON object of
 * NAME: {dtype, shape, data_offsets} and maybe __metadata__, and the data without gaps. */
#ifndef PARE_RUNTIME_SAFETENSORS_H
#define PARE_RUNTIME_SAFETENSORS_H

#include "base/file.h"
#include "ir/types.h"

typedef struct PareSafeTensor {
  const char *name;
  PareType type;
  const void *data; /* maybe unaligned */
} PareSafeTensor;

typedef struct PareSafeTensors {
  PareFile file;
  size_t n;
  PareSafeTensor *at; /* in the header's order */
} PareSafeTensors;

/* Maps the file; names live in a, data in the mapping. PARE_FORMAT, naming file and tensor, for whatever is not as the
 * format says: overlaps and gaps as well. Pair: pare_safetensors_close (a zeroed one is fine). */
PARE_MUST_USE PareStatus pare_safetensors_open(PareCtx *c, PareArena *a, const char *path, PareSafeTensors *out);
void pare_safetensors_close(PareSafeTensors *t);
const PareSafeTensor *pare_safetensors_find(const PareSafeTensors *t, const char *name);

/* Writes the tensors in their order, whole or not at all. */
PARE_MUST_USE PareStatus pare_safetensors_write(PareCtx *c, const char *path, size_t n, const PareSafeTensor *tensor);

#endif
