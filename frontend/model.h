/* model.h - a loaded .onnx file: the mapping, and the graph that reads from it. */
#ifndef PARE_FRONTEND_MODEL_H
#define PARE_FRONTEND_MODEL_H

#include "base/file.h"
#include "ir/fingerprint.h"
#include "ir/ir.h"

/* Another file that holds weights (external data), or one that is named twice. */
typedef struct PareExternal {
  const char *location; /* as the model names it */
  PareFile file;
} PareExternal;

/* A node of an op that pare does not know, which stands behind all that can be cut (frontend/opaque.h). */
typedef struct PareOpaque {
  const char *node, *op, *domain;
} PareOpaque;

typedef struct PareModel {
  PareArena *arena;
  const char *path;
  PareFile file;
  PARE_VEC(PareExternal) external;
  PareGraph *graph;
  int64_t ir_version;
  const char *producer; /* "pytorch 1.13.1", or "" */
  PareFingerprint fingerprint;
  size_t nnodes;        /* nodes in the file */
  PARE_VEC(PareOpaque) opaque;
  size_t nleft_out;     /* nodes in the file that are opaque or depend on one, and so are not in the graph */
  size_t ninitializers, nsparse; /* sparse ones apart */
  PareValue **initializer; /* by number in the file; borrowed from the graph */
} PareModel;

/* Maps and imports a model. Weights stay in the mapped file. Errors:
 * PARE_IO/PARE_FORMAT for the file, PARE_UNSUPPORTED with all nodes that are not
 * supported. Pair: pare_model_free (NULL is fine). */
PARE_MUST_USE PareStatus pare_model_load(PareCtx *c, const char *path, PareModel **out);
/* The same for bytes in memory, which are borrowed; external data is looked for beside `path`. */
PARE_MUST_USE PareStatus pare_model_load_bytes(PareCtx *c, const char *path, const void *data, size_t len,
                                               PareModel **out);
/* Maps a model and unpacks what is not weights, without importing it: raw_data are ranges of the file (frontend/split.h)
 * and `graph` is NULL. The message lives with the model. For looking at files that pare need not understand. */
struct Onnx__ModelProto;
PARE_MUST_USE PareStatus pare_model_open(PareCtx *c, const char *path, PareModel **out,
                                         const struct Onnx__ModelProto **proto);
void pare_model_free(PareModel *m);

/* Tells the log what of the model is left as it is, if anything is. */
void pare_model_tell(const PareCtx *c, const PareModel *m);

/* Bytes of the file and of its external data. */
size_t pare_model_bytes(const PareModel *m);

/* A TensorProto in a file of its own (ONNX's test data): name, type and data. Lives in a. */
typedef struct PareTensorFile {
  const char *name;
  PareType type;
  const void *data; /* 64-aligned */
} PareTensorFile;
PARE_MUST_USE PareStatus pare_tensor_load(PareCtx *c, PareArena *a, const char *path, PareTensorFile *out);

#endif
