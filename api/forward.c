/* forward.c - see forward.h. */
#include "api/forward.h"

#include <assert.h>

#include "api/feed.h"
#include "base/rng.h"
#include "passes/classes.h"
#include "passes/hidden.h"
#include "passes/parts.h"
#include "passes/pass.h"
#include "passes/quantized.h"

struct PareForward {
  PareArena *arena;
  const PareData *data;
  PareGraph *graph;
  PareProgram *program;
  int64_t batch;
  size_t noutputs; /* the model's; in graph->outputs the watched values follow, then what relevance needs */
  size_t nwatched;
  PareRelevance relevance;
  float **floats; /* of each output that is not f32 */
  PareValue **scores; /* of each output: what losses read of it; NULL in programs that are not fused */
};

void pare_forward_free(PareForward *f) {
  if (!f) return;
  pare_program_free(f->program);
  pare_arena_free(f->arena);
}

static const char FUSED[] = "float-products,fold-constants,fake-quantize,drop-noops,fuse-layernorm,fuse-gelu,"
                            "fuse-linear,fuse-attention,narrow-rows";

static PareStatus bind(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch) {
  if (!(f->graph = pare_graph_clone(c, f->arena, g))) return c->diag.code;
  f->batch = batch;
  f->noutputs = g->outputs.n;
  return pare_feed_bind(c, f->graph, f->data, &f->batch);
}

/* Outputs as floats, where they are something else. */
static PareStatus make_floats(PareCtx *c, PareForward *f) {
  f->floats = PARE_NEW_N(f->arena, f->noutputs + 1, float *);
  if (!f->floats) return pare_nomem(c);
  for (size_t i = 0; i < f->noutputs; i++) {
    const PareType *t = &f->graph->outputs.at[i]->type;
    if (t->dtype == PARE_F32) continue;
    f->floats[i] = PARE_NEW_N(f->arena, pare_type_count(t), float);
    if (!f->floats[i]) return pare_nomem(c);
  }
  return PARE_OK;
}

static PareStatus make_program(PareCtx *c, PareForward *f, PareDevice *device) {
  PARE_TRY(device ? pare_program_new_on(c, f->graph, device, 0, NULL, &f->program)
                  : pare_program_new(c, f->graph, pare_cpu_kernels(), &f->program));
  return make_floats(c, f);
}

static bool is_scored_apart(const PareForward *f, size_t i) {
  return f->scores && f->scores[i] != f->graph->outputs.at[i];
}

/* The program makes scores as it makes outputs; the graph goes on having the model's outputs, and what is watched. */
static PareStatus make_scored(PareCtx *c, PareForward *f, PareDevice *device) {
  size_t shown = f->graph->outputs.n;
  if (!(f->scores = PARE_NEW_N(f->arena, f->noutputs + 1, PareValue *))) return pare_nomem(c);
  for (size_t i = 0; i < f->noutputs; i++) {
    f->scores[i] = pare_output_logits(c, f->graph, f->graph->outputs.at[i]);
    if (!f->scores[i]) return pare_nomem(c);
    if (is_scored_apart(f, i) && !pare_vec_push(f->arena, &f->graph->outputs, f->scores[i])) return pare_nomem(c);
  }
  PareStatus s = make_program(c, f, device);
  f->graph->outputs.n = shown;
  return s;
}

static PareStatus make(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch, PareForwardKind how,
                       PareDevice *device) {
  PARE_TRY(bind(c, f, g, batch));
  PARE_TRY(pare_run_passes(c, f->graph, "widen", NULL));
  if (how == PARE_FORWARD_PLAIN) return make_program(c, f, device);
  PARE_TRY(pare_run_passes(c, f->graph, FUSED, NULL));
  PARE_TRY(pare_run_passes(c, f->graph, "fuse-sums", NULL));
  return make_scored(c, f, device);
}

/* What has no gradient is no reason not to run. */
static PareStatus add_relevance(PareCtx *c, PareForward *f, const PareWatch *w) {
  PareDiag before = c->diag;
  PareStatus s = pare_append_relevance(c, f->graph, f->noutputs, w->aside, w->felt,
                                       f->graph->outputs.at + f->noutputs, &f->relevance);
  if (s != PARE_UNSUPPORTED) return s;
  pare_log(c, 0, "all positions count alike: %s", c->diag.text);
  c->diag = before;
  f->relevance = (PareRelevance){0};
  f->graph->outputs.n = f->noutputs + f->nwatched;
  return PARE_OK;
}

