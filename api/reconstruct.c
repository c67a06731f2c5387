/* reconstruct.c - see reconstruct.h: what is taken over, and what it would cost to lose a group. Rows are weighed by
 * how much the outputs feel them, so that padding and what nobody reads decide nothing. */
#include "api/reconstruct.h"

#include <math.h>
#include <string.h>

#include "api/call.h"
#include "api/forward.h"
#include "api/trained.h"
#include "passes/pass.h"
#include "passes/match.h"
#include "passes/quantized.h"
#include "runtime/least_squares.h"
#include "runtime/obs.h"

enum { SAMPLES = 512 };              /* some thousand rows for layers of some hundred to some thousand inputs */
static const double DAMPING = 1e-2;  /* of the moments' mean diagonal, as is usual (Frantar et al. 2022) */

/* A weight whose inputs lose groups. Sizes are those of the model as it is. */
typedef struct Reader {
  size_t adapter;
  const PareAdapter *a;
  int64_t k, n;
  int64_t nkept, *kept, nlost, *lost; /* positions among its inputs */
  const int64_t *row, *col;           /* their places in the uncut weight */
  const PareValue *w;                 /* with its adapter, f32 */
  size_t watched;                     /* number of its first site's result among the watched; inputs come behind all */
  bool bias;
  double alpha;
  PareSecondMoments *moments;
} Reader;

typedef struct Readers {
  PARE_VEC(Reader) at;
  PARE_VEC(uint32_t) result, input; /* by site, over all readers: value ids */
} Readers;

static const PareNode *node_of(const PareGraph *g, uint32_t id) {
  const PareNode *n = g->first;
  while (n && n->id != id) n = n->next;
  return n;
}

/* --- which weights --- */

typedef struct Loss {
  PareTuner *t;
  PareAxis *axis;
  int64_t size, *group;
  bool *lost;
} Loss;

static void mark_lost(PareAxis *leaf, void *arg) {
  Loss *l = arg;
  const bool *keep = leaf->dim >= 0 ? l->t->keep[leaf->dim] : NULL;
  if (!keep || !l->t->dims->dims.at[leaf->dim].exact) return; /* behind a norm the rest has changed as well */
  pare_axis_kept_positions(l->axis, leaf, l->group);
  for (int64_t i = 0; i < l->size; i++) l->lost[i] |= l->group[i] >= 0 && !keep[l->group[i]];
}

static PareStatus indices_of(PareCtx *c, PareArena *a, PareAxis *axis, const int64_t **out) {
  int64_t *at = PARE_NEW_N(a, pare_axis_count(axis) + 1, int64_t);
  if (!at) return pare_nomem(c);
  pare_axis_indices(axis, at);
  *out = at;
  return PARE_OK;
}

static PareStatus divide(PareTuner *t, PareArena *a, PareAxis *axis, Reader *r) {
  Loss l = {.t = t, .axis = axis, .size = r->k, .group = PARE_NEW_N(a, r->k + 1, int64_t),
            .lost = PARE_NEW_N(a, r->k + 1, bool)};
  r->kept = PARE_NEW_N(a, r->k + 1, int64_t);
  r->lost = PARE_NEW_N(a, r->k + 1, int64_t);
  if (!l.group || !l.lost || !r->kept || !r->lost) return pare_nomem(t->c);
  pare_axis_leaves(axis, mark_lost, &l);
  for (int64_t i = 0; i < r->k; i++) {
    if (l.lost[i]) r->lost[r->nlost++] = i;
    else r->kept[r->nkept++] = i;
  }
  return PARE_OK;
}

