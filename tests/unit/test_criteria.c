/* test_criteria.c - what every criterion makes of training steps on real models: METHOD 2 to 4 against slow double arithmetic
 * and finite differences. */
#include "passes/autodiff.h"
#include "training_bench.h"

/* A vision transformer: in every block qkv [64, 192], o [64, 64], fc1 [64, 128], fc2 [128, 64], 4 heads of 16. */
enum { WIDTH = 64, HEADS = 4, CHANNELS = 128 };

/* Which head or channel element (k, n) of adapter i belongs to: by its place in the block. */
static int64_t group_of(size_t i, int64_t k, int64_t n) {
  switch (i % 4) {
    case 0: return n % WIDTH / (WIDTH / HEADS);
    case 1: return k / (WIDTH / HEADS);
    case 2: return n;
    default: return k;
  }
}

static const PareValue *weight(const Bench *b, size_t i) {
  const PareSite *s = &b->adapters.at.at[i].sites.at[0];
  for (const PareNode *n = b->plain->first; n; n = n->next)
    if (n->id == s->node) return n->in[s->w];
  return NULL;
}

/* m [K, r] of a parallel adapter; of a sequential one W·m, m [N, r]: in our orientation METHOD 2's W = W0·(I + s·A·B)
 * and Ĝ = W0·(A·dB + dA·B − η·dA·dB). */
static const double *left_factor(const Bench *b, size_t i, const PareValue *m) {
  const PareAdapter *x = &b->adapters.at.at[i];
  double *out = PARE_NEW_N(b->f.arena, x->k * RANK, double);
  for (int64_t k = 0; k < x->k; k++)
    for (int r = 0; r < RANK; r++) {
      if (!x->sequential) out[k * RANK + r] = (double)buffer(b, m)[k * RANK + r];
      for (int64_t n = 0; x->sequential && n < x->n; n++)
        out[k * RANK + r] += pare_data_float(weight(b, i), k * x->n + n) * (double)buffer(b, m)[n * RANK + r];
    }
  return out;
}

/* Adds (Ĝ ⊙ W)^power of adapter i to its groups: Ĝ = dB·A + B·dA − η·dB·dA, W = W0 + s·B·A (METHOD 2), in our
 * orientation W [K, N], A [K, r], B [r, N]. */
static void add_importance(const Bench *b, size_t i, double *group) {
  const PareAdapter *x = &b->adapters.at.at[i];
  const PareValue *w = weight(b, i);
  const double *a = left_factor(b, i, b->t.a[i].value), *da = left_factor(b, i, b->t.a[i].score_grad);
  const float *bb = buffer(b, b->t.b[i].value), *db = buffer(b, b->t.b[i].score_grad);
  cr_assert(w && w->data && !x->transposed);
  for (int64_t k = 0; k < x->k; k++)
    for (int64_t n = 0; n < x->n; n++) {
      double g = 0, delta = 0;
      for (int r = 0; r < RANK; r++) {
        double A = a[k * RANK + r], B = bb[r * x->n + n], dA = da[k * RANK + r], dB = db[r * x->n + n];
        g += A * dB + dA * B - b->spec.eta * dA * dB;
        delta += A * B;
      }
      if (!strcmp(b->spec.criterion->name, "magnitude")) g = 1;
      double e = fabs(g * (pare_data_float(w, k * x->n + n) + x->scale * delta));
      group[group_of(i, k, n)] += b->spec.power == 2 ? e * e : e;
    }
}

/* What one weight says of its groups, of unit L2 norm where scores of weights are to be compared (METHOD 2, "Scale");
 * movement's are changes of the loss, which compare as they are. */
static void add_own(const Bench *b, const double own[CHANNELS], double *group) {
  bool normalise = b->spec.normalise && strcmp(b->spec.criterion->name, "movement");
  double square = 0;
  for (int g = 0; g < CHANNELS; g++) square += own[g] * own[g];
  for (int g = 0; g < CHANNELS; g++) group[g] += normalise ? own[g] / sqrt(square) : own[g];
}

