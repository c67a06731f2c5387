/* tradeoff.c - see tradeoff.h. */
#include "runtime/tradeoff.h"

#include <math.h>
#include <stdlib.h>

static const double ROUNDING = 1e-12; /* of the amount: sums of gains are not exact */

typedef struct Point {
  double gain, loss;
  size_t at; /* in the trade */
} Point;

/* From one corner of a hull to the next. */
typedef struct Step {
  double slope, gain;
  size_t trade, number, to; /* number: of the hull's steps */
} Step;

static int by_gain(const void *pa, const void *pb) {
  const Point *a = pa, *b = pb;
  if (a->gain != b->gain) return a->gain < b->gain ? -1 : 1;
  return (a->loss > b->loss) - (a->loss < b->loss);
}

static int by_slope(const void *pa, const void *pb) {
  const Step *a = pa, *b = pb;
  if (a->slope != b->slope) return a->slope < b->slope ? -1 : 1;
  if (a->trade != b->trade) return a->trade < b->trade ? -1 : 1;
  return (a->number > b->number) - (a->number < b->number);
}

/* b lies on or above the line from a to c. */
static bool is_above(const Point *a, const Point *b, const Point *c) {
  return (b->loss - a->loss) * (c->gain - a->gain) >= (c->loss - a->loss) * (b->gain - a->gain);
}

/* The corners of the lower hull right of point 0, in order (Andrew's monotone chain); their number, 0's included. */
static size_t make_hull(const PareTrade *t, Point *hull, Point *sorted) {
  size_t n = 0, corners = 1;
  for (size_t i = 1; i < t->n; i++)
    if (t->gain[i] > 0) sorted[n++] = (Point){t->gain[i], t->loss[i], i};
  if (n) qsort(sorted, n, sizeof *sorted, by_gain);
  hull[0] = (Point){0, 0, 0};
  for (size_t i = 0; i < n; i++) {
    if (sorted[i].gain == hull[corners - 1].gain) continue; /* the same gain for a greater loss */
    while (corners > 1 && is_above(&hull[corners - 2], &hull[corners - 1], &sorted[i])) corners--;
    hull[corners++] = sorted[i];
  }
  return corners;
}

/* The cheapest point of a trade that gains so much. */
static size_t cheapest(const PareTrade *t, double gain) {
  size_t best = t->n;
  for (size_t i = 0; i < t->n; i++) {
    if (t->gain[i] < gain) continue;
    bool better = best == t->n || t->loss[i] < t->loss[best] ||
                  (t->loss[i] == t->loss[best] && t->gain[i] < t->gain[best]);
    if (better) best = i;
  }
  return best;
}

static PareStatus list_steps(PareCtx *c, size_t m, const PareTrade *trade, Step **out, size_t *n) {
  size_t all = 1, most = 1;
  for (size_t i = 0; i < m; i++) {
    all += trade[i].n;
    if (trade[i].n > most) most = trade[i].n;
  }
  Step *step = PARE_NEW_N(c->scratch, all, Step);
  Point *hull = PARE_NEW_N(c->scratch, most + 1, Point), *sorted = PARE_NEW_N(c->scratch, most + 1, Point);
  if (!step || !hull || !sorted) return pare_nomem(c);
  *n = 0;
  for (size_t i = 0; i < m; i++) {
    size_t corners = make_hull(&trade[i], hull, sorted);
    for (size_t k = 1; k < corners; k++) {
      double gain = hull[k].gain - hull[k - 1].gain;
      step[(*n)++] = (Step){(hull[k].loss - hull[k - 1].loss) / gain, gain, i, k, hull[k].at};
    }
  }
  *out = step;
  return PARE_OK;
}

PareStatus pare_trade_off(PareCtx *c, size_t m, PareTrade *trade, double amount) {
  PareMark mark = pare_arena_mark(c->scratch);
  Step *step;
  size_t n;
  double gained = 0;
  PARE_TRY(list_steps(c, m, trade, &step, &n));
  if (n) qsort(step, n, sizeof *step, by_slope);
  amount -= ROUNDING * fabs(amount);
  for (size_t i = 0; i < m; i++) trade[i].chosen = 0;
  for (size_t k = 0; k < n && gained < amount; k++) {
    PareTrade *t = &trade[step[k].trade];
    double wanted = t->gain[t->chosen] + amount - gained;
    bool last = t->gain[step[k].to] >= wanted;
    t->chosen = last ? cheapest(t, wanted) : step[k].to;
    gained += step[k].gain;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
