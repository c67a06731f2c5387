#include "api/params.h"

#include <math.h>
#include <string.h>

#include "api/trained.h"
#include "base/rng.h"

static PareStatus moments_new(PareCtx *c, PareArena *a, int64_t n, PareMoments *m) {
  m->value = PARE_NEW_N(a, n, float);
  m->m = PARE_NEW_N(a, n, float);
  m->v = PARE_NEW_N(a, n, float);
  return m->value && m->m && m->v ? PARE_OK : pare_nomem(c);
}

PareStatus pare_params_new(PareCtx *c, PareArena *arena, const PareDims *d, int64_t rank, double alpha, bool sequential,
                           uint64_t seed, PareParams *out) {
  *out = (PareParams){.arena = arena};
  PARE_TRY(pare_find_adapters(c, arena, d, rank, alpha, sequential, &out->full));
  size_t n = out->full.at.n;
  out->a = PARE_NEW_N(arena, n + 1, PareMoments);
  out->b = PARE_NEW_N(arena, n + 1, PareMoments);
  out->dense = PARE_NEW_N(arena, n + 1, float *);
  out->bias = PARE_NEW_N(arena, n + 1, float *);
  out->alive = PARE_NEW_N(arena, n + 1, const uint8_t *);
  if (!out->a || !out->b || !out->dense || !out->bias || !out->alive) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    const PareAdapter *x = &out->full.at.at[i];
    int64_t rows = pare_adapter_rows(x);
    PARE_TRY(moments_new(c, arena, rows * rank, &out->a[i]));
    PARE_TRY(moments_new(c, arena, x->n * rank, &out->b[i]));
    double bound = 1 / sqrt((double)rows);
    uint64_t key = pare_rng_u64(seed, 0xada0 + i);
    for (int64_t j = 0; j < rows * rank; j++)
      out->a[i].value[j] = (float)(bound * (2 * pare_rng_uniform(key, (uint64_t)j) - 1));
  }
  return PARE_OK;
}

/* The node of the traced graph that reads the adapter's weight. */
static const PareNode *site_node(const PareDims *d, const PareAdapter *a) {
  const PareNode *n = d->tracer->g->first;
  while (n && n->id != a->sites.at[0].node) n = n->next;
  return n;
}

/* axis 0: the weight's K, 1: its N, as the node multiplies. */
static PareAxis *weight_axis(const PareDims *d, const PareNode *n, const PareAdapter *a, int axis) {
  return pare_axis_in(d->tracer, n, a->sites.at[0].w, a->transposed ? 1 - axis : axis);
}

PareStatus pare_params_cut(PareCtx *c, PareArena *arena, const PareParams *p, const PareDims *d, PareAdapters *out) {
  *out = (PareAdapters){0};
  for (size_t i = 0; i < p->full.at.n; i++) {
    PareAdapter a = p->full.at.at[i];
    const PareNode *n = site_node(d, &a);
    a.k = pare_axis_count(weight_axis(d, n, &a, 0));
    a.n = pare_axis_count(weight_axis(d, n, &a, 1));
    if (!pare_vec_push(arena, &out->at, a)) return pare_nomem(c);
  }
  return PARE_OK;
}

typedef struct Copy {
  float *full, *cut;
  int64_t rows, cols, full_cols;
  const int64_t *row, *col; /* indices that live; NULL: all */
  bool save;
} Copy;

static void copy_matrix(const Copy *x) {
  for (int64_t i = 0; i < x->rows; i++)
    for (int64_t j = 0; j < x->cols; j++) {
      float *f = &x->full[(x->row ? x->row[i] : i) * x->full_cols + (x->col ? x->col[j] : j)];
      float *s = &x->cut[i * x->cols + j];
      if (x->save) *f = *s;
      else *s = *f;
    }
}

static PareStatus copy_moments(PareCtx *c, Copy x, const PareMoments *m, const PareParam *p, PareProgram *program) {
  float *full[] = {m->value, m->m, m->v};
  const PareValue *cut[] = {p->value, p->m, p->v};
  for (int i = 0; i < 3; i++) {
    x.full = full[i];
    x.cut = pare_program_buffer(program, cut[i]);
    if (!x.cut) continue;
    if (x.save) PARE_TRY(pare_program_pull(c, program, cut[i]));
    copy_matrix(&x);
    if (!x.save) PARE_TRY(pare_program_push(c, program, cut[i]));
  }
  return PARE_OK;
}

