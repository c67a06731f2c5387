/* training_bench.h - a fixture's training graph and its program, for suites about what a step computes. */
#ifndef PARE_TESTS_TRAINING_BENCH_H
#define PARE_TESTS_TRAINING_BENCH_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/training.h"
#include "runtime/program.h"
#include "support.h"

#define VIT "deit-fashion-ts-op17-dyn"
enum { RANK = 3 };

typedef struct Bench {
  Fix f;
  PareModel *m;
  PareDims *d;
  PareGraph *plain, *g; /* bound: the model, the training graph */
  PareAdapters adapters;
  bool *pruned, sequential, unfused, elements, normalise, regrow, bf16, reread;
  unsigned kinds; /* classes that may lose groups; 0: heads and channels */
  PareTrainSpec spec;
  PareTrainGraph t;
  PareProgram *p;
} Bench;

static inline const PareCriterion *criterion(const char *name) {
  const PareCriterion *c = pare_criterion_find(name);
  cr_assert_not_null(c, "no criterion '%s'", name);
  return c;
}

static inline void load_for(Bench *b, const char *path, int64_t samples) {
  const int64_t sizes[] = {samples, 7};
  Fix *f = &b->f;
  PareGraph *probe;
  MUST(f, pare_model_load(&f->c, path, &b->m));
  MUST(f, pare_probe_dims(&f->c, f->arena, b->m->graph, 0, &probe));
  unsigned kinds = b->kinds ? b->kinds : PARE_KIND_BIT(PARE_KIND_HEADS) | PARE_KIND_BIT(PARE_KIND_FFN);
  MUST(f, b->kinds ? pare_trace_classes(&f->c, f->arena, probe, kinds, &b->d)
                   : pare_trace_dims(&f->c, f->arena, probe, &b->d));
  MUST(f, pare_find_adapters(&f->c, f->arena, b->d, &(PareAdapterSpec){.rank = RANK, .scale = 6.0 / RANK, .sequential = b->sequential}, &b->adapters));
  for (size_t i = 0; i < b->adapters.at.n; i++) b->adapters.at.at[i].elementwise = b->elements;
  b->plain = bound_at(f, b->m->graph, 2, sizes);
  b->g = bound_at(f, b->m->graph, 2, sizes);
  b->pruned = PARE_NEW_N(f->arena, b->d->dims.n + 1, bool);
  for (size_t i = 0; i < b->d->dims.n; i++)
    b->pruned[i] = !b->elements && (kinds & PARE_KIND_BIT(b->d->dims.at[i].kind));
  b->spec = (PareTrainSpec){.loss = PARE_LOSS_KD, .teach_outputs = true, .temperature = 2,
                            .criterion = criterion("loraprune"), .power = 2, .eta = 1, .ema = 0.9,
                            .pruned = b->pruned, .plain = b->unfused, .normalise = b->normalise,
                            .regrow = b->regrow, .bf16 = b->bf16, .reread = b->reread};
}

static inline void load(Bench *b, const char *path) { load_for(b, path, 3); }

static inline void build(Bench *b) {
  Fix *f = &b->f;
  MUST(f, pare_build_training(&f->c, b->g, b->d, &b->adapters, &b->spec, &b->t));
  MUST(f, pare_program_new_pinned(&f->c, b->g, pare_cpu_kernels(), 1, &b->t.outputs[0].output, &b->p));
  fill_inputs(b->p, b->g);
  *(float *)pare_program_buffer(b->p, b->t.dloss) = 1;
  const float hyper[8] = {1e-3f, 0.9f, 0.999f, 1e-8f, 0, 10, 1000, 1};
  memcpy(pare_program_buffer(b->p, b->t.hyper), hyper, sizeof hyper);
}

static inline float *buffer(const Bench *b, const PareValue *v) { return pare_program_buffer(b->p, v); }

static inline void randomise(const Bench *b, const PareValue *v, uint64_t seed) {
  fill_random(&v->type, buffer(b, v), seed);
  for (int64_t i = 0; i < pare_type_count(&v->type); i++) buffer(b, v)[i] *= 0.1f;
}

static inline void randomise_adapters(const Bench *b) {
  for (size_t k = 0; k < b->t.nadapters; k++)
    randomise(b, b->t.a[k].value, k), randomise(b, b->t.b[k].value, 100 + k);
}

static inline void run(Bench *b, int phase) { MUST(&b->f, pare_program_run(&b->f.c, b->p, phase)); }

static inline void unload(Bench *b) {
  pare_program_free(b->p);
  pare_model_free(b->m);
}

/* A step against labels, with random adapters. */
static inline void supervised_on(Bench *b, const char *model, const char *name, int power, double eta) {
  load(b, fixture(&b->f, model));
  b->spec.loss = PARE_LOSS_CE;
  b->spec.teach_outputs = false;
  b->spec.labels = (PareType){PARE_I64, 1, {b->g->outputs.at[0]->type.dim[0]}};
  b->spec.criterion = criterion(name);
  b->spec.power = power;
  b->spec.eta = eta;
  build(b);
  int64_t *label = pare_program_buffer(b->p, b->t.labels), classes = b->plain->outputs.at[0]->type.dim[1];
  for (int64_t i = 0; i < b->t.labels->type.dim[0]; i++) label[i] = (3 * i + 1) % classes;
  randomise_adapters(b);
}

static inline void supervised(Bench *b, const char *name, int power, double eta) { supervised_on(b, VIT, name, power, eta); }

static inline double loss(Bench *b) {
  run(b, PARE_PHASE_TUNE);
  return (double)*(float *)pare_program_buffer(b->p, b->t.loss);
}

#endif
