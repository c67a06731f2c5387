/* test_emit.c - surgery on the file: what is not edited is copied byte by byte,
 * what is edited reads back as the graph that was to be written. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/emit.h"
#include "base/rng.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "support.h"

static const PareProperty provenance[] = {{"pare.version", "1.2.3"}, {"pare.note", "kept sizes"}};

static PareEmit emit_of(const PareModel *m, const PareGraph *after) {
  return (PareEmit){.file = &m->file, .before = m->graph, .after = after,
                .ninitializers = m->ninitializers, .nsparse = m->nsparse,
                    .nnodes = m->nnodes, .external = m->external.n > 0, .nproperties = 2, .properties = provenance};
}

static void emit(Fix *f, const PareEmit *e, const char *path) {
  PareStage st;
  MUST(f, pare_emit_stage(&f->c, f->arena, e, path, &st));
  MUST(f, pare_stage_commit(&f->c, &st));
  pare_stage_remove(&st);
}

static PareModel *load_hand(Fix *f, const Onnx__ModelProto *m, const char *dir) {
  size_t len;
  const uint8_t *bytes = onnx_pack(f, m, &len);
  const char *path = fmt(f, "%s/in.onnx", dir);
  write_file(path, bytes, len);
  PareModel *model;
  MUST(f, pare_model_load(&f->c, path, &model));
  return model;
}

static int entries(const char *dir) {
  DIR *d = opendir(dir);
  int n = 0;
  cr_assert(d, "%s", dir);
  while (readdir(d)) n++;
  closedir(d);
  return n - 2;
}

/* Two graphs with the same nodes read the same constants. */
static void expect_same_graph(const char *what, const PareGraph *want, const PareGraph *got) {
  const PareNode *a = want->first, *b = got->first;
  char t[PARE_TYPE_TEXT], u[PARE_TYPE_TEXT];
  size_t bytes;
  for (; a && b; a = a->next, b = b->next) {
    cr_assert(a->op == b->op && !strcmp(a->name, b->name) && a->nin == b->nin && a->nout == b->nout,
              "%s: node '%s' became '%s'", what, a->name, b->name);
    for (int k = 0; k < a->nin; k++) {
      if (!a->in[k] || a->in[k]->role != PARE_CONST) continue;
      cr_assert(b->in[k] && b->in[k]->role == PARE_CONST, "%s: '%s' input %d is no constant", what, a->name, k);
      cr_assert(pare_type_equal(&a->in[k]->type, &b->in[k]->type), "%s: '%s' input %d is %s, expected %s", what,
                a->name, k, pare_type_text(&b->in[k]->type, u), pare_type_text(&a->in[k]->type, t));
      cr_assert(pare_type_bytes(&a->in[k]->type, &bytes));
      cr_assert(!bytes || !memcmp(a->in[k]->data, b->in[k]->data, bytes), "%s: '%s' input %d ('%s') has other numbers",
                what, a->name, k, b->in[k]->name);
    }
  }
  cr_assert(!a && !b, "%s: other nodes", what);
}

/* Emits `after`, reads it back and compares; returns the model that was read. */
static PareModel *emit_and_load(Fix *f, const char *what, const PareEmit *e, const char *path) {
  PareModel *back;
  emit(f, e, path);
  cr_assert_eq(pare_model_load(&f->c, path, &back), PARE_OK, "%s: %s", what, fix_why(f));
  expect_same_graph(what, e->after, back->graph);
  return back;
}

static PareDims *trace(Fix *f, const PareGraph *g, PareGraph **bound) {
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, bound));
  MUST(f, pare_trace_dims(&f->c, f->arena, *bound, &d));
  return d;
}

