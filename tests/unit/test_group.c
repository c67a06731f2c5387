/* test_group.c - the order in which a device runs steps. Truth is a walk over the given order that notes what every
 * step sees: hashes of all that went into it. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "runtime/group.h"
#include "runtime/plan.h"
#include "support.h"

static PareStatus many(PareKernelArgs *const *a, int n) {
  (void)a, (void)n;
  return PARE_OK;
}

enum { MAX_STEPS = 256 };
typedef struct Order {
  const PareGraph *g;
  size_t n;
  PareNode *given[MAX_STEPS], *step[MAX_STEPS];
  uint32_t when[MAX_STEPS];
  const PareValue *root[4 * MAX_STEPS];
} Order;

/* The order for a device that runs at once what these ops do. */
static Order order_of(Fix *f, const char *text, int nops, const PareOp *op) {
  PareKernel kernels[PARE_OP_COUNT] = {0};
  Order o = {.g = fix_parse(f, text)};
  for (int i = 0; i < nops; i++) kernels[op[i]].run_many = many;
  for (PareNode *n = o.g->first; n; n = n->next) {
    cr_assert(o.n < MAX_STEPS && o.g->values.n <= 4 * MAX_STEPS);
    o.given[o.n] = o.step[o.n] = n, o.n++;
  }
  pare_plan_roots(o.g, o.n, o.given, o.root);
  MUST(f, pare_group_steps(&f->c, o.g, kernels, o.n, o.step, o.when));
  return o;
}
#define ORDER(f, text, ...) \
  order_of(f, text, (int)(sizeof((PareOp[]){__VA_ARGS__}) / sizeof(PareOp)), (PareOp[]){__VA_ARGS__})
#define ALL PARE_OP_ADD, PARE_OP_MUL, PARE_OP_ACCUMULATE, PARE_OP_EMA

static bool is_view(const PareNode *n) { return pare_op_info[n->op].kernel == PARE_KERNEL_VIEW; }

/* What step n sees of memory, and what it leaves there. */
static uint64_t see(const Order *o, const PareNode *n, uint64_t *memory) {
  uint64_t seen = n->id;
  for (int i = 0; i < n->nin; i++)
    if (pare_plan_reads(n, i)) seen = pare_rng_u64(seen, memory[o->root[n->in[i]->id]->id]);
  for (int i = 0; i < n->nin; i++)
    if (pare_op_info[n->op].writes >> i & 1u) memory[o->root[n->in[i]->id]->id] = pare_rng_u64(seen, 1);
  for (int i = 0; i < n->nout && !is_view(n); i++) memory[n->out[i]->id] = seen;
  return seen;
}

/* seen[node id]; the steps of one time from the last to the first where `turned`. */
static void walk(const Order *o, PareNode *const *step, const uint32_t *when, bool turned, uint64_t *seen,
                 uint64_t *memory) {
  for (size_t i = 0; i < o->g->values.n; i++) memory[i] = i;
  for (size_t lo = 0, hi; lo < o->n; lo = hi) {
    for (hi = lo + 1; when && hi < o->n && when[hi] == when[lo]; hi++) {
    }
    for (size_t k = 0; k < hi - lo; k++) {
      const PareNode *n = step[turned ? hi - 1 - k : lo + k];
      seen[n->id] = see(o, n, memory);
    }
  }
}

static void check(const Order *o, const char *text) {
  uint64_t want[MAX_STEPS] = {0}, got[MAX_STEPS] = {0}, memory[2][4 * MAX_STEPS];
  walk(o, o->given, NULL, false, want, memory[0]);
  for (int turned = 0; turned < 2; turned++) {
    walk(o, o->step, o->when, turned, got, memory[1]);
    for (size_t i = 0; i < o->n; i++)
      cr_assert_eq(want[o->given[i]->id], got[o->given[i]->id], "step %zu, %s, sees something else\n%s", i,
                   pare_op_info[o->given[i]->op].name, text);
    for (size_t i = 0; i < o->g->values.n; i++)
      cr_assert_eq(memory[0][i], memory[1][i], "%s", o->g->values.at[i]->name);
  }
  for (size_t i = 1; i < o->n; i++) {
    cr_assert_geq(o->step[i]->phase, o->step[i - 1]->phase);
    cr_assert(o->when[i] == o->when[i - 1] + 1 || o->when[i] == o->when[i - 1]);
    if (o->when[i] == o->when[i - 1]) cr_assert_eq(o->step[i]->op, o->step[i - 1]->op);
  }
}

static uint32_t times(const Order *o) { return o->when[o->n - 1] + 1; }

Test(group, independent_steps_of_one_op_run_at_once) {
  Fix fix, *f = &fix;
  fix_init(f);
  char *text = "input %x : f32[4]\n";
  for (int i = 0; i < 12; i++) text = fmt(f, "%sstate %%s%d : f32[4]\n", text, i);
  for (int i = 0; i < 12; i++)
    text = fmt(f, "%s%%a%d = Mul(%%x, %%s%d)\n%%b%d = Add(%%a%d, %%x)\n%%c%d = Identity(%%b%d)\n"
               "pare.Ema(%%s%d, %%c%d) {alpha=0.5}\n", text, i, i, i, i, i, i, i, i);
  Order o = ORDER(f, text, ALL);
  check(&o, text);
  /* Mul, Add and Ema at once, and twelve views that take no time of the device. */
  cr_expect_eq(times(&o), 3 + 12, "%u times", times(&o));
  fix_free(f);
}

