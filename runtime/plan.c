/* plan.c - usage records of the results, merged where an op may write over its
 * input, and packed into one slab. */
#include "runtime/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* Bit i: of input i only the type matters, the values are never read. */
static const unsigned type_only[PARE_OP_COUNT] = {
  [PARE_OP_SHAPE] = 1u << 0,      [PARE_OP_SUMTO] = 1u << 1,    [PARE_OP_GATHERGRAD] = 1u << 2,
  [PARE_OP_SLICEGRAD] = 1u << 5,  [PARE_OP_GROUPSUM] = 1u << 2, [PARE_OP_SAMPLESUM] = 1u << 3,
  [PARE_OP_SIZE] = 1u << 0,       [PARE_OP_EYELIKE] = 1u << 0,  [PARE_OP_CASTLIKE] = 1u << 1,
  [PARE_OP_CONVGRAD] = 1u << 2,   [PARE_OP_AVERAGEPOOLGRAD] = 1u << 0, [PARE_OP_MASKGRAD] = 1u << 2,
  [PARE_OP_GELUGRAD] = 1u << 2,
  /* views know their type */
  [PARE_OP_RESHAPE] = 1u << 1,    [PARE_OP_SQUEEZE] = 1u << 1,  [PARE_OP_UNSQUEEZE] = 1u << 1,
  [PARE_OP_DROPOUT] = 6u,
};

/* By result, bit i: an element of the result is written when that of input i is read for the last time, so that an
 * input of the result's type that dies there may be written over. */
#define ALL ~0u
enum { OVERWRITING = 4 }; /* results that may */
static const unsigned in_place[PARE_OP_COUNT][OVERWRITING] = {
  [PARE_OP_ADD] = {ALL},      [PARE_OP_SUB] = {ALL},        [PARE_OP_MUL] = {ALL},      [PARE_OP_DIV] = {ALL},
  [PARE_OP_NEG] = {ALL},      [PARE_OP_SQRT] = {ALL},       [PARE_OP_EXP] = {ALL},      [PARE_OP_ERF] = {ALL},
  [PARE_OP_TANH] = {ALL},     [PARE_OP_SIGMOID] = {ALL},    [PARE_OP_RELU] = {ALL},     [PARE_OP_GELU] = {ALL},
  [PARE_OP_RELUGRAD] = {ALL}, [PARE_OP_GELUGRAD] = {ALL},   [PARE_OP_ERFGRAD] = {ALL},  [PARE_OP_TANHGRAD] = {ALL},
  [PARE_OP_RECIPROCAL] = {ALL}, [PARE_OP_SIGMOIDGRAD] = {ALL},
  [PARE_OP_ADDNORM] = {1u << 0 | 1u << 3}, /* x and the branch, by their sum */
  [PARE_OP_LAYERNORMGRAD] = {1u << 0 | 1u << 4 | 1u << 5 | 1u << 6}, /* x, dy and what is added */
  [PARE_OP_LINEARGRAD] = {[0] = 1u << 6, [3] = 1u << 2 | 1u << 7}, /* what is added to dx; dy or h by what is made */
};

bool pare_plan_reads(const PareNode *n, int i) {
  return n->in[i] && !(i < 32 && (type_only[n->op] >> i & 1u));
}

/* --- packing --- */

/* A record's number beside it: qsort's order is then the same everywhere. */
typedef struct Sorted {
  size_t bytes;
  uint32_t at;
} Sorted;

static int larger_first(const void *a, const void *b) {
  const Sorted *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x->at < y->at ? -1 : 1;
}

/* Puts record `at` into the lowest gap; `placed` holds the numbers of n records by offset. */
static bool place(PareRecord *r, uint32_t at, uint32_t *placed, size_t n) {
  size_t offset = 0, end;
  for (size_t i = 0; i < n; i++) {
    const PareRecord *p = &r[placed[i]];
    if (p->last < r[at].first || p->first > r[at].last) continue;
    if (p->offset > offset && p->offset - offset >= r[at].bytes) break;
    if (p->offset + p->bytes > offset) offset = p->offset + p->bytes;
  }
  if (!pare_add_size(offset, r[at].bytes, &end) || end > SIZE_MAX / 2) return false;
  r[at].offset = offset;
  size_t i = n;
  for (; i > 0 && r[placed[i - 1]].offset > offset; i--) placed[i] = placed[i - 1];
  placed[i] = at;
  return true;
}

PareStatus pare_plan_pack(PareCtx *c, size_t n, PareRecord *r, size_t *bytes) {
  *bytes = 0;
  PareMark mark = pare_arena_mark(c->scratch);
  Sorted *order = PARE_NEW_N(c->scratch, n, Sorted);
  uint32_t *placed = PARE_NEW_N(c->scratch, n, uint32_t);
  bool ok = order && placed && n < UINT32_MAX;
  for (size_t i = 0; ok && i < n; i++) {
    ok = r[i].bytes <= SIZE_MAX / 4;
    r[i].bytes = r[i].bytes ? (r[i].bytes + PARE_PLAN_ALIGN - 1) / PARE_PLAN_ALIGN * PARE_PLAN_ALIGN : PARE_PLAN_ALIGN;
    order[i] = (Sorted){r[i].bytes, (uint32_t)i};
  }
  if (ok && n) qsort(order, n, sizeof *order, larger_first);
  for (size_t i = 0; ok && i < n; i++) {
    ok = place(r, order[i].at, placed, i);
    if (ok && r[order[i].at].offset + order[i].bytes > *bytes) *bytes = r[order[i].at].offset + order[i].bytes;
  }
  pare_arena_rewind(c->scratch, mark);
  return ok ? PARE_OK : pare_nomem(c);
}

/* --- lifetimes --- */

