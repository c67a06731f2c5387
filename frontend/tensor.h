/* tensor.h - TensorProto in all of ONNX's encodings, checked before it is read. */
#ifndef PARE_FRONTEND_TENSOR_H
#define PARE_FRONTEND_TENSOR_H

#include <onnx.pb-c.h>

#include "frontend/model.h"

/* Type and bytes of a tensor of a thin model (frontend/split.h): raw data and
 * external data point into mappings, typed fields are packed into the model's
 * arena. `what` names the tensor in errors. */
PARE_MUST_USE PareStatus pare_tensor_read(PareCtx *c, PareModel *m, const Onnx__TensorProto *t, const char *what,
                                          PareType *type, const void **data);
#endif
