/* sparse.h - SparseTensorProto: the elements of a tensor that are not zero, and where they stand in it, flattened. */
#ifndef PARE_BACKEND_SPARSE_H
#define PARE_BACKEND_SPARSE_H

#include "ir/ir.h"
#include "proto/wire.h"

/* IR version of the first ONNX that has them as initializers. */
enum { PARE_SPARSE_IR_VERSION = 6 };

/* Bytes that values and indices of v take. */
size_t pare_sparse_bytes(const PareValue *v);

/* The fields of a SparseTensorProto with the elements of v whose bytes are not all zero: -0 stays. Whatever else the
 * original said of the tensor (its name, doc string ...) is taken from `values`, a TensorProto; the same for `indices`,
 * which may be NULL. */
void pare_sparse_put(PareBuf *out, const PareField *values, const PareField *indices, const PareValue *v);

#endif
