/* cut_check.c - see cut_check.h. */
#include "cut_check.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "ir/slices.h"
#include "passes/edit.h"
#include "passes/pass.h"
#include "passes/probe_dims.h"
#include "passes/quantized.h"
#include "passes/trace_dims.h"

const bool *random_keep(Fix *f, int64_t size, uint64_t seed) {
  bool *keep = pare_arena_alloc(f->arena, (size_t)size, sizeof *keep);
  double share = 0.2 + 0.6 * pare_rng_uniform(seed, 999);
  for (int64_t i = 0; i < size; i++) keep[i] = pare_rng_uniform(seed, (uint64_t)i) < share;
  int64_t a = (int64_t)(pare_rng_u64(seed, 1000) % (uint64_t)size), b = (a + 1) % size;
  keep[b] = false;
  keep[a] = true;
  return keep;
}

PareDims *trace_classes(Fix *f, const PareGraph *g, unsigned kinds) {
  PareGraph *bound;
  PareDims *d;
  MUST(f, pare_probe_dims(&f->c, f->arena, g, 0, &bound));
  MUST(f, pare_trace_classes(&f->c, f->arena, bound, kinds, &d));
  return d;
}

void keep_some(Fix *f, PareDims *d, uint64_t seed, bool every_kind) {
  for (size_t i = 0; i < d->dims.n; i++) {
    PareDim *x = &d->dims.at[i];
    if (every_kind || x->kind == PARE_KIND_HEADS || x->kind == PARE_KIND_FFN)
      x->leaf->keep = random_keep(f, x->count, seed * 1000 + i);
  }
}

static bool all_finite(const PareTensor *t) {
  for (int64_t i = 0; i < pare_type_count(&t->type); i++)
    if (!isfinite(element(t, i))) return false;
  return true;
}

/* As programs for proofs are made: halves are computed in f32, and what is quantised is not rounded. */
static PareTensor *run_smoothly(Fix *f, PareGraph *bound) {
  MUST(f, pare_run_passes(&f->c, bound, "widen,float-products,fake-quantize", NULL));
  pare_unround(bound);
  return run_graph(f, bound, 5);
}

/* Three models at one size: the cut one against the masked one, and the masked one against the original,
 * from which it must differ, or nothing was tested. Returns by how much it does. */
static double check_at(Fix *f, const char *name, const PareGraph *g, const PareGraph *zero, const PareGraph *cut,
                       const int64_t *size) {
  double changed = 0;
  PareGraph *zb = bound_at(f, zero, 2, size);
  PareTensor *o = run_smoothly(f, bound_at(f, g, 2, size)), *z = run_smoothly(f, zb);
  PareTensor *x = run_smoothly(f, bound_at(f, cut, 2, size));
  for (size_t i = 0; i < g->outputs.n; i++) {
    double far = distance(&z[i], &x[i]), most = rounding_tolerance(zb);
    cr_expect(far <= most, "%s at %dx%d: output %zu, masked and cut are %.3g apart, more than %.3g", name, (int)size[0],
              (int)size[1], i, far, most);
    cr_expect(all_finite(&z[i]), "%s: output %zu is not finite", name, i);
    changed = fmax(changed, distance(&o[i], &z[i]));
  }
  return changed;
}

/* Constants that stay thin stand for the bytes that they would have. */
static void check_thin(Fix *f, const char *name, const PareGraph *thin, const PareGraph *thick) {
  for (size_t i = 0; i < thick->values.n; i++) {
    const PareValue *a = thin->values.at[i], *b = thick->values.at[i];
    size_t bytes;
    if (!a->slices) continue;
    cr_assert(pare_type_equal(&a->type, &b->type) && pare_type_bytes(&b->type, &bytes), "%s: '%s'", name, a->name);
    cr_expect(!memcmp(pare_constant_bytes(f->arena, a), b->data, bytes), "%s: '%s' has other bytes", name, a->name);
  }
}

/* The masked model runs on its thin constants, which the pass makes where they are read. */
static void check_fetched(Fix *f, const char *name, const PareGraph *thin, const PareGraph *zero,
                          const int64_t size[2]) {
  PareGraph *fetched = bound_at(f, thin, 2, size);
  MUST(f, pare_run_passes(&f->c, fetched, "fetch-weights", NULL));
  for (size_t i = 0; i < fetched->values.n; i++)
    for (const PareNode *n = fetched->first; n && fetched->values.at[i]->slices; n = n->next)
      for (int k = 0; k < n->nin; k++) cr_assert(n->in[k] != fetched->values.at[i], "%s: '%s' is thin", name, n->name);
  PareTensor *a = run_smoothly(f, bound_at(f, zero, 2, size)), *b = run_smoothly(f, fetched);
  for (size_t i = 0; i < zero->outputs.n; i++)
    cr_expect_eq(distance(&a[i], &b[i]), 0, "%s: fetched weights put output %zu %g away", name, i,
                 distance(&a[i], &b[i]));
}

double check_cut(Fix *f, const char *name, const PareGraph *g, const PareDims *d, const int64_t sizes[2][2]) {
  PareGraph *zero, *cut, *thin;
  cr_assert_eq(pare_zero_fan_in(&f->c, f->arena, g, d, &zero), PARE_OK, "%s: %s", name, fix_why(f));
  cr_assert_eq(pare_cut_dims(&f->c, f->arena, g, d, &cut), PARE_OK, "%s: %s", name, fix_why(f));
  MUST(f, pare_cut_dims_thin(&f->c, f->arena, g, d, &thin));
  check_thin(f, name, thin, cut);
  MUST(f, pare_zero_fan_in_thin(&f->c, f->arena, g, d, &thin));
  check_thin(f, name, thin, zero);
  check_fetched(f, name, thin, zero, sizes[0]);
  cr_assert_eq(pare_drop_branches(&f->c, cut, d), PARE_OK, "%s: %s", name, fix_why(f));
  cr_assert_eq(pare_graph_verify(&f->c, cut), PARE_OK, "%s: %s", name, fix_why(f));
  double changed = 0;
  for (int i = 0; i < 2; i++) changed = fmax(changed, check_at(f, name, g, zero, cut, sizes[i]));
  return changed;
}
