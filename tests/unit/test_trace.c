/* test_trace.c - which dimensions are found. Counts of the fixtures are those of
 * their index, written when they were exported; counts of the small graphs are
 * worked out by hand. */
#include <criterion/criterion.h>
#include <string.h>

#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "support.h"

static PareDims *trace(Fix *f, const PareGraph *g) {
  PareGraph *bound;
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, &bound));
  MUST(f, pare_trace_dims(&f->c, f->arena, bound, &d));
  return d;
}

/* "qkv:heads 2x536 | ..." : name, groups, parameters of one group; frozen ones with their reason. */
static const char *summary(Fix *f, const PareDims *d) {
  const char *s = "";
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *x = &d->dims.at[i];
    s = fmt(f, "%s%s%s %dx%d", s, i ? " | " : "", x->name, (int)x->count, (int)x->params);
  }
  return s;
}

static const char *frozen(Fix *f, const PareDims *d) {
  const char *s = "";
  for (size_t i = 0; i < d->frozen.n; i++)
    s = fmt(f, "%s%s%d: %s", s, i ? " | " : "", (int)d->frozen.at[i].count, d->frozen.at[i].reason);
  return s;
}

static void expect_dims(const char *text, const char *want) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareDims *d = trace(f, fix_parse(f, text));
  cr_expect_str_eq(summary(f, d), want, "found '%s', expected '%s'; frozen: %s\n%s", summary(f, d), want, frozen(f, d),
                   text);
  fix_free(f);
}

static void expect_frozen(const char *text, const char *want) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareDims *d = trace(f, fix_parse(f, text));
  cr_expect(strstr(frozen(f, d), want), "frozen: '%s', which lacks '%s'; found '%s'\n%s", frozen(f, d), want,
            summary(f, d), text);
  fix_free(f);
}

static void must_be_frozen(PareAxis *leaf, void *why) {
  cr_expect(leaf->frozen_why && !strcmp(leaf->frozen_why, why), "a part of %d is '%s', expected '%s'", (int)leaf->size,
            leaf->frozen_why ? leaf->frozen_why : "free", (const char *)why);
}

/* Every part of axis 1 of %w1 is frozen for this reason, by the node that is named. */
static void expect_w1_frozen(const char *text, const char *why, const char *by) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareDims *d = trace(f, fix_parse(f, text));
  for (const PareNode *n = d->tracer->g->first; n; n = n->next) {
    if (n->nin < 2 || !n->in[1] || strcmp(n->in[1]->name, "w1")) continue;
    PareAxis *a = pare_axis_in(d->tracer, n, 1, 1);
    pare_axis_leaves(a, must_be_frozen, (void *)(uintptr_t)why);
    while (a->kind != PARE_AXIS_LEAF) a = pare_axis_find(a->kid[0]);
    cr_expect_str_eq(a->frozen_by ? a->frozen_by->name : "nobody", by);
  }
  cr_expect_eq(d->dims.n, 0u, "found '%s'", summary(f, d));
  fix_free(f);
}

/* --- the fixtures --- */

static void count_kind(Fix *f, const PareDims *d, const Row *r, PareKind kind, int want_dims, int want_count) {
  int n = 0;
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *x = &d->dims.at[i];
    if (x->kind != kind) continue;
    n++;
    cr_expect_eq(x->count, want_count, "%s: %s has %d groups, the index says %d", r->name, x->name, (int)x->count,
                 want_count);
    cr_expect(x->members.n >= 2 && x->readers.n >= 1 && x->params > 0, "%s: %s has %zu members, %zu readers, %d params",
              r->name, x->name, x->members.n, x->readers.n, (int)x->params);
  }
  cr_expect_eq(n, want_dims, "%s: %d dimensions of kind %s, the index says %d: %s", r->name, n, pare_kind_name(kind),
               want_dims, summary(f, d));
}

Test(trace, fixtures_have_the_heads_and_channels_of_their_index) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) {
    PareModel *m;
    MUST(f, pare_model_load(&f->c, rows[i].path, &m));
    PareDims *d = trace(f, m->graph);
    /* the two layers of vespa-mlm are one set of weights: one dimension each (docs: one initializer, several uses) */
    int layers = !strcmp(rows[i].name, "vespa-mlm-transformer") ? 1 : rows[i].layers;
    count_kind(f, d, &rows[i], PARE_KIND_HEADS, layers, rows[i].heads);
    count_kind(f, d, &rows[i], PARE_KIND_FFN, layers, rows[i].ffn);
    for (size_t k = 0; k < d->dims.n; k++)
      for (size_t j = 0; j < k; j++)
        cr_expect_str_neq(d->dims.at[k].name, d->dims.at[j].name, "%s: two dimensions have one name", rows[i].name);
    pare_model_free(m);
  }
  fix_free(f);
}

Test(trace, other_probe_sizes_find_the_same_dimensions) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) {
    PareModel *m;
    MUST(f, pare_model_load(&f->c, rows[i].path, &m));
    const char *first = summary(f, trace(f, m->graph));
    PareGraph *bound;
    PareDims *d;
    MUST(f, pare_probe_dims(&f->c, f->arena, m->graph, 1, &bound));
    MUST(f, pare_trace_dims(&f->c, f->arena, bound, &d));
    cr_expect_str_eq(summary(f, d), first, "%s: '%s' and '%s'", rows[i].name, summary(f, d), first);
    pare_model_free(m);
  }
  fix_free(f);
}

/* --- attention: 2 heads of 8 on a stream of 16 --- */

