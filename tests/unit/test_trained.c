/* test_trained.c - initializers that are tuned themselves: which they are, that a program with them is the model,
 * and that what is written back is what has run. Names of the committed model are PyTorch's, and say what is what. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/training.h"
#include "runtime/program.h"
#include "support.h"

typedef struct Case {
  Fix f;
  PareModel *m;
  PareDims *d;
  PareAdapters layers; /* of rank 0 */
  PareTrainedSet set;
  PareTrainGraph t;
  PareProgram *p;
} Case;

static const int64_t SIZES[] = {3, 7};
static const char *vit(void) { return PARE_SOURCE_DIR "/examples/fashion-vit/model.onnx"; }

static PareStatus find(Case *k, const char *path, unsigned what) {
  Fix *f = &k->f;
  PareGraph *probe;
  fix_init(f);
  MUST(f, pare_model_load(&f->c, path, &k->m));
  MUST(f, pare_probe_dims(&f->c, f->arena, k->m->graph, 0, &probe));
  MUST(f, pare_trace_dims(&f->c, f->arena, probe, &k->d));
  MUST(f, pare_find_adapters(&f->c, f->arena, k->d, &(PareAdapterSpec){.rank = 0}, &k->layers));
  return pare_find_trained(&f->c, f->arena, k->d, &k->layers, what, &k->set);
}

static void unload(Case *k) {
  pare_program_free(k->p);
  pare_model_free(k->m);
  fix_free(&k->f);
}

/* --- which --- */

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n >= m && !strcmp(s + n - m, end);
}
static bool of_norm(const char *name) { return strstr(name, "norm") != NULL; }
static bool is_bias(const char *name) { return ends_with(name, ".bias") && !of_norm(name); }
static bool of_head(const char *name) { return !strncmp(name, "head.", 5); }
static bool is_any(const char *name) { return strlen(name) > 0; }

static const PareTrained *named(const Case *k, const char *name) {
  for (size_t i = 0; i < k->set.at.n; i++)
    if (!strcmp(k->set.at.at[i].name, name)) return &k->set.at.at[i];
  return NULL;
}

static void check_names(unsigned what, bool (*meant)(const char *)) {
  Case k = {0};
  MUST(&k.f, find(&k, vit(), what));
  size_t wanted = 0;
  for (size_t i = 0; i < k.m->ninitializers; i++) {
    const PareValue *w = k.m->initializer[i];
    wanted += meant(w->name);
    cr_expect_eq(named(&k, w->name) != NULL, meant(w->name), "'%s' is %sfound", w->name, meant(w->name) ? "not " : "");
  }
  cr_expect_eq(k.set.at.n, wanted, "%zu of %zu", k.set.at.n, wanted);
  unload(&k);
}

Test(trained, biases_norms_head_and_all_are_told_by_what_reads_them) {
  check_names(PARE_TRAIN_BIAS, is_bias);
  check_names(PARE_TRAIN_NORM, of_norm);
  check_names(PARE_TRAIN_HEAD, of_head);
  check_names(PARE_TRAIN_ALL, is_any);
}

Test(trained, only_matrices_decay) {
  Case k = {0};
  MUST(&k.f, find(&k, vit(), PARE_TRAIN_ALL));
  for (size_t i = 0; i < k.set.at.n; i++) {
    const PareTrained *t = &k.set.at.at[i];
    bool matrix = t->type.rank > 1 && strcmp(t->name, "cls_token") != 0;
    cr_expect_eq(t->decays, matrix, "'%s' of rank %d", t->name, t->type.rank);
  }
  unload(&k);
}

Test(trained, the_scale_of_a_norm_that_is_spelled_out_is_found_in_every_dialect) {
  static const char *const names[] = {"deit-fashion-ts-op9-dyn", "tinybert-sst2-ts-op11", "tinybert-sst2-ts-op17-fp16"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Case k = {0};
    fix_init(&k.f);
    const char *path = fixture(&k.f, names[i]);
    MUST(&k.f, find(&k, path, PARE_TRAIN_NORM));
    size_t norms = 0;
    for (size_t w = 0; w < k.m->ninitializers; w++) {
      const char *name = k.m->initializer[w]->name;
      bool norm = strstr(name, "norm") || strstr(name, "LayerNorm");
      norms += norm;
      cr_expect_eq(named(&k, name) != NULL, norm, "%s: '%s'", names[i], name);
    }
    cr_expect_gt(norms, 4, "%s has %zu", names[i], norms);
    unload(&k);
  }
}