/* Updates the moving averages average[dim][group]; dimensions come in the order of blocks. */
static void reference(const Bench *b, double average[8][CHANNELS]) {
  double now[8][CHANNELS] = {{0}};
  cr_assert_eq(b->adapters.at.n, 16);
  for (size_t i = 0; i < 16; i++) {
    double own[CHANNELS] = {0};
    add_importance(b, i, own);
    add_own(b, own, now[i / 2]);
  }
  for (int d = 0; d < 8; d++)
    for (int g = 0; g < CHANNELS; g++) average[d][g] = b->spec.ema * average[d][g] + (1 - b->spec.ema) * now[d][g];
}

static void compare_scores(const Bench *b, double average[8][CHANNELS], const char *what) {
  int at[2] = {0, 0};
  for (size_t i = 0; i < b->d->dims.n; i++) {
    const PareDim *d = &b->d->dims.at[i];
    if (!b->pruned[i]) continue;
    bool ffn = d->kind == PARE_KIND_FFN;
    const double *want = average[2 * at[ffn]++ + ffn];
    const float *got = buffer(b, b->t.score[i]);
    for (int64_t g = 0; g < d->count; g++)
      cr_assert(fabs((double)got[g] - want[g]) <= 1e-4 * want[g], "%s, %s, group %ld: %.8g, not %.8g", what, d->name,
                (long)g, (double)got[g], want[g]);
  }
}

static void check_scores(const char *name, int power, double eta, bool sequential, bool normalise) {
  Bench b = {.sequential = sequential, .normalise = normalise};
  double average[8][CHANNELS] = {{0}};
  fix_init(&b.f);
  supervised(&b, name, power, eta);
  for (int step = 0; step < 3; step++) {
    run(&b, PARE_PHASE_TUNE);
    if (step == 1) run(&b, PARE_PHASE_TUNE); /* gradients of two micro-batches add up */
    reference(&b, average);
    run(&b, PARE_PHASE_RANK);
    run(&b, PARE_PHASE_UPDATE);
    compare_scores(&b, average, fmt(&b.f, "%s^%d, eta %g, step %d", name, power, eta, step));
  }
  unload(&b);
  fix_free(&b.f);
}

Test(scores, of_the_adapters_are_those_of_double_arithmetic_over_three_steps) {
  check_scores("loraprune", 2, 1, false, false);
  check_scores("loraprune", 1, 0.5, false, false);
  check_scores("loraprune", 2, 0.5, true, false);
}

Test(scores, of_magnitude_are_those_of_the_merged_weights) {
  check_scores("magnitude", 2, 1, false, false);
  check_scores("magnitude", 1, 1, false, false);
  check_scores("magnitude", 1, 1, true, false);
}

/* d loss / d gate of group g, the gate being a factor on the group's whole fan-in. */
static double difference(Bench *b, size_t dim, int64_t g) {
  const float h = 0.05f;
  double at[2];
  for (int side = 0; side < 2; side++) {
    for (size_t i = 0; i < b->t.masks.at.n; i++) {
      const PareMask *m = &b->t.masks.at.at[i];
      for (int64_t k = 0; k < m->k; k++)
        buffer(b, m->mask)[k] = m->dim == (int)dim && m->group[k] == g ? (side ? 1 + h : 1 - h) : 1;
    }
    at[side] = loss(b);
  }
  for (size_t i = 0; i < b->t.masks.at.n; i++)
    for (int64_t k = 0; k < b->t.masks.at.at[i].k; k++) buffer(b, b->t.masks.at.at[i].mask)[k] = 1;
  return (at[1] - at[0]) / (2 * (double)h);
}

/* Four groups of every dimension of these classes; how many dimensions there are. */
static size_t check_gate(const char *model, unsigned kinds) {
  Bench b = {.kinds = kinds};
  size_t checked = 0;
  fix_init(&b.f);
  supervised_on(&b, model, "gate", 2, 1);
  run(&b, PARE_PHASE_TUNE);
  run(&b, PARE_PHASE_RANK);
  for (size_t i = 0; i < b.d->dims.n; i++) {
    if (!b.pruned[i]) continue;
    const PareDim *d = &b.d->dims.at[i];
    double most = 0;
    int64_t stride = d->count / 4 ? d->count / 4 : 1;
    for (int64_t g = 0; g < d->count; g++) most = fmax(most, sqrt((double)buffer(&b, b.t.score[i])[g]));
    for (int64_t g = 0; g < d->count; g += stride) {
      double got = sqrt((double)buffer(&b, b.t.score[i])[g]), want = sqrt(1 - b.spec.ema) * fabs(difference(&b, i, g));
      cr_assert_leq(fabs(got - want), 0.02 * most + 1e-5, "%s, %s, group %ld: %g, not %g", model, d->name, (long)g, got, want);
    }
    cr_assert_gt(most, 1e-4, "%s, %s: no group matters", model, d->name);
    checked++;
  }
  unload(&b);
  fix_free(&b.f);
  return checked;
}

