/* test_cut_graphs.c - small graphs, as exporters write them, whose cut must equal their masked form: shape arithmetic that
 * has to follow, weights that are parted, joined, shared and computed. */
#include <criterion/criterion.h>
#include <string.h>

#include "cut_check.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"

/* --- shape arithmetic that has to follow --- */

/* Cuts heads, ffn and all else, and what `kinds` allow, of a graph in text. */
static void check_graph(Fix *f, const char *what, const PareGraph *g, unsigned kinds) {
  for (uint64_t seed = 1; seed <= 3; seed++) {
    PareDims *d = trace_classes(f, g, kinds);
    cr_expect(d->dims.n > 0, "%s: nothing to cut", what);
    keep_some(f, d, seed, true);
    double changed = check_cut(f, what, g, d, two_sizes);
    cr_expect(changed > 1e-4, "%s: masking changed the outputs by %g", what, changed);
  }
}

/* An imported graph does not know types of results either. */
static PareGraph *parse_untyped(Fix *f, const char *text) {
  PareGraph *g = fix_parse(f, text);
  for (size_t k = 0; k < g->values.n; k++)
    if (g->values.at[k]->role == PARE_RESULT) g->values.at[k]->type = (PareType){PARE_F32, 1, {-1}};
  return g;
}

static void check_text_classes(const char *what, const char *text, unsigned kinds) {
  Fix fix, *f = &fix;
  fix_init(f);
  check_graph(f, what, parse_untyped(f, text), kinds);
  fix_free(f);
}

static void check_text(const char *what, const char *text) { check_text_classes(what, text, 0); }

#define HEADS_IN                             \
  "input %x : f32[batch=?,n=?,24]\n"         \
  "const %wq : f32[24,24] = random(1)\n"     \
  "const %wk : f32[24,24] = random(2)\n"     \
  "const %wv : f32[24,24] = random(3)\n"     \
  "const %wo : f32[24,24] = random(4)\n"     \
  "const %i0 : i64[] = 0\nconst %i1 : i64[] = 1\nconst %i2 : i64[] = 2\nconst %ax : i64[1] = 0\n" \
  "const %h1 : i64[1] = 4\nconst %d1 : i64[1] = 6\nconst %m1 : i64[1] = -1\n" \
  "const %h : i64[] = 4\n"                   \
  "%q = MatMul(%x, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n%v = MatMul(%x, %wv) \"a/v\"\n" \
  "%sx = Shape(%x)\n%b = Gather(%sx, %i0)\n%n = Gather(%sx, %i1)\n%w = Gather(%sx, %i2)\n" \
  "%b1 = Unsqueeze(%b, %ax)\n%n1 = Unsqueeze(%n, %ax)\n%w1 = Unsqueeze(%w, %ax)\n"

#define HEADS_OUT(to4, to3)                                               \
  "%q4 = Reshape(%q, %" to4 ")\n%k4 = Reshape(%k, %" to4 ")\n%v4 = Reshape(%v, %" to4 ")\n" \
  "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"          \
  "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n%sm = Softmax(%s) {axis=-1}\n" \
  "%o = MatMul(%sm, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %" to3 ")\n" \
  "%y = MatMul(%om, %wo) \"a/out\"\noutput %y\n"

Test(shapes, constants_in_a_concat_are_patched) {
  check_text("heads and width are constants",
             HEADS_IN "%to4 = Concat(%b1, %n1, %h1, %d1) {axis=0}\n%w24 = Mul(%h1, %d1)\n"
                      "%to3 = Concat(%b1, %n1, %w24) {axis=0}\n" HEADS_OUT("to4", "to3"));
}

Test(shapes, a_width_that_is_divided_from_the_stream_is_replaced) {
  check_text("d = width of the stream / heads",
             HEADS_IN "%d = Div(%w, %h)\n%dd = Unsqueeze(%d, %ax)\n%to4 = Concat(%b1, %n1, %h1, %dd) {axis=0}\n"
                      "%to3 = Concat(%b1, %n1, %w1) {axis=0}\n" HEADS_OUT("to4", "to3"));
}

Test(shapes, a_scale_that_follows_from_the_width_of_q_stays) {
  check_text_classes("scores / sqrt(float(width of q))",
             HEADS_IN "%to4 = Concat(%b1, %n1, %h1, %m1) {axis=0}\n%to3 = Concat(%b1, %n1, %m1) {axis=0}\n"
                      "const %i3 : i64[] = 3\n"
                      "%q4 = Reshape(%q, %to4)\n%k4 = Reshape(%k, %to4)\n%v4 = Reshape(%v, %to4)\n"
                      "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
                      "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n"
                      "%sq = Shape(%qt)\n%dq = Gather(%sq, %i3)\n%df = Cast(%dq) {to=f32}\n%root = Sqrt(%df)\n"
                      "%ss = Div(%s, %root) \"a/scale\"\n%sm = Softmax(%ss) {axis=-1}\n"
                      "%o = MatMul(%sm, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"
                      "%y = MatMul(%om, %wo) \"a/out\"\noutput %y\n", EXACT);
}

