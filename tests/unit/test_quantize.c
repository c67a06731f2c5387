/* test_quantize.c - QuantizeLinear and DequantizeLinear beyond ONNX's node tests: what
 * they refuse, the op that both become, its gradient, and weights that stay integers. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/autodiff.h"
#include "passes/bind_shapes.h"
#include "passes/classes.h"
#include "ir/text.h"
#include "passes/edit.h"
#include "passes/insert_lora.h"
#include "passes/pass.h"
#include "passes/probe_dims.h"
#include "passes/quantized.h"
#include "passes/trace_dims.h"
#include "tests/unit/support.h"

static PareGraph *bound(Fix *f, const char *text) {
  PareGraph *g = fix_parse(f, text);
  MUST(f, pare_bind_shapes(&f->c, g, 0, NULL));
  return g;
}

/* Nodes of this op whose result is not known. */
static int count_op(const PareGraph *g, PareOp op) {
  int n = 0;
  for (const PareNode *x = g->first; x; x = x->next) n += x->op == op && !x->out[0]->data;
  return n;
}

/* --- the ops by themselves --- */

Test(quantize, rounds_half_to_even_saturates_and_takes_nan_for_the_least) {
  Fix fix, *f = &fix;
  fix_init(f);
  /* x / 2 = 0.5 1.5 2.5 -0.5 -1.5 1e9 -1e9 and no number */
  PareGraph *g = bound(f, "opset 17\nconst %x : f32[8] = 1 3 5 -1 -3 2e9 -2e9 nan\nconst %s : f32[] = 2\n"
                          "const %z : i8[] = 3\n%q = QuantizeLinear(%x, %s, %z)\n%y = DequantizeLinear(%q, %s, %z)\n"
                          "output %y\n");
  static const int want[] = {3, 5, 5, 3, 1, 127, -128, -128};
  const PareValue *q = pare_graph_find(g, "q"), *y = pare_graph_find(g, "y");
  cr_assert(q->data && y->data);
  for (int i = 0; i < 8; i++) {
    cr_expect_eq(pare_data_int(q, i), want[i], "element %d is %d, not %d", i, (int)pare_data_int(q, i), want[i]);
    cr_expect_eq(pare_data_float(y, i), 2.0 * (want[i] - 3), "element %d is %g", i, pare_data_float(y, i));
  }
  fix_free(f);
}

