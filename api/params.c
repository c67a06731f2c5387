#include "api/params.h"

#include <math.h>
#include <string.h>

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

PareStatus pare_params_train(PareCtx *c, PareParams *p, const PareDims *d, unsigned what) {
  PARE_TRY(pare_find_trained(c, p->arena, d, &p->full, what, &p->trained));
  if (!(p->t = PARE_NEW_N(p->arena, p->trained.at.n + 1, PareMoments))) return pare_nomem(c);
  for (size_t i = 0; i < p->trained.at.n; i++) {
    const PareTrained *t = &p->trained.at.at[i];
    int64_t n = pare_type_count(&t->type);
    PARE_TRY(moments_new(c, p->arena, n, &p->t[i]));
    for (int64_t k = 0; k < n; k++) p->t[i].value[k] = (float)pare_data_float(t->was, k);
  }
  return PARE_OK;
}

static const PareNode *find_node(const PareGraph *g, uint32_t id) {
  const PareNode *n = g->first;
  while (n && n->id != id) n = n->next;
  return n;
}

/* The node of the traced graph that reads the adapter's weight. */
static const PareNode *site_node(const PareDims *d, const PareAdapter *a) {
  return find_node(d->tracer->g, a->sites.at[0].node);
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
    x.cut = cut[i] ? pare_program_buffer(program, cut[i]) : NULL;
    if (!x.cut) continue;
    if (x.save) PARE_TRY(pare_program_pull(c, program, cut[i]));
    copy_matrix(&x);
    if (!x.save) PARE_TRY(pare_program_push(c, program, cut[i]));
  }
  return PARE_OK;
}

/* The rows of a tensor that live are those of its first axes, all but the last: each is a product of indices. */
static PareStatus living_rows(PareCtx *c, const PareTrained *t, PareAxis *const *axis, int64_t *rows, int64_t **out) {
  int64_t n = 1, stride = 1, *at;
  for (int d = 0; d + 1 < t->type.rank; d++) n *= pare_axis_count(axis[d]);
  if (!(at = PARE_NEW_N(c->scratch, n + 1, int64_t))) return pare_nomem(c);
  int64_t inner = 1;
  for (int d = t->type.rank - 2; d >= 0; d--) {
    int64_t count = pare_axis_count(axis[d]), *index = PARE_NEW_N(c->scratch, count + 1, int64_t);
    if (!index) return pare_nomem(c);
    pare_axis_indices(axis[d], index);
    for (int64_t i = 0; i < n; i++) at[i] += index[i / inner % count] * stride;
    inner *= count;
    stride *= t->type.dim[d];
  }
  *rows = n;
  *out = at;
  return PARE_OK;
}

static PareStatus transfer_trained(PareCtx *c, const PareParams *p, const PareDims *d, size_t i,
                                   const PareTrainGraph *t, PareProgram *program, bool save) {
  const PareTrained *x = &p->trained.at.at[i];
  const PareUse *u = &x->readings.at[0];
  PareMark mark = pare_arena_mark(c->scratch);
  PareAxis *axis[PARE_MAX_RANK];
  int64_t *row, *col, rows;
  int last = x->type.rank - 1;
  for (int k = 0; k <= last; k++) axis[k] = pare_axis_in(d->tracer, u->node, u->input, k);
  PARE_TRY(living_rows(c, x, axis, &rows, &row));
  int64_t cols = last < 0 ? 1 : pare_axis_count(axis[last]);
  if (!(col = PARE_NEW_N(c->scratch, cols + 1, int64_t))) return pare_nomem(c);
  if (last >= 0) pare_axis_indices(axis[last], col);
  Copy copy = {.rows = rows, .cols = cols, .full_cols = last < 0 ? 1 : x->type.dim[last], .row = row, .col = col, .save = save};
  PARE_TRY(copy_moments(c, copy, &p->t[i], &t->trained[i], program));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

static PareStatus transfer(PareCtx *c, const PareParams *p, const PareDims *d, const PareTrainGraph *t,
                           PareProgram *program, bool save) {
  for (size_t i = 0; i < p->trained.at.n; i++) PARE_TRY(transfer_trained(c, p, d, i, t, program, save));
  for (size_t i = 0; i < p->full.at.n; i++) {
    const PareAdapter *a = &p->full.at.at[i];
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
  PareGraph *tuned = NULL;
  PareDelta *delta = PARE_NEW_N(a, p->full.at.n + 1, PareDelta);
  const float **value = PARE_NEW_N(a, p->trained.at.n + 1, const float *);
  if (!delta || !value) return pare_nomem(c);
  for (size_t i = 0; i < p->trained.at.n; i++) value[i] = p->t[i].value;
  if (what == PARE_FOLD_ALL && p->trained.at.n) {
    if (!(tuned = pare_graph_clone(c, a, g))) return c->diag.code;
    PARE_TRY(pare_write_trained(c, tuned, &p->trained, value));
  }
  size_t n = list_deltas(p, what, delta);
  return pare_fold_adapters(c, a, tuned ? tuned : g, n, delta, out);
}

/* --- reconstruction of what is tuned itself --- */

static void absorb(PareMoments *m, const PareTrained *t, const PareGraph *was, const PareGraph *is) {
  for (size_t i = 0; i < t->readings.n; i++) {
    const PareUse *u = &t->readings.at[i];
    const PareValue *old = find_node(was, u->node->id)->in[u->input], *now = find_node(is, u->node->id)->in[u->input];
    if (old->data == now->data) continue;
    for (int64_t k = 0; k < pare_type_count(&t->type); k++)
      m->value[k] = (float)((double)m->value[k] + pare_data_float(now, k) - pare_data_float(old, k));
    return; /* all readings have got the same */
  }
}

/* The adapters' weights and biases that are tuned themselves have taken over what was kept beside them. */
static void forget_absorbed(PareParams *p, size_t i, const PareGraph *g) {
  const PareSite *s = &p->full.at.at[i].sites.at[0];
  PareNode *n = (PareNode *)(uintptr_t)find_node(g, s->node), *root, *reader;
  int input;
  if (p->dense[i] && pare_root_constant(n, s->w, &root, &input) && pare_trained_at(&p->trained, root->id, input) >= 0)
    p->dense[i] = NULL;
  if (p->bias[i] && pare_bias_of(g, n, p->full.at.at[i].n, &reader, &input) &&
      pare_trained_at(&p->trained, reader->id, input) >= 0)
    p->bias[i] = NULL;
}

void pare_params_absorb(PareParams *p, const PareGraph *was, const PareGraph *is) {
  for (size_t i = 0; i < p->trained.at.n; i++) absorb(&p->t[i], &p->trained.at.at[i], was, is);
  for (size_t i = 0; i < p->full.at.n && p->trained.at.n; i++) forget_absorbed(p, i, is);
}

int64_t pare_params_count(const PareParams *p, const PareTrainGraph *t) {
  int64_t count = 0;
  for (size_t i = 0; i < p->full.at.n; i++) {
    const PareAdapter *a = &p->full.at.at[i];
    count += (pare_adapter_rows(a) + a->n) * a->rank;
  }
  for (size_t i = 0; i < p->trained.at.n; i++)
    if (t->trained[i].grad) count += pare_type_count(&p->trained.at.at[i].type);
  return count;
}
