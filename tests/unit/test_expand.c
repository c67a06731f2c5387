/* test_expand.c - composite ops made by hand: attributes that follow a cut or are
 * added by it, and what is refused. Numbers are judged by ONNX Runtime in
 * tests/e2e/test_composite.py and by ONNX's node tests in test_conformance.c. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "backend/emit.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "support.h"

enum { HIDDEN = 8, HEADS = 2 };

static void weight(Fix *f, Onnx__ModelProto *m, const char *name, int rank, const int64_t *dims) {
  PareType t = {PARE_F32, rank, {0}};
  size_t bytes;
  memcpy(t.dim, dims, (size_t)rank * sizeof *dims);
  cr_assert(pare_type_bytes(&t, &bytes));
  float *data = pare_arena_alloc(f->arena, bytes + 4, 1);
  fill_random(&t, data, strlen(name));
  onnx_initializer(f, m, onnx_tensor(f, name, 1, rank, dims, data, bytes));
}

static Onnx__NodeProto *ms(Onnx__NodeProto *n) {
  n->domain = "com.microsoft";
  return n;
}

/* y = Attention(x; w, b)·o, 8 wide; *node is the Attention without attributes. */
static Onnx__ModelProto *attention_model(Fix *f, Onnx__NodeProto **node) {
  Onnx__ModelProto *m = onnx_model(f, 17);
  onnx_input(f, m, "x", 1, DIMS(-1, 3, HIDDEN));
  onnx_output(f, m, "y", 1, DIMS(-1, 3, HIDDEN));
  weight(f, m, "w", DIMS(HIDDEN, 3 * HIDDEN));
  weight(f, m, "b", DIMS(3 * HIDDEN));
  weight(f, m, "o", DIMS(HIDDEN, HIDDEN));
  *node = ms(onnx_node(f, m, "Attention", "attention", "x w b", "a"));
  onnx_node(f, m, "MatMul", "out", "a o", "y");
  return m;
}

static PareModel *load(Fix *f, const Onnx__ModelProto *m, const char *dir) {
  size_t len;
  PareModel *model;
  const uint8_t *bytes = onnx_pack(f, m, &len);
  const char *path = fmt(f, "%s/in.onnx", dir);
  write_file(path, bytes, len);
  MUST(f, pare_model_load(&f->c, path, &model));
  return model;
}

/* Keeps the first half of every dimension of this kind, writes the model and reads it back. */
static Onnx__ModelProto *cut_file(Fix *f, const PareModel *m, PareKind kind, const char *path) {
  PareGraph *bound, *cut;
  PareDims *d;
  PareStage st;
  size_t len;
  int found = 0;
  MUST(f, pare_probe_dims(&f->c, f->arena, m->graph, 0, &bound));
  MUST(f, pare_trace_dims(&f->c, f->arena, bound, &d));
  for (size_t k = 0; k < d->dims.n; k++) {
    if (d->dims.at[k].kind != kind) continue;
    bool *keep = pare_arena_alloc(f->arena, (size_t)d->dims.at[k].count, 1);
    for (int64_t i = 0; i < d->dims.at[k].count / 2; i++) keep[i] = true;
    d->dims.at[k].leaf->keep = keep;
    found++;
  }
  cr_assert_eq(found, 1, "%d dimensions of the kind", found);
  MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
  PareEmit e = {.file = &m->file, .before = m->graph, .after = cut,
                .ninitializers = m->ninitializers, .nsparse = m->nsparse,
                .nnodes = m->nnodes};
  MUST(f, pare_emit_stage(&f->c, f->arena, &e, path, &st));
  MUST(f, pare_stage_commit(&f->c, &st));
  pare_stage_remove(&st);
  const uint8_t *bytes = read_file(f, path, &len);
  Onnx__ModelProto *back = onnx__model_proto__unpack(NULL, len, bytes);
  cr_assert(back, "the file cannot be unpacked");
  return back;
}

static const Onnx__AttributeProto *attr(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (!strcmp(n->attribute[i]->name, name)) return n->attribute[i];
  return NULL;
}

static void expect_attention(const Onnx__ModelProto *m, int64_t heads, const int64_t *sizes, int64_t width) {
  const Onnx__NodeProto *n = m->graph->node[0];
  const Onnx__AttributeProto *h = attr(n, "num_heads"), *s = attr(n, "qkv_hidden_sizes");
  cr_expect(h && h->i == heads, "num_heads is %lld, expected %lld", h ? (long long)h->i : -1, (long long)heads);
  cr_expect_eq(s != NULL, sizes != NULL, "qkv_hidden_sizes %s there", s ? "is" : "is not");
  for (size_t i = 0; s && sizes && i < 3; i++)
    cr_expect(s->n_ints == 3 && s->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS && s->ints[i] == sizes[i],
              "size %zu is %lld, expected %lld", i, (long long)s->ints[i], (long long)sizes[i]);
  cr_expect_eq(m->graph->initializer[0]->dims[1], width, "w has %lld columns, expected %lld",
               (long long)m->graph->initializer[0]->dims[1], (long long)width);
}