#define X "opset 21\ninput %x : f32[2,3]\n"
#define Q8 "opset 21\ninput %x : i8[2,3]\n"
Test(quantize, what_makes_no_sense_ends_in_a_sentence) {
  static const struct {
    PareStatus status;
    const char *why, *text;
  } cases[] = {
      {PARE_FORMAT, "holds 0 at 0", X "const %s : f32[] = 0\n%y = QuantizeLinear(%x, %s)\n"},
      {PARE_FORMAT, "holds nan at 1", X "const %s : f32[3] = 1 nan 1\n%y = QuantizeLinear(%x, %s)\n"},
      {PARE_FORMAT, "holds inf at 0", Q8 "const %s : f32[] = inf\n%y = DequantizeLinear(%x, %s)\n"},
      {PARE_FORMAT, "holds nan at 0", Q8 "const %s : f32[] = nan\n%y = DequantizeLinear(%x, %s)\n"},
      {PARE_FORMAT, "the element types differ", Q8 "const %s : f32[] = 1\nconst %z : u8[] = 1\n"
                                                   "%y = DequantizeLinear(%x, %s, %z)\n"},
      {PARE_UNSUPPORTED, "not to i64", X "const %s : f32[] = 1\nconst %z : i64[] = 1\n"
                                         "%y = QuantizeLinear(%x, %s, %z)\n"},
      {PARE_FORMAT, "axis 2 is outside", X "const %s : f32[3] = 1 1 1\n%y = QuantizeLinear(%x, %s) {axis=2}\n"},
      {PARE_FORMAT, "axis -3 is outside", X "const %s : f32[3] = 1 1 1\n%y = QuantizeLinear(%x, %s) {axis=-3}\n"},
      {PARE_FORMAT, "one for each index", X "const %s : f32[3] = 1 1 1\n%y = QuantizeLinear(%x, %s) {axis=0}\n"},
      {PARE_FORMAT, "as many zero points", X "const %s : f32[3] = 1 1 1\nconst %z : u8[2] = 1 1\n"
                                             "%y = QuantizeLinear(%x, %s, %z)\n"},
      {PARE_FORMAT, "must be a float", X "const %s : i32[] = 1\n%y = QuantizeLinear(%x, %s)\n"},
      {PARE_UNSUPPORTED, "by blocks", X "const %s : f32[2,1] = 1 1\n%y = QuantizeLinear(%x, %s) {block_size=3}\n"},
      {PARE_FORMAT, "only floats", Q8 "const %s : f32[] = 1\n%y = QuantizeLinear(%x, %s)\n"},
      {PARE_FORMAT, "is not dequantised", X "const %s : f32[] = 1\n%y = DequantizeLinear(%x, %s)\n"},
      {PARE_FORMAT, "'output_dtype' names", X "const %s : f32[] = 1\nconst %z : u8[] = 1\n"
                                              "%y = QuantizeLinear(%x, %s, %z) {output_dtype=i8}\n"},
      {PARE_UNSUPPORTED, "which is no float", Q8 "const %s : f32[] = 1\n"
                                                 "%y = DequantizeLinear(%x, %s) {output_dtype=i8}\n"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    f->c.diag = (PareDiag){0};
    PareGraph *g = NULL;
    PareStatus s = pare_text_parse(&f->c, f->arena, cases[i].text, &g);
    if (s == PARE_OK) s = pare_bind_shapes(&f->c, g, 0, NULL);
    cr_expect(s == cases[i].status && strstr(f->c.diag.text, cases[i].why), "status %d, not %d; said '%s' of\n%s",
              (int)s, (int)cases[i].status, f->c.diag.text, cases[i].text);
    fix_free(f);
  }
}

Test(quantize, empty_tensors_and_scalars_are_fine) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = bound(f, "opset 17\ninput %x : f32[0,3]\ninput %v : f32[]\nconst %s : f32[3] = 1 2 3\n"
                          "const %t : f32[1] = 0.5\n%a = QuantizeLinear(%x, %s)\n%b = DequantizeLinear(%a, %s)\n"
                          "%c = QuantizeLinear(%v, %t)\n%d = DequantizeLinear(%c, %t)\noutput %b\noutput %d\n");
  MUST(f, pare_run_passes(&f->c, g, "fake-quantize", NULL));
  PareTensor *y = run_graph(f, g, 3);
  cr_expect_eq(pare_type_count(&y[0].type), 0);
  cr_expect(element(&y[1], 0) == 0 || element(&y[1], 0) == 0.5 || element(&y[1], 0) == 1, "%g", element(&y[1], 0));
  fix_free(f);
}

/* --- one op in the place of two --- */

static void check_same(Fix *f, const PareGraph *g, const char *what, int fake, int left) {
  PareGraph *plain = pare_graph_clone(&f->c, f->arena, g), *fused = pare_graph_clone(&f->c, f->arena, g);
  MUST(f, pare_run_passes(&f->c, fused, "fake-quantize", NULL));
  cr_expect(fake < 0 || count_op(fused, PARE_OP_FAKEQUANTIZE) == fake, "%s: %d instead of %d", what,
            count_op(fused, PARE_OP_FAKEQUANTIZE), fake);
  cr_expect_eq(count_op(fused, PARE_OP_QUANTIZELINEAR), left, "%s: %d are left instead of %d", what,
               count_op(fused, PARE_OP_QUANTIZELINEAR), left);
  PareTensor *a = run_graph(f, plain, 5), *b = run_graph(f, fused, 5);
  for (size_t i = 0; i < g->outputs.n; i++) {
    cr_assert(pare_type_equal(&a[i].type, &b[i].type));
    cr_expect_str_eq(plain->outputs.at[i]->name, fused->outputs.at[i]->name);
    for (int64_t k = 0; k < pare_type_count(&a[i].type); k++)
      cr_assert_eq(element(&a[i], k), element(&b[i], k), "%s, output %zu, element %lld: %.9g instead of %.9g", what, i,
                   (long long)k, element(&b[i], k), element(&a[i], k));
  }
}