/* Index i of dimension d stays when it is not a multiple of three. */
static void keep_two_thirds(Fix *f, PareDims *d) {
  for (size_t k = 0; k < d->dims.n; k++) {
    PareDim *x = &d->dims.at[k];
    if (x->kind != PARE_KIND_HEADS && x->kind != PARE_KIND_FFN && x->kind != PARE_KIND_OTHER) continue;
    bool *keep = pare_arena_alloc(f->arena, (size_t)x->count, sizeof *keep);
    for (int64_t i = 0; i < x->count; i++) keep[i] = (i + (int64_t)k) % 3 != 0 || x->count == 1;
    x->leaf->keep = keep;
  }
}

/* --- nothing changes --- */

Test(emit, an_unchanged_model_is_the_original_and_the_provenance) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  int compared = 0;
  const char *dir = dir_make(f), *out = fmt(f, "%s/out.onnx", dir);
  for (size_t i = 0, n = fixtures(f, 0, &rows); i < n; i++) {
    PareMark mark = pare_arena_mark(f->arena);
    PareModel *m;
    if (pare_model_load(&f->c, rows[i].path, &m) != PARE_OK) {
      cr_expect(rows[i].set != 'A', "%s: %s", rows[i].name, fix_why(f));
      fix_forget(f);
      continue;
    }
    PareEmit e = emit_of(m, m->graph);
    size_t before, after;
    if (!e.external) {
      emit(f, &e, out);
      const char *a = read_file(f, rows[i].path, &before), *b = read_file(f, out, &after);
      cr_expect(after > before && !memcmp(a, b, before), "%s: %zu bytes became other %zu", rows[i].name, before, after);
      cr_expect(strstr(b + before, "pare.version") || after - before < 100, "%s: no provenance", rows[i].name);
      cr_expect_lt(after - before, 100u, "%s: %zu bytes were added", rows[i].name, after - before);
      cr_expect_eq(unlink(out), 0);
      compared++;
    }
    pare_model_free(m);
    pare_arena_rewind(f->arena, mark);
  }
  cr_expect_gt(compared, 12, "only %d models", compared);
  dir_remove(dir);
  fix_free(f);
}

Test(emit, weights_in_another_file_go_to_a_file_beside_the_new_model) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f), *out = fmt(f, "%s/small.onnx", dir);
  PareModel *m;
  PareGraph *bound, *cut;
  MUST(f, pare_model_load(&f->c, fixture(f, "tinybert-sst2-extdata"), &m));
  PareEmit e = emit_of(m, m->graph);
  PareModel *back = emit_and_load(f, "unchanged", &e, out);
  cr_assert_eq(back->external.n, 1u);
  cr_expect_str_eq(back->external.at[0].location, "small.onnx.data");
  size_t whole = back->external.at[0].file.len;
  pare_model_free(back);
  PareDims *d = trace(f, m->graph, &bound);
  keep_two_thirds(f, d);
  MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
  e.after = cut;
  back = emit_and_load(f, "cut", &e, out);
  size_t less = back->external.at[0].file.len;
  cr_expect_lt(less, whole, "%zu bytes after, %zu before", less, whole);
  pare_model_free(back);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}

/* --- cut models --- */

Test(emit, a_cut_or_masked_fixture_reads_back_as_it_was_to_be) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  const char *dir = dir_make(f);
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) {
    PareMark mark = pare_arena_mark(f->arena);
    PareModel *m, *back;
    PareGraph *bound, *cut, *zero, *cut_bound;
    MUST(f, pare_model_load(&f->c, rows[i].path, &m));
    PareDims *d = trace(f, m->graph, &bound);
    keep_two_thirds(f, d);
    MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
    MUST(f, pare_zero_fan_in(&f->c, f->arena, m->graph, d, &zero));
    MUST(f, pare_probe_dims(&f->c, f->arena, cut, 0, &cut_bound));
    PareEmit e = emit_of(m, cut);
    e.before_bound = bound;
    e.after_bound = cut_bound;
    back = emit_and_load(f, rows[i].name, &e, fmt(f, "%s/cut.onnx", dir));
    cr_expect_lt(pare_model_bytes(back), pare_model_bytes(m), "%s: %zu bytes after, %zu before", rows[i].name,
                 pare_model_bytes(back), pare_model_bytes(m));
    pare_model_free(back);
    e = emit_of(m, zero);
    back = emit_and_load(f, rows[i].name, &e, fmt(f, "%s/masked.onnx", dir));
    cr_expect_geq(pare_model_bytes(back), pare_model_bytes(m), "%s: the masked model is smaller", rows[i].name);
    pare_model_free(back);
    pare_model_free(m);
    pare_arena_rewind(f->arena, mark);
  }
  dir_remove(dir);
  fix_free(f);
}