Test(shapes, numbers_that_went_through_floats_are_replaced) { /* as opset 9 exports of floor division are */
  check_text("d = int(floor(float(width) / 4.0))",
             HEADS_IN "const %four : f32[] = 4\n%wf = Cast(%w) {to=f32}\n%df = Div(%wf, %four)\n%fl = Floor(%df)\n"
                      "%d = Cast(%fl) {to=i64}\n%dd = Unsqueeze(%d, %ax)\n"
                      "%to4 = Concat(%b1, %n1, %h1, %dd) {axis=0}\n%to3 = Concat(%b1, %n1, %m1) {axis=0}\n"
                      HEADS_OUT("to4", "to3"));
}

Test(shapes, one_constant_that_serves_several_readers_is_copied) {
  check_text("[0, 0, 4, 6] for q, k, v and a stream that is not cut",
             HEADS_IN "const %to4 : i64[4] = 0 0 4 6\nconst %to3 : i64[3] = 0 0 24\n"
                      "%x4 = Reshape(%x, %to4)\n%xs = Reshape(%x4, %to3)\n%side = Relu(%xs)\noutput %side\n"
                      HEADS_OUT("to4", "to3"));
}

Test(shapes, a_minus_one_needs_no_patch) {
  check_text("[0, 0, -1, 6]", HEADS_IN "const %to4 : i64[4] = 0 0 -1 6\nconst %to3 : i64[3] = 0 0 -1\n"
                                       HEADS_OUT("to4", "to3"));
}

#define CHANNELS                          \
  "input %x : f32[batch=?,6]\n"           \
  "const %w1 : f32[6,10] = random(1)\n"   \
  "%h = MatMul(%x, %w1) \"a/up\"\n"

Test(shapes, a_number_that_where_picks_is_patched) { /* as torch's expand is exported */
  check_text("where(shape == -1, 1, shape)",
             CHANNELS "const %ax : i64[1] = 1\nconst %s : i64[3] = 1 2 10\nconst %m : i64[3] = -1 -1 -1\n"
                      "const %one : i64[1] = 1\nconst %w2 : f32[10,6] = random(2)\n"
                      "%c = Equal(%s, %m)\n%t = Where(%c, %one, %s)\n%u = Unsqueeze(%h, %ax)\n"
                      "%e = Expand(%u, %t)\n%y = MatMul(%e, %w2) \"a/down\"\noutput %y\n");
}

Test(shapes, copies_are_as_many_as_before) {
  check_text("size / 5 copies",
             CHANNELS "const %i1 : i64[] = 1\nconst %ax : i64[1] = 0\nconst %five : i64[] = 5\n"
                      "const %one : i64[1] = 1\nconst %w2 : f32[20,6] = random(2)\n"
                      "%sh = Shape(%h)\n%c = Gather(%sh, %i1)\n%r = Div(%c, %five)\n%r1 = Unsqueeze(%r, %ax)\n"
                      "%n = Concat(%one, %r1) {axis=0}\n%t = Tile(%h, %n)\n"
                      "%y = MatMul(%t, %w2) \"a/down\"\noutput %y\n");
}

/* --- parts that hold several heads --- */

Test(joined, heads_that_two_weights_make_are_cut_in_each_part) {
  check_text("1 and 3 heads of q side by side",
             HEADS_IN "const %to4 : i64[4] = 0 0 4 6\nconst %to3 : i64[3] = 0 0 24\nconst %w1a : f32[24,6] = random(5)\n"
                      "const %w1b : f32[24,18] = random(6)\n%qa = MatMul(%x, %w1a) \"a/q1\"\n"
                      "%qb = MatMul(%x, %w1b) \"a/q2\"\n%qj = Concat(%qa, %qb) {axis=2}\n"
                      "%kj = Add(%k, %q)\n" /* what HEADS_IN makes is read too */
                      "%q4 = Reshape(%qj, %to4)\n%k4 = Reshape(%kj, %to4)\n%v4 = Reshape(%v, %to4)\n"
                      "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
                      "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n%sm = Softmax(%s) {axis=-1}\n"
                      "%o = MatMul(%sm, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"
                      "%y = MatMul(%om, %wo) \"a/out\"\noutput %y\n");
}