#define PAIR "opset 17\ninput %x : f32[2,3,4]\nconst %s : f32[] = 0.013\nconst %z : u8[] = 77\n"
Test(fake_quantize, gives_the_same_bits) {
  static const struct {
    const char *what, *text;
    int fake, left;
  } cases[] = {
      {"a pair", PAIR "%q = QuantizeLinear(%x, %s, %z)\n%y = DequantizeLinear(%q, %s, %z)\noutput %y\n", 1, 0},
      {"no zero point", PAIR "%q = QuantizeLinear(%x, %s)\n%y = DequantizeLinear(%q, %s)\noutput %y\n", 1, 0},
      {"a scale for each channel", PAIR "const %t : f32[3] = 0.001 0.02 0.3\nconst %u : i8[3] = 1 -100 3\n"
                                        "%q = QuantizeLinear(%x, %t, %u)\n"
                                        "%y = DequantizeLinear(%q, %t, %u)\noutput %y\n",
       1, 0},
      {"moves between the two", PAIR "const %h : i64[2] = 6 4\nconst %b : i64[1] = 1\nconst %e : i64[1] = 5\n"
                                     "%q = QuantizeLinear(%x, %s, %z)\n%t = Transpose(%q) {perm=[1,0,2]}\n"
                                     "%r = Reshape(%t, %h)\n%c = Slice(%r, %b, %e)\n%y = DequantizeLinear(%c, %s, %z)\n"
                                     "output %y\n", 1, 0},
      {"copies that are joined", PAIR "const %h : i64[1] = 2\n%q = QuantizeLinear(%x, %s, %z)\n%u = Unsqueeze(%q, %h)\n"
                                 "%v = Unsqueeze(%q, %h)\n%c = Concat(%u, %v, %v) {axis=2}\n"
                                 "%y = DequantizeLinear(%c, %s, %z)\noutput %y\n", 1, 0},
      {"two that are joined", PAIR "%r = Relu(%x)\n%q = QuantizeLinear(%x, %s, %z)\n%p = QuantizeLinear(%r, %s, %z)\n"
                              "%c = Concat(%q, %p) {axis=1}\n%y = DequantizeLinear(%c, %s, %z)\noutput %y\n", 2, 0},
      {"one joined with integers that are there", PAIR "const %k : u8[2,3,1] = 1 2 3 40 50 60\n"
                                                  "%q = QuantizeLinear(%x, %s, %z)\n%c = Concat(%k, %q) {axis=2}\n"
                                                  "%y = DequantizeLinear(%c, %s, %z)\noutput %y\n", 1, 0},
      {"one joined with another scale", PAIR "const %t : f32[] = 0.5\n%q = QuantizeLinear(%x, %s, %z)\n"
                                        "%p = QuantizeLinear(%x, %t, %z)\n%c = Concat(%q, %p) {axis=1}\n"
                                        "%y = DequantizeLinear(%c, %s, %z)\noutput %y\n", 1, 1},
      {"two readers", PAIR "%q = QuantizeLinear(%x, %s, %z)\n%t = Transpose(%q)\n%y = DequantizeLinear(%q, %s, %z)\n"
                           "%w = DequantizeLinear(%t, %s, %z)\noutput %y\noutput %w\n", 2, 0},
      {"another scale", PAIR "const %t : f32[] = 0.5\n%q = QuantizeLinear(%x, %s, %z)\n"
                             "%y = DequantizeLinear(%q, %t, %z)\noutput %y\n", 0, 1},
      {"another zero point", PAIR "%q = QuantizeLinear(%x, %s, %z)\n%y = DequantizeLinear(%q, %s)\n"
                                  "output %y\n", 0, 1},
      {"another axis", PAIR "const %t : f32[2] = 0.1 0.2\nconst %p : i64[2] = 1 0\ninput %w : f32[2,2]\n"
                            "%q = QuantizeLinear(%w, %t)\n%y = DequantizeLinear(%q, %t) {axis=0}\noutput %y\n", 0, 1},
      {"channels that move", PAIR "const %t : f32[3] = 0.1 0.2 0.3\n%q = QuantizeLinear(%x, %t)\n"
                                  "%r = Transpose(%q) {perm=[2,1,0]}\n%y = DequantizeLinear(%r, %t)\n"
                                  "output %y\n", 0, 1},
      {"integers as an output", PAIR "%q = QuantizeLinear(%x, %s, %z)\n%y = DequantizeLinear(%q, %s, %z)\noutput %y\n"
                                     "output %q\n", 1, 1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    check_same(f, bound(f, cases[i].text), cases[i].what, cases[i].fake, cases[i].left);
    fix_free(f);
  }
}

Test(fake_quantize, gives_the_same_bits_on_real_models) {
  static const char *const names[] = {"tinybert-sst2-ort-qdq", "deit-fashion-ort-qdq"};
  Fix fix, *f = &fix;
  fix_init(f);
  for (int i = 0; i < 2; i++) {
    PareModel *m;
    MUST(f, pare_model_load(&f->c, fixture(f, names[i]), &m));
    check_same(f, bound_at(f, m->graph, 2, (int64_t[]){2, 9}), names[i], -1, 0);
    pare_model_free(m);
  }
  fix_free(f);
}

/* d Σ y·r / dx is r inside of the range and 0 outside, whether or not y is rounded: x / 0.1 + 100 in [0, 255]. */
Test(fake_quantize, passes_gradients_straight_through_inside_the_range) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = bound(f, "opset 17\nstate %x : f32[6] = -20 -10.04 -9.96 0.123 15.54 15.58\nconst %s : f32[] = 0.1\n"
                          "const %z : u8[] = 100\nconst %r : f32[6] = 1 2 3 4 5 6\n%q = QuantizeLinear(%x, %s, %z)\n"
                          "%d = DequantizeLinear(%q, %s, %z)\n%p = Mul(%d, %r)\n%l = ReduceSum(%p) {keepdims=0}\n"
                          "output %l\n");
  static const double want[] = {0, 2, 3, 4, 5, 0}; /* -10.04 is rounded to 0, the least; 15.54 to 255 */
  MUST(f, pare_run_passes(&f->c, g, "fake-quantize", NULL));
  PareValue *x = pare_graph_find(g, "x"), *grad, *one = pare_const_float(&f->c, g, "one", PARE_F32, 1);
  MUST(f, pare_autodiff(&f->c, g, g->outputs.at[0], one, 1, &x, &grad));
  cr_assert_not_null(grad);
  cr_assert(pare_vec_push(g->arena, &g->outputs, grad));
  PareTensor *y = run_graph(f, g, 1);
  for (int i = 0; i < 6; i++)
    cr_expect_eq(element(&y[1], i), want[i], "element %d: %g, not %g", i, element(&y[1], i), want[i]);
  fix_free(f);
}

