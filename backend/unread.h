/* unread.h - what nobody reads any more once nodes are gone: weights, Constant nodes,
 * and the declarations of names that are nowhere made. */
#ifndef PARE_BACKEND_UNREAD_H
#define PARE_BACKEND_UNREAD_H

#include "backend/edits.h"
#include "base/map.h"
#include "proto/wire.h"

typedef struct PareUnread {
  PareMap names;  /* of values that leave the file */
  PareMap weights; /* of initializers that do: old files declare them as inputs, too */
  bool *constant; /* by node number: a Constant that only nodes which are gone have read */
} PareUnread;

/* `graph` is the GraphProto as it was. What stands in the bodies of nodes that stay (If, Loop) counts as read.
 * PARE_UNSUPPORTED when such a body needs what a node that is gone has made. Lives in `a`. */
PARE_MUST_USE PareStatus pare_unread_find(PareCtx *c, PareArena *a, const PareField *graph, const PareEdits *e,
                                          PareUnread *out);
/* Is the name in field `num` of this message one of these? */
bool pare_unread_named(const PareMap *names, const PareField *m, uint32_t num);

#endif
