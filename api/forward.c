/* forward.c - see forward.h. */
#include "api/forward.h"

#include <assert.h>

#include "api/feed.h"
#include "passes/pass.h"
#include "passes/quantized.h"

struct PareForward {
  PareArena *arena;
  const PareData *data;
  PareGraph *graph;
  PareProgram *program;
  int64_t batch;
  float **floats; /* of each output that is not f32 */
};

void pare_forward_free(PareForward *f) {
  if (!f) return;
  pare_program_free(f->program);
  pare_arena_free(f->arena);
}

static PareStatus make(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch, PareForwardKind how,
                       PareDevice *device) {
  if (!(f->graph = pare_graph_clone(c, f->arena, g))) return c->diag.code;
  f->batch = batch;
  PARE_TRY(pare_feed_bind(c, f->graph, f->data, &f->batch));
  PARE_TRY(pare_run_passes(c, f->graph, "widen", NULL));
  if (how == PARE_FORWARD_UNROUNDED) {
    PARE_TRY(pare_run_passes(c, f->graph, "float-products,fake-quantize", NULL));
    pare_unround(f->graph);
  }
  if (how == PARE_FORWARD_FUSED)
    PARE_TRY(pare_run_passes(c, f->graph, "float-products,fold-constants,fake-quantize,drop-noops,fuse-layernorm,"
                             "fuse-gelu,fuse-linear,fuse-attention", NULL));
  PARE_TRY(device ? pare_program_new_on(c, f->graph, device, 0, NULL, &f->program)
                  : pare_program_new(c, f->graph, pare_cpu_kernels(), &f->program));
  size_t nout = f->graph->outputs.n;
  f->floats = PARE_NEW_N(f->arena, nout, float *);
  if (!f->floats) return pare_nomem(c);
  for (size_t i = 0; i < nout; i++) {
    const PareType *t = &f->graph->outputs.at[i]->type;
    if (t->dtype == PARE_F32) continue;
    f->floats[i] = PARE_NEW_N(f->arena, pare_type_count(t), float);
    if (!f->floats[i]) return pare_nomem(c);
  }
  return PARE_OK;
}

PareStatus pare_forward_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch, PareForwardKind how,
                            PareDevice *device, PareForward **out) {
  *out = NULL;
  PareArena *a = pare_arena_new(1 << 16);
  PareForward *f = a ? PARE_NEW(a, PareForward) : NULL;
  if (!f) return pare_arena_free(a), pare_nomem(c);
  f->arena = a;
  f->data = d;
  PareStatus s = make(c, f, g, batch, how, device);
  if (s == PARE_OK) *out = f;
  else pare_forward_free(f);
  return s;
}

/* --- running --- */

int64_t pare_forward_batch(const PareForward *f) { return f->batch; }

PareStatus pare_forward_run(PareCtx *c, PareForward *f, const int64_t *samples, int64_t count) {
  assert(count > 0 && count <= f->batch);
  PARE_TRY(pare_feed_fill(c, f->graph, f->program, f->data, samples, count, f->batch));
  PARE_TRY(pare_program_run(c, f->program, -1));
  for (size_t i = 0; i < f->graph->outputs.n; i++)
    PARE_TRY(pare_program_pull(c, f->program, f->graph->outputs.at[i]));
  return PARE_OK;
}

size_t pare_forward_outputs(const PareForward *f) { return f->graph->outputs.n; }
const PareValue *pare_forward_value(const PareForward *f, size_t i) { return f->graph->outputs.at[i]; }
int64_t pare_forward_width(const PareForward *f, size_t i) {
  return pare_type_count(&f->graph->outputs.at[i]->type) / f->batch;
}
const void *pare_forward_output(const PareForward *f, size_t i) {
  return pare_program_buffer(f->program, f->graph->outputs.at[i]);
}

const float *pare_forward_floats(PareForward *f, size_t i) {
  const PareValue *v = f->graph->outputs.at[i];
  if (v->type.dtype == PARE_F32) return pare_forward_output(f, i);
  PareValue shown = *v;
  shown.data = pare_forward_output(f, i);
  int64_t n = pare_type_count(&v->type);
  for (int64_t k = 0; k < n; k++) f->floats[i][k] = (float)pare_data_float(&shown, k);
  return f->floats[i];
}

const PareGraph *pare_forward_graph(const PareForward *f) { return f->graph; }
PareProgram *pare_forward_program(const PareForward *f) { return f->program; }