Test(joined, heads_in_halves_of_weights_are_cut_in_each_half) {
  check_text("wv and wo in two parts of two heads",
             HEADS_IN "const %to4 : i64[4] = 0 0 4 6\nconst %to3 : i64[3] = 0 0 24\nconst %va : f32[24,12] = random(5)\n"
                      "const %vb : f32[24,12] = random(6)\nconst %oa : f32[12,24] = random(7)\n"
                      "const %ob : f32[12,24] = random(8)\n%vw = Concat(%va, %vb) {axis=1}\n"
                      "%ow = Concat(%oa, %ob) {axis=0}\n%vj = MatMul(%x, %vw) \"a/v2\"\n%vs = Add(%v, %vj)\n"
                      "%q4 = Reshape(%q, %to4)\n%k4 = Reshape(%k, %to4)\n%v4 = Reshape(%vs, %to4)\n"
                      "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
                      "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n%sm = Softmax(%s) {axis=-1}\n"
                      "%o = MatMul(%sm, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"
                      "%y = MatMul(%om, %ow) \"a/out\"\noutput %y\n");
}

/* --- weights that are moved, parted and joined, integers before they are dequantised --- */

/* n numbers all over a byte's range, `least` and more. */
static const char *bytes_of(Fix *f, int n, int least) {
  const char *s = "";
  for (int i = 0; i < n; i++) s = fmt(f, "%s %d", s, least + (37 * i + 11) % 256);
  return s;
}

/* 10 channels between V [6, 10] by column and W [10, 6] by column, as %vd and %wd. */
#define STORED_IN                                                                                                  \
  "input %%x : f32[batch=?,6]\nconst %%vs : f32[10] = 0.01 0.02 0.03 0.04 0.05 0.01 0.02 0.03 0.04 0.05\n"         \
  "const %%vz : i8[10] = 1 2 3 4 5 -1 -2 -3 -4 -5\nconst %%ws : f32[6] = 0.01 0.02 0.03 0.04 0.05 0.06\n"          \
  "const %%wz : u8[6] = 100 110 120 130 140 150\nconst %%ax : i64[1] = 0\nconst %%flat : i64[2] = 6 10\n"         \
  "const %%back : i64[2] = 10 6\nconst %%v : i8%s =%s\nconst %%w : u8%s =%s\n"
#define STORED_OUT "%h = MatMul(%x, %vd) \"a/up\"\n%r = Relu(%h)\n%y = MatMul(%r, %wd) \"a/down\"\noutput %y\n"