/* Attention of com.microsoft: columns of w are q, k and v, equal unless qkv_hidden_sizes says otherwise. */
static void check_cut(PareKind kind, bool written, int64_t heads, const int64_t *sizes, int64_t width) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__NodeProto *n;
  Onnx__ModelProto *p = attention_model(f, &n);
  onnx_attr_int(f, n, "num_heads", HEADS);
  if (written) onnx_attr_ints(f, n, "qkv_hidden_sizes", 3, (int64_t[]){HIDDEN, HIDDEN, HIDDEN});
  const char *dir = dir_make(f), *path = fmt(f, "%s/out.onnx", dir);
  PareModel *m = load(f, p, dir), *again;
  Onnx__ModelProto *back = cut_file(f, m, kind, path);
  expect_attention(back, heads, sizes, width);
  MUST(f, pare_model_load(&f->c, path, &again));
  PareGraph *bound;
  MUST(f, pare_probe_dims(&f->c, f->arena, again->graph, 0, &bound));
  onnx__model_proto__free_unpacked(back, NULL);
  pare_model_free(again);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}

Test(expand, heads_that_go_leave_num_heads_and_nothing_else) { check_cut(PARE_KIND_HEADS, false, 1, NULL, 12); }
Test(expand, heads_that_go_change_the_sizes_that_are_written_down) {
  check_cut(PARE_KIND_HEADS, true, 1, (int64_t[]){4, 4, 4}, 12);
}
Test(expand, a_narrower_v_gets_sizes_that_the_file_did_not_have) {
  check_cut(PARE_KIND_HEAD_DIM, false, 2, (int64_t[]){8, 8, 4}, 20);
}

/* --- what is refused --- */

/* Loading or binding ends in a failure of the user's kind, with a sentence that holds `part`. */
static void expect_refused(Fix *f, const Onnx__ModelProto *m, const char *part) {
  size_t len;
  PareModel *model = NULL;
  PareGraph *bound;
  const uint8_t *bytes = onnx_pack(f, m, &len);
  PareStatus s = pare_model_load_bytes(&f->c, "made.onnx", bytes, len, &model);
  if (s == PARE_OK) s = pare_probe_dims(&f->c, f->arena, model->graph, 0, &bound);
  cr_expect(s == PARE_FORMAT || s == PARE_UNSUPPORTED, "status %d (%s), wanted '%s'", s, fix_why(f), part);
  cr_expect(strstr(fix_why(f), part) && strstr(fix_why(f), "attention"), "'%s' does not say '%s'", fix_why(f), part);
  pare_model_free(model);
  fix_forget(f);
}

Test(expand, numbers_of_heads_that_are_no_sizes_are_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const struct {
    int64_t heads;
    const char *part;
  } bad[] = {{0, "is 0"},           {-1, "is -1"}, {INT64_MIN, "no size"},
             {INT64_MAX, "no size"}, {3, "apart"},  {1 << 30, "apart"}};
  Onnx__NodeProto *n;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    Onnx__ModelProto *m = attention_model(f, &n);
    onnx_attr_int(f, n, "num_heads", bad[i].heads);
    expect_refused(f, m, bad[i].part);
  }
  expect_refused(f, attention_model(f, &n), "'num_heads' is missing");
  Onnx__ModelProto *m = attention_model(f, &n);
  onnx_attr(f, n, "num_heads", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  expect_refused(f, m, "holds no integers");
  fix_free(f);
}

