/* test_program.c - the memory plan and the executor. Truth for a plan is an
 * overlap count by brute force, for a run the same nodes without any reuse. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "passes/parts.h"
#include "runtime/device.h"
#include "runtime/plan.h"
#include "runtime/program.h"

/* --- counted allocations; AddressSanitizer has an allocator of its own --- */

#ifndef __SANITIZE_ADDRESS__
static _Atomic int counting, allocations;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n) {
  allocations += counting;
  return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
  allocations += counting;
  return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
  allocations += counting;
  return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n) {
  allocations += counting;
  return __libc_memalign(align, n);
}
int posix_memalign(void **p, size_t align, size_t n) {
  allocations += counting;
  *p = __libc_memalign(align, n);
  return *p ? 0 : ENOMEM;
}
#endif

/* --- fixture --- */

typedef struct Fix {
  PareCtx c;
  PareArena *arena;
  PareGraph *g;
} Fix;

static void fix_init(Fix *f) {
  *f = (Fix){0};
  cr_assert(pare_ctx_init(&f->c, NULL, 0));
  f->arena = pare_arena_new(1 << 14);
  f->g = pare_graph_new(&f->c, f->arena);
  cr_assert(f->g != NULL);
}

static void fix_free(Fix *f) {
  pare_arena_free(f->arena);
  pare_ctx_free(&f->c);
}

#define F32(...) \
  (PareType) { .dtype = PARE_F32, .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), .dim = { __VA_ARGS__ } }

static PareValue *must(Fix *f, PareValue *v) {
  cr_assert(v != NULL, "node '%s' (%s): %s", f->c.diag.node, f->c.diag.op, f->c.diag.text);
  return v;
}

#define N(name, op, ...) must(f, PARE_EMIT(&f->c, f->g, NULL, PARE_OP_##op, name, NULL, __VA_ARGS__))

static PareValue *input(Fix *f, const char *name, PareType t) {
  return must(f, pare_value_add(&f->c, f->g, PARE_INPUT, name, t));
}

static void output(Fix *f, PareValue *v) { cr_assert(pare_vec_push(f->arena, &f->g->outputs, v)); }

static PareProgram *program(Fix *f, size_t npins, PareValue *const *pins) {
  PareProgram *p;
  cr_assert_eq(pare_program_new_pinned(&f->c, f->g, pare_cpu_kernels(), npins, pins, &p), PARE_OK,
               "node '%s' (%s): %s", f->c.diag.node, f->c.diag.op, f->c.diag.text);
  return p;
}

static void run(Fix *f, PareProgram *p, int phase) {
  cr_assert_eq(pare_program_run(&f->c, p, phase), PARE_OK, "node '%s' (%s): %s", f->c.diag.node, f->c.diag.op,
               f->c.diag.text);
}

static void fill(float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) x[i] = (float)(pare_rng_uniform(3, (uint64_t)i) - 0.5);
}

/* --- packing --- */

static void check_packed(const PareRecord *r, size_t n, size_t total, uint64_t seed) {
  for (size_t i = 0; i < n; i++) {
    cr_assert(r[i].offset % PARE_PLAN_ALIGN == 0 && r[i].offset + r[i].bytes <= total, "seed %llu: record %zu",
              (unsigned long long)seed, i);
    for (size_t k = 0; k < i; k++) {
      bool together = r[i].first <= r[k].last && r[k].first <= r[i].last;
      bool overlap = r[i].offset < r[k].offset + r[k].bytes && r[k].offset < r[i].offset + r[i].bytes;
      cr_assert(!(together && overlap), "seed %llu: records %zu [%zu,+%zu) and %zu [%zu,+%zu) live at once",
                (unsigned long long)seed, i, r[i].offset, r[i].bytes, k, r[k].offset, r[k].bytes);
    }
  }
}

