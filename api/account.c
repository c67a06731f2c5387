#include "api/account.h"

#include "api/align.h"
#include "api/options.h"
#include "backend/report.h"

/* --- options, as they were in force --- */

static PareStatus list_options(PareCtx *c, PareArena *a, const PareCompressOptions *o, PareReport *r) {
  PareReportOption *at = PARE_NEW_N(a, PARE_OPTION_COUNT, PareReportOption);
  if (!at) return pare_nomem(c);
  for (int id = 0; id < PARE_OPTION_COUNT; id++) {
    PareReportOption x = {.name = pare_option_name(id)};
    if (!(x.value = pare_option_text(a, o, id, &x.quoted))) return pare_nomem(c);
    at[r->noptions++] = x;
  }
  r->options = at;
  return PARE_OK;
}

/* --- groups and classes --- */

static PareStatus list_groups(PareCtx *c, PareArena *a, const PareTuner *t, PareReport *r) {
  PareReportGroup *at = PARE_NEW_N(a, t->dims->dims.n + 1, PareReportGroup);
  PareReportClass *classes = PARE_NEW_N(a, PARE_KIND_COUNT, PareReportClass);
  int64_t all[PARE_KIND_COUNT] = {0}, dead[PARE_KIND_COUNT] = {0};
  if (!at || !classes) return pare_nomem(c);
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    const PareDim *d = &t->dims->dims.at[i];
    PareReportGroup g = {.name = d->name, .kind = pare_kind_name(d->kind), .before = d->count, .after = d->count,
                         .kept = t->keep[i], .score = t->planned || t->element ? NULL : t->score[i]};
    for (int64_t k = 0; g.kept && k < d->count; k++) g.after -= !g.kept[k];
    bool gone = pare_dims_gone(t->dims, t->keep, i);
    if (gone) g.after = 0, g.kept = NULL;
    at[r->ngroups++] = g;
    if (!g.kept) continue;
    all[d->kind] += g.before;
    dead[d->kind] += g.before - g.after;
  }
  for (int k = 0; k < PARE_KIND_COUNT; k++)
    if (all[k]) classes[r->target.nclasses++] = (PareReportClass){pare_kind_name((PareKind)k), (double)dead[k] / (double)all[k]};
  r->groups = at;
  r->target.classes = classes;
  return PARE_OK;
}

static PareStatus list_adapters(PareCtx *c, PareArena *a, const PareAdapters *adapters, PareReport *r) {
  PareReportAdapter *at = PARE_NEW_N(a, adapters->at.n + 1, PareReportAdapter);
  if (!at) return pare_nomem(c);
  for (size_t i = 0; i < adapters->at.n; i++)
    at[r->nadapters++] = (PareReportAdapter){adapters->at.at[i].name, adapters->at.at[i].rank, adapters->at.at[i].scale};
  r->adapters = at;
  return PARE_OK;
}

static PareStatus list_aside(PareCtx *c, PareArena *a, const PareTuner *t, PareReport *r) {
  PareReportOutput *at = PARE_NEW_N(a, t->dense->outputs.n + 1, PareReportOutput);
  if (!at) return pare_nomem(c);
  for (size_t i = 0; t->aside.of && i < t->dense->outputs.n; i++)
    if (t->aside.of[i]) at[r->training.naside++] = (PareReportOutput){t->dense->outputs.at[i]->name, t->aside.why[i]};
  r->training.aside = at;
  return PARE_OK;
}

static PareStatus list_spans(PareCtx *c, PareArena *a, const PareCompressResult *x, PareReport *r) {
  static const char *const name[] = {
#define X(ID, name) #name,
    PARE_SPANS(X)
#undef X
  };
  PareReportSpan *at = PARE_NEW_N(a, PARE_SPAN_COUNT, PareReportSpan);
  if (!at) return pare_nomem(c);
  for (int p = 0; p < PARE_SPAN_COUNT; p++) at[r->nspans++] = (PareReportSpan){name[p], x->span_seconds[p]};
  r->spans = at;
  return PARE_OK;
}

static PareStatus list_curves(PareCtx *c, PareArena *a, const PareTuner *t, PareReport *r) {
  PareReportPoint *p = PARE_NEW_N(a, t->curve.n + 1, PareReportPoint);
  PareReportEval *e = PARE_NEW_N(a, t->metrics.n + 1, PareReportEval);
  if (!p || !e) return pare_nomem(c);
  for (size_t i = 0; i < t->curve.n; i++)
    p[r->npoints++] = (PareReportPoint){t->curve.at[i].step, t->curve.at[i].loss, t->curve.at[i].sparsity,
                                           t->curve.at[i].seconds};
  for (size_t i = 0; i < t->metrics.n; i++)
    e[r->nevals++] = (PareReportEval){t->metrics.at[i].step, t->metrics.at[i].value};
  r->points = p;
  r->evals = e;
  return PARE_OK;
}

/* --- times and multiples --- */