Test(scores, of_the_gate_are_squared_finite_differences_of_the_loss) {
  enum { LAYERS = 2 * 4 };
  cr_assert_eq(check_gate(VIT, 0), LAYERS);
  cr_assert_gt(check_gate("tinybert-sst2-ts-op17", 0), 3);
  cr_assert_gt(check_gate("tinybert-sst2-ts-op17", PARE_KIND_BIT(PARE_KIND_DEPTH)), 0);
  cr_assert_gt(check_gate(VIT, PARE_KIND_BIT(PARE_KIND_DEPTH)), 0);
  cr_assert_gt(check_gate(VIT, PARE_KIND_BIT(PARE_KIND_HEAD_DIM)), 0);
}

/* How far the scores of the gate of a step are from those of the step as it is written, in norms; with a mask on group 0
 * of every dimension, whose score is none of the fused step's business unless it may come back. */
static double gate_apart(const char *model, Bench b, bool dead) {
  Bench plain = {.unfused = true};
  double apart = 0, size = 0;
  Bench *both[] = {&plain, &b};
  for (int k = 0; k < 2; k++) {
    fix_init(&both[k]->f);
    supervised_on(both[k], model, "gate", 2, 1);
    for (size_t i = 0; dead && i < both[k]->t.masks.at.n; i++) {
      const PareMask *m = &both[k]->t.masks.at.at[i];
      for (int64_t j = 0; j < m->k; j++) buffer(both[k], m->mask)[j] = m->group[j] != 0;
    }
    run(both[k], PARE_PHASE_TUNE);
    run(both[k], PARE_PHASE_RANK);
  }
  for (size_t i = 0; i < b.d->dims.n; i++)
    for (int64_t g = dead && !b.regrow; b.pruned[i] && g < b.d->dims.at[i].count; g++) {
      double want = (double)buffer(&plain, plain.t.score[i])[g], got = (double)buffer(&b, b.t.score[i])[g];
      apart += (got - want) * (got - want), size += want * want;
    }
  for (int k = 0; k < 2; k++) unload(both[k]), fix_free(&both[k]->f);
  return sqrt(apart / size);
}

/* Squares: twice what gradients err by, in bf16 a tenth (test_fuse). */
Test(scores, of_the_gate_are_those_of_the_plain_step_however_it_is_fused) {
  static const char *const model[] = {VIT, "tinybert-sst2-ts-op17"};
  for (int m = 0; m < 2; m++) {
    Bench b = {0};
    fix_init(&b.f);
    load(&b, fixture(&b.f, model[m]));
    double limit = 4 * rounding_tolerance(b.plain);
    pare_model_free(b.m), fix_free(&b.f);
    const struct { Bench b; bool dead; double limit; } all[] = {
        {{.sequential = false}, false, limit}, {{.sequential = false}, true, limit}, {{.regrow = true}, true, limit},
        {{.bf16 = true}, false, 0.2},          {{.bf16 = true, .reread = true}, true, 0.2}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
      double far = gate_apart(model[m], all[i].b, all[i].dead);
      cr_log_info("%s, way %zu: %g apart, limit %g", model[m], i, far, all[i].limit);
      cr_assert_leq(far, all[i].limit, "%s, way %zu: scores are %g apart, more than %g", model[m], i, far, all[i].limit);
    }
  }
}

/* --- scores from the true gradient and from inputs: against autodiff on the plain model with merged weights --- */

/* By adapter: dL/dW [K, N] and Σ x² [K]. */
typedef struct Truth {
  const float *gradient[16];
  double square[16][CHANNELS];
} Truth;

enum { DEAD = 1 }; /* the group that is masked, in every block */

