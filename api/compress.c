/* compress.c - `pare compress`: the pipeline from top to bottom. */
#include <math.h>
#include <omp.h>
#include <string.h>
#include <sys/resource.h>

#include "api/account.h"
#include "api/align.h"
#include "api/call.h"
#include "api/clock.h"
#include "api/costs.h"
#include "api/digest.h"
#include "api/judge.h"
#include "api/latency.h"
#include "api/options.h"
#include "api/places.h"
#include "api/plan.h"
#include "api/proof.h"
#include "api/shapes.h"
#include "api/target.h"
#include "api/trained.h"
#include "api/tuner.h"
#include "api/vocab.h"
#include "backend/emit.h"
#include "backend/sparse.h"
#include "base/file.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/untie.h"
#include "runtime/device.h"

typedef struct Compress {
  PareCtx *c;
  const char *path, *out;
  const PareCompressOptions *o;
  const PareHooks *h;
  PareArena *arena;
  PareModel *model, *emitted;
  PareData *train, *eval;
  PareVocab *vocab;        /* NULL: all tokens stay */
  PareData *raw_train, *raw_eval; /* in the ids of MODEL, where they are others */
  PareGraph *file, *file_bound; /* MODEL as it is in the file: what is edited. Its graph has a fresh classifier where
                                 * one was asked for */
  const PareGraph *dense;  /* what tuning starts from: MODEL, less the tokens that go, with the adapters that are given */
  PareSplit split;         /* of the training data where there is no eval */
  PareGraph *probe;        /* bound: to trace */
  PareGraph *sized;        /* at one sample, to time */
  PareDims *dims;
  PareTarget target;
  PareClock clock;
  PareLatency latency;     /* where it is the target */
  PareTiming dense_timing, timing, share; /* then of the dense and the compact model, at the end, and of the two */
  PareDevice *device;
  PareTuner tuner;
  PareYardstick by;         /* where there are data */
  PareGraph *folded, *masked, *compact, *base; /* base: compact without the adapters, where they go beside it */
  PareArena *edited;        /* compact's, which is needed until it is written */
  PareStage stage, masked_stage, base_stage;
  PareProof proof;
  PareDigest digest[2]; /* of model and emitted */
  PareCompressResult *result;
  double since; /* when the span at hand began */
  bool adapters_only; /* OUT is made and proven, but stays where it is staged */
} Compress;

/* --- what comes in --- */

/* What has passed since the last span ended was this one's. */
static void end_span(Compress *k, PareSpan p) {
  double now = pare_now();
  k->result->span_seconds[p] += now - k->since;
  k->since = now;
}

/* Training speaks in new ids: data and the model that it follows. */
static PareStatus take_tokens(Compress *k) {
  PareData *data[2] = {k->train, k->eval}, **place[2] = {&k->train, &k->eval}, **raw[2] = {&k->raw_train, &k->raw_eval};
  for (int i = 0; i < 2; i++) {
    if (!data[i]) continue;
    *place[i] = NULL;
    PareStatus s = pare_vocab_renumber(k->c, k->vocab, data[i], place[i], raw[i]);
    pare_data_free(data[i]);
    PARE_TRY(s);
  }
  for (size_t i = 0; i < k->dims->dims.n; i++)
    if (k->dims->dims.at[i].given) k->dims->dims.at[i].leaf->keep = k->dims->dims.at[i].given;
  PareGraph *cut;
  PARE_TRY(pare_cut_dims(k->c, k->arena, k->model->graph, k->dims, &cut));
  k->dense = cut;
  return PARE_OK;
}

static PareStatus replace_head(Compress *k) {
  if (!k->o->num_labels) return PARE_OK;
  PARE_TRY(pare_new_head(k->c, k->arena, k->file, k->file_bound, k->o->num_labels, (uint64_t)k->o->seed, &k->model->graph));
  return pare_probe_dims(k->c, k->arena, k->model->graph, 0, &k->probe);
}

