/* functions.h - model-local functions (ModelProto.functions): import puts their
 * bodies in the place of each call. The nodes of a body are nodes of an expansion
 * (frontend/expand.h): the file's node that they stand for is the call. */
#ifndef PARE_FRONTEND_FUNCTIONS_H
#define PARE_FRONTEND_FUNCTIONS_H

#include <onnx.pb-c.h>

#include "base/ctx.h"

enum { PARE_MAX_CALLS = 32 }; /* one inside the other */

/* A call whose body is being imported. */
typedef struct PareCall {
  const struct PareCall *outer; /* NULL: the call is a node of the graph */
  const Onnx__FunctionProto *f;
  const Onnx__NodeProto *node; /* the call, its own attributes put in */
  const char *name;            /* values and nodes inside are called NAME/theirs */
  uint32_t index;              /* of the outermost call among the graph's nodes */
  int depth;
} PareCall;

/* The function that a node calls, or NULL. *twice: there are several (overloads), which cannot be told apart. */
const Onnx__FunctionProto *pare_function_find(const Onnx__ModelProto *p, const Onnx__NodeProto *n, bool *twice);

/* A node of the body, its attributes that refer to the function's replaced by the
 * call's, or by the function's defaults, or left out. Those of the call keep
 * `ref_attr_name`. Lives in a; NULL when memory is out. */
const Onnx__NodeProto *pare_function_node(PareArena *a, const PareCall *call, const Onnx__NodeProto *n);

#endif
