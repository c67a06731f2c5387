/* test_rank_elements.c - which elements of weights go. Truth: METHOD 3's rules, by sorting and counting. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "runtime/rank_elements.h"
#include "support.h"

enum { WEIGHTS = 3, MOST = 40 * 24 };

typedef struct Case {
  Fix f;
  PareElements weight[WEIGHTS];
  float score[WEIGHTS][MOST];
  uint8_t alive[WEIGHTS][MOST];
} Case;

/* Scores with signs and ties; the second weight's are ten times as large, the third is stored transposed. */
static void start(Case *c, uint64_t seed) {
  static const int64_t size[WEIGHTS][2] = {{40, 24}, {13, 9}, {18, 31}};
  fix_init(&c->f);
  for (size_t i = 0; i < WEIGHTS; i++) {
    c->weight[i] = (PareElements){size[i][0], size[i][1], i == 2, c->score[i], c->alive[i]};
    for (int64_t k = 0; k < size[i][0] * size[i][1]; k++) {
      float u = (float)pare_rng_uniform(seed + i, (uint64_t)k) - 0.3f;
      c->score[i][k] = roundf(u * 50) * (i == 1 ? 10 : 1);
      c->alive[i][k] = 1;
    }
  }
}

static int64_t count(const Case *c, size_t i) { return c->weight[i].k * c->weight[i].n; }
static int64_t dead_in(const Case *c, size_t i) {
  int64_t n = 0;
  for (int64_t k = 0; k < count(c, i); k++) n += !c->alive[i][k];
  return n;
}

typedef struct Element {
  float score;
  size_t weight;
  int64_t index;
} Element;

static int by_score(const void *pa, const void *pb) {
  const Element *a = pa, *b = pb;
  if (a->score != b->score) return a->score < b->score ? -1 : 1;
  if (a->weight != b->weight) return a->weight < b->weight ? -1 : 1;
  return (a->index > b->index) - (a->index < b->index);
}

/* The living elements of weights lo..hi-1 in the order in which they go. */
static size_t sorted(const Case *c, size_t lo, size_t hi, Element *out) {
  size_t n = 0;
  for (size_t i = lo; i < hi; i++)
    for (int64_t k = 0; k < count(c, i); k++)
      if (c->alive[i][k]) out[n++] = (Element){c->score[i][k], i, k};
  qsort(out, n, sizeof *out, by_score);
  return n;
}

static void expect(const Case *c, const Element *e, size_t n, int64_t drop, const char *what) {
  for (size_t k = 0; k < n; k++)
    cr_assert_eq(c->alive[e[k].weight][e[k].index], (int64_t)k >= drop, "%s: weight %zu, element %ld, number %zu of %zu",
                 what, e[k].weight, (long)e[k].index, k, n);
}

Test(rank_elements, the_lowest_of_each_weight_or_of_all_go_and_ties_go_to_the_lower_index) {
  static Element order[WEIGHTS * MOST];
  for (int p = 0; p <= 100; p += 4) {
    Case c;
    start(&c, 5);
    size_t n = sorted(&c, 0, WEIGHTS, order);
    MUST(&c.f, pare_rank_elements(&c.f.c, WEIGHTS, c.weight, p / 100.0, true));
    expect(&c, order, n, (int64_t)floor(p / 100.0 * (double)n + 0.5), fmt(&c.f, "%d %% of all", p));
    fix_free(&c.f);
    for (size_t i = 0; i < WEIGHTS; i++) {
      start(&c, 5);
      n = sorted(&c, i, i + 1, order);
      MUST(&c.f, pare_rank_elements(&c.f.c, WEIGHTS, c.weight, p / 100.0, false));
      expect(&c, order, n, (int64_t)floor(p / 100.0 * (double)n + 0.5), fmt(&c.f, "%d %% of each", p));
      fix_free(&c.f);
    }
  }
}

Test(rank_elements, what_is_dead_stays_dead_while_scores_change) {
  Case c;
  start(&c, 5);
  MUST(&c.f, pare_rank_elements(&c.f.c, WEIGHTS, c.weight, 0.3, true));
  uint8_t before[WEIGHTS][MOST];
  memcpy(before, c.alive, sizeof before);
  for (size_t i = 0; i < WEIGHTS; i++)
    for (int64_t k = 0; k < count(&c, i); k++) c.score[i][k] = -c.score[i][k];
  MUST(&c.f, pare_rank_elements(&c.f.c, WEIGHTS, c.weight, 0.6, true));
  int64_t all = 0, dead = 0;
  for (size_t i = 0; i < WEIGHTS; i++) {
    all += count(&c, i), dead += dead_in(&c, i);
    for (int64_t k = 0; k < count(&c, i); k++) cr_assert(before[i][k] || !c.alive[i][k]);
  }
  cr_assert_eq(dead, (int64_t)floor(0.6 * (double)all + 0.5), "%ld of %ld dead", (long)dead, (long)all);
  fix_free(&c.f);
}

Test(rank_elements, two_of_every_four_along_k_go_the_lowest_first) {
  Case c;
  start(&c, 9);
  for (int step = 1; step <= 4; step++) {
    MUST(&c.f, pare_rank_2_4(&c.f.c, WEIGHTS, c.weight, step / 4.0));
    for (size_t i = 0; i < WEIGHTS; i++) {
      int64_t most = c.weight[i].k / 4 * 2 * c.weight[i].n, want = (int64_t)floor(step / 4.0 * (double)most + 0.5);
      cr_assert_eq(dead_in(&c, i), want, "weight %zu, step %d: %ld dead, not %ld", i, step, (long)dead_in(&c, i), (long)want);
    }
  }
  for (size_t i = 0; i < WEIGHTS; i++) {
    const PareElements *w = &c.weight[i];
    for (int64_t n = 0; n < w->n; n++)
      for (int64_t k = 0; k < w->k; k++) {
        int64_t at = w->transposed ? n * w->k + k : k * w->n + n, lower = 0;
        for (int64_t q = k / 4 * 4; q < k / 4 * 4 + 4 && q < w->k; q++) {
          int64_t other = w->transposed ? n * w->k + q : q * w->n + n;
          lower += c.score[i][other] < c.score[i][at] || (c.score[i][other] == c.score[i][at] && q < k);
        }
        bool stays = k >= w->k / 4 * 4 || lower >= 2;
        cr_assert_eq(c.alive[i][at], stays, "weight %zu at (%ld, %ld): %d", i, (long)k, (long)n, c.alive[i][at]);
      }
  }
  fix_free(&c.f);
}
