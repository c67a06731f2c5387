/* opset.h - what older opsets write as attributes and the IR has as inputs, and
 * the defaults that changed. One row a change. */
#ifndef PARE_FRONTEND_OPSET_H
#define PARE_FRONTEND_OPSET_H

#include "ir/ir.h"

/* The input that attribute `attr` of `op` becomes, or -1: it stays an attribute. */
int pare_opset_attr_input(PareOp op, const char *attr);
/* True for attributes that have no effect on the result: at all, or as long as they are 0. */
bool pare_opset_attr_ignored(PareOp op, const char *attr, bool nonzero);
/* True where ONNX Runtime takes an op with attributes that it does not know, and
 * does not read them: LayerNormalization before the standard had one. */
bool pare_opset_takes_any(PareOp op, int64_t opset);
/* Sets the attributes whose default depends on the opset. */
void pare_opset_defaults(PareOp op, int64_t opset, PareAttrs *a);

#endif
