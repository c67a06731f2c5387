/* sweep.c - `pare sweep`: what the loss does when groups go, by class and by layer, before anything is tuned; and how a
 * budget should be split over the layers because of it. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "api/align.h"
#include "api/call.h"
#include "api/feed.h"
#include "api/frame.h"
#include "api/options.h"
#include "api/plan.h"
#include "api/ruler.h"
#include "api/target.h"
#include "api/tuner_parts.h"
#include "backend/sweep_report.h"
#include "base/file.h"
#include "passes/edit.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/untie.h"
#include "runtime/device.h"
#include "runtime/split.h"

enum { SHARES = 6, MOST_SAMPLES = 512 };
static const double share_of[SHARES] = {0, 0.125, 0.25, 0.5, 0.75, 1};

typedef struct Sweep {
  PareCtx *c;
  const char *path;
  PareCompressOptions o; /* the caller's, without steps */
  const PareHooks *h;
  PareArena *arena; /* the result's */
  PareModel *model;
  PareData *train, *eval;
  PareSplit split; /* of the training data where there is no eval */
  PareGraph *probe;
  PareDims *dims;
  PareDevice *device;
  PareTarget target;
  PareTuner tuner;
  PareRuler ruler;
  size_t nlayers;
  size_t *dim;      /* by layer */
  PareLayer *layer; /* whose keep flags are the leaves' */
  PareSweepCurve *curve; /* of the result: classes, then layers */
  size_t nclasses;
  int64_t measured, todo;
  double started;
  PareSweepResult *result;
} Sweep;

/* --- what comes in --- */

/* The plan can be written: said before time is spent on the sweep. */
static PareStatus check_plan(Sweep *s) {
  const char *path = s->o.save_plan, *folder = pare_path_beside(s->arena, path, ".");
  if (!*path) return PARE_OK;
  if (!folder) return pare_nomem(s->c);
  if (access(folder, W_OK | X_OK)) return pare_error(s->c, PARE_IO, "cannot write '%s': %s", path, strerror(errno));
  return PARE_OK;
}

static PareStatus check(Sweep *s) {
  if (!*s->o.train) return pare_error(s->c, PARE_USAGE, "a sweep scores and judges on data: give --train DATA");
  if (*s->o.plan || s->o.granularity)
    return pare_error(s->c, PARE_USAGE, "a sweep is about groups that scores rank: --plan and --granularity have no meaning "
                      "for it");
  if (s->o.num_labels)
    return pare_error(s->c, PARE_USAGE, "--num-labels makes a classifier that knows nothing yet: tune it, then sweep");
  if (pare_option_kinds(&s->o) & PARE_KIND_BIT(PARE_KIND_VOCAB))
    return pare_error(s->c, PARE_USAGE, "what stays of a vocabulary is said, not ranked: leave vocab out of --prune");
  if (*s->o.report) PARE_TRY(pare_dir_make(s->c, s->o.report));
  if (s->o.sparsity == 0 && !*s->o.target)
    return pare_error(s->c, PARE_USAGE, "--sparsity 0 ranks nothing: give the share that the proposal is for");
  pare_target_read(&s->o, &s->target);
  if (!strcmp(s->target.kind, "latency"))
    return pare_error(s->c, PARE_USAGE, "a sweep measures losses, not times: give it --target params, macs or bytes, or "
                      "--sparsity");
  return check_plan(s);
}

static PareStatus load(Sweep *s) {
  PareCtx *c = s->c;
  PARE_TRY(pare_model_load(c, s->path, &s->model));
  pare_model_tell(c, s->model);
  c->file = s->path;
  PARE_TRY(pare_untie(c, s->model->graph));
  PARE_TRY(pare_probe_dims(c, s->arena, s->model->graph, 0, &s->probe));
  PARE_TRY(pare_trace_classes(c, s->arena, s->probe, pare_option_kinds(&s->o), &s->dims));
  PARE_TRY(pare_samples_load(c, s->model->graph, s->o.train, &s->train));
  if (*s->o.eval) return pare_samples_load(c, s->model->graph, s->o.eval, &s->eval);
  return pare_data_split(c, s->arena, s->train, (uint64_t)s->o.seed, &s->split);
}

