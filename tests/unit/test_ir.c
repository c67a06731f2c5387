/* test_ir.c - the graph, its text, the verifier and the infer and cost columns.
 * Shapes are ONNX's, worked out by hand from the operators' specification. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "ir/text.h"

typedef struct Fix {
  PareCtx c;
  PareArena *arena;
} Fix;

static void fix_init(Fix *f) {
  cr_assert(pare_ctx_init(&f->c, NULL, 0));
  f->arena = pare_arena_new(0);
  cr_assert_not_null(f->arena);
}

static void fix_free(Fix *f) {
  pare_arena_free(f->arena);
  pare_ctx_free(&f->c);
}

static PareGraph *parse(Fix *f, const char *text) {
  PareGraph *g = NULL;
  PareStatus s = pare_text_parse(&f->c, f->arena, text, &g);
  cr_assert_eq(s, PARE_OK, "node '%s' (%s): %s\n%s", f->c.diag.node, f->c.diag.op, f->c.diag.text, text);
  return g;
}

static char *print(const PareGraph *g) {
  char *text = NULL;
  size_t len;
  FILE *m = open_memstream(&text, &len);
  cr_assert(m && pare_text_print(g, m));
  fclose(m);
  return text;
}

static void expect_text(const PareGraph *g, const char *want) {
  char *got = print(g);
  cr_expect_str_eq(got, want, "printed:\n%s\nexpected:\n%s", got, want);
  free(got);
}

/* Parses `body` and expects the printed type of the value %y. */
static void expect_type(const char *body, const char *want) {
  Fix f;
  char buf[PARE_TYPE_TEXT] = "nothing";
  PareGraph *g = NULL;
  fix_init(&f);
  PareStatus s = pare_text_parse(&f.c, f.arena, body, &g);
  cr_expect_eq(s, PARE_OK, "%s\n%s (%s): %s", body, f.c.diag.node, f.c.diag.op, f.c.diag.text);
  if (s == PARE_OK) {
    const PareValue *y = pare_graph_find(g, "y");
    pare_type_text(&y->type, buf);
    cr_expect_str_eq(buf, want, "%s\ninferred %s, expected %s", body, buf, want);
    s = pare_graph_verify(&f.c, g);
    cr_expect_eq(s, PARE_OK, "%s\nverifier: %s", body, f.c.diag.text);
  }
  fix_free(&f);
}

/* Parses `body` and expects a failure whose sentence holds `part`. */
static void expect_error(const char *body, PareStatus want, const char *part) {
  Fix f;
  PareGraph *g = NULL;
  fix_init(&f);
  PareStatus s = pare_text_parse(&f.c, f.arena, body, &g);
  cr_expect_eq(s, want, "%s\nstatus %d (%s), expected %d", body, s, f.c.diag.text, want);
  cr_expect(strstr(f.c.diag.text, part), "%s\nerror '%s' lacks '%s'", body, f.c.diag.text, part);
  fix_free(&f);
}

typedef struct Case {
  const char *text, *want;
} Case;

static void expect_types(const Case *cases, size_t n) {
  for (size_t i = 0; i < n; i++) expect_type(cases[i].text, cases[i].want);
}
#define EXPECT_TYPES(cases) expect_types((cases), sizeof(cases) / sizeof *(cases))

static void expect_errors(const Case *cases, size_t n, PareStatus want) {
  for (size_t i = 0; i < n; i++) expect_error(cases[i].text, want, cases[i].want);
}
#define EXPECT_ERRORS(cases, status) expect_errors((cases), sizeof(cases) / sizeof *(cases), (status))

/* --- the text --- */

static const char everything[] =
    "opset 17\n"
    "input %x : f32[batch=2,4]\n"
    "input %\"odd name\\\"\\x0a\" : i64[\"a b\"=?,3]\n"
    "const %g : f32[4] = 1 0.1 -inf nan\n"
    "const %h : f16[2] = 0.5 65504\n"
    "const %b : bool[3] = 1 0 1\n"
    "const %u : u64[1] = 18446744073709551615\n"
    "const %e : i64[0] =\n"
    "const %z : f32[10,10] = zeros\n"
    "const %i : f64[65] = fill(0.1)\n"
    "state %m : f32[2,4]\n"
    "state %n : f32[2] = 3 4\n"
    "%y = com.microsoft.FusedMatMul(%x, %x) {alpha=0.125, transB=1} \"layer0/q\" : f32[2,2]\n"
    "%l, _, %rstd = LayerNormalization(%x, %g, _) {axis=-1, epsilon=1e-05} : f32[2,4], ?, f32[2,1]\n"
    "%t = Transpose(%x) {perm=[1,0]} : f32[batch=4,2]\n"
    "%c = Cast(%x) {to=bf16} : bf16[2,4]\n"
    "%gelu = Gelu(%x) {approximate=tanh} \"\" : f32[2,4]\n"
    "%s = Shape(%t) : i64[2] = 4 2\n"
    "%r = Reshape(%x, %s) : f32[4,2]\n"
    "pare.Ema(%m, %x) {alpha=0.9} \"avg\" @1\n"
    "output %y\n"
    "output %r\n";

Test(ir_text, prints_what_it_parsed) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, everything);
  expect_text(g, everything);
  cr_expect_eq(pare_graph_verify(&f.c, g), PARE_OK, "%s", f.c.diag.text);
  fix_free(&f);
}

Test(ir_text, keeps_unknown_shapes_unknown) {
  const char *text =
      "input %x : f32[batch=?,4]\n"
      "const %w : f32[4,3] = zeros\n"
      "%y = MatMul(%x, %w)\n"
      "%z = Relu(%y) : f32[batch=?,3]\n"
      "output %z\n";
  const char *want =
      "input %x : f32[batch=?,4]\n"
      "const %w : f32[4,3] = 0 0 0 0 0 0 0 0 0 0 0 0\n"
      "%y = MatMul(%x, %w)\n"
      "%z = Relu(%y) : f32[batch=?,3]\n"
      "output %z\n";
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, text);
  expect_text(g, want);
  cr_expect_eq(pare_graph_verify(&f.c, g), PARE_OK, "%s", f.c.diag.text);
  fix_free(&f);
}