Test(plan, records_that_live_at_once_never_overlap) {
  PareCtx c;
  cr_assert(pare_ctx_init(&c, NULL, 0));
  for (uint64_t seed = 0; seed < 200; seed++) {
    PareRecord r[60];
    size_t n = pare_rng_u64(seed, 0) % 60 + 1, total, need = 0;
    for (size_t i = 0; i < n; i++) {
      uint32_t first = (uint32_t)(pare_rng_u64(seed, 3 * i + 1) % 100);
      r[i] = (PareRecord){.bytes = pare_rng_u64(seed, 3 * i + 2) % 5000, .first = first,
                          .last = first + (uint32_t)(pare_rng_u64(seed, 3 * i + 3) % 30)};
    }
    cr_assert_eq(pare_plan_pack(&c, n, r, &total), PARE_OK);
    check_packed(r, n, total, seed);
    for (uint32_t t = 0; t < 130; t++) {
      size_t live = 0;
      for (size_t i = 0; i < n; i++) live += r[i].first <= t && t <= r[i].last ? r[i].bytes : 0;
      need = live > need ? live : need;
    }
    cr_expect(total >= need && total <= 2 * need, "seed %llu: %zu bytes where %zu live at once",
              (unsigned long long)seed, total, need);
  }
  pare_ctx_free(&c);
}

Test(plan, a_size_that_overflows_is_an_error) {
  PareCtx c;
  cr_assert(pare_ctx_init(&c, NULL, 0));
  PareRecord r[] = {{.bytes = SIZE_MAX - 5}, {.bytes = 64}};
  size_t total;
  cr_expect_eq(pare_plan_pack(&c, 2, r, &total), PARE_NOMEM);
  pare_ctx_free(&c);
}

/* --- reuse --- */

/* A node on a value or two that are there, picked by `at`; every value is [4,6] or [6,4]. */
static PareValue *random_node(Fix *f, uint64_t seed, uint64_t at, PareValue **v, size_t n) {
  PareValue *x = v[pare_rng_u64(seed, 4 * at) % n], *y = v[pare_rng_u64(seed, 4 * at + 1) % n];
  bool same = pare_type_equal(&x->type, &y->type);
  PareAttrs attr = {0};
  switch (pare_rng_u64(seed, 4 * at + 2) % 10) {
  case 0: return N("neg", NEG, x);
  case 1: return N("tanh", TANH, x);
  case 2: return N("transpose", TRANSPOSE, x);
  case 3: return N("reshape", RESHAPE, x, pare_const_ints(&f->c, f->g, "s", 2, (int64_t[]){x->type.dim[1], -1}));
  case 4: return N("softmax", SOFTMAX, x);
  case 5: return same ? N("add", ADD, x, y) : N("addt", ADD, x, N("yt", TRANSPOSE, y));
  case 6: return same ? N("mul", MUL, x, y) : N("relugrad", RELUGRAD, x, N("yt", TRANSPOSE, y));
  case 7: return N("self", SUB, x, x);
  case 8: /* a row of x, then x itself: the first operand is smaller than the result */
    return N("addrow", ADD, N("row", SLICE, x, pare_const_ints(&f->c, f->g, "0", 1, (int64_t[]){0}),
                              pare_const_ints(&f->c, f->g, "1", 1, (int64_t[]){1})), x);
  default:
    pare_attr_set(&attr, transB, 1);
    y = must(f, PARE_EMIT(&f->c, f->g, NULL, PARE_OP_MATMUL, "gram", &attr, x, x));
    return N("mix", MATMUL, y, x);
  }
}

Test(program, reusing_memory_changes_no_result) {
  for (uint64_t seed = 0; seed < 60; seed++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareValue *v[40] = {input(f, "a", F32(4, 6)), input(f, "b", F32(6, 4))};
    for (size_t n = 2; n < 40; n++) v[n] = random_node(f, seed, n, v, n);
    for (size_t n = 31; n < 40; n += 4) output(f, v[n]);
    PareProgram *tight = program(f, 0, NULL), *loose = program(f, 40, v);
    for (int i = 0; i < 2; i++) {
      fill(pare_program_buffer(tight, v[i]), 24);
      fill(pare_program_buffer(loose, v[i]), 24);
    }
    run(f, loose, -1);
    for (int again = 0; again < 2; again++) {
      run(f, tight, -1);
      for (size_t i = 0; i < f->g->outputs.n; i++) {
        const PareValue *out = f->g->outputs.at[i];
        const float *a = pare_program_buffer(tight, out), *b = pare_program_buffer(loose, out);
        for (int k = 0; k < 24; k++)
          cr_assert(!memcmp(&a[k], &b[k], 4), "seed %llu, run %d, output %zu[%d]: %.9g with reuse, %.9g without",
                    (unsigned long long)seed, again, i, k, (double)a[k], (double)b[k]);
      }
    }
    cr_expect_leq(pare_program_memory(tight).results, pare_program_memory(loose).results);
    pare_program_free(tight);
    pare_program_free(loose);
    fix_free(f);
  }
}