#define ATTENTION_HEAD                       \
  "input %x : f32[batch=?,n=?,16]\n"         \
  "const %wqkv : f32[16,48] = random(1)\n"   \
  "const %bqkv : f32[48] = random(2)\n"      \
  "const %wo : f32[16,16] = random(3)\n"     \
  "const %to4 : i64[4] = 0 0 2 8\n"          \
  "const %to3 : i64[3] = 0 0 16\n"           \
  "%p = MatMul(%x, %wqkv) \"a/qkv\"\n"       \
  "%pb = Add(%p, %bqkv)\n"

#define ATTENTION_SPLIT_HEADS        \
  "%q4 = Reshape(%q, %to4)\n"        \
  "%k4 = Reshape(%k, %to4)\n"        \
  "%v4 = Reshape(%v, %to4)\n"        \
  "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n" \
  "%kt = Transpose(%k4) {perm=[0,2,3,1]}\n" \
  "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n"

#define ATTENTION_TAIL                       \
  "%s = MatMul(%qt, %kt)\n"                  \
  "%sm = Softmax(%s) {axis=-1}\n"            \
  "%o = MatMul(%sm, %vt)\n"                  \
  "%ot = Transpose(%o) {perm=[0,2,1,3]}\n"   \
  "%om = Reshape(%ot, %to3)\n"               \
  "%y = MatMul(%om, %wo) \"a/out\"\n"        \
  "output %y\n"

/* A head owns 16·(8+8+8) of wqkv, 24 of the bias and 8·16 of wo: 536. An index of v's width owns it in both
 * heads: 2·16 + 2 + 2·16 = 66; q's and k's width meets no weight that reads it. */
static const char attention_dims[] = "a:heads 2x536 | a:head-dim 8x66";

Test(trace, packed_qkv_parted_by_split) {
  expect_dims(ATTENTION_HEAD "%q, %k, %v = Split(%pb) {axis=2}\n" ATTENTION_SPLIT_HEADS ATTENTION_TAIL, attention_dims);
}

Test(trace, packed_qkv_parted_by_slices) {
  expect_dims(ATTENTION_HEAD
              "const %at0 : i64[1] = 0\n"
              "const %at16 : i64[1] = 16\n"
              "const %at32 : i64[1] = 32\n"
              "const %end : i64[1] = 9223372036854775807\n"
              "const %axis : i64[1] = -1\n"
              "%q = Slice(%pb, %at0, %at16, %axis)\n"
              "%k = Slice(%pb, %at16, %at32, %axis)\n"
              "%v = Slice(%pb, %at32, %end, %axis)\n" ATTENTION_SPLIT_HEADS ATTENTION_TAIL,
              attention_dims);
}

Test(trace, packed_qkv_parted_by_reshape_and_gather) {
  expect_dims(ATTENTION_HEAD
              "const %to5 : i64[5] = 0 0 3 2 8\n"
              "const %i0 : i64[] = 0\n"
              "const %i1 : i64[] = 1\n"
              "const %i2 : i64[] = 2\n"
              "%r = Reshape(%pb, %to5)\n"
              "%rt = Transpose(%r) {perm=[2,0,3,1,4]}\n"
              "%qt = Gather(%rt, %i0) {axis=0}\n"
              "%kk = Gather(%rt, %i1) {axis=0}\n"
              "%vt = Gather(%rt, %i2) {axis=0}\n"
              "%kt = Transpose(%kk) {perm=[0,1,3,2]}\n" ATTENTION_TAIL,
              /* q, k and v are one product 3 x heads x width: v's width is that of q and k, which q·k sums over */
              "a:heads 2x536");
}

/* Concat makes the axis a sum of three before Reshape makes it a product. */
Test(trace, packed_qkv_with_three_biases_joined_and_parted_by_reshape) {
  expect_dims("input %x : f32[batch=?,n=?,16]\n"
              "const %w : f32[16,48] = random(1)\n"
              "const %bq : f32[16] = random(2)\n"
              "const %bk : f32[16] = zeros\n"
              "const %bv : f32[16] = random(3)\n"
              "const %wo : f32[16,16] = random(4)\n"
              "const %to3 : i64[3] = 0 0 16\n"
              "const %to5 : i64[5] = 0 0 3 2 8\n"
              "const %i0 : i64[] = 0\n"
              "const %i1 : i64[] = 1\n"
              "const %i2 : i64[] = 2\n"
              "%b = Concat(%bq, %bk, %bv) {axis=0}\n"
              "%p = MatMul(%x, %w) \"a/qkv\"\n"
              "%pb = Add(%b, %p)\n"
              "%r = Reshape(%pb, %to5)\n"
              "%rt = Transpose(%r) {perm=[2,0,3,1,4]}\n"
              "%qt = Gather(%rt, %i0) {axis=0}\n"
              "%kk = Gather(%rt, %i1) {axis=0}\n"
              "%vt = Gather(%rt, %i2) {axis=0}\n"
              "%kt = Transpose(%kk) {perm=[0,1,3,2]}\n" ATTENTION_TAIL,
              "a:heads 2x536");
}