/* What the product reads and makes, in floats: of dynamic quantisation what was quantised and what is scaled back. */
static PareStatus floats_of(PareTuner *t, const PareGraph *g, const PareNode *n, int x, const PareValue **in,
                            const PareValue **out) {
  PareScaledProduct p;
  *in = n->in[x];
  *out = n->out[0];
  if (n->op != PARE_OP_MATMULINTEGER) return PARE_OK;
  const PareNode *q = n->in[x]->def;
  if (!pare_scaled_product(g, n, &p) || !q || q->op != PARE_OP_DYNAMICQUANTIZELINEAR)
    return pare_fail(t->c, n, PARE_UNSUPPORTED, "what it makes up for cannot be told: take --reconstruct off");
  *in = q->in[0];
  *out = p.scaled->out[0];
  return PARE_OK;
}

/* Values by id of the model as it is, `g`: its nodes are those that were traced. */
static PareStatus add_sites(PareTuner *t, PareArena *a, const PareGraph *g, Reader *r, Readers *all) {
  r->watched = all->result.n;
  r->bias = true;
  for (size_t i = 0; i < r->a->sites.n; i++) {
    const PareSite *s = &r->a->sites.at[i];
    PareNode *n = (PareNode *)(uintptr_t)node_of(g, s->node), *reader;
    const PareValue *x, *made;
    int input;
    PARE_TRY(floats_of(t, g, n, s->x, &x, &made));
    bool bias = pare_bias_of(g, n, r->n, &reader, &input) != NULL;
    r->alpha = pare_attr_get(&n->attr, alpha, 1.0);
    r->bias &= bias;
    if (!pare_vec_push(a, &all->input, x->id) ||
        !pare_vec_push(a, &all->result, bias ? reader->out[0]->id : made->id))
      return pare_nomem(t->c);
  }
  return PARE_OK;
}

static void may_lose(PareAxis *leaf, void *arg) {
  Loss *l = arg;
  *l->lost |= leaf->dim >= 0 && l->t->pruned[leaf->dim];
}

/* The axis holds groups that may go. */
static bool has_groups(PareTuner *t, PareAxis *axis) {
  bool any = false;
  Loss l = {.t = t, .lost = &any};
  pare_axis_leaves(axis, may_lose, &l);
  return any;
}

/* Weights whose inputs lose groups now or, with `may`, that may do so. */
static PareStatus find_readers(PareTuner *t, PareArena *a, const PareGraph *g, bool may, Readers *out) {
  PareTracer *tr = t->dims->tracer;
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    Reader r = {.adapter = i, .a = &t->params.full.at.at[i]};
    const PareSite *s = &r.a->sites.at[0];
    const PareNode *n = node_of(tr->g, s->node);
    PareAxis *k = pare_axis_in(tr, n, s->w, r.a->transposed), *cols = pare_axis_in(tr, n, s->w, !r.a->transposed);
    r.k = pare_axis_count(k);
    r.n = pare_axis_count(cols);
    PARE_TRY(divide(t, a, k, &r));
    if (may ? !has_groups(t, k) : !r.nlost || !r.nkept) continue;
    PARE_TRY(indices_of(t->c, a, k, &r.row));
    PARE_TRY(indices_of(t->c, a, cols, &r.col));
    PARE_TRY(add_sites(t, a, g, &r, out));
    if (!pare_vec_push(a, &out->at, r)) return pare_nomem(t->c);
  }
  return PARE_OK;
}

/* --- the model as it is --- */

static PareStatus model_now(PareTuner *t, PareArena *a, PareGraph **out) {
  PareGraph *folded;
  PARE_TRY(pare_params_fold(t->c, a, &t->params, t->model->graph, PARE_FOLD_ALL, &folded));
  return pare_cut_dims(t->c, a, folded, t->dims, out);
}