/* --- dynamic quantisation --- */

#define DYNAMIC                                                                                                     \
  "opset 17\nstate %x : f32[2,5,4] = random(3)\nconst %w : i8[4,3] = 1 -128 127 4 50 -6 7 8 -90 10 11 12\n"        \
  "const %zw : i8[3] = 1 -2 3\nconst %sw : f32[3] = 0.01 0.02 0.003\n%q, %s, %z = DynamicQuantizeLinear(%x)\n"      \
  "%p = MatMulInteger(%q, %w, %z, %zw)\n%c = Cast(%p) {to=f32}\n%ss = Mul(%s, %sw)\n%y = Mul(%c, %ss)\noutput %y\n"

/* Integers are added up exactly, floats with u = 2^-24 in sums of 4 terms and a few products. */
Test(float_products, equal_the_scaled_product_of_integers) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *plain = bound(f, DYNAMIC), *floats = bound(f, DYNAMIC), *fake = bound(f, DYNAMIC);
  uint32_t id = plain->first->next->id;
  MUST(f, pare_run_passes(&f->c, floats, "float-products", NULL));
  MUST(f, pare_run_passes(&f->c, fake, "float-products,fake-quantize", NULL));
  cr_expect_eq(count_op(floats, PARE_OP_MATMULINTEGER), 0);
  cr_expect_eq(count_op(fake, PARE_OP_FAKEQUANTIZE), 1);
  const PareNode *n = floats->first;
  while (n && n->id != id) n = n->next;
  cr_expect(n && n->op == PARE_OP_MATMUL, "the node has lost its id");
  cr_expect_str_eq(floats->outputs.at[0]->name, "y");
  PareTensor *want = run_graph(f, plain, 1), *a = run_graph(f, floats, 1), *b = run_graph(f, fake, 1);
  cr_expect_leq(distance(want, a), 16 * 0x1p-24, "%g apart", distance(want, a));
  cr_expect_leq(distance(a, b), 16 * 0x1p-24, "%g apart", distance(a, b));
  fix_free(f);
}