/* --- where constants may stand --- */

static const float *ramp(Fix *f, int64_t n, uint64_t seed) {
  float *v = pare_arena_alloc(f->arena, (size_t)n, sizeof *v);
  for (int64_t i = 0; i < n; i++) v[i] = (float)(2 * pare_rng_uniform(seed, (uint64_t)i) - 1);
  return v;
}

static Onnx__TensorProto *raw_f32(Fix *f, const char *name, int rank, const int64_t *dims, uint64_t seed) {
  int64_t n = 1;
  for (int i = 0; i < rank; i++) n *= dims[i];
  return onnx_tensor(f, name, 1, rank, dims, ramp(f, n, seed), (size_t)n * 4);
}

static Onnx__TensorProto *typed_f32(Fix *f, const char *name, int rank, const int64_t *dims, uint64_t seed) {
  Onnx__TensorProto *t = onnx_tensor(f, name, 1, rank, dims, NULL, 0);
  t->n_float_data = 1;
  for (int i = 0; i < rank; i++) t->n_float_data *= (size_t)dims[i];
  t->float_data = (float *)(uintptr_t)ramp(f, (int64_t)t->n_float_data, seed);
  return t;
}

/* x + down(gelu(up(x))), with each weight kept in another way. Opset 11: Split has its sizes as an attribute. */
static Onnx__ModelProto *scattered(Fix *f) {
  Onnx__ModelProto *m = onnx_model(f, 11);
  onnx_input(f, m, "x", 1, DIMS(-1, 6));
  onnx_output(f, m, "z", 1, DIMS(-1, 6));
  onnx_initializer(f, m, raw_f32(f, "w_up", DIMS(6, 12), 1));
  onnx_initializer(f, m, typed_f32(f, "b_up", DIMS(12), 2));
  onnx_attr_tensor(f, onnx_node(f, m, "Constant", "c0", "", "w_down"), "value", typed_f32(f, "", DIMS(12, 6), 3));
  onnx_attr_tensor(f, onnx_node(f, m, "Constant", "c1", "", "scale"), "value", raw_f32(f, "", DIMS(12), 4));
  Onnx__AttributeProto *a = onnx_attr(f, onnx_node(f, m, "Constant", "c2", "", "shift"), "value_floats",
                                      ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS);
  a->n_floats = 12;
  a->floats = (float *)(uintptr_t)ramp(f, 12, 5);
  onnx_node(f, m, "MatMul", "l/up", "x w_up", "h0");
  onnx_node(f, m, "Add", "l/bias", "h0 b_up", "h1");
  onnx_node(f, m, "Mul", "l/scale", "h1 scale", "h2");
  onnx_node(f, m, "Add", "l/shift", "h2 shift", "h3");
  onnx_node(f, m, "Tanh", "l/act", "h3", "h4");
  Onnx__NodeProto *split = onnx_node(f, m, "Split", "l/split", "h4", "s0 s1");
  onnx_attr_int(f, split, "axis", -1);
  onnx_attr_ints(f, split, "split", DIMS(5, 7));
  onnx_attr_int(f, onnx_node(f, m, "Concat", "l/join", "s0 s1", "h5"), "axis", -1);
  onnx_node(f, m, "MatMul", "l/down", "h5 w_down", "y");
  onnx_node(f, m, "Add", "l/sum", "x y", "z");
  onnx_output(f, m, "h1", 1, DIMS(-1, 12)); /* becomes value_info below: an output could not be cut */
  Onnx__ValueInfoProto **info = pare_arena_alloc(f->arena, 1, sizeof *info);
  info[0] = m->graph->output[--m->graph->n_output];
  m->graph->value_info = info;
  m->graph->n_value_info = 1;
  return m;
}

