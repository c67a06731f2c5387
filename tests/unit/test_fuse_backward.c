/* test_fuse_backward.c - the pass law for what is fused once gradients are there: results are the plain graph's, near-misses
 * are left alone. */
#include <criterion/criterion.h>

#include "passes/pass.h"
#include "tests/unit/support.h"

/* --- residual sums --- */

#define SUM_HEAD                                                                                              \
  "opset 17\ninput %x : f32[2,3,8]\ninput %u : f32[2,3,8]\ninput %low : bf16[2,3,8]\nconst %g : f32[8] = random(1)\n" \
  "const %b : f32[8] = random(2)\nconst %w : f32[8,8] = random(3)\n%d = Cast(%low) {to=f32}\n%v = Neg(%u)\n"
#define SUM_NORM SUM_HEAD "%s = Add(%x, %d)\n%y, %m, %r = LayerNormalization(%s, %g, %b)\n"
#define SUM_GRAD SUM_NORM "%k = Neg(%low)\n%kf = Cast(%k) {to=f32}\n"

/* The fused graph's nodes of each op, and numbers: where a sum in bf16 was rounded twice it is now once, so they are apart
 * by half a unit of bf16 at most. */
static void check_sums(const char *text, int addnorms, int adds, int casts) {
  Fix f;
  fix_init(&f);
  PareGraph *plain = fix_parse(&f, text), *fused = fix_parse(&f, text);
  MUST(&f, pare_run_passes(&f.c, fused, "fuse-sums", NULL));
  const struct { PareOp op; int many; } want[] = {{PARE_OP_ADDNORM, addnorms}, {PARE_OP_ADD, adds}, {PARE_OP_CAST, casts}};
  for (int i = 0; i < 3; i++)
    cr_expect_eq(count_nodes(fused, want[i].op), want[i].many, "%d of %s instead of %d in\n%s", count_nodes(fused, want[i].op),
                 pare_op_info[want[i].op].name, want[i].many, text);
  PareTensor *a = run_graph(&f, plain, 5), *b = run_graph(&f, fused, 5);
  for (size_t i = 0; i < plain->outputs.n; i++) {
    double d = distance(&a[i], &b[i]), limit = a[i].type.dtype == PARE_BF16 ? 0x1p-8 : 2e-6;
    cr_expect(d <= limit, "output %zu '%s': the fused graph is %g away, %g is rounding, in\n%s", i,
              plain->outputs.at[i]->name, d, limit, text);
  }
  fix_free(&f);
}

Test(fuse, residual_sums_and_copies_go_into_the_norm_that_reads_or_makes_them) {
  check_sums(SUM_NORM "output %y\noutput %m\noutput %r\n", 1, 0, 0);
  check_sums(SUM_NORM "%l = Cast(%y) {to=bf16}\noutput %l\n", 1, 0, 0);
  check_sums(SUM_NORM "%l = Cast(%y) {to=bf16}\n%z = Neg(%s)\noutput %l\noutput %z\noutput %y\n", 1, 0, 0);
  check_sums(SUM_NORM "output %y\noutput %s\noutput %d\n", 1, 0, 1);
  check_sums(SUM_HEAD "%s = Add(%d, %x)\n%y = LayerNormalization(%s, %g)\noutput %y\n", 1, 0, 0);
  check_sums(SUM_HEAD "%s = Add(%x, %v)\n%y = LayerNormalization(%s, %g, %b)\noutput %y\noutput %s\noutput %d\n", 1, 0, 1);
  check_sums(SUM_HEAD "%s = Add(%d, %d)\n%y = LayerNormalization(%s, %g, %b)\noutput %y\n", 1, 0, 1);
  check_sums(SUM_HEAD "%y = LayerNormalization(%x, %g, %b)\n%l = Cast(%y) {to=bf16}\noutput %l\noutput %d\n", 1, 0, 1);
}

Test(fuse, sums_that_a_norm_cannot_take_are_left) {
  /* no sum and no copy; a sum that is read before the norm; one that broadcasts; a norm of its own scale */
  check_sums(SUM_HEAD "%y = LayerNormalization(%x, %g, %b)\noutput %y\noutput %d\n", 0, 0, 1);
  check_sums(SUM_HEAD "%s = Add(%x, %d)\n%z = Neg(%s)\n%y = LayerNormalization(%s, %g, %b)\noutput %y\noutput %z\n", 0, 1, 1);
  check_sums(SUM_HEAD "%s = Add(%x, %b)\n%y = LayerNormalization(%s, %g, %b)\noutput %y\noutput %d\n", 0, 1, 1);
  check_sums(SUM_HEAD "%s = Add(%x, %d)\n%y = LayerNormalization(%s, %s) {axis=0}\noutput %y\n", 0, 1, 1);
}