Test(program, a_chain_of_elementwise_ops_runs_in_one_buffer) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(100));
  for (int i = 0; i < 10; i++) x = N("tanh", TANH, x);
  output(f, x);
  PareProgram *p = program(f, 0, NULL);
  cr_expect_eq(pare_program_memory(p).results, 448, "100 floats, rounded up to 64, not %zu",
               pare_program_memory(p).results);
  pare_program_free(p);
  fix_free(f);
}

Test(program, a_value_that_only_lends_its_type_is_not_kept) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(1, 16)), *like = N("like", NEG, x), *big = input(f, "big", F32(4, 16));
  output(f, N("sum", SUMTO, big, like));
  PareProgram *p = program(f, 0, NULL);
  float *b = pare_program_buffer(p, big);
  for (int i = 0; i < 64; i++) b[i] = (float)(i / 16 + 1);
  run(f, p, -1);
  const float *y = pare_program_buffer(p, f->g->outputs.at[0]);
  cr_expect_float_eq((double)y[15], 10, 0, "1 + 2 + 3 + 4 is %g", (double)y[15]);
  cr_expect_eq(pare_program_memory(p).results, 64, "the sum alone, not %zu", pare_program_memory(p).results);
  pare_program_free(p);
  fix_free(f);
}

/* --- views, states, constants --- */

Test(program, views_show_the_memory_they_are_made_of) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(2, 3)), *s = must(f, pare_value_add(&f->c, f->g, PARE_STATE, "s", F32(6)));
  PareValue *six = pare_const_ints(&f->c, f->g, "six", 1, (int64_t[]){6});
  PareValue *flat = N("flat", IDENTITY, N("reshape", RESHAPE, x, six));
  output(f, flat);
  output(f, N("state", IDENTITY, s));
  output(f, N("neg", NEG, flat));
  PareProgram *p = program(f, 0, NULL);
  cr_expect_eq(pare_program_buffer(p, flat), pare_program_buffer(p, x));
  cr_expect_eq(pare_program_buffer(p, f->g->outputs.at[1]), pare_program_buffer(p, s));
  float *in = pare_program_buffer(p, x);
  fill(in, 6);
  run(f, p, -1);
  const float *neg = pare_program_buffer(p, f->g->outputs.at[2]);
  for (int i = 0; i < 6; i++) cr_expect(neg[i] == -in[i], "element %d: %g from %g", i, (double)neg[i], (double)in[i]);
  pare_program_free(p);
  fix_free(f);
}

Test(program, states_start_as_their_data_and_persist_between_runs) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const float start[] = {10, 20};
  PareValue *acc = must(f, pare_value_add(&f->c, f->g, PARE_STATE, "acc", F32(2))), *x = input(f, "x", F32(2));
  PareValue *zero = must(f, pare_value_add(&f->c, f->g, PARE_STATE, "zero", F32(2)));
  acc->data = start;
  for (int i = 0; i < 2; i++) {
    PareValue *in[] = {i ? zero : acc, x};
    cr_assert(pare_node_add(&f->c, f->g, NULL, PARE_OP_ACCUMULATE, "acc", 2, in, 0) != NULL);
  }
  PareProgram *p = program(f, 0, NULL);
  memcpy(pare_program_buffer(p, x), (float[]){1, 2}, 8);
  for (int i = 0; i < 3; i++) run(f, p, -1);
  const float *a = pare_program_buffer(p, acc), *z = pare_program_buffer(p, zero);
  cr_expect(a[0] == 13 && a[1] == 26, "10 + 3 and 20 + 6 are %g and %g", (double)a[0], (double)a[1]);
  cr_expect(z[0] == 3 && z[1] == 6, "three times 1 and 2 are %g and %g", (double)z[0], (double)z[1]);
  cr_expect(start[0] == 10, "the data that a state starts with is not written");
  pare_program_free(p);
  fix_free(f);
}

