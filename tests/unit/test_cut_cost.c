/* test_cut_cost.c - what a cut graph costs, told from axes, is what it costs once it is cut; and which classes' groups
 * own the same elements. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/stat.h>

#include "api/cut_cost.h"
#include "api/frame.h"
#include "backend/emit.h"
#include "base/rng.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "support.h"

/* All classes that need nobody to say what stays. */
enum { ALL = PARE_KIND_BIT(PARE_KIND_HEAD_DIM) | PARE_KIND_BIT(PARE_KIND_WIDTH) | PARE_KIND_BIT(PARE_KIND_DEPTH) };

static PareDims *trace(Fix *f, const PareGraph *g, unsigned kinds) {
  PareGraph *bound;
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, &bound));
  MUST(f, pare_trace_classes(&f->c, f->arena, bound, kinds, &d));
  return d;
}

/* About half of every dimension, one at least; seed 0: everything. */
static void keep_half(Fix *f, PareDims *d, uint64_t seed) {
  for (size_t i = 0; i < d->dims.n; i++) {
    PareDim *x = &d->dims.at[i];
    bool *keep = pare_arena_alloc(f->arena, (size_t)x->count, sizeof *keep);
    for (int64_t k = 0; k < x->count; k++)
      keep[k] = !seed || k == 0 || pare_rng_uniform(seed * 100 + i, (uint64_t)k) < 0.5;
    x->leaf->keep = keep;
  }
}

static void check_costs(Fix *f, const char *name, const PareGraph *g, const PareDims *d, const int64_t sizes[2]) {
  PareGraph *cut, *sized = bound_at(f, g, 2, sizes);
  PareWeights want, got;
  double macs;
  MUST(f, pare_cut_dims(&f->c, f->arena, g, d, &cut));
  MUST(f, pare_drop_branches(&f->c, cut, d));
  MUST(f, pare_graph_weights(&f->c, cut, &want));
  MUST(f, pare_cut_weights(&f->c, d, &got));
  MUST(f, pare_cut_macs(&f->c, d, sized, &macs));
  cr_expect(want.params == got.params && want.bytes == got.bytes,
            "%s: %lld parameters in %lld bytes, the cut graph has %lld in %lld", name, (long long)got.params,
            (long long)got.bytes, (long long)want.params, (long long)want.bytes);
  double works = (double)pare_graph_macs(bound_at(f, cut, 2, sizes));
  cr_expect_eq(macs, works, "%s: %.0f MACs, the cut graph has %.0f", name, macs, works);
}

static void check_fixture(Fix *f, const char *name, const char *path, unsigned kinds) {
  static const int64_t sizes[2] = {2, 9};
  PareModel *m;
  PareMark mark = pare_arena_mark(f->arena);
  MUST(f, pare_model_load(&f->c, path, &m));
  PareDims *d = trace(f, m->graph, kinds);
  for (uint64_t seed = 0; seed < 3; seed++) {
    keep_half(f, d, seed);
    check_costs(f, fmt(f, "%s, classes %x, seed %d", name, kinds, (int)seed), m->graph, d, sizes);
  }
  pare_model_free(m);
  pare_arena_rewind(f->arena, mark);
}

Test(cut_cost, of_every_fixture_is_that_of_the_graph_once_it_is_cut) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  for (size_t i = 0, n = fixtures(f, 'A', &rows); i < n; i++) {
    check_fixture(f, rows[i].name, rows[i].path, 0);
    check_fixture(f, rows[i].name, rows[i].path, ALL);
  }
  static const char *const others[] = {"tinybert-sst2-ortpy-fused", "deit-fashion-ortpy-fused", "tinybert-sst2-ort-qdq",
                                       "tinybert-sst2-ts-op17-fp16"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) check_fixture(f, others[i], fixture(f, others[i]), ALL);
  fix_free(f);
}

/* A stream of 6 that 50 tokens give, two feed-forwards of 10 channels on it, a head of 3. */
static const char text[] =
    "input %ids : i64[batch=?,n=?]\nconst %e : f32[50,6] = random(1)\nconst %g : f32[6] = random(2)\n"
    "const %w1 : f32[6,10] = random(3)\nconst %w2 : f32[10,6] = random(4)\n"
    "const %w3 : f32[6,10] = random(5)\nconst %w4 : f32[10,6] = random(6)\nconst %wc : f32[6,3] = random(7)\n"
    "%x = Gather(%e, %ids) {axis=0} \"emb/look\"\n"
    "%na = LayerNormalization(%x, %g) \"a/norm\"\n%ha = MatMul(%na, %w1) \"a/up\"\n"
    "%ya = MatMul(%ha, %w2) \"a/down\"\n%xa = Add(%x, %ya) \"a/sum\"\n"
    "%nb = LayerNormalization(%xa, %g) \"b/norm\"\n%hb = MatMul(%nb, %w3) \"b/up\"\n"
    "%yb = MatMul(%hb, %w4) \"b/down\"\n%xb = Add(%yb, %xa) \"b/sum\"\n%y = MatMul(%xb, %wc) \"head\"\noutput %y\n";