/* torch.nn.MultiheadAttention: [N, B·h, d] and its transposes. The batch is a name, hence a prime. */
Test(trace, heads_that_are_folded_into_the_batch) {
  expect_dims("input %x : f32[n=?,batch=?,16]\n"
              "const %wq : f32[16,16] = random(1)\n"
              "const %wk : f32[16,16] = random(2)\n"
              "const %wv : f32[16,16] = random(3)\n"
              "const %wo : f32[16,16] = random(4)\n"
              "const %two : i64[] = 2\n"
              "const %eight : i64[1] = 8\n"
              "const %i0 : i64[] = 0\n"
              "const %i1 : i64[] = 1\n"
              "const %axis0 : i64[1] = 0\n"
              "const %to3 : i64[3] = 0 -1 16\n"
              "%q = MatMul(%x, %wq) \"l/q\"\n"
              "%k = MatMul(%x, %wk) \"l/k\"\n"
              "%v = MatMul(%x, %wv) \"l/v\"\n"
              "%sh = Shape(%x)\n"
              "%n = Gather(%sh, %i0)\n"
              "%b = Gather(%sh, %i1)\n"
              "%bh = Mul(%b, %two)\n"
              "%n1 = Unsqueeze(%n, %axis0)\n"
              "%bh1 = Unsqueeze(%bh, %axis0)\n"
              "%fold = Concat(%n1, %bh1, %eight) {axis=0}\n"
              "%q3 = Reshape(%q, %fold)\n"
              "%k3 = Reshape(%k, %fold)\n"
              "%v3 = Reshape(%v, %fold)\n"
              "%qt = Transpose(%q3) {perm=[1,0,2]}\n"
              "%kt = Transpose(%k3) {perm=[1,2,0]}\n"
              "%vt = Transpose(%v3) {perm=[1,0,2]}\n"
              "%s = MatMul(%qt, %kt)\n"
              "%sm = Softmax(%s) {axis=-1}\n"
              "%o = MatMul(%sm, %vt)\n"
              "%ot = Transpose(%o) {perm=[1,0,2]}\n"
              "%back = Shape(%x)\n"
              "%om = Reshape(%ot, %back)\n"
              "%y = MatMul(%om, %wo) \"l/o\"\n"
              "output %y\n",
              /* 4 matrices of 16·8 a head; v's and o's width: 2·16 each */
              "l:heads 2x512 | l:head-dim 8x64");
}

/* --- feed-forward --- */

#define FFN_HEAD                        \
  "input %x : f32[batch=?,6]\n"         \
  "const %w1 : f32[6,10] = random(1)\n" \
  "const %b1 : f32[10] = random(2)\n"   \
  "const %w2 : f32[10,6] = random(3)\n"

Test(trace, both_ends_on_one_stream_make_ffn_and_on_two_other) {
  expect_dims(FFN_HEAD
              "%h = MatMul(%x, %w1) \"f/up\"\n%hb = Add(%h, %b1)\n%a = Gelu(%hb)\n"
              "%y = MatMul(%a, %w2) \"f/down\"\n%z = Add(%x, %y)\noutput %z\n",
              "f:ffn 10x13");
  expect_dims(FFN_HEAD
              "const %w3 : f32[10,4] = random(4)\n"
              "%h = Gemm(%x, %w1, %b1) \"f/up\"\n%a = Tanh(%h)\n%y = Gemm(%a, %w3) \"f/down\"\noutput %y\n",
              "f:other 10x11");
}

/* What nothing normalises may be cut, but is no feed-forward: 6 + 10 + 10 + 3 parameters an index. */
/* x·W + (x·A)·B on both sides: A and B have one column or row of the channels, and the rank is a dimension of its own. */
Test(trace, channels_with_lora_branches_are_ffn_and_their_ranks_are_not) {
  expect_dims("input %x : f32[batch=?,n=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,6] = random(2)\n"
              "const %a1 : f32[6,2] = random(3)\nconst %b1 : f32[2,10] = random(4)\n"
              "const %a2 : f32[10,3] = random(5)\nconst %b2 : f32[3,6] = random(6)\n"
              "%u = MatMul(%x, %w1) \"f/up\"\n%ua = MatMul(%x, %a1) \"f/upA\"\n%ub = MatMul(%ua, %b1) \"f/upB\"\n"
              "%h = Add(%ub, %u)\n%r = Relu(%h)\n%d = MatMul(%r, %w2) \"f/down\"\n"
              "%da = MatMul(%r, %a2) \"f/downA\"\n%db = MatMul(%da, %b2) \"f/downB\"\n%s = Add(%d, %db)\n"
              "%y = Add(%x, %s)\noutput %y\n",
              "f:ffn 10x17 | f:other 2x16 | f:other#2 3x16");
}

/* Linear attention over a learned memory: its width is no rank, since one weight makes both heads and width. */
Test(trace, the_width_of_heads_is_no_rank_of_a_branch) {
  expect_dims("input %x : f32[batch=?,n=?,16]\nconst %wq : f32[16,16] = random(1)\nconst %wo : f32[16,16] = random(2)\n"
              "const %kv : f32[1,2,8,8] = random(3)\nconst %to4 : i64[4] = 0 0 2 8\nconst %to3 : i64[3] = 0 0 16\n"
              "%q = MatMul(%x, %wq) \"a/q\"\n%q4 = Reshape(%q, %to4)\n%qt = Transpose(%q4) {perm=[0,2,1,3]}\n"
              "%o = MatMul(%qt, %kv) \"a/o\"\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"
              "%z = MatMul(%om, %wo) \"a/out\"\n%y = Add(%x, %z)\noutput %y\n",
              "a:other 2x320 | a:other#2 8x48 | a/o:other 8x48");
}

