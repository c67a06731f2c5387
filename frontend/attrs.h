/* attrs.h - attributes of a node that the IR has as attributes. */
#ifndef PARE_FRONTEND_ATTRS_H
#define PARE_FRONTEND_ATTRS_H

#include <onnx.pb-c.h>

#include "ir/ir.h"

/* 1 set, 0 no such attribute, -1 its value is not one that pare knows. The rows
 * from `act` on are pare's own: files cannot set them. s: a string's copy in the
 * graph's arena, for the message does not live as long. */
int pare_attr_read(PareAttrs *a, const Onnx__AttributeProto *p, const char *s);

#endif
