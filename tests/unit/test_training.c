/* test_training.c - the training graph on real models: the pass law, results that are the same whatever way they are
 * made, and what an update does. */
#include "passes/edit.h"
#include "training_bench.h"

/* --- the pass law --- */

static double outputs_apart(Bench *b) {
  Fix *f = &b->f;
  PareProgram *p;
  const PareValue *y = NULL;
  for (size_t i = 0; !y; i++)
    if (pare_dtype_is_float(b->plain->outputs.at[i]->type.dtype)) y = b->plain->outputs.at[i];
  MUST(f, pare_program_new(&f->c, b->plain, pare_cpu_kernels(), &p));
  fill_inputs(p, b->plain);
  MUST(f, pare_program_run(&f->c, p, -1));
  run(b, PARE_PHASE_TUNE);
  PareTensor want = {.type = y->type, .data = pare_program_buffer(p, y)};
  PareTensor got = {.type = b->t.outputs[0].output->type, .data = buffer(b, b->t.outputs[0].output)};
  double apart = distance(&want, &got);
  pare_program_free(p);
  return apart;
}

static void check_zero_b(bool sequential, bool elements) {
  Bench b = {.sequential = sequential, .elements = elements};
  Row *rows;
  fix_init(&b.f);
  for (size_t i = 0, n = fixtures(&b.f, 'A', &rows); i < n; i++) {
    load(&b, rows[i].path);
    build(&b);
    for (size_t k = 0; k < b.t.nadapters; k++) randomise(&b, b.t.a[k].value, k);
    double apart = outputs_apart(&b), limit = rounding_tolerance(b.plain);
    cr_expect_leq(apart, limit, "%s: outputs differ by %g, rounding is %g", rows[i].name, apart, limit);
    unload(&b);
  }
  fix_free(&b.f);
}

Test(training, leaves_the_outputs_of_every_model_as_they_are_while_b_is_zero) {
  check_zero_b(false, false);
  check_zero_b(true, false);
  check_zero_b(false, true);
}

/* Adding to integers rounds, and that is another function. */
static bool stores_integers(const Bench *b) {
  for (const PareNode *n = b->plain->first; n; n = n->next)
    if (n->op == PARE_OP_DEQUANTIZELINEAR || n->op == PARE_OP_MATMULINTEGER) return true;
  return false;
}

/* Every third element dies. */
static uint8_t *kill_some(const Bench *b, size_t i) {
  int64_t n = b->adapters.at.at[i].k * b->adapters.at.at[i].n;
  uint8_t *alive = PARE_NEW_N(b->f.arena, n, uint8_t);
  for (int64_t k = 0; k < n; k++) alive[k] = k % 3 != 0;
  memcpy(pare_program_buffer(b->p, b->t.mask[i]), alive, (size_t)n);
  return alive;
}

static void check_folding(bool sequential, bool elements) {
  Bench b = {.sequential = sequential, .elements = elements};
  Row *rows;
  size_t checked = 0;
  fix_init(&b.f);
  for (size_t i = 0, n = fixtures(&b.f, 'A', &rows); i < n; i++) {
    const int64_t sizes[] = {3, 7};
    PareDelta delta[200];
    PareGraph *folded;
    load(&b, rows[i].path);
    build(&b);
    cr_assert_lt(b.t.nadapters, 200);
    for (size_t k = 0; k < b.t.nadapters; k++) {
      const PareAdapter *a = &b.adapters.at.at[k];
      randomise(&b, b.t.a[k].value, k), randomise(&b, b.t.b[k].value, 100 + k);
      delta[k] = (PareDelta){.adapter = a, .k = a->k, .n = a->n, .a = buffer(&b, b.t.a[k].value),
                             .b = buffer(&b, b.t.b[k].value), .alive = elements ? kill_some(&b, k) : NULL};
    }
    bool integers = stores_integers(&b);
    MUST(&b.f, pare_fold_adapters(&b.f.c, b.f.arena, b.m->graph, b.t.nadapters, delta, &folded));
    b.plain = bound_at(&b.f, folded, 2, sizes);
    double apart = outputs_apart(&b), limit = rounding_tolerance(b.plain);
    checked += !integers;
    cr_assert(integers || apart <= limit, "%s: folded and running, outputs differ by %g, rounding is %g", rows[i].name,
              apart, limit);
    unload(&b);
  }
  cr_assert_gt(checked, 5);
  fix_free(&b.f);
}

Test(training, a_folded_adapter_is_the_running_one_on_every_model_of_float_weights) {
  check_folding(false, false);
  check_folding(true, false);
  check_folding(false, true);
}