static PareStatus load(Compress *k) {
  PareCtx *c = k->c;
  PARE_TRY(pare_model_load(c, k->path, &k->model));
  end_span(k, PARE_SPAN_IMPORT);
  pare_model_tell(c, k->model);
  PARE_TRY(pare_places_check_external(c, k->arena, k->model, k->out, k->o));
  c->file = k->path;
  PARE_TRY(pare_shapes_tell(c, k->model->graph, k->o->shape));
  PARE_TRY(pare_untie(c, k->model->graph));
  k->file = k->model->graph;
  PARE_TRY(pare_probe_dims(c, k->arena, k->file, 0, &k->file_bound));
  k->probe = k->file_bound;
  PARE_TRY(replace_head(k));
  PARE_TRY(pare_trace_classes(c, k->arena, k->probe, pare_option_kinds(k->o), &k->dims));
  end_span(k, PARE_SPAN_TRACE);
  if (*k->o->train) PARE_TRY(pare_samples_load(c, k->model->graph, k->o->train, &k->train));
  if (*k->o->eval) PARE_TRY(pare_samples_load(c, k->model->graph, k->o->eval, &k->eval));
  PARE_TRY(pare_vocab_read(c, k->arena, k->o, k->dims, &k->vocab));
  k->dense = k->model->graph;
  if (k->vocab && (*k->o->teacher || *k->o->adapters))
    return pare_error(c, PARE_USAGE, "--%s is for the whole vocabulary, and tokens go: leave one of them out",
                      *k->o->teacher ? "teacher" : "adapters");
  if (k->vocab) PARE_TRY(pare_vocab_place(c, k->arena, k->vocab, k->o, k->out));
  if (k->vocab) PARE_TRY(take_tokens(k));
  if (k->train && !k->eval) PARE_TRY(pare_data_split(c, k->arena, k->train, (uint64_t)k->o->seed, &k->split));
  return PARE_OK;
}

/* All samples, where some are held out for judging only if there is no eval. */
static PareStatus tuning_samples(Compress *k, const int64_t **list, int64_t *n) {
  *list = k->split.train;
  *n = k->split.ntrain;
  if (!k->train || *list) return PARE_OK;
  int64_t *all = PARE_NEW_N(k->arena, k->train->nsamples, int64_t);
  if (!all) return pare_nomem(k->c);
  for (int64_t i = 0; i < k->train->nsamples; i++) all[i] = i;
  *list = all;
  *n = k->train->nsamples;
  return PARE_OK;
}

/* The model at one sample: as --shape says, else as the data are. */
static PareStatus size_up(Compress *k, PareArena *a, PareGraph **out) {
  if (*k->o->shape || !k->train) return pare_shapes_bind(k->c, a, k->file, k->o->shape, 1, 1, out);
  int64_t batch = 1;
  if (!(*out = pare_graph_clone(k->c, a, k->file))) return k->c->diag.code;
  return pare_feed_bind(k->c, *out, k->train, &batch);
}

/* --- how fast it is --- */

static bool is_timed(const Compress *k) { return !strcmp(k->target.kind, "latency"); }

/* --latency-table or, so that a run that goes on does what it would have done, a file in the checkpoint. */
static PareStatus table_path(Compress *k, const char **out) {
  *out = k->o->latency_table;
  if (**out) return pare_place_check(k->c, k->arena, k->o, *out);
  if (!*k->o->checkpoint) return PARE_OK;
  *out = pare_arena_printf(k->arena, "%s/latency.json", k->o->checkpoint);
  return *out ? pare_dir_make(k->c, k->o->checkpoint) : pare_nomem(k->c);
}

/* "pixel_values f32[1, 1, 28, 28]" and so on: the sizes at which times count. */
static const char *shapes_text(Compress *k) {
  const char *text = "";
  for (size_t i = 0; text && i < k->sized->inputs.n; i++) {
    char type[PARE_TYPE_TEXT];
    const PareValue *v = k->sized->inputs.at[i];
    text = pare_arena_printf(k->arena, "%s%s%s %s", text, i ? ", " : "", v->name, pare_type_text(&v->type, type));
  }
  return text;
}