/* The constants of a graph that was written by hand, as if a file held them. */
static void find_in(Case *k, const char *text, unsigned what) {
  Fix *f = &k->f;
  PareGraph *probe;
  fix_init(f);
  PareGraph *g = fix_parse(f, text);
  for (size_t i = 0; i < g->values.n; i++)
    if (g->values.at[i]->role == PARE_CONST) g->values.at[i]->origin.kind = PARE_ORIGIN_INITIALIZER;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, &probe));
  MUST(f, pare_trace_dims(&f->c, f->arena, probe, &k->d));
  MUST(f, pare_find_trained(&f->c, f->arena, k->d, &k->layers, what, &k->set));
}

static const char *summary(Case *k) {
  const char *s = "";
  for (size_t i = 0; i < k->set.at.n; i++)
    s = fmt(&k->f, "%s%s%s x%zu", s, i ? ", " : "", k->set.at.at[i].name, k->set.at.at[i].readings.n);
  return s;
}

static void expect_found(const char *text, unsigned what, const char *want) {
  Case k = {0};
  find_in(&k, text, what);
  cr_expect_str_eq(summary(&k), want, "found '%s', expected '%s'", summary(&k), want);
  fix_free(&k.f);
}

#define MATRIX "1 2 3 4"
#define TWO_LAYERS \
  "input %x : f32[n=?,2]\n" \
  "const %v : f32[2,2] = " MATRIX "\n" \
  "const %w : f32[2,2] = " MATRIX "\n" \
  "const %b : f32[2] = 0 0\n"

Test(trained, a_bias_that_two_layers_share_by_chance_is_one_for_each_unless_they_share_the_weight) {
  expect_found(TWO_LAYERS "%p = MatMul(%x, %v)\n%q = Add(%p, %b)\n%r = MatMul(%x, %w)\n%s = Add(%b, %r)\n"
               "output %q\noutput %s\n", PARE_TRAIN_BIAS, "b x1, b x1");
  expect_found(TWO_LAYERS "%p = MatMul(%x, %w)\n%q = Add(%p, %b)\n%r = MatMul(%x, %w)\n%s = Add(%b, %r)\n"
               "output %q\noutput %s\n", PARE_TRAIN_BIAS, "b x2");
}

Test(trained, masks_numbers_of_formulas_and_angles_are_no_weights) {
  expect_found("input %x : f32[n=?,2]\n"
               "const %w : f32[2,2] = " MATRIX "\n"
               "const %half : f32[1] = 0.5\n"
               "const %causal : f32[2] = 0 -10000\n"
               "const %seen : f32[2] = 0 1\n"
               "const %cos : f32[2,2] = 1 0.6 0 -1\n"
               "const %sin : f32[2,2] = 0 0.8 1 0\n"
               "const %angle : f32[2] = 0.1 0.2\n"
               "%a = MatMul(%x, %w)\n%b = Mul(%a, %half)\n%c = Add(%b, %causal)\n%d = Mul(%c, %seen)\n"
               "%e = MatMul(%d, %cos)\n%f = MatMul(%e, %sin)\n%g = Cos(%angle)\n%y = Mul(%f, %g)\noutput %y\n",
               PARE_TRAIN_ALL, "w x1");
}

Test(trained, what_no_output_follows_from_is_not_tuned) {
  expect_found(TWO_LAYERS "%p = MatMul(%x, %v)\n%q = Add(%p, %b)\n%o = ArgMax(%q)\n%y = MatMul(%x, %w)\n"
               "output %y\noutput %o\n", PARE_TRAIN_ALL, "w x1");
}

/* --- a program with them --- */