/* What is to be reached, in the units of the target. */
static PareStatus aim(Sweep *s) {
  PareTuner *t = &s->tuner;
  PareGraph *sized = pare_graph_clone(s->c, s->arena, s->model->graph);
  int64_t batch = 1;
  if (!sized) return s->c->diag.code;
  PARE_TRY(pare_feed_bind(s->c, sized, s->train, &batch));
  PareMeasures m = {.sized = sized, .file_bytes = pare_model_bytes(s->model)};
  if (!strcmp(s->target.kind, "bytes")) PARE_TRY(pare_frame_read(s->c, s->arena, s->model, &m.frame));
  PARE_TRY(pare_target_ratio(s->c, s->arena, &s->target, s->dims, t->pruned, &m, &t->ratio, &t->goal));
  return t->goal.overlaps ? pare_tuner_fit(t) : PARE_OK;
}

/* Scores are taken on what compress would tune on. */
static PareStatus score(Sweep *s) {
  int64_t *list = s->split.train, n = s->split.ntrain;
  if (!list) {
    n = s->train->nsamples;
    if (!(list = PARE_NEW_N(s->arena, n, int64_t))) return pare_nomem(s->c);
    for (int64_t i = 0; i < n; i++) list[i] = i;
  }
  PARE_TRY(pare_tuner_init(&s->tuner, s->c, s->arena, s->model, s->model->graph, s->dims, &s->o, s->h, s->train, list, n,
                           s->device));
  PARE_TRY(pare_tuner_score(&s->tuner));
  return aim(s);
}

static PareStatus list_layers(Sweep *s) {
  s->dim = PARE_NEW_N(s->arena, s->dims->dims.n + 1, size_t);
  s->layer = PARE_NEW_N(s->arena, s->dims->dims.n + 1, PareLayer);
  if (!s->dim || !s->layer) return pare_nomem(s->c);
  for (size_t i = 0; i < s->dims->dims.n; i++) {
    const PareDim *d = &s->dims->dims.at[i];
    if (!s->tuner.pruned[i]) continue;
    PareLayer *l = &s->layer[s->nlayers];
    s->dim[s->nlayers++] = i;
    *l = (PareLayer){.kind = (int)d->kind, .count = d->count, .score = s->tuner.score[i],
                     .keep = s->tuner.stage_keep[i], .cost = pare_tuner_cost(&s->tuner, i),
                     .least = pare_rank_least(d->count, s->o.floor)};
    PARE_TRY(pare_align_multiple(s->c, s->dims, d, s->o.align, &l->multiple));
  }
  return PARE_OK;
}

/* --- one cut --- */

static void revive(const Sweep *s) {
  for (size_t i = 0; i < s->nlayers; i++) memset(s->layer[i].keep, 1, (size_t)s->layer[i].count * sizeof(bool));
}

/* The model less what the flags say, in the place of masks: the same function, and faster. */
static PareStatus cut_and_judge(Sweep *s, PareArena *a, PareVerdict *out) {
  PareGraph *g;
  PARE_TRY(pare_cut_dims(s->c, a, s->model->graph, s->dims, &g));
  PARE_TRY(pare_drop_branches(s->c, g, s->dims));
  return pare_ruler_measure(s->c, &s->ruler, g, out);
}

