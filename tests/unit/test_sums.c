/* test_sums.c - branches whose sum stands inside of an op of sum and norm: each set of them that goes leaves a file
 * that computes what the masked model does, in which each op is the plainest one that is left of it. */
#include <criterion/criterion.h>
#include <string.h>

#include "backend/emit.h"
#include "base/rng.h"
#include "passes/edit.h"
#include "passes/insert_masks.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "support.h"

enum { BRANCHES = 4, STREAM = 6, CHANNELS = 10 };

/* One model: x·in, then for each branch i of two layers
 *   n_i, s_i = Skip..(y_i, s_{i-1}; gamma, beta, bias_i)  for even i,  Skip..(s_{i-1}, y_i; gamma, beta)  for odd ones,
 * y_i made of n_{i-1}, and n_3·out. Sizes and names are the test's own. */
typedef struct Form {
  const char *op;
  bool beta;
  int64_t opset;
} Form;

static const Form forms[] = {{"SkipLayerNormalization", true, 17}, {"SkipLayerNormalization", true, 13},
                             {"SkipSimplifiedLayerNormalization", false, 17}};

static void weight(Fix *f, Onnx__ModelProto *m, const char *name, double size, int rank, const int64_t *dims) {
  int64_t n = rank == 2 ? dims[0] * dims[1] : dims[0];
  float *v = pare_arena_alloc(f->arena, (size_t)n, sizeof *v);
  uint64_t seed = (uint64_t)name[0] * 99 + (uint64_t)name[1];
  for (int64_t i = 0; i < n; i++) v[i] = (float)(size * (2 * pare_rng_uniform(seed, (uint64_t)i) - 1));
  onnx_initializer(f, m, onnx_tensor(f, name, 1, rank, dims, v, (size_t)n * sizeof *v));
}

static Onnx__ModelProto *skipping(Fix *f, const Form *form) {
  Onnx__ModelProto *m = onnx_model(f, form->opset);
  onnx_input(f, m, "x", 1, DIMS(-1, STREAM));
  onnx_output(f, m, "z", 1, DIMS(-1, 3));
  weight(f, m, "first", 0.003, DIMS(STREAM, STREAM)); /* so small that a norm feels its epsilon */
  weight(f, m, "last", 1, DIMS(STREAM, 3));
  weight(f, m, "gamma", 1, DIMS(STREAM));
  weight(f, m, "beta", 1, DIMS(STREAM));
  onnx_node(f, m, "MatMul", "in", "x first", "s_");
  onnx_node(f, m, "Tanh", "bent", "s_", "n_");
  const char *stream = "s_", *normal = "n_";
  for (int i = 0; i < BRANCHES; i++) {
    weight(f, m, fmt(f, "%dup", i), 0.5, DIMS(STREAM, CHANNELS));
    weight(f, m, fmt(f, "%cdown", 'a' + i), 0.01, DIMS(CHANNELS, STREAM));
    onnx_node(f, m, "MatMul", fmt(f, "up%d", i), fmt(f, "%s %dup", normal, i), fmt(f, "h%d", i));
    onnx_node(f, m, "Relu", fmt(f, "act%d", i), fmt(f, "h%d", i), fmt(f, "r%d", i));
    onnx_node(f, m, "MatMul", fmt(f, "down%d", i), fmt(f, "r%d %cdown", i, 'a' + i), fmt(f, "y%d", i));
    if (i % 2 == 0) weight(f, m, fmt(f, "%cbias", 'p' + i), 0.01, DIMS(STREAM));
    const char *scales = form->beta ? "gamma beta" : "gamma";
    const char *in = i % 2 ? fmt(f, "%s y%d %s", stream, i, scales)
                           : fmt(f, "y%d %s %s %cbias", i, stream, scales, 'p' + i);
    bool last = i == BRANCHES - 1;
    const char *out = last ? "n3" : fmt(f, "n%d _ _ s%d", i, i);
    onnx_node(f, m, form->op, fmt(f, "skip%d", i), in, out)->domain = "com.microsoft";
    stream = fmt(f, "s%d", i), normal = fmt(f, "n%d", i);
  }
  onnx_node(f, m, "MatMul", "out", "n3 last", "z");
  return m;
}