Test(expand, sizes_of_q_k_and_v_that_do_not_fit_are_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const struct {
    int n;
    int64_t size[17];
    const char *part;
  } bad[] = {{2, {8, 16}, "has not three"},     {3, {8, 8, 9}, "Split"},
             {3, {8, 8, -8}, "no size"},        {3, {INT32_MAX, INT32_MAX, INT32_MAX}, "Split"},
             {0, {0}, "has not three"},         {17, {1}, "holds no integers"},
             {3, {7, 9, 8}, "apart"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    Onnx__NodeProto *n;
    Onnx__ModelProto *m = attention_model(f, &n);
    onnx_attr_int(f, n, "num_heads", HEADS);
    onnx_attr_ints(f, n, "qkv_hidden_sizes", bad[i].n, bad[i].size);
    expect_refused(f, m, bad[i].part);
  }
  fix_free(f);
}

/* Inputs of the node under test: "x" [batch,3,8], "flat" [8], "wide" [1,1,1,8], "w" [8,24], "none" is left out. */
Test(expand, inputs_of_the_wrong_rank_or_left_out_are_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const struct {
    const char *op, *inputs, *part;
  } bad[] = {{"Attention", "flat w", "rank 1 instead of 3"},
             {"Attention", "x x", "no constant matrix"},
             {"Attention", "x flat", "no constant matrix"},
             {"Attention", "x", "input 1 is missing"},
             {"Attention", "_ w", "input 0 is missing"},
             {"Attention", "x w _ wide", "not of rank 1, 2 or 3"},
             {"Attention", "x w _ _ flat", "rank 1 instead of 5"},
             {"Attention", "x w _ _ _ _ flat", "not supported"},
             {"Attention", "x w _ _ _ _ _ flat", "do not fit"},
             {"MultiHeadAttention", "x x flat", "ranks 3, 3 and 1"},
             {"MultiHeadAttention", "x _ x", "input 1 is missing"},
             {"MultiHeadAttention", "five", "input 0 of rank 5"},
             {"MultiHeadAttention", "x five", "input 1 of rank 5"},
             {"MultiHeadAttention", "wide wide wide", "ranks 4"},
             {"MultiHeadAttention", "x x x flat", ""},
             {"MultiHeadAttention", "x wide wide flat", "a bias beside"},
             {"MultiHeadAttention", "x x x _ wide", "not of rank 1, 2 or 3"},
             {"SkipLayerNormalization", "x x", "input 2 is missing"},
             {"SkipLayerNormalization", "x x w", ""},
             {"BiasGelu", "x w", ""},
             {"FusedGemm", "w w", "'activation'"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    Onnx__ModelProto *m = onnx_model(f, 17);
    onnx_input(f, m, "x", 1, DIMS(-1, 3, HIDDEN));
    onnx_output(f, m, "y", 1, DIMS(-1, 3, HIDDEN));
    weight(f, m, "flat", DIMS(HIDDEN));
    weight(f, m, "wide", DIMS(1, 1, 1, HIDDEN));
    weight(f, m, "five", DIMS(1, 1, 1, 3, HIDDEN));
    weight(f, m, "w", DIMS(HIDDEN, 3 * HIDDEN));
    Onnx__NodeProto *n = ms(onnx_node(f, m, bad[i].op, "attention", bad[i].inputs, "y"));
    if (strstr(bad[i].op, "Attention")) onnx_attr_int(f, n, "num_heads", HEADS);
    expect_refused(f, m, bad[i].part);
  }
  fix_free(f);
}

/* The standard's ops; attributes are "name=number", inputs as above and "ids" i64[batch,3]. */
Test(expand, functions_of_the_standard_refuse_what_they_cannot_take) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const struct {
    const char *op, *inputs, *attrs, *part;
  } bad[] = {{"Attention", "x x x", "", "'q_num_heads' is missing"},
             {"Attention", "x x x", "q_num_heads=2", "'kv_num_heads' is missing"},
             {"Attention", "x x x", "q_num_heads=2 kv_num_heads=0", "no size"},
             {"Attention", "x x x", "q_num_heads=3 kv_num_heads=3", "apart"},
             {"Attention", "x x x", "q_num_heads=2 kv_num_heads=4", ""}, /* fewer than the heads that share */
             {"Attention", "x x x", "q_num_heads=4 kv_num_heads=2", ""}, /* widths 2 and 4 */
             {"Attention", "x x wide", "q_num_heads=2 kv_num_heads=2", "ranks 3, 3 and 4"},
             {"Attention", "wide wide wide", "q_num_heads=1 kv_num_heads=1", "which are apart"},
             {"Attention", "x x x _ wide", "q_num_heads=2 kv_num_heads=2", "one half of the past"},
             {"Attention", "x x x _ x x", "q_num_heads=2 kv_num_heads=2", "rank 3 instead of 4"},
             {"Attention", "x x x flat", "q_num_heads=2 kv_num_heads=2", ""},
             {"Attention", "x x x", "q_num_heads=2 kv_num_heads=2 softmax_precision=7", "softmax_precision"},
             {"Attention", "x x x", "q_num_heads=2 kv_num_heads=2 softmax_precision=-5", "softmax_precision"},
             {"Attention", "x x x", "q_num_heads=2 kv_num_heads=2 left_window_size=-3", "window"},
             {"RMSNormalization", "x flat", "axis=5", "out of range"},
             {"RMSNormalization", "x flat", "axis=-9", "out of range"},
             {"RMSNormalization", "x flat", "axis=-5", ""},
             {"RotaryEmbedding", "x w w ids", "", "'num_heads' is missing"},
             {"RotaryEmbedding", "x w w ids", "num_heads=3", "heads"},
             {"RotaryEmbedding", "x w w ids", "num_heads=2 rotary_embedding_dim=3", "odd or negative"},
             {"RotaryEmbedding", "x w w ids", "num_heads=2 rotary_embedding_dim=-2", "odd or negative"},
             {"RotaryEmbedding", "x w w ids", "num_heads=2", ""}, /* tables of another width */
             {"RotaryEmbedding", "x w w x", "num_heads=2", "rank 3 instead of 2"},
             {"RotaryEmbedding", "flat w w ids", "num_heads=2", "rank 1"},
             {"GroupNormalization", "x flat flat", "", "'num_groups' is missing"},
             {"GroupNormalization", "x flat flat", "num_groups=2", ""}, /* three channels */
             {"GroupNormalization", "x w w", "num_groups=3", "rank 2 instead of 1"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    Onnx__ModelProto *m = onnx_model(f, 23);
    onnx_input(f, m, "x", 1, DIMS(-1, 3, HIDDEN));
    onnx_input(f, m, "ids", 7, DIMS(-1, 3));
    onnx_output(f, m, "y", 1, DIMS(-1, 3, HIDDEN));
    weight(f, m, "flat", DIMS(HIDDEN));
    weight(f, m, "wide", DIMS(1, 1, 1, HIDDEN));
    weight(f, m, "w", DIMS(HIDDEN, 3 * HIDDEN));
    Onnx__NodeProto *n = onnx_node(f, m, bad[i].op, "attention", bad[i].inputs, "y");
    char name[40];
    int value, len;
    for (const char *p = bad[i].attrs; sscanf(p, " %39[^=]=%d%n", name, &value, &len) == 2; p += len)
      onnx_attr_int(f, n, name, value);
    expect_refused(f, m, bad[i].part);
  }
  fix_free(f);
}

Test(expand, what_an_expansion_does_not_know_is_named) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__NodeProto *n;
  Onnx__ModelProto *m = attention_model(f, &n);
  onnx_attr_int(f, n, "num_heads", HEADS);
  onnx_attr_int(f, n, "surprise", 1);
  expect_refused(f, m, "'surprise' is not supported");
  m = attention_model(f, &n);
  onnx_attr_int(f, n, "num_heads", HEADS);
  onnx_attr_int(f, n, "do_rotary", 1);
  expect_refused(f, m, "rotary");
  m = onnx_model(f, 17);
  onnx_input(f, m, "x", 1, DIMS(-1, 3, HIDDEN));
  onnx_output(f, m, "y", 1, DIMS(-1, 3, HIDDEN));
  weight(f, m, "w", DIMS(HIDDEN));
  ms(onnx_node(f, m, "SkipSimplifiedLayerNormalization", "attention", "x x w", "y mean"));
  expect_refused(f, m, "output 1 ('mean')");
  m = onnx_model(f, 17);
  onnx_input(f, m, "c", 9, DIMS(1));
  onnx_output(f, m, "y", 1, DIMS(-1));
  onnx_node(f, m, "Loop", "attention", "_ c", "y");
  expect_refused(f, m, "a graph of its own");
  fix_free(f);
}

Test(expand, memory_may_run_out_anywhere) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__NodeProto *n;
  Onnx__ModelProto *p = attention_model(f, &n);
  onnx_attr_int(f, n, "num_heads", HEADS);
  size_t len, k = 0;
  const uint8_t *bytes = onnx_pack(f, p, &len);
  PareStatus s = PARE_NOMEM;
  while (s != PARE_OK && ++k < 1000) {
    PareModel *m;
    pare_arena_fail_after(f->c.scratch, k);
    s = pare_model_load_bytes(&f->c, "m.onnx", bytes, len, &m);
    cr_expect(s == PARE_OK || s == PARE_NOMEM || s == PARE_FORMAT, "allocation %zu: status %d", k, s);
    if (s == PARE_OK) pare_model_free(m);
    fix_forget(f);
  }
  pare_arena_fail_after(f->c.scratch, 0);
  cr_expect_gt(k, 5u, "only %zu allocations", k);
  fix_free(f);
}
