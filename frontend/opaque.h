/* opaque.h - nodes of ops that pare does not know, where they stand behind all that
 * can be cut: they and what depends on them are not imported, and what they read
 * takes the place of the outputs that they would have led to. Emission copies them. */
#ifndef PARE_FRONTEND_OPAQUE_H
#define PARE_FRONTEND_OPAQUE_H

#include <onnx.pb-c.h>

#include "frontend/functions.h"
#include "frontend/model.h"

typedef PARE_VEC(const char *) PareNames;

typedef struct PareOpaqueSet {
  bool *left_out;    /* by number of the node; NULL: none is */
  const char *why;   /* nodes of unknown ops cannot be left out because of this; NULL: they can, or there are none */
  PareNames outputs; /* of what is imported, where something is left out */
  PareNames read;    /* what nodes that are left out read, each name once */
} PareOpaqueSet;

/* `order` is one in which the nodes can be run. Lives in a. What is left out is entered in m. */
PARE_MUST_USE PareStatus pare_leave_out(PareCtx *c, PareArena *a, PareModel *m, const Onnx__ModelProto *p,
                                        const PareFunctions *f, const uint32_t *order, PareOpaqueSet *out);

#endif