static PareStatus measure_latency(Compress *k) {
  const char *command = k->o->latency_cmd;
  char *digest = PARE_NEW_N(k->arena, 65, char);
  PareDigest of;
  PARE_TRY(size_up(k, k->arena, &k->sized));
  PareLatencyAsk ask = {.dims = k->dims, .pruned = k->tuner.pruned, .flags = k->tuner.stage_keep, .sized = k->sized,
                        .align = k->o->align, .h = k->h, .time = pare_clock_cut, .arg = &k->clock};
  k->clock = (PareClock){.c = k->c, .watch = {command, k->o->latency_timeout, k->device, k->h}, .model = k->model,
                         .path = k->path, .out = k->out, .file = k->file, .file_bound = k->file_bound, .sized = k->sized,
                         .dims = k->dims};
  if (!digest) return pare_nomem(k->c);
  pare_digest_begin(&of, k->model);
  PARE_TRY(pare_digest_end(k->c, &of, digest));
  PARE_TRY(table_path(k, &ask.path));
  ask.key = (PareLatencyKey){digest, *command ? command : "pare " PARE_VERSION, k->device->name, shapes_text(k),
                             omp_get_max_threads(), k->vocab ? k->vocab->left : 0};
  if (!ask.key.shapes) return pare_nomem(k->c);
  PARE_TRY(pare_clock_start(&k->clock));
  PareStatus s = pare_latency_measure(k->c, k->arena, &ask, &k->latency);
  pare_clock_stop(&k->clock); /* tuning has the memory */
  return s;
}

/* The dense model once more, and beside it what came out: the machine may have changed since the table was made. */
static PareStatus time_result(Compress *k) {
  PareCompressResult *r = k->result;
  if (!is_timed(k)) return PARE_OK;
  PARE_TRY(pare_clock_start(&k->clock));
  PARE_TRY(pare_clock_compare(&k->clock, k->emitted->graph, k->stage.model, &k->dense_timing, &k->timing, &k->share));
  r->dense_ms = k->latency.dense.ms;
  r->predicted_ms = pare_latency_predict(&k->latency, k->dims, k->tuner.keep);
  r->dense_ms_now = k->dense_timing.ms;
  r->measured_ms = k->timing.ms;
  return PARE_OK;
}

/* --- what is to be done --- */

/* By what the models will be judged: told before anything is tuned. */
static PareStatus choose_yardstick(Compress *k) {
  const PareData *d = k->eval ? k->eval : k->train;
  PareGraph *g;
  PareAside aside;
  int64_t batch = k->o->batch;
  if (!d && !k->o->metric) return PARE_OK;
  if (!d) return pare_error(k->c, PARE_USAGE, "--metric needs data to judge on: give --train or --eval");
  if (!(g = pare_graph_clone(k->c, k->arena, k->dense))) return k->c->diag.code;
  PARE_TRY(pare_feed_bind(k->c, g, d, &batch));
  PARE_TRY(pare_find_aside(k->c, k->arena, k->dense, d, &aside));
  PareAsked asked = {.metric = k->o->metric, .as = pare_option_labels_as(k->o)};
  return pare_judge_choose(k->c, g, aside.of, d, asked, &k->by);
}

/* What is to be reached, in the units of the target. */
static PareStatus aim(Compress *k) {
  PareTuner *t = &k->tuner;
  PareGraph *sized;
  if (t->planned) k->target.requested = pare_tuner_share(t);
  PARE_TRY(size_up(k, k->arena, &sized));
  PareMeasures m = {.sized = sized, .file_bytes = pare_model_bytes(k->model), .latency = &k->latency};
  if (!strcmp(k->target.kind, "bytes")) PARE_TRY(pare_frame_read(k->c, k->arena, k->model, &m.frame));
  PARE_TRY(pare_target_ratio(k->c, k->arena, &k->target, k->dims, t->pruned, &m, &t->ratio, &t->goal));
  return t->goal.overlaps ? pare_tuner_fit(t) : PARE_OK;
}

static PareStatus prepare(Compress *k) {
  const int64_t *samples;
  int64_t n;
  PARE_TRY(tuning_samples(k, &samples, &n));
  pare_target_read(k->o, &k->target);
  PARE_TRY(pare_tuner_init(&k->tuner, k->c, k->arena, k->model, k->dense, k->dims, k->o, k->h, k->train, samples, n,
                           k->device));
  k->dense = k->tuner.dense;
  PARE_TRY(choose_yardstick(k));
  if (is_timed(k)) PARE_TRY(measure_latency(k));
  return aim(k);
}

/* --- what goes out --- */

/* What the compact model is compared with. */
static PareStatus mask_model(Compress *k) {
  if (pare_dims_exact(k->dims)) return pare_zero_fan_in_thin(k->c, k->arena, k->folded, k->dims, &k->masked);
  PARE_TRY(pare_zero_fan_in(k->c, k->arena, k->folded, k->dims, &k->masked));
  return pare_cut_inexact(k->c, k->arena, k->masked, k->dims, &k->masked);
}

