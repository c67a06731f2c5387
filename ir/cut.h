/* cut.h - what the rules of the `cut` column share: each family of ops ties the axes
 * of what it reads to the axes of what it makes. "If index i of this axis goes, what
 * goes with it" is all that a rule knows. */
#ifndef PARE_IR_CUT_H
#define PARE_IR_CUT_H

#include <string.h>

#include "ir/axes.h"
#include "ir/op_columns.h"

static inline int rank_in(const PareNode *n, int k) { return n->in[k]->type.rank; }
static inline int64_t dim_in(const PareNode *n, int k, int d) { return n->in[k]->type.dim[d]; }
static inline bool is_weight(const PareTracer *t, const PareNode *n, int k) { return t->constant[n->in[k]->id]; }
static inline int wrap(int64_t axis, int rank) { return (int)(axis < 0 ? axis + rank : axis); }

/* Could the numbers that n reads as input k be others in the file? Inside of an expansion or a branch only those can
 * that the file has somewhere. */
static inline bool may_change(const PareNode *n, int k) {
  return n->onnx_input >= 0 || (n->in[k]->role == PARE_CONST && n->in[k]->origin.kind != PARE_ORIGIN_NONE);
}

static inline void freeze_in(PareTracer *t, const PareNode *n, int k, int d, const char *why) {
  pare_axis_freeze(n, pare_axis_in(t, n, k, d), why);
}
static inline void freeze_out(PareTracer *t, const PareNode *n, int k, const char *why) {
  for (int d = 0; n->out[k] && d < n->out[k]->type.rank; d++) pare_axis_freeze(n, pare_axis_out(t, n, k, d), why);
}

static inline void mark_batched(PareAxis *leaf, void *arg) {
  (void)arg;
  leaf->batched = true;
}
static inline void mark_inner(PareAxis *leaf, void *arg) {
  (void)arg;
  leaf->inner = true;
}

/* Contracts axis da of input a with axis db of input b. */
static inline PareStatus contract(PareTracer *t, const PareNode *n, int a, int da, int b, int db) {
  pare_axis_tie(t, n, pare_axis_in(t, n, a, da), pare_axis_in(t, n, b, db));
  PareContraction x = {(PareNode *)(uintptr_t)n, a, da, b, db};
  if (is_weight(t, n, a) && is_weight(t, n, b))
    return pare_vec_push(t->arena, &t->learned, x) ? PARE_OK : pare_nomem(t->c);
  if (is_weight(t, n, a)) x = (PareContraction){(PareNode *)(uintptr_t)n, b, db, a, da};
  else if (!is_weight(t, n, b)) { /* no weight reads it, so no mask of a fan-in equals the cut: q and k of attention */
    pare_axis_leaves(pare_axis_in(t, n, a, da), mark_inner, NULL);
    static const char why[] = "is summed over in a product of two activations";
    unsigned met = n->onnx_input == PARE_INSIDE ? PARE_MET_END : PARE_MET_PRODUCT; /* there, the op scales by its width */
    pare_axis_meet(n, pare_axis_in(t, n, a, da), met, why);
    PareContraction pair = {(PareNode *)(uintptr_t)n, a, da, b, db};
    return pare_vec_push(t->arena, &t->products, pair) ? PARE_OK : pare_nomem(t->c);
  }
  return pare_vec_push(t->arena, &t->contractions, x) ? PARE_OK : pare_nomem(t->c);
}

#endif