Test(trace, a_residual_width_is_no_ffn) {
  expect_dims("input %x : f32[batch=?,6]\n"
              "const %w0 : f32[6,8] = random(1)\n"
              "const %w1 : f32[8,10] = random(2)\n"
              "const %w2 : f32[10,8] = random(3)\n"
              "const %w3 : f32[8,3] = random(4)\n"
              "%h = MatMul(%x, %w0) \"m/stem\"\n"
              "%u = MatMul(%h, %w1) \"m/f/up\"\n%a = Gelu(%u)\n%d = MatMul(%a, %w2) \"m/f/down\"\n"
              "%r = Add(%h, %d)\n%y = MatMul(%r, %w3) \"m/head\"\noutput %y\n",
              "m:other 8x29 | m/f:ffn 10x16");
}

/* The second matrix is made by a node, so no constant has its axes: it shares none with the first. */
Test(trace, weights_that_nodes_make_share_nothing) {
  expect_dims("input %x : f32[batch=?,6]\n"
              "const %w1 : f32[6,10] = random(1)\n"
              "const %s : i64[2] = 10 10\n"
              "const %w3 : f32[10,4] = random(2)\n"
              "%w2 = ConstantOfShape(%s)\n"
              "%a = MatMul(%x, %w1) \"a/one\"\n%b = MatMul(%a, %w2) \"b/two\"\n%y = MatMul(%b, %w3) \"c/three\"\n"
              "output %y\n",
              "a/one:other 10x6 | b/two:other 10x4");
}

Test(trace, a_class_token_is_joined_on_another_axis_than_the_width) {
  expect_dims("input %x : f32[batch=?,5,6]\n"
              "const %token : f32[1,1,6] = random(5)\n"
              "const %pos : f32[1,6,6] = random(6)\n"
              "const %w1 : f32[6,10] = random(1)\n"
              "const %w2 : f32[10,6] = random(3)\n"
              "const %i0 : i64[] = 0\n"
              "const %i1 : i64[] = 1\n"
              "const %ax : i64[1] = 0\n"
              "const %one : i64[1] = 1\n"
              "const %six : i64[1] = 6\n"
              "%sh = Shape(%x)\n"
              "%b = Gather(%sh, %i0)\n"
              "%b1 = Unsqueeze(%b, %ax)\n"
              "%to = Concat(%b1, %one, %six) {axis=0}\n"
              "%tokens = Expand(%token, %to)\n"
              "%all = Concat(%tokens, %x) {axis=1}\n"
              "%p = Add(%all, %pos)\n"
              "%h = MatMul(%p, %w1) \"f/up\"\n"
              "%a = Relu(%h)\n"
              "%d = MatMul(%a, %w2) \"f/down\"\n"
              "%r = Add(%p, %d)\n"
              "%y = Gather(%r, %i0) {axis=1}\n"
              "output %y\n",
              "f:ffn 10x12");
}

/* --- classes that are found when they are asked for --- */

static void expect_classes(PareKind kind, const char *text, const char *want, const char *forbidden) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *bound;
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, fix_parse(f, text), 0, &bound));
  MUST(f, pare_trace_classes(&f->c, f->arena, bound, PARE_KIND_BIT(kind), &d));
  cr_expect_str_eq(summary(f, d), want, "found '%s', expected '%s'; frozen: %s", summary(f, d), want, frozen(f, d));
  cr_expect(strstr(frozen(f, d), forbidden), "frozen: '%s', which lacks '%s'", frozen(f, d), forbidden);
  for (size_t i = 0; i < d->dims.n; i++)
    cr_expect_eq(d->dims.at[i].exact, d->dims.at[i].kind != PARE_KIND_WIDTH, "%s", d->dims.at[i].name);
  fix_free(f);
}

/* Two feed-forwards of 10 channels on a stream of 6 that 50 tokens give. */
#define TEXT_IN                                                                                          \
  "input %ids : i64[batch=?,n=?]\nconst %e : f32[50,6] = random(1)\nconst %g : f32[6] = random(2)\n" \
  "const %w1 : f32[6,10] = random(3)\nconst %w2 : f32[10,6] = random(4)\n"                            \
  "const %w3 : f32[6,10] = random(5)\nconst %w4 : f32[10,6] = random(6)\nconst %wc : f32[6,3] = random(7)\n"
#define TEXT_LAYERS                                                                                      \
  "%na = LayerNormalization(%x, %g) \"a/norm\"\n%ha = MatMul(%na, %w1) \"a/up\"\n"                   \
  "%ya = MatMul(%ha, %w2) \"a/down\"\n%xa = Add(%x, %ya) \"a/sum\"\n"                               \
  "%nb = LayerNormalization(%xa, %g) \"b/norm\"\n%hb = MatMul(%nb, %w3) \"b/up\"\n"                  \
  "%yb = MatMul(%hb, %w4) \"b/down\"\n%xb = Add(%yb, %xa) \"b/sum\"\n"
#define TEXT_OUT "%y = MatMul(%xb, %wc) \"head\"\noutput %y\n"
#define LOOK_UP "%x = Gather(%e, %ids) {axis=0} \"emb/look\"\n"