Test(ir_text, leaves_open_what_a_computed_shape_decides) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f,
                       "input %x : f32[2,6]\n"
                       "%s = Shape(%x)\n"
                       "%y = Reshape(%x, %s)\n"
                       "output %y\n");
  const PareValue *y = pare_graph_find(g, "y");
  cr_expect_not(pare_type_known(&y->type), "the type is known but %%s has no numbers");
  cr_expect_eq(pare_infer(&f.c, y->def), PARE_UNSUPPORTED);
  const char *want = "the shape in input 1 's' cannot be computed from the input shapes";
  cr_expect_str_eq(f.c.diag.text, want, "'%s' is not '%s'", f.c.diag.text, want);
  cr_expect_str_eq(f.c.diag.node, "y", "node '%s'", f.c.diag.node);
  cr_expect_str_eq(f.c.diag.op, "Reshape", "op '%s'", f.c.diag.op);
  fix_free(&f);
}

Test(ir_text, gives_values_of_one_name_two_names) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, "input %x : f32[2]\n");
  PareValue *x = g->inputs.at[0];
  PareValue *a = PARE_EMIT(&f.c, g, NULL, PARE_OP_RELU, "x", NULL, x);
  cr_assert(a && PARE_EMIT(&f.c, g, NULL, PARE_OP_NEG, "", NULL, a));
  expect_text(g,
              "input %x : f32[2]\n"
              "%\"x#1\" = Relu(%x) \"x\" : f32[2]\n"
              "%v2 = Neg(%\"x#1\") \"\" : f32[2]\n");
  fix_free(&f);
}

Test(ir_text, random_is_a_function_of_the_seed_within_minus_one_and_one) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f,
                       "const %a : f32[500] = random(7)\n"
                       "const %b : f64[500] = random(7)\n"
                       "const %c : f32[500] = random(8)\n");
  double sum = 0;
  int same = 0;
  for (int64_t i = 0; i < 500; i++) {
    double a = pare_data_float(g->values.at[0], i), b = pare_data_float(g->values.at[1], i);
    cr_expect(a >= -1 && a <= 1, "element %ld is %g", (long)i, a);
    cr_expect_eq((float)b, (float)a, "element %ld is %g and %g", (long)i, a, b);
    same += a == pare_data_float(g->values.at[2], i);
    sum += a;
  }
  cr_expect_lt(same, 5, "two seeds share %d of 500 numbers", same);
  cr_expect(sum / 500 > -0.15 && sum / 500 < 0.15, "the mean is %g", sum / 500); /* 0 +- 0.026 */
  fix_free(&f);
}

Test(ir_text, a_hash_differs_with_the_bytes) {
  char *a, *b;
  Fix f;
  fix_init(&f);
  a = print(parse(&f, "const %w : f32[100] = random(1)\n"));
  b = print(parse(&f, "const %w : f32[100] = random(2)\n"));
  cr_expect(strstr(a, "hash(0x"), "%s", a);
  cr_expect_str_neq(a, b, "%s", a);
  PareGraph *again = parse(&f, a);
  double v = pare_data_float(again->values.at[0], 0);
  cr_expect(v >= -1 && v <= 1, "hash() gave %g", v);
  free(a);
  free(b);
  fix_free(&f);
}

Test(ir_text, errors_name_the_line) {
  const Case cases[] = {
      {"\n# comment\ninput %x : f33[2]\n", "line 3: 'f33' is no element type"},
      {"input %x : f32[2]\n%y = Foo(%x)\n", "line 2: there is no operator 'Foo'"},
      {"input %x : f32[2]\n%y = pare.Relu(%x)\n", "line 2: there is no operator 'pare.Relu'"},
      {"%y = Relu(%x)\ninput %x : f32[2]\n", "line 1: '%x' is not made above"},
      {"input %x : f32[2]\ninput %x : f32[2]\n", "line 2: '%x' is made twice"},
      {"input %x : f32[2]\n%y = Relu(%x) {axs=1}\n", "line 2: there is no attribute 'axs'"},
      {"input %x : f32[2]\n%y = Gelu(%x) {approximate=maybe}\n", "'maybe' is none of: none tanh"},
      {"input %x : f32[2]\n%y = Relu(%x) junk\n", "line 2: the end of the line is expected before 'junk'"},
      {"input %x : f32[2]\n%y = Relu(%x\n", "line 2: ',' is expected but the line ends"},
      {"input %x : f32[2]\n%y = Relu(%x) : f32[3]\n", "'y' is f32[2] but the text says f32[3]"},
      {"const %x : f32[2] = 1\n", "line 1: a number or a word is expected but the line ends"},
      {"const %x : f32[2] = 1 2 3\n", "the end of the line is expected before '3'"},
      {"const %x : i8[1] = 128\n", "128 is no i8"},
      {"const %x : i64[1] = 9223372036854775808\n", "'9223372036854775808' is no 64-bit integer"},
      {"const %x : i64[2] = random(1)\n", "random() makes floats, not i64"},
      {"const %x : f32[?] = zeros\n", "data need a known shape"},
      {"const %x : f32[9999999999,9999999999] = zeros\n", "data need a known shape"},
      {"input %x : f32[1,2,3,4,5,6,7,8,9]\n", "more than 8 axes"},
      {"input %x : f32[-2]\n", "a size is negative"},
      {"input %\"x : f32[2]\n", "'\"' is expected but the line ends"},
      {"input %\"\\x00\" : f32[2]\n", "an escape"},
      {"input %x : f32[2]\n%y = Relu(%x) @2\n", "there are phases 0 and 1"},
  };
  EXPECT_ERRORS(cases, PARE_FORMAT);
}

/* --- graphs --- */

Test(ir, every_allocation_may_fail_once) {
  Fix f;
  fix_init(&f);
  bool done = false;
  size_t k = 1;
  for (; !done && k < 10000; k++) {
    PareArena *a = pare_arena_new(0);
    PareGraph *g = NULL;
    f.c.diag = (PareDiag){0};
    pare_arena_fail_after(a, k);
    PareStatus s = pare_text_parse(&f.c, a, everything, &g);
    pare_arena_fail_after(a, 0);
    done = s == PARE_OK;
    cr_expect(done || s == PARE_NOMEM, "allocation %zu: %d (%s)", k, s, f.c.diag.text);
    pare_arena_free(a);
  }
  cr_expect(done && k > 100, "%zu allocations", k);
  fix_free(&f);
}