/* As if the file had the constants as initializers. */
static void number(PareGraph *g) {
  for (size_t i = 0; i < g->values.n; i++)
    if (g->values.at[i]->role == PARE_CONST)
      g->values.at[i]->origin = (PareOrigin){PARE_ORIGIN_INITIALIZER, (uint32_t)i, NULL, 0};
}

static PareDim *find(const PareDims *d, const char *name) {
  for (size_t i = 0; i < d->dims.n; i++)
    if (!strcmp(d->dims.at[i].name, name)) return &d->dims.at[i];
  cr_assert_fail("there is no dimension '%s'", name);
  return NULL;
}

static void keep_first(Fix *f, PareDim *x, int64_t n) {
  bool *keep = pare_arena_alloc(f->arena, (size_t)x->count, sizeof *keep);
  for (int64_t k = 0; k < x->count; k++) keep[k] = k < n;
  x->leaf->keep = keep;
}

/* Of w channels of the stream, c and e of the feed-forwards, T tokens in all, and a branch or two. */
Test(cut_cost, of_a_small_graph_is_the_sum_of_its_products) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, text);
  const int64_t sizes[2] = {2, 7}, T = 2 * 7;
  number(g);
  PareDims *d = trace(f, g, ALL);
  for (int64_t w = 1; w <= 6; w += 5)
    for (int64_t c = 2; c <= 10; c += 4)
      for (int64_t e = 1; e <= 9; e += 4)
        for (int both = 0; both < 2; both++) {
          PareWeights got;
          double macs;
          keep_first(f, find(d, "a/down:width"), w);
          keep_first(f, find(d, "a:ffn"), c);
          keep_first(f, find(d, "b:ffn"), e);
          keep_first(f, find(d, "a/sum:depth"), 1 + both); /* the second goes, and its channels with it */
          int64_t channels = c + both * e, params = 50 * w + w + 2 * w * channels + 3 * w;
          MUST(f, pare_cut_weights(&f->c, d, &got));
          MUST(f, pare_cut_macs(&f->c, d, bound_at(f, g, 2, sizes), &macs));
          const char *what = fmt(f, "width %d, channels %d and %d, %d branches", (int)w, (int)c, (int)e, 1 + both);
          cr_expect_eq(got.params, params, "%s: %lld parameters, expected %lld", what, (long long)got.params,
                       (long long)params);
          cr_expect_eq(got.bytes, 4 * params, "%s: %lld bytes", what, (long long)got.bytes);
          cr_expect_eq(macs, (double)(T * w * (2 * channels + 3)), "%s: %.0f MACs", what, macs);
        }
  fix_free(f);
}

static bool overlap_in(Fix *f, const PareDims *d, unsigned kinds, bool weights) {
  bool *pruned = PARE_NEW_N(f->arena, d->dims.n + 1, bool), out;
  for (size_t i = 0; i < d->dims.n; i++) pruned[i] = kinds & PARE_KIND_BIT(d->dims.at[i].kind);
  MUST(f, pare_dims_overlap(&f->c, d, pruned, weights, &out));
  return out;
}
static bool overlap(Fix *f, const PareDims *d, unsigned kinds) { return overlap_in(f, d, kinds, true); }

Test(cut_cost, adds_up_unless_groups_own_the_same_elements) {
  static const struct {
    unsigned kinds;
    bool overlaps;
  } row[] = {
#define K(k) PARE_KIND_BIT(PARE_KIND_##k)
      {K(HEADS) | K(FFN), false},          {K(HEADS) | K(HEAD_DIM), true}, {K(FFN) | K(HEAD_DIM), false},
      {K(WIDTH), false},                   {K(WIDTH) | K(FFN), true},      {K(DEPTH), false},
      {K(DEPTH) | K(FFN), true},
#undef K
  };
  Fix fix, *f = &fix;
  fix_init(f);
  static const char *const names[] = {"tinybert-sst2-ts-op17", "deit-fashion-ts-op17-dyn", "deit-fashion-ortpy-fused"};
  for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
    PareModel *m;
    MUST(f, pare_model_load(&f->c, fixture(f, names[k]), &m));
    PareDims *d = trace(f, m->graph, ALL);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
      cr_expect_eq(overlap(f, d, row[i].kinds), row[i].overlaps, "%s: classes %x %s", names[k], row[i].kinds,
                   row[i].overlaps ? "overlap" : "do not overlap");
    pare_model_free(m);
  }
  fix_free(f);
}

/* Parts of one axis of one weight, side by side, share nothing. */
Test(cut_cost, adds_up_where_two_dimensions_stand_side_by_side_in_one_weight) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f,
      "input %x : f32[batch=?,6]\nconst %w : f32[6,20] = random(1)\nconst %a : f32[12,6] = random(2)\n"
      "const %b : f32[8,6] = random(3)\nconst %parts : i64[2] = 12 8\n%h = MatMul(%x, %w) \"up\"\n"
      "%p, %q = Split(%h, %parts) {axis=-1} \"apart\"\n%rp = Relu(%p)\n%rq = Tanh(%q)\n%yp = MatMul(%rp, %a) \"pa\"\n"
      "%yq = MatMul(%rq, %b) \"qb\"\n%s = Add(%x, %yp)\n%y = Add(%s, %yq)\noutput %y\n");
  PareDims *d = trace(f, g, 0);
  cr_assert_eq(d->dims.n, 2u, "%zu dimensions", d->dims.n);
  cr_expect_not(overlap(f, d, ~0u));
  fix_free(f);
}