/* W + s·A·B of adapter i, [K, N]. */
static double *merged(const Bench *b, size_t i) {
  const PareAdapter *x = &b->adapters.at.at[i];
  const double *a = left_factor(b, i, b->t.a[i].value);
  double *w = PARE_NEW_N(b->f.arena, x->k * x->n, double);
  for (int64_t k = 0; k < x->k; k++)
    for (int64_t n = 0; n < x->n; n++) {
      double delta = 0;
      for (int r = 0; r < RANK; r++) delta += a[k * RANK + r] * (double)buffer(b, b->t.b[i].value)[r * x->n + n];
      w[k * x->n + n] = pare_data_float(weight(b, i), k * x->n + n) + x->scale * delta;
    }
  return w;
}

static PareNode *site(const Bench *b, PareGraph *g, size_t i) {
  PareNode *n = g->first;
  while (n && n->id != b->adapters.at.at[i].sites.at[0].node) n = n->next;
  return n;
}

/* b + s·(b·A)·B */
static void merge_bias(Bench *b, PareGraph *g, size_t i) {
  const PareAdapter *x = &b->adapters.at.at[i];
  PareNode *n = g->first;
  cr_assert_geq(x->sites.at[0].bias, 0);
  while (n->id != x->sites.at[0].bias_node) n = n->next;
  PareValue *v = n->in[x->sites.at[0].bias];
  float *is = PARE_NEW_N(b->f.arena, x->n, float);
  for (int64_t j = 0; j < x->n; j++) {
    double sum = pare_data_float(v, j);
    for (int64_t k = 0; k < x->n; k++)
      for (int r = 0; r < RANK; r++)
        sum += x->scale * pare_data_float(v, k) * (double)buffer(b, b->t.a[i].value)[k * RANK + r] *
               (double)buffer(b, b->t.b[i].value)[r * x->n + j];
    is[j] = (float)sum;
  }
  n->in[x->sites.at[0].bias] = pare_const_add(&b->f.c, g, v->name, v->type, is);
}

/* The model with merged weights, less the dead groups' rows. */
static PareGraph *merged_model(Bench *b) {
  const int64_t sizes[] = {3, 7};
  PareGraph *g = bound_at(&b->f, b->m->graph, 2, sizes);
  for (size_t i = 0; i < 16; i++) {
    const PareAdapter *x = &b->adapters.at.at[i];
    float *w = PARE_NEW_N(b->f.arena, x->k * x->n, float);
    const double *full = merged(b, i);
    for (int64_t k = 0; k < x->k; k++)
      for (int64_t n = 0; n < x->n; n++)
        w[k * x->n + n] = !b->elements && i % 2 && group_of(i, k, n) == DEAD ? 0 : (float)full[k * x->n + n];
    site(b, g, i)->in[1]->data = w;
    if (x->sequential) merge_bias(b, g, i);
  }
  return g;
}

static void find_truth(Bench *b, Truth *out) {
  Fix *f = &b->f;
  PareGraph *g = merged_model(b);
  PareValue *wrt[16], *pin[32], *labels = pare_value_add(&f->c, g, PARE_INPUT, "pare.labels", b->spec.labels);
  PareValue *loss = PARE_EMIT(&f->c, g, NULL, PARE_OP_CROSSENTROPY, "loss", NULL, g->outputs.at[0], labels);
  PareProgram *p;
  for (size_t i = 0; i < 16; i++) wrt[i] = site(b, g, i)->in[1], pin[16 + i] = site(b, g, i)->in[0];
  MUST(f, pare_autodiff(&f->c, g, loss, pare_const_float(&f->c, g, "", PARE_F32, 1), 16, wrt, pin));
  MUST(f, pare_program_new_pinned(&f->c, g, pare_cpu_kernels(), 32, pin, &p));
  fill_inputs(p, g);
  memcpy(pare_program_buffer(p, labels), pare_program_buffer(b->p, b->t.labels),
         (size_t)pare_type_count(&labels->type) * sizeof(int64_t));
  MUST(f, pare_program_run(&f->c, p, -1));
  for (size_t i = 0; i < 16; i++) {
    int64_t k = b->adapters.at.at[i].k, n = pare_type_count(&wrt[i]->type), m = pare_type_count(&pin[16 + i]->type);
    float *copy = PARE_NEW_N(f->arena, n, float);
    out->gradient[i] = memcpy(copy, pare_program_buffer(p, pin[i]), (size_t)n * sizeof *copy);
    const float *x = pare_program_buffer(p, pin[16 + i]);
    memset(out->square[i], 0, sizeof out->square[i]);
    for (int64_t j = 0; j < m; j++) out->square[i][j % k] += (double)x[j] * (double)x[j];
  }
  pare_program_free(p);
}

