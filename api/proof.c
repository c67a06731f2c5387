#include "api/proof.h"

#include <string.h>

#include "api/costs.h"
#include "base/pages.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"
#include "passes/quantized.h"
#include "runtime/metrics.h"

enum { MAX_SAMPLES = 64, BATCH = 8, LEAST = 2, PARTS = 200 };
static const double RANDOM_MACS = 1e11; /* of the masked model: what random samples may cost, but for LEAST of them */

static PareStatus add_readers(PareCtx *c, PareArena *a, const PareDims *d, PareGraph *w) {
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    for (size_t r = 0; dim->leaf->keep && r < dim->readers.n; r++) {
      const PareValue *made = dim->readers.at[r].node->out[0];
      if (pare_dims_dropped(d, dim->readers.at[r].node)) continue;
      PareType cut = pare_axis_type(d->tracer, made);
      PareValue *v = pare_type_equal(&cut, &made->type) ? pare_graph_find(w, made->name) : NULL;
      PareScaledProduct p;
      if (v && v->def->op == PARE_OP_MATMULINTEGER && pare_scaled_product(w, v->def, &p)) v = p.scaled->out[0];
      if (v && !pare_is_output(w, v) && !pare_vec_push(a, &w->outputs, v)) return pare_nomem(c);
    }
  }
  return PARE_OK;
}

/* A clone whose outputs are the model's and the results of all readers of cut dimensions;
 * what a reader makes may itself lose groups, then the readers behind it are compared. */
static PareStatus watch(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  PareGraph *w = *out = pare_graph_clone(c, a, g);
  const bool **saved = PARE_NEW_N(a, d->dims.n + 1, const bool *);
  if (!w || !saved) return pare_nomem(c);
  pare_dims_hide(d, false, saved); /* those that are not exact are cut in both models */
  PareStatus s = add_readers(c, a, d, w);
  pare_dims_show(d, saved);
  return s;
}

/* In which part of a run each output is made: both programs run one part after another, side by side, so that what
 * is compared need not be kept. */
typedef struct Parts {
  uint8_t *of; /* by output */
  int n;
} Parts;

/* By the order of g's nodes. */
static PareStatus find_parts(PareCtx *c, PareArena *a, const PareGraph *g, Parts *out) {
  size_t n = g->outputs.n, *first = PARE_NEW_N(a, g->nnodes + 1, size_t), rank = 0;
  if (!first || !(out->of = PARE_NEW_N(a, n + 1, uint8_t))) return pare_nomem(c);
  for (size_t i = 0; i < n; i++)
    if (g->outputs.at[i]->def) first[g->outputs.at[i]->def->id]++;
  for (const PareNode *p = g->first; p; p = p->next) {
    size_t here = first[p->id];
    first[p->id] = rank;
    rank += here;
  }
  for (size_t i = 0; i < n; i++) {
    const PareNode *def = g->outputs.at[i]->def;
    size_t part = !def ? 0 : n <= PARTS ? first[def->id] : first[def->id] * PARTS / n;
    out->of[i] = (uint8_t)part;
    if (out->of[i] >= out->n) out->n = out->of[i] + 1;
  }
  return PARE_OK;
}

/* Two programs whose values stand beside each other. */
typedef struct Pair {
  PareCtx *c;
  PareForward *a, *b;        /* of the masked and of the compact model */
  Parts parts;
  const PareDims *d;
  const PareVocab *v;        /* NULL: both have the same tokens */
  PareDifference *diff;      /* by value */
} Pair;

/* Values that the compact model has of x, a value of the masked one: an output over a vocabulary that was cut. In
 * scratch; NULL when memory is out. */
static const float *kept_values(Pair *p, size_t output, const PareType *full, const PareType *cut, const float *x) {
  const PareValue *y = p->d->tracer->g->outputs.at[output];
  int64_t *kept[PARE_MAX_RANK], at[PARE_MAX_RANK] = {0}, n = pare_type_count(cut);
  float *out = PARE_NEW_N(p->c->scratch, n + 1, float);
  for (int axis = 0; axis < full->rank; axis++) {
    if (!(kept[axis] = PARE_NEW_N(p->c->scratch, full->dim[axis] + 1, int64_t))) return NULL;
    for (int64_t i = 0; i < full->dim[axis]; i++) kept[axis][i] = i;
    if (cut->dim[axis] != full->dim[axis]) pare_axis_indices(p->d->tracer->value_axis[y->id][axis], kept[axis]);
  }
  for (int64_t i = 0; out && i < n; i++) {
    int64_t from = 0;
    for (int axis = 0; axis < full->rank; axis++) from = from * full->dim[axis] + kept[axis][at[axis]];
    out[i] = x[from];
    for (int axis = full->rank - 1; axis >= 0 && ++at[axis] == cut->dim[axis]; axis--) at[axis] = 0;
  }
  return out;
}