/* What is left of the op of branch i. */
static const char *expected(const Form *form, unsigned dead, int i) {
  bool gone = dead >> i & 1, read = i == BRANCHES - 1 || !(dead >> (i + 1) & 1);
  if (!gone) return read ? form->op : "Add";
  if (!read) return "Identity";
  return form->beta && form->opset >= 17 ? "LayerNormalization" : form->op;
}

static const Onnx__NodeProto *node_named(const Onnx__ModelProto *m, const char *name) {
  for (size_t i = 0; i < m->graph->n_node; i++)
    if (!strcmp(m->graph->node[i]->name, name)) return m->graph->node[i];
  return NULL;
}

static void expect_ops(Fix *f, const Form *form, unsigned dead, const char *path) {
  size_t len;
  const uint8_t *bytes = read_file(f, path, &len);
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, len, bytes);
  cr_assert(m);
  for (int i = 0; i < BRANCHES; i++) {
    const Onnx__NodeProto *n = node_named(m, fmt(f, "skip%d", i));
    cr_assert(n, "skip%d is gone", i);
    cr_expect_str_eq(n->op_type, expected(form, dead, i), "dead %x, opset %d: skip%d is %s, expected %s", dead,
                     (int)form->opset, i, n->op_type, expected(form, dead, i));
    bool up = node_named(m, fmt(f, "up%d", i));
    cr_expect_eq(up, !(dead >> i & 1), "dead %x: the branch %d is %s", dead, i, up ? "there" : "gone");
  }
  onnx__model_proto__free_unpacked(m, NULL);
}

static PareModel *load(Fix *f, const Form *form, const char *dir) {
  size_t len;
  PareModel *m;
  const char *path = fmt(f, "%s/in.onnx", dir);
  const uint8_t *bytes = onnx_pack(f, skipping(f, form), &len);
  write_file(path, bytes, len);
  MUST(f, pare_model_load(&f->c, path, &m));
  return m;
}

/* Branches by their place in the graph; those with a bias weigh more, so they are two dimensions. */
static PareDims *trace(Fix *f, const PareGraph *g, PareGraph **bound) {
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, bound));
  MUST(f, pare_trace_classes(&f->c, f->arena, *bound, PARE_KIND_BIT(PARE_KIND_DEPTH), &d));
  return d;
}

static void kill(Fix *f, PareDims *d, unsigned dead) {
  int parity = 0;
  for (size_t i = 0; i < d->dims.n; i++) {
    if (d->dims.at[i].kind != PARE_KIND_DEPTH) continue;
    cr_assert_eq(d->dims.at[i].count, BRANCHES / 2, "%s has %d branches", d->dims.at[i].name, (int)d->dims.at[i].count);
    bool *keep = pare_arena_alloc(f->arena, BRANCHES / 2, sizeof *keep);
    for (int k = 0; k < BRANCHES / 2; k++) keep[k] = !(dead >> (2 * k + parity) & 1);
    d->dims.at[i].leaf->keep = keep;
    parity++;
  }
  cr_assert_eq(parity, 2, "%d sorts of branches, expected 2", parity);
}

static double apart(Fix *f, const PareGraph *a, const PareGraph *b, int64_t batch) {
  PareTensor *x = run_graph(f, bound_at(f, a, 1, &batch), 5), *y = run_graph(f, bound_at(f, b, 1, &batch), 5);
  return distance(x, y);
}

Test(sums, whatever_branches_go_the_file_is_the_masked_model) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f), *out = fmt(f, "%s/out.onnx", dir);
  for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
    PareModel *m = load(f, &forms[k], dir), *back;
    PareGraph *bound, *cut, *masked;
    PareDims *d = trace(f, m->graph, &bound);
    for (unsigned dead = 0; dead < 1u << BRANCHES; dead++) {
      PareStage st;
      kill(f, d, dead);
      MUST(f, pare_zero_fan_in(&f->c, f->arena, m->graph, d, &masked));
      MUST(f, pare_cut_dims(&f->c, f->arena, m->graph, d, &cut));
      MUST(f, pare_drop_branches(&f->c, cut, d));
      MUST(f, pare_graph_verify(&f->c, cut));
      PareEmit e = {.file = &m->file, .before = m->graph, .after = cut, .ninitializers = m->ninitializers,
                    .nnodes = m->nnodes};
      MUST(f, pare_emit_stage(&f->c, f->arena, &e, out, &st));
      MUST(f, pare_stage_commit(&f->c, &st));
      pare_stage_remove(&st);
      expect_ops(f, &forms[k], dead, out);
      MUST(f, pare_model_load(&f->c, out, &back));
      for (int64_t batch = 2; batch <= 3; batch++) {
        double far = apart(f, masked, back->graph, batch), most = rounding_tolerance(bound);
        cr_expect(far <= most, "%s, opset %d, dead %x: masked and written are %.3g apart, more than %.3g", forms[k].op,
                  (int)forms[k].opset, dead, far, most);
      }
      double changed = apart(f, m->graph, masked, 2);
      cr_expect(dead ? changed > 1e-3 : changed == 0, "dead %x changed the output by %.3g", dead, changed);
      pare_model_free(back);
    }
    pare_model_free(m);
  }
  dir_remove(dir);
  fix_free(f);
}

