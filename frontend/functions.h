/* functions.h - model-local functions (ModelProto.functions): import puts their
 * bodies in the place of each call. The nodes of a body are nodes of an expansion
 * (frontend/expand.h) of the call; constants know their node in the body, so that
 * a clone of the function can be cut. */
#ifndef PARE_FRONTEND_FUNCTIONS_H
#define PARE_FRONTEND_FUNCTIONS_H

#include <onnx.pb-c.h>

#include "base/map.h"
#include "ir/ir.h"

enum {
  PARE_MAX_CALLS = 32,       /* one inside the other */
  PARE_MAX_BODIES = 1 << 16, /* in all: calls that each call twice double at every level */
};

typedef struct PareFunctions {
  Onnx__FunctionProto *const *at;
  size_t n;
  PareMap index; /* "domain:name" -> number, or PARE_OVERLOADED */
} PareFunctions;

enum { PARE_NO_FUNCTION = -1, PARE_OVERLOADED = -2 };

/* A call whose body is being imported. */
typedef struct PareCall {
  const struct PareCall *outer; /* NULL: the call is a node of the graph */
  const Onnx__FunctionProto *f;
  const Onnx__NodeProto *node; /* the call, its own attributes put in */
  const char *name;            /* values and nodes inside are called NAME/theirs */
  uint32_t index;              /* of the outermost call among the graph's nodes */
  uint32_t body;               /* as PareOrigin.body */
  uint32_t at;                 /* number of the call where it stands */
  int depth;
} PareCall;

/* False when memory is out. The map lives in a. */
bool pare_functions_index(PareArena *a, const Onnx__ModelProto *p, PareFunctions *out);
/* The number of the function of this domain and name, PARE_NO_FUNCTION, or
 * PARE_OVERLOADED: there are several, which cannot be told apart. False when
 * memory is out. */
bool pare_function_find(PareArena *scratch, const PareFunctions *f, const char *domain, const char *name,
                        int64_t *number);

/* A node of the body, its attributes that refer to the function's replaced by the
 * call's, or by the function's defaults, or left out. Lives in a; NULL when memory
 * is out. */
const Onnx__NodeProto *pare_function_node(PareArena *a, const PareCall *call, const Onnx__NodeProto *n);

/* Where attribute `attr` of node number `at` in the call's body (NULL: in the graph)
 * is written: there, or at the call whose attribute it refers to. Kind NONE for a
 * function's default. `attr` is borrowed. */
PareOrigin pare_attribute_origin(const PareCall *call, uint32_t at, const Onnx__AttributeProto *attr);

#endif