/* A measured range clips nothing, so dx = dy·W' with W' what the integers stand for. */
Test(float_products, pass_gradients_through_a_measured_scale) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = bound(f, DYNAMIC "%l = ReduceSum(%y) {keepdims=0}\noutput %l\n");
  MUST(f, pare_run_passes(&f->c, g, "float-products,fake-quantize", NULL));
  PareValue *x = pare_graph_find(g, "x"), *grad, *one = pare_const_float(&f->c, g, "one", PARE_F32, 1);
  MUST(f, pare_autodiff(&f->c, g, pare_graph_find(g, "l"), one, 1, &x, &grad));
  cr_assert_not_null(grad);
  cr_assert(pare_vec_push(g->arena, &g->outputs, grad));
  PareTensor *y = run_graph(f, g, 1);
  const PareValue *w = pare_graph_find(g, "w"), *zw = pare_graph_find(g, "zw"), *sw = pare_graph_find(g, "sw");
  for (int i = 0; i < 40; i++) {
    double want = 0;
    for (int k = 0; k < 3; k++)
      want += (double)(pare_data_int(w, i % 4 * 3 + k) - pare_data_int(zw, k)) * pare_data_float(sw, k);
    double got = element(&y[2], i);
    cr_expect(fabs(got - want) <= 1e-6 * (1 + fabs(want)), "element %d: %g, not %g", i, got, want);
  }
  fix_free(f);
}

Test(float_products, leave_alone_what_has_no_scale) {
  static const char *const texts[] = {
      /* the scale of another input */
      "opset 17\ninput %x : f32[2,4]\ninput %v : f32[2,4]\nconst %w : i8[4,3] = zeros\nconst %sw : f32[] = 0.1\n"
      "%q, %s, %z = DynamicQuantizeLinear(%x)\n%r, %t, %u = DynamicQuantizeLinear(%v)\n%p = MatMulInteger(%q, %w, %z)\n"
      "%c = Cast(%p) {to=f32}\n%ss = Mul(%t, %sw)\n%y = Mul(%c, %ss)\noutput %y\n",
      /* no zero point of x */
      "opset 17\ninput %x : f32[2,4]\nconst %w : i8[4,3] = zeros\nconst %sw : f32[] = 0.1\n"
      "%q, %s, %z = DynamicQuantizeLinear(%x)\n%p = MatMulInteger(%q, %w)\n%c = Cast(%p) {to=f32}\n%ss = Mul(%s, %sw)\n"
      "%y = Mul(%c, %ss)\noutput %y\n",
      /* the integers are an output too */
      "opset 17\ninput %x : f32[2,4]\nconst %w : i8[4,3] = zeros\nconst %sw : f32[] = 0.1\n"
      "%q, %s, %z = DynamicQuantizeLinear(%x)\n%p = MatMulInteger(%q, %w, %z)\n%c = Cast(%p) {to=f32}\n"
      "%ss = Mul(%s, %sw)\n%y = Mul(%c, %ss)\noutput %y\noutput %p\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareGraph *g = bound(f, texts[i]);
    uint32_t nodes = g->nnodes;
    MUST(f, pare_run_passes(&f->c, g, "float-products", NULL));
    cr_expect(count_op(g, PARE_OP_MATMULINTEGER) == 1 && g->nnodes == nodes, "changed\n%s", texts[i]);
    fix_free(f);
  }
}

