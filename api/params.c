#include "api/params.h"

#include <string.h>

#include "api/trained.h"
#include "passes/insert_lora.h"

PareStatus pare_params_new(PareCtx *c, PareArena *arena, const PareDims *d, const PareParamsSpec *spec,
                           PareParams *out) {
  *out = (PareParams){.arena = arena};
  PareAdapterSpec sites = {.rank = spec->rank, .scale = 1, .sequential = spec->sequential,
                           .wanted = spec->given ? pare_peft_wants : NULL, .arg = (void *)(uintptr_t)spec->given};
  PARE_TRY(pare_find_adapters(c, arena, d, &sites, &out->full));
  size_t n = out->full.at.n;
  out->a = PARE_NEW_N(arena, n + 1, PareMoments);
  out->b = PARE_NEW_N(arena, n + 1, PareMoments);
  out->anchor = PARE_NEW_N(arena, n + 1, PareAnchor);
  out->dense = PARE_NEW_N(arena, n + 1, float *);
  out->bias = PARE_NEW_N(arena, n + 1, float *);
  out->alive = PARE_NEW_N(arena, n + 1, const uint8_t *);
  if (!out->a || !out->b || !out->anchor || !out->dense || !out->bias || !out->alive) return pare_nomem(c);
  if (spec->given) PARE_TRY(pare_peft_check(c, spec->given, &out->full));
  return pare_params_start(c, spec, out);
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

/* out [rows, cols], its rows `to` apart = scale · m's living rows and columns (NULL: all), m's rows `from` apart. */
static void gather(int64_t rows, const int64_t *row, int64_t cols, const int64_t *col, const float *m, int64_t from,
                   float scale, float *out, int64_t to) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) out[i * to + j] = scale * m[(row ? row[i] : i) * from + (col ? col[j] : j)];
}

PareStatus pare_params_give(PareCtx *c, PareArena *arena, const PareParams *p, const PareDims *d, size_t i,
                            ParePeftOut *out) {
  const PareAdapter *x = &p->full.at.at[i];
  const PareAnchor *was = &p->anchor[i];
  const PareNode *site = site_node(d, x);
  PareAxis *k = weight_axis(d, site, x, 0), *m = weight_axis(d, site, x, 1);
  int64_t nk = pare_axis_count(k), n = pare_axis_count(m), r = x->rank, all = was->a ? 2 * r : r;
  float *a = PARE_NEW_N(arena, nk * all + 1, float), *b = PARE_NEW_N(arena, all * n + 1, float);
  int64_t *row = PARE_NEW_N(arena, nk + 1, int64_t), *col = PARE_NEW_N(arena, n + 1, int64_t);
  if (!a || !b || !row || !col) return pare_nomem(c);
  pare_axis_indices(k, row);
  pare_axis_indices(m, col);
  gather(nk, row, r, NULL, p->a[i].value, r, 1, a, all);
  gather(r, NULL, n, col, p->b[i].value, x->n, 1, b, n);
  if (was->a) gather(nk, row, r, NULL, was->a, r, -1, a + r, all);
  if (was->a) gather(r, NULL, n, col, was->b, x->n, 1, b + r * n, n);
  *out = (ParePeftOut){x, nk, n, all, x->scale, a, b};
  return PARE_OK;
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

/* The adapter is what it began with, so that W0 stays bit by bit. */
static bool untouched(const PareParams *p, size_t i) {
  const PareAdapter *x = &p->full.at.at[i];
  const PareAnchor *was = &p->anchor[i];
  if (!was->a) return all_zero(p->b[i].value, x->n * x->rank);
  return !memcmp(was->a, p->a[i].value, (size_t)(x->k * x->rank) * sizeof(float)) &&
         !memcmp(was->b, p->b[i].value, (size_t)(x->n * x->rank) * sizeof(float));
}

bool pare_params_shifted(const PareParams *p) {
  for (size_t i = 0; i < p->full.at.n; i++)
    if (p->anchor[i].a || p->dense[i] || p->bias[i]) return true;
  return false;
}

/* The deltas that are not zero by themselves, at full size. out[p->full.at.n]; returns how many. */
static size_t list_deltas(const PareParams *p, PareFolding what, PareDelta *out) {
  size_t count = 0;
  for (size_t i = 0; i < p->full.at.n; i++) {
    const PareAdapter *a = &p->full.at.at[i];
    bool adapted = what == PARE_FOLD_ALL && !untouched(p, i);
    bool anchored = p->anchor[i].a && (adapted || what == PARE_FOLD_FROZEN);
    const uint8_t *alive = what == PARE_FOLD_ALL ? p->alive[i] : NULL;
    if (!adapted && !anchored && !p->dense[i] && !p->bias[i] && !alive) continue;
    out[count++] = (PareDelta){.adapter = a, .k = a->k, .n = a->n, .a = adapted ? p->a[i].value : NULL,
                               .b = adapted ? p->b[i].value : NULL, .a0 = anchored ? p->anchor[i].a : NULL,
                               .b0 = anchored ? p->anchor[i].b : NULL, .dense = p->dense[i], .bias = p->bias[i],
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
