/* latency.c - see latency.h. */
#include "api/latency.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/align.h"
#include "api/call.h"
#include "api/target.h"
#include "runtime/interpolate.h"

enum { FEW_SIZES = 16, PARTS = 8 };

/* --- sizes --- */

size_t pare_latency_grid(int64_t count, int64_t multiple, int64_t *kept) {
  size_t n = 0;
  int64_t step = multiple > 1 && multiple <= count ? multiple : 1, all = count / step;
  int64_t parts = all <= FEW_SIZES ? all : PARTS;
  if (all > FEW_SIZES) kept[n++] = step;
  for (int64_t i = 1; i <= parts; i++) {
    int64_t at = all * i / parts * step;
    if (n == 0 || at > kept[n - 1]) kept[n++] = at;
  }
  if (n == 0 || kept[n - 1] < count) kept[n++] = count;
  return n;
}

/* --- classes --- */

typedef struct Latency {
  PareCtx *c;
  PareArena *a;
  const PareLatencyAsk *ask;
  PareLatency *out;
  PareLatencyTable *table;
  size_t *class;  /* by dimension; out->nclasses: none */
  double *macs;   /* of a group, by dimension */
  int64_t sizes, measured; /* in all; those that the table did not know */
} Latency;

static bool timed(const Latency *l, size_t dim) { return l->ask->pruned[dim] && !l->ask->dims->dims.at[dim].given; }

static bool same_shape(const Latency *l, size_t i, size_t j) {
  const PareDim *a = &l->ask->dims->dims.at[i], *b = &l->ask->dims->dims.at[j];
  return a->kind == b->kind && a->count == b->count && a->params == b->params && l->macs[i] == l->macs[j];
}

static PareStatus add_class(Latency *l, size_t dim) {
  const PareDim *d = &l->ask->dims->dims.at[dim];
  PareLatencyClass *k = &l->out->class[l->class[dim] = l->out->nclasses++];
  int64_t multiple;
  *k = (PareLatencyClass){.kind = pare_kind_name(d->kind), .count = d->count};
  PARE_TRY(pare_align_multiple(l->c, l->ask->dims, d, l->ask->align, &multiple));
  k->layer = PARE_NEW_N(l->a, l->ask->dims->dims.n, const char *);
  k->kept = PARE_NEW_N(l->a, PARE_LATENCY_SIZES, int64_t);
  k->timing = PARE_NEW_N(l->a, PARE_LATENCY_SIZES, PareTiming);
  if (!k->layer || !k->kept || !k->timing) return pare_nomem(l->c);
  k->nsizes = pare_latency_grid(d->count, multiple, k->kept);
  l->sizes += (int64_t)k->nsizes - 1;
  return PARE_OK;
}

static PareStatus sort_into_classes(Latency *l) {
  const PareDims *d = l->ask->dims;
  for (size_t i = 0; i < d->dims.n; i++) {
    if (!timed(l, i)) continue;
    size_t like = 0;
    PARE_TRY(pare_group_macs(l->c, d, &d->dims.at[i], l->ask->sized, &l->macs[i]));
    while (like < i && !(timed(l, like) && same_shape(l, like, i))) like++;
    if (like < i) l->class[i] = l->class[like];
    else PARE_TRY(add_class(l, i));
    PareLatencyClass *k = &l->out->class[l->class[i]];
    k->layer[k->nlayers++] = d->dims.at[i].name;
  }
  return PARE_OK;
}

/* --- measuring --- */

/* Six digits, as the file has them: a run that reads its table does what the run that measured it did. */
static void round_off(PareTiming *t) {
  char text[64];
  snprintf(text, sizeof text, "%.6g %.2g", t->ms, t->spread);
  char *end;
  t->ms = strtod(text, &end);
  t->spread = strtod(end, NULL);
}

static PareStatus time_now(Latency *l, bool whole, PareTiming *out) {
  if (pare_stopped(l->ask->h)) return pare_error(l->c, PARE_INTERRUPTED, "interrupted");
  PARE_TRY(l->ask->time(l->ask->arg, whole, out));
  if (!whole) out->ms *= l->out->dense.ms;
  round_off(out);
  return PARE_OK;
}

static PareStatus time_whole(Latency *l, bool whole, const char *name, PareTiming *out) {
  if (pare_latency_table_find_whole(l->table, name, out)) return PARE_OK;
  PARE_TRY(time_now(l, whole, out));
  return pare_latency_table_put_whole(l->table, name, out);
}