/* The cut model that the adapters are for. */
static PareStatus edit_base(Compress *k) {
  PareGraph *dense;
  if (!*k->o->save_base) return PARE_OK;
  PARE_TRY(pare_params_fold(k->c, k->arena, &k->tuner.params, k->model->graph, PARE_FOLD_DENSE, &dense));
  PARE_TRY(pare_cut_dims(k->c, k->arena, dense, k->dims, &k->base));
  return pare_drop_branches(k->c, k->base, k->dims);
}

static PareStatus edit_model(Compress *k) {
  PARE_TRY(edit_base(k));
  PARE_TRY(pare_params_fold(k->c, k->arena, &k->tuner.params, k->model->graph, PARE_FOLD_ALL, &k->folded));
  PARE_TRY(mask_model(k));
  if (!(k->edited = pare_arena_new(1 << 16))) return pare_nomem(k->c);
  PARE_TRY(pare_cut_dims_thin(k->c, k->edited, k->folded, k->dims, &k->compact));
  return pare_drop_branches(k->c, k->compact, k->dims);
}

enum { SPARSE_ONNX = 1 }; /* word of --sparse-format */

static PareStatus emit_bound(Compress *k, const PareGraph *g, const PareGraph *bound, const char *path,
                             PareStage *stage) {
  char ratio[32];
  snprintf(ratio, sizeof ratio, "%g", k->target.requested);
  PareProperty p[] = {{"pare.version", PARE_VERSION},
                      {"pare.method", pare_tuner_method(&k->tuner)},
                      {"pare.target", k->target.kind},
                      {"pare.requested", pare_arena_strdup(k->arena, ratio)},
                      {"pare.vocab", k->vocab ? pare_arena_printf(k->arena, "%lld", (long long)k->vocab->left) : ""}};
  PareEmit e = {.file = &k->model->file, .before = k->file, .after = g, .before_bound = k->file_bound,
                .after_bound = bound, .ninitializers = k->model->ninitializers, .nsparse = k->model->nsparse,
                .nnodes = k->model->nnodes, .external = k->model->external.n > 0,
                .sparse = k->o->sparse_format == SPARSE_ONNX && k->model->ir_version >= PARE_SPARSE_IR_VERSION,
                .nproperties = sizeof p / sizeof *p - !k->vocab, .properties = p};
  return pare_emit_stage(k->c, k->arena, &e, path, stage);
}

static PareStatus emit(Compress *k, const PareGraph *g, const char *path, PareStage *stage) {
  PareArena *tmp = pare_arena_new(1 << 16);
  PareGraph *bound = NULL;
  PareStatus s = tmp ? pare_probe_dims(k->c, tmp, g, 0, &bound) : pare_nomem(k->c);
  if (s == PARE_OK) s = emit_bound(k, g, bound, path, stage);
  pare_arena_free(tmp);
  return s;
}

static PareStatus emit_compact(Compress *k) {
  if (k->o->sparse_format == SPARSE_ONNX && k->model->ir_version < PARE_SPARSE_IR_VERSION)
    pare_log(k->c, 0, "no weight is made sparse: the model's IR version is %lld, and sparse initializers came with %d",
             (long long)k->model->ir_version, PARE_SPARSE_IR_VERSION);
  PARE_TRY(emit(k, k->compact, k->out, &k->stage));
  pare_arena_free(k->edited);
  k->edited = NULL;
  k->compact = NULL;
  return PARE_OK;
}

/* Reads the file back and runs it beside the masked model. */
static PareStatus prove(Compress *k) {
  PARE_TRY(pare_model_load(k->c, k->stage.model, &k->emitted));
  PARE_TRY(pare_shapes_tell(k->c, k->emitted->graph, k->o->shape));
  pare_digest_begin(&k->digest[1], k->emitted);
  const PareData *data = k->eval ? k->eval : k->train;
  int64_t n = k->split.held ? k->split.nheld : data ? data->nsamples : 0, *list = k->split.held;
  if (!list && data) {
    if (!(list = PARE_NEW_N(k->arena, n, int64_t))) return pare_nomem(k->c);
    for (int64_t i = 0; i < n; i++) list[i] = i;
  }
  PARE_TRY(pare_prove_elements(k->c, k->masked, k->emitted->graph, &k->tuner.params.full));
  PARE_TRY(pare_prove(k->c, k->masked, k->emitted->graph, k->dims, k->vocab, data, list, n, &k->proof));
  if (k->proof.max_rel > PARE_PROOF_TOLERANCE)
    return pare_error(k->c, PARE_GATE, "the compact model differs from the masked one by %.3g at '%s' (%.1g is rounding): "
                      "nothing was written", k->proof.max_rel, k->proof.worst, PARE_PROOF_TOLERANCE);
  return PARE_OK;
}

