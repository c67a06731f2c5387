/* facts.h - what is known of a value at import, before shapes are bound: its
 * element type, its rank, how long a list of integers is, and the sizes of its last
 * axes where weights or numbers tell them. Composite ops are expanded by it
 * (frontend/expand.h): a mask of rank 2 is read otherwise than one of rank 1. */
#ifndef PARE_FRONTEND_FACTS_H
#define PARE_FRONTEND_FACTS_H

#include "base/map.h"
#include "ir/ir.h"

enum { PARE_TAIL = 2 }; /* the axes of a matrix */

typedef struct PareFact {
  bool typed; /* dtype is known */
  PareDtype dtype;
  int rank;    /* -1: not known */
  int64_t len; /* elements of a tensor of rank 0 or 1; -1: not known */
  int64_t tail[PARE_TAIL]; /* sizes of the last axes, the last one first, 1 where there are fewer; 0: not known */
} PareFact;

typedef struct PareFacts {
  PareArena *arena;
  PARE_VEC(PareFact) at; /* by value id */
  PareMap declared;      /* name of a value_info -> its place among told */
  PARE_VEC(PareFact) told;
} PareFacts;

/* What the file says of a value that no node yields yet; taken where inference
 * comes to no end. False when memory is out. */
bool pare_facts_declare(PareFacts *f, const char *name, PareFact fact);
/* Works out the results of n from its inputs, by the `infer` column's families; an
 * op that belongs to none of them yields what the file declares. False when
 * memory is out. */
bool pare_facts_infer(PareFacts *f, const PareNode *n);
PareFact pare_facts_of(const PareFacts *f, const PareValue *v);

#endif
