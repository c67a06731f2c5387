/* test_fuse.c - the pass law for fusion: outputs and gradients of the fused graph equal the plain one's, near-misses are left
 * alone. What is fused once gradients are there: test_fuse_backward.c. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "ir/text.h"
#include "passes/autodiff.h"
#include "passes/insert_lora.h"
#include "passes/pass.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/training.h"
#include "runtime/program.h"
#include "tests/unit/support.h"

enum { MAX_WRT = 16 };

/* `text` with T[...] as f32 or f64. */
static PareGraph *parse_as(Fix *f, const char *text, const char *type) {
  char *out = pare_arena_alloc(f->arena, 4 * strlen(text) + 1, 1), *at = out;
  for (const char *p = text; *p; p++) {
    bool hit = p[0] == 'T' && p[1] == '[' && (p == text || p[-1] == ' ');
    at += hit ? sprintf(at, "%s", type) : (*at = *p, 1);
  }
  *at = 0;
  return fix_parse(f, out);
}

/* Makes the outputs of g: its first one, and the gradients of Σ y·r by every float input and state but masks. */
static void add_gradients(Fix *f, PareGraph *g) {
  PareValue *wrt[MAX_WRT], *grad[MAX_WRT], *y = g->outputs.at[0];
  size_t n = 0;
  for (size_t i = 0; i < g->values.n; i++) {
    PareValue *v = g->values.at[i];
    bool free = v->role == PARE_INPUT || v->role == PARE_STATE;
    if (free && pare_dtype_is_float(v->type.dtype) && strncmp(v->name, "m", 1)) wrt[n++] = v;
  }
  int64_t count = pare_type_count(&y->type);
  char *r = pare_arena_alloc(f->arena, (size_t)count, 8);
  fill_random(&y->type, r, 99);
  PareAttrs all = {0};
  pare_attr_set(&all, keepdims, 0);
  PareValue *w = pare_const_add(&f->c, g, "r", y->type, r), *one = pare_const_float(&f->c, g, "one", y->type.dtype, 1);
  PareValue *p = PARE_EMIT(&f->c, g, NULL, PARE_OP_MUL, "loss", NULL, y, w);
  PareValue *loss = PARE_EMIT(&f->c, g, NULL, PARE_OP_REDUCESUM, "loss", &all, p);
  MUST(f, pare_autodiff(&f->c, g, loss, one, n, wrt, grad));
  for (size_t i = 0; i < n; i++) {
    cr_assert(grad[i] != NULL, "no gradient of '%s'", wrt[i]->name);
    cr_assert(pare_vec_push(g->arena, &g->outputs, grad[i]));
  }
}

/* Fuses a clone by `passes`; both must give the same numbers, to rounding of the type. */
static PareGraph *check(Fix *f, const char *text, const char *type, const char *passes) {
  PareGraph *plain = parse_as(f, text, type), *fused = parse_as(f, text, type);
  MUST(f, pare_run_passes(&f->c, fused, passes, NULL));
  add_gradients(f, plain);
  add_gradients(f, fused);
  MUST(f, pare_graph_verify(&f->c, fused));
  PareTensor *a = run_graph(f, plain, 5), *b = run_graph(f, fused, 5);
  double limit = !strcmp(type, "f64") ? 1e-12 : 2e-5; /* sums of at most 100 terms, one after another */
  for (size_t i = 0; i < plain->outputs.n; i++) {
    double d = distance(&a[i], &b[i]);
    cr_expect(d <= limit, "%s, output %zu '%s': the fused graph is %g away, %g is rounding", passes, i,
              plain->outputs.at[i]->name, d, limit);
  }
  return fused;
}

static void check_fused(const char *text, const char *passes, PareOp op, int many, PareOp gone) {
  static const char *const types[] = {"f32", "f64"};
  for (int i = 0; i < 2; i++) {
    Fix f;
    fix_init(&f);
    PareGraph *g = parse_as(&f, text, types[i]);
    MUST(&f, pare_run_passes(&f.c, g, passes, NULL));
    cr_expect_eq(count_nodes(g, op), many, "%s: %d of %s instead of %d in\n%s", passes, count_nodes(g, op),
                 pare_op_info[op].name, many, text);
    cr_expect_eq(count_nodes(g, gone), 0, "%s: %d of %s are left in\n%s", passes, count_nodes(g, gone),
                 pare_op_info[gone].name, text);
    check(&f, text, types[i], passes);
    fix_free(&f);
  }
}

static void check_left_alone(const char *text, const char *passes, PareOp op) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse_as(&f, text, "f32");
  uint32_t nodes = g->nnodes;
  MUST(&f, pare_run_passes(&f.c, g, passes, NULL));
  cr_expect_eq(count_nodes(g, op), 0, "%s: fused what is something else:\n%s", passes, text);
  cr_expect_eq(g->nnodes, nodes, "%s: added nodes to\n%s", passes, text);
  fix_free(&f);
}

/* --- LayerNormalization --- */

#define NORM_HEAD                                  \
  "opset 17\ninput %x : T[2,3,8]\nconst %two : T[] = 2\nconst %eps : T[] = 0.001\nconst %g : T[8] = random(1)\n" \
  "const %b : T[8] = random(2)\nconst %ax : i64[1] = -1\n%m = ReduceMean(%x, %ax)\n%d = Sub(%x, %m)\n"
#define NORM_TAIL "output %y\n"