void pare_plan_roots(const PareGraph *g, size_t nsteps, PareNode *const *step, const PareValue **root) {
  for (size_t i = 0; i < g->values.n; i++) root[i] = g->values.at[i];
  for (size_t t = 0; t < nsteps; t++) {
    const PareNode *n = step[t];
    if (pare_is_view(n)) root[n->out[0]->id] = root[n->in[0]->id];
  }
}

/* The last time at which each root is read; a time after all for those that stay. */
static void find_last_reads(const PareGraph *g, size_t nsteps, PareNode *const *step, const uint32_t *when,
                            const bool *lasting, const PareValue **root, uint32_t *last) {
  for (size_t t = 0; t < nsteps; t++) {
    const PareNode *n = step[t];
    for (int i = 0; i < n->nin; i++)
      if (pare_plan_reads(n, i)) last[root[n->in[i]->id]->id] = when[t];
  }
  for (size_t i = 0; i < g->values.n; i++)
    if (lasting[i]) last[root[i]->id] = (uint32_t)nsteps;
}

/* Results that are read from outside until their phase is over. */
static void outlive_phases(const PareGraph *g, size_t nsteps, PareNode *const *step, const uint32_t *when,
                           const bool *passing, const PareValue **root, uint32_t *last) {
  uint32_t end[UINT8_MAX + 1] = {0};
  for (size_t t = 0; t < nsteps; t++)
    if (when[t] > end[step[t]->phase]) end[step[t]->phase] = when[t];
  for (size_t i = 0; i < g->values.n; i++) {
    const PareNode *def = passing[i] ? g->values.at[i]->def : NULL;
    uint32_t *at = &last[root[i]->id];
    if (def && end[def->phase] > *at) *at = end[def->phase];
  }
}

/* Result k input i? */
static bool may_overwrite(const PareNode *n, int k, int i) {
  return k < OVERWRITING && in_place[n->op][k] >> (i < 31 ? i : 31) & 1u;
}

/* Does an input that must stay whole while result k is written show r's memory? */
static bool is_kept(const ParePlan *p, const PareNode *n, int k, const PareValue *r) {
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && !may_overwrite(n, k, i) && p->root[n->in[i]->id] == r) return true;
  return false;
}

/* The record of an input that the node may write its result k over: one of the
 * result's type, last read here, by no other step of this time. Should another such
 * input show the same memory, then element for element alike: it has as many elements and broadcasts to that type. */
static uint32_t reusable(const ParePlan *p, const PareNode *n, int k, uint32_t t, const uint32_t *last) {
  for (int i = 0; i < n->nin; i++) {
    if (!n->in[i] || !may_overwrite(n, k, i)) continue;
    const PareValue *r = p->root[n->in[i]->id];
    if (p->record[r->id] != PARE_NO_RECORD && last[r->id] == t &&
        pare_type_equal(&n->in[i]->type, &n->out[k]->type) && !is_kept(p, n, k, r))
      return p->record[r->id];
  }
  return PARE_NO_RECORD;
}

/* alone: no other step has the time t. */
static PareStatus plan_step(PareCtx *c, PareArena *a, const PareNode *n, uint32_t t, bool alone, const uint32_t *last,
                            ParePlan *p) {
  for (int i = 0; i < n->nout; i++) {
    const PareValue *v = n->out[i];
    if (!v) continue;
    uint32_t end = last[v->id] > t ? last[v->id] : t;
    uint32_t over = alone ? reusable(p, n, i, t, last) : PARE_NO_RECORD;
    if (over != PARE_NO_RECORD) {
      p->record[v->id] = over;
      p->records.at[over].last = end;
      continue;
    }
    PareRecord r = {.first = t, .last = end};
    if (!pare_type_bytes(&v->type, &r.bytes)) {
      char text[PARE_TYPE_TEXT];
      return pare_fail(c, n, PARE_UNSUPPORTED, "the result '%s' is %s: its size is not known or too large", v->name,
                       pare_type_text(&v->type, text));
    }
    p->record[v->id] = (uint32_t)p->records.n;
    if (!pare_vec_push(a, &p->records, r)) return pare_nomem(c);
  }
  return PARE_OK;
}

PareStatus pare_plan_make(PareCtx *c, PareArena *a, const PareGraph *g, size_t nsteps, PareNode *const *step,
                          const uint32_t *when, const bool *lasting, const bool *passing, ParePlan *out) {
  *out = (ParePlan){0};
  out->root = PARE_NEW_N(a, g->values.n, const PareValue *);
  out->record = PARE_NEW_N(a, g->values.n, uint32_t);
  if (!out->root || !out->record || nsteps >= UINT32_MAX) return pare_nomem(c);
  memset(out->record, 0xff, g->values.n * sizeof *out->record);
  PareMark mark = pare_arena_mark(c->scratch);
  uint32_t *last = PARE_NEW_N(c->scratch, g->values.n, uint32_t);
  PareStatus s = last ? PARE_OK : pare_nomem(c);
  pare_plan_roots(g, nsteps, step, out->root);
  if (s == PARE_OK) find_last_reads(g, nsteps, step, when, lasting, out->root, last);
  if (s == PARE_OK && passing) outlive_phases(g, nsteps, step, when, passing, out->root, last);
  for (size_t t = 0; t < nsteps && s == PARE_OK; t++) {
    bool alone = (t == 0 || when[t - 1] != when[t]) && (t + 1 == nsteps || when[t + 1] != when[t]);
    if (!pare_is_view(step[t])) s = plan_step(c, a, step[t], when[t], alone, last, out);
  }
  pare_arena_rewind(c->scratch, mark);
  if (s != PARE_OK) return s;
  return pare_plan_pack(c, out->records.n, out->records.at, &out->bytes);
}
