/* start.c - how adapters begin: at random, as the principal part of their weight, or as a folder of PEFT's has them. */
#include <math.h>
#include <string.h>

#include "api/params.h"
#include "base/rng.h"
#include "runtime/svd.h"

static PareStatus moments_new(PareCtx *c, PareArena *a, int64_t n, PareMoments *m) {
  m->value = PARE_NEW_N(a, n, float);
  m->m = PARE_NEW_N(a, n, float);
  m->v = PARE_NEW_N(a, n, float);
  return m->value && m->m && m->v ? PARE_OK : pare_nomem(c);
}

static double scale_of(const PareParamsSpec *spec, int64_t rank) {
  if (!rank) return 0;
  return spec->alpha / (spec->root_scale ? sqrt((double)rank) : (double)rank);
}

static void draw(const PareParamsSpec *spec, size_t i, int64_t rows, int64_t rank, float *a) {
  double bound = 1 / sqrt((double)rows);
  uint64_t key = pare_rng_u64(spec->seed, 0xada0 + i);
  for (int64_t j = 0; j < rows * rank; j++) a[j] = (float)(bound * (2 * pare_rng_uniform(key, (uint64_t)j) - 1));
}

/* s·A·B is the sum of the largest singular triples of the weight, A and B of one size. */
static PareStatus start_principal(PareCtx *c, const PareParamsSpec *spec, PareParams *p, size_t i) {
  const PareAdapter *x = &p->full.at.at[i];
  int64_t r = x->rank, k = x->k, n = x->n;
  if (r > k || r > n)
    return pare_error(c, PARE_USAGE, "the weight '%s' has no more than %lld singular values: --adapter-init pissa takes "
                      "at most so much --rank", x->name, (long long)(k < n ? k : n));
  PareMark mark = pare_arena_mark(c->scratch);
  float *w = PARE_NEW_N(c->scratch, k * n, float);
  double *u = PARE_NEW_N(c->scratch, k * r, double), *s = PARE_NEW_N(c->scratch, r, double);
  double *vt = PARE_NEW_N(c->scratch, r * n, double);
  PareAnchor *anchor = &p->anchor[i];
  anchor->a = PARE_NEW_N(p->arena, k * r, float);
  anchor->b = PARE_NEW_N(p->arena, r * n, float);
  if (!w || !u || !s || !vt || !anchor->a || !anchor->b) return pare_nomem(c);
  PARE_TRY(pare_adapted_weight(c, spec->model, x, w));
  PARE_TRY(pare_svd_top(c, k, n, w, r, pare_rng_u64(spec->seed, 0x9155a + i), u, s, vt));
  for (int64_t j = 0; j < r; j++) {
    double root = sqrt(s[j] / x->scale);
    for (int64_t q = 0; q < k; q++) anchor->a[q * r + j] = (float)(root * u[q * r + j]);
    for (int64_t q = 0; q < n; q++) anchor->b[j * n + q] = (float)(root * vt[j * n + q]);
  }
  memcpy(p->a[i].value, anchor->a, (size_t)(k * r) * sizeof(float));
  memcpy(p->b[i].value, anchor->b, (size_t)(r * n) * sizeof(float));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static PareNode *node_of(const PareGraph *g, uint32_t id) {
  PareNode *n = g->first;
  while (n && n->id != id) n = n->next;
  return n;
}

/* What PEFT's folder has in the place of the layer's own weight and bias is added to them as a difference. */
static PareStatus replace(PareCtx *c, const PareParamsSpec *spec, PareParams *p, size_t i, const ParePeftEntry *given) {
  const PareAdapter *x = &p->full.at.at[i];
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode *n = node_of(spec->model, x->sites.at[0].node), *reader;
  int input;
  if (given->weight) {
    float *w = PARE_NEW_N(c->scratch, x->k * x->n, float);
    if (!w) return pare_nomem(c);
    PARE_TRY(pare_params_add_dense(c, p, i));
    PARE_TRY(pare_adapted_weight(c, spec->model, x, w));
    PARE_TRY(pare_peft_read(c, spec->given, given, given->weight, p->dense[i]));
    for (int64_t k = 0; k < x->k * x->n; k++) p->dense[i][k] -= w[k];
  }
  if (given->bias) {
    const PareValue *b = pare_bias_of(spec->model, n, x->n, &reader, &input);
    if (!b) return pare_fail(c, n, PARE_DATA, "'%s' replaces the bias of '%s', which it has not", spec->given->dir, given->module);
    PARE_TRY(pare_params_add_bias(c, p, i));
    PARE_TRY(pare_peft_read(c, spec->given, given, given->bias, p->bias[i]));
    for (int64_t k = 0; k < x->n; k++) p->bias[i][k] -= (float)pare_data_float(b, k);
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static PareStatus start(PareCtx *c, const PareParamsSpec *spec, PareParams *p, size_t i) {
  PareAdapter *x = &p->full.at.at[i];
  const ParePeftEntry *given = spec->given ? pare_peft_find(spec->given, x) : NULL;
  bool adapter = given && given->rank;
  x->rank = adapter ? given->rank : spec->ranks ? spec->ranks[i] : spec->rank;
  x->scale = adapter ? given->scale : spec->ranks ? scale_of(spec, spec->rank) : scale_of(spec, x->rank);
  PARE_TRY(moments_new(c, p->arena, pare_adapter_rows(x) * x->rank, &p->a[i]));
  PARE_TRY(moments_new(c, p->arena, x->n * x->rank, &p->b[i]));
  p->anchor[i] = (PareAnchor){0};
  if (given) PARE_TRY(replace(c, spec, p, i, given));
  if (adapter) PARE_TRY(pare_peft_read(c, spec->given, given, given->a, p->a[i].value));
  if (adapter) return pare_peft_read(c, spec->given, given, given->b, p->b[i].value);
  if (spec->principal) return start_principal(c, spec, p, i);
  draw(spec, i, pare_adapter_rows(x), x->rank, p->a[i].value);
  return PARE_OK;
}

PareStatus pare_params_start(PareCtx *c, const PareParamsSpec *spec, PareParams *p) {
  for (size_t i = 0; i < p->full.at.n; i++) PARE_TRY(start(c, spec, p, i));
  return PARE_OK;
}
