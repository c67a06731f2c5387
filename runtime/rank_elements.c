/* rank_elements.c - the score below which elements go is found digit by digit: two counts over all scores, by the upper
 * and by the lower half of a number whose order is the floats'. */
#include "runtime/rank_elements.h"

#include <math.h>
#include <string.h>

enum { DIGIT = 16, DIGITS = 1 << DIGIT, GROUP = 4, LEFT = 2 };

/* Of unsigned numbers in the order of floats. */
static uint32_t ordered(float x) {
  uint32_t u;
  x += 0.0f; /* -0 is 0 */
  memcpy(&u, &x, sizeof u);
  return u >> 31 ? ~u : u | 1u << 31;
}

/* The elements that are asked about. */
typedef struct Pool {
  size_t n;
  PareElements *weight;
  bool candidates; /* only those marked by CANDIDATE, else all that live */
} Pool;

enum { ALIVE = 1, CANDIDATE = 2 };

static bool in_pool(const Pool *p, uint8_t state) { return p->candidates ? state & CANDIDATE : state & ALIVE; }

/* count[d]: elements whose upper half is d or, where `upper` is given, whose lower half is d among those of that one. */
static void count_digits(const Pool *p, const uint32_t *upper, int64_t *count) {
  memset(count, 0, DIGITS * sizeof *count);
  for (size_t w = 0; w < p->n; w++)
    for (int64_t i = 0; i < p->weight[w].k * p->weight[w].n; i++) {
      uint32_t u = ordered(p->weight[w].score[i]);
      if (!in_pool(p, p->weight[w].alive[i]) || (upper && u >> DIGIT != *upper)) continue;
      count[upper ? u & (DIGITS - 1) : u >> DIGIT]++;
    }
}

/* The digit in which the drop-th element (from 1) lies; *drop becomes its place in it. */
static uint32_t find_digit(const int64_t *count, int64_t *drop) {
  uint32_t d = 0;
  while (d < DIGITS - 1 && count[d] < *drop) *drop -= count[d++];
  return d;
}

/* Kills the lowest `drop` of the pool. count: [DIGITS]. */
static void kill_lowest(const Pool *p, int64_t drop, int64_t *count) {
  if (drop <= 0) return;
  count_digits(p, NULL, count);
  uint32_t upper = find_digit(count, &drop);
  count_digits(p, &upper, count);
  uint32_t edge = upper << DIGIT | find_digit(count, &drop); /* `drop` of those that are equal to it go too */
  for (size_t w = 0; w < p->n; w++)
    for (int64_t i = 0; i < p->weight[w].k * p->weight[w].n; i++) {
      uint8_t *state = &p->weight[w].alive[i];
      uint32_t u = ordered(p->weight[w].score[i]);
      if (in_pool(p, *state) && (u < edge || (u == edge && drop-- > 0))) *state = 0;
    }
}

static int64_t dead_of(const PareElements *w) {
  int64_t dead = 0;
  for (int64_t i = 0; i < w->k * w->n; i++) dead += !w->alive[i];
  return dead;
}

PareStatus pare_rank_elements(PareCtx *c, size_t n, PareElements *weight, double ratio, bool global) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t all = 0, dead = 0, *digits = PARE_NEW_N(c->scratch, DIGITS, int64_t);
  if (!digits) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    int64_t count = weight[i].k * weight[i].n, gone = dead_of(&weight[i]);
    all += count;
    dead += gone;
    if (!global) kill_lowest(&(Pool){1, &weight[i], false}, (int64_t)floor(ratio * (double)count + 0.5) - gone, digits);
  }
  if (global) kill_lowest(&(Pool){n, weight, false}, (int64_t)floor(ratio * (double)all + 0.5) - dead, digits);
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static int64_t place(const PareElements *w, int64_t k, int64_t n) {
  return w->transposed ? n * w->k + k : k * w->n + n;
}

/* Marks what is to go of the four elements at (k, n): the lowest of those that live, down to two. */
static void mark_four(PareElements *w, int64_t k, int64_t n) {
  int alive = 0;
  for (int i = 0; i < GROUP; i++) alive += w->alive[place(w, k + i, n)] != 0;
  for (; alive > LEFT; alive--) {
    int64_t lowest = -1;
    for (int i = 0; i < GROUP; i++) {
      int64_t at = place(w, k + i, n);
      if (w->alive[at] == ALIVE && (lowest < 0 || w->score[at] < w->score[lowest])) lowest = at;
    }
    w->alive[lowest] |= CANDIDATE;
  }
}

PareStatus pare_rank_2_4(PareCtx *c, size_t n, PareElements *weight, double share) {
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *digits = PARE_NEW_N(c->scratch, DIGITS, int64_t);
  if (!digits) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    PareElements *w = &weight[i];
    int64_t most = w->k / GROUP * (GROUP - LEFT) * w->n;
    int64_t drop = (int64_t)floor(share * (double)most + 0.5) - dead_of(w);
    for (int64_t k = 0; k + GROUP <= w->k; k += GROUP)
      for (int64_t j = 0; j < w->n; j++) mark_four(w, k, j);
    kill_lowest(&(Pool){1, w, true}, drop, digits);
    for (int64_t j = 0; j < w->k * w->n; j++) w->alive[j] &= ALIVE;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
