/* split.h - parts a mapped .onnx into structure and weights, without copying
 * the weights. protobuf-c copies every bytes field, refuses fields of 2 GiB and
 * recurses without a bound, so it is only ever given the thin model. */
#ifndef PARE_FRONTEND_SPLIT_H
#define PARE_FRONTEND_SPLIT_H

#include <stdint.h>

#include "base/ctx.h"

/* What raw_data holds in a thin model: where the bytes stand in the file. */
typedef struct PareRange {
  uint64_t off, len;
} PareRange;

enum { PARE_MAX_NESTING = 64 };

/* A ModelProto in which every raw_data is a PareRange. Lives in a. Errors
 * (PARE_FORMAT): not protobuf, cut short, nested deeper than PARE_MAX_NESTING,
 * two graphs, a tensor with two raw_data. Laws (fuzzed): every range lies in
 * the file. */
PARE_MUST_USE PareStatus pare_split(PareCtx *c, PareArena *a, const uint8_t *file, size_t len, uint8_t **thin,
                                    size_t *thin_len);

#endif
