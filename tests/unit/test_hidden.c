/* test_hidden.c - which hidden states are found, and that relevance is the gradient's share of each position. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "api/forward.h"
#include "api/teacher.h"
#include "passes/hidden.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "support.h"

typedef struct Case {
  Fix f;
  PareModel *m;
  PareDims *d;
  PareHiddens hidden;
} Case;

static void load(Case *k, const char *path) {
  Fix *f = &k->f;
  PareGraph *probe;
  fix_init(f);
  MUST(f, pare_model_load(&f->c, path, &k->m));
  MUST(f, pare_probe_dims(&f->c, f->arena, k->m->graph, 0, &probe));
  MUST(f, pare_trace_dims(&f->c, f->arena, probe, &k->d));
  bool *pruned = PARE_NEW_N(f->arena, k->d->dims.n + 1, bool);
  memset(pruned, 1, k->d->dims.n);
  MUST(f, pare_find_hidden(&f->c, f->arena, k->d, pruned, &k->hidden));
}

static void unload(Case *k) {
  pare_model_free(k->m);
  fix_free(&k->f);
}

/* The committed vision transformer: each block writes twice to its stream. */
static const char *vit(void) { return PARE_SOURCE_DIR "/examples/fashion-vit/model.onnx"; }

Test(hidden, is_what_every_block_adds_to_the_stream) {
  Case k = {0};
  load(&k, vit());
  size_t sums = 0, blocks = 0;
  for (size_t i = 0; i < k.d->dims.n; i++) {
    PareKind kind = k.d->dims.at[i].kind;
    blocks += kind == PARE_KIND_HEADS || kind == PARE_KIND_FFN;
  }
  for (size_t i = 0; i < k.hidden.at.n; i++) {
    const PareValue *v = k.m->graph->values.at[k.hidden.at.at[i].value];
    sums += v->def && v->def->op == PARE_OP_ADD && v->def->in[0]->role == PARE_RESULT &&
            v->def->in[1]->role == PARE_RESULT;
  }
  cr_expect_eq(k.hidden.at.n, blocks, "%zu states, %zu blocks", k.hidden.at.n, blocks);
  cr_expect_eq(sums, blocks, "%zu of %zu states are residual sums", sums, blocks);
  unload(&k);
}

enum { SAMPLES = 4 };

static PareForward *watch(Case *k, PareData **data, uint32_t *value) {
  Fix *f = &k->f;
  PareGraph *bound;
  PareForward *w;
  MUST(f, pare_probe_dims(&f->c, f->arena, k->m->graph, 0, &bound));
  MUST(f, pare_samples_random(&f->c, bound, SAMPLES, 3, data));
  for (size_t i = 0; i < k->hidden.at.n; i++) value[i] = k->hidden.at.at[i].value;
  PareWatch spec = {.n = k->hidden.at.n, .value = value, .felt = k->hidden.at.n};
  MUST(f, pare_forward_new_watching(&f->c, k->m->graph, *data, SAMPLES, &spec, NULL, &w));
  return w;
}

Test(relevance, of_a_sample_adds_up_to_one_and_behind_the_last_attention_is_the_class_tokens) {
  Case k = {0};
  PareData *data;
  uint32_t value[64];
  load(&k, vit());
  PareForward *w = watch(&k, &data, value);
  const int64_t samples[SAMPLES] = {0, 1, 2, 3};
  MUST(&k.f, pare_forward_run(&k.f.c, w, samples, SAMPLES));
  for (size_t i = 0; i < k.hidden.at.n; i++) {
    PareType t;
    pare_forward_watched(w, i, &t);
    int64_t rows = pare_type_count(&t) / t.dim[t.rank - 1] / SAMPLES;
    float *r = PARE_NEW_N(k.f.arena, rows * SAMPLES, float);
    pare_forward_relevance(w, i, r);
    for (int64_t s = 0; s < SAMPLES; s++) {
      double sum = 0, first = (double)r[s * rows];
      for (int64_t j = 0; j < rows; j++) sum += (double)r[s * rows + j];
      cr_expect_float_eq(sum, 1, (double)rows * 6e-8, "state %zu, sample %d: %g", i, (int)s, sum);
      if (i + 1 == k.hidden.at.n)
        cr_expect_float_eq(first, 1, 1e-6, "the last state's first position has %g of sample %d", first, (int)s);
    }
  }
  pare_forward_free(w);
  pare_data_free(data);
  unload(&k);
}

/* weight · sum of r·|h + e - h|² / sum of r·|h - mean|², from plain sums in double. */
Test(teacher, makes_the_loss_the_error_in_units_of_the_states_variance) {
  Case k = {0};
  PareData *data;
  PareTeacher *teacher;
  uint32_t value[64];
  load(&k, vit());
  PareForward *w = watch(&k, &data, value);
  const int64_t samples[SAMPLES] = {2, 0, 3, 1};
  PareWatch spec = {.n = k.hidden.at.n, .value = value, .felt = k.hidden.at.n};
  MUST(&k.f, pare_teacher_new(&k.f.c, k.m->graph, data, SAMPLES, &spec, false, NULL, &teacher));
  MUST(&k.f, pare_teacher_run(&k.f.c, teacher, samples, SAMPLES));
  MUST(&k.f, pare_forward_run(&k.f.c, w, samples, SAMPLES));
  PareType t;
  const float *h = pare_forward_watched(w, 1, &t);
  int64_t n = t.dim[t.rank - 1], count = pare_type_count(&t), rows = count / n;
  float *r = PARE_NEW_N(k.f.arena, rows, float), *scale = PARE_NEW_N(k.f.arena, rows, float);
  float *target = PARE_NEW_N(k.f.arena, count, float);
  double *mean = PARE_NEW_N(k.f.arena, n, double), spread = 0, error = 0, loss = 0;
  pare_forward_relevance(w, 1, r);
  MUST(&k.f, pare_teacher_hidden(&k.f.c, teacher, 1, 0.25, target, scale));
  for (int64_t i = 0; i < count; i++) mean[i % n] += (double)r[i / n] * (double)h[i] / SAMPLES;
  for (int64_t i = 0; i < count; i++) {
    double e = 0.1 * sin((double)i), d = (double)scale[i / n] * ((double)h[i] + e) - (double)target[i];
    spread += (double)r[i / n] * pow((double)h[i] - mean[i % n], 2);
    error += (double)r[i / n] * e * e;
    loss += d * d / (double)count;
  }
  /* targets are rounded to f32: 6e-8 of values up to some hundred times the error */
  cr_expect_float_eq(loss, 0.25 * error / spread, 1e-4 * loss, "%.9g, not %.9g", loss, 0.25 * error / spread);
  pare_teacher_free(teacher);
  pare_forward_free(w);
  pare_data_free(data);
  unload(&k);
}
