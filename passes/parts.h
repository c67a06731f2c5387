/* parts.h - a graph that is run in parts, each of which ends when some of its outputs are made. */
#ifndef PARE_PASSES_PARTS_H
#define PARE_PASSES_PARTS_H

#include "ir/ir.h"

/* part[i] is that of output i. A node is in the first part that needs it, which becomes its phase, and nodes come in
 * the order of their parts. */
PARE_MUST_USE PareStatus pare_split_parts(PareCtx *c, PareGraph *g, const uint8_t *part);

#endif