static PareStatus measure(Sweep *s, double *loss, double *value) {
  PareVerdict v = {.value = NAN, .loss = NAN};
  PareArena *a = pare_arena_new(1 << 16);
  PareStatus status = a ? cut_and_judge(s, a, &v) : pare_nomem(s->c);
  pare_arena_free(a);
  *loss = v.loss;
  *value = v.value;
  double rate = (double)++s->measured / (pare_now() - s->started);
  pare_progress(s->h, &(PareProgress){.phase = "sweeping", .step = s->measured, .steps = s->todo, .loss = *loss,
                                      .sparsity = NAN, .samples_per_second = NAN,
                                      .seconds_left = (double)(s->todo - s->measured) / rate});
  return status;
}

static int64_t dead_in(const Sweep *s) {
  int64_t dead = 0;
  for (size_t i = 0; i < s->nlayers; i++)
    for (int64_t k = 0; k < s->layer[i].count; k++) dead += !s->layer[i].keep[k];
  return dead;
}

/* --- curves --- */

/* Points at the same shares for all, those where as much is gone as at the one before being the same. */
static PareStatus draw_curve(Sweep *s, size_t n, PareLayer *layer, PareSweepCurve *curve) {
  PareSweepPoint *p = PARE_NEW_N(s->arena, SHARES, PareSweepPoint);
  if (!p) return pare_nomem(s->c);
  p[0] = (PareSweepPoint){0, 0, s->ruler.whole.loss, s->ruler.whole.value};
  for (int k = 1; k < SHARES; k++) {
    revive(s);
    PARE_TRY(pare_rank_ratio(s->c, n, layer, share_of[k], share_of[k], s->o.ranking != PARE_RANK_UNIFORM));
    p[k] = p[k - 1];
    p[k].share = share_of[k];
    if (dead_in(s) == p[k - 1].gone) continue;
    p[k].gone = dead_in(s);
    PARE_TRY(measure(s, &p[k].loss, &p[k].metric));
  }
  revive(s);
  curve->points = p;
  curve->npoints = SHARES;
  return PARE_OK;
}

/* The layers of one kind, next to each other in `of`. */
static size_t gather_kind(const Sweep *s, int kind, PareLayer *of) {
  size_t n = 0;
  for (size_t i = 0; i < s->nlayers; i++)
    if (s->layer[i].kind == kind) of[n++] = s->layer[i];
  return n;
}

static PareStatus draw_class(Sweep *s, int kind, PareLayer *of) {
  size_t n = gather_kind(s, kind, of);
  if (!n) return PARE_OK;
  PareSweepCurve *curve = &s->curve[s->nclasses++];
  *curve = (PareSweepCurve){.name = "", .kind = pare_kind_name((PareKind)kind)};
  for (size_t i = 0; i < n; i++) curve->count += of[i].count;
  return draw_curve(s, n, of, curve);
}

static PareStatus draw_layer(Sweep *s, size_t i) {
  const PareDim *d = &s->dims->dims.at[s->dim[i]];
  PareSweepCurve *curve = &s->curve[s->nclasses + i];
  *curve = (PareSweepCurve){.kind = pare_kind_name(d->kind), .count = d->count};
  if (!(curve->name = pare_arena_strdup(s->arena, d->name))) return pare_nomem(s->c);
  return draw_curve(s, 1, &s->layer[i], curve);
}

static PareStatus draw_curves(Sweep *s) {
  PareLayer *of = PARE_NEW_N(s->arena, s->nlayers + 1, PareLayer);
  s->curve = PARE_NEW_N(s->arena, s->nlayers + PARE_KIND_COUNT, PareSweepCurve);
  if (!of || !s->curve) return pare_nomem(s->c);
  int64_t nkinds = 0;
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++) nkinds += gather_kind(s, kind, of) > 0;
  s->todo = ((int64_t)s->nlayers + nkinds) * (SHARES - 1) + 2; /* and the proposal, and what ranking does */
  for (int kind = 0; kind < PARE_KIND_COUNT; kind++) PARE_TRY(draw_class(s, kind, of));
  for (size_t i = 0; i < s->nlayers; i++) PARE_TRY(draw_layer(s, i));
  return PARE_OK;
}