static PareStatus make_watching(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch, const PareWatch *w,
                                PareDevice *device) {
  PARE_TRY(bind(c, f, g, batch));
  f->nwatched = w->n;
  for (size_t i = 0; i < w->n; i++)
    if (!pare_vec_push(f->arena, &f->graph->outputs, f->graph->values.at[w->value[i]])) return pare_nomem(c);
  PARE_TRY(pare_run_passes(c, f->graph, "widen", NULL));
  PARE_TRY(pare_run_passes(c, f->graph, FUSED, NULL));
  if (w->bf16) PARE_TRY(pare_run_passes(c, f->graph, "lower-precision", NULL));
  for (size_t i = 0; i < w->n; i++) {
    const PareValue *v = f->graph->outputs.at[f->noutputs + i];
    if (v->type.dtype != PARE_F32)
      return pare_error(c, PARE_UNSUPPORTED, "'%s' is %s; tuning wants f32", v->name, pare_dtype_name(v->type.dtype));
  }
  if (w->felt) PARE_TRY(add_relevance(c, f, w));
  PARE_TRY(pare_run_passes(c, f->graph, "fuse-sums", NULL));
  return make_scored(c, f, device);
}

static PareForward *forward_new(const PareData *d) {
  PareArena *a = pare_arena_new(1 << 16);
  PareForward *f = a ? PARE_NEW(a, PareForward) : NULL;
  if (!f) return pare_arena_free(a), NULL;
  f->arena = a;
  f->data = d;
  return f;
}

/* Where a GPU has no room for `batch` samples, half of them, and so on. With a watch, `how` is not read. */
static PareStatus forward_fit(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch, PareForwardKind how,
                              const PareWatch *w, PareDevice *device, PareForward **out) {
  *out = NULL;
  for (;;) {
    PareDiag before = c->diag;
    PareForward *f = forward_new(d);
    if (!f) return pare_nomem(c);
    PareStatus s = w ? make_watching(c, f, g, batch, w, device) : make(c, f, g, batch, how, device);
    if (s == PARE_OK) return *out = f, s;
    bool smaller = s == PARE_NOMEM && device && !device->host && f->batch > 1 && f->batch <= batch;
    batch = (f->batch + 1) / 2;
    pare_forward_free(f);
    if (!smaller) return s;
    c->diag = before;
  }
}

PareStatus pare_forward_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch, PareForwardKind how,
                            PareDevice *device, PareForward **out) {
  return forward_fit(c, g, d, batch, how, NULL, device, out);
}

PareStatus pare_forward_new_watching(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                     const PareWatch *w, PareDevice *device, PareForward **out) {
  return forward_fit(c, g, d, batch, PARE_FORWARD_FUSED, w, device, out);
}

static PareStatus make_in_parts(PareCtx *c, PareForward *f, const PareGraph *g, int64_t batch, const uint8_t *part) {
  PARE_TRY(bind(c, f, g, batch));
  PARE_TRY(pare_run_passes(c, f->graph, "widen,float-products,fake-quantize", NULL));
  pare_unround(f->graph);
  PARE_TRY(pare_run_passes(c, f->graph, "fetch-weights", NULL));
  PARE_TRY(pare_split_parts(c, f->graph, part));
  PARE_TRY(pare_program_new_passing(c, f->graph, pare_cpu_kernels(), &f->program));
  return make_floats(c, f);
}

PareStatus pare_forward_new_in_parts(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                     const uint8_t *part, PareForward **out) {
  PareForward *f = *out = forward_new(d);
  if (!f) return pare_nomem(c);
  PareStatus s = make_in_parts(c, f, g, batch, part);
  if (s != PARE_OK) pare_forward_free(f), *out = NULL;
  return s;
}

/* --- running --- */

int64_t pare_forward_batch(const PareForward *f) { return f->batch; }

/* The signs k of a sample's outputs are its own, whatever batch it is in. padding [places] may be NULL. */
static void draw_signs(uint64_t k, int64_t sample, int64_t width, int64_t places, const uint8_t *padding, float *sign) {
  uint64_t key = pare_rng_u64(k, (uint64_t)sample);
  for (int64_t j = 0; j < width; j++)
    sign[j] = padding && padding[j / (width / places)] ? 0 : pare_rng_u64(key, (uint64_t)j) & 1 ? 1 : -1;
}

