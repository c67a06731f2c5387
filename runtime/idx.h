/* idx.h - the IDX files of MNIST and Fashion-MNIST, gzipped or plain. */
#ifndef PARE_RUNTIME_IDX_H
#define PARE_RUNTIME_IDX_H

#include "runtime/images.h"

/* Reads images, u8 [N, H, W], through the same steps as a folder of pictures,
 * into f32 [N, C, H, W]; and "labels", u8 [N] on disk, i64 [N] here. `labels`
 * may be NULL. Errors name the file. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_idx_read(PareCtx *c, const char *images, const char *labels,
                                       const PareImageOptions *opt, PareData **out);

/* Whether a path is named like one: ...-ubyte, ...-ubyte.gz, .idx. */
bool pare_idx_is_path(const char *path);

#endif