Test(fake_quantize, an_output_behind_it_is_still_of_classes) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = bound(f, "opset 17\ninput %x : f32[2,4]\nconst %w : f32[4,3] = random(1)\nconst %b : i8[3] = 1 2 3\n"
                          "const %s : f32[] = 0.1\nconst %z : i8[] = 0\n%m = MatMul(%x, %w)\n"
                          "%c = DequantizeLinear(%b, %s, %z)\n%a = Add(%m, %c)\n%q = QuantizeLinear(%a, %s, %z)\n"
                          "%y = DequantizeLinear(%q, %s, %z)\noutput %y\n");
  cr_expect(pare_output_is_classes(g->outputs.at[0]), "before");
  MUST(f, pare_run_passes(&f->c, g, "fake-quantize", NULL));
  cr_expect(pare_output_is_classes(g->outputs.at[0]), "behind FakeQuantize");
  fix_free(f);
}

/* --- weights that stay integers --- */

/* y = x + relu(x·DQ(V))·DQ(W)' with V [6, 8] scaled by column and W [6, 8] by row, both with zero points. */
#define STORED(v, w, moves, vd, wd)                                                                                  \
  "opset 17\ninput %x : f32[batch=?,6]\nconst %v : i8" v " = zeros\nconst %vs : f32[8] = 0.01 0.02 0.03 0.04 "       \
  "0.05 0.06 0.07 0.08\nconst %vz : i8[8] = 1 2 3 4 -5 -6 -7 -8\nconst %w : u8" w " = zeros\n"                      \
  "const %ws : f32[6] = 0.1 0.2 0.3 0.4 0.5 0.6\nconst %wz : u8[6] = 100 110 120 130 140 150\n" moves               \
  "%vd = DequantizeLinear(%" vd ", %vs, %vz)\n%wd = DequantizeLinear(%" wd ", %ws, %wz) {axis=0}\n"                 \
  "%wt = Transpose(%wd)\n%h = MatMul(%x, %vd) \"up\"\n%r = Relu(%h)\n%p = MatMul(%r, %wt) \"down\"\n"              \
  "%y = Add(%p, %x)\n%z = ReduceMean(%y) {keepdims=1}\noutput %z\n"

static const char *const stored[] = {
    STORED("[6,8]", "[6,8]", "", "v", "w"),
    /* stored with the channels first, and moved before they are dequantised */
    STORED("[8,6]", "[8,2,3]", "%vt = Transpose(%v)\n%w3 = Transpose(%w) {perm=[1,2,0]}\nconst %to : i64[2] = 6 -1\n"
           "%w2 = Reshape(%w3, %to)\n", "vt", "w2"),
};
enum { FORMS = 2 };

/* Where element i of the constant stands in [6, 8], as the scales have it. */
static int64_t where(int form, int64_t i) { return form ? i % 6 * 8 + i / 6 : i; }

/* Numbers all over the type's range. */
static void spread(Fix *f, PareGraph *g, const char *name, uint64_t seed) {
  PareValue *v = pare_graph_find(g, name);
  int64_t n = pare_type_count(&v->type);
  uint8_t *data = pare_arena_alloc(f->arena, (size_t)n, 1);
  for (int64_t i = 0; i < n; i++) data[i] = (uint8_t)(37 * i + 11 * (int64_t)seed);
  v->data = data;
}

typedef struct Stored {
  int form;
  Fix f;
  PareGraph *g;
  PareDims *d;
  PareAdapters adapters;
} Stored;

static void stored_init(Stored *s, int form) {
  PareGraph *probe;
  s->form = form;
  fix_init(&s->f);
  s->g = fix_parse(&s->f, stored[form]);
  spread(&s->f, s->g, "v", 1);
  spread(&s->f, s->g, "w", 2);
  MUST(&s->f, pare_probe_dims(&s->f.c, s->f.arena, s->g, 0, &probe));
  MUST(&s->f, pare_trace_dims(&s->f.c, s->f.arena, probe, &s->d));
  MUST(&s->f, pare_find_adapters(&s->f.c, s->f.arena, s->d, &(PareAdapterSpec){.rank = 2, .scale = 1}, &s->adapters));
  cr_assert_eq(s->adapters.at.n, 2u, "%zu weights carry adapters", s->adapters.at.n);
}