/* Weights as the products read them: in f32, dequantised, behind their views. */
static PareStatus read_weights(PareTuner *t, PareArena *a, const PareGraph *g, Readers *all) {
  int64_t batch = t->batch;
  PareGraph *bound = pare_graph_clone(t->c, a, g);
  if (!bound) return t->c->diag.code;
  PARE_TRY(pare_feed_bind(t->c, bound, t->data, &batch));
  PARE_TRY(pare_run_passes(t->c, bound, "widen,float-products,fold-constants", NULL));
  for (size_t i = 0; i < all->at.n; i++) {
    Reader *r = &all->at.at[i];
    const PareNode *n = node_of(bound, r->a->sites.at[0].node);
    const PareValue *w = n ? n->in[r->a->sites.at[0].w] : NULL;
    bool fits = w && pare_is_fixed(w) && w->type.dtype == PARE_F32 && pare_type_count(&w->type) == r->k * r->n;
    r->w = fits ? w : NULL;
  }
  return PARE_OK;
}

/* --- what it does on samples --- */

static PareStatus add_rows(PareTuner *t, PareForward *f, const Readers *all) {
  for (size_t i = 0; i < all->at.n; i++) {
    const Reader *r = &all->at.at[i];
    for (size_t s = 0; s < r->a->sites.n; s++) {
      PareType type;
      const float *x = pare_forward_watched(f, all->result.n + r->watched + s, &type);
      int64_t rows = pare_type_count(&type) / r->k;
      PareMark mark = pare_arena_mark(t->c->scratch);
      float *weight = PARE_NEW_N(t->c->scratch, rows + 1, float);
      if (!weight) return pare_nomem(t->c);
      pare_forward_relevance(f, r->watched + s, weight);
      PARE_TRY(pare_second_moments_add(t->c, r->moments, rows, x, weight));
      pare_arena_rewind(t->c->scratch, mark);
    }
  }
  return PARE_OK;
}

static PareStatus observe_on(PareTuner *t, PareForward *f, const Readers *all) {
  int64_t batch = pare_forward_batch(f), index[SAMPLES];
  if (batch > SAMPLES) batch = SAMPLES;
  for (int64_t at = 0; at + batch <= SAMPLES && (at == 0 || at < t->nsamples); at += batch) {
    if (pare_stopped(t->h)) return pare_error(t->c, PARE_INTERRUPTED, "interrupted");
    for (int64_t i = 0; i < batch; i++)
      index[i] = t->samples[pare_data_order((uint64_t)t->o->seed, 0, t->nsamples, (at + i) % t->nsamples)];
    PARE_TRY(pare_forward_run(t->c, f, index, batch));
    PARE_TRY(add_rows(t, f, all));
  }
  return PARE_OK;
}

static PareStatus observe(PareTuner *t, PareArena *a, const PareGraph *g, const Readers *all) {
  size_t n = all->result.n;
  uint32_t *value = PARE_NEW_N(a, 2 * n + 1, uint32_t);
  if (!value) return pare_nomem(t->c);
  memcpy(value, all->result.at, n * sizeof *value);
  memcpy(value + n, all->input.at, n * sizeof *value);
  PareWatch w = {.n = 2 * n, .value = value, .felt = n, .aside = t->aside.of, .bf16 = t->spec.bf16};
  PareForward *f = NULL;
  PARE_TRY(pare_forward_new_watching(t->c, g, t->data, t->batch, &w, t->device, &f));
  PareStatus s = observe_on(t, f, all);
  pare_forward_free(f);
  return s;
}

/* --- what the rest takes over --- */

static double weight_at(const Reader *r, int64_t k, int64_t n) {
  return pare_data_float(r->w, r->a->transposed ? n * r->k + k : k * r->n + n);
}