/* The pass law: masks of ones change nothing but the order of sums, masks of zeros are the masked model. */
Test(sums, a_mask_takes_the_bias_of_its_branch_along) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f);
  for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
    PareModel *m = load(f, &forms[k], dir);
    PareGraph *bound, *zero, *g;
    PareDims *d = trace(f, m->graph, &bound);
    bool *pruned = PARE_NEW_N(f->arena, d->dims.n + 1, bool);
    for (size_t i = 0; i < d->dims.n; i++) pruned[i] = d->dims.at[i].kind == PARE_KIND_DEPTH;
    for (unsigned dead = 0; dead < 1u << BRANCHES; dead++) {
      PareMasks masks;
      int64_t batch = 3;
      kill(f, d, dead);
      MUST(f, pare_zero_fan_in(&f->c, f->arena, m->graph, d, &zero));
      g = bound_at(f, m->graph, 1, &batch);
      MUST(f, pare_insert_masks(&f->c, g, d, pruned, &masks));
      for (size_t i = 0; i < masks.at.n; i++) {
        const PareMask *x = &masks.at.at[i];
        const bool *keep = d->dims.at[x->dim].leaf->keep;
        float *mask = (float *)(uintptr_t)x->mask->data;
        for (int64_t j = 0; pruned[x->dim] && j < x->k; j++) mask[j] = keep[x->group[j]];
      }
      MUST(f, pare_graph_verify(&f->c, g));
      double far = distance(run_graph(f, bound_at(f, zero, 1, &batch), 5), run_graph(f, g, 5));
      double most = rounding_tolerance(bound);
      cr_expect(far <= most, "%s, dead %x: masks and zeroed weights are %.3g apart, more than %.3g", forms[k].op, dead,
                far, most);
    }
    pare_model_free(m);
  }
  dir_remove(dir);
  fix_free(f);
}

Test(sums, a_stream_and_a_constant_are_no_branch) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f);
  Onnx__ModelProto *p = onnx_model(f, 17);
  size_t len;
  PareModel *m;
  PareGraph *bound;
  PareDims *d;
  onnx_input(f, p, "x", 1, DIMS(3, STREAM));
  onnx_output(f, p, "z", 1, DIMS(3, STREAM));
  weight(f, p, "first", 1, DIMS(STREAM, STREAM));
  weight(f, p, "positions", 1, DIMS(3, STREAM));
  weight(f, p, "gamma", 1, DIMS(STREAM));
  onnx_node(f, p, "MatMul", "in", "x first", "s");
  for (int i = 0; i < 2; i++)
    onnx_node(f, p, "SkipLayerNormalization", fmt(f, "skip%d", i), i ? "n positions gamma" : "positions s gamma",
              i ? "z" : "n")->domain = "com.microsoft";
  const uint8_t *bytes = onnx_pack(f, p, &len);
  write_file(fmt(f, "%s/in.onnx", dir), bytes, len);
  MUST(f, pare_model_load(&f->c, fmt(f, "%s/in.onnx", dir), &m));
  MUST(f, pare_probe_dims(&f->c, f->arena, m->graph, 0, &bound));
  MUST(f, pare_trace_classes(&f->c, f->arena, bound, PARE_KIND_BIT(PARE_KIND_DEPTH), &d));
  cr_expect_eq(d->dims.n, 0u, "'%s' was found", d->dims.n ? d->dims.at[0].name : "");
  pare_model_free(m);
  dir_remove(dir);
  fix_free(f);
}
