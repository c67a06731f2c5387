/* test_functions.c - model-local functions made by hand: bodies in the place of
 * their calls, and what is refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "passes/bind_shapes.h"
#include "support.h"

static void append(Fix *f, void ***list, size_t *n, void *item) {
  void **more = pare_arena_alloc(f->arena, *n + 1, sizeof *more);
  if (*n) memcpy(more, *list, *n * sizeof *more);
  more[(*n)++] = item;
  *list = more;
}

/* A function of domain "local"; names separated by blanks. */
static Onnx__FunctionProto *function(Fix *f, Onnx__ModelProto *m, const char *name, const char *inputs,
                                     const char *outputs) {
  Onnx__FunctionProto *fn = pare_arena_alloc(f->arena, 1, sizeof *fn);
  onnx__function_proto__init(fn);
  Onnx__NodeProto *names = onnx_node(f, m, "", "", inputs, outputs); /* for its lists of names */
  m->graph->n_node--;
  fn->name = fmt(f, "%s", name);
  fn->domain = "local";
  fn->input = names->input, fn->n_input = names->n_input;
  fn->output = names->output, fn->n_output = names->n_output;
  append(f, (void ***)&m->functions, &m->n_functions, fn);
  return fn;
}

/* A node of the body. */
static Onnx__NodeProto *inside(Fix *f, Onnx__ModelProto *m, Onnx__FunctionProto *fn, const char *op, const char *inputs,
                               const char *outputs) {
  Onnx__NodeProto *n = onnx_node(f, m, op, "", inputs, outputs);
  m->graph->n_node--;
  append(f, (void ***)&fn->node, &fn->n_node, n);
  return n;
}

static Onnx__NodeProto *local(Onnx__NodeProto *n) {
  n->domain = "local";
  return n;
}

static Onnx__ModelProto *model(Fix *f) {
  Onnx__ModelProto *m = onnx_model(f, 17);
  onnx_input(f, m, "x", 1, DIMS(2, 4));
  onnx_output(f, m, "y", 1, DIMS(2, 4));
  return m;
}

static PareStatus load(Fix *f, const Onnx__ModelProto *m, PareModel **out) {
  size_t len;
  const uint8_t *bytes = onnx_pack(f, m, &len);
  return pare_model_load_bytes(&f->c, "made.onnx", bytes, len, out);
}

static void expect_refused(Fix *f, const Onnx__ModelProto *m, PareStatus want, const char *part) {
  PareModel *out = NULL;
  PareStatus s = load(f, m, &out);
  cr_expect(s == want && strstr(fix_why(f), part), "status %d, '%s' does not say '%s'", s, fix_why(f), part);
  pare_model_free(out);
  fix_forget(f);
}

/* y = twice(twice(x)), twice(a) = a + a: 4x. */
Test(functions, a_body_stands_in_the_place_of_each_call) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = model(f);
  Onnx__FunctionProto *fn = function(f, m, "twice", "a", "b");
  inside(f, m, fn, "Add", "a a", "b");
  local(onnx_node(f, m, "twice", "first", "x", "a")); /* its result has a name that the body has too */
  local(onnx_node(f, m, "twice", "second", "a", "y"));
  PareModel *out;
  MUST(f, load(f, m, &out));
  PareGraph *g = out->graph;
  cr_assert(g->first && g->first->next == g->last, "not two nodes");
  cr_expect_str_eq(g->first->name, "first/b");
  cr_expect_str_eq(g->outputs.at[0]->name, "y");
  cr_expect_eq(g->last->onnx_index, 1u);
  cr_expect_eq(g->last->onnx_input, PARE_INSIDE);
  MUST(f, pare_bind_shapes(&f->c, g, 0, NULL));
  PareTensor *y = run_graph(f, g, 3);
  float x[8];
  fill_random(&(PareType){PARE_F32, 2, {2, 4}}, x, 3000); /* as run_graph fills its first input */
  for (int i = 0; i < 8; i++) cr_expect_eq(element(y, i), 4 * (double)x[i], "%g is not 4·%g", element(y, i), x[i]);
  pare_model_free(out);
  fix_free(f);
}

