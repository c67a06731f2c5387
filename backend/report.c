/* report.c - report.json, and the putting in place of both files. */
#include "backend/report.h"

#include <stdlib.h>
#include <string.h>

#include "backend/fingerprint_json.h"
#include "backend/json.h"
#include "base/file.h"

/* --- JSON --- */

static json_t *model_json(const PareReportModel *m) {
  json_t *o = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "path", pare_json_text(m->path), "sha256",
                        pare_json_text(m->sha256), "opset", (json_int_t)m->opset, "params", (json_int_t)m->params,
                        "macs", (json_int_t)m->macs, "bytes", (json_int_t)m->bytes);
  if (m->latency_seconds > 0) json_object_set_new(o, "latency_seconds", pare_json_number(m->latency_seconds));
  return o;
}

static json_t *target_json(const PareReport *r) {
  json_t *by_class = json_object();
  for (size_t i = 0; i < r->target.nclasses; i++)
    json_object_set_new(by_class, r->target.classes[i].kind, pare_json_number(r->target.classes[i].reached));
  return json_pack("{s:o, s:o, s:o, s:o}", "kind", pare_json_text(r->target.kind), "requested",
                   pare_json_number(r->target.requested), "reached", pare_json_number(r->target.reached),
                   "reached_by_class", by_class);
}

static json_t *times_json(const PareReportTimes *t) {
  json_t *layers = json_array(), *sizes = json_array();
  for (size_t i = 0; i < t->nlayers; i++) json_array_append_new(layers, pare_json_text(t->layers[i]));
  for (size_t i = 0; i < t->nsizes; i++)
    json_array_append_new(sizes, json_pack("{s:I, s:o, s:o}", "kept", (json_int_t)t->kept[i], "ms",
                                           pare_json_number(t->ms[i]), "spread", pare_json_number(t->spread[i])));
  return json_pack("{s:s, s:I, s:o, s:o}", "kind", t->kind, "groups", (json_int_t)t->count, "layers", layers, "sizes",
                   sizes);
}

/* null where nothing was timed. `spread` is the range of the measurements over their median. */
static json_t *latency_json(const PareReport *r) {
  if (!r->latency.command) return json_null();
  json_t *table = json_array();
  for (size_t i = 0; i < r->latency.nclasses; i++) json_array_append_new(table, times_json(&r->latency.classes[i]));
  return json_pack("{s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o}, s:o}", "command", pare_json_text(r->latency.command),
                   "dense_ms", pare_json_number(r->latency.dense_ms), "dense_spread",
                   pare_json_number(r->latency.dense_spread), "predicted_ms", pare_json_number(r->latency.predicted_ms),
                   "measured", "dense_ms", pare_json_number(r->latency.dense_now_ms), "dense_spread",
                   pare_json_number(r->latency.dense_now_spread), "compact_ms", pare_json_number(r->latency.measured_ms),
                   "compact_spread", pare_json_number(r->latency.measured_spread), "table", table);
}

static json_t *alignment_json(const PareReport *r) {
  json_t *uneven = json_array();
  for (size_t i = 0; i < r->alignment.nuneven; i++)
    json_array_append_new(uneven, pare_json_text(r->alignment.uneven[i]));
  return json_pack("{s:I, s:o}", "multiple", (json_int_t)r->alignment.align, "not_aligned", uneven);
}

static json_t *vocabulary_json(const PareReport *r) {
  json_t *added = json_object(), *files = json_array();
  for (size_t i = 0; i < r->vocabulary.nadded; i++)
    json_object_set_new(added, r->vocabulary.added[i].name, json_integer((json_int_t)r->vocabulary.added[i].n));
  for (size_t i = 0; i < r->vocabulary.nfiles; i++) json_array_append_new(files, pare_json_text(r->vocabulary.files[i]));
  return json_pack("{s:I, s:I, s:o, s:I, s:I, s:o}", "tokens", (json_int_t)r->vocabulary.tokens, "left",
                   (json_int_t)r->vocabulary.left, "added", added, "merges", (json_int_t)r->vocabulary.merges, "merges_left",
                   (json_int_t)r->vocabulary.merges_left, "files", files);
}

/* `kept` lists the indices that are left, where some are gone; `scores` has a number for each that there was. */
static json_t *group_json(const PareReportGroup *g) {
  json_t *o = json_pack("{s:o, s:o, s:I, s:I}", "name", pare_json_text(g->name), "kind", pare_json_text(g->kind),
                        "before", (json_int_t)g->before, "after", (json_int_t)g->after);
  json_t *kept = g->kept ? json_array() : NULL;
  for (int64_t i = 0; kept && i < g->before; i++)
    if (g->kept[i]) json_array_append_new(kept, json_integer((json_int_t)i));
  if (kept) json_object_set_new(o, "kept", kept);
  json_t *scores = g->score ? json_array() : NULL;
  for (int64_t i = 0; scores && i < g->before; i++) json_array_append_new(scores, pare_json_number(g->score[i]));
  if (scores) json_object_set_new(o, "scores", scores);
  return o;
}

static json_t *groups_json(const PareReport *r) {
  json_t *list = json_array();
  for (size_t i = 0; i < r->ngroups; i++) json_array_append_new(list, group_json(&r->groups[i]));
  return list;
}

static json_t *metrics_json(const PareReport *r) {
  if (!r->metric.name) return json_null();
  return json_pack("{s:o, s:o, s:o, s:o}", "name", pare_json_text(r->metric.name), "dense",
                   pare_json_number(r->metric.dense), "compact", pare_json_number(r->metric.compact), "points",
                   pare_json_number(r->metric.points));
}