static const struct {
  const char *what, *v, *w, *moves;
} moved[] = {
    {"Transpose", "[10,6]", "[6,10]",
     "%vt = Transpose(%v)\n%vd = DequantizeLinear(%vt, %vs, %vz)\n%wt = Transpose(%w)\n"
     "%wd = DequantizeLinear(%wt, %ws, %wz) {axis=-1}\n"},
    {"Reshape", "[6,2,5]", "[2,5,6]",
     "%vt = Reshape(%v, %flat)\n%vd = DequantizeLinear(%vt, %vs, %vz)\n%wt = Reshape(%w, %back)\n"
     "%wd = DequantizeLinear(%wt, %ws, %wz) {axis=1}\n"},
    {"Unsqueeze and Squeeze, on both sides", "[6,10]", "[6,10]",
     "%vt = Unsqueeze(%v, %ax)\n%vu = DequantizeLinear(%vt, %vs, %vz) {axis=2}\n%vd = Squeeze(%vu, %ax)\n"
     "%wt = Unsqueeze(%w, %ax)\n%wu = DequantizeLinear(%wt, %ws, %wz) {axis=1}\n%wq = Squeeze(%wu, %ax)\n"
     "%wd = Transpose(%wq)\n"},
    {"several of them", "[2,10,3]", "[6,5,2]",
     "%v3 = Transpose(%v) {perm=[0,2,1]}\n%vt = Reshape(%v3, %flat)\n%vd = DequantizeLinear(%vt, %vs, %vz)\n"
     "%wi = Identity(%w)\n%w3 = Reshape(%wi, %flat)\n%wt = Transpose(%w3)\n"
     "%wd = DequantizeLinear(%wt, %ws, %wz) {axis=-1}\n"},
    /* more rows or columns of the constant than this layer reads */
    {"Slice and Gather", "[12,10]", "[3,10,6]",
     "const %six : i64[1] = 6\nconst %end : i64[1] = 12\nconst %one : i64[] = 1\n%vt = Slice(%v, %six, %end, %ax)\n"
     "%vd = DequantizeLinear(%vt, %vs, %vz)\n%wt = Gather(%w, %one) {axis=0}\n"
     "%wd = DequantizeLinear(%wt, %ws, %wz) {axis=-1}\n"},
    {"Split along and across what goes", "[6,20]", "[10,12]",
     "const %sv : i64[2] = 10 10\nconst %sw : i64[2] = 6 6\n%v1, %vt = Split(%v, %sv) {axis=1}\n"
     "%vd = DequantizeLinear(%vt, %vs, %vz)\n%wt, %w2 = Split(%w, %sw) {axis=1}\n"
     "%wd = DequantizeLinear(%wt, %ws, %wz) {axis=-1}\n"},
    {"Concat, scales by what goes", "[6,10]", "[10,6]",
     "const %v1 : i8[4,10] = 1 -2 3 -4 5 -6 7 -8 9 -10 11 -12 13 -14 15 -16 17 -18 19 -20 2 -4 6 -8 1 -1 2 -2 3 -3 5 6 "
     "7 8 9 -5 -6 -7 -8 -9\nconst %two : i64[1] = 2\n%v2 = Slice(%v, %ax, %two, %ax)\n%vt = Concat(%v1, %v2) {axis=0}\n"
     "%vd = DequantizeLinear(%vt, %vs, %vz)\nconst %w0 : u8[10,2] = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20\n"
     "const %four : i64[1] = 4\nconst %col : i64[1] = 1\n%w2 = Slice(%w, %ax, %four, %col)\n"
     "%wt = Concat(%w2, %w0) {axis=1}\n%wd = DequantizeLinear(%wt, %ws, %wz) {axis=-1}\n"},
    {"Concat of what goes, scales that are joined and parted", "[6,5]", "[4,6]",
     "const %v1 : i8[6,5] = 1 -2 3 -4 5 -6 7 -8 9 -10 11 -12 13 -14 15 -16 17 -18 19 -20 2 -4 6 -8 1 -1 2 -2 3 -3\n"
     "const %five : i64[2] = 5 5\n%s1, %s2 = Split(%vs, %five) {axis=0}\n%z1, %z2 = Split(%vz, %five) {axis=0}\n"
     "%vt = Concat(%v1, %v) {axis=1}\n%st = Concat(%s2, %s1) {axis=0}\n%zt = Concat(%z2, %z1) {axis=0}\n"
     "%vd = DequantizeLinear(%vt, %st, %zt)\nconst %w1 : u8[6,6] = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 "
     "200 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36\n%wt = Concat(%w, %w1) {axis=0}\n%wu = Unsqueeze(%ws, %ax)\n"
     "%wv = Squeeze(%wu)\n%wd = DequantizeLinear(%wt, %wv, %wz)\n"},
    {"floats that are quantised here", "[2]", "[2]",
     "const %vf : f32[6,10] = random(5)\n%vt = QuantizeLinear(%vf, %vs, %vz)\n%vd = DequantizeLinear(%vt, %vs, %vz)\n"
     "const %w5 : f32[4,6] = random(6)\nconst %w6 : f32[6,6] = random(7)\n%wf = Concat(%w5, %w6) {axis=0}\n"
     "%wt = QuantizeLinear(%wf, %ws, %wz)\n%wd = DequantizeLinear(%wt, %ws, %wz)\n"},
    {"floats that are joined", "[2]", "[2]",
     "const %v5 : f32[6,7] = random(5)\nconst %v6 : f32[6,3] = random(8)\n%vd = Concat(%v5, %v6) {axis=1}\n"
     "const %w5 : f32[10,1] = random(6)\nconst %w6 : f32[10,5] = random(7)\n%wd = Concat(%w5, %w6) {axis=1}\n"},
};

/* As many numbers as the shape says. */
static int numbers_in(const char *shape) {
  int n = 1;
  for (const char *p = shape; *p && *p != ']'; p += strcspn(p + 1, ",]") + 1) n *= atoi(p + 1);
  return n;
}

Test(quantised, weights_are_cut_and_masked_wherever_they_are_moved) {
  Fix fix, *f = &fix;
  fix_init(f);
  for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
    const char *v = bytes_of(f, numbers_in(moved[i].v), -128), *w = bytes_of(f, numbers_in(moved[i].w), 0);
    const char *in = fmt(f, STORED_IN, moved[i].v, v, moved[i].w, w);
    check_graph(f, moved[i].what, parse_untyped(f, fmt(f, "%s%s%s", in, moved[i].moves, STORED_OUT)), 0);
  }
  fix_free(f);
}

/* --- heads that share k and v --- */

/* 3 heads of k and v, 2 queries on each; what stands between makes %k4 and %v4 [b, n, 6, 4] of %k3 and %v3
 * [b, n, 3, 4]. */
#define SHARED_IN                                                                                                 \
  "input %%x : f32[batch=?,n=?,8]\nconst %%wq : f32[8,24] = random(1)\nconst %%wk : f32[8,12] = random(2)\n"      \
  "const %%wv : f32[8,12] = random(3)\nconst %%wo : f32[24,8] = random(4)\nconst %%to4 : i64[4] = 0 0 6 4\n"      \
  "const %%to3 : i64[3] = 0 0 24\nconst %%apart : i64[4] = 0 0 3 4\nconst %%ax : i64[1] = %d\n"                   \
  "%%q = MatMul(%%x, %%wq) \"a/q\"\n%%k = MatMul(%%x, %%wk) \"a/k\"\n%%v = MatMul(%%x, %%wv) \"a/v\"\n"           \
  "%%q4 = Reshape(%%q, %%to4)\n%%k3 = Reshape(%%k, %%apart)\n%%v3 = Reshape(%%v, %%apart)\n"