Test(group, a_step_is_not_moved_across_one_that_writes_what_it_reads) {
  Fix fix, *f = &fix;
  fix_init(f);
  /* b could run with a, and the second Accumulate with the first, if %s and %t were not written in between. */
  static const char text[] =
      "input %x : f32[4]\nstate %s : f32[4]\nstate %t : f32[4]\n%a = Add(%s, %x)\npare.Accumulate(%s, %x)\n"
      "%b = Add(%s, %x)\npare.Accumulate(%t, %b)\n%c = Add(%t, %x)\npare.Accumulate(%s, %x)\noutput %a\noutput %c\n";
  Order o = ORDER(f, text, ALL);
  check(&o, text);
  static const PareOp want[] = {PARE_OP_ADD, PARE_OP_ACCUMULATE, PARE_OP_ADD, PARE_OP_ACCUMULATE, PARE_OP_ACCUMULATE,
                                PARE_OP_ADD};
  static const uint32_t when[] = {0, 1, 2, 3, 3, 4};
  for (size_t i = 0; i < o.n; i++)
    cr_expect(o.step[i]->op == want[i] && o.when[i] == when[i], "step %zu: %s at %u", i,
              pare_op_info[o.step[i]->op].name, o.when[i]);
  fix_free(f);
}

Test(group, whatever_waits_every_step_sees_what_it_saw) {
  enum { GRAPHS = 300 };
  size_t spared = 0;
  for (uint64_t seed = 0; seed < GRAPHS; seed++) {
    Fix fix, *f = &fix;
    fix_init(f);
    const char *text = random_steps(f, seed, 60, 4);
    Order o = ORDER(f, text, ALL);
    check(&o, text);
    spared += o.n - times(&o);
    fix_free(f);
  }
  cr_expect_gt(spared, GRAPHS, "of %d graphs, %zu steps run with others", GRAPHS, spared);
}

Test(group, results_that_take_much_memory_are_not_put_off) {
  Fix fix, *f = &fix;
  fix_init(f);
  Order o = ORDER(f, "input %x : f32[1024,1024]\n%a = Add(%x, %x)\n%b = Tanh(%x)\n%c = Add(%x, %b)\noutput %a\n"
                     "output %c\n", ALL);
  for (size_t i = 0; i < o.n; i++) cr_expect(o.step[i] == o.given[i] && o.when[i] == i, "step %zu has moved", i);
  fix_free(f);
}

Test(group, nothing_moves_where_no_kernel_runs_steps_at_once) {
  Fix fix, *f = &fix;
  fix_init(f);
  Order o = order_of(f, random_steps(f, 1, 60, 4), 0, NULL);
  for (size_t i = 0; i < o.n; i++) cr_expect(o.step[i] == o.given[i] && o.when[i] == i, "step %zu has moved", i);
  fix_free(f);
}

/* The bytes of all results, planned for this order. */
static size_t planned(Fix *f, const Order *o, PareNode *const *step, const uint32_t *when) {
  uint32_t each[MAX_STEPS];
  bool lasting[4 * MAX_STEPS] = {false};
  ParePlan plan;
  for (size_t i = 0; i < o->n; i++) each[i] = when ? when[i] : (uint32_t)i;
  for (size_t i = 0; i < o->g->outputs.n; i++) lasting[o->g->outputs.at[i]->id] = true;
  MUST(f, pare_plan_make(&f->c, f->arena, o->g, o->n, step, each, lasting, NULL, &plan));
  return plan.bytes;
}

#define WEIGHT(i) "const %w" #i " : f32[1024,512] = zeros\nstate %a" #i " : f32[1024,4]\nstate %b" #i " : f32[4,512]\n"
#define MERGED(i) "%m" #i " = pare.MergedWeight(%w" #i ", _, %a" #i ", %b" #i ")\n"
#define LAYER(i) "%y" #i " = pare.Linear(%x, %m" #i ")\n"

Test(group, large_results_of_what_is_there_anyway_are_made_at_once_and_take_no_more_memory) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char text[] = "input %x : f32[8,1024]\n" WEIGHT(0) WEIGHT(1) WEIGHT(2) MERGED(0) "%t = Tanh(%x)\n"
                             MERGED(1) MERGED(2) LAYER(0) LAYER(1) LAYER(2) "%s = Add(%y0, %y1)\n%z = Add(%s, %y2)\n"
                             "output %t\noutput %z\n";
  Order o = ORDER(f, text, PARE_OP_MERGEDWEIGHT);
  check(&o, text);
  cr_expect_eq(times(&o), o.n - 2, "%u times", times(&o));
  for (int i = 1; i < 4; i++)
    cr_expect(o.step[i]->op == PARE_OP_MERGEDWEIGHT && o.when[i] == 1, "step %d: %s at %u", i,
              pare_op_info[o.step[i]->op].name, o.when[i]);
  cr_expect_leq(planned(f, &o, o.step, o.when), planned(f, &o, o.given, NULL));
  fix_free(f);
}

Test(group, a_large_result_is_not_made_before_its_turn) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char text[] = "input %x : f32[8,1024]\n" WEIGHT(0) WEIGHT(1) MERGED(0) LAYER(0) MERGED(1) LAYER(1)
                             "output %y0\noutput %y1\n";
  Order o = ORDER(f, text, PARE_OP_MERGEDWEIGHT);
  check(&o, text);
  cr_expect_eq(planned(f, &o, o.step, o.when), planned(f, &o, o.given, NULL));
  cr_expect_lt(planned(f, &o, o.step, o.when), 2 * 1024 * 512 * sizeof(float));
  fix_free(f);
}
