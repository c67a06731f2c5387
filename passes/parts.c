/* parts.c - see parts.h. */
#include "passes/parts.h"

/* Readers stand behind what they read, so one sweep from the back is enough. */
static void find_parts(PareGraph *g, const uint8_t *part) {
  for (PareNode *n = g->first; n; n = n->next) n->phase = UINT8_MAX;
  for (size_t i = 0; i < g->outputs.n; i++) {
    PareNode *n = g->outputs.at[i]->def;
    if (n && part[i] < n->phase) n->phase = part[i];
  }
  for (PareNode *n = g->last; n; n = n->prev)
    for (int k = 0; k < n->nin; k++) {
      PareNode *def = n->in[k] ? n->in[k]->def : NULL;
      if (def && n->phase < def->phase) def->phase = n->phase;
    }
}

PareStatus pare_split_parts(PareCtx *c, PareGraph *g, const uint8_t *part) {
  size_t at[UINT8_MAX + 2] = {0}, count = 0;
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode **order = PARE_NEW_N(c->scratch, g->nnodes + 1, PareNode *);
  if (!order) return pare_nomem(c);
  find_parts(g, part);
  for (PareNode *n = g->first; n; n = n->next) at[n->phase + 1]++, count++;
  for (int i = 1; i <= UINT8_MAX; i++) at[i] += at[i - 1];
  for (PareNode *n = g->first; n; n = n->next) order[at[n->phase]++] = n;
  for (size_t i = 0; i < count; i++) {
    order[i]->prev = i ? order[i - 1] : NULL;
    order[i]->next = i + 1 < count ? order[i + 1] : NULL;
  }
  g->first = count ? order[0] : NULL;
  g->last = count ? order[count - 1] : NULL;
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