/* `method` reads no gradients of masks, so that masks are fused too unless the program is plain. */
static void build(Case *k, const char *method, bool plain) {
  Fix *f = &k->f;
  bool *pruned = PARE_NEW_N(f->arena, k->d->dims.n + 1, bool);
  for (size_t i = 0; i < k->d->dims.n; i++) pruned[i] = true;
  PareTrainSpec spec = {.loss = PARE_LOSS_KD, .teach_outputs = true, .temperature = 2, .power = 2, .eta = 1, .ema = 0.9,
                        .criterion = pare_criterion_find(method), .pruned = pruned, .trained = &k->set, .plain = plain};
  PareGraph *g = bound_at(f, k->m->graph, 2, SIZES);
  MUST(f, pare_build_training(&f->c, g, k->d, &k->layers, &spec, &k->t));
  MUST(f, pare_program_new_pinned(&f->c, g, pare_cpu_kernels(), 1, &k->t.outputs[0].output, &k->p));
  fill_inputs(k->p, g);
  for (size_t i = 0; i < k->t.noutputs; i++)
    fill_random(&k->t.outputs[i].teacher->type, pare_program_buffer(k->p, k->t.outputs[i].teacher), 90 + i);
  *(float *)pare_program_buffer(k->p, k->t.dloss) = 1;
  const float hyper[8] = {1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 10, 1000, 1};
  memcpy(pare_program_buffer(k->p, k->t.hyper), hyper, sizeof hyper);
}

static float *buffer(const Case *k, const PareValue *v) { return v ? pare_program_buffer(k->p, v) : NULL; }
static void run(Case *k, int phase) { MUST(&k->f, pare_program_run(&k->f.c, k->p, phase)); }

/* How far the first output of floats of `model` is from the program's. */
static double apart(Case *k, const PareGraph *model, double *limit) {
  Fix *f = &k->f;
  PareProgram *p;
  PareGraph *g = bound_at(f, model, 2, SIZES);
  const PareValue *y = NULL;
  for (size_t i = 0; !y; i++)
    if (pare_dtype_is_float(g->outputs.at[i]->type.dtype)) y = g->outputs.at[i];
  MUST(f, pare_program_new(&f->c, g, pare_cpu_kernels(), &p));
  fill_inputs(p, g);
  MUST(f, pare_program_run(&f->c, p, -1));
  run(k, PARE_PHASE_TUNE);
  PareTensor want = {.type = y->type, .data = pare_program_buffer(p, y)};
  PareTensor got = {.type = k->t.outputs[0].output->type, .data = buffer(k, k->t.outputs[0].output)};
  double far = distance(&want, &got);
  *limit = rounding_tolerance(g);
  pare_program_free(p);
  return far;
}

static bool trains_floats(Case *k, const char *path) {
  PareStatus s = find(k, path, PARE_TRAIN_ALL);
  if (s == PARE_UNSUPPORTED) fix_forget(&k->f);
  return s == PARE_OK;
}

Test(trained, leaves_the_outputs_of_every_model_as_they_are_before_the_first_step) {
  Fix f;
  Row *rows;
  fix_init(&f);
  for (size_t i = 0, n = fixtures(&f, 'A', &rows); i < n; i++) {
    Case k = {0};
    double limit, far;
    MUST(&k.f, find(&k, rows[i].path, PARE_TRAIN_ALL));
    build(&k, "magnitude", false);
    far = apart(&k, k.m->graph, &limit);
    cr_expect_leq(far, limit, "%s: outputs differ by %g, rounding is %g", rows[i].name, far, limit);
    unload(&k);
  }
  fix_free(&f);
}

/* Two of three elements of every weight grow. */
static void shake(Case *k) {
  for (size_t i = 0; i < k->set.at.n; i++) {
    float *w = buffer(k, k->t.trained[i].value);
    for (int64_t e = 0; w && e < pare_type_count(&k->set.at.at[i].type); e++) w[e] += 0.02f * (float)(e % 3);
  }
}