static bool is_cut_output(const Pair *p, size_t i, const PareType *full, const PareType *cut) {
  if (!p->v || !p->v->outputs || i >= p->d->tracer->g->outputs.n || full->rank != cut->rank) return false;
  const PareValue *y = p->d->tracer->g->outputs.at[i];
  for (int axis = 0; y->role != PARE_CONST && axis < full->rank; axis++)
    if (cut->dim[axis] != full->dim[axis] &&
        cut->dim[axis] != pare_axis_count(p->d->tracer->value_axis[y->id][axis])) return false;
  return y->role != PARE_CONST;
}

static PareStatus compare_value(Pair *p, size_t i, int64_t count) {
  const PareValue *v = pare_forward_value(p->a, i), *w = pare_forward_value(p->b, i);
  const float *x = pare_forward_floats(p->a, i), *y = pare_forward_floats(p->b, i);
  if (!x || !y) return pare_nomem(p->c);
  if (!pare_type_equal(&v->type, &w->type)) {
    if (!is_cut_output(p, i, &v->type, &w->type))
      return pare_error(p->c, PARE_GATE, "cut, '%s' has another shape than before", v->name);
    if (!(x = kept_values(p, i, &v->type, &w->type, x))) return pare_nomem(p->c);
  }
  bool by_sample = v->type.rank > 0 && v->type.dim[0] == pare_forward_batch(p->a);
  pare_difference_add(&p->diff[i], by_sample ? pare_forward_width(p->b, i) * count : pare_type_count(&w->type), x, y);
  return PARE_OK;
}

static PareStatus compare(Pair *p, int part, int64_t count) {
  for (size_t i = 0; i < pare_forward_outputs(p->a); i++) {
    if (p->parts.of[i] != part) continue;
    PareMark mark = pare_arena_mark(p->c->scratch);
    PARE_TRY(compare_value(p, i, count));
    pare_arena_rewind(p->c->scratch, mark);
  }
  return PARE_OK;
}

static PareStatus run_both(Pair *p, const int64_t *samples, int64_t n) {
  int64_t batch = pare_forward_batch(p->a);
  if (!(p->diff = PARE_NEW_N(p->c->scratch, pare_forward_outputs(p->a) + 1, PareDifference))) return pare_nomem(p->c);
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    PARE_TRY(pare_forward_begin(p->c, p->a, samples + at, count));
    PARE_TRY(pare_forward_begin(p->c, p->b, samples + at, count));
    for (int part = 0; part < p->parts.n; part++) {
      PARE_TRY(pare_forward_run_part(p->c, p->a, (uint8_t)part));
      PARE_TRY(pare_forward_run_part(p->c, p->b, (uint8_t)part));
      PARE_TRY(compare(p, part, count));
    }
  }
  return PARE_OK;
}

static void note(const Pair *p, const PareGraph *masked, int64_t n, PareProof *out) {
  for (size_t i = 0; i < pare_forward_outputs(p->a); i++) {
    double rel = pare_difference_rel(&p->diff[i]);
    if (p->diff[i].max_abs > out->max_abs) out->max_abs = p->diff[i].max_abs;
    if (rel > out->max_rel || !out->worst) {
      out->max_rel = rel;
      out->worst = pare_graph_find(masked, pare_forward_value(p->a, i)->name)->name;
    }
  }
  out->samples += n;
}

/* The models and what both are compared by. */
typedef struct Proof {
  PareCtx *c;
  const PareGraph *masked, *compact;
  const PareDims *d;
  const PareVocab *v;
  PareProof *out;
} Proof;

/* `old` are the data in the ids of the masked model. What is watched, in tmp, is needed until the programs are there. */
static PareStatus make_pair(const Proof *x, PareArena *tmp, const PareData *old, const PareData *data, int64_t batch,
                            Pair *p) {
  PareGraph *a, *b;
  PARE_TRY(watch(x->c, tmp, x->masked, x->d, &a));
  PARE_TRY(watch(x->c, tmp, x->compact, x->d, &b));
  PARE_TRY(find_parts(x->c, x->c->scratch, a, &p->parts));
  PARE_TRY(pare_forward_new_in_parts(x->c, a, old, batch, p->parts.of, &p->a));
  return pare_forward_new_in_parts(x->c, b, data, batch, p->parts.of, &p->b);
}