/* Scores of adapter i's groups, of `runs` equal runs. */
static void add_true_scores(const Bench *b, const Truth *t, size_t i, int runs, double *group) {
  const PareAdapter *x = &b->adapters.at.at[i];
  const char *name = b->spec.criterion->name;
  const double *full = merged(b, i);
  for (int64_t k = 0; k < x->k; k++)
    for (int64_t n = 0; n < x->n; n++) {
      double w = full[k * x->n + n], e = (double)t->gradient[i][k * x->n + n] * w;
      if (!strcmp(name, "movement")) e = -e * runs;
      else if (!strcmp(name, "wanda")) e = fabs(w) * sqrt(t->square[i][k] * runs);
      else e = runs * (b->spec.power == 2 ? e * e : fabs(e));
      group[group_of(i, k, n)] += e;
    }
}

static void expect_near(const Bench *b, double want[8][CHANNELS], const char *what) {
  int at[2] = {0, 0};
  for (size_t i = 0; i < b->d->dims.n; i++) {
    const PareDim *d = &b->d->dims.at[i];
    if (!b->pruned[i]) continue;
    bool ffn = d->kind == PARE_KIND_FFN;
    const double *w = want[2 * at[ffn]++ + ffn];
    double most = 0, limit = 4 * rounding_tolerance(b->plain); /* forward and backward, twice: a square */
    for (int64_t g = 0; g < d->count; g++) most = fmax(most, fabs(w[g]));
    for (int64_t g = 0; g < d->count; g++) {
      double got = (double)buffer(b, b->t.score[i])[g];
      cr_assert(fabs(got - w[g]) <= limit * most, "%s, %s, group %ld: %.8g, not %.8g (most %g, rounding %g)", what,
                d->name, (long)g, got, w[g], most, limit);
    }
  }
}

static void check_true_scores(const char *name, int power, bool unfused, bool sequential, bool normalise) {
  Bench b = {.sequential = sequential, .unfused = unfused, .normalise = normalise};
  double want[8][CHANNELS] = {{0}};
  fix_init(&b.f);
  supervised(&b, name, power, 1);
  for (size_t i = 0; i < b.t.masks.at.n; i++)
    for (int64_t k = 0; k < b.t.masks.at.at[i].k; k++)
      if (b.t.masks.at.at[i].group[k] == DEAD) buffer(&b, b.t.masks.at.at[i].mask)[k] = 0;
  for (int step = 0; step < 3; step++) {
    Truth truth;
    int runs = step == 1 ? 2 : 1;
    find_truth(&b, &truth);
    for (int r = 0; r < runs; r++) run(&b, PARE_PHASE_TUNE);
    bool sum = !strcmp(name, "movement");
    double now[8][CHANNELS] = {{0}};
    for (size_t i = 0; i < 16; i++) {
      double own[CHANNELS] = {0};
      bool norms = !strcmp(name, "wanda"); /* are added up over runs; others are scores of one run after another */
      add_true_scores(&b, &truth, i, norms ? runs : 1, own);
      for (int r = 0; r < (norms ? 1 : runs); r++) add_own(&b, own, now[i / 2]);
    }
    for (int d = 0; d < 8; d++)
      for (int g = 0; g < CHANNELS; g++)
        want[d][g] = sum ? want[d][g] + now[d][g] : b.spec.ema * want[d][g] + (1 - b.spec.ema) * now[d][g];
    run(&b, PARE_PHASE_RANK);
    run(&b, PARE_PHASE_UPDATE);
    expect_near(&b, want, fmt(&b.f, "%s^%d, step %d", name, power, step));
  }
  unload(&b);
  fix_free(&b.f);
}

Test(scores, of_grad_are_those_of_the_weights_true_gradients) {
  check_true_scores("grad", 2, false, false, false);
  check_true_scores("grad", 1, false, true, false);
  check_true_scores("grad", 2, true, false, false);
  check_true_scores("grad", 2, true, true, false);
}

Test(scores, of_movement_add_up_what_the_gradient_does_to_the_weights_over_the_steps) {
  check_true_scores("movement", 2, false, false, false);
}

