/* test_recompute.c - results made a second time: the same numbers, less that stays. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/recompute.h"
#include "runtime/program.h"
#include "support.h"

/* Forward is up to %d; behind it everything is read in the opposite order, as backward does. An element-wise node moves
 * two or three times the bytes of what it makes. */
static const char chain[] = "input %x : f32[4096]\n"
                            "%a = Exp(%x)\n%b = Sin(%a)\n%c = Cos(%b)\n%d = Mul(%c, %c)\n"
                            "%e = Mul(%d, %c)\n%f = Mul(%e, %b)\n%g = Mul(%f, %a)\noutput %g\n";
static const double each = 4096 * sizeof(float);

typedef struct Run {
  Fix f;
  PareGraph *g;
  double kept;
  float y[4096];
  size_t bytes;
} Run;

static size_t readers_behind(const PareGraph *g, const char *first, const char *name) {
  const PareNode *n = pare_graph_find(g, first)->def;
  const PareValue *v = pare_graph_find(g, name);
  size_t sum = 0;
  for (; n; n = n->next)
    for (int i = 0; i < n->nin; i++) sum += n->in[i] == v;
  return sum;
}

static void run(Run *r, PareRecompute limit) {
  Fix *f = &r->f;
  PareProgram *p;
  fix_init(f);
  r->g = fix_parse(f, chain);
  MUST(f, pare_recompute(&f->c, r->g, pare_graph_find(r->g, "d")->def, limit, &r->kept));
  MUST(f, pare_graph_verify(&f->c, r->g));
  MUST(f, pare_program_new(&f->c, r->g, pare_cpu_kernels(), &p));
  const PareValue *x = r->g->inputs.at[0];
  fill_random(&x->type, pare_program_buffer(p, x), 1);
  MUST(f, pare_program_run(&f->c, p, -1));
  memcpy(r->y, pare_program_buffer(p, r->g->outputs.at[0]), sizeof r->y);
  r->bytes = pare_program_memory(p).results;
  pare_program_free(p);
}

Test(recompute, nothing_is_made_again_where_that_is_too_dear) {
  Run r;
  run(&r, (PareRecompute){0, 1.9});
  cr_expect_eq(r.kept, 4 * each, "%g, not %g", r.kept, 4 * each);
  cr_expect_eq(readers_behind(r.g, "e", "a"), 1);
  fix_free(&r.f);
}

Test(recompute, no_more_is_made_again_than_the_bytes_that_may_stay_ask_for) {
  Run r;
  run(&r, (PareRecompute){3 * each, INFINITY});
  cr_expect_eq(r.kept, 3 * each, "%g, not %g", r.kept, 3 * each);
  fix_free(&r.f);
}

/* Each from what is before it: Exp, Sin and Cos move 2 bytes for one, Mul reads one tensor twice. */
Test(recompute, what_is_cheapest_for_its_size_goes_first) {
  Run r;
  run(&r, (PareRecompute){0, 2.0});
  cr_expect_leq(r.kept, 3 * each, "%g", r.kept);
  cr_expect_geq(r.kept, each, "%g: a result of two nodes costs more than 2 bytes a byte", r.kept);
  fix_free(&r.f);
}

Test(recompute, results_are_the_same_bit_for_bit_and_none_is_kept) {
  Run whole, less;
  run(&whole, (PareRecompute){0, 0});
  run(&less, (PareRecompute){0, INFINITY});
  cr_expect_eq(less.kept, 0, "%g", less.kept);
  for (const char *v = "abc"; *v; v++)
    cr_expect_eq(readers_behind(less.g, "e", (char[]){*v, 0}), 0, "%c is still read", *v);
  cr_expect(!memcmp(whole.y, less.y, sizeof whole.y), "%g and %g", whole.y[0], less.y[0]);
  cr_expect(whole.y[0] != whole.y[1] && isfinite(whole.y[0]), "%g", whole.y[0]);
  fix_free(&whole.f);
  fix_free(&less.f);
}

Test(recompute, an_output_stays_and_a_view_goes_with_what_it_shows) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %x : f32[2,8]\nconst %s : i64[1] = 16\n"
                              "%a = Exp(%x)\n%v = Reshape(%a, %s)\n%b = Sin(%v)\n"
                              "%c = Mul(%b, %v)\noutput %c\noutput %b\n");
  double kept;
  MUST(f, pare_recompute(&f->c, g, pare_graph_find(g, "b")->def, (PareRecompute){0, INFINITY}, &kept));
  MUST(f, pare_graph_verify(&f->c, g));
  cr_expect_eq(kept, 0, "%g", kept);
  cr_expect_eq(readers_behind(g, "c", "v"), 0);
  cr_expect_eq(readers_behind(g, "c", "b"), 1);
  fix_free(f);
}