#define SHARED_OUT                                                                                                 \
  "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"                                 \
  "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n%sm = Softmax(%s) {axis=-1}\n"                    \
  "%o = MatMul(%sm, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"                        \
  "%y = MatMul(%om, %wo) \"a/out\"\noutput %y\n"

/* `axis` of %ax; `constants` once; `form` for k and for v, '@' standing for the letter. */
static const struct {
  const char *what;
  int axis;
  const char *constants, *form;
} copies[] = {
    {"Expand", 3, "const %r : i64[5] = 1 1 1 2 1\n",
     "%@5 = Unsqueeze(%@3, %ax)\n%@6 = Expand(%@5, %r)\n%@4 = Reshape(%@6, %to4)\n"},
    {"Tile of a new axis", 3, "const %r : i64[5] = 1 1 1 2 1\n",
     "%@5 = Unsqueeze(%@3, %ax)\n%@6 = Tile(%@5, %r)\n%@4 = Reshape(%@6, %to4)\n"},
    {"Tile of the heads", 3, "const %r : i64[4] = 1 1 2 1\n", "%@4 = Tile(%@3, %r)\n"},
    {"Concat on a new axis", 3, "",
     "%@5 = Unsqueeze(%@3, %ax)\n%@6 = Concat(%@5, %@5) {axis=3}\n%@4 = Reshape(%@6, %to4)\n"},
    {"Concat of equal views, the copies first", 2, "",
     "%@5 = Unsqueeze(%@3, %ax)\n%@7 = Unsqueeze(%@3, %ax)\n"
     "%@6 = Concat(%@5, %@7) {axis=-3}\n%@4 = Reshape(%@6, %to4)\n"},
    {"Concat of the heads", 3, "", "%@4 = Concat(%@3, %@3) {axis=2}\n"},
    {"Gather of each in turn", 3, "const %i : i64[6] = 0 0 1 1 2 2\n", "%@4 = Gather(%@3, %i) {axis=2}\n"},
    {"Gather of all again, from the end", 3, "const %i : i32[6] = 0 1 2 -3 -2 -1\n",
     "%@4 = Gather(%@3, %i) {axis=2}\n"},
    {"Gather by a list that is computed", 3,
     "const %h : i64[3] = 0 1 2\nconst %h2 : i64[2] = 3 2\nconst %one : i64[1] = 1\nconst %all : i64[1] = -1\n"
     "%h1 = Unsqueeze(%h, %one)\n%hh = Expand(%h1, %h2)\n%i = Reshape(%hh, %all)\n",
     "%@4 = Gather(%@3, %i) {axis=2}\n"},
};

/* The form with '@' replaced. */
static const char *lettered(Fix *f, const char *form, char letter) {
  char *s = fmt(f, "%s", form);
  for (char *at = s; *at; at++)
    if (*at == '@') *at = letter;
  return s;
}

static int count_of(const PareDims *d, PareKind kind) {
  int count = 0;
  for (size_t i = 0; i < d->dims.n; i++)
    if (d->dims.at[i].kind == kind) count += (int)d->dims.at[i].count;
  return count;
}

static void check_shared(Fix *f, const char *what, const char *text, int heads, int queries) {
  PareDims *d = trace_classes(f, fix_parse(f, text), 0);
  cr_expect(count_of(d, PARE_KIND_HEADS) == heads && count_of(d, PARE_KIND_QUERIES) == queries,
            "%s: %d heads and %d queries found, expected %d and %d", what, count_of(d, PARE_KIND_HEADS),
            count_of(d, PARE_KIND_QUERIES), heads, queries);
  check_text_classes(what, text, EXACT);
}

Test(shapes, heads_that_share_k_and_v_are_cut_in_whatever_form_these_are_repeated) {
  Fix fix, *f = &fix;
  fix_init(f);
  for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
    const char *k = lettered(f, copies[i].form, 'k'), *v = lettered(f, copies[i].form, 'v');
    const char *in = fmt(f, SHARED_IN, copies[i].axis);
    check_shared(f, copies[i].what, fmt(f, "%s%s%s%s%s", in, copies[i].constants, k, v, SHARED_OUT), 3, 2);
  }
  fix_free(f);
}

