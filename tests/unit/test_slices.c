/* test_slices.c - constants made of others. Truth is index arithmetic, element by element. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "ir/slices.h"
#include "support.h"

/* A tensor of up to four axes with some indices dead on some of them; the elements are their own numbers. */
static PareSlices random_slices(Fix *f, uint64_t seed) {
  PareSlices s = {.whole = {.dtype = PARE_I32, .rank = 1 + (int)(pare_rng_u64(seed, 0) % 4)}};
  s.zeroed = pare_rng_u64(seed, 1) & 1;
  for (int d = 0; d < s.whole.rank; d++) s.whole.dim[d] = 1 + (int64_t)(pare_rng_u64(seed, 2 + (uint64_t)d) % 7);
  int64_t n = pare_type_count(&s.whole);
  int32_t *data = pare_arena_alloc(f->arena, (size_t)n, sizeof *data);
  for (int64_t i = 0; i < n; i++) data[i] = (int32_t)i + 1;
  s.data = data;
  for (int d = 0; d < s.whole.rank; d++) {
    if (pare_rng_u64(seed, 10 + (uint64_t)d) & 1) continue;
    bool *alive = pare_arena_alloc(f->arena, (size_t)s.whole.dim[d], sizeof *alive);
    for (int64_t i = 0; i < s.whole.dim[d]; i++) alive[i] = pare_rng_u64(seed, 100 + 10 * (uint64_t)d + (uint64_t)i) & 1;
    s.alive[d] = alive;
  }
  return s;
}

static bool lives(const PareSlices *s, int64_t i) {
  bool alive = true;
  for (int d = s->whole.rank - 1; d >= 0; i /= s->whole.dim[d--])
    alive &= !s->alive[d] || s->alive[d][i % s->whole.dim[d]];
  return alive;
}

typedef struct Taken {
  int32_t at[2401];
  size_t n;
} Taken;

static bool take(void *arg, const void *p, size_t bytes) {
  Taken *t = arg;
  cr_assert(bytes % 4 == 0 && t->n + bytes / 4 <= 2401);
  if (p) memcpy(t->at + t->n, p, bytes);
  else memset(t->at + t->n, 0, bytes);
  t->n += bytes / 4;
  return true;
}

Test(slices, are_the_elements_that_live_in_order_or_zeros_in_their_places) {
  for (uint64_t seed = 0; seed < 2000; seed++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareSlices s = random_slices(f, seed);
    Taken got = {.n = 0};
    cr_assert(pare_slices_walk(&s, take, &got));
    size_t n = 0;
    for (int64_t i = 0; i < pare_type_count(&s.whole); i++) {
      if (!s.zeroed && !lives(&s, i)) continue;
      int32_t want = lives(&s, i) ? (int32_t)i + 1 : 0;
      cr_assert(n < got.n && got.at[n] == want, "seed %d: element %zu is %d, not %d", (int)seed, n, got.at[n], want);
      n++;
    }
    cr_assert_eq(got.n, n, "seed %d: %zu elements instead of %zu", (int)seed, got.n, n);
    fix_free(f);
  }
}

static bool stop_at_once(void *arg, const void *p, size_t bytes) {
  (void)p, (void)bytes;
  return ++*(int *)arg < 2;
}

Test(slices, a_walk_ends_when_its_sink_says_so) {
  const int32_t data[] = {1, 2, 3, 4, 5};
  const bool alive[] = {true, false, true, false, true};
  PareSlices s = {.whole = {PARE_I32, 1, {5}}, .data = data, .alive = {alive}};
  int calls = 0;
  cr_expect_not(pare_slices_walk(&s, stop_at_once, &calls));
  cr_expect_eq(calls, 2, "%d calls instead of 2", calls);
}

Test(slices, are_equal_when_made_alike_of_the_same_bytes) {
  const int32_t data[] = {1, 2, 3}, others[] = {1, 2, 3};
  const bool a[] = {true, false, true}, b[] = {true, false, true}, c[] = {true, true, false};
  PareSlices s = {.whole = {PARE_I32, 1, {3}}, .data = data, .alive = {a}}, t = s;
  t.alive[0] = b;
  cr_expect(pare_slices_equal(&s, &t));
  t.alive[0] = c;
  cr_expect_not(pare_slices_equal(&s, &t), "other indices live");
  t = s;
  t.zeroed = true;
  cr_expect_not(pare_slices_equal(&s, &t), "one has zeros where the other has nothing");
  t = s;
  t.data = others;
  cr_expect_not(pare_slices_equal(&s, &t), "made of another tensor");
  t = s;
  t.alive[0] = NULL;
  cr_expect_not(pare_slices_equal(&s, &t), "all of it");
}