Test(fuse, sums_around_a_norm_s_gradient_go_into_it) {
#define SUM_DX(dy) "%dx = pare.LayerNormGrad(%s, %g, %m, %r, " dy ")\n"
  check_sums(SUM_GRAD "%t = Add(%v, %kf)\n" SUM_DX("%t") "output %dx\n", 1, 0, 0);
  check_sums(SUM_GRAD SUM_DX("%kf") "%t = Add(%dx, %v)\n%l = Cast(%t) {to=bf16}\noutput %t\noutput %l\n", 1, 0, 0);
  check_sums(SUM_GRAD "%t = Add(%kf, %v)\n" SUM_DX("%t") "%q = Add(%v, %dx)\n%l = Cast(%q) {to=bf16}\noutput %l\n", 1, 0, 0);
  /* somebody else reads the sum; the other addend comes later; the gradient is read alone too */
  check_sums(SUM_GRAD "%t = Add(%v, %kf)\n" SUM_DX("%t") "output %dx\noutput %t\n", 1, 1, 1);
  check_sums(SUM_GRAD SUM_DX("%v") "%z = Neg(%v)\n%t = Add(%dx, %z)\noutput %t\noutput %kf\n", 1, 1, 1);
  check_sums(SUM_GRAD SUM_DX("%v") "%t = Add(%dx, %v)\noutput %t\noutput %dx\noutput %kf\n", 1, 1, 1);
}

Test(fuse, sums_of_gradients_go_into_the_layers_that_make_them) {
  /* q, k and v share their input; the last sum meets a residual gradient in f32 */
  check_sums(SUM_HEAD "%q = pare.LinearGrad(%x, %w, %u)\n%k = pare.LinearGrad(%x, %w, %d)\n%qk = Add(%q, %k)\n"
                      "%t = pare.LinearGrad(%x, %w, %v)\n%qkv = Add(%qk, %t)\noutput %qkv\n", 0, 0, 1);
  check_sums(SUM_HEAD "%q = pare.LinearGrad(%low, %w, %low)\n%n = Mul(%low, %low)\n%k = pare.LinearGrad(%low, %w, %n)\n"
                      "%qk = Add(%q, %k)\noutput %qk\noutput %d\n", 0, 0, 1);
  check_sums(SUM_HEAD "%q = pare.LinearGrad(%x, %w, %v)\n%t = Add(%q, %v)\noutput %t\noutput %d\n", 0, 0, 1);
  check_sums(SUM_HEAD "%q = pare.LinearGrad(%x, %w, %u)\n%z = Neg(%v)\n%t = Add(%q, %z)\noutput %t\noutput %d\n", 0, 1, 1);
}

/* --- GELU and its gradient where adapters' gradients read them --- */

#define AROUND                                                                                                 \
  "opset 17\ninput %i : bf16[2,3,8]\ninput %e : bf16[2,3,8]\nconst %w : f32[8,8] = random(3)\n"                \
  "state %A : f32[8,2] = random(4)\nstate %B : f32[2,8] = random(5)\n%x = Neg(%i)\n%h = Neg(%e)\n"

/* The pass leaves so many GeluGrads, and LinearGrads that make x; the numbers are the same bits. */
static void check_gelu_grad(const char *text, int grads, int acts) {
  Fix f;
  fix_init(&f);
  PareGraph *plain = fix_parse(&f, text), *fused = fix_parse(&f, text);
  MUST(&f, pare_run_passes(&f.c, fused, "fuse-gelu-grad", NULL));
  int left = count_nodes(fused, PARE_OP_GELUGRAD), made = 0;
  for (const PareNode *n = fused->first; n; n = n->next) made += pare_attr_get(&n->attr, act, 0) != 0;
  cr_expect_eq(left, grads, "%d GeluGrads instead of %d in\n%s", left, grads, text);
  cr_expect_eq(made, acts, "%d LinearGrads make x instead of %d in\n%s", made, acts, text);
  PareTensor *a = run_graph(&f, plain, 5), *b = run_graph(&f, fused, 5);
  for (size_t i = 0; i < plain->outputs.n; i++)
    cr_expect_eq(distance(&a[i], &b[i]), 0, "output %zu '%s' is %g away in\n%s", i, plain->outputs.at[i]->name,
                 distance(&a[i], &b[i]), text);
  fix_free(&f);
}

#define DOWN(x) "%dg, %da, %db = pare.LinearGrad(" x ", %w, %i, %A, %B)\n"
#define UP "%dx, %da2, %db2 = pare.LinearGrad(%x, %w, %dh, %A, %B)\n"
#define GELU_OUT "output %dx\noutput %da\noutput %db\noutput %da2\noutput %db2\n"

