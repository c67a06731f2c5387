/* eval.c - a model judged by labels. */
#include <string.h>

#include "api/aside.h"
#include "api/call.h"
#include "api/judge.h"
#include "frontend/model.h"
#include "runtime/device.h"

enum { DEFAULT_BATCH = 32 };

typedef struct EvalCall {
  const char *model, *data, *metric, *device;
  int64_t batch;
  const PareHooks *h;
  PareEvalResult *out;
} EvalCall;

static PareStatus judge(PareCtx *c, const EvalCall *call, const PareGraph *g, const PareData *d, PareDevice *device,
                        PareForward **f) {
  PareYardstick by;
  PareVerdict v;
  PareAside aside;
  PareMetricKind asked = call->metric ? pare_metric_find(call->metric) : PARE_METRIC_COUNT;
  PARE_TRY(pare_forward_new(c, g, d, call->batch > 0 ? call->batch : DEFAULT_BATCH, PARE_FORWARD_FUSED, device, f));
  if (!pare_data_find(d, "labels")) return pare_data_error(c, d, PARE_DATA, "there is no array 'labels' to judge by");
  PARE_TRY(pare_find_aside(c, c->scratch, g, d, &aside));
  PARE_TRY(pare_tell_aside(c, g, &aside));
  PARE_TRY(pare_judge_choose(c, pare_forward_graph(*f), aside.of, d, (PareAsked){.metric = call->metric ? asked + 1 : 0}, &by));
  double start = pare_now();
  PARE_TRY(pare_judge_run(c, *f, NULL, d, (PareChoice){NULL, d->nsamples}, &by, call->h, &v));
  *call->out = (PareEvalResult){pare_metric_name(by.metric), v.value, v.loss, d->nsamples, pare_now() - start,
                                pare_metric_points(by.metric), pare_metric_is_share(by.metric)};
  return PARE_OK;
}

/* Judged by labels alone: there is no other model here. */
static PareStatus check_metric(PareCtx *c, const char *name) {
  PareMetricKind k = name ? pare_metric_find(name) : PARE_METRIC_ACCURACY;
  if (k < PARE_METRIC_COUNT && !pare_metric_takes(k, PARE_JUDGES_REFERENCE)) return PARE_OK;
  const char *names = pare_metric_names(c->scratch, (PareJudges)(PARE_JUDGES_REFERENCE - 1));
  if (!names) return pare_nomem(c);
  if (k < PARE_METRIC_COUNT)
    return pare_error(c, PARE_USAGE, "--metric %s compares two models, and there is one: take %s", name, names);
  return pare_error(c, PARE_USAGE, "--metric: there is no metric '%s'; there are %s", name, names);
}

static PareStatus eval_body(PareCtx *c, void *arg) {
  EvalCall *call = arg;
  PareModel *m = NULL;
  PareData *d = NULL;
  PareForward *f = NULL;
  PareDevice *device = NULL;
  PareStatus s = check_metric(c, call->metric);
  if (s == PARE_OK) s = pare_model_load(c, call->model, &m);
  if (s == PARE_OK) pare_model_tell(c, m);
  c->file = call->model;
  if (s == PARE_OK) s = pare_samples_load(c, m->graph, call->data, &d);
  if (s == PARE_OK) s = pare_device_open(c, call->device, &device);
  if (s == PARE_OK) s = judge(c, call, m->graph, d, device, &f);
  pare_forward_free(f);
  pare_device_close(device);
  pare_data_free(d);
  pare_model_free(m);
  return s;
}

int pare_eval(const char *model, const char *data, const char *metric, int64_t batch, int threads, const char *device,
              const PareHooks *h, PareEvalResult *out, PareError *e) {
  bool chosen = metric && strcmp(metric, "auto");
  EvalCall call = {model, data, chosen ? metric : NULL, device ? device : "auto", batch, h, out};
  return pare_call(h, threads, e, eval_body, &call);
}
