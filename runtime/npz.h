/* npz.h - numpy's .npz: a zip of .npy arrays, read with every announced size
 * checked before it is believed, and written so that the same data give the
 * same bytes. */
#ifndef PARE_RUNTIME_NPZ_H
#define PARE_RUNTIME_NPZ_H

#include "runtime/data.h"

/* Reads all arrays of `path`. Takes .npy versions 1 to 3, little-endian, C
 * order, the types of ir/types.h (bfloat16 as numpy stores it: '<V2'); refuses
 * anything else in a sentence that names the array. `limit` is the most bytes
 * that all arrays may have together, 0 for pare_data_memory_limit(); it and the
 * agreement of zip and .npy sizes are checked before anything is inflated.
 * Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_npz_read(PareCtx *c, const char *path, uint64_t limit, PareData **out);

/* Writes all arrays, whole or not at all. No times are stored. */
PARE_MUST_USE PareStatus pare_npz_write(PareCtx *c, const char *path, const PareData *d, bool deflate);

/* The type that an .npy header (the text after its length field) describes.
 * PARE_FORMAT names `array` and the file of `d`. For npz.c and the fuzzer. */
PARE_MUST_USE PareStatus pare_npy_parse(PareCtx *c, const PareData *d, const char *array, const char *text, size_t n,
                                        PareType *out);

#endif
