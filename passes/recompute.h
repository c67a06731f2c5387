/* recompute.h - activation checkpointing: what backward reads of forward is made a second time instead of being kept. */
#ifndef PARE_PASSES_RECOMPUTE_H
#define PARE_PASSES_RECOMPUTE_H

#include "ir/ir.h"

/* What may be spent. Time is in bytes that a device moves meanwhile; a product counts as what it moves, or its FLOPs over
 * PARE_FLOPS_A_BYTE, whichever is more. */
typedef struct PareRecompute {
  double most; /* bytes of results that may stay from forward to backward: no more goes than that asks for; 0: as few as
                * can be */
  double dear; /* bytes moved for a byte saved, above which nothing is made again */
} PareRecompute;

/* LEAN: as much as saves memory. An activation costs 2, a norm 3, a product 3 to 6, all of a layer 20 and more: beyond
 * that the sums between layers would go, and all that one needs would be there at once when backward comes to it. */
enum { PARE_FLOPS_A_BYTE = 200, PARE_RECOMPUTE_LEAN = 12 };

/* `g` is bound; nodes up to `forward` are its forward part. Results of it that later nodes read are made again in the
 * phase that reads them, just before they are read first, the cheapest for their size first. The numbers stay the same,
 * bit for bit. *kept (may be NULL) is what is left, in bytes. */
PARE_MUST_USE PareStatus pare_recompute(PareCtx *c, PareGraph *g, PareNode *forward, PareRecompute limit, double *kept);

#endif