Test(scores, of_wanda_are_magnitudes_times_the_norms_of_their_inputs) { 
  check_true_scores("wanda", 2, false, false, false);
  check_true_scores("wanda", 2, false, true, false);
}

Test(scores, of_every_weight_have_unit_norm_where_layers_are_compared_but_those_of_movement) {
  check_scores("loraprune", 2, 1, false, true);
  check_scores("loraprune", 1, 0.5, true, true);
  check_scores("magnitude", 2, 1, false, true);
  check_true_scores("grad", 2, false, false, true);
  check_true_scores("movement", 2, false, false, true);
  check_true_scores("wanda", 2, false, false, true);
}

/* --- scores of elements --- */

/* The score of element (k, n) of adapter i, of one run. */
static double element_score(const Bench *b, const Truth *t, size_t i, const double *full, int64_t k, int64_t n) {
  const PareAdapter *x = &b->adapters.at.at[i];
  const char *name = b->spec.criterion->name;
  int64_t at = k * x->n + n;
  double g = 0, w = full[at];
  if (!strcmp(name, "magnitude")) g = 1;
  else if (!strcmp(name, "wanda")) return fabs(w) * sqrt(t->square[i][k]);
  else if (strcmp(name, "loraprune")) g = (double)t->gradient[i][at];
  else
    for (int r = 0; r < RANK; r++) {
      double A = (double)buffer(b, b->t.a[i].value)[k * RANK + r], B = (double)buffer(b, b->t.b[i].value)[r * x->n + n];
      double dA = (double)buffer(b, b->t.a[i].grad)[k * RANK + r], dB = (double)buffer(b, b->t.b[i].grad)[r * x->n + n];
      g += A * dB + dA * B - b->spec.eta * dA * dB;
    }
  double e = -g * w;
  return !strcmp(name, "movement") ? e : b->spec.power == 2 ? e * e : fabs(e);
}

/* Against the same truth; the adapters' gradients are those of the masked program. */
static void check_elements(const char *name, int power) {
  Bench b = {.elements = true};
  Truth truth;
  fix_init(&b.f);
  supervised(&b, name, power, 0.5);
  find_truth(&b, &truth);
  run(&b, PARE_PHASE_TUNE);
  bool sum = !strcmp(name, "movement");
  double limit = 4 * rounding_tolerance(b.plain), *want[16];
  for (size_t i = 0; i < 16; i++) {
    const PareAdapter *x = &b.adapters.at.at[i];
    const double *full = merged(&b, i);
    want[i] = PARE_NEW_N(b.f.arena, x->k * x->n, double);
    for (int64_t k = 0; k < x->k * x->n; k++)
      want[i][k] = (sum ? 1 : 1 - b.spec.ema) * element_score(&b, &truth, i, full, k / x->n, k % x->n);
  }
  run(&b, PARE_PHASE_RANK);
  for (size_t i = 0; i < 16; i++) {
    int64_t n = b.adapters.at.at[i].k * b.adapters.at.at[i].n;
    const float *got = buffer(&b, b.t.score[b.t.ndims + i]);
    double most = 0;
    for (int64_t k = 0; k < n; k++) most = fmax(most, fabs(want[i][k]));
    for (int64_t k = 0; k < n; k++)
      cr_assert(fabs((double)got[k] - want[i][k]) <= limit * most, "%s^%d, weight %zu, element %ld: %.8g, not %.8g", name,
                power, i, (long)k, (double)got[k], want[i][k]);
  }
  unload(&b);
  fix_free(&b.f);
}

Test(scores, of_elements_are_those_of_double_arithmetic) {
  check_elements("loraprune", 2);
  check_elements("loraprune", 1);
  check_elements("magnitude", 1);
  check_elements("grad", 2);
  check_elements("movement", 2);
  check_elements("wanda", 2);
}

/* --- fisher: the sum over the samples of gate, each sample alone --- */

/* Sample `at` of what `from` holds for a batch. */
static void copy_sample(const Bench *from, const PareValue *a, Bench *to, const PareValue *b, int64_t at) {
  size_t bytes = (size_t)pare_type_count(&b->type) * pare_dtype_size(b->type.dtype);
  const char *src = pare_program_buffer(from->p, a);
  if (src && pare_program_buffer(to->p, b)) memcpy(pare_program_buffer(to->p, b), src + (size_t)at * bytes, bytes);
}