Test(ir, every_scratch_allocation_of_parser_and_verifier_may_fail_once) {
  Fix f;
  fix_init(&f);
  bool done = false;
  for (size_t k = 1; !done && k < 1000; k++) {
    PareGraph *g = NULL;
    f.c.diag = (PareDiag){0};
    pare_arena_fail_after(f.c.scratch, k);
    PareStatus s = pare_text_parse(&f.c, f.arena, everything, &g);
    if (s == PARE_OK) s = pare_graph_verify(&f.c, g);
    pare_arena_fail_after(f.c.scratch, 0);
    done = s == PARE_OK;
    cr_expect(done || s == PARE_NOMEM, "allocation %zu: %d (%s)", k, s, f.c.diag.text);
  }
  cr_expect(done);
  fix_free(&f);
}

Test(ir, every_allocation_of_a_clone_may_fail_once) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, everything), *copy = NULL;
  for (size_t k = 1; !copy && k < 1000; k++) {
    PareArena *a = pare_arena_new(0);
    f.c.diag = (PareDiag){0};
    pare_arena_fail_after(a, k);
    copy = pare_graph_clone(&f.c, a, g);
    pare_arena_fail_after(a, 0);
    cr_expect(copy || f.c.diag.code == PARE_NOMEM, "allocation %zu: %s", k, f.c.diag.text);
    if (copy) expect_text(copy, everything);
    pare_arena_free(a);
  }
  cr_expect_not_null(copy);
  fix_free(&f);
}

Test(ir, a_clone_is_whole_and_apart) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, everything);
  PareGraph *copy = pare_graph_clone(&f.c, f.arena, g);
  cr_assert_not_null(copy);
  cr_expect_eq(pare_graph_verify(&f.c, copy), PARE_OK, "%s", f.c.diag.text);
  for (size_t i = 0; i < g->values.n; i++) {
    cr_expect_neq(g->values.at[i], copy->values.at[i], "value %zu is shared", i);
    cr_expect_eq(g->values.at[i]->id, copy->values.at[i]->id, "value %zu", i);
    cr_expect_eq(g->values.at[i]->data, copy->values.at[i]->data, "value %zu: the bytes were copied", i);
  }
  pare_node_remove(copy, copy->last);
  PareValue *relu = PARE_EMIT(&f.c, copy, copy->first, PARE_OP_RELU, "new", NULL, copy->inputs.at[0]);
  cr_assert_not_null(relu);
  expect_text(g, everything);
  cr_expect_eq(pare_graph_verify(&f.c, copy), PARE_OK, "%s", f.c.diag.text);
  fix_free(&f);
}

Test(ir, nodes_go_where_they_are_told_and_away_again) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, "input %x : f32[2]\n%y = Relu(%x)\noutput %y\n");
  PareValue *x = g->inputs.at[0], *y = g->outputs.at[0];
  PareValue *z = PARE_EMIT(&f.c, g, y->def, PARE_OP_NEG, "z", NULL, x);
  cr_assert_not_null(z);
  pare_replace_uses(g, x, z, z->def);
  expect_text(g,
              "input %x : f32[2]\n%z = Neg(%x) : f32[2]\n%y = Relu(%z) : f32[2]\noutput %y\n");
  pare_replace_uses(g, y, z, NULL);
  pare_node_remove(g, y->def);
  expect_text(g, "input %x : f32[2]\n%z = Neg(%x) : f32[2]\noutput %z\n");
  cr_expect_null(pare_graph_find(g, "y"), "a removed result is found");
  cr_expect_eq(pare_graph_find(g, "z"), z);
  cr_expect(pare_is_output(g, z) && !pare_is_output(g, x));
  cr_expect_eq(pare_graph_verify(&f.c, g), PARE_OK, "%s", f.c.diag.text);
  fix_free(&f);
}

Test(ir, a_failed_emit_leaves_no_node) {
  Fix f;
  fix_init(&f);
  PareGraph *g = parse(&f, "input %x : f32[2]\ninput %w : f32[3]\n");
  PareValue *y = PARE_EMIT(&f.c, g, NULL, PARE_OP_ADD, "sum", NULL, g->inputs.at[0], g->inputs.at[1]);
  cr_expect_null(y);
  cr_expect_null(g->first);
  cr_expect_null(g->last);
  const char *want = "input 0 'x' f32[2] and input 1 'w' f32[3]: the shapes do not broadcast";
  cr_expect_str_eq(f.c.diag.text, want, "'%s' is not '%s'", f.c.diag.text, want);
  cr_expect_str_eq(f.c.diag.node, "sum", "node '%s'", f.c.diag.node);
  cr_expect_str_eq(f.c.diag.op, "Add", "op '%s'", f.c.diag.op);
  fix_free(&f);
}

Test(ir, uses_are_the_readers_in_order) {
  Fix f;
  fix_init(&f);
  PareUses u;
  PareGraph *g = parse(&f,
                       "input %x : f32[2]\n"
                       "const %unused : f32[1] = 0\n"
                       "%a = Relu(%x)\n"
                       "%b = Mul(%a, %x)\n"
                       "%d = Mul(%x, %x)\n"
                       "output %d\n");
  cr_assert_eq(pare_uses(&f.c, f.arena, g, &u), PARE_OK);
  const uint32_t counts[] = {4, 0, 1, 0, 0};
  const struct { const char *reader; int input; } of_x[] = {{"a", 0}, {"b", 1}, {"d", 0}, {"d", 1}};
  cr_assert_eq(g->values.n, 5, "%zu values", g->values.n);
  for (size_t i = 0; i < g->values.n; i++) {
    uint32_t n = pare_use_count(&u, g->values.at[i]);
    cr_expect_eq(n, counts[i], "'%s' has %u uses, not %u", g->values.at[i]->name, n, counts[i]);
  }
  for (size_t i = 0; i < 4; i++) {
    PareUse use = u.at[u.first[0] + i];
    cr_expect_str_eq(use.node->name, of_x[i].reader, "use %zu is by '%s'", i, use.node->name);
    cr_expect_eq(use.input, of_x[i].input, "use %zu is input %d", i, use.input);
  }
  fix_free(&f);
}