/* --- the split --- */

static PareStatus loss_curve(Sweep *s, const PareSweepCurve *curve, PareLossCurve *out) {
  int64_t *gone = PARE_NEW_N(s->arena, SHARES, int64_t);
  double *loss = PARE_NEW_N(s->arena, SHARES, double);
  if (!gone || !loss) return pare_nomem(s->c);
  for (size_t k = 0; k < SHARES; k++) gone[k] = curve->points[k].gone, loss[k] = curve->points[k].loss;
  *out = (PareLossCurve){SHARES, gone, loss};
  return PARE_OK;
}

/* Without a target --ranking cost takes a share of what all groups cost, not of the groups of each class. */
static bool by_cost(const Sweep *s) { return !s->tuner.goal.cost && s->tuner.ranking == PARE_RANK_COST; }

/* Of each class's groups, at first. */
static void shares_asked(const Sweep *s, double *ratio) {
  const PareGoal *goal = &s->tuner.goal;
  double all = by_cost(s) ? 0 : s->tuner.ratio;
  for (int k = 0; k < PARE_KIND_COUNT; k++) ratio[k] = goal->cost && !goal->overlaps ? goal->ratio[k] : all;
}

/* What is left under the flags. */
static PareStatus cost_left(Sweep *s, double *cost) {
  const PareGoal *goal = &s->tuner.goal;
  if (goal->cost && goal->overlaps) return pare_goal_cost(s->c, goal, s->dims, cost);
  *cost = goal->cost ? goal->fixed : 0;
  for (size_t i = 0; i < s->nlayers; i++)
    for (int64_t k = 0; k < s->layer[i].count; k++) *cost += s->layer[i].keep[k] ? s->layer[i].cost : 0;
  return PARE_OK;
}

static PareStatus cut_by(Sweep *s, const PareLossCurve *curve, const double *ratio, int64_t *dead) {
  PARE_TRY(pare_split_by_loss(s->c, s->nlayers, s->layer, curve, ratio, dead));
  revive(s);
  for (size_t i = 0; i < s->nlayers; i++) {
    double share = (double)dead[i] / (double)s->layer[i].count;
    PARE_TRY(pare_rank_ratio(s->c, 1, &s->layer[i], share, share, false));
  }
  return PARE_OK;
}

/* To `budget`, infinite where shares are asked for. Where layers of a class differ in what their groups cost, the shares that
 * reach a goal when they are the same in all layers may fall short of it: then more goes. *reached: it is enough. */
static PareStatus cut_by_curves(Sweep *s, double budget, bool *reached) {
  static const double more = 0.005;
  double ratio[PARE_KIND_COUNT];
  PareLossCurve *curve = PARE_NEW_N(s->arena, s->nlayers + 1, PareLossCurve);
  int64_t *dead = PARE_NEW_N(s->arena, s->nlayers + 1, int64_t);
  if (!curve || !dead) return pare_nomem(s->c);
  for (size_t i = 0; i < s->nlayers; i++) PARE_TRY(loss_curve(s, &s->curve[s->nclasses + i], &curve[i]));
  shares_asked(s, ratio);
  *reached = false;
  for (double added = 0; !*reached && added <= 1; added += more) {
    double left;
    PARE_TRY(cut_by(s, curve, ratio, dead));
    PARE_TRY(cost_left(s, &left));
    *reached = left <= budget;
    for (int k = 0; k < PARE_KIND_COUNT; k++) ratio[k] = fmin(ratio[k] + more, 1);
  }
  return PARE_OK;
}

/* What compress would cut at once. */
static PareStatus cut_by_scores(Sweep *s) {
  PareTuner *t = &s->tuner;
  for (size_t i = 0; i < s->nlayers; i++) memset(t->keep[s->dim[i]], 1, (size_t)s->layer[i].count * sizeof(bool));
  PARE_TRY(pare_tuner_prune(t, 1));
  pare_tuner_set_leaves(t);
  return PARE_OK;
}

