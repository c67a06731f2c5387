/* sparse.h - SparseTensorProto as the dense tensor that it stands for. */
#ifndef PARE_FRONTEND_SPARSE_H
#define PARE_FRONTEND_SPARSE_H

#include <onnx.pb-c.h>

#include "frontend/model.h"

/* Type and bytes, in the model's arena, of a sparse tensor of a thin model (frontend/split.h). Values are [n], indices
 * [n] in the flattened tensor or [n, rank], in ascending order. `what` names it in errors: PARE_FORMAT for indices and
 * counts that do not fit, PARE_UNSUPPORTED for types. */
PARE_MUST_USE PareStatus pare_sparse_read(PareCtx *c, PareModel *m, const Onnx__SparseTensorProto *t, const char *what,
                                          PareType *type, const void **data);
#endif