Test(ir, numbers_are_read_from_unaligned_bytes) {
  unsigned char bytes[32];
  const struct { PareDtype dtype; unsigned char raw[8]; double want; } cases[] = {
      {PARE_F32, {0, 0, 0x20, 0xc0}, -2.5},          {PARE_F64, {0, 0, 0, 0, 0, 0, 4, 0x40}, 2.5},
      {PARE_F16, {0, 0x3e}, 1.5},                    {PARE_BF16, {0xc0, 0x3f}, 1.5},
      {PARE_I8, {0xfe}, -2},                         {PARE_U8, {0xfe}, 254},
      {PARE_I16, {0xfe, 0xff}, -2},                  {PARE_U16, {0xfe, 0xff}, 65534},
      {PARE_I32, {0xfe, 0xff, 0xff, 0xff}, -2},      {PARE_U32, {0xfe, 0xff, 0xff, 0xff}, 4294967294.0},
      {PARE_BOOL, {1}, 1},                           {PARE_I64, {0, 0, 0, 0, 1, 0, 0, 0}, 4294967296.0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t size = pare_dtype_size(cases[i].dtype);
    memcpy(bytes + 1 + size, cases[i].raw, size);
    PareValue v = {.type = {.dtype = cases[i].dtype, .rank = 1, .dim = {2}}, .data = bytes + 1};
    double got = pare_data_float(&v, 1);
    cr_expect_eq(got, cases[i].want, "%s: %g, not %g", pare_dtype_name(cases[i].dtype), got, cases[i].want);
    if (pare_dtype_is_float(cases[i].dtype)) continue;
    int64_t n = pare_data_int(&v, 1);
    cr_expect_eq((double)n, cases[i].want, "%s: %ld", pare_dtype_name(cases[i].dtype), (long)n);
  }
}

Test(ir, constants_hold_the_numbers_they_were_made_of) {
  const int64_t ints[] = {3, -1};
  Fix f;
  fix_init(&f);
  PareGraph *g = pare_graph_new(&f.c, f.arena);
  cr_assert(g && pare_const_ints(&f.c, g, "i", 2, ints) && pare_const_ints(&f.c, g, "e", 0, NULL));
  const PareDtype floats[] = {PARE_F32, PARE_F64, PARE_F16, PARE_BF16};
  for (size_t i = 0; i < 4; i++)
    cr_assert_not_null(pare_const_float(&f.c, g, pare_dtype_name(floats[i]), floats[i], 1.5));
  expect_text(g,
              "const %i : i64[2] = 3 -1\n"
              "const %e : i64[0] =\n"
              "const %f32 : f32[] = 1.5\n"
              "const %f64 : f64[] = 1.5\n"
              "const %f16 : f16[] = 1.5\n"
              "const %bf16 : bf16[] = 1.5\n");
  fix_free(&f);
}

/* --- the verifier --- */

static const char chain[] =
    "input %x : f32[2]\n"
    "const %w : f32[2] = 1 2\n"
    "state %m : f32[2]\n"
    "%a = Mul(%x, %w)\n"
    "%b = Relu(%a)\n"
    "pare.Accumulate(%m, %b)\n"
    "output %b\n";

static void break_order(PareGraph *g) {
  PareNode *a = g->first, *b = a->next, *rest = b->next;
  g->first = b;
  b->prev = NULL, b->next = a;
  a->prev = b, a->next = rest;
  rest->prev = a;
}
static void break_id(PareGraph *g) { g->values.at[1]->id = 2; }
static void break_type(PareGraph *g) { g->first->out[0]->type.dim[0] = 3; }
static void break_arity(PareGraph *g) { g->first->nin = 1; }
static void break_required(PareGraph *g) { g->first->in[1] = NULL; }
static void break_def(PareGraph *g) { g->first->out[0]->def = g->last; }
static void break_state(PareGraph *g) { g->last->in[0] = g->inputs.at[0]; }
static void break_output(PareGraph *g) { pare_node_remove(g, g->outputs.at[0]->def), pare_node_remove(g, g->last); }
static void break_data(PareGraph *g) { g->values.at[1]->data = NULL; }
static void break_node_id(PareGraph *g) { g->last->id = 0; }
static void break_link(PareGraph *g) { g->last->prev = g->first; }
static void break_inputs(PareGraph *g) { g->inputs.at[0] = g->values.at[1]; }

Test(ir_verify, catches_each_broken_invariant) {
  const struct { void (*breaks)(PareGraph *); const char *node, *op, *want; } cases[] = {
      {break_order, "b", "Relu", "input 0 'a' (id 3) is read before it is made"},
      {break_id, "", "", "value 'w' has id 2 at place 1"},
      {break_type, "a", "Mul", "output 0 'a' (id 3) is f32[3] but must be f32[2]"},
      {break_arity, "a", "Mul", "has 1 inputs; the operator takes 2 to 2"},
      {break_required, "a", "Mul", "input 1 is left out but the operator needs it"},
      {break_def, "a", "Mul", "output 0 'a' (id 3) is not this node's own result"},
      {break_state, "", "Accumulate", "input 0 'x' (id 0) is written but is no state"},
      {break_output, "", "", "graph output 0 'b' (id 4) is never made"},
      {break_data, "", "", "constant 'w' (id 1) has no data"},
      {break_node_id, "", "Accumulate", "node id 0 is used twice or out of range"},
      {break_link, "", "Accumulate", "node 2 is not linked to the one before it"},
      {break_inputs, "", "", "graph input 0 'w' (id 1) is listed twice or is no input"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix f;
    fix_init(&f);
    PareGraph *g = parse(&f, chain);
    cr_expect_eq(pare_graph_verify(&f.c, g), PARE_OK, "%s", f.c.diag.text);
    cases[i].breaks(g);
    cr_expect_neq(pare_graph_verify(&f.c, g), PARE_OK, "not caught: %s", cases[i].want);
    cr_expect_str_eq(f.c.diag.text, cases[i].want, "'%s' is not '%s'", f.c.diag.text, cases[i].want);
    cr_expect_str_eq(f.c.diag.node, cases[i].node, "node '%s' is not '%s'", f.c.diag.node, cases[i].node);
    cr_expect_str_eq(f.c.diag.op, cases[i].op, "op '%s' is not '%s'", f.c.diag.op, cases[i].op);
    fix_free(&f);
  }
}

/* --- the op table --- */

Test(op_table, rows_are_whole_and_names_unique) {
  for (int i = 0; i < PARE_OP_COUNT; i++) {
    const PareOpInfo *r = &pare_op_info[i];
    cr_expect(r->infer && r->grad && r->cost && r->cut && r->want, "%s lacks a rule", r->id);
    cr_expect(r->min_in >= 0 && (r->max_in < 0 || r->max_in >= r->min_in), "%s: %d to %d inputs", r->id, r->min_in,
              r->max_in);
    cr_expect(r->min_out >= 0 && (r->max_out < 0 || r->max_out >= r->min_out), "%s: %d to %d outputs", r->id,
              r->min_out, r->max_out);
    cr_expect(!strcmp(r->domain, "") || !strcmp(r->domain, "com.microsoft") || !strcmp(r->domain, "pare"),
              "%s has domain '%s'", r->id, r->domain);
    cr_expect_eq(pare_op_find(r->domain, r->name), (PareOp)i, "%s.%s is found elsewhere", r->domain, r->name);
    cr_expect(r->max_in < 0 || r->writes >> r->max_in == 0, "%s writes an input that it lacks", r->id);
  }
  cr_expect_eq(pare_op_find("ai.onnx", "Add"), PARE_OP_ADD);
  cr_expect_eq(pare_op_find("", "Adder"), PARE_OP_COUNT);
}

/* --- the infer column --- */

Test(infer, element_wise_ops_broadcast_as_numpy_does) {
  const Case cases[] = {
      {"input %a : f32[2,1,4]\ninput %b : f32[3,1]\n%y = Add(%a, %b)", "f32[2,3,4]"},
      {"input %a : f32[]\ninput %b : f32[3,1]\n%y = Sub(%a, %b)", "f32[3,1]"},
      {"input %a : f32[1]\ninput %b : f32[0]\n%y = Mul(%a, %b)", "f32[0]"},
      {"input %a : f32[5]\ninput %b : f32[4,1]\ninput %d : f32[3,1,1]\n%y = Max(%a, %b, %d)", "f32[3,4,5]"},
      {"input %a : f32[2]\ninput %b : i64[3,1]\n%y = Pow(%a, %b)", "f32[3,2]"},
      {"input %a : i64[2]\ninput %b : i64[3,1]\n%y = Less(%a, %b)", "bool[3,2]"},
      {"input %c : bool[4,1,1]\ninput %a : i64[2]\ninput %b : i64[3,1]\n%y = Where(%c, %a, %b)", "i64[4,3,2]"},
      {"input %a : f32[2,3]\n%y = Cast(%a) {to=i64}", "i64[2,3]"},
      {"input %a : f16[2,3]\n%y = Tanh(%a)", "f16[2,3]"},
      {"input %a : f32[2,3]\n%y = Softmax(%a) {axis=-2}", "f32[2,3]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {"input %a : f32[2,3]\ninput %b : f32[2]\n%y = Add(%a, %b)",
       "input 0 'a' f32[2,3] and input 1 'b' f32[2]: the shapes do not broadcast"},
      {"input %a : f32[2]\ninput %b : f64[2]\n%y = Add(%a, %b)", "the element types differ"},
      {"input %a : f32[2]\ninput %b : f64[2]\n%y = Where(%a, %b, %b)", "the condition must be bool"},
      {"input %a : f32[2]\n%y = Cast(%a)", "the attribute 'to' is missing"},
      {"input %a : f32[2,3]\n%y = Softmax(%a) {axis=2}", "axis 2 is outside [-2, 2); input 0 'a' is f32[2,3]"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
}

Test(infer, products_follow_numpy_matmul_and_onnx_gemm) {
  const Case cases[] = {
      {"input %a : f32[3]\ninput %b : f32[3]\n%y = MatMul(%a, %b)", "f32[]"},
      {"input %a : f32[3]\ninput %b : f32[5,3,4]\n%y = MatMul(%a, %b)", "f32[5,4]"},
      {"input %a : f32[5,2,3]\ninput %b : f32[3]\n%y = MatMul(%a, %b)", "f32[5,2]"},
      {"input %a : f32[7,1,2,3]\ninput %b : f32[5,3,4]\n%y = MatMul(%a, %b)", "f32[7,5,2,4]"},
      {"input %a : f32[2,0]\ninput %b : f32[0,4]\n%y = MatMul(%a, %b)", "f32[2,4]"},
      {"input %a : f32[6,3,2]\ninput %b : f32[4,3]\n%y = com.microsoft.FusedMatMul(%a, %b) {transA=1, transB=1}",
       "f32[6,2,4]"},
      {"input %a : f32[3,2]\ninput %b : f32[4,3]\ninput %c : f32[4]\n%y = Gemm(%a, %b, %c) {transA=1, transB=1}",
       "f32[2,4]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {"input %a : f32[2,3]\ninput %b : f32[4,5]\n%y = MatMul(%a, %b)",
       "input 0 'a' f32[2,3] and input 1 'b' f32[4,5]: the sizes that are summed over differ"},
      {"input %a : f32[2,1,3]\ninput %b : f32[4,3,1]\n%y = MatMul(%a, %b)", "the batch axes do not broadcast"},
      {"input %a : f32[]\ninput %b : f32[4]\n%y = MatMul(%a, %b)", "a scalar cannot be multiplied"},
      {"input %a : f32[2,2,3]\ninput %b : f32[3,4]\n%y = Gemm(%a, %b)", "Gemm needs matrices of rank 2"},
      {"input %a : f32[2,3]\ninput %b : f32[3,4]\ninput %c : f32[2]\n%y = Gemm(%a, %b, %c)",
       "input 2 'c' f32[2] does not broadcast to f32[2,4]"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
}

Test(infer, conv_counts_windows_as_onnx_does) {
#define X "input %x : f32[2,4,9,10]\n"
  const Case cases[] = {
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w)", "f32[2,6,7,8]"},
      {X "input %w : f32[6,4,3,3]\ninput %b : f32[6]\n%y = Conv(%x, %w, %b) {pads=[1,0,1,2], strides=[2,3]}",
       "f32[2,6,5,4]"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {dilations=[3,4]}", "f32[2,6,3,2]"},
      {X "input %w : f32[8,1,2,2]\n%y = Conv(%x, %w) {group=4, kernel_shape=[2,2]}", "f32[2,8,8,9]"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {auto_pad=SAME_UPPER, strides=[2,3]}", "f32[2,6,5,4]"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {auto_pad=VALID, pads=[9,9,9,9]}", "f32[2,6,7,8]"},
      {"input %x : f32[1,3,8]\ninput %w : f32[5,3,4]\n%y = Conv(%x, %w) {strides=[4]}", "f32[1,5,2]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {X "input %w : f32[6,1,1,1]\n%y = Conv(%x, %w) {group=4}", "does not fit the channels of 'x' f32[2,4,9,10]"},
      {X "input %w : f32[6,3,1,1]\n%y = Conv(%x, %w)", "in 1 groups does not fit the channels"},
      {X "input %w : f32[6,4,1,1]\n%y = Conv(%x, %w) {group=0}", "in 0 groups does not fit the channels"},
      {X "input %w : f32[6,4,10,1]\n%y = Conv(%x, %w)", "does not fit axis 2 of 'x' (9, padded by 0)"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {dilations=[9223372036854775807,1]}", "does not fit axis 2"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {pads=[9223372036854775807,0,1,0]}", "'pads' overflows"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {strides=[1]}", "attribute 'strides' has 1 numbers"},
      {X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {kernel_shape=[2,3]}", "'kernel_shape' says otherwise"},
      {X "input %w : f32[6,4,3,3]\ninput %b : f32[5]\n%y = Conv(%x, %w, %b)", "the bias has not one number a channel"},
      {"input %x : f32[2,4]\ninput %w : f32[6,4]\n%y = Conv(%x, %w)", "at least one more axis"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
  expect_error(X "input %w : f32[6,4,3,3]\n%y = Conv(%x, %w) {strides=[0,1]}", PARE_UNSUPPORTED,
               "attribute 'strides' holds 0; the least is 1");
#undef X
}

Test(infer, layer_norm_and_reductions_keep_or_drop_axes) {
#define X "input %x : f32[2,3,4]\n"
  const Case cases[] = {
      {X "input %g : f32[4]\n%y = LayerNormalization(%x, %g)", "f32[2,3,4]"},
      {X "input %g : f32[3,4]\n_, %y = LayerNormalization(%x, %g) {axis=1}", "f32[2,1,1]"},
      {X "input %g : f32[4]\n%o, _, %y = LayerNormalization(%x, %g)", "f32[2,3,1]"},
      {X "%y = ReduceMean(%x)", "f32[1,1,1]"},
      {X "%y = ReduceSum(%x) {keepdims=0}", "f32[]"},
      {X "%y = ReduceSum(%x) {noop_with_empty_axes=1}", "f32[2,3,4]"},
      {X "const %a : i64[0] =\n%y = ReduceSum(%x, %a) {noop_with_empty_axes=1}", "f32[2,3,4]"},
      {X "const %a : i64[0] =\n%y = ReduceSum(%x, %a) {keepdims=0}", "f32[]"},
      {X "const %a : i64[2] = -1 0\n%y = ReduceMax(%x, %a) {keepdims=0}", "f32[3]"},
      {X "const %a : i64[1] = 1\n%y = ReduceProd(%x, %a)", "f32[2,1,4]"},
      {X "const %a : i64[] = 0\n%y = CumSum(%x, %a)", "f32[2,3,4]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {X "input %g : f32[3]\n%y = LayerNormalization(%x, %g)", "input 1 'g' f32[3] does not broadcast to f32[2,3,4]"},
      {X "input %g : f32[4]\n%y = LayerNormalization(%x, %g) {axis=3}", "axis 3 is outside [-3, 3)"},
      {X "const %a : i64[1] = 3\n%y = ReduceSum(%x, %a)", "axis 3 is outside [-3, 3)"},
      {X "const %a : i64[2] = 2 -1\n%y = ReduceSum(%x, %a)", "an axis is named twice"},
      {X "const %a : f32[1] = 1\n%y = ReduceSum(%x, %a)", "an integer tensor is needed"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
#undef X
}

Test(infer, reshapes_obey_zero_minus_one_and_allowzero) {
#define X "input %x : f32[2,3,4]\n"
  const Case cases[] = {
      {X "const %s : i64[2] = 0 -1\n%y = Reshape(%x, %s)", "f32[2,12]"},
      {X "const %s : i64[4] = 4 0 -1 1\n%y = Reshape(%x, %s)", "f32[4,3,2,1]"},
      {"input %x : f32[0,3]\nconst %s : i64[2] = 3 0\n%y = Reshape(%x, %s) {allowzero=1}", "f32[3,0]"},
      {"input %x : f32[1]\nconst %s : i64[0] =\n%y = Reshape(%x, %s)", "f32[]"},
      {X "%y = Flatten(%x)", "f32[2,12]"},
      {X "%y = Flatten(%x) {axis=0}", "f32[1,24]"},
      {X "%y = Flatten(%x) {axis=3}", "f32[24,1]"},
      {X "%y = Flatten(%x) {axis=-1}", "f32[6,4]"},
      {"input %x : f32[1,3,1]\n%y = Squeeze(%x)", "f32[3]"},
      {"input %x : f32[1,3,1]\nconst %a : i64[1] = -1\n%y = Squeeze(%x, %a)", "f32[1,3]"},
      {X "const %a : i64[2] = -1 0\n%y = Unsqueeze(%x, %a)", "f32[1,2,3,4,1]"},
      {X "const %a : i64[2] = 1 3\n%y = Unsqueeze(%x, %a)", "f32[2,1,3,1,4]"},
      {X "%y = Transpose(%x)", "f32[4,3,2]"},
      {X "%y = Transpose(%x) {perm=[2,0,1]}", "f32[4,2,3]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {X "const %s : i64[2] = 5 -1\n%y = Reshape(%x, %s)",
       "input 0 'x' f32[2,3,4] cannot take the shape f32[5,?] in input 1 's'"},
      {X "const %s : i64[1] = 23\n%y = Reshape(%x, %s)", "cannot take the shape f32[23]"},
      {X "const %s : i64[2] = -1 -1\n%y = Reshape(%x, %s)", "more than one size is -1"},
      {X "const %s : i64[1] = -2\n%y = Reshape(%x, %s)", "a size is less than -1"},
      {X "const %s : i64[4] = 2 3 4 0\n%y = Reshape(%x, %s)", "a 0 in the shape copies an axis that is not there"},
      {X "const %s : i64[2] = 4611686018427387904 4\n%y = Reshape(%x, %s)", "cannot take the shape"},
      {"input %x : f32[0,3]\nconst %s : i64[2] = 0 -1\n%y = Reshape(%x, %s)", "cannot take the shape"},
      {X "const %a : i64[1] = 1\n%y = Squeeze(%x, %a)", "axis 1 of 'x' has size 3 and cannot be squeezed"},
      {X "const %a : i64[2] = 0 0\n%y = Unsqueeze(%x, %a)", "an axis is named twice"},
      {X "%y = Transpose(%x) {perm=[0,1,1]}", "no permutation"},
      {X "%y = Transpose(%x) {perm=[0,1]}", "for another rank"},
      {X "%y = Flatten(%x) {axis=4}", "axis 4 is outside"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
  expect_error(X "const %s : i64[9] = 1 1 1 1 1 1 2 3 4\n%y = Reshape(%x, %s)", PARE_UNSUPPORTED,
               "more than the 8 axes");
  expect_error(X "const %a : i64[6] = 0 1 2 3 4 5\n%y = Unsqueeze(%x, %a)", PARE_UNSUPPORTED, "more than the 8 axes");
#undef X
}

Test(infer, joins_and_parts_add_up) {
#define X "input %x : f32[2,7]\n"
  const Case cases[] = {
      {X "input %z : f32[2,1]\n%y = Concat(%x, %z, %x) {axis=-1}", "f32[2,15]"},
      {X "const %s : i64[3] = 2 0 5\n%a, %b, %y = Split(%x, %s) {axis=1}", "f32[2,5]"},
      {X "%a, %y = Split(%x)", "f32[1,7]"},
      {X "%a, %b, %y = Split(%x) {axis=1, num_outputs=3}", "f32[2,1]"},
      {X "%y, %b, %c = Split(%x) {axis=1, num_outputs=3}", "f32[2,3]"},
      {X "input %i : i64[4,5]\n%y = Gather(%x, %i) {axis=1}", "f32[2,4,5]"},
      {X "input %i : i32[]\n%y = Gather(%x, %i)", "f32[7]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {X "input %z : f32[3,1]\n%y = Concat(%x, %z) {axis=1}", "an axis that is not joined differs"},
      {X "%y = Concat(%x, %x)", "the attribute 'axis' is missing"},
      {X "const %s : i64[2] = 2 4\n%a, %y = Split(%x, %s) {axis=1}", "do not add up to the 7 of axis 1 of input 0 'x'"},
      {X "const %s : i64[2] = -1 8\n%a, %y = Split(%x, %s) {axis=1}", "do not add up"},
      {X "const %s : i64[3] = 2 4 1\n%a, %y = Split(%x, %s) {axis=1}", "input 1 's' has 3 sizes for 2 outputs"},
      {X "%a, %y = Split(%x) {axis=1}", "axis 1 of 'x' has size 7 and cannot be split into 2 parts"},
      {X "%a, %y = Split(%x) {axis=1, num_outputs=3}", "'num_outputs' is 3 but there are 2 outputs"},
      {X "input %i : f32[4]\n%y = Gather(%x, %i)", "indices must be integers"},
      {X "input %i : i64[4]\n%y = Gather(%x, %i) {axis=-3}", "axis -3 is outside [-2, 2)"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
#undef X
}

Test(infer, slice_clamps_as_onnx_does) {
  const struct { const char *start, *end, *step; int64_t want; } cases[] = {
      {"0", "4", "1", 4},     {"0", "100", "1", 10},   {"-3", "9223372036854775807", "1", 3},
      {"2", "-2", "1", 6},    {"5", "2", "1", 0},      {"1", "10", "3", 3},
      {"0", "10", "9", 2},    {"-1", "-11", "-1", 10}, {"9", "-9223372036854775808", "-4", 3},
      {"20", "0", "-1", 9},   {"-20", "5", "1", 5},    {"0", "5", "-1", 0},
      {"9", "-100", "-9223372036854775808", 1},        {"0", "10", "9223372036854775807", 1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[400], want[40];
    snprintf(text, sizeof text,
             "input %%x : f32[3,10]\nconst %%s : i64[1] = %s\nconst %%e : i64[1] = %s\nconst %%a : i64[1] = -1\n"
             "const %%p : i64[1] = %s\n%%y = Slice(%%x, %%s, %%e, %%a, %%p)",
             cases[i].start, cases[i].end, cases[i].step);
    snprintf(want, sizeof want, "f32[3,%d]", (int)cases[i].want);
    expect_type(text, want);
  }
  expect_type("input %x : f32[3,10]\nconst %s : i32[2] = 1 2\nconst %e : i32[2] = 2 9\n%y = Slice(%x, %s, %e)",
              "f32[1,7]");
  const Case errors[] = {
      {"input %x : f32[3]\nconst %s : i64[1] = 1\nconst %p : i64[1] = 0\n%y = Slice(%x, %s, %s, _, %p)", "a step of 0"},
      {"input %x : f32[3]\nconst %s : i64[2] = 1 1\n%y = Slice(%x, %s, %s)", "axis 1 is outside [-1, 1)"},
      {"input %x : f32[3,3]\nconst %s : i64[2] = 1 1\n%y = Slice(%x, %s, %s, %s)", "an axis is named twice"},
      {"input %x : f32[3]\nconst %s : i64[2] = 1 1\nconst %e : i64[1] = 1\n%y = Slice(%x, %s, %e)",
       "the lists differ in length"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
}

Test(infer, shapes_make_tensors_and_tensors_shapes) {
#define X "input %x : f32[2,1,4]\n"
  const Case cases[] = {
      {X "const %s : i64[2] = 3 1\n%y = Expand(%x, %s)", "f32[2,3,4]"},
      {X "const %s : i64[4] = 5 1 1 1\n%y = Expand(%x, %s)", "f32[5,2,1,4]"},
      {X "%y = Shape(%x)", "i64[3]"},
      {X "%y = Shape(%x) {start=-2}", "i64[2]"},
      {X "%y = Shape(%x) {start=1, end=-1}", "i64[1]"},
      {X "%y = Shape(%x) {start=2, end=1}", "i64[0]"},
      {"const %s : i64[2] = 3 0\n%y = ConstantOfShape(%s)", "f32[3,0]"},
      {"const %s : i64[0] =\nconst %v : i64[1] = 7\n%y = ConstantOfShape(%s, %v)", "i64[]"},
      {"const %a : i64[] = 10\nconst %b : i64[] = 3\nconst %d : i64[] = -3\n%y = Range(%a, %b, %d)", "i64[3]"},
      {"const %a : i64[] = 3\nconst %b : i64[] = 10\nconst %d : i64[] = -3\n%y = Range(%a, %b, %d)", "i64[0]"},
      {"const %a : f32[] = 0\nconst %b : f32[] = 1\nconst %d : f32[] = 0.3\n%y = Range(%a, %b, %d)", "f32[4]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {X "const %s : i64[1] = 3\n%y = Expand(%x, %s)", "input 0 'x' f32[2,1,4] cannot take the shape f32[3]"},
      {"const %s : i64[1] = -3\n%y = ConstantOfShape(%s)", "a size is negative"},
      {"const %s : i64[2] = 9223372036854775807 2\n%y = ConstantOfShape(%s)", "overflows"},
      {"const %a : i64[] = 0\n%y = Range(%a, %a, %a)", "a step of 0"},
      {"const %a : i64[] = -9223372036854775808\nconst %b : i64[] = 9223372036854775807\nconst %d : i64[] = 1\n"
       "%y = Range(%a, %b, %d)", "too large"},
      {"const %a : f32[] = 0\nconst %b : f32[] = inf\nconst %d : f32[] = 1\n%y = Range(%a, %b, %d)", "not finite"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
#undef X
}

Test(infer, losses_and_criteria_have_their_own_shapes) {
#define IMP "input %w : f32[4,6]\ninput %a : f32[4,2]\ninput %b : f32[2,6]\n"
  const Case cases[] = {
      {"input %x : f32[2,3]\ninput %l : i64[2]\n%y = pare.CrossEntropy(%x, %l)", "f32[]"},
      {"input %x : f64[2,3]\ninput %t : f64[2,3]\n%y = pare.Mse(%x, %t)", "f64[]"},
      {"input %x : f32[2,3]\ninput %z : f32[4]\n%y = pare.SumSquares(%x, %z)", "f32[]"},
      {"input %x : f32[2,3,4]\ninput %z : f32[3,1]\n%y = pare.SumTo(%x, %z)", "f32[3,1]"},
      {IMP "%y, %col = pare.Importance(%w, %a, %b, %a, %b)", "f32[4]"},
      {IMP "%row, %y = pare.Importance(%w, %a, %b, %a, %b)", "f32[6]"},
      {"input %w : f32[6,4]\ninput %a : f32[4,2]\ninput %b : f32[2,6]\n"
       "%row, %y = pare.Importance(%w, %a, %b, %a, %b) {transB=1}", "f32[6]"},
      {"input %d : f32[2,2]\nconst %s : i64[1] = 0\ninput %x : f32[2,5]\n"
       "%y = pare.SliceGrad(%d, %s, %s, _, _, %x)", "f32[2,5]"},
      {"input %x : f32[2,3]\ninput %g : f32[3]\ninput %s : f32[2,1]\n"
       "%dx, %y = pare.LayerNormGrad(%x, %g, %s, %s, %x)", "f32[3]"},
  };
  EXPECT_TYPES(cases);
  const Case errors[] = {
      {"input %x : f32[2,3]\ninput %l : i64[3]\n%y = pare.CrossEntropy(%x, %l)", "the labels are not one a row"},
      {"input %x : f32[2,3]\ninput %t : f32[3,2]\n%y = pare.Mse(%x, %t)", "the shapes differ"},
      {"input %x : f32[2]\ninput %d : f32[3]\n%y = pare.ReluGrad(%x, %d)", "the shapes differ"},
      {"input %x : f32[2]\ninput %z : f32[3]\n%y = pare.SumTo(%x, %z)", "does not broadcast"},
      {IMP "%y, %col = pare.Importance(%w, %b, %a, %b, %a)", "the adapter A does not fit"},
      {"state %m : f32[2]\ninput %x : f32[3]\npare.Ema(%m, %x)", "the shapes differ"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
#undef IMP
}

Test(infer, counts_of_inputs_and_outputs_are_checked) {
  const Case errors[] = {
      {"input %x : f32[2]\n%y = Add(%x)", "has 1 inputs; the operator takes 2 to 2"},
      {"input %x : f32[2]\n%y = Add(%x, _)", "input 1 is left out but the operator needs it"},
      {"input %x : f32[2]\n%y, %z = Relu(%x)", "has 2 outputs; pare knows 1 to 1 of this operator"},
      {"input %x : f32[2]\nRelu(%x)", "has 0 outputs"},
      {"input %x : f32[2]\n%y = Max(%x, _)", "input 1 is left out"},
      {"input %x : f32[2]\nconst %a : i64[0] =\n%y = CumSum(%x, %a)", "one number is needed here"},
      {"input %x : f32[2]\ninput %a : i8[1]\n%y = CumSum(%x, %a)", "one number is needed here"},
  };
  EXPECT_ERRORS(errors, PARE_FORMAT);
  expect_error("input %x : u8[9223372036854775807,2,0]\n%y = Relu(%x)", PARE_UNSUPPORTED, "not known or too large");
}

/* --- the cost column --- */

Test(cost, counts_multiply_adds_and_bytes) {
  const struct { const char *text; double macs, flops, bytes; } cases[] = {
      {"input %a : f32[5,2,3]\ninput %b : f32[3,4]\n%y = MatMul(%a, %b)", 120, 240, 4 * (30 + 12 + 40)},
      {"input %a : f32[3,2]\ninput %b : f32[3,4]\n%y = Gemm(%a, %b) {transA=1}", 24, 48, 4 * (6 + 12 + 8)},
      {"input %a : f32[1,4,5,5]\ninput %b : f32[6,2,3,3]\n%y = Conv(%a, %b) {group=2}", 54 * 18, 2 * 54 * 18,
       4 * (100 + 108 + 54)},
      {"input %a : f32[2,3]\n%y = Relu(%a)", 0, 6, 48},
      {"input %a : f16[2,3]\n%y = Transpose(%a)", 0, 0, 24},
      {"input %a : f32[2,3]\n%y = Identity(%a)", 0, 0, 0},
      {"input %w : f32[4,6]\ninput %a : f32[4,2]\ninput %b : f32[2,6]\n"
       "%y, %col = pare.Importance(%w, %a, %b, %a, %b)", 4 * 24 * 2, 8 * 24 * 2, 4 * (24 + 16 + 24 + 10)},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix f;
    fix_init(&f);
    PareNode *n = parse(&f, cases[i].text)->last;
    PareCost cost = pare_op_info[n->op].cost(n);
    cr_expect_eq(cost.macs, cases[i].macs, "%s\n%g MACs, not %g", cases[i].text, cost.macs, cases[i].macs);
    cr_expect_eq(cost.flops, cases[i].flops, "%s\n%g FLOPs, not %g", cases[i].text, cost.flops, cases[i].flops);
    cr_expect_eq(cost.bytes, cases[i].bytes, "%s\n%g bytes, not %g", cases[i].text, cost.bytes, cases[i].bytes);
    fix_free(&f);
  }
}