static const PareValue *weight(const PareGraph *g, int dequantize) {
  const PareNode *n = g->first;
  for (; dequantize; n = n->next) dequantize--;
  return n->in[0];
}

/* What the formula of the row says, in the obvious way: dequantise, add, divide, round half to even, clip. */
static int64_t requantised(const PareGraph *g, int which, const PareValue *was, int64_t i, int64_t at, double delta) {
  const PareValue *s = pare_graph_find(g, which ? "ws" : "vs"), *z = pare_graph_find(g, which ? "wz" : "vz");
  int64_t channel = which ? at / 8 : at % 8, lo = which ? 0 : -128, hi = which ? 255 : 127;
  double scale = pare_data_float(s, channel), zero = (double)pare_data_int(z, channel);
  double q = rint((((double)pare_data_int(was, i) - zero) * scale + delta) / scale) + zero;
  return q < (double)lo ? lo : q > (double)hi ? hi : (int64_t)q;
}

static void check_folded(int form) {
  Stored s;
  stored_init(&s, form);
  Fix *f = &s.f;
  PareDelta delta[2];
  for (size_t i = 0; i < 2; i++) {
    const PareAdapter *a = &s.adapters.at.at[i];
    PareType ta = {PARE_F32, 2, {a->k, a->rank}}, tb = {PARE_F32, 2, {a->rank, a->n}};
    float *x = pare_arena_alloc(f->arena, (size_t)(a->k * a->rank), 4);
    float *y = pare_arena_alloc(f->arena, (size_t)(a->rank * a->n), 4);
    fill_random(&ta, x, 5 + i), fill_random(&tb, y, 9 + i);
    for (int64_t k = 0; i && k < a->rank * a->n; k++) y[k] *= 20; /* so that some do not fit */
    delta[i] = (PareDelta){.adapter = a, .k = a->k, .n = a->n, .a = x, .b = y};
  }
  PareGraph *folded;
  MUST(f, pare_fold_adapters(&f->c, f->arena, s.g, 2, delta, &folded));
  int moved = 0, clipped = 0;
  for (int which = 0; which < 2; which++) {
    const PareDelta *d = &delta[which];
    const PareValue *was = weight(s.g, which), *is = weight(folded, which);
    cr_assert_eq(is->type.dtype, was->type.dtype);
    for (int64_t i = 0; i < 48; i++) {
      int64_t at = where(form, i), k = which ? at % 8 : at / 8, n = which ? at / 8 : at % 8;
      double x = 0;
      for (int64_t r = 0; r < 2; r++) x += (double)d->a[k * 2 + r] * (double)d->b[r * d->n + n]; /* s = 2/2 */
      int64_t want = requantised(s.g, which, was, i, at, x), got = pare_data_int(is, i);
      cr_expect_eq(got, want, "form %d, weight %d, element %d: %d, not %d (was %d)", form, which, (int)i, (int)got,
                   (int)want, (int)pare_data_int(was, i));
      moved += got != pare_data_int(was, i);
      clipped += which ? got == 0 || got == 255 : got == -128 || got == 127;
    }
  }
  cr_expect(moved > 40 && clipped > 0, "%d moved, %d at an end: nothing was tested", moved, clipped);
  fix_free(f);
}

Test(quantised_weights, are_folded_at_the_scale_that_they_have) {
  for (int form = 0; form < FORMS; form++) check_folded(form);
}