static json_t *validation_json(const PareReport *r) {
  return json_pack("{s:o, s:o, s:I, s:b, s:b}", "masked_vs_compact_max_abs", pare_json_number(r->validation.max_abs),
                   "masked_vs_compact_rel", pare_json_number(r->validation.max_rel), "samples",
                   (json_int_t)r->validation.samples, "passed", r->validation.passed, "exact",
                   r->validation.exact);
}

static json_t *aside_json(const PareReport *r) {
  json_t *list = json_array();
  for (size_t i = 0; i < r->training.naside; i++)
    json_array_append_new(list, json_pack("{s:o, s:s}", "output", pare_json_text(r->training.aside[i].name), "reason",
                                          r->training.aside[i].why));
  return list;
}

static json_t *training_json(const PareReport *r) {
  return json_pack("{s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o}",
                   "device", pare_json_text(r->training.device), "precision",
                   pare_json_text(r->training.precision), "steps", (json_int_t)r->training.steps, "trained_parameters",
                   (json_int_t)r->training.trained_parameters, "trained_share",
                   pare_json_number(r->training.trained_share), "seconds",
                   pare_json_number(r->training.seconds), "samples_per_second",
                   pare_json_number(r->training.samples_per_second), "peak_memory_bytes",
                   (json_int_t)r->training.peak_memory_bytes, "final_loss", pare_json_number(r->training.final_loss),
                   "mu", pare_json_number(r->training.mu),
                   "left_out", aside_json(r));
}

static json_t *spans_json(const PareReport *r) {
  json_t *o = json_object();
  for (size_t i = 0; i < r->nspans; i++) json_object_set_new(o, r->spans[i].name, pare_json_number(r->spans[i].seconds));
  return o;
}

static json_t *adapters_json(const PareReport *r) {
  json_t *list = json_array();
  for (size_t i = 0; i < r->nadapters; i++)
    json_array_append_new(list, json_pack("{s:o, s:I, s:o}", "weight", pare_json_text(r->adapters[i].weight), "rank",
                                          (json_int_t)r->adapters[i].rank, "scale",
                                          pare_json_number(r->adapters[i].scale)));
  return list;
}

static json_t *curves_json(const PareReport *r) {
  json_t *step = json_array(), *loss = json_array(), *sparsity = json_array(), *seconds = json_array();
  json_t *metric = json_array();
  for (size_t i = 0; i < r->npoints; i++) {
    json_array_append_new(step, json_integer((json_int_t)r->points[i].step));
    json_array_append_new(loss, pare_json_number(r->points[i].loss));
    json_array_append_new(sparsity, pare_json_number(r->points[i].sparsity));
    json_array_append_new(seconds, pare_json_number(r->points[i].seconds));
  }
  for (size_t i = 0; i < r->nevals; i++)
    json_array_append_new(metric, json_pack("{s:I, s:o}", "step", (json_int_t)r->evals[i].step, "value",
                                            pare_json_number(r->evals[i].value)));
  return json_pack("{s:o, s:o, s:o, s:o, s:o}", "step", step, "loss", loss, "sparsity", sparsity, "seconds",
                   seconds, "metric", metric);
}

/* Numbers and truth values are JSON already. */
static json_t *options_json(const PareReport *r) {
  json_t *o = json_object();
  for (size_t i = 0; i < r->noptions; i++) {
    const PareReportOption *p = &r->options[i];
    json_t *v = p->quoted ? NULL : json_loads(p->value, JSON_DECODE_ANY, NULL);
    json_object_set_new(o, p->name, v ? v : pare_json_text(p->value));
  }
  return o;
}

static json_t *report_json(const PareReport *r) {
  json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "input", model_json(&r->input),
                   "exporter", pare_fingerprint_json(r->fingerprint), "output", model_json(&r->output), "target", target_json(r), "latency",
                   latency_json(r), "alignment", alignment_json(r), "groups", groups_json(r), "metrics",
                   metrics_json(r), "validation", validation_json(r), "training", training_json(r), "seconds",
                   spans_json(r), "adapters",
                   adapters_json(r), "curves", curves_json(r), "seed", (json_int_t)r->seed, "options", options_json(r), "version",
                   pare_json_text(r->version));
  if (r->vocabulary.tokens) json_object_set_new(o, "vocabulary", vocabulary_json(r));
  return o;
}

/* --- files --- */

static PareStatus put(PareCtx *c, const char *dir, const char *name, const char *text, size_t n) {
  const char *path = pare_arena_printf(c->scratch, "%s/%s", dir, name);
  if (!text || !path) return pare_nomem(c);
  return pare_file_write(c, path, text, n);
}

static PareStatus put_page(PareCtx *c, const char *dir, PareReportPageFn *page, const void *r) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  bool ok = f && page(f, r);
  if (f && fclose(f)) ok = false;
  PareStatus s = put(c, dir, "report.html", ok ? text : NULL, n);
  free(text); /* open_memstream's */
  return s;
}

PareStatus pare_report_put(PareCtx *c, const char *dir, char *json, PareReportPageFn *page, const void *r) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = pare_dir_make(c, dir);
  if (s == PARE_OK) s = put(c, dir, "report.json", json, json ? strlen(json) : 0);
  if (s == PARE_OK) s = put_page(c, dir, page, r);
  free(json); /* jansson's */
  pare_arena_rewind(c->scratch, mark);
  return s;
}

static bool page_of(FILE *f, const void *r) { return pare_report_page(f, r); }

PareStatus pare_report_write(PareCtx *c, const char *dir, const PareReport *r) {
  return pare_report_put(c, dir, pare_json_print(report_json(r)), page_of, r);
}