Test(functions, attributes_come_from_the_call) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = model(f);
  Onnx__FunctionProto *fn = function(f, m, "norm", "a", "b");
  Onnx__AttributeProto *a = onnx_attr(f, inside(f, m, fn, "Softmax", "a", "b"), "axis",
                                      ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  a->ref_attr_name = "along";
  onnx_attr_int(f, local(onnx_node(f, m, "norm", "first", "x", "h")), "along", 0);
  local(onnx_node(f, m, "norm", "second", "h", "y")); /* says nothing: Softmax's own default */
  PareModel *out;
  MUST(f, load(f, m, &out));
  cr_expect_eq(out->graph->first->attr.axis, 0, "axis %d", (int)out->graph->first->attr.axis);
  cr_expect_eq(out->graph->last->attr.axis, -1, "axis %d", (int)out->graph->last->attr.axis);
  pare_model_free(out);
  fix_free(f);
}

Test(functions, outputs_may_be_inputs_or_left_out) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = model(f);
  Onnx__FunctionProto *fn = function(f, m, "pass", "a unused", "a r");
  inside(f, m, fn, "Relu", "a", "r");
  local(onnx_node(f, m, "pass", "only_the_input", "x", "h _"));
  local(onnx_node(f, m, "pass", "only_the_result", "h", "_ y"));
  PareModel *out;
  MUST(f, load(f, m, &out));
  MUST(f, pare_bind_shapes(&f->c, out->graph, 0, NULL));
  cr_expect_eq(out->graph->outputs.at[0]->def->op, PARE_OP_RELU);
  pare_model_free(out);
  fix_free(f);
}

/* Each level calls the next twice: 2^31 bodies. */
Test(functions, calls_that_double_at_every_level_are_refused_in_time) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = model(f);
  for (int i = 0; i < 31; i++) {
    Onnx__FunctionProto *fn = function(f, m, fmt(f, "level%d", i), "a", "c");
    if (i == 30) inside(f, m, fn, "Relu", "a", "c");
    else local(inside(f, m, fn, fmt(f, "level%d", i + 1), "a", "b"));
    if (i < 30) local(inside(f, m, fn, fmt(f, "level%d", i + 1), "b", "c"));
  }
  local(onnx_node(f, m, "level0", "call", "x", "y"));
  expect_refused(f, m, PARE_UNSUPPORTED, "more than 65536 times");
  fix_free(f);
}

Test(functions, what_is_wrong_with_them_is_said) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = model(f);
  Onnx__FunctionProto *fn = function(f, m, "deep", "a", "b");
  local(inside(f, m, fn, "deep", "a", "b"));
  local(onnx_node(f, m, "deep", "call", "x", "y"));
  expect_refused(f, m, PARE_UNSUPPORTED, "more than 32 deep");
  m = model(f);
  fn = function(f, m, "strange", "a", "b");
  inside(f, m, fn, "LSTM", "a", "b");
  local(onnx_node(f, m, "strange", "call", "x", "y"));
  expect_refused(f, m, PARE_UNSUPPORTED, "LSTM (ai.onnx");
  m = model(f);
  fn = function(f, m, "short", "a", "b");
  inside(f, m, fn, "Relu", "a", "c");
  local(onnx_node(f, m, "short", "call", "x", "y"));
  expect_refused(f, m, PARE_FORMAT, "'b' is made by no node");
  m = model(f);
  fn = function(f, m, "open", "a", "b");
  inside(f, m, fn, "Relu", "x", "b"); /* the graph's: not seen from inside */
  local(onnx_node(f, m, "open", "call", "x", "y"));
  expect_refused(f, m, PARE_FORMAT, "'x' is made by no node");
  m = model(f);
  fn = function(f, m, "one", "a", "b");
  inside(f, m, fn, "Relu", "a", "b");
  local(onnx_node(f, m, "one", "call", "x x", "y"));
  expect_refused(f, m, PARE_FORMAT, "do not fit function 'one'");
  m = model(f);
  for (int i = 0; i < 2; i++) inside(f, m, function(f, m, "same", "a", "b"), "Relu", "a", "b");
  local(onnx_node(f, m, "same", "call", "x", "y"));
  expect_refused(f, m, PARE_UNSUPPORTED, "overloads");
  m = model(f);
  fn = function(f, m, "names", "a a", "b");
  inside(f, m, fn, "Relu", "a", "b");
  local(onnx_node(f, m, "names", "call", "x x", "y"));
  expect_refused(f, m, PARE_FORMAT, "names its input 'a' twice");
  m = model(f);
  fn = function(f, m, "needs", "a b", "c");
  inside(f, m, fn, "Add", "a b", "c");
  local(onnx_node(f, m, "needs", "call", "x", "y"));
  expect_refused(f, m, PARE_FORMAT, "missing");
  fix_free(f);
}