/* --- results made again --- */

static void compare_adapters(const Bench *x, const Bench *y, const char *name, const char *method) {
  for (size_t k = 0; k < x->t.nadapters; k++) {
    size_t bytes;
    cr_assert(pare_type_bytes(&x->t.b[k].value->type, &bytes));
    cr_expect(!memcmp(buffer(x, x->t.b[k].value), buffer(y, y->t.b[k].value), bytes),
              "%s, %s: adapter %zu is not the same", name, method, k);
  }
}

/* Adapters and scores are the same bytes. */
static void compare_benches(const Bench *x, const Bench *y, const char *name, const char *method) {
  compare_adapters(x, y, name, method);
  for (size_t k = 0; k < x->t.ndims; k++)
    for (int64_t i = 0; x->t.score[k] && i < pare_type_count(&x->t.score[k]->type); i++)
      cr_expect_eq(buffer(x, x->t.score[k])[i], buffer(y, y->t.score[k])[i], "%s, %s: score %lld of %zu", name, method,
                   (long long)i, k);
}

/* The same step with everything kept and with as little as can be: gradients, scores and what an update leaves. */
static void check_recompute(const char *name, const char *method) {
  const ParePhase phases[] = {PARE_PHASE_TUNE, PARE_PHASE_SCORE, PARE_PHASE_RANK, PARE_PHASE_UPDATE};
  Bench b[2];
  memset(b, 0, sizeof b);
  for (int i = 0; i < 2; i++) {
    fix_init(&b[i].f);
    load(&b[i], fixture(&b[i].f, name));
    b[i].spec.criterion = criterion(method);
    if (i) b[i].spec.recompute = (PareRecompute){0, PARE_RECOMPUTE_LEAN};
    build(&b[i]);
    randomise_adapters(&b[i]);
    for (size_t k = 0; k < sizeof phases / sizeof *phases; k++) run(&b[i], phases[k]);
  }
  size_t whole = pare_program_memory(b[0].p).results, less = pare_program_memory(b[1].p).results;
  cr_expect_lt(less, whole * 3 / 4, "%s: %zu bytes, %zu with results made again", name, whole, less);
  compare_benches(&b[0], &b[1], name, method);
  for (int i = 0; i < 2; i++) unload(&b[i]), fix_free(&b[i].f);
}

Test(training, is_the_same_bit_for_bit_where_results_are_made_again_and_takes_less_memory) {
  check_recompute("deit-fashion-ts-op17-dyn", "loraprune");
  check_recompute("deit-fashion-ts-op17-dyn", "gate");
  check_recompute("tinybert-sst2-ts-op17", "loraprune");
}

/* --- weights merged before all else --- */

/* The same step where every product merges its own, and where results are made again as well. */
static void check_merge(const char *name, const char *method, PareRecompute again) {
  const ParePhase phases[] = {PARE_PHASE_TUNE, PARE_PHASE_SCORE, PARE_PHASE_RANK, PARE_PHASE_UPDATE};
  Bench b[2];
  size_t merged = 0, adapted = 0;
  memset(b, 0, sizeof b);
  for (int i = 0; i < 2; i++) {
    fix_init(&b[i].f);
    load(&b[i], fixture(&b[i].f, name));
    b[i].spec.criterion = criterion(method);
    b[i].spec.merge = i;
    if (i) b[i].spec.recompute = again;
    build(&b[i]);
    randomise_adapters(&b[i]);
    for (size_t k = 0; k < sizeof phases / sizeof *phases; k++) run(&b[i], phases[k]);
  }
  for (const PareNode *n = b[1].g->first; n; n = n->next) {
    merged += n->op == PARE_OP_MERGEDWEIGHT;
    adapted += n->op == PARE_OP_LINEAR && n->nin > 3;
    if (n->op == PARE_OP_LINEARGRAD && n->nin > 3) adapted += !pare_attr_get(&n->attr, merged, 0);
  }
  cr_expect_eq(merged, b[1].t.nadapters, "%s, %s: %zu of %zu weights", name, method, merged, b[1].t.nadapters);
  cr_expect_eq(adapted, 0, "%s, %s: %zu products merge their own", name, method, adapted);
  compare_benches(&b[0], &b[1], name, method);
  for (int i = 0; i < 2; i++) unload(&b[i]), fix_free(&b[i].f);
}

Test(training, is_the_same_bit_for_bit_where_weights_are_merged_before_all_else) {
  check_merge("deit-fashion-ts-op17-dyn", "loraprune", (PareRecompute){0, 0});
  check_merge("deit-fashion-ts-op17-dyn", "gate", (PareRecompute){0, PARE_RECOMPUTE_LEAN});
  check_merge("tinybert-sst2-ts-op17", "grad", (PareRecompute){0, PARE_RECOMPUTE_LEAN});
}