static PareStatus transfer(PareCtx *c, const PareParams *p, const PareDims *d, const PareTrainGraph *t,
                           PareProgram *program, bool save) {
  PARE_TRY(pare_trained_transfer(c, p, d, t, program, save));
  for (size_t i = 0; i < p->full.at.n; i++) {
    const PareAdapter *a = &p->full.at.at[i];
    if (!a->rank) continue;
    const PareNode *n = site_node(d, a);
    PareAxis *k = weight_axis(d, n, a, 0), *m = weight_axis(d, n, a, 1);
    int64_t nk = pare_axis_count(k), nn = pare_axis_count(m);
    PareMark mark = pare_arena_mark(c->scratch);
    int64_t *rows = PARE_NEW_N(c->scratch, nk + 1, int64_t), *cols = PARE_NEW_N(c->scratch, nn + 1, int64_t);
    if (!rows || !cols) return pare_nomem(c);
    pare_axis_indices(k, rows);
    pare_axis_indices(m, cols);
    Copy of_a = {.rows = a->sequential ? nn : nk, .cols = a->rank, .full_cols = a->rank,
                 .row = a->sequential ? cols : rows, .save = save};
    Copy of_b = {.rows = a->rank, .cols = nn, .full_cols = a->n, .col = cols, .save = save};
    PARE_TRY(copy_moments(c, of_a, &p->a[i], &t->a[i], program));
    PARE_TRY(copy_moments(c, of_b, &p->b[i], &t->b[i], program));
    pare_arena_rewind(c->scratch, mark);
  }
  return PARE_OK;
}

PareStatus pare_params_load(PareCtx *c, const PareParams *p, const PareDims *d, const PareTrainGraph *t,
                            PareProgram *program) {
  return transfer(c, p, d, t, program, false);
}

PareStatus pare_params_save(PareCtx *c, PareParams *p, const PareDims *d, const PareTrainGraph *t,
                            PareProgram *program) {
  return transfer(c, p, d, t, program, true);
}

static PareStatus make_room(PareCtx *c, PareArena *a, int64_t n, float **at) {
  if (!*at) *at = PARE_NEW_N(a, n, float);
  return *at ? PARE_OK : pare_nomem(c);
}

PareStatus pare_params_add_dense(PareCtx *c, PareParams *p, size_t i) {
  return make_room(c, p->arena, p->full.at.at[i].k * p->full.at.at[i].n, &p->dense[i]);
}

PareStatus pare_params_add_bias(PareCtx *c, PareParams *p, size_t i) {
  return make_room(c, p->arena, p->full.at.at[i].n, &p->bias[i]);
}

static bool all_zero(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (x[i] != 0) return false;
  return true;
}

/* The deltas that are not zero by themselves, at full size. out[p->full.at.n]; returns how many. */
static size_t list_deltas(const PareParams *p, PareFolding what, PareDelta *out) {
  size_t count = 0;
  for (size_t i = 0; i < p->full.at.n; i++) {
    const PareAdapter *a = &p->full.at.at[i];
    bool adapted = what == PARE_FOLD_ALL && !all_zero(p->b[i].value, a->n * a->rank);
    const uint8_t *alive = what == PARE_FOLD_ALL ? p->alive[i] : NULL;
    if (!adapted && !p->dense[i] && !p->bias[i] && !alive) continue;
    out[count++] = (PareDelta){.adapter = a, .k = a->k, .n = a->n, .a = adapted ? p->a[i].value : NULL,
                               .b = adapted ? p->b[i].value : NULL, .dense = p->dense[i], .bias = p->bias[i],
                               .alive = alive};
  }
  return count;
}

PareStatus pare_params_fold(PareCtx *c, PareArena *a, const PareParams *p, const PareGraph *g, PareFolding what,
                            PareGraph **out) {
  const PareGraph *tuned = g;
  PareDelta *delta = PARE_NEW_N(a, p->full.at.n + 1, PareDelta);
  if (!delta) return pare_nomem(c);
  if (what == PARE_FOLD_ALL) PARE_TRY(pare_trained_write(c, a, p, g, &tuned));
  return pare_fold_adapters(c, a, tuned, list_deltas(p, what, delta), delta, out);
}