static PareStatus save_adapters(Compress *k) {
  enum { RSLORA = 1 };
  size_t n = k->tuner.params.full.at.n;
  ParePeftOut *out = PARE_NEW_N(k->arena, n + 1, ParePeftOut);
  if (!out) return pare_nomem(k->c);
  for (size_t i = 0; i < n; i++)
    PARE_TRY(pare_params_give(k->c, k->arena, &k->tuner.params, k->dims, i, &out[i]));
  return pare_peft_save(k->c, k->o->save_adapters, k->o->lora_scale == RSLORA, n, out);
}

/* --- how good it is --- */

static PareStatus judge_pair(Compress *k, PareForward *dense, PareForward *compact, const PareData *d,
                             PareChoice chosen) {
  PareVerdict a = {.value = 1}, b;
  PareMetricKind metric = k->by.metric;
  bool reference = k->by.what == PARE_JUDGES_REFERENCE;
  if (!reference) PARE_TRY(pare_judge_run(k->c, dense, NULL, d, chosen, &k->by, k->h, &a));
  PARE_TRY(pare_judge_run(k->c, compact, reference ? dense : NULL, d, chosen, &k->by, k->h, &b));
  PareCompressResult *r = k->result;
  r->metric = pare_metric_name(metric);
  r->points = pare_metric_points(metric);
  r->share = pare_metric_is_share(metric);
  r->dense = a.value;
  r->compact = b.value;
  double drop = r->points * (pare_metric_rises(metric) ? a.value - b.value : b.value - a.value);
  if (k->o->max_drop >= 0 && !(drop <= k->o->max_drop)) /* NaN fails */
    return pare_error(k->c, PARE_GATE, "%s %s from %.4f to %.4f, by more than --max-drop %g: nothing was written",
                      r->metric, pare_metric_rises(metric) ? "fell" : "rose", r->dense, r->compact, k->o->max_drop);
  return PARE_OK;
}

static PareStatus judge(Compress *k) {
  const PareData *d = k->eval ? k->eval : k->train;
  if (!d) return PARE_OK;
  PareChoice chosen = {k->eval ? NULL : k->split.held, k->eval ? d->nsamples : k->split.nheld};
  PareForward *dense = NULL, *compact = NULL;
  bool raw = k->vocab && !k->vocab->outputs; /* else what comes out is numbered otherwise */
  const PareData *read = !raw ? d : k->eval ? k->raw_eval : k->raw_train;
  PareStatus s = pare_forward_new(k->c, raw ? k->model->graph : k->dense, read, k->o->batch, PARE_FORWARD_FUSED, k->device, &dense);
  if (s == PARE_OK) s = pare_forward_new(k->c, k->emitted->graph, d, k->o->batch, PARE_FORWARD_FUSED, k->device, &compact);
  if (s == PARE_OK) s = judge_pair(k, dense, compact, d, chosen);
  pare_forward_free(dense);
  pare_forward_free(compact);
  return s;
}

/* --- the account --- */

static PareStatus describe(Compress *k, const PareModel *m, const PareGraph *g, const PareGraph *sized, const char *path,
                           PareDigest *digest, PareModelInfo *out) {
  PareWeights w;
  PARE_TRY(pare_graph_weights(k->c, g, &w));
  *out = (PareModelInfo){.path = path, .opset = g->opset, .params = w.params, .macs = pare_graph_macs(sized),
                         .bytes = (int64_t)pare_model_bytes(m)};
  return pare_digest_end(k->c, digest, out->sha256);
}

static double reached(const Compress *k) {
  const PareModelInfo *a = &k->result->input, *b = &k->result->output;
  if (!strcmp(k->target.kind, "params")) return (double)b->params / (double)a->params;
  if (!strcmp(k->target.kind, "macs")) return (double)b->macs / (double)a->macs;
  if (!strcmp(k->target.kind, "bytes")) return (double)b->bytes / (double)a->bytes;
  if (is_timed(k)) return k->share.ms;
  return pare_tuner_share(&k->tuner);
}