/* `data` are in the compact model's ids. */
static PareStatus compare_on(const Proof *x, const PareData *data, int64_t batch, const int64_t *samples, int64_t n) {
  Pair p = {.c = x->c, .d = x->d, .v = x->v};
  PareData *old = NULL;
  PareArena *tmp = pare_arena_new(1 << 16);
  PareStatus s = !tmp ? pare_nomem(x->c) : x->v ? pare_vocab_restore(x->c, x->v, data, &old) : PARE_OK;
  if (s == PARE_OK) s = make_pair(x, tmp, old ? old : data, data, batch, &p);
  pare_arena_free(tmp);
  pare_pages_trim(); /* graphs on the way here were many */
  if (s == PARE_OK) s = run_both(&p, samples, n);
  if (s == PARE_OK) note(&p, x->masked, n, x->out);
  pare_forward_free(p.a);
  pare_forward_free(p.b);
  pare_data_free(old);
  return s;
}

/* How many random samples: fewer of a model that works hard. */
static PareStatus choose_count(const Proof *x, PareArena *tmp, int64_t *count) {
  PareGraph *bound;
  PARE_TRY(pare_probe_dims(x->c, tmp, x->masked, 1, &bound));
  const PareType *t = bound->inputs.n ? &bound->inputs.at[0]->type : NULL;
  double samples = t && t->rank && t->dim[0] > 1 ? (double)t->dim[0] : 1;
  double fit = RANDOM_MACS * samples / ((double)pare_graph_macs(bound) + 1);
  *count = fit < LEAST ? LEAST : fit > BATCH ? BATCH : (int64_t)fit;
  return PARE_OK;
}

static PareStatus draw(const Proof *x, int64_t *count, PareData **out) {
  PareGraph *bound;
  PareArena *tmp = pare_arena_new(1 << 16);
  PareStatus s = tmp ? choose_count(x, tmp, count) : pare_nomem(x->c);
  if (s == PARE_OK) s = pare_probe_dims(x->c, tmp, x->compact, 1, &bound);
  if (s == PARE_OK) s = pare_samples_random(x->c, bound, *count, 1, out);
  pare_arena_free(tmp);
  return s;
}

static PareStatus compare_random(const Proof *x) {
  PareData *data = NULL;
  int64_t index[BATCH] = {0, 1, 2, 3, 4, 5, 6, 7}, count;
  PareStatus s = draw(x, &count, &data);
  if (s == PARE_OK) s = compare_on(x, data, count, index, count);
  pare_data_free(data);
  return s;
}

PareStatus pare_prove(PareCtx *c, const PareGraph *masked, const PareGraph *compact, const PareDims *d,
                      const PareVocab *v, const PareData *data, const int64_t *samples, int64_t n, PareProof *out) {
  *out = (PareProof){0};
  Proof x = {c, masked, compact, d, v, out};
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = data ? compare_on(&x, data, BATCH, samples, n < MAX_SAMPLES ? n : MAX_SAMPLES) : PARE_OK;
  if (s == PARE_OK) s = compare_random(&x);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

static PareValue *weight_at(const PareGraph *g, const char *made, const PareSite *s) {
  PareValue *v = pare_graph_find(g, made);
  PareNode *root;
  int input;
  return v && v->def ? pare_root_constant(v->def, s->w, &root, &input) : NULL;
}

static const PareNode *node_of(const PareGraph *g, uint32_t id) {
  const PareNode *n = g->first;
  while (n && n->id != id) n = n->next;
  return n;
}

PareStatus pare_prove_elements(PareCtx *c, const PareGraph *masked, const PareGraph *written,
                               const PareAdapters *adapters) {
  for (size_t i = 0; i < adapters->at.n; i++)
    for (size_t k = 0; adapters->at.at[i].elementwise && k < adapters->at.at[i].sites.n; k++) {
      const PareSite *s = &adapters->at.at[i].sites.at[k];
      const char *made = node_of(masked, s->node)->out[0]->name;
      const PareValue *want = weight_at(masked, made, s), *got = weight_at(written, made, s);
      size_t bytes;
      bool same = want && got && pare_type_equal(&want->type, &got->type) && pare_type_bytes(&want->type, &bytes) &&
                  !memcmp(want->data, got->data, bytes);
      if (!same)
        return pare_error(c, PARE_GATE, "the written weight '%s' is not the masked one: nothing was written",
                          adapters->at.at[i].name);
    }
  return PARE_OK;
}
