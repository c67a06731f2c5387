/* readers.c - see readers.h. */
#include "api/readers.h"

#include <string.h>

#include "api/call.h"
#include "api/forward.h"
#include "passes/match.h"
#include "passes/pass.h"
#include "passes/quantized.h"

enum { SAMPLES = 512 }; /* some thousand rows for layers of some hundred to some thousand inputs */

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

static PareStatus divide(PareTuner *t, PareArena *a, PareAxis *axis, PareReader *r) {
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
static PareStatus add_sites(PareTuner *t, PareArena *a, const PareGraph *g, PareReader *r, PareReaders *all) {
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
static PareStatus find_readers(PareTuner *t, PareArena *a, const PareGraph *g, bool may, PareReaders *out) {
  PareTracer *tr = t->dims->tracer;
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    PareReader r = {.adapter = i, .a = &t->params.full.at.at[i]};
    const PareSite *s = &r.a->sites.at[0];
    const PareNode *n = node_of(tr->g, s->node);
    PareAxis *k = pare_axis_in(tr, n, s->w, r.a->transposed), *cols = pare_axis_in(tr, n, s->w, !r.a->transposed);
    r.k = pare_axis_count(k);
    r.n = pare_axis_count(cols);
    PARE_TRY(divide(t, a, k, &r));
    if (may ? !has_groups(t, k) : !r.nlost || !r.nkept) continue;
    r.axis = k;
    PARE_TRY(indices_of(t->c, a, k, &r.row));
    PARE_TRY(indices_of(t->c, a, cols, &r.col));
    PARE_TRY(add_sites(t, a, g, &r, out));
    if (!pare_vec_push(a, &out->at, r)) return pare_nomem(t->c);
  }
  return PARE_OK;
}

/* --- the model as it is --- */

PareStatus pare_readers_model(PareTuner *t, PareArena *a, PareGraph **out) {
  PareGraph *folded;
  PARE_TRY(pare_params_fold(t->c, a, &t->params, t->model->graph, PARE_FOLD_ALL, &folded));
  return pare_cut_dims(t->c, a, folded, t->dims, out);
}

/* Weights as the products read them: in f32, dequantised, behind their views. */
static PareStatus read_weights(PareTuner *t, PareArena *a, const PareGraph *g, PareReaders *all) {
  int64_t batch = t->batch;
  PareGraph *bound = pare_graph_clone(t->c, a, g);
  if (!bound) return t->c->diag.code;
  PARE_TRY(pare_feed_bind(t->c, bound, t->data, &batch));
  PARE_TRY(pare_run_passes(t->c, bound, "widen,float-products,fold-constants", NULL));
  for (size_t i = 0; i < all->at.n; i++) {
    PareReader *r = &all->at.at[i];
    const PareNode *n = node_of(bound, r->a->sites.at[0].node);
    const PareValue *w = n ? n->in[r->a->sites.at[0].w] : NULL;
    bool fits = w && pare_is_fixed(w) && w->type.dtype == PARE_F32 && pare_type_count(&w->type) == r->k * r->n;
    r->w = fits ? w : NULL;
  }
  return PARE_OK;
}

/* --- what it does on samples --- */

static PareStatus add_rows(PareTuner *t, PareForward *f, const PareReaders *all) {
  for (size_t i = 0; i < all->at.n; i++) {
    const PareReader *r = &all->at.at[i];
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

int64_t pare_readers_sample(const PareTuner *t, int64_t i) {
  return t->samples[pare_data_order((uint64_t)t->o->seed, 0, t->nsamples, i)];
}

static PareStatus observe_on(PareTuner *t, PareForward *f, const PareReaders *all) {
  int64_t batch = pare_forward_batch(f), index[SAMPLES];
  if (batch > SAMPLES) batch = SAMPLES;
  for (int64_t at = 0; at + batch <= SAMPLES && (at == 0 || at < all->nsamples); at += batch) {
    if (pare_stopped(t->h)) return pare_error(t->c, PARE_INTERRUPTED, "interrupted");
    for (int64_t i = 0; i < batch; i++) index[i] = pare_readers_sample(t, (at + i) % all->nsamples);
    PARE_TRY(pare_forward_run(t->c, f, index, batch));
    PARE_TRY(add_rows(t, f, all));
  }
  return PARE_OK;
}

static PareStatus observe(PareTuner *t, PareArena *a, const PareGraph *g, const PareReaders *all) {
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

double pare_reader_weight(const PareReader *r, int64_t k, int64_t n) {
  return pare_data_float(r->w, r->a->transposed ? n * r->k + k : k * r->n + n);
}

PareStatus pare_readers_look(PareTuner *t, PareArena *a, bool may, PareReaders *all) {
  PARE_TRY(pare_readers_model(t, a, &all->model));
  PARE_TRY(find_readers(t, a, all->model, may, all));
  if (!all->at.n) return PARE_OK;
  PARE_TRY(read_weights(t, a, all->model, all));
  for (size_t i = 0; i < all->at.n; i++)
    PARE_TRY(pare_second_moments_new(t->c, all->at.at[i].k, &all->at.at[i].moments));
  return observe(t, a, all->model, all);
}

void pare_readers_free(PareReaders *r) {
  for (size_t i = 0; i < r->at.n; i++) pare_second_moments_free(r->at.at[i].moments);
}