Test(quantised_weights, are_left_bit_by_bit_by_adapters_that_add_nothing) {
  Stored s;
  stored_init(&s, 0);
  const PareAdapter *a = &s.adapters.at.at[0];
  float *x = pare_arena_alloc(s.f.arena, (size_t)(a->k * a->rank), 4);
  float *zero = pare_arena_alloc(s.f.arena, (size_t)(a->rank * a->n), 4);
  for (int64_t i = 0; i < a->k * a->rank; i++) x[i] = 1;
  PareDelta delta = {.adapter = a, .k = a->k, .n = a->n, .a = x, .b = zero};
  PareGraph *folded;
  MUST(&s.f, pare_fold_adapters(&s.f.c, s.f.arena, s.g, 1, &delta, &folded));
  cr_expect_arr_eq(weight(folded, 0)->data, weight(s.g, 0)->data, 48);
  fix_free(&s.f);
}

static const bool keep_five[8] = {true, false, false, true, true, false, true, true};

Test(quantised_weights, are_masked_by_their_zero_points) {
  for (int form = 0; form < FORMS; form++) {
    Stored s;
    stored_init(&s, form);
    Fix *f = &s.f;
    PareGraph *masked;
    s.d->dims.at[0].leaf->keep = keep_five;
    MUST(f, pare_zero_fan_in(&f->c, f->arena, s.g, s.d, &masked));
    const PareValue *was = weight(s.g, 1), *is = weight(masked, 1), *zero = pare_graph_find(s.g, "wz");
    for (int64_t i = 0; i < 48; i++) {
      int64_t at = where(form, i), want = keep_five[at % 8] ? pare_data_int(was, i) : pare_data_int(zero, at / 8);
      cr_expect_eq(pare_data_int(is, i), want, "form %d, element %d: %d, not %d", form, (int)i,
                   (int)pare_data_int(is, i), (int)want);
    }
    fix_free(f);
  }
}

Test(quantised_weights, are_cut_with_their_scales) {
  Stored s;
  stored_init(&s, 0);
  Fix *f = &s.f;
  const bool *keep = keep_five;
  cr_assert_eq(s.d->dims.n, 1u, "%zu dimensions", s.d->dims.n);
  s.d->dims.at[0].leaf->keep = keep;
  PareGraph *cut;
  MUST(f, pare_cut_dims(&f->c, f->arena, s.g, s.d, &cut));
  const PareNode *up = cut->first;
  for (int k = 0; k < 3; k++) {
    const PareValue *v = up->in[k], *old = s.g->first->in[k];
    int64_t rows = k ? 1 : 6, last = v->type.dim[v->type.rank - 1];
    cr_assert_eq(last, 5, "input %d has %d channels left", k, (int)last);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0, at = 0; c < 8; c++)
        if (keep[c])
          cr_expect_eq(pare_data_float(v, r * 5 + at++), pare_data_float(old, r * 8 + c), "input %d, channel %d", k,
                       (int)c);
  }
  cr_expect_eq(pare_type_count(&weight(cut, 1)->type), 30);
  cr_expect_eq(s.d->dims.at[0].params, 6 + 1 + 6, "a channel owns %d weights", (int)s.d->dims.at[0].params);
  cr_expect_eq(s.d->dims.at[0].bytes, 6 + 4 + 1 + 6, "a channel owns %d bytes", (int)s.d->dims.at[0].bytes);
  fix_free(f);
}

Test(quantised_weights, that_the_graph_computes_are_frozen) { /* half bytes that are unpacked */
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *probe, *g = fix_parse(f, "opset 18\ninput %x : f32[batch=?,6]\nconst %v : u8[6,8] = zeros\n"
                                      "const %s : f32[] = 1\nconst %w : f32[8,6] = random(1)\n"
                                      "const %low : u8[] = 15\n%t = BitwiseAnd(%v, %low)\n"
                                      "%d = DequantizeLinear(%t, %s)\n%h = MatMul(%x, %d)\n%r = Relu(%h)\n"
                                      "%y = MatMul(%r, %w)\noutput %y\n");
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, &probe));
  MUST(f, pare_trace_dims(&f->c, f->arena, probe, &d));
  cr_expect_eq(d->dims.n, 0u, "'%s' may be cut", d->dims.n ? d->dims.at[0].name : "");
  cr_assert_gt(d->frozen.n, 0u);
  const char *why = d->frozen.at[0].reason;
  cr_expect(strstr(why, "is of integers that are computed"), "%s", why);
  fix_free(f);
}