static void fill_signs(const Bench *b) {
  for (size_t i = 0; i < b->t.noutputs; i++) {
    const PareValue *s = b->t.outputs[i].signs;
    for (int64_t k = 0; s && k < pare_type_count(&s->type); k++) buffer(b, s)[k] = k * 7 % 3 ? 1 : -1;
  }
}

/* Some models attend across the batch: their samples have no loss of their own. */
static bool stands_alone(const Bench *all, const Bench *one, int64_t at) {
  PareTensor batch = {.type = one->t.outputs[0].output->type}, alone = batch;
  alone.data = buffer(one, one->t.outputs[0].output);
  batch.data = buffer(all, all->t.outputs[0].output) + at * pare_type_count(&batch.type);
  return distance(&batch, &alone) <= rounding_tolerance(all->plain);
}

/* False: the model mixes samples. */
static bool add_gates(Bench *all, const char *path, int64_t sample, int64_t samples, double **want) {
  Bench one = {0};
  fix_init(&one.f);
  load_for(&one, path, 1);
  one.spec.criterion = criterion("gate");
  one.spec.ema = 0;
  build(&one);
  *(float *)pare_program_buffer(one.p, one.t.dloss) = 1 / (float)samples;
  for (size_t i = 0; i < one.g->inputs.n; i++)
    if (one.g->inputs.at[i]->type.rank && one.g->inputs.at[i] != one.t.hyper)
      copy_sample(all, all->g->inputs.at[i], &one, one.g->inputs.at[i], sample);
  run(&one, PARE_PHASE_TUNE);
  run(&one, PARE_PHASE_SCORE);
  run(&one, PARE_PHASE_RANK);
  bool alone = stands_alone(all, &one, sample);
  for (size_t i = 0; i < one.d->dims.n; i++)
    for (int64_t g = 0; one.pruned[i] && g < one.d->dims.at[i].count; g++)
      want[i][g] += (double)buffer(&one, one.t.score[i])[g];
  unload(&one);
  fix_free(&one.f);
  return alone;
}

/* Whether there was something to compare. */
static bool check_fisher(Row *r) {
  Bench b = {0};
  fix_init(&b.f);
  load(&b, r->path);
  b.spec.criterion = criterion("fisher");
  b.spec.ema = 0;
  build(&b);
  fill_signs(&b);
  int64_t samples = b.g->inputs.at[0]->type.dim[0];
  double **want = PARE_NEW_N(b.f.arena, b.d->dims.n + 1, double *), limit = 4 * rounding_tolerance(b.plain);
  for (size_t i = 0; i < b.d->dims.n; i++) want[i] = PARE_NEW_N(b.f.arena, b.d->dims.at[i].count, double);
  run(&b, PARE_PHASE_TUNE);
  run(&b, PARE_PHASE_SCORE);
  run(&b, PARE_PHASE_RANK);
  bool alone = true;
  for (int64_t n = 0; n < samples; n++) alone &= add_gates(&b, r->path, n, samples, want);
  for (size_t i = 0; i < b.d->dims.n && alone; i++) {
    const PareDim *d = &b.d->dims.at[i];
    double most = 0;
    for (int64_t g = 0; b.pruned[i] && g < d->count; g++) most = fmax(most, want[i][g]);
    for (int64_t g = 0; b.pruned[i] && g < d->count; g++) {
      double got = (double)buffer(&b, b.t.score[i])[g];
      cr_assert(fabs(got - want[i][g]) <= limit * most, "%s, %s, group %ld: %.8g, not %.8g (most %g, rounding %g)",
                r->name, d->name, (long)g, got, want[i][g], most, limit);
    }
  }
  unload(&b);
  fix_free(&b.f);
  return alone;
}

Test(scores, of_fisher_are_the_gates_of_every_sample_alone_on_every_model_that_keeps_samples_apart) {
  Fix f;
  Row *rows;
  size_t checked = 0, n;
  fix_init(&f);
  n = fixtures(&f, 'A', &rows);
  for (size_t i = 0; i < n; i++) checked += check_fisher(&rows[i]);
  cr_assert(2 * checked > n, "only %zu of %zu models keep samples apart", checked, n);
  fix_free(&f);
}