Test(fuse, layernorm_is_found_in_every_spelling) {
  static const char *const texts[] = {
      NORM_HEAD "%s = Pow(%d, %two)\n%v = ReduceMean(%s, %ax)\n%e = Add(%v, %eps)\n%r = Sqrt(%e)\n%q = Div(%d, %r)\n"
                "%z = Mul(%q, %g)\n%y = Add(%z, %b)\n" NORM_TAIL,
      NORM_HEAD "%s = Mul(%d, %d)\n%v = ReduceMean(%s, %ax)\n%e = Add(%eps, %v)\n%r = Sqrt(%e)\n%i = Reciprocal(%r)\n"
                "%q = Mul(%i, %d)\n%z = Mul(%g, %q)\n%y = Add(%b, %z)\n" NORM_TAIL,
      NORM_HEAD "%d2 = Sub(%x, %m)\n%s = Pow(%d, %two)\n%v = ReduceMean(%s, %ax)\n%e = Add(%v, %eps)\n%r = Sqrt(%e)\n"
                "%q = Div(%d2, %r)\n%y = Mul(%q, %g)\n" NORM_TAIL,
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_fused(texts[i], "fuse-layernorm", PARE_OP_LAYERNORM, 1, PARE_OP_SQRT);
}

Test(fuse, what_only_looks_like_layernorm_is_left_alone) {
  static const char *const texts[] = {
      /* the third power */
      NORM_HEAD "const %three : T[] = 3\n%s = Pow(%d, %three)\n%v = ReduceMean(%s, %ax)\n%e = Add(%v, %eps)\n"
                "%r = Sqrt(%e)\n%q = Div(%d, %r)\n%y = Mul(%q, %g)\n" NORM_TAIL,
      /* x itself over the deviation */
      NORM_HEAD "%s = Pow(%d, %two)\n%v = ReduceMean(%s, %ax)\n%e = Add(%v, %eps)\n%r = Sqrt(%e)\n%q = Div(%x, %r)\n"
                "%y = Mul(%q, %g)\n" NORM_TAIL,
      /* no scale */
      NORM_HEAD "%s = Pow(%d, %two)\n%v = ReduceMean(%s, %ax)\n%e = Add(%v, %eps)\n%r = Sqrt(%e)\n"
                "%y = Div(%d, %r)\n" NORM_TAIL,
      /* the deviation over the deviation */
      NORM_HEAD "%s = Pow(%d, %two)\n%v = ReduceMean(%s, %ax)\n%e = Add(%v, %eps)\n%r = Sqrt(%e)\n%q = Div(%r, %d)\n"
                "%y = Mul(%q, %g)\n" NORM_TAIL,
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_left_alone(texts[i], "fuse-layernorm", PARE_OP_LAYERNORM);
}

/* --- Gelu --- */

#define GELU_HEAD                                                                                               \
  "opset 17\ninput %x : T[3,5]\nconst %half : T[] = 0.5\nconst %one : T[] = 1\nconst %root : T[] = "            \
  "1.4142135623730951\nconst %inv : T[] = 0.7071067811865476\nconst %c : T[] = 0.044715\nconst %k : T[] = " \
  "0.7978845608028654\nconst %three : T[] = 3\n"

Test(fuse, gelu_is_found_in_every_spelling) {
  static const char *const texts[] = {
      GELU_HEAD "%t = Div(%x, %root)\n%e = Erf(%t)\n%a = Add(%e, %one)\n"
                "%p = Mul(%x, %a)\n%y = Mul(%p, %half)\noutput %y\n",
      GELU_HEAD "%h = Mul(%half, %x)\n%t = Mul(%inv, %x)\n%e = Erf(%t)\n%a = Add(%one, %e)\n"
                "%y = Mul(%h, %a)\noutput %y\n",
      GELU_HEAD "%t = Div(%x, %root)\n%e = Erf(%t)\n%a = Add(%e, %one)\n"
                "%h = Mul(%a, %half)\n%y = Mul(%x, %h)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_fused(texts[i], "fuse-gelu", PARE_OP_GELU, 1, PARE_OP_ERF);
  static const char *const tanh_texts[] = {
      GELU_HEAD "%q = Pow(%x, %three)\n%w = Mul(%c, %q)\n%s = Add(%x, %w)\n%t = Mul(%k, %s)\n%e = Tanh(%t)\n"
                "%a = Add(%e, %one)\n%h = Mul(%half, %x)\n%y = Mul(%h, %a)\noutput %y\n",
      GELU_HEAD "%xx = Mul(%x, %x)\n%q = Mul(%xx, %x)\n%w = Mul(%q, %c)\n%s = Add(%w, %x)\n%t = Mul(%s, %k)\n"
                "%e = Tanh(%t)\n%a = Add(%one, %e)\n%p = Mul(%a, %x)\n%y = Mul(%p, %half)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof tanh_texts / sizeof *tanh_texts; i++)
    check_fused(tanh_texts[i], "fuse-gelu", PARE_OP_GELU, 1, PARE_OP_TANH);
}

Test(fuse, what_only_looks_like_gelu_is_left_alone) {
  static const char *const texts[] = {
      /* another factor inside */
      GELU_HEAD "%t = Mul(%x, %half)\n%e = Erf(%t)\n%a = Add(%e, %one)\n"
                "%p = Mul(%x, %a)\n%y = Mul(%p, %half)\noutput %y\n",
      /* times another x */
      GELU_HEAD "input %z : T[3,5]\n%t = Div(%x, %root)\n%e = Erf(%t)\n%a = Add(%e, %one)\n%p = Mul(%z, %a)\n"
                "%y = Mul(%p, %half)\noutput %y\n",
      /* the half is missing */
      GELU_HEAD "%t = Div(%x, %root)\n%e = Erf(%t)\n%a = Add(%e, %one)\n%y = Mul(%x, %a)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) check_left_alone(texts[i], "fuse-gelu", PARE_OP_GELU);
}

/* --- Linear --- */

#define LORA_HEAD                                                                                          \
  "opset 17\ninput %x : T[2,9,20]\nconst %w : T[20,70] = random(1)\nconst %bias : T[70] = random(2)\n"     \
  "const %s : T[] = 1.5\nstate %a : T[20,3] = random(3)\nstate %b : T[3,70] = random(4)\n"

Test(fuse, a_layer_with_its_bias_and_adapter_becomes_one_op) {
  static const char *const texts[] = {
      LORA_HEAD "%p = MatMul(%x, %w)\n%u = MatMul(%x, %a)\n%v = MatMul(%u, %b)\n%k = Mul(%v, %s)\n%z = Add(%p, %k)\n"
                "%y = Add(%bias, %z)\noutput %y\n",
      LORA_HEAD "%p = MatMul(%x, %w)\n%h = Add(%p, %bias)\n%u = MatMul(%x, %a)\n%v = MatMul(%u, %b)\n%k = Mul(%s, %v)\n"
                "%y = Add(%k, %h)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_fused(texts[i], "fuse-linear", PARE_OP_LINEAR, 1, PARE_OP_MATMUL);
  check_fused("opset 17\ninput %x : T[7,40]\nconst %w : T[16,40] = random(1)\nconst %bias : T[16] = random(2)\n"
              "const %s : T[] = 0.5\nstate %a : T[40,8] = random(3)\nstate %b : T[8,16] = random(4)\n"
              "%p = Gemm(%x, %w, %bias) {transB=1}\n%u = MatMul(%x, %a)\n%v = MatMul(%u, %b)\n%k = Mul(%v, %s)\n"
              "%y = Add(%p, %k)\noutput %y\n", "fuse-linear", PARE_OP_LINEAR, 1, PARE_OP_GEMM);
  check_fused("opset 17\ninput %x : T[7,40]\nconst %w : T[40,16] = random(1)\n%y = MatMul(%x, %w)\noutput %y\n",
              "fuse-linear", PARE_OP_LINEAR, 1, PARE_OP_MATMUL);
}

Test(fuse, a_mask_on_x_becomes_a_mask_on_the_weight) {
  check_fused("opset 17\ninput %x : T[2,9,20]\nstate %m : T[20] = random(9)\nconst %w : T[20,70] = random(1)\n"
              "const %s : T[] = 1.5\nstate %a : T[20,3] = random(3)\nstate %b : T[3,70] = random(4)\n"
              "%xm = Mul(%x, %m)\n%p = MatMul(%xm, %w)\n%u = MatMul(%xm, %a)\n%v = MatMul(%u, %b)\n%k = Mul(%v, %s)\n"
              "%y = Add(%p, %k)\noutput %y\n", "fuse-linear,fuse-masks", PARE_OP_LINEAR, 1, PARE_OP_MUL);
}

Test(fuse, a_product_that_is_not_a_layer_is_left_alone) {
  static const char *const texts[] = {
      /* two activations */
      "opset 17\ninput %x : T[3,4]\ninput %w : T[4,5]\n%y = MatMul(%x, %w)\noutput %y\n",
      /* a batch of weights */
      "opset 17\ninput %x : T[2,3,4]\nconst %w : T[2,4,5] = random(1)\n%y = MatMul(%x, %w)\noutput %y\n",
      /* x transposed, and scaled */
      "opset 17\ninput %x : T[4,3]\nconst %w : T[4,5] = random(1)\n%y = Gemm(%x, %w) {transA=1}\noutput %y\n",
      "opset 17\ninput %x : T[3,4]\nconst %w : T[4,5] = random(1)\n%y = Gemm(%x, %w) {alpha=2.0}\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) check_left_alone(texts[i], "fuse-linear", PARE_OP_LINEAR);
}

Test(fuse, a_product_that_others_read_keeps_its_value) {
  check_fused("opset 17\ninput %x : T[3,4]\nconst %w : T[4,5] = random(1)\nconst %b : T[5] = random(2)\n"
              "%p = MatMul(%x, %w)\n%h = Add(%p, %b)\n%y = Mul(%h, %p)\noutput %y\n",
              "fuse-linear", PARE_OP_LINEAR, 1, PARE_OP_MATMUL);
}

/* --- Attention --- */

#define HEADS "opset 17\ninput %x : T[2,7,12]\ninput %xk : T[2,7,12]\ninput %xv : T[2,7,12]\nconst %s : T[] = 0.35\n" \
              "const %sh : i64[4] = 2 7 3 4\nconst %back : i64[3] = 2 7 12\nconst %mask : T[2,1,1,7] = random(8)\n"   \
              "%q = Reshape(%x, %sh)\n%k = Reshape(%xk, %sh)\n%v = Reshape(%xv, %sh)\n"

Test(fuse, attention_is_found_in_every_spelling) {
  static const char *const texts[] = {
      HEADS "%qt = Transpose(%q) {perm=[0,2,1,3]}\n%kt = Transpose(%k) {perm=[0,2,3,1]}\n"
            "%vt = Transpose(%v) {perm=[0,2,1,3]}\n%p = MatMul(%qt, %kt)\n%l = Mul(%p, %s)\n%w = Softmax(%l)\n"
            "%o = MatMul(%w, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%y = Reshape(%ot, %back)\noutput %y\n",
      HEADS "%qt = Transpose(%q) {perm=[0,2,1,3]}\n%kh = Transpose(%k) {perm=[0,2,1,3]}\n"
            "%kt = Transpose(%kh) {perm=[0,1,3,2]}\n%vt = Transpose(%v) {perm=[0,2,1,3]}\n%p = MatMul(%qt, %kt)\n"
            "%l = Div(%p, %s)\n%lm = Add(%mask, %l)\n%w = Softmax(%lm) {axis=-1}\n%o = MatMul(%w, %vt)\n"
            "%ot = Transpose(%o) {perm=[0,2,1,3]}\n%y = Reshape(%ot, %back)\noutput %y\n",
      HEADS "%qt = Transpose(%q) {perm=[0,2,1,3]}\n%qs = Mul(%qt, %s)\n%kt = Transpose(%k) {perm=[0,2,3,1]}\n"
            "%ks = Mul(%s, %kt)\n%vt = Transpose(%v) {perm=[0,2,1,3]}\n%p = MatMul(%qs, %ks)\n%w = Softmax(%p)\n"
            "%y = MatMul(%w, %vt)\noutput %y\n",
      /* heads apart already */
      "opset 17\ninput %q : T[2,3,7,4]\ninput %k : T[2,3,5,4]\ninput %v : T[2,3,5,6]\n"
      "%kt = Transpose(%k) {perm=[0,1,3,2]}\n%p = MatMul(%q, %kt)\n%w = Softmax(%p)\n%y = MatMul(%w, %v)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_fused(texts[i], "fuse-attention", PARE_OP_ATTENTION, 1, PARE_OP_SOFTMAX);
}

Test(fuse, what_only_looks_like_attention_is_left_alone) {
  static const char *const texts[] = {
      /* softmax over the rows */
      "opset 17\ninput %q : T[2,3,5,4]\ninput %k : T[2,3,4,5]\ninput %v : T[2,3,5,6]\n%p = MatMul(%q, %k)\n"
      "%w = Softmax(%p) {axis=2}\n%y = MatMul(%w, %v)\noutput %y\n",
      /* k as it is: nothing says that it was turned */
      "opset 17\ninput %q : T[2,3,5,4]\ninput %k : T[2,3,4,5]\ninput %v : T[2,3,5,6]\n%p = MatMul(%q, %k)\n"
      "%w = Softmax(%p)\n%y = MatMul(%w, %v)\noutput %y\n",
      /* probabilities on the right */
      "opset 17\ninput %q : T[2,3,5,4]\ninput %k : T[2,3,5,4]\ninput %v : T[2,3,6,5]\n"
      "%kt = Transpose(%k) {perm=[0,1,3,2]}\n%p = MatMul(%q, %kt)\n%w = Softmax(%p)\n%y = MatMul(%v, %w)\noutput %y\n",
      /* queries that all samples share */
      "opset 17\ninput %q : T[1,3,7,4]\ninput %k : T[2,3,5,4]\ninput %v : T[2,3,5,6]\n"
      "%kt = Transpose(%k) {perm=[0,1,3,2]}\n%p = MatMul(%q, %kt)\n%w = Softmax(%p)\n%y = MatMul(%w, %v)\noutput %y\n",
      /* one head of k for all of q's */
      "opset 17\ninput %q : T[2,3,7,4]\ninput %k : T[2,1,5,4]\ninput %v : T[2,3,5,6]\n"
      "%kt = Transpose(%k) {perm=[0,1,3,2]}\n%p = MatMul(%q, %kt)\n%w = Softmax(%p)\n%y = MatMul(%w, %v)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_left_alone(texts[i], "fuse-attention", PARE_OP_ATTENTION);
}

/* --- the manager --- */

/* Mul's kernel wants its operands aligned, Gather's takes its data anywhere. */
Test(fetch, a_large_weight_that_a_kernel_cannot_read_in_place_is_made_before_its_reader) {
  enum { ROWS = 200, COLS = 100 };
  Fix fix, *f = &fix;
  fix_init(f);
  for (int odd = 0; odd < 2; odd++) {
    PareGraph *g = fix_parse(f, "opset 17\ninput %x : f32[200,100]\ninput %i : i64[3]\n"
                                "const %w : f32[200,100] = random(1)\n%r = Gather(%w, %i)\n%y = Mul(%x, %w)\noutput %y\noutput %r\n");
    PareTensor *want = run_graph(f, g, 7);
    PareValue *w = pare_graph_find(g, "w");
    char *room = pare_arena_alloc(f->arena, ROWS * COLS * 4 + 8, 1);
    w->data = memcpy(room + odd, w->data, ROWS * COLS * 4);
    MUST(f, pare_run_passes(&f->c, g, "fetch-weights", NULL));
    cr_expect_eq(count_nodes(g, PARE_OP_FETCH), odd, "%d fetched at %d", count_nodes(g, PARE_OP_FETCH), odd);
    const PareNode *product = pare_graph_find(g, "y")->def;
    cr_expect_eq(product->prev->op == PARE_OP_FETCH, odd);
    PareTensor *got = run_graph(f, g, 7);
    for (int k = 0; k < 2; k++) cr_expect_eq(distance(&want[k], &got[k]), 0);
  }
  fix_free(f);
}

Test(passes, an_unknown_pass_is_named) {
  Fix f;
  fix_init(&f);
  PareGraph *g = fix_parse(&f, "opset 17\ninput %x : f32[2]\n%y = Neg(%x)\noutput %y\n");
  cr_expect_eq(pare_run_passes(&f.c, g, "fuse-gelu,fuse-moon", NULL), PARE_USAGE);
  cr_expect(strstr(f.c.diag.text, "'fuse-moon'") != NULL, "says: %s", f.c.diag.text);
  cr_expect(pare_pass_find("fuse-gelu") != NULL && pare_pass_find("fuse") == NULL);
  fix_forget(&f);
  fix_free(&f);
}

/* --- precision --- */

/* Rounded are the operands, of 48 terms, and the result. */
Test(fuse, patches_of_an_input_are_multiplied_in_bf16_and_other_convolutions_are_not) {
  const char *text = "opset 17\ninput %x : f32[2,3,8,8]\nconst %w : f32[4,3,4,4] = random(1)\nconst %b : f32[4] = random(2)\n"
                     "const %v : f32[5,4,1,1] = random(3)\n%y = Conv(%x, %w, %b) {strides=[4,4]}\n%z = Conv(%y, %v)\n"
                     "output %y\noutput %z\n";
  Fix f;
  fix_init(&f);
  PareGraph *plain = fix_parse(&f, text), *low = fix_parse(&f, text);
  MUST(&f, pare_run_passes(&f.c, low, "lower-precision", NULL));
  int halves = 0;
  for (const PareNode *n = low->first; n; n = n->next) halves += n->op == PARE_OP_CONV && n->out[0]->type.dtype == PARE_BF16;
  cr_expect_eq(halves, 1, "%d of the two in bf16", halves);
  cr_expect_eq(count_nodes(low, PARE_OP_CAST), 4, "%d Casts", count_nodes(low, PARE_OP_CAST));
  PareTensor *a = run_graph(&f, plain, 5), *b = run_graph(&f, low, 5);
  for (size_t i = 0; i < 2; i++)
    cr_expect(distance(&a[i], &b[i]) <= 3 * 0x1p-8, "output %zu is %g away", i, distance(&a[i], &b[i]));
  fix_free(&f);
}

/* --- picked rows --- */

/* An encoder's last layer on 6 tokens of 8 numbers, of which `pick` (text; reads %z) takes what is read behind it. */
static char *last_layer(Fix *f, const char *pick) {
  return fmt(f, "opset 17\ninput %%x : T[2,6,8]\nconst %%wq : T[8,8] = random(1)\nconst %%wk : T[8,8] = random(2)\n"
                "const %%wv : T[8,8] = random(3)\nconst %%wo : T[8,8] = random(4)\nconst %%w1 : T[8,16] = random(5)\n"
                "const %%w2 : T[16,8] = random(6)\nconst %%g : T[8] = random(7)\nconst %%b : T[8] = random(8)\n"
                "const %%s : i64[4] = 0 0 2 4\nconst %%t : i64[3] = 0 0 8\nconst %%zero : i64[] = 0\n"
                "const %%one : i64[1] = 1\nconst %%two : i64[1] = 2\nconst %%last : i64[1] = -1\nconst %%ends : i64[2] = 5 0\n"
                "const %%far : i64[1] = 100\nconst %%minus : i64[1] = -4\n"
                "%%q = pare.Linear(%%x, %%wq)\n%%k = pare.Linear(%%x, %%wk)\n%%v = pare.Linear(%%x, %%wv)\n"
                "%%qh = Reshape(%%q, %%s)\n%%kh = Reshape(%%k, %%s)\n%%vh = Reshape(%%v, %%s)\n"
                "%%a, %%lse = pare.Attention(%%qh, %%kh, %%vh) {heads=[2,2,2,2], scale=0.5}\n%%ar = Reshape(%%a, %%t)\n"
                "%%o = pare.Linear(%%ar, %%wo)\n%%r = Add(%%x, %%o)\n%%n = LayerNormalization(%%r, %%g, %%b)\n"
                "%%h = pare.Linear(%%n, %%w1)\n%%u = Gelu(%%h)\n%%d = pare.Linear(%%u, %%w2)\n%%z = Add(%%r, %%d)\n%s", pick);
}

/* How many products have so many rows in each sample. */
static int products_of(const PareGraph *g, int64_t rows) {
  int n = 0;
  for (const PareNode *x = g->first; x; x = x->next)
    n += x->op == PARE_OP_LINEAR && x->out[0]->type.rank == 3 && x->out[0]->type.dim[1] == rows;
  return n;
}

Test(fuse, of_the_last_layer_only_the_tokens_are_made_that_are_read) {
  static const struct { const char *pick; int rows; } cases[] = {
      {"%y = Gather(%z, %zero) {axis=1}\noutput %y\n", 1},
      {"%y = Gather(%z, %last) {axis=-2}\noutput %y\n", 1},
      {"%y = Slice(%z, %one, %two, %one)\noutput %y\n", 1},
      {"%y = Slice(%z, %minus, %far, %one, %two)\noutput %y\n", 2},                                      /* 2 and 4 */
      {"%y = Gather(%z, %ends) {axis=1}\noutput %y\n", 2},                                             /* the other way round */
      {"%c = Gather(%z, %zero) {axis=1}\n%e = Slice(%z, %one, %two, %one)\n%f = Squeeze(%e, %one)\n" /* DeiT's two */
       "%y = Add(%c, %f)\noutput %y\n", 2},
  };
  static const char *const types[] = {"f32", "f64"};
  for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
    Fix f;
    fix_init(&f);
    PareGraph *g = check(&f, last_layer(&f, cases[i / 2].pick), types[i % 2], "narrow-rows");
    int few = products_of(g, cases[i / 2].rows), all = products_of(g, 6);
    cr_expect(few == 4 && all == 2, "%d layers make %d rows and %d make 6; of q, k, v, o and two more all but k and v "
              "are asked for less\n%s", few, cases[i / 2].rows, all, cases[i / 2].pick);
    fix_free(&f);
  }
}

Test(fuse, rows_that_are_read_are_made) {
  static const char *const picks[] = {
      "%y = Gather(%z, %zero) {axis=1}\noutput %y\noutput %z\n",                                     /* an output */
      "%c = Gather(%z, %zero) {axis=1}\n%m = ReduceMean(%z, %one) {keepdims=0}\n%y = Add(%c, %m)\noutput %y\n",
      "%y = Slice(%z, %one, %far, %one)\noutput %y\n",                                                /* 5 of 6 */
      "%y = Gather(%z, %zero) {axis=2}\noutput %y\n",                                                 /* a channel */
  };
  for (size_t i = 0; i < sizeof picks / sizeof *picks; i++) {
    Fix f;
    fix_init(&f);
    PareGraph *g = check(&f, last_layer(&f, picks[i]), "f64", "narrow-rows");
    cr_expect_eq(products_of(g, 6), 6, "%d of 6 products are whole\n%s", products_of(g, 6), picks[i]);
    fix_free(&f);
  }
}

/* --- whole models --- */

typedef struct Step {
  PareTrainGraph t;
  PareProgram *program;
} Step;

/* One run of the TUNE phase on random data, adapters and half of the masks. */
static Step train_once(Fix *f, const PareGraph *bound, const PareDims *d, const PareAdapters *adapters, bool plain,
                       bool bf16, bool reread) {
  Step s;
  bool *pruned = PARE_NEW_N(f->arena, d->dims.n + 1, bool);
  PareGraph *g = pare_graph_clone(&f->c, f->arena, bound);
  PareTrainSpec spec = {.loss = PARE_LOSS_KD, .teach_outputs = true, .temperature = 2, .criterion = &pare_criteria[0], .power = 2, .eta = 1,
                        .ema = 0.9, .pruned = pruned, .plain = plain, .bf16 = bf16, .reread = reread, .renorm = reread};
  MUST(f, pare_build_training(&f->c, g, d, adapters, &spec, &s.t));
  MUST(f, pare_program_new(&f->c, g, pare_cpu_kernels(), &s.program));
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    void *x = pare_program_buffer(s.program, v);
    size_t bytes;
    cr_assert(pare_type_bytes(&v->type, &bytes));
    fill_random(&v->type, x, 70 + i);
    if (strstr(v->name, "type") && !pare_dtype_is_float(v->type.dtype)) memset(x, 0, bytes);
    for (int64_t k = 0; strstr(v->name, "mask") && v->type.dtype == PARE_I64 && k < pare_type_count(&v->type); k++)
      ((int64_t *)x)[k] = k % 5 < 4;
  }
  for (size_t i = 0; i < 2 * s.t.nadapters; i++) {
    const PareValue *v = i % 2 ? s.t.b[i / 2].value : s.t.a[i / 2].value;
    float *x = pare_program_buffer(s.program, v);
    fill_random(&v->type, x, i);
    for (int64_t k = 0; k < pare_type_count(&v->type); k++) x[k] *= 0.05f;
  }
  for (size_t i = 0; i < s.t.masks.at.n; i++) {
    float *x = pare_program_buffer(s.program, s.t.masks.at.at[i].mask);
    for (int64_t k = 0; k < s.t.masks.at.at[i].k; k += 2) x[k] = 0;
  }
  *(float *)pare_program_buffer(s.program, s.t.dloss) = 1;
  MUST(f, pare_program_run(&f->c, s.program, PARE_PHASE_TUNE));
  return s;
}

static PareTensor grad_of(const Step *s, size_t i) {
  const PareValue *v = i % 2 ? s->t.b[i / 2].grad : s->t.a[i / 2].grad;
  return (PareTensor){pare_program_buffer(s->program, v), v->type};
}

/* |a - b| / |a| over all adapters, in norms. Under 1e-7, float's rounding of the losses here, a gradient
 * counts as zero (torchvision's heads start as zeros, distilbert-tiny hardly depends on its input). */
static double grads_apart(const Step *a, const Step *b) {
  double apart = 0, size = 0;
  for (size_t i = 0; i < 2 * a->t.nadapters; i++) {
    PareTensor x = grad_of(a, i), y = grad_of(b, i);
    for (int64_t k = 0; k < pare_type_count(&x.type); k++) {
      apart += pow(element(&x, k) - element(&y, k), 2);
      size += pow(element(&x, k), 2);
    }
  }
  return sqrt(apart / fmax(size, 1e-14));
}

static void check_model(Fix *f, const char *name) {
  PareModel *m;
  PareGraph *probe;
  PareDims *d;
  PareAdapters adapters;
  int64_t sizes[] = {2, 5};
  MUST(f, pare_model_load(&f->c, fixture(f, name), &m));
  MUST(f, pare_probe_dims(&f->c, f->arena, m->graph, 0, &probe));
  MUST(f, pare_trace_dims(&f->c, f->arena, probe, &d));
  MUST(f, pare_find_adapters(&f->c, f->arena, d, &(PareAdapterSpec){.rank = 4, .scale = 2}, &adapters));
  PareGraph *bound = bound_at(f, m->graph, 2, sizes);
  Step plain = train_once(f, bound, d, &adapters, true, false, false);
  Step fused = train_once(f, bound, d, &adapters, false, false, false);
  Step low = train_once(f, bound, d, &adapters, false, true, false);
  Step again = train_once(f, bound, d, &adapters, false, true, true);
  double fp32 = grads_apart(&plain, &fused), bf16 = grads_apart(&plain, &low), limit = rounding_tolerance(bound);
  cr_log_info("%s: fused %g, bf16 %g apart, rounding is %g", name, fp32, bf16, limit);
  cr_expect(fp32 <= limit, "%s: the gradients of the fused step are %g apart, rounding is %g", name, fp32, limit);
  /* a product in bf16 errs by 2^-9 of its size: 2^16 times what fp32 does, where few products follow each other */
  cr_expect(bf16 <= 0.1, "%s: the gradients of the bf16 step are %g apart", name, bf16);
  cr_expect_eq(grads_apart(&low, &again), 0, "%s: with GELU and norms made again they are %g apart", name, grads_apart(&low, &again));
  pare_program_free(plain.program);
  pare_program_free(fused.program);
  pare_program_free(low.program);
  pare_program_free(again.program);
  pare_model_free(m);
}

Test(fuse, a_training_step_of_real_models_has_the_gradients_of_the_plain_one) {
  Fix f;
  Row *rows;
  fix_init(&f);
  size_t n = fixtures(&f, 'A', &rows);
  fix_free(&f);
  for (size_t i = 0; i < n; i++) {
    fix_init(&f);
    fixtures(&f, 'A', &rows);
    check_model(&f, rows[i].name);
    fix_free(&f);
  }
}

/* --- what does nothing --- */

static const char *const shared_heads =
    "opset 17\ninput %x : T[2,3,4,8]\nconst %ax : i64[1] = 2\nconst %one : i64[5] = 1 1 1 1 1\n"
    "const %s : i64[4] = 0 -1 4 8\n%u = Unsqueeze(%x, %ax)\n%e = Expand(%u, %one)\n%r = Reshape(%e, %s)\n";

static PareGraph *dropped(Fix *f, const char *text) {
  PareGraph *g = parse_as(f, text, "f32");
  MUST(f, pare_run_passes(&f->c, g, "drop-noops", NULL));
  check(f, text, "f32", "drop-noops");
  return g;
}

Test(drop, a_chain_that_ends_where_it_began_goes) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = dropped(f, fmt(f, "%s%%i = Identity(%%r)\n%%y = Relu(%%i)\noutput %%y\n", shared_heads));
  cr_assert(g->first == g->last && g->first->op == PARE_OP_RELU, "'%s' is left", g->first->name);
  cr_expect_eq(g->first->in[0]->role, PARE_INPUT, "Relu reads '%s'", g->first->in[0]->name);
  fix_free(f);
}

Test(drop, a_gather_of_all_in_their_order_goes_and_any_other_stays) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char *const gather =
      "opset 17\ninput %%x : T[2,3,4]\nconst %%i : i64[3] = %s\n%%g = Gather(%%x, %%i) {axis=1}\n%%y = Relu(%%g)\noutput %%y\n";
  PareGraph *g = dropped(f, fmt(f, gather, "0 1 2"));
  cr_expect_eq(count_nodes(g, PARE_OP_GATHER), 0);
  g = dropped(f, fmt(f, gather, "0 2 1"));
  cr_expect_eq(count_nodes(g, PARE_OP_GATHER), 1);
  fix_free(f);
}

Test(drop, what_stretches_or_is_an_output_stays) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = dropped(f, "opset 17\ninput %x : T[2,1,4]\nconst %s : i64[3] = 2 3 4\n%e = Expand(%x, %s)\n"
                            "%i = Identity(%e)\n%y = Relu(%i)\noutput %y\n");
  cr_expect_eq(count_nodes(g, PARE_OP_EXPAND), 1);
  cr_expect_eq(count_nodes(g, PARE_OP_IDENTITY), 0);
  g = dropped(f, fmt(f, "%soutput %%r\n", shared_heads));
  cr_expect_eq(g->outputs.at[0]->role, PARE_RESULT, "the output is '%s'", g->outputs.at[0]->name);
  fix_free(f);
}

/* --- merged weights --- */

#define MERGE_HEAD                                                                                                   \
  "opset 17\ninput %x : f32[6,20]\ninput %dy : f32[6,12]\nconst %w : f32[20,12] = random(1)\n"                      \
  "const %turned : f32[12,20] = random(2)\nconst %b : f32[12] = random(3)\nstate %A : f32[20,3] = random(4)\n"       \
  "state %B : f32[3,12] = random(5)\nstate %m : f32[20] = random(6)\n"
#define LAYER "%y = pare.Linear(%x, %w, %b, %A, %B, %m) {scale=0.5}\noutput %y\n"
#define LAYER_GRAD "%dx, %da, %db = pare.LinearGrad(%x, %w, %dy, %A, %B, %m) {scale=0.5}\noutput %dx\noutput %da\noutput %db\n"

/* `many` weights are merged, before all else, nobody merges one any more, and the outputs are the same bytes. */
static void check_merged(const char *text, int many) {
  Fix f;
  fix_init(&f);
  PareGraph *plain = fix_parse(&f, text), *merged = fix_parse(&f, text);
  MUST(&f, pare_run_passes(&f.c, plain, "fold-constants", NULL));
  MUST(&f, pare_run_passes(&f.c, merged, "fold-constants,merge-weights", NULL));
  cr_expect_eq(count_nodes(merged, PARE_OP_MERGEDWEIGHT), many, "%d merged weights in\n%s",
               count_nodes(merged, PARE_OP_MERGEDWEIGHT), text);
  int at = 0;
  for (const PareNode *n = merged->first; n; n = n->next, at++) {
    cr_expect_eq(n->op == PARE_OP_MERGEDWEIGHT, at < many, "node %d is %s", at, pare_op_info[n->op].name);
    if (n->op == PARE_OP_LINEAR) cr_expect_leq(n->nin, 3);
    if (n->op == PARE_OP_LINEARGRAD) cr_expect_eq(pare_attr_get(&n->attr, merged, 0), 1);
  }
  PareTensor *a = run_graph(&f, plain, 5), *b = run_graph(&f, merged, 5);
  for (size_t i = 0; i < plain->outputs.n; i++)
    cr_expect_eq(distance(&a[i], &b[i]), 0, "output %zu is %g away in\n%s", i, distance(&a[i], &b[i]), text);
  fix_free(&f);
}

Test(merge, a_layer_and_its_gradient_share_one_merged_weight) {
  check_merged(MERGE_HEAD LAYER LAYER_GRAD, 1);
  check_merged(MERGE_HEAD LAYER_GRAD, 1);
  check_merged(MERGE_HEAD "%y = pare.Linear(%x, %turned, _, %A, %B) {transB=1}\n"
               "%dx, _, _ = pare.LinearGrad(%x, %turned, %dy, %A, %B, _, %x) {transB=1}\noutput %y\noutput %dx\n", 1);
  check_merged(MERGE_HEAD "%y = pare.Linear(%x, %w, %b, _, _, %m)\noutput %y\n", 1);
  /* a bias of its own, and another scale */
  check_merged(MERGE_HEAD "const %c : f32[12] = random(7)\n%z = pare.Linear(%x, %w, %c, %A, %B, %m) {scale=0.5}\n" LAYER
               "output %z\n", 1);
  check_merged(MERGE_HEAD "%z = pare.Linear(%x, %w, %b, %A, %B, %m) {scale=0.25}\n" LAYER "output %z\n", 2);
}

Test(merge, weights_and_biases_that_are_worked_out_before_a_run_are_merged_before_all_else) {
  check_merged(MERGE_HEAD "%t = Tanh(%x)\n%v = Transpose(%turned)\n%y = pare.Linear(%t, %v, %b, %A, %B)\n"
               "%dx, %da, _ = pare.LinearGrad(%t, %v, %dy, %A, %B)\noutput %y\noutput %dx\noutput %da\noutput %v\n", 1);
}

Test(merge, layers_without_adapters_and_what_changes_before_it_is_read_are_left_alone) {
  static const char *const texts[] = {
      MERGE_HEAD "%y = pare.Linear(%x, %w, %b)\n%dx = pare.LinearGrad(%x, %w, %dy)\noutput %y\noutput %dx\n",
      MERGE_HEAD "pare.Accumulate(%A, %A)\n" LAYER,
      MERGE_HEAD "input %k : f32[12]\n%v = Mul(%w, %k)\n%y = pare.Linear(%x, %v, %b, %A, %B)\noutput %y\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_left_alone(texts[i], "merge-weights", PARE_OP_MERGEDWEIGHT);
}

/* Layers on bf16: the merged weight and the bias are too. */
Test(merge, what_is_merged_has_the_type_of_what_it_is_multiplied_by) {
  Fix f;
  fix_init(&f);
  PareGraph *g = fix_parse(&f, MERGE_HEAD "%low = Cast(%x) {to=bf16}\n%y = pare.Linear(%low, %w, %b, %A, %B, %m)\n"
                                          "%z = pare.Linear(%x, %w, %b, %A, %B, %m)\noutput %y\noutput %z\n");
  MUST(&f, pare_run_passes(&f.c, g, "merge-weights", NULL));
  cr_assert_eq(count_nodes(g, PARE_OP_MERGEDWEIGHT), 2);
  const PareNode *low = pare_graph_find(g, "y")->def, *full = pare_graph_find(g, "z")->def;
  cr_expect(low->in[1]->type.dtype == PARE_BF16 && low->in[2]->type.dtype == PARE_BF16);
  cr_expect(full->in[1]->type.dtype == PARE_F32 && full->in[2]->role == PARE_CONST, "a bias that fits is read as it is");
  /* a CPU multiplies by weights of f32 alone */
  PareProgram *p;
  cr_expect_eq(pare_program_new(&f.c, g, pare_cpu_kernels(), &p), PARE_UNSUPPORTED);
  cr_expect(strstr(f.c.diag.text, "f32"), "%s", f.c.diag.text);
  fix_forget(&f);
  fix_free(&f);
}