static PareStatus account(Compress *k) {
  PareCompressResult *r = k->result;
  PareGraph *dense, *sized;
  struct rusage use;
  PARE_TRY(size_up(k, k->arena, &dense));
  PARE_TRY(pare_shapes_like(k->c, k->arena, k->emitted->graph, dense, &sized));
  PARE_TRY(describe(k, k->model, k->file, dense, k->path, &k->digest[0], &r->input));
  PARE_TRY(describe(k, k->emitted, k->emitted->graph, sized, k->out, &k->digest[1], &r->output));
  r->target = k->target.kind;
  r->requested = k->target.requested;
  r->reached = reached(k);
  r->exact = pare_dims_exact(k->dims);
  r->masked_vs_compact_abs = k->proof.max_abs;
  r->masked_vs_compact_rel = k->proof.max_rel;
  r->steps = k->tuner.step;
  r->seconds = k->tuner.seconds;
  r->samples_per_second = r->seconds > 0 ? (double)k->tuner.tuned / r->seconds : 0;
  r->final_loss = k->tuner.loss;
  getrusage(RUSAGE_SELF, &use);
  bool gpu = !k->device->host && k->tuner.peak_bytes;
  r->peak_memory_bytes = gpu ? (int64_t)k->tuner.peak_bytes : (int64_t)use.ru_maxrss * 1024;
  return PARE_OK;
}

static PareStatus report(Compress *k) {
  PareAccount a = {k->result, k->proof.samples, is_timed(k) ? &k->latency : NULL, k->dense_timing, k->timing,
                   k->vocab};
  return pare_account_write(k->c, &k->tuner, &a);
}

/* "1560 groups may go, 50.0 % of them shall" */
static const char *share_text(Compress *k) {
  const PareTuner *t = &k->tuner;
  if (t->goal.curve) return pare_arena_printf(k->arena, "until %.4g of %.4g ms are left", t->goal.budget, k->latency.dense.ms);
  double share = t->planned ? k->target.requested : t->ratio;
  return pare_arena_printf(k->arena, "%.1f %% of %s shall", 100 * share,
                           t->ranking == PARE_RANK_COST && !t->element ? "their cost" : "them");
}

static void tell_plan(Compress *k) {
  int64_t all, dead;
  if (k->o->keep_all) {
    pare_log(k->c, 0, "%s: %lld numbers are tuned; %lld steps of %lld samples", k->path,
             (long long)pare_trained_count(&k->tuner.params, NULL), (long long)k->tuner.schedule.steps, (long long)k->o->batch);
    return;
  }
  const char *share = share_text(k);
  pare_tuner_count(&k->tuner, &all, &dead);
  if (!all || !share) return;
  pare_log(k->c, 0, "%s: %lld %s may go, %s; %lld steps of %lld samples, method %s", k->path, (long long)all,
           k->tuner.element ? "elements" : "groups", share, (long long)k->tuner.schedule.steps, (long long)k->o->batch,
           pare_tuner_method(&k->tuner));
}

/* Sizes that --align could not have. */
static PareStatus tell_uneven(Compress *k) {
  size_t n;
  const char **name = PARE_NEW_N(k->arena, k->dims->dims.n + 1, const char *);
  if (!name) return pare_nomem(k->c);
  PARE_TRY(pare_align_uneven(k->c, k->dims, k->tuner.keep, k->o->align, name, &n));
  for (size_t i = 0; i < n; i++)
    pare_log(k->c, 0, "%s: what is left of it is no multiple of %lld channels", name[i], (long long)k->o->align);
  return PARE_OK;
}

/* pare tune without OUT: it is staged beside the adapters. */
static PareStatus choose_out(Compress *k) {
  if (k->out) return PARE_OK;
  if (!*k->o->save_adapters)
    return pare_error(k->c, PARE_USAGE, "nothing would be written: give OUT, or --save-adapters DIR, or both");
  k->adapters_only = true;
  k->out = pare_arena_printf(k->arena, "%s.folded.onnx", k->o->save_adapters);
  return k->out ? PARE_OK : pare_nomem(k->c);
}

static PareStatus sync_stages(Compress *k) {
  if (k->vocab) PARE_TRY(pare_vocab_stage(k->c, k->arena, k->vocab));
  PARE_TRY(pare_stage_sync(k->c, &k->stage));
  PARE_TRY(pare_stage_sync(k->c, &k->masked_stage));
  return pare_stage_sync(k->c, &k->base_stage);
}