/* As Falcon packs them: [groups, queries + k + v, width]. The lists of one index are Slices in another form. */
Test(shapes, queries_that_are_packed_with_their_k_and_v_are_no_heads_of_their_own) {
  Fix fix, *f = &fix;
  fix_init(f);
  check_shared(f, "packed",
               "input %x : f32[batch=?,n=?,8]\nconst %w : f32[8,48] = random(1)\nconst %wo : f32[24,8] = random(2)\n"
               "const %apart : i64[5] = 0 0 3 4 4\nconst %to4 : i64[4] = 0 0 6 4\nconst %to3 : i64[3] = 0 0 24\n"
               "const %b : i64[1] = 0\nconst %e : i64[1] = -2\nconst %ax : i64[1] = 3\nconst %ik : i64[1] = -2\n"
               "const %iv : i64[1] = 3\n%p = MatMul(%x, %w) \"a/qkv\"\n%p5 = Reshape(%p, %apart)\n"
               "%q5 = Slice(%p5, %b, %e, %ax)\n%k5 = Gather(%p5, %ik) {axis=3}\n%v5 = Gather(%p5, %iv) {axis=3}\n"
               "%like = Shape(%q5)\n%k6 = Expand(%k5, %like)\n%v6 = Expand(%v5, %like)\n%q4 = Reshape(%q5, %to4)\n"
               "%k4 = Reshape(%k6, %to4)\n%v4 = Reshape(%v6, %to4)\n" SHARED_OUT,
               3, 2);
  fix_free(f);
}

Test(shapes, reshapes_that_share_a_computed_target_read_minus_one) { /* as onnxsim writes Linear on rank 3 */
  check_text("[b, n, 10] for two widths behind flattened products",
             "input %x : f32[batch=?,n=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,10] = random(2)\n"
             "const %w3 : f32[10,6] = random(3)\nconst %i0 : i64[1] = 0\nconst %i2 : i64[1] = 2\n"
             "const %ten : i64[1] = 10\nconst %flat6 : i64[2] = -1 6\nconst %flat10 : i64[2] = -1 10\n"
             "%sx = Shape(%x)\n%bn = Slice(%sx, %i0, %i2, %i0)\n%to3 = Concat(%bn, %ten) {axis=0}\n"
             "%xf = Reshape(%x, %flat6)\n%a = Gemm(%xf, %w1) \"a/one\"\n%a3 = Reshape(%a, %to3)\n%ar = Relu(%a3)\n"
             "%af = Reshape(%ar, %flat10)\n%b = Gemm(%af, %w2) \"b/two\"\n%b3 = Reshape(%b, %to3)\n"
             "%br = Relu(%b3)\n%y = MatMul(%br, %w3) \"c/three\"\noutput %y\n");
}

Test(shapes, a_tensor_of_another_s_shape_loses_what_that_loses) { /* the second product reads ones alone */
  check_text("ones_like",
             CHANNELS "const %w2 : f32[10,6] = random(2)\nconst %w3 : f32[10,6] = random(3)\n"
                      "%s = Shape(%h)\n%o = ConstantOfShape(%s)\n%a = MatMul(%o, %w2) \"a/two\"\n"
                      "%b = MatMul(%h, %w3) \"a/three\"\n%y = Add(%a, %b)\noutput %y\n");
}

Test(shapes, a_depthwise_convolution_has_as_many_groups_as_channels) { /* as in SegFormer's feed-forward */
  check_text("3 by 3 over a channel each",
             "input %x : f32[batch=?,4,5,6]\nconst %w1 : f32[6,10] = random(1)\n"
             "const %k : f32[10,1,3,3] = random(2)\nconst %b : f32[10] = random(3)\nconst %w2 : f32[10,6] = random(4)\n"
             "%h = MatMul(%x, %w1) \"a/up\"\n%t = Transpose(%h) {perm=[0,3,1,2]}\n"
             "%c = Conv(%t, %k, %b) {group=10, pads=[1,1,1,1]}\n%u = Transpose(%c) {perm=[0,2,3,1]}\n%g = Gelu(%u)\n"
             "%y = MatMul(%g, %w2) \"a/down\"\noutput %y\n");
}

/* A query that is learned, repeated for each sample, times a weight: a number once sizes are known, here of the weight
 * as tuning has left it. */
Test(shapes, a_number_that_weights_alone_have_changed_since_tracing_is_kept) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, CHANNELS "const %w2 : f32[10,6] = random(2)\nconst %q : f32[1,6] = random(3)\n"
                                       "const %w3 : f32[6,6] = random(4)\n%r = Relu(%h)\n%d = MatMul(%r, %w2) \"a/down\"\n"
                                       "%s = Shape(%x)\n%e = Expand(%q, %s)\n%l = MatMul(%e, %w3) \"query\"\n"
                                       "%y = Mul(%d, %l)\noutput %y\n");
  PareDims *d = trace_classes(f, g, 0);
  keep_some(f, d, 3, true);
  PareGraph *tuned = pare_graph_clone(&f->c, f->arena, g);
  PareValue *w = pare_graph_find(tuned, "w3");
  float *data = pare_arena_alloc(f->arena, 36, sizeof *data);
  for (int i = 0; i < 36; i++) data[i] = (float)i / 36;
  w->data = data;
  double changed = check_cut(f, "a weight that was tuned", tuned, d, two_sizes);
  cr_expect_gt(changed, 1e-4, "masking changed the output by %g", changed);
  fix_free(f);
}

