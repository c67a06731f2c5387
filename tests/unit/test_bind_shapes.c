/* test_bind_shapes.c - dynamic axes get numbers, and what follows from them is known. */
#include <criterion/criterion.h>
#include <string.h>

#include "passes/bind_shapes.h"

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

/* x: f32[batch, ?, 8] */
static PareValue *dynamic_input(Fix *f) {
  static const char *names[] = {"batch", NULL, NULL};
  PareType t = {.dtype = PARE_F32, .rank = 3, .dim = {-1, -1, 8}};
  PareValue *x = pare_value_add(&f->c, f->g, PARE_INPUT, "x", t);
  cr_assert(x != NULL);
  x->dim_name = names;
  return x;
}

static PareValue *node(Fix *f, PareOp op, const char *name, int nin, PareValue *const *in) {
  PareNode *n = pare_node_add(&f->c, f->g, NULL, op, name, nin, in, 1);
  cr_assert(n != NULL);
  return n->out[0];
}

static PareValue *ints(Fix *f, int n, const int64_t *v) {
  PareValue *k = pare_const_ints(&f->c, f->g, "k", n, v);
  cr_assert(k != NULL);
  return k;
}

static const PareDimBinding two_by_five[] = {{"batch", 2}, {"x:1", 5}, {"unused", 9}};

/* Reshape(x, Concat(Shape(x)[0:1], [-1])), as exporters flatten. */
static PareValue *flatten_by_shape(Fix *f, PareValue *x) {
  PareValue *shape = node(f, PARE_OP_SHAPE, "shape", 1, &x);
  PareValue *cut[] = {shape, ints(f, 1, (int64_t[]){0}), ints(f, 1, (int64_t[]){1})};
  PareValue *both[] = {node(f, PARE_OP_SLICE, "slice", 3, cut), ints(f, 1, (int64_t[]){-1})};
  PareValue *target = node(f, PARE_OP_CONCAT, "concat", 2, both);
  pare_attr_set(&target->def->attr, axis, 0);
  return node(f, PARE_OP_RESHAPE, "reshape", 2, (PareValue *[]){x, target});
}

Test(bind_shapes, axes_are_bound_by_name_or_place_and_computed_shapes_follow) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *y = flatten_by_shape(f, dynamic_input(f));
  cr_assert_eq(pare_bind_shapes(&f->c, f->g, 3, two_by_five), PARE_OK, "%s", f->c.diag.text);
  char text[PARE_TYPE_TEXT];
  cr_expect_str_eq(pare_type_text(&y->type, text), "f32[2,40]");
  cr_expect(y->data == NULL, "what depends on the input is not known");
  fix_free(f);
}

Test(bind_shapes, axes_that_nobody_binds_are_all_listed) {
  Fix fix, *f = &fix;
  fix_init(f);
  dynamic_input(f);
  cr_expect_eq(pare_bind_shapes(&f->c, f->g, 0, NULL), PARE_USAGE);
  cr_expect(strstr(f->c.diag.text, "batch (x:0), x:1") != NULL, "%s", f->c.diag.text);
  fix_free(f);
}

Test(bind_shapes, small_results_of_constants_are_known_even_from_unaligned_bytes) {
  Fix fix, *f = &fix;
  fix_init(f);
  char *raw = pare_arena_alloc(f->arena, 64, 1);
  memcpy(raw + 1, (int64_t[]){40, 2}, 16);
  PareValue *k = pare_const_add(&f->c, f->g, "odd", (PareType){.dtype = PARE_I64, .rank = 1, .dim = {2}}, raw + 1);
  PareValue *sum = node(f, PARE_OP_ADD, "add", 2, (PareValue *[]){k, k});
  cr_assert_eq(pare_bind_shapes(&f->c, f->g, 0, NULL), PARE_OK, "%s", f->c.diag.text);
  cr_assert(sum->data != NULL);
  cr_expect_eq(pare_data_int(sum, 0), 80, "40 + 40 is %lld", (long long)pare_data_int(sum, 0));
  fix_free(f);
}

Test(bind_shapes, large_results_are_left_to_the_program_but_can_be_evaluated) {
  Fix fix, *f = &fix;
  fix_init(f);
  float *w = PARE_NEW_N(f->arena, 20000, float);
  for (int i = 0; i < 20000; i++) w[i] = (float)i;
  PareValue *k = pare_const_add(&f->c, f->g, "w", (PareType){.dtype = PARE_F32, .rank = 1, .dim = {20000}}, w);
  PareValue *neg = node(f, PARE_OP_NEG, "neg", 1, &k);
  cr_assert_eq(pare_bind_shapes(&f->c, f->g, 0, NULL), PARE_OK, "%s", f->c.diag.text);
  cr_expect(neg->data == NULL);
  cr_expect(pare_node_known(neg->def));
  cr_assert_eq(pare_node_eval(&f->c, neg->def, f->arena), PARE_OK, "%s", f->c.diag.text);
  cr_expect(pare_data_float(neg, 19999) == -19999, "-19999 is %g", pare_data_float(neg, 19999));
  fix_free(f);
}

Test(bind_shapes, a_state_is_never_a_constant) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const float start[] = {1};
  PareValue *s = pare_value_add(&f->c, f->g, PARE_STATE, "s", (PareType){.dtype = PARE_F32, .rank = 1, .dim = {1}});
  s->data = start;
  PareValue *neg = node(f, PARE_OP_NEG, "neg", 1, &s);
  cr_assert_eq(pare_bind_shapes(&f->c, f->g, 0, NULL), PARE_OK, "%s", f->c.diag.text);
  cr_expect(neg->data == NULL);
  fix_free(f);
}

Test(bind_shapes, a_second_binding_forgets_the_first) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = dynamic_input(f), *y = flatten_by_shape(f, x);
  cr_assert_eq(pare_bind_shapes(&f->c, f->g, 3, two_by_five), PARE_OK, "%s", f->c.diag.text);
  x->type.dim[0] = 3;
  cr_assert_eq(pare_bind_shapes(&f->c, f->g, 0, NULL), PARE_OK, "%s", f->c.diag.text);
  cr_expect_eq(y->type.dim[0], 3, "the batch is %lld, not 3", (long long)y->type.dim[0]);
  fix_free(f);
}

Test(bind_shapes, a_shape_that_does_not_fit_names_the_node) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = dynamic_input(f);
  node(f, PARE_OP_RESHAPE, "encoder/Reshape", 2, (PareValue *[]){x, ints(f, 2, (int64_t[]){7, 7})});
  cr_expect_neq(pare_bind_shapes(&f->c, f->g, 3, two_by_five), PARE_OK);
  cr_expect_str_eq(f->c.diag.node, "encoder/Reshape");
  fix_free(f);
}