/* G [nkept, n] into the weight; what the means leave over into the bias. */
static PareStatus take_over(PareTuner *t, const Reader *r, const double *g, const double *lost, const double *mean) {
  PARE_TRY(pare_params_add_dense(t->c, &t->params, r->adapter));
  float *dense = t->params.dense[r->adapter];
  for (int64_t i = 0; i < r->nkept; i++)
    for (int64_t j = 0; j < r->n; j++) dense[r->row[r->kept[i]] * r->a->n + r->col[j]] += (float)g[i * r->n + j];
  if (!r->bias) return PARE_OK;
  PARE_TRY(pare_params_add_bias(t->c, &t->params, r->adapter));
  for (int64_t j = 0; j < r->n; j++) {
    double sum = 0;
    for (int64_t i = 0; i < r->nlost; i++) sum += mean[r->lost[i]] * lost[i * r->n + j];
    for (int64_t i = 0; i < r->nkept; i++) sum -= mean[r->kept[i]] * g[i * r->n + j];
    t->params.bias[r->adapter][r->col[j]] += (float)(r->alpha * sum);
  }
  return PARE_OK;
}

static PareStatus solve(PareTuner *t, const Reader *r) {
  const double *h, *mean;
  int64_t rows;
  PARE_TRY(pare_second_moments_get(t->c, r->moments, r->bias, &h, &mean, &rows));
  if (!rows) return PARE_OK;
  PareMark mark = pare_arena_mark(t->c->scratch);
  double *lost = PARE_NEW_N(t->c->scratch, r->nlost * r->n + 1, double);
  double *g = PARE_NEW_N(t->c->scratch, r->nkept * r->n + 1, double);
  if (!lost || !g) return pare_nomem(t->c);
  for (int64_t i = 0; i < r->nlost; i++)
    for (int64_t j = 0; j < r->n; j++) lost[i * r->n + j] = weight_at(r, r->lost[i], j);
  PareDiag before = t->c->diag;
  PareStatus s = pare_least_squares(t->c, r->k, h, r->nkept, r->kept, r->nlost, r->lost, r->n, lost, DAMPING, g);
  if (s == PARE_OK) PARE_TRY(take_over(t, r, g, lost, mean));
  pare_arena_rewind(t->c->scratch, mark);
  if (s != PARE_DATA) return s;
  t->c->diag = before;
  pare_log(t->c, 0, "nothing takes over what '%s' loses: its inputs are not finite", r->a->name);
  return PARE_OK;
}

/* The readers, their weights, and the moments of their inputs. */
static PareStatus look(PareTuner *t, PareArena *a, bool may, Readers *all) {
  PareGraph *now;
  PARE_TRY(model_now(t, a, &now));
  PARE_TRY(find_readers(t, a, now, may, all));
  if (!all->at.n) return PARE_OK;
  PARE_TRY(read_weights(t, a, now, all));
  for (size_t i = 0; i < all->at.n; i++)
    PARE_TRY(pare_second_moments_new(t->c, all->at.at[i].k, &all->at.at[i].moments));
  return observe(t, a, now, all);
}

static PareStatus reconstruct(PareTuner *t, PareArena *a, Readers *all) {
  PARE_TRY(look(t, a, false, all));
  if (!all->at.n) return PARE_OK;
  for (size_t i = 0; i < all->at.n; i++)
    if (all->at.at[i].w) PARE_TRY(solve(t, &all->at.at[i]));
  return pare_tuner_make_base(t);
}

PareStatus pare_tuner_reconstruct(PareTuner *t) {
  double started = pare_now();
  Readers all = {0};
  PareArena *a = pare_arena_new(1 << 20);
  if (!a) return pare_nomem(t->c);
  PareStatus s = reconstruct(t, a, &all);
  for (size_t i = 0; i < all.at.n; i++) pare_second_moments_free(all.at.at[i].moments);
  pare_arena_free(a);
  if (s == PARE_OK) pare_log(t->c, 1, "%zu weights took over what their inputs lost, in %.1f s", all.at.n,
                             pare_now() - started);
  return s;
}

PareStatus pare_tuner_make_base(PareTuner *t) {
  PareArena *a = pare_arena_new(1 << 20);
  PareGraph *base = NULL;
  PareStatus s = a ? pare_params_fold(t->c, a, &t->params, t->model->graph, PARE_FOLD_FROZEN, &base) : pare_nomem(t->c);
  if (s != PARE_OK) return pare_arena_free(a), s;
  pare_trained_absorb(&t->params, t->model->graph, base);
  pare_arena_free(t->base_arena);
  t->base_arena = a;
  t->base = base;
  return PARE_OK;
}