/* --- weights that follow from several constants --- */

#define COMPUTED_IN                                                                                              \
  "input %x : f32[batch=?,n=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,6] = random(2)\n"       \
  "const %a : f32[10,2] = random(3)\nconst %b : f32[2,6] = random(4)\nconst %g : f32[10,1] = random(5)\n"       \
  "const %half : f32[] = 0.5\n%h = MatMul(%x, %w1) \"up\"\n%r = Relu(%h)\n"
#define COMPUTED_OUT "%d = MatMul(%r, %w) \"down\"\n%y = Add(%x, %d)\noutput %y\n"

Test(computed, weights_are_masked_in_all_that_they_are_made_of) {
  check_text("W + A·B", COMPUTED_IN "%ab = MatMul(%a, %b)\n%s = Mul(%ab, %half)\n%w = Add(%w2, %s)\n" COMPUTED_OUT);
  check_text("A·B", COMPUTED_IN "%w = MatMul(%a, %b)\n" COMPUTED_OUT);
  check_text("W·g / g", COMPUTED_IN "%wg = Mul(%w2, %g)\n%w = Div(%wg, %g)\n" COMPUTED_OUT);
  check_text("two parts", COMPUTED_IN "const %u : f32[4,6] = random(6)\nconst %v : f32[6,6] = random(7)\n"
                                      "%w = Concat(%u, %v) {axis=0}\n" COMPUTED_OUT);
}

#define LEARNED(to4)                                                                                                 \
  "%q4 = Reshape(%q, %" to4 ")\n%k4 = Reshape(%k, %" to4 ")\n%v4 = Reshape(%v, %" to4 ")\n"                          \
  "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n%vt = Transpose(%v4) {perm=[0,2,1,3]}\n" \
  "const %i3 : i64[] = 3\n%sq = Shape(%qt)\n%dq = Gather(%sq, %i3)\n%df = Cast(%dq) {to=f32}\n%root = Sqrt(%df)\n"  \
  "%qs = Div(%qt, %root) \"a/scale\"\n%s = MatMul(%qs, %kt)\n%sm = Softmax(%s) {axis=-1}\n%o = MatMul(%sm, %vt)\n"    \
  "%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n%y = MatMul(%om, %wo) \"a/out\"\noutput %y\n"
#define LEARNED_IN                                                                                              \
  "input %x : f32[batch=?,n=?,24]\nconst %wq : f32[24,24] = random(1)\nconst %wk : f32[24,24] = random(2)\n"   \
  "const %wv : f32[24,24] = random(3)\nconst %wo : f32[24,24] = random(4)\nconst %l : f32[1,5,24] = random(5)\n" \
  "const %to4 : i64[4] = 0 0 4 6\nconst %to3 : i64[3] = 0 0 -1\nconst %i1 : i64[] = 1\nconst %m1 : i64[3] = 1 5 24\n"

/* The scale follows from the shape of the queries, and so do they in the third: all of it is known once sizes are. */
Test(computed, learned_queries_keys_and_values_are_cut_as_they_are_masked) {
  check_text_classes("queries", LEARNED_IN "%q = MatMul(%l, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n"
                                           "%v = MatMul(%x, %wv) \"a/v\"\n" LEARNED("to4"), EXACT);
  check_text_classes("keys and values", LEARNED_IN "%q = MatMul(%x, %wq) \"a/q\"\n%k = MatMul(%l, %wk) \"a/k\"\n"
                                                   "%v = MatMul(%l, %wv) \"a/v\"\n" LEARNED("to4"), EXACT);
  check_text_classes("queries for each sample",
                     LEARNED_IN "const %i0 : i64[1] = 0\nconst %tail : i64[2] = 5 24\n%sx = Shape(%x)\n"
                                "%b = Gather(%sx, %i0)\n%to = Concat(%b, %tail) {axis=0}\n%e = Expand(%l, %to)\n"
                                "%q = MatMul(%e, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n"
                                "%v = MatMul(%x, %wv) \"a/v\"\n" LEARNED("to4"), EXACT);
}

/* What is learned is a stream too: the sum that attention's result is added to. */
Test(computed, a_stream_that_begins_in_a_constant_is_cut_with_it) {
  check_text_classes("latents", LEARNED_IN "%q = MatMul(%l, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n"
                                           "%v = MatMul(%x, %wv) \"a/v\"\n"
                                           "%q4 = Reshape(%q, %to4)\n%k4 = Reshape(%k, %to4)\n%v4 = Reshape(%v, %to4)\n"
                                           "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
                                           "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n"
                                           "%sm = Softmax(%s) {axis=-1}\n%o = MatMul(%sm, %vt)\n"
                                           "%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"
                                           "%z = MatMul(%om, %wo) \"a/out\"\n%st = Add(%z, %l)\n"
                                           "const %wc : f32[24,3] = random(6)\n%y = MatMul(%st, %wc) \"b\"\noutput %y\n", EXACT);
}