Test(classes, a_stream_that_norms_are_taken_over_is_a_width_where_that_is_asked_for) {
  /* of each channel 50 in the table, 1 in the scale that both norms read, 10 in each of 4 weights, 3 in the last */
  expect_classes(PARE_KIND_WIDTH, TEXT_IN LOOK_UP TEXT_LAYERS TEXT_OUT,
                 "a/down:width 6x94 | a:ffn 10x12 | b:ffn 10x12", "");
  expect_classes(PARE_KIND_OTHER, TEXT_IN LOOK_UP TEXT_LAYERS TEXT_OUT, "a:ffn 10x12 | b:ffn 10x12",
                 "6: is normalised: node 'a/norm' (LayerNormalization); --prune width cuts it");
  expect_classes(PARE_KIND_WIDTH, TEXT_IN LOOK_UP TEXT_LAYERS TEXT_OUT "output %xb\n", "a:ffn 10x12 | b:ffn 10x12",
                 "6: is normalised: node 'a/norm' (LayerNormalization)");
}

Test(classes, branches_that_weigh_the_same_are_one_dimension) {
  expect_classes(PARE_KIND_DEPTH, TEXT_IN LOOK_UP TEXT_LAYERS TEXT_OUT,
                 "a:ffn 10x12 | b:ffn 10x12 | a/sum:depth 2x120", "");
  /* what a branch computes is an output: it stays, and one of a kind always does */
  expect_classes(PARE_KIND_DEPTH, TEXT_IN LOOK_UP TEXT_LAYERS TEXT_OUT "%o = Relu(%nb)\noutput %hb\n", "a:ffn 10x12", "");
}

Test(classes, a_sum_that_is_no_residual_is_no_branch) { /* siblings; GELU's x + 0.04·x³, which has no weight */
  expect_classes(PARE_KIND_DEPTH,
                 TEXT_IN LOOK_UP "const %c : f32[] = 0.04\n%ha = MatMul(%x, %w1) \"a/up\"\n%hb = MatMul(%x, %w3) \"b/up\"\n"
                 "%s = Add(%ha, %hb) \"siblings\"\n%s2 = Mul(%s, %s)\n%s3 = Mul(%s2, %s)\n%t = Mul(%s3, %c)\n"
                 "%u = Add(%s, %t) \"cube\"\n%xb = MatMul(%u, %w2) \"a/down\"\n" TEXT_OUT,
                 "a/up:other 10x18 | a/down:other 6x13", "");
}

Test(classes, tokens_are_the_rows_of_the_largest_table_that_ids_look_up) {
  expect_classes(PARE_KIND_VOCAB, TEXT_IN LOOK_UP TEXT_LAYERS TEXT_OUT, "a:ffn 10x12 | b:ffn 10x12 | emb:vocab 50x6", "");
  expect_classes(PARE_KIND_VOCAB,
                 "input %types : i64[batch=?,n=?]\nconst %et : f32[2,6] = random(9)\n" TEXT_IN
                 "%xe = Gather(%e, %ids) {axis=0} \"emb/look\"\n%xt = Gather(%et, %types) {axis=0}\n%x = Add(%xe, %xt)\n"
                 TEXT_LAYERS "%et2 = Transpose(%e) {perm=[1,0]}\n%y = MatMul(%xb, %et2) \"out/logits\"\noutput %y\n",
                 "a:ffn 10x12 | b:ffn 10x12 | emb:vocab 50x6 | y:vocab 50x6", "");
  expect_classes(PARE_KIND_VOCAB, TEXT_IN "const %one : i64[] = 1\n%k = Sub(%ids, %one) \"less\"\n"
                 "%x = Gather(%e, %k) {axis=0} \"emb/look\"\n" TEXT_LAYERS TEXT_OUT, "a:ffn 10x12 | b:ffn 10x12",
                 "no table is looked up by an input's elements alone");
  expect_classes(PARE_KIND_VOCAB, TEXT_IN LOOK_UP "const %one : i64[] = 1\n%k = Sub(%ids, %one) \"less\"\noutput %k\n"
                 TEXT_LAYERS TEXT_OUT, "a:ffn 10x12 | b:ffn 10x12", "token ids are used as numbers: node 'less' (Sub)");
}

/* --- what freezes --- */

Test(trace, a_normalised_width_is_frozen_and_the_node_is_named) {
  expect_frozen(FFN_HEAD
                "const %g : f32[10] = random(4)\n"
                "%h = MatMul(%x, %w1) \"f/up\"\n%n = LayerNormalization(%h, %g, %b1) \"f/the_norm\"\n"
                "%y = MatMul(%n, %w2) \"f/down\"\n%z = Add(%x, %y)\noutput %z\n",
                "10: is normalised: node 'f/the_norm' (LayerNormalization)");
  expect_frozen(FFN_HEAD "%h = MatMul(%x, %w1) \"f/up\"\n%n = Softmax(%h) {axis=-1} \"f/soft\"\n"
                         "%y = MatMul(%n, %w2) \"f/down\"\noutput %y\n",
                "10: is normalised: node 'f/soft' (Softmax)");
}

Test(trace, an_axis_that_is_reshaped_across_its_parts_is_frozen) {
  expect_w1_frozen("input %x : f32[batch=?,6]\n"
                   "const %w1 : f32[6,10] = random(1)\n"
                   "const %w2 : f32[15,6] = random(3)\n"
                   "const %to : i64[3] = 0 5 6\n"
                   "const %back : i64[2] = -1 15\n"
                   "%h = MatMul(%x, %w1) \"f/up\"\n"
                   "%g = MatMul(%x, %w1) \"f/up2\"\n"
                   "%k = MatMul(%x, %w1) \"f/up3\"\n"
                   "%c = Concat(%h, %g, %k) {axis=1}\n" /* 10 + 10 + 10 read as 5 x 6 */
                   "%r = Reshape(%c, %to) \"f/across\"\n"
                   "%t = Reshape(%r, %back)\n"
                   "%y = MatMul(%t, %w2) \"f/down\"\n"
                   "output %y\n",
                   "is reshaped across its parts", "f/across");
}