/* --- weights scored where their gradients merge them --- */

/* Positive terms, no more than 200 one after another in f32, then those sums: so far apart are two orders of them. */
static void scores_agree(const Bench *x, const Bench *y, const char *name) {
  for (size_t k = 0; k < x->t.ndims; k++) {
    double most = 0;
    int64_t n = x->t.score[k] ? pare_type_count(&x->t.score[k]->type) : 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, (double)buffer(x, x->t.score[k])[i]);
    cr_assert(!n || most > 0, "%s: dimension %zu has no scores", name, k);
    for (int64_t i = 0; i < n; i++) {
      double a = (double)buffer(x, x->t.score[k])[i], b = (double)buffer(y, y->t.score[k])[i];
      cr_expect_leq(fabs(a - b), 400 * 0x1p-24 * most, "%s: score %lld of %zu is %g, scored apart %g", name,
                    (long long)i, k, b, a);
    }
  }
}

/* Two steps, of labels or of a teacher, whose scores have a backward pass of their own. `apart` weights have no dx. */
static void check_one_run(const char *name, bool labels, bool bf16, int apart) {
  const ParePhase phases[] = {PARE_PHASE_TUNE, PARE_PHASE_SCORE, PARE_PHASE_RANK, PARE_PHASE_UPDATE};
  Bench b[2];
  memset(b, 0, sizeof b);
  for (int i = 0; i < 2; i++) {
    fix_init(&b[i].f);
    load(&b[i], fixture(&b[i].f, name));
    b[i].spec.one_run = i, b[i].spec.bf16 = bf16;
    for (size_t k = 0; k < b[i].adapters.at.n; k++) b[i].adapters.at.at[k].scale = 16 / sqrt(RANK); /* inexact in f32 */
    if (labels) {
      b[i].spec.loss = PARE_LOSS_CE, b[i].spec.teach_outputs = false;
      b[i].spec.labels = (PareType){PARE_I64, 1, {b[i].g->outputs.at[0]->type.dim[0]}};
    }
    build(&b[i]);
    randomise_adapters(&b[i]);
    for (size_t k = 0; k < 2 * sizeof phases / sizeof *phases; k++) run(&b[i], phases[k % 4]);
  }
  int many[2] = {0};
  for (int i = 0; i < 2; i++)
    for (const PareNode *n = b[i].g->first; n; n = n->next) many[i] += n->op == PARE_OP_IMPORTANCE;
  cr_expect_eq(many[0], (int)b[0].t.nadapters, "%s: %d of %zu weights are scored", name, many[0], b[0].t.nadapters);
  cr_expect_eq(many[1], apart, "%s: %d weights are scored apart, not %d", name, many[1], apart);
  compare_adapters(&b[0], &b[1], name, "loraprune");
  scores_agree(&b[0], &b[1], name);
  for (int i = 0; i < 2; i++) unload(&b[i]), fix_free(&b[i].f);
}

Test(training, scores_a_weight_where_its_gradient_merges_it_as_it_does_apart) {
  check_one_run("deit-fashion-ts-op17-dyn", true, false, 1);
  check_one_run("deit-fashion-ts-op17-dyn", true, true, 1);
  check_one_run("deit-fashion-ts-op17-dyn", false, false, 1);
  check_one_run("tinybert-sst2-ts-op17", true, false, 3);
}

/* --- the update --- */

Test(training, an_update_moves_every_adapter_and_empties_its_gradient) {
  Bench b = {0};
  fix_init(&b.f);
  supervised(&b, "loraprune", 2, 1);
  double before = loss(&b);
  run(&b, PARE_PHASE_UPDATE);
  for (size_t i = 0; i < 2 * b.t.nadapters; i++) {
    const PareParam *p = i % 2 ? &b.t.a[i / 2] : &b.t.b[i / 2];
    double moment = 0, grad = 0;
    for (int64_t k = 0; k < pare_type_count(&p->value->type); k++) {
      moment += fabs((double)buffer(&b, p->m)[k]);
      grad += fabs((double)buffer(&b, p->grad)[k]);
    }
    cr_assert(moment > 0 && grad == 0, "parameter %zu: moments of %g, a gradient of %g", i, moment, grad);
  }
  double after = loss(&b);
  cr_assert_lt(after, before, "the loss went from %g to %g", before, after);
  unload(&b);
  fix_free(&b.f);
}