/* --- numbers that are counted from constants --- */

#define COUNTED_OUT                                                                                     \
  "const %one : f32[] = 1\n%rf = Cast(%c) {to=f32}\n%scale = Div(%one, %rf)\n%hs = Mul(%h, %scale)\n" \
  "%act = Relu(%hs)\n%d = MatMul(%act, %w2) \"down\"\n%y = Add(%x, %d)\noutput %y\n"

/* A slope of each head over a root of the width of q: one is cut with the heads, the other keeps the value that it had. */
Test(counted, numbers_and_those_that_shapes_give_are_told_apart) {
  check_text_classes("slope / root", LEARNED_IN "%q = MatMul(%x, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n"
                     "%v = MatMul(%x, %wv) \"a/v\"\n"
                     "%q4 = Reshape(%q, %to4)\n%k4 = Reshape(%k, %to4)\n%v4 = Reshape(%v, %to4)\n"
                     "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
                     "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt)\n"
                     "const %five : i64[] = 5\nconst %i3 : i64[] = 3\nconst %col : i64[3] = 4 1 1\n"
                     "%n = Range(%i1, %five, %i1)\n%nf = Cast(%n) {to=f32}\n%nc = Reshape(%nf, %col)\n"
                     "%sq = Shape(%qt)\n%dq = Gather(%sq, %i3)\n%df = Cast(%dq) {to=f32}\n%root = Sqrt(%df)\n"
                     "%slope = Div(%nc, %root)\n%ss = Mul(%s, %slope)\n"
                     "%sm = Softmax(%ss) {axis=-1}\n%o = MatMul(%sm, %vt)\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n"
                     "%om = Reshape(%ot, %to3)\n%y = MatMul(%om, %wo) \"a/out\"\noutput %y\n", EXACT);
}

Test(counted, numbers_lose_what_the_cut_takes) {
  check_text("Range", COMPUTED_IN "const %r0 : i64[] = 1\nconst %r1 : i64[] = 11\n%c = Range(%r0, %r1, %r0)\n" COUNTED_OUT);
  check_text("two Ranges", COMPUTED_IN "const %r0 : i64[] = 1\nconst %r1 : i64[] = 8\nconst %r2 : i64[] = 4\n"
                                       "%ra = Range(%r0, %r1, %r0)\n%rb = Range(%r0, %r2, %r0)\n"
                                       "%c = Concat(%ra, %rb) {axis=0}\n" COUNTED_OUT);
  check_text("CumSum", COMPUTED_IN "const %ones : i64[10] = fill(1)\nconst %r0 : i64[] = 0\n%c = CumSum(%ones, %r0)\n"
                                   COUNTED_OUT);
  check_text("Range to a size that is cut",
             COMPUTED_IN "const %r0 : i64[] = 1\nconst %r1 : i64[] = 0\n%sw = Shape(%w2)\n%n = Gather(%sw, %r1)\n"
                         "%top = Add(%n, %r0)\n%c = Range(%r0, %top, %r0)\n" COUNTED_OUT);
}

Test(shapes, arithmetic_on_extreme_constants_ends_in_a_sentence) {
  static const char *const numbers[] = {"-9223372036854775808", "9223372036854775807", "-1", "0"};
  static const char *const ops[] = {"Add", "Sub", "Mul", "Div"};
  Fix fix, *f = &fix;
  fix_init(f);
  for (int op = 0; op < 4; op++)
    for (int i = 0; i < 4; i++) {
      if (op == 3 && i == 3) continue; /* nothing is divided by zero */
      /* heads = (4 - (4 op N)) + (4 op N), which is 4 where integers wrap */
      const char *middle = fmt(f, "const %%big : i64[1] = %s\n%%g = %s(%%h1, %%big)\n%%g2 = Sub(%%h1, %%g)\n"
                               "%%hh = Add(%%g2, %%g)\n%%to4 = Concat(%%b1, %%n1, %%hh, %%d1) {axis=0}\n"
                               "%%to3 = Concat(%%b1, %%n1, %%m1) {axis=0}\n", numbers[i], ops[op]);
      PareGraph *g = fix_parse(f, fmt(f, "%s%s%s", HEADS_IN, middle, HEADS_OUT("to4", "to3"))), *cut, *bound;
      PareDims *d;
      if (pare_probe_dims(&f->c, f->arena, g, 0, &bound) == PARE_OK) {
        MUST(f, pare_trace_dims(&f->c, f->arena, bound, &d));
        keep_some(f, d, 3, false);
        PareStatus s = pare_cut_dims(&f->c, f->arena, g, d, &cut);
        cr_expect(s == PARE_OK || s == PARE_UNSUPPORTED, "%s %s: %s", ops[op], numbers[i], fix_why(f));
      }
      fix_forget(f);
    }
  fix_free(f);
}