Test(trained, what_is_written_back_is_what_has_run_on_every_model) {
  Fix f;
  Row *rows;
  fix_init(&f);
  for (size_t i = 0, n = fixtures(&f, 'A', &rows); i < n; i++) {
    Case k = {0};
    double limit, far, before;
    if (!trains_floats(&k, rows[i].path)) continue;
    build(&k, "gate", false);
    shake(&k);
    const float **value = PARE_NEW_N(k.f.arena, k.set.at.n + 1, const float *);
    for (size_t t = 0; t < k.set.at.n; t++) cr_assert_not_null(value[t] = buffer(&k, k.t.trained[t].value));
    PareGraph *g = pare_graph_clone(&k.f.c, k.f.arena, k.m->graph);
    MUST(&k.f, pare_write_trained(&k.f.c, g, &k.set, value));
    before = apart(&k, k.m->graph, &limit);
    far = apart(&k, g, &limit);
    cr_expect_gt(before, 10 * limit, "%s: the weights were changed, the outputs by %g", rows[i].name, before);
    cr_expect_leq(far, limit, "%s: outputs differ by %g, rounding is %g", rows[i].name, far, limit);
    unload(&k);
  }
  fix_free(&f);
}

/* Fused layers and norms, masks on weights' rows, against the ops that they stand for. Gradients are sums over some
 * hundred rows of values of one size, so they differ by the rounding of such sums. */
Test(trained, the_gradients_of_fused_ops_are_those_of_the_plain_ones) {
  Case x = {0}, y = {0};
  MUST(&x.f, find(&x, vit(), PARE_TRAIN_ALL));
  MUST(&y.f, find(&y, vit(), PARE_TRAIN_ALL));
  build(&x, "magnitude", false);
  build(&y, "magnitude", true);
  PareGraph *g = bound_at(&x.f, x.m->graph, 2, SIZES);
  double limit = 10 * rounding_tolerance(g);
  run(&x, PARE_PHASE_TUNE), run(&y, PARE_PHASE_TUNE);
  for (size_t i = 0; i < x.set.at.n; i++) {
    cr_assert(x.t.trained[i].grad && y.t.trained[i].grad, "no gradient reaches '%s'", x.set.at.at[i].name);
    PareTensor a = {.type = x.t.trained[i].grad->type, .data = buffer(&x, x.t.trained[i].grad)};
    PareTensor b = {.type = y.t.trained[i].grad->type, .data = buffer(&y, y.t.trained[i].grad)};
    double far = distance(&b, &a);
    cr_expect_leq(far, limit, "'%s': gradients differ by %g, rounding is %g", x.set.at.at[i].name, far, limit);
  }
  unload(&x);
  unload(&y);
}

/* AdamW's first step moves a weight by the rate against its gradient's sign, and by rate·decay·w. The model's own stays. */
Test(trained, a_step_decays_matrices_and_leaves_vectors_to_their_gradients) {
  static const char *const name[] = {"head.bias", "head.weight"};
  enum { ELEMENT = 3 };
  const double rate = 1e-3, decay = 0.1;
  double want[2], was[2];
  float *w[2];
  Case k = {0};
  MUST(&k.f, find(&k, vit(), PARE_TRAIN_ALL));
  build(&k, "magnitude", false);
  run(&k, PARE_PHASE_TUNE);
  for (int i = 0; i < 2; i++) {
    const PareParam *p = &k.t.trained[named(&k, name[i]) - k.set.at.at];
    float g = buffer(&k, p->grad)[ELEMENT];
    cr_assert_gt(fabsf(g), 1e-5f, "'%s' has a gradient of %g", name[i], g);
    w[i] = buffer(&k, p->value) + ELEMENT;
    was[i] = *w[i];
    want[i] = was[i] - rate * ((g > 0 ? 1 : -1) + (i ? decay * was[i] : 0));
  }
  run(&k, PARE_PHASE_UPDATE);
  for (int i = 0; i < 2; i++) {
    double untouched = pare_data_float(named(&k, name[i])->was, ELEMENT);
    cr_expect_float_eq(*w[i], want[i], 2e-7, "'%s' was %.9g and is %.9g, not %.9g", name[i], was[i], *w[i], want[i]);
    cr_expect_eq(untouched, was[i], "what a teacher reads of '%s' is now %.9g, not %.9g", name[i], untouched, was[i]);
  }
  unload(&k);
}