static void count_kept(Sweep *s) {
  for (size_t i = 0; i < s->nlayers; i++) {
    PareSweepCurve *layer = &s->curve[s->nclasses + i];
    for (int64_t k = 0; k < layer->count; k++) layer->kept += s->layer[i].keep[k];
    for (size_t k = 0; k < s->nclasses; k++)
      if (!strcmp(s->curve[k].kind, layer->kind)) s->curve[k].kept += layer->kept;
  }
}

/* Curves of layers do not add up: what they say is judged beside what scores alone say, and the better is proposed. */
static PareStatus propose(Sweep *s) {
  PareSweepResult *r = s->result;
  double budget = s->tuner.goal.cost ? s->tuner.goal.budget : INFINITY;
  bool reached;
  PARE_TRY(cut_by_scores(s));
  PARE_TRY(measure(s, &r->ranked_loss, &r->ranked_value));
  if (by_cost(s)) PARE_TRY(cost_left(s, &budget));
  PARE_TRY(cut_by_curves(s, budget, &reached));
  PARE_TRY(measure(s, &r->split_loss, &r->split_value));
  r->by_scores = r->ranked_loss < r->split_loss || !reached;
  if (r->by_scores) PARE_TRY(cut_by_scores(s));
  count_kept(s);
  int64_t all = 0;
  for (size_t i = 0; i < s->nlayers; i++) all += s->layer[i].count;
  r->sparsity = (double)dead_in(s) / (double)all;
  return *s->o.save_plan ? pare_plan_save(s->c, s->o.save_plan, s->dims, s->tuner.stage_keep) : PARE_OK;
}

/* --- the account --- */

static PareStatus account(Sweep *s) {
  PareSweepResult *r = s->result;
  r->model = pare_arena_strdup(s->arena, s->path);
  r->method = pare_tuner_method(&s->tuner);
  r->metric = pare_metric_name(s->ruler.by.metric);
  r->share = pare_metric_is_share(s->ruler.by.metric);
  r->loss_name = pare_ruler_loss_name(&s->ruler);
  r->loss = s->ruler.whole.loss;
  r->value = s->ruler.whole.value;
  r->target = s->target.kind;
  r->requested = s->target.requested;
  r->samples = s->ruler.chosen.n;
  r->ncurves = s->nclasses + s->nlayers;
  r->curves = s->curve;
  r->seconds = pare_now() - s->started;
  return r->model ? PARE_OK : pare_nomem(s->c);
}

/* The same for the report, which does not know the public interface. */
static PareStatus report_of(PareCtx *c, PareArena *a, const PareSweepResult *r, PareSweepReport *out) {
  PareSweepReportCurve *curve = PARE_NEW_N(a, r->ncurves + 1, PareSweepReportCurve);
  if (!curve) return pare_nomem(c);
  for (size_t i = 0; i < r->ncurves; i++) {
    const PareSweepCurve *x = &r->curves[i];
    PareSweepReportPoint *p = PARE_NEW_N(a, x->npoints, PareSweepReportPoint);
    if (!p) return pare_nomem(c);
    for (size_t k = 0; k < x->npoints; k++)
      p[k] = (PareSweepReportPoint){x->points[k].share, x->points[k].gone, x->points[k].loss, x->points[k].metric};
    curve[i] = (PareSweepReportCurve){x->name, x->kind, x->count, x->kept, x->npoints, p};
  }
  *out = (PareSweepReport){.version = PARE_VERSION, .model = r->model, .method = r->method, .metric = r->metric,
                           .loss_name = r->loss_name, .loss = r->loss, .value = r->value, .target = r->target,
                           .requested = r->requested, .sparsity = r->sparsity, .split_loss = r->split_loss,
                           .split_value = r->split_value, .ranked_loss = r->ranked_loss,
                           .ranked_value = r->ranked_value, .by_scores = r->by_scores, .samples = r->samples,
                           .seconds = r->seconds, .ncurves = r->ncurves, .curves = curve};
  return PARE_OK;
}

