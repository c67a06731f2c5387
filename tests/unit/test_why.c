/* test_why.c - chains of ops from an axis to those that it is tied to, and to what forbids cutting it.
 * What is expected is worked out by hand from the small graphs. */
#include <criterion/criterion.h>
#include <string.h>

#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/why.h"
#include "support.h"

typedef struct Asked {
  Fix fix;
  PareDims *d;
  PareWalk *walk;
} Asked;

static void ask(Asked *x, const char *text) {
  Fix *f = &x->fix;
  PareGraph *bound;
  fix_init(f);
  MUST(f, pare_probe_dims(&f->c, f->arena, fix_parse(f, text), 0, &bound));
  MUST(f, pare_trace_dims(&f->c, f->arena, bound, &x->d));
  MUST(f, pare_walk_new(&f->c, f->arena, x->d, &x->walk));
}

/* A leaf of the axis: its outermost, or its innermost. */
static PareAxis *leaf_of(Asked *x, const char *name, int axis, bool innermost) {
  const PareValue *v = pare_graph_find(x->d->tracer->g, name);
  cr_assert_not_null(v, "no '%s'", name);
  PareAxis *a = NULL;
  for (const PareNode *n = x->d->tracer->g->first; n && !a; n = n->next)
    for (int k = 0; k < n->nin; k++)
      if (n->in[k] == v) a = pare_axis_in(x->d->tracer, n, k, axis);
  while (a->kind != PARE_AXIS_LEAF) a = pare_axis_find(a->kid[innermost ? a->n - 1 : 0]);
  return a;
}

/* "node>value:axis node>value:axis" */
static const char *chain_text(Asked *x, const PareChain *c) {
  const char *s = c->found ? "" : "none";
  for (int i = 0; i < c->n; i++)
    s = fmt(&x->fix, "%s%s%s>%s:%d", s, i ? " " : "", c->tie[i].by ? c->tie[i].by->name : "", c->tie[i].value->name,
            c->tie[i].axis);
  return s;
}

static void expect_chain(const char *text, const char *from, int axis, const char *to, int to_axis, const char *want) {
  Asked x;
  PareChain c;
  ask(&x, text);
  MUST(&x.fix, pare_walk(x.walk, leaf_of(&x, from, axis, false), pare_graph_find(x.d->tracer->g, from), axis));
  MUST(&x.fix, pare_walk_to(x.walk, pare_graph_find(x.d->tracer->g, to), to_axis, &c));
  cr_expect_str_eq(chain_text(&x, &c), want, "from %s:%d to %s:%d: '%s', expected '%s'", from, axis, to, to_axis,
                   chain_text(&x, &c), want);
  fix_free(&x.fix);
}

static void expect_freezer(const char *text, const char *from, int axis, bool innermost, const char *want) {
  Asked x;
  PareChain c;
  ask(&x, text);
  MUST(&x.fix, pare_walk(x.walk, leaf_of(&x, from, axis, innermost), pare_graph_find(x.d->tracer->g, from), axis));
  MUST(&x.fix, pare_walk_to_freezer(x.walk, &c));
  cr_expect_str_eq(chain_text(&x, &c), want, "from %s:%d: '%s', expected '%s'", from, axis, chain_text(&x, &c), want);
  fix_free(&x.fix);
}

/* A feed-forward with a bias, between a norm and an output. */
#define FEED_FORWARD                                   \
  "input %i : f32[batch=?,8]\n"                        \
  "const %w0 : f32[8,16] = random(4)\n"                \
  "const %g : f32[16] = random(5)\n"                   \
  "const %w1 : f32[16,24] = random(1)\n"               \
  "const %b1 : f32[24] = random(2)\n"                  \
  "const %w2 : f32[24,16] = random(3)\n"               \
  "%x = MatMul(%i, %w0) \"stem\"\n"                    \
  "%n = LayerNormalization(%x, %g) {axis=-1} \"norm\"\n" \
  "%u = MatMul(%n, %w1) \"up\"\n"                      \
  "%ub = Add(%u, %b1) \"bias\"\n"                      \
  "%a = Relu(%ub) \"act\"\n"                           \
  "%y = MatMul(%a, %w2) \"down\"\n"                    \
  "output %y\n"

Test(why, rows_of_the_second_weight_are_tied_to_columns_of_the_first) {
  expect_chain(FEED_FORWARD, "w1", 1, "w2", 0, "up>u:1 bias>ub:1 act>a:1 down>w2:0");
  expect_chain(FEED_FORWARD, "w1", 1, "b1", 0, "up>u:1 bias>b1:0");
  expect_chain(FEED_FORWARD, "w2", 0, "w1", 1, "down>a:1 act>ub:1 bias>u:1 up>w1:1");
}

