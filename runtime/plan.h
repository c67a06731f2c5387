/* plan.h - where each result lies in one slab. Knows sizes and lifetimes only. */
#ifndef PARE_RUNTIME_PLAN_H
#define PARE_RUNTIME_PLAN_H

#include "ir/ir.h"

enum { PARE_PLAN_ALIGN = 64 };
#define PARE_NO_RECORD UINT32_MAX

/* A block of the slab and the times, both ends included, during which it is taken. */
typedef struct PareRecord {
  size_t bytes; /* set by pare_plan_pack to a multiple of PARE_PLAN_ALIGN, at least one */
  uint32_t first, last;
  size_t offset;
} PareRecord;

/* Gives every record an offset, so that no two that live at once overlap:
 * the largest first, each into the lowest gap (Pisarchyk & Lee 2020, "greedy by
 * size", as XNNPACK and TFLite do). *bytes is the size of the slab. */
PARE_MUST_USE PareStatus pare_plan_pack(PareCtx *c, size_t n, PareRecord *r, size_t *bytes);

typedef struct ParePlan {
  const PareValue **root; /* by value id: the value whose storage it shows through VIEW rows; itself if none */
  uint32_t *record;       /* by value id, of roots: number in `records`, or PARE_NO_RECORD: not in the slab */
  PARE_VEC(PareRecord) records;
  size_t bytes;
} ParePlan;

/* Plans the results of `step`, VIEW rows included, in the order in which they
 * run. when[i] is the time of step i: it never falls, and steps of one time run
 * at once, so none of them writes where another reads. Values that other nodes make, or none, get no place. Values with
 * lasting[id] stay readable after the last step, results with passing[id] (NULL: none) after the last one of their own
 * phase. Lives in `a`. */
PARE_MUST_USE PareStatus pare_plan_make(PareCtx *c, PareArena *a, const PareGraph *g, size_t nsteps,
                                        PareNode *const *step, const uint32_t *when, const bool *lasting,
                                        const bool *passing, ParePlan *out);

/* By value id: the value whose storage it shows through the VIEW rows among `step`; itself if none. */
void pare_plan_roots(const PareGraph *g, size_t nsteps, PareNode *const *step, const PareValue **root);

/* False when the node needs only the type of its input i: SumTo's `like`, say. */
bool pare_plan_reads(const PareNode *n, int i);

#endif