Test(fuse, adapters_around_a_gelu_make_it_and_its_gradient_on_the_way) {
  check_gelu_grad(AROUND "%g = Gelu(%h)\n" DOWN("%g") "%dh = pare.GeluGrad(%h, %dg)\n" UP GELU_OUT, 0, 1);
  check_gelu_grad(AROUND "%g = Gelu(%h) {approximate=tanh}\n" DOWN("%g")
                  "%dh = pare.GeluGrad(%h, %dg) {approximate=tanh}\n" UP GELU_OUT, 0, 1);
  /* g and dh are read by others too, behind; nobody wants dA */
  check_gelu_grad(AROUND "%g = Gelu(%h)\n" DOWN("%g") "%dh = pare.GeluGrad(%h, %dg)\n" UP "%z = Neg(%dh)\n"
                  "output %z\noutput %g\n" GELU_OUT, 0, 1);
  check_gelu_grad(AROUND "%g = Gelu(%h)\n%dg, _, %db = pare.LinearGrad(%g, %w, %i, %A, %B)\n"
                  "%dh = pare.GeluGrad(%h, %dg)\n_, %da2, _ = pare.LinearGrad(%x, %w, %dh, %A, %B)\n"
                  "output %db\noutput %da2\n", 0, 1);
}

Test(fuse, gelus_and_gradients_that_must_be_made_anyway_are_left) {
  /* h is not kept; dh is read before; layers without adapters, or whose gradients nobody wants */
  check_gelu_grad(AROUND "%g = Gelu(%h)\n" DOWN("%g") "output %dg\noutput %da\noutput %db\n", 0, 0);
  check_gelu_grad(AROUND "%g = Gelu(%h)\n" DOWN("%g") "%dh = pare.GeluGrad(%h, %dg)\n%z = Neg(%dh)\n" UP
                  "output %z\n" GELU_OUT, 1, 1);
  check_gelu_grad(AROUND "%g = Gelu(%h)\n%dg = pare.LinearGrad(%g, %w, %i)\n%dh = pare.GeluGrad(%h, %dg)\n"
                  "%dx = pare.LinearGrad(%x, %w, %dh)\noutput %dx\n", 1, 0);
  check_gelu_grad(AROUND "%g = Gelu(%h)\n%dg, _, _ = pare.LinearGrad(%g, %w, %i, %A, %B)\n"
                  "%dh = pare.GeluGrad(%h, %dg)\n%dx, _, _ = pare.LinearGrad(%x, %w, %dh, %A, %B)\noutput %dx\n", 1, 0);
}

/* --- a mask's gradient where a GELU's is made --- */

/* The pass leaves so many MaskGrads; results are apart by the rounding of sums of six. */
static void check_mask_grad(const char *text, int left) {
  Fix f;
  fix_init(&f);
  PareGraph *plain = fix_parse(&f, text), *fused = fix_parse(&f, text);
  MUST(&f, pare_run_passes(&f.c, fused, "fuse-mask-grad", NULL));
  cr_expect_eq(count_nodes(fused, PARE_OP_MASKGRAD), left, "%d MaskGrads instead of %d in\n%s",
               count_nodes(fused, PARE_OP_MASKGRAD), left, text);
  PareTensor *a = run_graph(&f, plain, 5), *b = run_graph(&f, fused, 5);
  for (size_t i = 0; i < plain->outputs.n; i++)
    cr_expect_leq(distance(&a[i], &b[i]), 0x1p-21, "output %zu '%s' is %g away in\n%s", i, plain->outputs.at[i]->name,
                  distance(&a[i], &b[i]), text);
  fix_free(&f);
}

#define GATED "opset 17\ninput %h : f32[2,3,8]\ninput %d : f32[2,3,8]\nstate %m : f32[8] = random(4)\n"
#define SUMMED "%s = pare.MaskGrad(%g, %d, %m)\n"

Test(fuse, the_gradient_of_a_mask_is_summed_where_the_gelu_s_is_made) {
  check_mask_grad(GATED "%g = Gelu(%h)\n" SUMMED "%dh = pare.GeluGrad(%h, %d)\noutput %s\noutput %dh\n", 0);
  check_mask_grad(GATED "%g = Gelu(%h) {approximate=tanh}\n" SUMMED
                  "%dh = pare.GeluGrad(%h, %d) {approximate=tanh}\noutput %dh\noutput %s\n", 0);
  /* no GELU, another's gradient, of another kind, of something else; sums that are read before */
  check_mask_grad(GATED "%g = Relu(%h)\n" SUMMED "%dh = pare.GeluGrad(%h, %d)\noutput %s\noutput %dh\n", 1);
  check_mask_grad(GATED "%g = Gelu(%h)\n" SUMMED "%dh = pare.GeluGrad(%d, %h)\noutput %s\noutput %dh\n", 1);
  check_mask_grad(GATED "%g = Gelu(%h)\n" SUMMED "%dh = pare.GeluGrad(%h, %d) {approximate=tanh}\noutput %s\noutput %dh\n", 1);
  check_mask_grad(GATED "%g = Gelu(%h)\n" SUMMED "%z = Neg(%d)\n%dh = pare.GeluGrad(%h, %z)\noutput %s\noutput %dh\n", 1);
  check_mask_grad(GATED "%g = Gelu(%h)\n" SUMMED "%z = Neg(%s)\n%dh = pare.GeluGrad(%h, %d)\noutput %z\noutput %dh\n", 1);
}

