/* group.c - lets steps wait until somebody needs one of them, then lets all that have waited go by levels: a level
 * depends on lower ones alone. Results must not lie in memory meanwhile, so the steps are small ones, or read nothing but
 * what lies there anyway: such a step makes its result later than it would have, and whoever reads it, if that is large,
 * does not wait. */
#include "runtime/group.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/plan.h"

/* Bytes that a GPU moves in about the time in which a step begins. */
enum { SMALL = 1 << 20 };

typedef struct Waiting {
  PareNode *node;
  uint32_t level;
  size_t at; /* in the given order */
} Waiting;

typedef struct Grouping {
  const PareKernel *kernels;
  const PareValue **root; /* by value id: the value whose memory it shows */
  /* By value id, of roots: one more than the highest level of waiting steps that write it, that read it; 0: none. */
  uint32_t *written, *read;
  bool *made; /* by value id, of roots: a step makes it, so it takes memory for a time */
  Waiting *waiting;
  size_t nwaiting;
  PareNode **out;
  uint32_t *when, now;
  size_t nout;
} Grouping;

static bool writes(const PareNode *n, int i) { return i < 32 && (pare_op_info[n->op].writes >> i & 1u); }
static uint32_t most(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* The first level on which n may run; 0 when it depends on nothing that waits. */
static uint32_t level_of(const Grouping *s, const PareNode *n) {
  uint32_t level = 0;
  for (int i = 0; i < n->nin; i++) {
    if (!pare_plan_reads(n, i)) continue;
    uint32_t r = s->root[n->in[i]->id]->id;
    level = most(level, s->written[r]);
    if (writes(n, i)) level = most(level, s->read[r]);
  }
  return level;
}

static bool is_small(const Grouping *s, const PareValue *v) {
  size_t bytes;
  if (!v || !s->made[s->root[v->id]->id]) return true;
  return pare_type_bytes(&v->type, &bytes) && bytes <= SMALL;
}

/* Constants and states, which are there at any time. */
static bool reads_what_stays(const Grouping *s, const PareNode *n) {
  for (int i = 0; i < n->nin; i++) {
    const PareValue *root = n->in[i] ? s->root[n->in[i]->id] : NULL;
    if (root && (s->made[root->id] || root->role == PARE_INPUT)) return false;
  }
  return true;
}

static bool may_wait(const Grouping *s, const PareNode *n, uint32_t level) {
  if (pare_is_view(n)) return level > 0; /* it goes with what it shows */
  if (!s->kernels[n->op].run_many) return false;
  if (reads_what_stays(s, n)) return true;
  for (int i = 0; i < n->nin; i++)
    if (!is_small(s, n->in[i])) return false;
  for (int i = 0; i < n->nout; i++)
    if (!is_small(s, n->out[i])) return false;
  return true;
}

static void wait(Grouping *s, PareNode *n, uint32_t level, size_t at) {
  for (int i = 0; i < n->nin; i++) {
    if (!pare_plan_reads(n, i)) continue;
    uint32_t r = s->root[n->in[i]->id]->id;
    s->read[r] = most(s->read[r], level + 1);
    if (writes(n, i)) s->written[r] = level + 1;
  }
  for (int i = 0; i < n->nout; i++)
    if (n->out[i]) s->written[s->root[n->out[i]->id]->id] = level + 1;
  s->waiting[s->nwaiting++] = (Waiting){n, level, at};
}

static int by_level_and_op(const void *a, const void *b) {
  const Waiting *x = a, *y = b;
  if (x->level != y->level) return x->level < y->level ? -1 : 1;
  if (x->node->op != y->node->op) return x->node->op < y->node->op ? -1 : 1;
  return x->at < y->at ? -1 : 1;
}

static void put(Grouping *s, PareNode *n, bool with_last) {
  s->out[s->nout] = n;
  s->when[s->nout++] = with_last ? s->now - 1 : s->now++;
}

static void forget(Grouping *s, const PareNode *n) {
  for (int i = 0; i < n->nin + n->nout; i++) {
    const PareValue *v = i < n->nin ? n->in[i] : n->out[i - n->nin];
    if (v) s->written[s->root[v->id]->id] = s->read[s->root[v->id]->id] = 0;
  }
}

static void release(Grouping *s) {
  if (s->nwaiting) qsort(s->waiting, s->nwaiting, sizeof *s->waiting, by_level_and_op);
  for (size_t i = 0; i < s->nwaiting; i++) {
    const Waiting *w = &s->waiting[i];
    bool alike = i > 0 && w[-1].level == w->level && w[-1].node->op == w->node->op && !pare_is_view(w->node);
    put(s, w->node, alike);
    forget(s, w->node);
  }
  s->nwaiting = 0;
}

static void group(Grouping *s, size_t n, PareNode **step) {
  for (size_t i = 0; i < n; i++)
    for (int k = 0; k < step[i]->nout && !pare_is_view(step[i]); k++)
      if (step[i]->out[k]) s->made[step[i]->out[k]->id] = true;
  for (size_t i = 0; i < n; i++) {
    if (i > 0 && step[i]->phase != step[i - 1]->phase) release(s);
    uint32_t level = level_of(s, step[i]);
    if (may_wait(s, step[i], level)) {
      wait(s, step[i], level, i);
      continue;
    }
    if (level > 0) release(s);
    put(s, step[i], false);
  }
  release(s);
}

PareStatus pare_group_steps(PareCtx *c, const PareGraph *g, const PareKernel *kernels, size_t n, PareNode **step,
                            uint32_t *when) {
  if (n >= UINT32_MAX) return pare_nomem(c);
  PareMark mark = pare_arena_mark(c->scratch);
  Grouping s = {.kernels = kernels, .when = when};
  s.root = PARE_NEW_N(c->scratch, g->values.n, const PareValue *);
  s.written = PARE_NEW_N(c->scratch, g->values.n, uint32_t);
  s.read = PARE_NEW_N(c->scratch, g->values.n, uint32_t);
  s.made = PARE_NEW_N(c->scratch, g->values.n, bool);
  s.waiting = PARE_NEW_N(c->scratch, n, Waiting);
  s.out = PARE_NEW_N(c->scratch, n, PareNode *);
  bool ok = s.root && s.written && s.read && s.made && s.waiting && s.out;
  if (ok) {
    pare_plan_roots(g, n, step, s.root);
    group(&s, n, step);
    if (n) memcpy(step, s.out, n * sizeof *step);
  }
  pare_arena_rewind(c->scratch, mark);
  return ok ? PARE_OK : pare_nomem(c);
}
