/* test_slices.c - constants made of others. Truth is index arithmetic, element by element. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "ir/slices.h"
#include "support.h"

static const PareDtype dtypes[] = {PARE_U8, PARE_F16, PARE_I32, PARE_I64};

/* A tensor of up to four axes with some indices dead on some of them; the elements are their own numbers, as far as
 * their type holds them. Every fourth has a long last axis, every eighth begins at an odd address, and every sixteenth
 * holds nothing. */
static PareSlices random_slices(Fix *f, uint64_t seed) {
  PareSlices s = {.whole = {.dtype = dtypes[pare_rng_u64(seed, 90) % 4], .rank = 1 + (int)(pare_rng_u64(seed, 0) % 4)}};
  s.zeroed = pare_rng_u64(seed, 1) & 1;
  for (int d = 0; d < s.whole.rank; d++) s.whole.dim[d] = 1 + (int64_t)(pare_rng_u64(seed, 2 + (uint64_t)d) % 7);
  if (seed % 4 == 0) s.whole.dim[s.whole.rank - 1] = 4000 + (int64_t)(pare_rng_u64(seed, 91) % 5000);
  if (seed % 16 == 3) s.whole.dim[s.whole.rank - 1] = 0;
  size_t n = (size_t)pare_type_count(&s.whole), size = pare_dtype_size(s.whole.dtype);
  uint8_t *data = (uint8_t *)pare_arena_alloc(f->arena, n * size + 1, 8) + (seed % 8 == 1);
  for (size_t i = 0; i < n; i++) {
    uint64_t number = i + 1; /* little-endian, as all that pare runs on */
    memcpy(data + i * size, &number, size);
  }
  s.data = data;
  for (int d = 0; d < s.whole.rank; d++) {
    if (pare_rng_u64(seed, 10 + (uint64_t)d) & 1) continue;
    bool *alive = pare_arena_alloc(f->arena, (size_t)s.whole.dim[d], sizeof *alive);
    for (int64_t i = 0; i < s.whole.dim[d]; i++) alive[i] = pare_rng_u64(seed + 1000000 * (uint64_t)d, 100 + (uint64_t)i) & 1;
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
  uint8_t *at;
  size_t n, room; /* bytes */
} Taken;

static bool take(void *arg, const void *p, size_t bytes) {
  Taken *t = arg;
  cr_assert(bytes <= t->room - t->n);
  if (p) memcpy(t->at + t->n, p, bytes);
  else memset(t->at + t->n, 0, bytes);
  t->n += bytes;
  return true;
}

Test(slices, are_the_elements_that_live_in_order_or_zeros_in_their_places) {
  for (uint64_t seed = 0; seed < 2000; seed++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareSlices s = random_slices(f, seed);
    size_t all = (size_t)pare_type_count(&s.whole), size = pare_dtype_size(s.whole.dtype), n = 0;
    Taken got = {.room = all * size};
    got.at = pare_arena_alloc(f->arena, got.room + 1, 1);
    cr_assert(pare_slices_walk(&s, take, &got));
    for (size_t i = 0; i < all; i++) {
      if (!s.zeroed && !lives(&s, (int64_t)i)) continue;
      uint64_t want = lives(&s, (int64_t)i) ? i + 1 : 0, have = 0;
      cr_assert((n + 1) * size <= got.n);
      memcpy(&have, got.at + n * size, size);
      if (size < sizeof want) want &= (UINT64_C(1) << 8 * size) - 1;
      cr_assert(have == want, "seed %d: element %zu is %llu, not %llu", (int)seed, n, (unsigned long long)have,
                (unsigned long long)want);
      n++;
    }
    cr_assert_eq(got.n, n * size, "seed %d: %zu bytes instead of %zu", (int)seed, got.n, n * size);
    fix_free(f);
  }
}

static bool stop_at_once(void *arg, const void *p, size_t bytes) {
  (void)p, (void)bytes;
  return ++*(int *)arg < 2;
}

Test(slices, a_walk_ends_when_its_sink_says_so) {
  const int32_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const bool rows[] = {true, false, true}, columns[] = {true, false, true};
  PareSlices by_row = {.whole = {PARE_I32, 2, {3, 3}}, .data = data, .alive = {rows}}, by_number = by_row;
  by_number.alive[1] = columns;
  int calls = 0;
  cr_expect_not(pare_slices_walk(&by_row, stop_at_once, &calls));
  cr_expect_eq(calls, 2, "%d calls instead of 2", calls);
  calls = 0;
  cr_expect_not(pare_slices_walk(&by_number, stop_at_once, &calls));
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