static PareStatus list_times(PareCtx *c, PareArena *a, const PareLatency *l, PareReport *r) {
  PareReportTimes *at = PARE_NEW_N(a, l->nclasses + 1, PareReportTimes);
  if (!at) return pare_nomem(c);
  for (size_t i = 0; i < l->nclasses; i++) {
    const PareLatencyClass *k = &l->class[i];
    double *ms = PARE_NEW_N(a, k->nsizes, double), *spread = PARE_NEW_N(a, k->nsizes, double);
    if (!ms || !spread) return pare_nomem(c);
    for (size_t j = 0; j < k->nsizes; j++) ms[j] = k->timing[j].ms, spread[j] = k->timing[j].spread;
    at[i] = (PareReportTimes){k->kind, k->count, k->nlayers, k->nsizes, k->layer, k->kept, ms, spread};
  }
  r->latency.classes = at;
  r->latency.nclasses = l->nclasses;
  return PARE_OK;
}

static PareStatus tell_latency(PareCtx *c, PareArena *a, const PareTuner *t, const PareAccount *x, PareReport *r) {
  const PareLatency *l = x->latency;
  if (!l) return PARE_OK;
  r->latency.command = *t->o->latency_cmd ? t->o->latency_cmd : "pare bench";
  r->latency.dense_ms = l->dense.ms;
  r->latency.dense_spread = l->dense.spread;
  r->latency.predicted_ms = x->result->predicted_ms;
  r->latency.dense_now_ms = x->dense.ms;
  r->latency.dense_now_spread = x->dense.spread;
  r->latency.measured_ms = x->compact.ms;
  r->latency.measured_spread = x->compact.spread;
  r->input.latency_seconds = 1e-3 * x->dense.ms;
  r->output.latency_seconds = 1e-3 * x->compact.ms;
  return list_times(c, a, l, r);
}

static PareStatus list_uneven(PareCtx *c, PareArena *a, const PareTuner *t, PareReport *r) {
  const char **name = PARE_NEW_N(a, t->dims->dims.n + 1, const char *);
  if (!name) return pare_nomem(c);
  r->alignment.align = t->o->align;
  r->alignment.uneven = name;
  return pare_align_uneven(c, t->dims, t->keep, t->o->align, name, &r->alignment.nuneven);
}

static PareStatus tell_vocabulary(PareCtx *c, PareArena *a, const PareVocab *v, PareReport *r) {
  if (!v) return PARE_OK;
  PareReportCount *added = PARE_NEW_N(a, PARE_NEED_COUNT, PareReportCount);
  if (!added) return pare_nomem(c);
  for (int i = 0; i < PARE_NEED_COUNT; i++) added[i] = (PareReportCount){pare_need_name((PareNeed)i), v->added.n[i]};
  r->vocabulary.tokens = v->count;
  r->vocabulary.left = v->left;
  r->vocabulary.merges = v->texts.merges;
  r->vocabulary.merges_left = v->texts.merges_left;
  r->vocabulary.nadded = PARE_NEED_COUNT;
  r->vocabulary.added = added;
  r->vocabulary.nfiles = v->texts.n;
  r->vocabulary.files = v->path;
  return PARE_OK;
}

static PareReportModel model_of(const PareModelInfo *m) {
  return (PareReportModel){m->path, m->sha256, m->opset, m->params, m->macs, m->bytes, 0};
}

PareStatus pare_account_write(PareCtx *c, const PareTuner *t, const PareAccount *account) {
  PareArena *a = t->arena;
  const PareCompressResult *x = account->result;
  PareReport r = {.version = PARE_VERSION, .seed = t->o->seed, .input = model_of(&x->input),
                  .output = model_of(&x->output), .fingerprint = &t->model->fingerprint};
  r.target.kind = x->target;
  r.target.requested = x->requested;
  r.target.reached = x->reached;
  r.metric.name = x->metric;
  r.metric.dense = x->dense;
  r.metric.compact = x->compact;
  r.metric.points = x->points;
  r.metric.share = x->share;
  r.validation.max_abs = x->masked_vs_compact_abs;
  r.validation.max_rel = x->masked_vs_compact_rel;
  r.validation.exact = x->exact;
  r.validation.samples = account->proof_samples;
  r.validation.passed = true; /* a run that fails it ends before its report */
  r.training.device = t->device->name;
  r.training.precision = t->spec.bf16 ? "bf16" : t->tf32 ? "tf32" : "fp32";
  r.training.steps = x->steps;
  r.training.trained_parameters = t->trained_parameters;
  r.training.trained_share = (double)t->trained_parameters / (double)x->input.params;
  r.training.peak_memory_bytes = x->peak_memory_bytes;
  r.training.seconds = x->seconds;
  r.training.samples_per_second = x->samples_per_second;
  r.training.final_loss = x->final_loss;
  r.training.mu = t->mu;
  PARE_TRY(list_aside(c, a, t, &r));
  PARE_TRY(list_spans(c, a, x, &r));
  PARE_TRY(list_options(c, a, t->o, &r));
  PARE_TRY(list_groups(c, a, t, &r));
  PARE_TRY(list_adapters(c, a, &t->params.full, &r));
  PARE_TRY(list_curves(c, a, t, &r));
  PARE_TRY(tell_latency(c, a, t, account, &r));
  PARE_TRY(list_uneven(c, a, t, &r));
  PARE_TRY(tell_vocabulary(c, a, account->vocab, &r));
  return pare_report_write(c, t->o->report, &r);
}