/* --- what a group would cost --- */

typedef struct Scoring {
  PareTuner *t;
  const Reader *r;
  PareAxis *axis;
  const double *h, *w; /* moments of the inputs, weights [K, N] */
  double ridge;
  PareStatus status;
} Scoring;

static PareStatus score_dim(Scoring *s, PareAxis *leaf) {
  PareTuner *t = s->t;
  int64_t *group = PARE_NEW_N(t->c->scratch, s->r->k + 1, int64_t);
  if (!group) return pare_nomem(t->c);
  pare_axis_kept_positions(s->axis, leaf, group);
  return pare_obs_scores(t->c, s->r->k, s->h, s->ridge, s->r->n, s->w, t->dims->dims.at[leaf->dim].count, group,
                         t->score[leaf->dim]);
}

static void score_leaf(PareAxis *leaf, void *arg) {
  Scoring *s = arg;
  if (s->status == PARE_OK && leaf->dim >= 0 && s->t->pruned[leaf->dim]) s->status = score_dim(s, leaf);
}

static double mean_diagonal(int64_t k, const double *h) {
  double trace = 0;
  for (int64_t i = 0; i < k; i++) trace += h[i * k + i];
  return trace / (double)k;
}

static PareStatus score_reader(PareTuner *t, const Reader *r) {
  const double *h;
  int64_t rows;
  PARE_TRY(pare_second_moments_get(t->c, r->moments, r->bias, &h, NULL, &rows));
  const PareSite *site = &r->a->sites.at[0];
  PareMark mark = pare_arena_mark(t->c->scratch);
  double *w = PARE_NEW_N(t->c->scratch, r->k * r->n + 1, double);
  if (!w) return pare_nomem(t->c);
  for (int64_t i = 0; i < r->k; i++)
    for (int64_t j = 0; j < r->n; j++) w[i * r->n + j] = r->alpha * weight_at(r, i, j);
  Scoring s = {.t = t, .r = r, .h = h, .w = w, .ridge = DAMPING * mean_diagonal(r->k, h),
               .axis = pare_axis_in(t->dims->tracer, node_of(t->dims->tracer->g, site->node), site->w,
                                    r->a->transposed)};
  if (rows) pare_axis_leaves(s.axis, score_leaf, &s);
  pare_arena_rewind(t->c->scratch, mark);
  return s.status;
}

/* Errors of different layers are of different things (METHOD 2, "Scale"). */
static void to_unit_norm(int64_t n, double *x) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  for (int64_t i = 0; i < n && sum > 0; i++) x[i] /= sqrt(sum);
}

static PareStatus score_all(PareTuner *t, PareArena *a, Readers *all) {
  PARE_TRY(look(t, a, true, all));
  for (size_t i = 0; i < t->dims->dims.n; i++)
    for (int64_t k = 0; t->score[i] && k < t->dims->dims.at[i].count; k++) t->score[i][k] = 0;
  for (size_t i = 0; i < all->at.n; i++)
    if (all->at.at[i].w) PARE_TRY(score_reader(t, &all->at.at[i]));
  for (size_t i = 0; i < t->dims->dims.n && t->spec.normalise; i++)
    if (t->score[i]) to_unit_norm(t->dims->dims.at[i].count, t->score[i]);
  return PARE_OK;
}

PareStatus pare_tuner_score_obs(PareTuner *t) {
  Readers all = {0};
  PareArena *a = pare_arena_new(1 << 20);
  if (!a) return pare_nomem(t->c);
  PareStatus s = score_all(t, a, &all);
  for (size_t i = 0; i < all.at.n; i++) pare_second_moments_free(all.at.at[i].moments);
  pare_arena_free(a);
  return s;
}
