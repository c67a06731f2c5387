/* edits.h - what has to change in the file: the difference between the graph as
 * it was imported and the graph as it shall be. */
#ifndef PARE_BACKEND_EDITS_H
#define PARE_BACKEND_EDITS_H

#include "ir/ir.h"

/* Input `input` of a node reads another name. */
typedef struct PareRename {
  int input;
  const char *name;
} PareRename;

/* A node of the default domain that is put before another. */
typedef struct PareInsert {
  const char *op, *in[2], *out, *name; /* in[1] NULL: it has one input */
  const int64_t *axis;                 /* an attribute; NULL: it has none */
} PareInsert;

typedef struct PareNodeEdit {
  bool gone;       /* the node is left out */
  const char *op;  /* it becomes this op of the default domain, and has no attributes but `attrs`; NULL: it stays what it is */
  unsigned cut_in, cut_out; /* bits of inputs and outputs that it is left without */
  int copies;      /* of a Concat of equal operands that many stay; 0: all */
  const char *callee; /* the node calls this clone; NULL: what it did */
  const PareValue *constant; /* a Constant node's new tensor */
  const char *without; /* an attribute that is left out */
  PARE_VEC(PareRename) renames; /* of inputs that are there, or behind them */
  PARE_VEC(PareInsert) inserts;
  PARE_VEC(const PareValue *) attrs; /* attributes with new numbers, by origin.attr */
} PareNodeEdit;

/* Is the input, or output, one of these? */
static inline bool pare_edit_cuts(unsigned cut, int k) { return k < 32 && (cut >> k & 1); }
/* Is the node left without input k? */
static inline bool pare_edit_cuts_input(const PareNodeEdit *e, int k) {
  return pare_edit_cuts(e->cut_in, k) || (e->copies && k >= e->copies);
}

typedef struct PareNewInitializer {
  const char *name;
  const PareValue *value;
} PareNewInitializer;

/* How many of each the graph in the file has. */
typedef struct PareFileCounts {
  size_t initializers, sparse, nodes;
} PareFileCounts;

typedef struct PareEdits {
  const PareValue **initializer; /* by number in the file; NULL: unchanged */
  const PareValue **sparse;      /* the same of sparse initializers */
  PareNodeEdit **node;           /* by number in the file; NULL: unchanged */
  PareNodeEdit ***body;          /* by PareOrigin.body - 1, then as `node`; NULL: the function need not be cloned */
  PareFileCounts n;
  bool removes; /* nodes are gone */
  PARE_VEC(PareNewInitializer) added;
} PareEdits;

/* `after` has the nodes of `before`, but for those of branches that went (passes/drop_branches); constants may differ. A constant that
 * all its readers see changed alike is changed in its place; where they differ,
 * copies are added under new names. A Gather that the file does not have (passes/untie)
 * is put before the node that reads it where its indices differ. Of an op that was expanded into several nodes, some go
 * where backend/sums knows what the op becomes. */
PARE_MUST_USE PareStatus pare_edits_find(PareCtx *c, PareArena *a, const PareGraph *before, const PareGraph *after,
                                         PareFileCounts n, PareEdits *out);

#endif