/* --- scores --- */

#define SCORE_HEAD                                                                                                   \
  "opset 17\ninput %x : f32[6,20]\ninput %dy : f32[6,12]\nconst %w : f32[20,12] = random(1)\n"                       \
  "state %A : f32[20,3] = random(4)\nstate %B : f32[3,12] = random(5)\nstate %a : f32[20,3] = zeros\n"                \
  "state %b : f32[3,12] = zeros\n"
#define SCORE_GRAD "%dx, %da, %db = pare.LinearGrad(%x, %w, %dy, %A, %B) {scale=0.5}\n"
#define SCORE_SUMS "pare.Accumulate(%a, %da)\npare.Accumulate(%b, %db)\n"
#define SCORE "%row, %col = pare.Importance(%w, %A, %B, %a, %b) {scale=0.5, alpha=0.25, power=1}\n"
#define SCORE_OUT "output %row\noutput %col\noutput %dx\n"

Test(fuse, a_weight_is_scored_where_its_gradient_merges_it) {
  Fix f;
  fix_init(&f);
  static const char *const text = SCORE_HEAD SCORE_GRAD SCORE_SUMS SCORE SCORE_OUT;
  PareGraph *plain = fix_parse(&f, text), *fused = fix_parse(&f, text);
  MUST(&f, pare_run_passes(&f.c, fused, "fuse-importance", NULL));
  cr_expect_eq(count_nodes(fused, PARE_OP_IMPORTANCE), 0);
  PareTensor *a = run_graph(&f, plain, 5), *b = run_graph(&f, fused, 5);
  for (size_t i = 0; i < plain->outputs.n; i++)
    cr_expect_leq(distance(&a[i], &b[i]), 20 * 0x1p-23, "output %zu is %g away", i, distance(&a[i], &b[i]));
  fix_free(&f);
}

/* What it reads is another weight's, another adapter's or another scale's, sums of more than one run, or what changes
 * before it is scored; or nothing is merged, as nobody asks for dx. */
Test(fuse, a_weight_is_scored_apart_where_its_gradient_is_something_else) {
  static const char *const texts[] = {
      SCORE_HEAD SCORE_GRAD SCORE_SUMS "%row, %col = pare.Importance(%w, %A, %B, %a, %b)\n" SCORE_OUT,
      SCORE_HEAD "const %v : f32[20,12] = random(2)\n" SCORE_GRAD SCORE_SUMS
                 "%row, %col = pare.Importance(%v, %A, %B, %a, %b) {scale=0.5}\n" SCORE_OUT,
      SCORE_HEAD "state %C : f32[20,3] = random(2)\n" SCORE_GRAD SCORE_SUMS
                 "%row, %col = pare.Importance(%w, %C, %B, %a, %b) {scale=0.5}\n" SCORE_OUT,
      SCORE_HEAD SCORE_GRAD SCORE_SUMS "pare.Accumulate(%a, %da)\n" SCORE SCORE_OUT,
      SCORE_HEAD SCORE_GRAD "pare.Accumulate(%b, %db)\n" SCORE SCORE_OUT,
      SCORE_HEAD SCORE_GRAD SCORE SCORE_SUMS SCORE_OUT,
      SCORE_HEAD "%dx, %da, _ = pare.LinearGrad(%x, %w, %dy, %A, %B) {scale=0.5}\npare.Accumulate(%a, %da)\n"
                 SCORE SCORE_OUT,
      SCORE_HEAD SCORE_GRAD SCORE_SUMS "pare.Accumulate(%A, %a)\n" SCORE SCORE_OUT,
      SCORE_HEAD "_, %da, %db = pare.LinearGrad(%x, %w, %dy, %A, %B) {scale=0.5}\n" SCORE_SUMS SCORE
                 "output %row\noutput %col\n",
      SCORE_HEAD SCORE_GRAD SCORE_SUMS "%row, %col = pare.Importance(%w, %A, %B) {scale=0.5}\n" SCORE_OUT,
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    Fix f;
    fix_init(&f);
    PareGraph *g = fix_parse(&f, texts[i]);
    MUST(&f, pare_run_passes(&f.c, g, "fuse-importance", NULL));
    cr_expect_eq(count_nodes(g, PARE_OP_IMPORTANCE), 1, "fused in\n%s", texts[i]);
    fix_free(&f);
  }
}