Test(trace, the_width_of_q_and_k_is_frozen_by_their_product) {
  expect_frozen(ATTENTION_HEAD
                "const %to5 : i64[5] = 0 0 3 2 8\n"
                "%r = Reshape(%pb, %to5)\n"
                "%rt = Transpose(%r) {perm=[2,0,3,1,4]}\n"
                "const %i0 : i64[] = 0\nconst %i1 : i64[] = 1\nconst %i2 : i64[] = 2\n"
                "%qt = Gather(%rt, %i0) {axis=0}\n"
                "%kk = Gather(%rt, %i1) {axis=0}\n"
                "%vt = Gather(%rt, %i2) {axis=0}\n"
                "%kt = Transpose(%kk) {perm=[0,1,3,2]}\n" ATTENTION_TAIL,
                "8: is summed over in a product of two activations: node 's' (MatMul)");
}

/* --- attention with learned parts: 2 heads of 8 on a stream of 16 --- */

#define LEARNED_IN                                                                                            \
  "input %x : f32[batch=?,n=?,16]\nconst %wq : f32[16,16] = random(1)\nconst %wk : f32[16,16] = random(2)\n" \
  "const %wv : f32[16,16] = random(3)\nconst %wo : f32[16,16] = random(4)\nconst %wc : f32[16,3] = random(5)\n" \
  "const %one : f32[1,5,16] = random(6)\nconst %to4 : i64[4] = 0 0 2 8\nconst %to3 : i64[3] = 0 0 16\n"
#define LEARNED_OUT                                                                                      \
  "%q4 = Reshape(%q, %to4)\n%k4 = Reshape(%k, %to4)\n%v4 = Reshape(%v, %to4)\n"                          \
  "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"                       \
  "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt) \"a/s\"\n%p = Softmax(%s) {axis=-1}\n"    \
  "%o = MatMul(%p, %vt) \"a/o\"\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"       \
  "%z = MatMul(%om, %wo) \"a/out\"\n%y = MatMul(%z, %wc) \"b\"\noutput %y\n"

/* A head owns 8 columns of 16 in the weights of q, k and v, and 8 rows in the last; an index of the width 2 of them. */
Test(trace, the_width_of_learned_queries_is_that_of_heads) {
  expect_dims(LEARNED_IN "%q = MatMul(%one, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n"
                         "%v = MatMul(%x, %wv) \"a/v\"\n" LEARNED_OUT,
              "a:heads 2x512 | a:head-dim-qk 8x64 | a:head-dim 8x64 | a/out:other 16x19");
  expect_dims(LEARNED_IN "%q = Identity(%one)\n%k = MatMul(%x, %wk) \"a/k\"\n%v = MatMul(%x, %wv) \"a/v\"\n" LEARNED_OUT,
              "a:heads 2x424 | a:head-dim-qk 8x42 | a:head-dim 8x64 | a/out:other 16x19");
}

Test(trace, heads_over_learned_keys_and_values_are_heads) {
  expect_dims(LEARNED_IN "%q = MatMul(%x, %wq) \"a/q\"\n%k = MatMul(%one, %wk) \"a/k\"\n"
                         "%v = MatMul(%one, %wv) \"a/v\"\n" LEARNED_OUT,
              "a:heads 2x512 | a:head-dim-qk 8x64 | a/o:head-dim 8x64 | a/out:other 16x19");
  /* one memory of 5 places for both heads */
  expect_dims(LEARNED_IN "const %mk : f32[8,5] = random(7)\nconst %mv : f32[5,8] = random(8)\n"
                         "%q = MatMul(%x, %wq) \"a/q\"\n%q4 = Reshape(%q, %to4)\n%qt = Transpose(%q4) {perm=[0,2,1,3]}\n"
                         "%s = MatMul(%qt, %mk) \"a/s\"\n%p = Softmax(%s) {axis=-1}\n%o = MatMul(%p, %mv) \"a/o\"\n"
                         "%ot = Transpose(%o) {perm=[0,2,1,3]}\n%om = Reshape(%ot, %to3)\n"
                         "%z = MatMul(%om, %wo) \"a/out\"\n%y = MatMul(%z, %wc) \"b\"\noutput %y\n",
              "a:heads 2x256 | a:other 8x37 | a/o:other 8x37 | a/out:other 16x19");
}