Test(emit, constants_are_edited_where_they_stand) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f);
  PareModel *m = load_hand(f, scattered(f), dir);
  PareGraph *bound, *cut, *cut_bound;
  PareDims *d = trace(f, m->graph, &bound);
  cr_assert_eq(d->dims.n, 2u, "%zu dimensions: the Split parts 12 into 5 and 7", d->dims.n);
  keep_two_thirds(f, d);
  MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
  MUST(f, pare_probe_dims(&f->c, f->arena, cut, 0, &cut_bound));
  PareEmit e = emit_of(m, cut);
  e.before_bound = bound;
  e.after_bound = cut_bound;
  PareModel *back = emit_and_load(f, "scattered", &e, fmt(f, "%s/out.onnx", dir));
  size_t len;
  const uint8_t *bytes = read_file(f, fmt(f, "%s/out.onnx", dir), &len);
  Onnx__ModelProto *p = onnx__model_proto__unpack(NULL, len, bytes);
  cr_assert(p && p->graph);
  Onnx__GraphProto *g = p->graph;
  cr_expect_eq(g->n_initializer, 2u, "%zu initializers: no copy was needed", g->n_initializer);
  cr_expect(g->initializer[0]->has_raw_data && g->initializer[1]->n_float_data == 8 && !g->initializer[1]->has_raw_data,
            "raw stays raw, typed stays typed");
  cr_expect(g->node[0]->attribute[0]->t->n_float_data == 48 && g->node[1]->attribute[0]->t->has_raw_data);
  cr_expect_eq(g->node[2]->attribute[0]->n_floats, 8u, "%zu value_floats", g->node[2]->attribute[0]->n_floats);
  const Onnx__AttributeProto *sizes = g->node[8]->attribute[1];
  cr_expect(sizes->n_ints == 2 && sizes->ints[0] == 3 && sizes->ints[1] == 5, "split is %d, %d: 5 keep 1, 2, 4, "
            "and 7 keep 0, 1, 3, 4, 6", (int)sizes->ints[0], (int)sizes->ints[1]);
  cr_expect_eq(g->value_info[0]->type->tensor_type->shape->dim[1]->dim_value, 8);
  cr_expect_str_eq(g->value_info[0]->type->tensor_type->shape->dim[0]->dim_param, "batch");
  onnx__model_proto__free_unpacked(p, NULL);
  pare_model_free(back);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}

Test(emit, a_constant_that_one_of_its_readers_sees_changed_is_copied_for_it) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f);
  Onnx__ModelProto *p = onnx_model(f, 17);
  onnx_input(f, p, "x", 1, DIMS(-1, 4));
  onnx_output(f, p, "z", 1, DIMS(-1, 4));
  onnx_initializer(f, p, raw_f32(f, "shared", DIMS(4), 1));
  onnx_initializer(f, p, raw_f32(f, "shared.pare1", DIMS(4), 2)); /* the first name that a copy would take */
  onnx_node(f, p, "Add", "one", "x shared", "a");
  onnx_node(f, p, "Mul", "two", "shared a", "b");
  onnx_node(f, p, "Sub", "three", "b shared.pare1", "c");
  onnx_node(f, p, "Sub", "four", "c shared", "z");
  PareModel *m = load_hand(f, p, dir);
  PareGraph *after = pare_graph_clone(&f->c, f->arena, m->graph);
  PareNode *two = after->first->next, *four = two->next->next;
  MUST(f, pare_replace_constant(&f->c, after, two, 0, two->in[0]->type, ramp(f, 4, 3)));
  four->in[1] = two->in[0];
  PareEmit e = emit_of(m, after);
  PareModel *back = emit_and_load(f, "shared", &e, fmt(f, "%s/out.onnx", dir));
  cr_expect_eq(back->ninitializers, 3u, "%zu initializers: one copy serves both readers", back->ninitializers);
  const PareNode *n = back->graph->first;
  cr_expect_str_eq(n->in[1]->name, "shared");
  cr_expect_str_eq(n->next->in[0]->name, "shared.pare2");
  cr_expect_str_eq(n->next->next->next->in[1]->name, "shared.pare2");
  pare_model_free(back);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}

