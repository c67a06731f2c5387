/* rank_cost.c - which groups of all kinds go where each costs something: the lowest score for its cost first. */
#include <math.h>

#include "runtime/rank_parts.h"

/* When what goes by its cost is enough. */
typedef struct Enough {
  double amount, final, slack;
  bool nearest;
} Enough;

/* Groups in the order in which they go, in blocks. */
typedef struct Queue {
  PareLayer *layer;
  const PareCandidate *at;
  size_t n;
} Queue;

static size_t end_of_block(const Queue *q, size_t k) {
  size_t end = k + 1;
  while (end < q->n && !pare_block_starts(q->at, end)) end++;
  return end;
}

static double block_cost(const Queue *q, size_t k) {
  return q->layer[q->at[k].layer].cost * (double)(end_of_block(q, k) - k);
}

static void kill_block(Queue *q, size_t k) {
  for (size_t end = end_of_block(q, k); k < end; k++) q->layer[q->at[k].layer].keep[q->at[k].index] = false;
}

/* Is what goes enough before block k does? What is over a multiple goes in any case. */
static bool is_enough(const Queue *q, size_t k, double gone, const Enough *e) {
  const PareLayer *l = &q->layer[q->at[k].layer];
  double half = e->nearest && pare_block_size(l) == 1 ? l->cost / 2 : 0;
  return pare_rank_stops(q->at, k) && gone + half >= e->amount;
}

static bool is_too_much(const Queue *q, size_t k, double gone, const Enough *e) {
  return pare_rank_stops(q->at, k) && gone + block_cost(q, k) > e->final + e->slack;
}

/* What has gone in the end when block k is passed over: of those behind it all that are not too much, as long as it takes,
 * then the cheapest of the others, any of which is enough. INFINITY: they do not do. */
static double gone_without(const Queue *q, size_t k, double gone, const Enough *e) {
  double cheapest = INFINITY;
  for (k = end_of_block(q, k); k < q->n && gone < e->final; k = end_of_block(q, k)) {
    double cost = block_cost(q, k);
    if (!is_too_much(q, k, gone, e)) gone += cost;
    else if (cost < cheapest) cheapest = cost;
  }
  return gone < e->final ? gone + cheapest : gone;
}

/* `gone` is what went before. */
static void kill_until(Queue *q, double gone, const Enough *e) {
  for (size_t k = 0; k < q->n && !is_enough(q, k, gone, e); k = end_of_block(q, k)) {
    double cost = block_cost(q, k);
    if (is_too_much(q, k, gone, e) && gone_without(q, k, gone, e) < gone + cost) continue;
    kill_block(q, k);
    gone += cost;
  }
}

static PareStatus rank_cost(PareCtx *c, size_t n, PareLayer *layer, const Enough *e) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareCandidate *cand = PARE_NEW_N(c->scratch, pare_rank_groups(n, layer) + 1, PareCandidate);
  int64_t *alive = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!cand || !alive) return pare_nomem(c);
  double gone = 0;
  size_t m = 0;
  for (size_t i = 0; i < n; i++) {
    int64_t dead = pare_dead_of(&layer[i]);
    alive[i] = layer[i].count - dead;
    gone += layer[i].cost * (double)dead;
    m += pare_blocks_gather(layer, i, true, cand + m);
  }
  kill_until(&(Queue){layer, cand, pare_rank_order(layer, cand, m, alive)}, gone, e);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

PareStatus pare_rank_cost(PareCtx *c, size_t n, PareLayer *layer, double amount) {
  return rank_cost(c, n, layer, &(Enough){amount, amount, INFINITY, true});
}

PareStatus pare_rank_cost_reach(PareCtx *c, size_t n, PareLayer *layer, double amount, double final, double slack) {
  return rank_cost(c, n, layer, &(Enough){amount, final, slack, false});
}