static PareStatus write_report(Sweep *s) {
  PareSweepReport r;
  if (!*s->o.report) return PARE_OK;
  PARE_TRY(report_of(s->c, s->arena, s->result, &r));
  return pare_sweep_report_write(s->c, s->o.report, &r);
}

/* --- the whole --- */

static PareStatus judge_whole(Sweep *s) {
  const PareData *d = s->eval ? s->eval : s->train;
  int64_t n = s->eval ? s->eval->nsamples : s->split.nheld;
  PareChoice chosen = {s->eval ? NULL : s->split.held, n < MOST_SAMPLES ? n : MOST_SAMPLES};
  PARE_TRY(pare_ruler_new(s->c, s->arena, s->model->graph, d, chosen, s->o.batch,
                          (PareAsked){.metric = s->o.metric, .as = pare_option_labels_as(&s->o)}, s->device, s->h,
                          &s->ruler));
  if (!isnan(s->ruler.whole.loss)) return PARE_OK;
  return pare_data_error(s->c, d, PARE_DATA, "the model cannot be judged on these samples: its loss is not a number, or none of "
                         "them has a label");
}

static PareStatus run(Sweep *s) {
  PARE_TRY(check(s));
  PARE_TRY(pare_device_open(s->c, *s->o.device ? s->o.device : "auto", &s->device));
  PARE_TRY(load(s));
  s->started = pare_now();
  PARE_TRY(score(s));
  PARE_TRY(list_layers(s));
  PARE_TRY(judge_whole(s));
  PARE_TRY(draw_curves(s));
  PARE_TRY(propose(s));
  PARE_TRY(account(s));
  return write_report(s);
}

typedef struct SweepCall {
  const char *model;
  const PareCompressOptions *o;
  const PareHooks *h;
  PareSweepResult **out;
} SweepCall;

static PareStatus sweep_body(PareCtx *c, void *arg) {
  SweepCall *call = arg;
  static const PareHooks silent = {0};
  PareArena *a = pare_arena_new(1 << 16);
  PareSweepResult *r = a ? PARE_NEW(a, PareSweepResult) : NULL;
  Sweep s = {.c = c, .path = call->model, .o = *call->o, .h = call->h ? call->h : &silent, .arena = a, .result = r};
  s.o.steps = 0;
  PareStatus status = r ? run(&s) : pare_nomem(c);
  pare_tuner_free(&s.tuner);
  pare_model_free(s.model);
  pare_data_free(s.train);
  pare_data_free(s.eval);
  pare_device_close(s.device);
  if (status != PARE_OK) return pare_arena_free(a), status;
  r->owner = a;
  *call->out = r;
  return PARE_OK;
}

int pare_sweep(const char *model, const PareCompressOptions *o, const PareHooks *h, PareSweepResult **out,
               PareError *e) {
  SweepCall call = {model, o, h, out};
  *out = NULL;
  return pare_call(h, (int)o->threads, e, sweep_body, &call);
}

void pare_sweep_result_free(PareSweepResult *r) {
  if (r) pare_arena_free(r->owner); /* r lives in it */
}

typedef struct JsonCall {
  const PareSweepResult *r;
  char *text;
} JsonCall;

static PareStatus json_body(PareCtx *c, void *arg) {
  JsonCall *call = arg;
  PareSweepReport r;
  PARE_TRY(report_of(c, c->scratch, call->r, &r));
  call->text = pare_sweep_report_json(&r);
  return call->text ? PARE_OK : pare_nomem(c);
}

char *pare_sweep_json(const PareSweepResult *r) {
  JsonCall call = {r, NULL};
  return pare_call(NULL, 1, NULL, json_body, &call) ? NULL : call.text;
}
