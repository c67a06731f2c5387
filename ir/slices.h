/* slices.h - a constant that is made of another: along each axis some indices stay. It is walked run by run where it is
 * written or run, so that neither a cut nor a masked model need be held in memory. */
#ifndef PARE_IR_SLICES_H
#define PARE_IR_SLICES_H

#include "ir/ir.h"

struct PareSlices {
  PareType whole;                   /* what it is made of */
  const void *data;                 /* the whole's bytes, borrowed */
  const bool *alive[PARE_MAX_RANK]; /* [whole.dim]; NULL: all indices of the axis stay */
  bool zeroed;                      /* what does not stay is zero, and the type is the whole's; else it is left out */
};

/* Takes the next n bytes; p NULL: zeros. False ends the walk. */
typedef bool PareSink(void *arg, const void *p, size_t n);
/* All bytes in order. False when the sink ended it. */
bool pare_slices_walk(const PareSlices *s, PareSink *sink, void *arg);
/* All bytes to `out`, which has room. */
void pare_slices_copy(const PareSlices *s, void *out);
/* Made of the same bytes in the same way. */
bool pare_slices_equal(const PareSlices *a, const PareSlices *b);

/* Worth it: large, and of numbers that no shape is steered by. */
bool pare_slices_wanted(const PareType *whole);
/* A constant's bytes: its data, or a copy in `a` where it is thin. NULL when memory is out. */
const void *pare_constant_bytes(PareArena *a, const PareValue *v);
/* Gives every thin constant of g bytes of its own. */
PARE_MUST_USE PareStatus pare_fill_slices(PareCtx *c, PareGraph *g);

#endif
