/* rank_curve.c - which groups go where a layer's cost is a curve over what is left of it, as measured times are. */
#include <math.h>
#include <stdlib.h>

#include "runtime/blocks.h"
#include "runtime/tradeoff.h"

/* A layer's living groups in the order in which they go, and what the first so many of them are worth and save. */
typedef struct Line {
  PareCandidate *group;
  size_t n, over;  /* that may go; of these, those that have to */
  size_t *kills;   /* by point: how many are gone */
  double *saved, *worth;
  size_t npoints;
} Line;

/* Groups in order, with scores of their own again. */
static size_t order(const PareLayer *layer, size_t i, PareCandidate *group) {
  size_t n = pare_blocks_gather(layer, i, false, group);
  int64_t least = pare_block_least(&layer[i]);
  qsort(group, n, sizeof *group, pare_by_score);
  return (int64_t)n > least ? n - (size_t)least : 0;
}

static PareStatus draw(PareCtx *c, const PareLayer *layer, size_t i, Line *line) {
  const PareLayer *l = &layer[i];
  size_t room = (size_t)l->count + 1;
  line->group = PARE_NEW_N(c->scratch, room, PareCandidate);
  line->kills = PARE_NEW_N(c->scratch, room, size_t);
  line->saved = PARE_NEW_N(c->scratch, room, double);
  line->worth = PARE_NEW_N(c->scratch, room, double);
  if (!line->group || !line->kills || !line->saved || !line->worth) return pare_nomem(c);
  int64_t alive = l->count - pare_dead_of(l);
  line->n = order(layer, i, line->group);
  while (line->over < line->n && line->group[line->over].score == -INFINITY) line->over++;
  double sum = 0, from = pare_layer_cost(l, alive - (int64_t)line->over);
  for (size_t k = line->over; k <= line->n; k++) {
    if (k > line->over) sum += l->score[line->group[k - 1].index];
    if (k > line->over && k < line->n && !pare_block_starts(line->group, k)) continue;
    line->kills[line->npoints] = k;
    line->saved[line->npoints] = from - pare_layer_cost(l, alive - (int64_t)k);
    line->worth[line->npoints++] = sum;
  }
  return PARE_OK;
}

PareStatus pare_rank_curve(PareCtx *c, size_t n, PareLayer *layer, double amount) {
  PareMark mark = pare_arena_mark(c->scratch);
  Line *line = PARE_NEW_N(c->scratch, n + 1, Line);
  PareTrade *trade = PARE_NEW_N(c->scratch, n + 1, PareTrade);
  if (!line || !trade) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    int64_t alive = layer[i].count - pare_dead_of(&layer[i]);
    PARE_TRY(draw(c, layer, i, &line[i]));
    trade[i] = (PareTrade){line[i].npoints, line[i].saved, line[i].worth, 0};
    amount -= pare_layer_cost(&layer[i], layer[i].count) - pare_layer_cost(&layer[i], alive - (int64_t)line[i].over);
  }
  PARE_TRY(pare_trade_off(c, n, trade, amount));
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < line[i].kills[trade[i].chosen]; k++) layer[i].keep[line[i].group[k].index] = false;
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