/* The first `kept` groups of each layer of the class stay: which ones makes no difference to the time. */
static void set_flags(const Latency *l, size_t class, int64_t kept) {
  for (size_t i = 0; i < l->ask->dims->dims.n; i++)
    for (int64_t k = 0; l->class[i] == class && k < l->ask->dims->dims.at[i].count; k++)
      l->ask->flags[i][k] = k < kept;
}

static PareStatus time_class(Latency *l, size_t number) {
  PareLatencyClass *k = &l->out->class[number];
  k->timing[k->nsizes - 1] = l->out->base;
  for (size_t i = k->nsizes - 1; i-- > 0;) {
    if (pare_latency_table_find(l->table, k, k->kept[i], &k->timing[i])) continue;
    set_flags(l, number, k->kept[i]);
    PareStatus s = time_now(l, false, &k->timing[i]);
    set_flags(l, number, k->count);
    if (s != PARE_OK) return s;
    PARE_TRY(pare_latency_table_put(l->table, k, k->kept[i], &k->timing[i]));
    pare_progress(l->ask->h, &(PareProgress){.phase = "timing", .step = ++l->measured, .steps = l->sizes, .loss = NAN,
                                             .sparsity = NAN, .samples_per_second = NAN, .seconds_left = NAN});
  }
  return PARE_OK;
}

static PareStatus draw_curve(Latency *l, size_t dim) {
  const PareLatencyClass *k = &l->out->class[l->class[dim]];
  double ms[PARE_LATENCY_SIZES];
  double *curve = l->out->curve[dim] = PARE_NEW_N(l->a, k->count + 1, double);
  if (!curve) return pare_nomem(l->c);
  for (size_t i = 0; i < k->nsizes; i++) ms[i] = (k->timing[i].ms - l->out->base.ms) / (double)k->nlayers;
  pare_interpolate(k->nsizes, k->kept, ms, k->count, curve);
  return PARE_OK;
}

static double worst_spread(const PareLatency *l) {
  double worst = l->dense.spread;
  for (size_t i = 0; i < l->nclasses; i++)
    for (size_t k = 0; k < l->class[i].nsizes; k++) worst = fmax(worst, l->class[i].timing[k].spread);
  return worst;
}

static bool any_given(const PareLatencyAsk *ask) {
  for (size_t i = 0; i < ask->dims->dims.n; i++)
    if (ask->dims->dims.at[i].given) return true;
  return false;
}

static PareStatus measure(Latency *l) {
  PareLatency *out = l->out;
  size_t n = l->ask->dims->dims.n;
  out->class = PARE_NEW_N(l->a, n + 1, PareLatencyClass);
  out->curve = PARE_NEW_N(l->a, n + 1, double *);
  l->class = PARE_NEW_N(l->a, n + 1, size_t);
  l->macs = PARE_NEW_N(l->a, n + 1, double);
  if (!out->class || !out->curve || !l->class || !l->macs) return pare_nomem(l->c);
  for (size_t i = 0; i < n; i++) l->class[i] = SIZE_MAX;
  PARE_TRY(sort_into_classes(l));
  PARE_TRY(time_whole(l, true, "dense", &out->dense));
  if (any_given(l->ask)) PARE_TRY(time_whole(l, false, "base", &out->base));
  else out->base = out->dense;
  for (size_t i = 0; i < out->nclasses; i++) PARE_TRY(time_class(l, i));
  for (size_t i = 0; i < n; i++)
    if (l->class[i] != SIZE_MAX) PARE_TRY(draw_curve(l, i));
  pare_log(l->c, 0, "the dense model takes %.4g ms; %lld of %lld times of cut ones were measured now; spread at most "
           "%.1f %%", out->dense.ms, (long long)l->measured, (long long)l->sizes, 100 * worst_spread(out));
  return PARE_OK;
}

PareStatus pare_latency_measure(PareCtx *c, PareArena *a, const PareLatencyAsk *ask, PareLatency *out) {
  *out = (PareLatency){0};
  Latency l = {.c = c, .a = a, .ask = ask, .out = out};
  PARE_TRY(pare_latency_table_open(c, ask->path, &ask->key, &l.table));
  PareStatus s = measure(&l);
  pare_latency_table_close(l.table);
  return s;
}

double pare_latency_predict(const PareLatency *l, const PareDims *d, bool *const *keep) {
  double ms = l->base.ms;
  for (size_t i = 0; i < d->dims.n; i++) {
    int64_t alive = 0, count = d->dims.at[i].count;
    for (int64_t k = 0; k < count; k++) alive += !keep[i] || keep[i][k];
    if (l->curve[i]) ms += l->curve[i][alive];
  }
  return ms;
}
