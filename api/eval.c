/* eval.c - a model judged by labels. */
#include "api/call.h"
#include "api/judge.h"
#include "frontend/model.h"
#include "runtime/device.h"

enum { DEFAULT_BATCH = 32 };

typedef struct EvalCall {
  const char *model, *data, *device;
  int64_t batch;
  const PareHooks *h;
  PareEvalResult *out;
} EvalCall;

static PareStatus judge(PareCtx *c, const EvalCall *call, const PareGraph *g, const PareData *d, PareDevice *device,
                        PareForward **f) {
  size_t output;
  PareMetricKind kind;
  PareMetric m;
  PARE_TRY(pare_forward_new(c, g, d, call->batch > 0 ? call->batch : DEFAULT_BATCH, PARE_FORWARD_FUSED, device, f));
  PARE_TRY(pare_judge_find(c, *f, d, &output, &kind));
  double start = pare_now();
  PARE_TRY(pare_judge_run(c, *f, NULL, d, (PareChoice){NULL, d->nsamples}, output, kind, call->h, &m));
  *call->out = (PareEvalResult){pare_metric_name(kind), pare_metric_value(&m), pare_metric_loss(&m), d->nsamples,
                                pare_now() - start};
  return PARE_OK;
}

static PareStatus eval_body(PareCtx *c, void *arg) {
  EvalCall *call = arg;
  PareModel *m = NULL;
  PareData *d = NULL;
  PareForward *f = NULL;
  PareDevice *device = NULL;
  PareStatus s = pare_model_load(c, call->model, &m);
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

int pare_eval(const char *model, const char *data, int64_t batch, int threads, const char *device,
              const PareHooks *h, PareEvalResult *out, PareError *e) {
  EvalCall call = {model, data, device ? device : "auto", batch, h, out};
  return pare_call(h, threads, e, eval_body, &call);
}
