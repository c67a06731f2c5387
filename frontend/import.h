/* import.h - thin ModelProto -> IR graph, node by node. */
#ifndef PARE_FRONTEND_IMPORT_H
#define PARE_FRONTEND_IMPORT_H

#include <onnx.pb-c.h>

#include "frontend/model.h"

/* Fills m->graph, the initializers and the model's facts. All nodes that are
 * not supported are named in one error. */
PARE_MUST_USE PareStatus pare_import(PareCtx *c, PareModel *m, const Onnx__ModelProto *p);

#endif
