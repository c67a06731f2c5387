/* test_widen.c - models in f16 and bf16 run in f32: the same numbers as the graph that
 * was written in f32, and what binding works out is rounded as the model says. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/bind_shapes.h"
#include "passes/pass.h"
#include "tests/unit/support.h"

static PareGraph *widened(Fix *f, const char *text) {
  PareGraph *g = fix_parse(f, text);
  MUST(f, pare_bind_shapes(&f->c, g, 0, NULL));
  MUST(f, pare_run_passes(&f->c, g, "widen", NULL));
  return g;
}

/* `text` with H[...] as another type. */
static const char *with_type(Fix *f, const char *text, const char *type) {
  char *out = pare_arena_alloc(f->arena, 4 * strlen(text) + 1, 1), *at = out;
  for (const char *p = text; *p; p++) {
    bool hit = (p[0] == 'H' && p[1] == '[') || !strncmp(p, "H}", 2);
    at += hit ? sprintf(at, "%s", type) : (*at = *p, 1);
  }
  return out;
}

/* Every constant is exact in f16 and bf16; the input is whatever the input's own type makes of it. */
static const char *const layer =
    "opset 17\ninput %x : f32[2,3]\nconst %w : H[3,2] = 0.5 -1.25 2 0.375 -3 1\nconst %b : H[2] = 0.25 -4\n"
    "const %three : H[] = 3\n%h = Cast(%x) {to=H}\n%p = MatMul(%h, %w)\n%s = Add(%p, %b)\n%q = Div(%s, %three)\n"
    "%e = Erf(%q)\n%y = Cast(%e) {to=f32}\noutput %y\n";

Test(widen, gives_what_the_graph_in_f32_gives) {
  static const char *const types[] = {"f16", "bf16"};
  for (int i = 0; i < 2; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareGraph *half = widened(f, with_type(f, layer, types[i])), *full = fix_parse(f, with_type(f, layer, "f32"));
    MUST(f, pare_bind_shapes(&f->c, full, 0, NULL));
    PareTensor *a = run_graph(f, half, 3), *b = run_graph(f, full, 3);
    cr_assert(pare_type_equal(&a->type, &b->type));
    for (int64_t k = 0; k < pare_type_count(&a->type); k++)
      cr_expect_eq(element(a, k), element(b, k), "%s, element %lld: %.9g instead of %.9g", types[i], (long long)k,
                   element(a, k), element(b, k));
    fix_free(f);
  }
}

Test(widen, leaves_no_half_but_the_inputs_and_no_idle_cast) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = widened(f, "opset 17\ninput %x : f16[2,3]\ninput %z : bf16[2,3]\nconst %k : f16[3] = 1 2 4\n"
                            "%a = Mul(%x, %k)\n%c = Cast(%a) {to=f32}\n%d = Cast(%z) {to=f32}\n%s = Add(%c, %d)\n"
                            "%y = Cast(%s) {to=f16}\noutput %y\noutput %a\n");
  int casts = 0;
  for (const PareNode *n = g->first; n; n = n->next) {
    casts += n->op == PARE_OP_CAST;
    for (int i = 0; i < n->nout; i++)
      cr_expect_eq(n->out[i]->type.dtype, PARE_F32, "'%s' is %s", n->out[i]->name,
                   pare_dtype_name(n->out[i]->type.dtype));
  }
  cr_expect_eq(casts, 2, "%d casts instead of one for each input", casts);
  cr_expect_eq(g->inputs.at[0]->type.dtype, PARE_F16, "the input's type has changed");
  cr_expect_eq(g->inputs.at[1]->type.dtype, PARE_BF16, "the input's type has changed");
  cr_expect_str_eq(g->outputs.at[0]->name, "y", "the output is now called '%s'", g->outputs.at[0]->name);
  fix_free(f);
}

Test(widen, an_overflow_of_f16_is_finite) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = widened(f, "opset 17\ninput %x : f32[1]\nconst %big : f16[1] = 60000\nconst %four : f16[1] = 4\n"
                            "%h = Cast(%x) {to=f16}\n%z = Sub(%h, %h)\n%a = Add(%z, %big)\n%p = Mul(%a, %four)\n"
                            "%q = Div(%p, %four)\n%y = Cast(%q) {to=f32}\noutput %y\n");
  PareTensor *y = run_graph(f, g, 1);
  cr_expect_eq(element(y, 0), 60000, "%g instead of 60000, which f16 has", element(y, 0));
  fix_free(f);
}

/* sqrt(2) = 1.41421 lies nearest to 1.4140625 in both types: its neighbours are 1.4150 in f16, 1.4219 in bf16. */
Test(widen, binding_computes_halves_and_rounds_once) {
  static const char *const types[] = {"f16", "bf16"};
  for (int i = 0; i < 2; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareGraph *g = fix_parse(f, with_type(f, "opset 17\ninput %x : H[1]\nconst %two : H[1] = 2\n%r = Sqrt(%two)\n"
                                             "%y = Mul(%x, %r)\noutput %y\n", types[i]));
    MUST(f, pare_bind_shapes(&f->c, g, 0, NULL));
    const PareValue *r = pare_graph_find(g, "r");
    cr_assert(r && r->data, "the root is not known");
    cr_expect_eq(pare_data_float(r, 0), 1.4140625, "%s: %.9g", types[i], pare_data_float(r, 0));
    MUST(f, pare_run_passes(&f->c, g, "widen", NULL));
    cr_expect_eq(r->type.dtype, PARE_F32);
    cr_expect_eq(pare_data_float(r, 0), 1.4140625, "%s, widened: %.9g", types[i], pare_data_float(r, 0));
    fix_free(f);
  }
}