Test(program, phase_0_may_run_several_times_before_phase_1_sees_its_last_results) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *acc = must(f, pare_value_add(&f->c, f->g, PARE_STATE, "acc", F32(2))), *x = input(f, "x", F32(2));
  PareValue *neg = N("neg", NEG, x), *in[] = {acc, neg};
  cr_assert(pare_node_add(&f->c, f->g, NULL, PARE_OP_ACCUMULATE, "acc", 2, in, 0) != NULL);
  PareValue *sum = N("sum", ADD, acc, neg);
  sum->def->phase = 1;
  output(f, sum);
  PareProgram *p = program(f, 0, NULL);
  float *px = pare_program_buffer(p, x);
  for (int i = 1; i <= 3; i++) {
    px[0] = px[1] = (float)i;
    run(f, p, 0);
  }
  run(f, p, 1);
  const float *y = pare_program_buffer(p, sum);
  cr_expect(y[0] == -9, "-(1 + 2 + 3) - 3 is %g", (double)y[0]);
  pare_program_free(p);
  fix_free(f);
}

/* A chain whose every third result is an output, in a part of its own. */
Test(program, outputs_that_pass_can_be_read_after_their_part_and_take_the_memory_of_one) {
  enum { PARTS = 8, EACH = 3, WIDTH = 1000 };
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(WIDTH)), *v = x;
  uint8_t part[PARTS];
  for (int i = 0; i < PARTS; i++) {
    for (int k = 0; k < EACH; k++) v = N("sum", ADD, v, x);
    output(f, v);
    part[i] = (uint8_t)i;
  }
  PareProgram *whole = program(f, 0, NULL), *p;
  cr_assert_eq(pare_split_parts(&f->c, f->g, part), PARE_OK);
  cr_assert_eq(pare_program_new_passing(&f->c, f->g, pare_cpu_kernels(), &p), PARE_OK);
  float *in = pare_program_buffer(p, x);
  for (int i = 0; i < WIDTH; i++) in[i] = (float)i;
  for (int i = 0; i < PARTS; i++) {
    run(f, p, i);
    const float *y = pare_program_buffer(p, f->g->outputs.at[i]);
    float want = (float)(WIDTH - 1) * (float)(EACH * (i + 1) + 1);
    cr_expect(y[WIDTH - 1] == want, "part %d ends with %g, not %g", i, (double)y[WIDTH - 1], (double)want);
  }
  size_t all = pare_program_memory(whole).results, one = pare_program_memory(p).results;
  cr_expect(one * PARTS <= all * 2, "%zu bytes where all parts together take %zu", one, all);
  pare_program_free(whole);
  pare_program_free(p);
  fix_free(f);
}

Test(parts, a_node_is_in_the_first_part_that_needs_it_and_order_follows) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(4)), *late = N("late", NEG, x), *early = N("early", EXP, x);
  PareValue *shared = N("shared", ABS, x), *a = N("a", ADD, early, shared), *b = N("b", MUL, late, shared);
  output(f, b);
  output(f, a);
  const uint8_t part[] = {1, 0};
  cr_assert_eq(pare_split_parts(&f->c, f->g, part), PARE_OK);
  static const char *const want[] = {"early", "shared", "a", "late", "b"};
  size_t i = 0;
  for (const PareNode *n = f->g->first; n; n = n->next, i++) {
    cr_assert(i < 5 && !strcmp(n->name, want[i]), "node %zu is '%s'", i, n->name);
    cr_expect_eq(n->phase, i > 2, "'%s' is in part %d", n->name, n->phase);
    cr_expect(n->next ? n->next->prev == n : f->g->last == n);
  }
  cr_expect_eq(i, 5u);
  fix_free(f);
}

Test(program, constants_are_read_in_place_unless_they_are_not_aligned) {
  Fix fix, *f = &fix;
  fix_init(f);
  char *raw = pare_arena_alloc(f->arena, 64, 1);
  memcpy(raw + 1, (float[]){1, 2, 3}, 12);
  memcpy(raw + 32, (float[]){4, 5, 6}, 12);
  PareValue *odd = pare_const_add(&f->c, f->g, "odd", F32(3), raw + 1);
  PareValue *even = pare_const_add(&f->c, f->g, "even", F32(3), raw + 32);
  output(f, N("add", ADD, odd, even));
  PareProgram *p = program(f, 0, NULL);
  run(f, p, -1);
  const float *y = pare_program_buffer(p, f->g->outputs.at[0]);
  cr_expect(y[0] == 5 && y[2] == 9, "1 + 4 and 3 + 6 are %g and %g", (double)y[0], (double)y[2]);
  cr_expect_eq(pare_program_buffer(p, even), raw + 32);
  cr_expect_eq(pare_program_memory(p).constants, 64, "one copy, not %zu bytes", pare_program_memory(p).constants);
  pare_program_free(p);
  fix_free(f);
}