static PareStatus run(Compress *k) {
  k->since = pare_now();
  PARE_TRY(pare_options_check(k->c, k->o));
  PARE_TRY(choose_out(k));
  PARE_TRY(pare_places_check(k->c, k->arena, k->path, k->out, k->o));
  PARE_TRY(pare_device_open(k->c, *k->o->device ? k->o->device : "auto", &k->device));
  PARE_TRY(load(k));
  PARE_TRY(prepare(k));
  tell_plan(k);
  if (k->o->dry_run) return PARE_OK;
  pare_digest_begin(&k->digest[0], k->model);
  PARE_TRY(pare_tuner_run(&k->tuner));
  PARE_TRY(tell_uneven(k));
  end_span(k, PARE_SPAN_TUNE);
  PARE_TRY(edit_model(k));
  PARE_TRY(emit_compact(k));
  if (*k->o->save_masked) PARE_TRY(emit(k, k->masked, k->o->save_masked, &k->masked_stage));
  if (k->base) PARE_TRY(emit(k, k->base, k->o->save_base, &k->base_stage));
  end_span(k, PARE_SPAN_EMIT);
  PARE_TRY(prove(k));
  end_span(k, PARE_SPAN_PROVE);
  PARE_TRY(judge(k));
  PARE_TRY(time_result(k));
  PARE_TRY(account(k));
  end_span(k, PARE_SPAN_JUDGE);
  PARE_TRY(sync_stages(k));
  end_span(k, PARE_SPAN_SYNC);
  if (*k->o->report) PARE_TRY(report(k));
  if (*k->o->save_plan) PARE_TRY(pare_plan_save(k->c, k->o->save_plan, k->dims, k->tuner.keep));
  if (*k->o->save_adapters) PARE_TRY(save_adapters(k));
  if (*k->o->save_masked) PARE_TRY(pare_stage_commit(k->c, &k->masked_stage));
  if (k->base) PARE_TRY(pare_stage_commit(k->c, &k->base_stage));
  if (k->vocab) PARE_TRY(pare_vocab_commit(k->c, k->vocab));
  return k->adapters_only ? PARE_OK : pare_stage_commit(k->c, &k->stage);
}

static void clean_up(Compress *k) {
  for (int i = 0; i < 2; i++) pare_digest_leave(&k->digest[i]);
  pare_stage_remove(&k->stage);
  pare_stage_remove(&k->masked_stage);
  pare_clock_stop(&k->clock);
  pare_stage_remove(&k->base_stage);
  pare_vocab_abort(k->vocab);
  pare_tuner_free(&k->tuner);
  pare_arena_free(k->edited);
  pare_model_free(k->emitted);
  pare_model_free(k->model);
  pare_data_free(k->train);
  pare_data_free(k->eval);
  pare_data_free(k->raw_train);
  pare_data_free(k->raw_eval);
  pare_device_close(k->device);
}

typedef struct Call {
  const char *model, *out;
  const PareCompressOptions *o;
  const PareHooks *h;
  PareCompressResult **result;
} Call;

static PareStatus body(PareCtx *c, void *arg) {
  Call *call = arg;
  PareArena *a = pare_arena_new(1 << 16);
  PareCompressResult *r = a ? PARE_NEW(a, PareCompressResult) : NULL;
  static const PareHooks silent = {0};
  Compress k = {.c = c, .path = call->model, .out = call->out, .o = call->o, .h = call->h ? call->h : &silent,
                .arena = a, .result = r};
  PareStatus s = r ? run(&k) : pare_nomem(c);
  clean_up(&k);
  if (s == PARE_OK) {
    r->owner = a;
    *call->result = r;
  } else {
    pare_arena_free(a);
  }
  return s;
}

int pare_compress(const char *model, const char *out, const PareCompressOptions *o, const PareHooks *h,
                  PareCompressResult **result, PareError *e) {
  Call call = {model, out, o, h, result};
  return pare_call(h, (int)o->threads, e, body, &call);
}

int pare_tune(const char *model, const char *out, const PareCompressOptions *o, const PareHooks *h,
              PareCompressResult **result, PareError *e) {
  PareCompressOptions kept = *o;
  kept.keep_all = true;
  return pare_compress(model, out, &kept, h, result, e);
}

void pare_compress_result_free(PareCompressResult *r) {
  if (r) pare_arena_free(r->owner);
}