/* A bias that an exporter has merged: two layers lose a channel of it, and the file has two of them then. */
Test(cut_cost, of_weights_does_not_add_up_where_layers_share_one) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f,
      "input %x : f32[batch=?,6]\nconst %w1 : f32[6,10] = random(1)\nconst %w2 : f32[10,6] = random(2)\n"
      "const %w3 : f32[6,10] = random(3)\nconst %w4 : f32[10,6] = random(4)\nconst %b : f32[10] = random(5)\n"
      "%h = MatMul(%x, %w1) \"up\"\n%hb = Add(%h, %b)\n%r = Relu(%hb)\n%y = MatMul(%r, %w2) \"down\"\n"
      "%s = Add(%x, %y)\n%k = MatMul(%s, %w3) \"up2\"\n%kb = Add(%k, %b)\n%q = Relu(%kb)\n"
      "%z = MatMul(%q, %w4) \"down2\"\n%o = Add(%s, %z)\noutput %o\n");
  number(g);
  PareDims *d = trace(f, g, 0);
  cr_assert_eq(d->dims.n, 2u, "%zu dimensions", d->dims.n);
  cr_expect(overlap_in(f, d, ~0u, true), "parameters add up");
  cr_expect_not(overlap_in(f, d, ~0u, false), "MACs do not add up");
  fix_free(f);
}

/* --- of a file --- */

static int64_t emitted_bytes(Fix *f, const PareModel *m, PareDims *d, const char *dir) {
  PareGraph *cut;
  PareStage st;
  struct stat s;
  const char *path = fmt(f, "%s/out.onnx", dir);
  MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
  MUST(f, pare_drop_branches(&f->c, cut, d));
  PareEmit e = {.file = &m->file, .before = m->graph, .after = cut, .ninitializers = m->ninitializers,
                .nsparse = m->nsparse, .nnodes = m->nnodes, .external = m->external.n > 0};
  MUST(f, pare_emit_stage(&f->c, f->arena, &e, path, &st));
  MUST(f, pare_stage_commit(&f->c, &st));
  pare_stage_remove(&st);
  cr_assert_eq(stat(path, &s), 0, "%s", path);
  return s.st_size;
}

static int64_t told_bytes(Fix *f, const PareModel *m, const PareDims *d) {
  const PareGraph *g = d->tracer->g;
  bool *gone = PARE_NEW_N(f->arena, g->nnodes + 1, bool);
  const PareFrame *frame;
  PareWeights before, after;
  double rest;
  MUST(f, pare_graph_weights(&f->c, m->graph, &before));
  MUST(f, pare_cut_weights(&f->c, d, &after));
  MUST(f, pare_frame_read(&f->c, f->arena, m, &frame));
  MUST(f, pare_find_dropped(&f->c, g, d, gone));
  MUST(f, pare_frame_gone(&f->c, frame, g, gone, &rest));
  return (int64_t)pare_model_bytes(m) - before.bytes + after.bytes - (int64_t)rest;
}

/* Of a dead branch the sum is left, as an Identity with an input less or, where one op does the sum and a norm, as
 * that op without what it added: what is told is never less. */
Test(cut_cost, of_a_file_is_what_emission_writes_when_branches_go) {
  enum { A_SUM = 300 };
  static const char *const names[] = {"tinybert-sst2-ts-op17", "deit-fashion-ts-op17-dyn", "torchvision-vit-dyn-op17",
                                      "deit-fashion-ts-op13-nofold", "deit-fashion-ortpy-fused"};
  Fix fix, *f = &fix;
  fix_init(f);
  char *dir = dir_make(f);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    PareModel *m;
    MUST(f, pare_model_load(&f->c, fixture(f, names[i]), &m));
    PareDims *d = trace(f, m->graph, PARE_KIND_BIT(PARE_KIND_DEPTH));
    int64_t whole = emitted_bytes(f, m, d, dir) - told_bytes(f, m, d), dead = 0;
    for (size_t k = 0; k < d->dims.n; k++)
      if (d->dims.at[k].kind == PARE_KIND_DEPTH) keep_first(f, &d->dims.at[k], 1), dead += d->dims.at[k].count - 1;
    int64_t have = emitted_bytes(f, m, d, dir) - whole, told = told_bytes(f, m, d);
    cr_assert_gt(dead, 0, "%s has no branches", names[i]);
    cr_expect(have <= told && told - have <= A_SUM * dead, "%s: %lld bytes, told %lld, of %lld", names[i],
              (long long)have, (long long)told, (long long)pare_model_bytes(m));
    pare_model_free(m);
  }
  dir_remove(dir);
  fix_free(f);
}
