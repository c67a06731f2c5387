/* expand_rotary.h - rotary positions, for the ops that have them inside. */
#ifndef PARE_FRONTEND_EXPAND_ROTARY_H
#define PARE_FRONTEND_EXPAND_ROTARY_H

#include "frontend/expand.h"

typedef struct PareRotary {
  PareValue *cos, *sin; /* [batch or 1, rows, turned / 2] */
  int64_t heads_axis;   /* of what is turned, of rank 4: 1, or 2 behind the rows */
  int64_t width;        /* how many numbers of a head are turned; 0: all */
  bool interleaved;     /* pairs are neighbours, else the halves' */
} PareRotary;

PareValue *pare_expand_rotate(PareExpand *x, const PareRotary *r, PareValue *v);
/* Rows `at` of a table. */
PareValue *pare_expand_lookup(PareExpand *x, const char *role, PareValue *table, PareValue *at);

#endif