/* Slopes as for ALiBi: 1/1 and 1/2. The layers share them and yet are two dimensions. */
Test(trace, heads_that_are_scaled_by_counted_numbers_are_heads) {
  static const char *const forms[] = {
      "const %r0 : i64[] = 1\nconst %r1 : i64[] = 3\n%r = Range(%r0, %r1, %r0)\n",
      "const %ones : i64[2] = 1 1\nconst %r0 : i64[] = 0\n%r = CumSum(%ones, %r0)\n",
      "const %ones : i64[3] = 0 1 1\nconst %flat : i64[1] = -1\n%nz = NonZero(%ones)\n%r = Reshape(%nz, %flat)\n",
      "const %ones : f32[2,2] = fill(1)\nconst %a0 : i64[1] = 0\n%e = EyeLike(%ones)\n"
      "%r = ReduceSum(%e, %a0) {keepdims=0}\n",
  };
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    Fix fix, *f = &fix;
    fix_init(f);
    const char *text = fmt(f, "%s%s%s", LEARNED_IN, forms[i],
        "const %four : i64[4] = 1 2 1 1\nconst %top : f32[] = 1\n%rf = Cast(%r) {to=f32}\n"
        "%r4 = Reshape(%rf, %four)\n%slope = Div(%top, %r4)\n"
        "%q = MatMul(%x, %wq) \"a/q\"\n%k = MatMul(%x, %wk) \"a/k\"\n%v = MatMul(%x, %wv) \"a/v\"\n"
        "%q4 = Reshape(%q, %to4)\n%k4 = Reshape(%k, %to4)\n%v4 = Reshape(%v, %to4)\n"
        "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
        "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n%s = MatMul(%qt, %kt) \"a/s\"\n%ss = Mul(%s, %slope)\n"
        "%p = Softmax(%ss) {axis=-1}\n%o = MatMul(%p, %vt) \"a/o\"\n%ot = Transpose(%o) {perm=[0,2,1,3]}\n"
        "%os = Reshape(%ot, %to4)\n%om = Reshape(%os, %to3)\n%z = MatMul(%om, %wo) \"a/out\"\n"
        "%g = MatMul(%z, %wq) \"b/up\"\n%g4 = Reshape(%g, %to4)\n%gt = Transpose(%g4) {perm=[0,2,1,3]}\n"
        "%gs = Mul(%gt, %slope)\n%gb = Transpose(%gs) {perm=[0,2,1,3]}\n%gm = Reshape(%gb, %to3)\n"
        "%y = MatMul(%gm, %wc) \"b/down\"\noutput %y\n");
    PareDims *d = trace(f, fix_parse(f, text));
    const char *is = summary(f, d);
    cr_expect(strstr(is, "a:heads 2x512") && strstr(is, "b:other 2x152"), "form %zu: '%s'; frozen: %s", i, is, frozen(f, d));
    fix_free(f);
  }
}

Test(trace, counted_numbers_that_an_input_counts_freeze) {
  expect_frozen("input %x : f32[batch=?,n=?,6]\ninput %top : i64[]\nconst %w1 : f32[6,10] = random(1)\n"
                "const %w2 : f32[10,6] = random(2)\nconst %r1 : i64[] = 1\nconst %ones : i64[10] = fill(1)\n"
                "%t = Mul(%ones, %top)\nconst %r0 : i64[] = 0\n%r = CumSum(%t, %r0) \"count\"\n"
                "%rf = Cast(%r) {to=f32}\n"
                "%h = MatMul(%x, %w1) \"f/up\"\n%s = Mul(%h, %rf)\n%y = MatMul(%s, %w2) \"f/down\"\noutput %y\n",
                "10: is summed over: node 'count' (CumSum)");
}

Test(trace, what_a_classifier_with_softmax_reads_is_no_width_of_heads) {
  expect_dims("input %x : f32[batch=?,n=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,4] = random(2)\n"
              "%h = MatMul(%x, %w1) \"f/up\"\n%r = Relu(%h)\n%l = MatMul(%r, %w2) \"f/down\"\n"
              "%y = Softmax(%l) {axis=-1}\noutput %y\n",
              "f:other 10x10");
}

Test(trace, numbers_that_no_zeros_in_a_constant_make_zero_freeze_what_meets_them) {
  expect_frozen("input %x : f32[batch=?,n=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,6] = random(2)\n"
                "const %shift : f32[] = 0.5\n%h = MatMul(%x, %w1) \"f/up\"\n%w = Add(%w2, %shift)\n"
                "%y = MatMul(%h, %w) \"f/down\"\noutput %y\n",
                "10: meets computed numbers that no zeros in a constant make zero: node 'f/down' (MatMul)");
}

Test(trace, axes_without_elements_do_no_harm) {
  expect_dims("input %x : f32[batch=?,6]\n"
              "const %e : f32[4,0] = zeros\n"
              "const %none : i64[1] = 0\n"
              "%r = Reshape(%e, %none) {allowzero=1}\n"
              "%y = Relu(%x)\n"
              "output %y\noutput %r\n",
              "");
}

Test(trace, a_cumulative_sum_over_an_axis_that_is_not_known_freezes_all) {
  expect_w1_frozen("input %x : f32[batch=?,6]\ninput %axis : i64[]\n"
                   "const %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,6] = random(3)\n"
                   "%h = MatMul(%x, %w1) \"f/up\"\n%m = CumSum(%h, %axis) \"f/cum\"\n"
                   "%y = MatMul(%m, %w2) \"f/down\"\noutput %y\n",
                   "is read by an op that cannot be cut", "f/cum");
}

Test(trace, outputs_and_sums_freeze) {
  expect_frozen(FFN_HEAD "%h = MatMul(%x, %w1) \"f/up\"\n%y = MatMul(%h, %w2) \"f/down\"\noutput %h\noutput %y\n",
                "10: is an axis of the graph's output 'h'");
  expect_frozen(FFN_HEAD "const %ax : i64[1] = 1\n"
                         "%h = MatMul(%x, %w1) \"f/up\"\n%m = ReduceMean(%h, %ax) \"f/mean\"\n%c = Sub(%h, %m)\n"
                         "%y = MatMul(%c, %w2) \"f/down\"\noutput %y\n",
                "10: is averaged or summed over: node 'f/mean' (ReduceMean)");
}