Test(program, a_resident_program_has_large_constants_of_its_own) {
  enum { N_LARGE = 1 << 14 };
  Fix fix, *f = &fix;
  fix_init(f);
  float *many = pare_arena_alloc(f->arena, N_LARGE, sizeof *many), few[] = {4};
  for (int i = 0; i < N_LARGE; i++) many[i] = (float)i;
  PareValue *large = pare_const_add(&f->c, f->g, "large", F32(N_LARGE), many);
  PareValue *small = pare_const_add(&f->c, f->g, "small", F32(1), few);
  output(f, N("add", ADD, large, small));
  PareDevice cpu = pare_device_cpu(pare_cpu_kernels());
  PareProgram *p;
  cr_assert_eq(pare_program_new_resident(&f->c, f->g, &cpu, 0, NULL, &p), PARE_OK);
  memset(many, 0, N_LARGE * sizeof *many);
  run(f, p, -1);
  const float *y = pare_program_buffer(p, f->g->outputs.at[0]);
  cr_expect(y[0] == 4 && y[N_LARGE - 1] == N_LARGE + 3, "0 + 4 and %d + 4 are %g and %g", N_LARGE - 1, (double)y[0],
            (double)y[N_LARGE - 1]);
  cr_expect_eq(pare_program_buffer(p, small), few);
  cr_expect_eq(pare_program_memory(p).constants, N_LARGE * sizeof *many, "%zu bytes were copied",
               pare_program_memory(p).constants);
  pare_program_free(p);
  fix_free(f);
}

Test(program, a_frozen_weight_is_read_at_any_address_where_its_kernels_take_it) {
  Fix fix, *f = &fix;
  fix_init(f);
  char *raw = pare_arena_alloc(f->arena, 64, 1);
  memcpy(raw + 1, (float[]){1, 2, 3, 4, 5, 6}, 24);
  PareValue *w = pare_const_add(&f->c, f->g, "w", F32(2, 3), raw + 1), *x = input(f, "x", F32(1, 2));
  output(f, N("linear", LINEAR, x, w));
  PareProgram *p = program(f, 0, NULL);
  memcpy(pare_program_buffer(p, x), (float[]){10, 1}, 8);
  run(f, p, -1);
  const float *y = pare_program_buffer(p, f->g->outputs.at[0]);
  cr_expect(y[0] == 14 && y[1] == 25 && y[2] == 36, "[10 1]·w is %g %g %g", (double)y[0], (double)y[1], (double)y[2]);
  cr_expect_eq(pare_program_memory(p).constants, 0, "%zu bytes were copied", pare_program_memory(p).constants);
  pare_program_free(p);
  fix_free(f);
}

Test(program, results_known_from_binding_are_constants) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const float told[] = {7, 8};
  PareValue *x = input(f, "x", F32(2)), *neg = N("neg", NEG, x), *y = N("add", ADD, neg, neg);
  neg->data = told;
  output(f, y);
  PareProgram *p = program(f, 0, NULL);
  memset(pare_program_buffer(p, x), 0, 8);
  run(f, p, -1);
  const float *got = pare_program_buffer(p, y);
  cr_expect(got[0] == 14 && got[1] == 16, "7 + 7 and 8 + 8 are %g and %g", (double)got[0], (double)got[1]);
  pare_program_free(p);
  fix_free(f);
}

Test(program, an_input_may_be_read_where_the_caller_has_it) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(2)), *y = N("neg", NEG, N("view", IDENTITY, x));
  output(f, y);
  PareProgram *p = program(f, 0, NULL);
  static const float mine[] = {1, 2};
  memcpy(pare_program_buffer(p, x), (float[]){5, 6}, 8);
  pare_program_bind(p, x, mine);
  run(f, p, -1);
  const float *got = pare_program_buffer(p, y);
  cr_expect(got[0] == -1 && got[1] == -2, "got %g, %g", (double)got[0], (double)got[1]);
  pare_program_bind(p, x, NULL);
  run(f, p, -1);
  cr_expect(got[0] == -5 && got[1] == -6, "got %g, %g", (double)got[0], (double)got[1]);
  pare_program_free(p);
  fix_free(f);
}

