/* test_cut.c - cutting equals masking, of whole models: the cut graph against the uncut one with its dead fan-in zeroed. */
#include <criterion/criterion.h>
#include <string.h>

#include "cut_check.h"
#include "passes/edit.h"

static const int64_t one_sample[2][2] = {{1, 9}, {1, 14}};

static void check_fixture_classes(Fix *f, const Row *row, uint64_t seed, bool every_kind, unsigned kinds) {
  PareModel *m;
  PareMark mark = pare_arena_mark(f->arena);
  MUST(f, pare_model_load(&f->c, row->path, &m));
  PareDims *d = trace_classes(f, m->graph, kinds);
  keep_some(f, d, seed, every_kind);
  const char *name = fmt(f, "%s, seed %d%s", row->name, (int)seed, every_kind ? ", every kind" : "");
  double changed = check_cut(f, name, m->graph, d, row->set == 'A' ? two_sizes : one_sample);
  /* the logits of torchvision's untrained head are zero whatever comes before; a stream of width 2 is
   * normalised to (1, -1) or (-1, 1) whatever it holds */
  bool deaf = !strncmp(row->name, "torchvision", 11) || !strcmp(row->name, "distilbert-tiny-optimum");
  cr_expect(changed > 1e-4 || deaf, "%s: masking changed the outputs by %g", name, changed);
  pare_model_free(m);
  pare_arena_rewind(f->arena, mark);
}

static void check_fixture(Fix *f, const Row *row, uint64_t seed, bool every_kind) {
  check_fixture_classes(f, row, seed, every_kind, 0);
}

Test(cut, of_every_fixture_equals_its_masked_form_at_two_sizes) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++)
    for (uint64_t seed = 1; seed <= 3; seed++) check_fixture(f, &rows[i], seed, false);
  fix_free(f);
}

Test(cut, of_every_dimension_that_is_found_equals_its_masked_form) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) check_fixture(f, &rows[i], 7, true);
  fix_free(f);
}

Test(cut, of_q_and_k_and_of_whole_branches_equals_their_masked_form) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++)
    for (uint64_t seed = 1; seed <= 2; seed++) check_fixture_classes(f, &rows[i], seed, true, EXACT);
  fix_free(f);
}

/* As ONNX Runtime fuses them: the sum of a branch stands inside of an op. */
Test(cut, of_branches_whose_sum_is_part_of_an_op_equals_their_masked_form) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char *const names[] = {"tinybert-sst2-ortpy-fused", "deit-fashion-ortpy-fused"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Row row = {.name = names[i], .path = fixture(f, names[i]), .set = 'A'};
    for (uint64_t seed = 1; seed <= 3; seed++) check_fixture_classes(f, &row, seed, true, EXACT);
  }
  fix_free(f);
}

/* Weights in f16 and, behind DequantizeLinear, in 8 bits. */
Test(cut, of_half_and_quantised_fixtures_equals_their_masked_form) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char *const names[] = {"tinybert-sst2-ts-op17-fp16", "tinybert-sst2-ort-qdq", "deit-fashion-ort-qdq",
                                      "tinybert-sst2-ort-dynint8"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Row row = {.name = names[i], .path = fixture(f, names[i]), .set = 'A'};
    for (uint64_t seed = 1; seed <= 3; seed++) check_fixture(f, &row, seed, seed == 3);
    check_fixture_classes(f, &row, 4, true, EXACT);
  }
  fix_free(f);
}

/* Harder exports, with a batch of 1 baked in. */
Test(cut, of_fixtures_of_set_b_that_run_equals_their_masked_form) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char *const names[] = {"metrocast-excelformer-dynamo", "tfbert-qa-keras2onnx"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Row row = {.name = names[i], .path = fixture(f, names[i]), .set = 'B'};
    for (uint64_t seed = 1; seed <= 3; seed++) check_fixture(f, &row, seed, false);
  }
  fix_free(f);
}

Test(cut, of_nothing_is_the_same_graph) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) {
    PareModel *m;
    PareGraph *cut;
    MUST(f, pare_model_load(&f->c, rows[i].path, &m));
    PareDims *d = trace_classes(f, m->graph, 0);
    for (int all = 0; all < 2; all++) {
      for (size_t k = 0; all && k < d->dims.n; k++) { /* keep sets that keep everything */
        bool *keep = pare_arena_alloc(f->arena, (size_t)d->dims.at[k].count, sizeof *keep);
        memset(keep, true, (size_t)d->dims.at[k].count);
        d->dims.at[k].leaf->keep = keep;
      }
      MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
      cr_expect_eq(cut->values.n, m->graph->values.n, "%s: %zu values, %zu before", rows[i].name, cut->values.n,
                   m->graph->values.n);
      const PareNode *a = m->graph->first, *b = cut->first;
      for (; a && b; a = a->next, b = b->next)
        for (int k = 0; k < a->nin; k++)
          if (a->in[k])
            cr_expect(a->in[k]->id == b->in[k]->id && a->in[k]->data == b->in[k]->data, "%s: input %d of '%s' differs",
                      rows[i].name, k, a->name);
      cr_expect(!a && !b);
    }
    pare_model_free(m);
  }
  fix_free(f);
}