Test(trace, a_slice_with_a_step_that_does_not_part_the_axis_evenly_freezes) {
  expect_w1_frozen("input %x : f32[batch=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[4,6] = random(3)\n"
                   "const %a : i64[1] = 0\nconst %e : i64[1] = 10\nconst %ax : i64[1] = 1\nconst %st : i64[1] = 3\n"
                   "%h = MatMul(%x, %w1) \"f/up\"\n%m = Slice(%h, %a, %e, %ax, %st) \"f/every_third\"\n"
                   "%y = MatMul(%m, %w2) \"f/down\"\noutput %y\n",
                   "is sliced with a step", "f/every_third");
}

Test(trace, every_other_column_is_one_of_a_pair) {
  expect_dims("input %x : f32[batch=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[5,6] = random(3)\n"
              "const %a : i64[1] = 0\nconst %b : i64[1] = 1\nconst %e : i64[1] = 10\nconst %ax : i64[1] = 1\n"
              "const %st : i64[1] = 2\n"
              "%h = MatMul(%x, %w1) \"f/up\"\n%m = Slice(%h, %a, %e, %ax, %st)\n%n = Slice(%h, %b, %e, %ax, %st)\n"
              "%g = Mul(%m, %n)\n%d = MatMul(%g, %w2) \"f/down\"\n%y = Add(%x, %d)\noutput %y\n",
              "f:ffn 5x18");
}

/* --- shared weights --- */

#define TWO_LAYERS(wa, ba, va, wb, bb, vb)                                                             \
  FFN_HEAD                                                                                             \
  "const %w3 : f32[6,10] = random(7)\nconst %w4 : f32[10,6] = random(8)\nconst %b3 : f32[10] = zeros\n" \
  "%h = MatMul(%x, %" wa ") \"l0/up\"\n%hb = Add(%h, %" ba ")\n%a = Relu(%hb)\n"                         \
  "%d = MatMul(%a, %" va ") \"l0/down\"\n%r = Add(%x, %d)\n"                                             \
  "%h2 = MatMul(%r, %" wb ") \"l1/up\"\n%hb2 = Add(%h2, %" bb ")\n%a2 = Relu(%hb2)\n"                    \
  "%d2 = MatMul(%a2, %" vb ") \"l1/down\"\n%r2 = Add(%r, %d2)\noutput %r2\n"

Test(trace, a_shared_bias_does_not_tie_two_layers) {
  expect_dims(TWO_LAYERS("w1", "b1", "w2", "w3", "b1", "w4"), "l0:ffn 10x13 | l1:ffn 10x13");
}

Test(trace, one_shared_matrix_does_not_tie_two_layers) {
  expect_dims(TWO_LAYERS("w1", "b1", "w2", "w1", "b3", "w4"), "l0:ffn 10x13 | l1:ffn 10x13");
}

Test(trace, layers_that_share_every_weight_are_one) {
  expect_dims(TWO_LAYERS("w1", "b1", "w2", "w1", "b1", "w2"), "l0/up:ffn 10x13");
}

/* --- grouped-query attention --- */

Test(trace, keys_and_values_that_several_queries_share_go_with_them) {
  Fix fix, *f = &fix;
  fix_init(f);
  /* 4 query heads of 4 on 2 key and value heads, which are repeated by Expand */
  PareDims *d = trace(f, fix_parse(f,
      "input %x : f32[batch=?,n=?,16]\n"
      "const %wq : f32[16,16] = random(1)\n"
      "const %wk : f32[16,8] = random(2)\n"
      "const %wv : f32[16,8] = random(3)\n"
      "const %wo : f32[16,16] = random(4)\n"
      "const %to4 : i64[4] = 0 0 4 4\n"
      "const %tokv : i64[5] = 0 0 2 1 4\n"
      "const %times : i64[5] = 1 1 1 2 1\n"
      "const %to3 : i64[3] = 0 0 16\n"
      "%q = MatMul(%x, %wq) \"g/q\"\n"
      "%k = MatMul(%x, %wk) \"g/k\"\n"
      "%v = MatMul(%x, %wv) \"g/v\"\n"
      "%q4 = Reshape(%q, %to4)\n"
      "%k5 = Reshape(%k, %tokv)\n"
      "%v5 = Reshape(%v, %tokv)\n"
      "%k6 = Expand(%k5, %times)\n"
      "%v6 = Expand(%v5, %times)\n"
      "%k4 = Reshape(%k6, %to4)\n"
      "%v4 = Reshape(%v6, %to4)\n"
      "%qt = Transpose(%q4) {perm=[0,2,1,3]}\n"
      "%kt = Transpose(%k4) {perm=[0,2,3,1]}\n"
      "%vt = Transpose(%v4) {perm=[0,2,1,3]}\n"
      "%s = MatMul(%qt, %kt)\n"
      "%sm = Softmax(%s) {axis=-1}\n"
      "%o = MatMul(%sm, %vt)\n"
      "%ot = Transpose(%o) {perm=[0,2,1,3]}\n"
      "%om = Reshape(%ot, %to3)\n"
      "%y = MatMul(%om, %wo) \"g/out\"\n"
      "output %y\n"));
  /* a group is a key head with its two query heads: 16·8 of wq, 16·4 of wk and wv, 8·16 of wo */
  cr_expect(strstr(summary(f, d), ":heads 2x384"), "found '%s', frozen '%s'", summary(f, d), frozen(f, d));
  /* one query of each group: 2 heads of wq and as many rows of wo */
  cr_expect(strstr(summary(f, d), ":queries 2x256"), "found '%s', frozen '%s'", summary(f, d), frozen(f, d));
  fix_free(f);
}