Test(emit, our_own_provenance_is_replaced_and_that_of_others_kept) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f);
  Onnx__ModelProto *p = scattered(f);
  onnx_meta(f, p, "author", "someone");
  onnx_meta(f, p, "pare.version", "0.0.1");
  onnx_meta(f, p, "pare.gone", "x");
  onnx_meta(f, p, "parents", "two");
  PareModel *m = load_hand(f, p, dir);
  PareEmit e = emit_of(m, m->graph);
  emit(f, &e, fmt(f, "%s/out.onnx", dir));
  size_t len;
  const uint8_t *bytes = read_file(f, fmt(f, "%s/out.onnx", dir), &len);
  Onnx__ModelProto *q = onnx__model_proto__unpack(NULL, len, bytes);
  static const char *const want[][2] = {
      {"author", "someone"}, {"parents", "two"}, {"pare.version", "1.2.3"}, {"pare.note", "kept sizes"}};
  cr_assert_eq(q->n_metadata_props, 4u, "%zu entries", q->n_metadata_props);
  for (size_t i = 0; i < 4; i++) {
    cr_expect_str_eq(q->metadata_props[i]->key, want[i][0]);
    cr_expect_str_eq(q->metadata_props[i]->value, want[i][1]);
  }
  onnx__model_proto__free_unpacked(q, NULL);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}

/* --- the stage --- */

Test(stage, what_is_not_committed_leaves_nothing) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f), *out = fmt(f, "%s/out.onnx", dir);
  PareModel *m = load_hand(f, scattered(f), dir);
  PareEmit e = emit_of(m, m->graph);
  PareStage st;
  MUST(f, pare_emit_stage(&f->c, f->arena, &e, out, &st));
  cr_expect_eq(entries(dir), 2, "%d entries with a stage", entries(dir));
  cr_expect_eq(access(st.model, R_OK), 0, "%s is not there", st.model);
  cr_expect_neq(access(out, F_OK), 0, "%s is there before the commit", out);
  pare_stage_remove(&st);
  cr_expect_eq(entries(dir), 1, "%d entries after the abort: in.onnx alone", entries(dir));
  pare_stage_remove(&st);
  MUST(f, pare_emit_stage(&f->c, f->arena, &e, out, &st));
  MUST(f, pare_stage_commit(&f->c, &st));
  pare_stage_remove(&st);
  cr_expect_eq(entries(dir), 2, "%d entries after the commit", entries(dir));
  cr_expect_eq(access(out, R_OK), 0);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}

Test(stage, a_place_that_cannot_be_written_is_an_io_error) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f), *locked = fmt(f, "%s/locked", dir);
  PareModel *m = load_hand(f, scattered(f), dir);
  PareEmit e = emit_of(m, m->graph);
  PareStage st;
  const char *const places[] = {fmt(f, "%s/in.onnx/out.onnx", dir), fmt(f, "%s/gone/out.onnx", dir),
                                fmt(f, "%s/out.onnx", locked)};
  MUST(f, pare_dir_make(&f->c, locked));
  cr_assert_eq(chmod(locked, 0555), 0);
  for (size_t i = 0; i < 3; i++) {
    if (i == 2 && geteuid() == 0) continue; /* root may write anywhere */
    cr_expect_eq(pare_emit_stage(&f->c, f->arena, &e, places[i], &st), PARE_IO, "%s", places[i]);
    cr_expect_str_eq(f->c.diag.file, places[i]);
    pare_stage_remove(&st);
    fix_forget(f);
  }
  cr_assert_eq(chmod(locked, 0755), 0);
  cr_expect_eq(entries(locked), 0);
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}