static PareStatus fill_signs(PareCtx *c, const PareForward *f, const int64_t *samples, int64_t count) {
  for (size_t k = 0; k < f->relevance.nsigns; k++) {
    const PareValue *v = f->relevance.signs[k];
    float *sign = pare_program_buffer(f->program, v);
    PareMark mark = pare_arena_mark(c->scratch);
    uint8_t *padding;
    if (!sign) continue;
    PARE_TRY(pare_feed_padding(c, f->graph, f->data, v, samples, count, &padding));
    int64_t width = pare_type_count(&v->type) / f->batch, places = padding ? v->type.dim[1] : 1;
    for (int64_t i = 0; i < f->batch; i++) {
      int64_t at = i < count ? i : count - 1;
      draw_signs(k, samples[at], width, places, padding ? padding + at * places : NULL, sign + i * width);
    }
    pare_arena_rewind(c->scratch, mark);
    PARE_TRY(pare_program_push(c, f->program, v));
  }
  return PARE_OK;
}

PareStatus pare_forward_begin(PareCtx *c, PareForward *f, const int64_t *samples, int64_t count) {
  assert(count > 0 && count <= f->batch);
  return pare_feed_fill(c, f->graph, f->program, f->data, samples, count, f->batch);
}

PareStatus pare_forward_run_part(PareCtx *c, PareForward *f, uint8_t part) {
  return pare_program_run(c, f->program, part);
}

PareStatus pare_forward_run(PareCtx *c, PareForward *f, const int64_t *samples, int64_t count) {
  PARE_TRY(pare_forward_begin(c, f, samples, count));
  PARE_TRY(fill_signs(c, f, samples, count));
  PARE_TRY(pare_program_run(c, f->program, -1));
  for (size_t i = 0; i < f->graph->outputs.n; i++)
    PARE_TRY(pare_program_pull(c, f->program, f->graph->outputs.at[i]));
  for (size_t i = 0; i < f->noutputs; i++)
    if (is_scored_apart(f, i)) PARE_TRY(pare_program_pull(c, f->program, f->scores[i]));
  return PARE_OK;
}

size_t pare_forward_outputs(const PareForward *f) { return f->noutputs; }
const PareValue *pare_forward_value(const PareForward *f, size_t i) { return f->graph->outputs.at[i]; }
int64_t pare_forward_width(const PareForward *f, size_t i) {
  return pare_type_count(&f->graph->outputs.at[i]->type) / f->batch;
}

static const float *as_floats(PareForward *f, const PareValue *v, float *room) {
  if (v->type.dtype == PARE_F32) return pare_program_buffer(f->program, v);
  PareValue shown = *v;
  shown.data = pare_program_buffer(f->program, v);
  int64_t n = pare_type_count(&v->type);
  for (int64_t k = 0; k < n; k++) room[k] = (float)pare_data_float(&shown, k);
  return room;
}

const float *pare_forward_floats(PareForward *f, size_t i) { return as_floats(f, f->graph->outputs.at[i], f->floats[i]); }
const float *pare_forward_scores(PareForward *f, size_t i) {
  assert(f->scores);
  return as_floats(f, f->scores[i], f->floats[i]);
}

const float *pare_forward_watched(const PareForward *f, size_t i, PareType *type) {
  const PareValue *v = f->graph->outputs.at[f->noutputs + i];
  *type = v->type;
  return pare_program_buffer(f->program, v);
}

void pare_forward_relevance(const PareForward *f, size_t i, float *out) {
  const PareType *t = &f->graph->outputs.at[f->noutputs + i]->type;
  const PareValue *v = f->relevance.n ? f->relevance.at[i] : NULL;
  const float *r = v ? pare_program_buffer(f->program, v) : NULL;
  int64_t rows = pare_type_count(t) / t->dim[t->rank - 1];
  for (int64_t j = 0; j < rows; j++) out[j] = r ? r[j] : f->relevance.n ? 0 : (float)f->batch / (float)rows;
}

const PareGraph *pare_forward_graph(const PareForward *f) { return f->graph; }
PareProgram *pare_forward_program(const PareForward *f) { return f->program; }