Test(why, the_chain_leads_to_what_froze_the_dimension) {
  expect_freezer(FEED_FORWARD, "w0", 1, false, "stem>x:1");
  expect_freezer(FEED_FORWARD, "w1", 0, false, "up>n:1");
  expect_freezer(FEED_FORWARD, "w0", 0, false, "stem>i:1");
  expect_freezer(FEED_FORWARD, "w2", 1, false, "down>y:1");
}

/* A square weight: what goes in is not tied to what comes out, though a residual makes both one dimension. */
Test(why, a_product_ties_no_rows_of_its_weight_to_its_columns) {
  expect_chain("input %x : f32[batch=?,16]\n"
               "const %w0 : f32[16,8] = random(1)\n"
               "const %w1 : f32[8,8] = random(2)\n"
               "const %w2 : f32[8,16] = random(3)\n"
               "%h = MatMul(%x, %w0) \"in\"\n"
               "%u = MatMul(%h, %w1) \"square\"\n"
               "%r = Add(%h, %u) \"residual\"\n"
               "%y = MatMul(%r, %w2) \"out\"\n"
               "output %y\n",
               "w0", 1, "u", 1, "in>h:1 residual>u:1");
}

/* 2 heads of 8: heads go through the reshape, the width ends in the product of q and k. */
#define ATTENTION                                \
  "input %x : f32[batch=?,n=?,16]\n"             \
  "const %wq : f32[16,16] = random(1)\n"         \
  "const %wk : f32[16,16] = random(2)\n"         \
  "const %wo : f32[16,16] = random(3)\n"         \
  "const %to4 : i64[4] = 0 0 2 8\n"              \
  "const %to3 : i64[3] = 0 0 16\n"               \
  "%q = MatMul(%x, %wq) \"q\"\n"                 \
  "%k = MatMul(%x, %wk) \"k\"\n"                 \
  "%q4 = Reshape(%q, %to4) \"split_q\"\n"        \
  "%k4 = Reshape(%k, %to4) \"split_k\"\n"        \
  "%qt = Transpose(%q4) {perm=[0,2,1,3]} \"move_q\"\n" \
  "%kt = Transpose(%k4) {perm=[0,2,3,1]} \"move_k\"\n" \
  "%vt = Transpose(%k4) {perm=[0,2,1,3]} \"move_v\"\n" \
  "%s = MatMul(%qt, %kt) \"scores\"\n"           \
  "%o = MatMul(%s, %vt) \"context\"\n"           \
  "%ot = Transpose(%o) {perm=[0,2,1,3]} \"move_o\"\n" \
  "%om = Reshape(%ot, %to3) \"join\"\n"          \
  "%y = MatMul(%om, %wo) \"out\"\n"              \
  "output %y\n"

Test(why, heads_of_q_and_k_are_tied_by_their_product) {
  expect_chain(ATTENTION, "wq", 1, "wk", 1, "q>q:2 split_q>q4:2 move_q>qt:1 scores>kt:1 move_k>k4:2 split_k>k:2 k>wk:1");
}

Test(why, the_width_of_heads_is_frozen_by_the_product_of_q_and_k) {
  expect_freezer(ATTENTION, "wq", 1, true, "q>q:2 split_q>q4:3 move_q>qt:3");
}

Test(why, a_weight_that_is_read_twice_ties_its_readers) {
  expect_chain("input %x : f32[batch=?,16]\n"
               "const %w1 : f32[16,24] = random(1)\n"
               "const %b1 : f32[24] = random(2)\n"
               "const %b2 : f32[24] = random(4)\n"
               "const %w2 : f32[24,16] = random(3)\n"
               "%u = MatMul(%x, %w1) \"up\"\n"
               "%a = Relu(%u) \"act\"\n"
               "%m = MatMul(%a, %w2) \"down\"\n"
               "%v = MatMul(%m, %w1) \"up2\"\n"
               "%c = Relu(%v) \"act2\"\n"
               "%y = MatMul(%c, %w2) \"down2\"\n"
               "output %y\n",
               "u", 1, "c", 1, "up>w1:1 >w1:1 up2>v:1 act2>c:1");
}

Test(why, zeros_of_the_shape_of_another_tensor_are_tied_to_it) {
  expect_chain("input %x : f32[batch=?,16]\n"
               "const %w1 : f32[16,24] = random(1)\n"
               "const %w2 : f32[24,16] = random(3)\n"
               "%u = MatMul(%x, %w1) \"up\"\n"
               "%sh = Shape(%u) \"shape\"\n"
               "%z = ConstantOfShape(%sh) \"zeros\"\n"
               "%y = MatMul(%z, %w2) \"down\"\n"
               "output %y\n",
               "w1", 1, "w2", 0, "up>u:1 zeros>z:1 down>w2:0");
}
