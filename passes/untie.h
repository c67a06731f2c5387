/* untie.h - layers that share one computed position bias (T5, MPNet) can lose
 * different heads: each gets a Gather of its own heads from what they share. */
#ifndef PARE_PASSES_UNTIE_H
#define PARE_PASSES_UNTIE_H

#include "ir/ir.h"

/* On an imported graph, before dimensions are traced. Where several dimensions of
 * heads are one only because their layers read the same result, which no layer makes,
 * every reader reads it through a Gather of all its heads by a constant list. A cut
 * shortens the list; emission adds the node where it is not whole. */
PARE_MUST_USE PareStatus pare_untie(PareCtx *c, PareGraph *g);

#endif
