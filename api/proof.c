#include "api/proof.h"

#include <string.h>

#include "passes/probe_dims.h"
#include "passes/quantized.h"
#include "runtime/metrics.h"

enum { MAX_SAMPLES = 64, BATCH = 8 };

/* A clone whose outputs are the model's and the results of all readers of cut dimensions;
 * what a reader makes may itself lose groups, then the readers behind it are compared. */
static PareStatus watch(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  PareGraph *w = *out = pare_graph_clone(c, a, g);
  if (!w) return c->diag.code;
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    for (size_t r = 0; dim->leaf->keep && r < dim->readers.n; r++) {
      const PareValue *made = dim->readers.at[r].node->out[0];
      PareType cut = pare_axis_type(d->tracer, made);
      PareValue *v = pare_type_equal(&cut, &made->type) ? pare_graph_find(w, made->name) : NULL;
      PareScaledProduct p;
      if (v && v->def->op == PARE_OP_MATMULINTEGER && pare_scaled_product(w, v->def, &p)) v = p.scaled->out[0];
      if (v && !pare_is_output(w, v) && !pare_vec_push(a, &w->outputs, v)) return pare_nomem(c);
    }
  }
  return PARE_OK;
}

static PareStatus compare(PareCtx *c, PareForward *a, PareForward *b, int64_t count, PareDifference *diff) {
  for (size_t i = 0; i < pare_forward_outputs(a); i++) {
    const PareValue *v = pare_forward_value(a, i), *w = pare_forward_value(b, i);
    if (!pare_type_equal(&v->type, &w->type))
      return pare_error(c, PARE_GATE, "cut, '%s' has another shape than before", v->name);
    bool by_sample = v->type.rank > 0 && v->type.dim[0] == pare_forward_batch(a);
    int64_t n = by_sample ? pare_forward_width(a, i) * count : pare_type_count(&v->type);
    const float *x = pare_forward_floats(a, i), *y = pare_forward_floats(b, i);
    if (!x || !y) return pare_nomem(c);
    pare_difference_add(&diff[i], n, x, y);
  }
  return PARE_OK;
}

static PareStatus compare_on(PareCtx *c, const PareGraph *masked, const PareGraph *compact, const PareData *data,
                             const int64_t *samples, int64_t n, PareProof *out) {
  PareForward *a = NULL, *b = NULL;
  PareStatus s = pare_forward_new(c, masked, data, BATCH, PARE_FORWARD_UNROUNDED, NULL, &a);
  if (s == PARE_OK) s = pare_forward_new(c, compact, data, BATCH, PARE_FORWARD_UNROUNDED, NULL, &b);
  size_t outputs = s == PARE_OK ? pare_forward_outputs(a) : 0;
  PareDifference *diff = PARE_NEW_N(c->scratch, outputs + 1, PareDifference);
  if (s == PARE_OK && !diff) s = pare_nomem(c);
  for (int64_t at = 0; s == PARE_OK && at < n;) {
    int64_t count = n - at < pare_forward_batch(a) ? n - at : pare_forward_batch(a);
    s = pare_forward_run(c, a, samples + at, count);
    if (s == PARE_OK) s = pare_forward_run(c, b, samples + at, count);
    if (s == PARE_OK) s = compare(c, a, b, count, diff);
    at += count;
  }
  for (size_t i = 0; s == PARE_OK && i < outputs; i++) {
    double rel = pare_difference_rel(&diff[i]);
    if (diff[i].max_abs > out->max_abs) out->max_abs = diff[i].max_abs;
    if (rel > out->max_rel || !out->worst) {
      out->max_rel = rel;
      out->worst = pare_graph_find(masked, pare_forward_value(a, i)->name)->name;
    }
  }
  out->samples += n;
  pare_forward_free(a);
  pare_forward_free(b);
  return s;
}

static PareStatus compare_random(PareCtx *c, PareArena *a, const PareGraph *masked, const PareGraph *compact,
                                 PareProof *out) {
  PareGraph *bound;
  PareData *data = NULL;
  int64_t index[BATCH] = {0, 1, 2, 3, 4, 5, 6, 7};
  PARE_TRY(pare_probe_dims(c, a, masked, 1, &bound));
  PareStatus s = pare_samples_random(c, bound, BATCH, 1, &data);
  if (s == PARE_OK) s = compare_on(c, masked, compact, data, index, BATCH, out);
  pare_data_free(data);
  return s;
}

PareStatus pare_prove(PareCtx *c, const PareGraph *masked, const PareGraph *compact, const PareDims *d,
                      const PareData *data, const int64_t *samples, int64_t n, PareProof *out) {
  *out = (PareProof){0};
  PareArena *a = pare_arena_new(1 << 16);
  if (!a) return pare_nomem(c);
  PareGraph *x, *y;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = watch(c, a, masked, d, &x);
  if (s == PARE_OK) s = watch(c, a, compact, d, &y);
  if (s == PARE_OK && data) s = compare_on(c, x, y, data, samples, n < MAX_SAMPLES ? n : MAX_SAMPLES, out);
  if (s == PARE_OK) s = compare_random(c, a, x, y, out);
  if (out->worst) out->worst = pare_graph_find(masked, out->worst)->name;
  pare_arena_rewind(c->scratch, mark);
  pare_arena_free(a);
  return s;
}