/* --- what runs --- */

Test(program, nodes_that_nobody_needs_do_not_run_and_times_are_by_node) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(64, 64)), *used = N("used", TANH, x), *dead = N("dead", TANH, N("dead2", EXP, x));
  output(f, used);
  PareProgram *p = program(f, 0, NULL);
  fill(pare_program_buffer(p, x), 64 * 64);
  double seconds[8] = {0};
  cr_assert_eq(pare_program_profile(&f->c, p), PARE_OK);
  run(f, p, -1);
  cr_assert_eq(pare_program_times(&f->c, p, seconds), PARE_OK);
  cr_expect_gt(seconds[used->def->id], 0);
  cr_expect_eq(seconds[dead->def->id], 0);
  cr_expect(pare_program_buffer(p, dead) == NULL);
  pare_program_free(p);
  fix_free(f);
}

/* In float64, whose product is pare's own: oneDNN's sgemm packs into buffers that it makes at each call. */
Test(program, nothing_is_allocated_while_it_runs) {
#ifndef __SANITIZE_ADDRESS__
  Fix fix, *f = &fix;
  fix_init(f);
  PareType square = {.dtype = PARE_F64, .rank = 2, .dim = {128, 128}};
  PareType row = {.dtype = PARE_F64, .rank = 1, .dim = {128}};
  double *w = PARE_NEW_N(f->arena, 128 * 128, double);
  for (uint64_t i = 0; i < 128 * 128; i++) w[i] = pare_rng_uniform(5, i) - 0.5;
  PareValue *weight = pare_const_add(&f->c, f->g, "w", square, w);
  PareValue *gamma = pare_const_add(&f->c, f->g, "g", row, w), *x = input(f, "x", square);
  PareValue *h = N("gelu", GELU, N("norm", LAYERNORM, N("fc", MATMUL, x, weight), gamma));
  output(f, N("mean", REDUCEMEAN, N("softmax", SOFTMAX, N("t", TRANSPOSE, h))));
  PareProgram *p = program(f, 0, NULL);
  memcpy(pare_program_buffer(p, x), w, 128 * 128 * sizeof *w);
  run(f, p, -1); /* threads start once */
  counting = 1;
  PareStatus s = PARE_OK;
  for (int i = 0; i < 3 && s == PARE_OK; i++) s = pare_program_run(&f->c, p, -1);
  counting = 0;
  cr_assert_eq(s, PARE_OK);
  cr_expect_eq(allocations, 0, "%d allocations in three runs", (int)allocations);
  pare_program_free(p);
  fix_free(f);
#endif
}

/* --- errors --- */

Test(program, a_kernel_that_fails_is_reported_with_its_node) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareType idx = {.dtype = PARE_I64, .rank = 1, .dim = {1}};
  PareValue *table = input(f, "table", F32(3, 2)), *at = input(f, "at", idx);
  output(f, N("embeddings/Gather", GATHER, table, at));
  PareProgram *p = program(f, 0, NULL);
  *(int64_t *)pare_program_buffer(p, at) = 3;
  cr_expect_eq(pare_program_run(&f->c, p, -1), PARE_DATA);
  cr_expect_str_eq(f->c.diag.node, "embeddings/Gather");
  cr_expect_str_eq(f->c.diag.op, "Gather");
  pare_program_free(p);
  fix_free(f);
}

Test(program, a_node_that_no_kernel_runs_is_named_before_anything_runs) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const PareKernel none[PARE_OP_COUNT];
  output(f, N("layer.0/Neg", NEG, input(f, "x", F32(2))));
  PareProgram *p;
  cr_expect_eq(pare_program_new(&f->c, f->g, none, &p), PARE_UNSUPPORTED);
  cr_expect_str_eq(f->c.diag.node, "layer.0/Neg");
  cr_expect(p == NULL);
  fix_free(f);
}

Test(program, a_size_that_is_not_known_is_an_error_that_names_the_node) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = input(f, "x", F32(2)), *y = N("layer.0/Neg", NEG, x);
  x->type.dim[0] = y->type.dim[0] = -1;
  output(f, y);
  PareProgram *p;
  cr_expect_eq(pare_program_new(&f->c, f->g, pare_cpu_kernels(), &p), PARE_UNSUPPORTED);
  cr_expect_str_eq(f->c.diag.node, "layer.0/Neg");
  fix_free(f);
}
