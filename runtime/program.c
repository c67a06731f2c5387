/* program.c - picks the nodes that matter, gives every tensor its address, lets
 * kernels plan, and runs them one after another. */
#include "runtime/program.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "runtime/plan.h"

typedef struct Step {
  const PareNode *node;
  const PareKernel *kernel;
  PareKernelArgs args;
} Step;

struct PareProgram {
  PareArena *arena;
  const PareGraph *graph;
  Step *step; /* without views */
  size_t nsteps;
  PareTensor *tensor;      /* of all steps, one after another */
  const PareValue **shows; /* tensor i shows the memory of this root, or NULL: left out */
  size_t ntensors;
  ParePlan plan;
  void **data;    /* by value id, of roots */
  void **home;    /* by value id: where an input lies when nothing is bound to it */
  bool *readable; /* by value id: inputs, states, constants, outputs and pins */
  unsigned char *slab, *workspace;
  unsigned char *own; /* states, inputs, copied constants */
  PareProgramMemory memory;
  double *seconds;
};

/* The only memory outside arenas: big, and never cleared unless it must be. */
static PareStatus block_new(PareCtx *c, size_t bytes, unsigned char **out) {
  size_t size = bytes ? (bytes + PARE_PLAN_ALIGN - 1) / PARE_PLAN_ALIGN * PARE_PLAN_ALIGN : PARE_PLAN_ALIGN;
  *out = aligned_alloc(PARE_PLAN_ALIGN, size);
  return *out ? PARE_OK : pare_error(c, PARE_NOMEM, "out of memory: %zu bytes for the model's tensors", bytes);
}

void pare_program_free(PareProgram *p) {
  if (!p) return;
  for (size_t i = 0; i < p->nsteps; i++)
    if (p->step[i].args.state && p->step[i].kernel->release) p->step[i].kernel->release(p->step[i].args.state);
  free(p->slab);
  free(p->workspace);
  free(p->own);
  pare_arena_free(p->arena);
}

/* --- which nodes run --- */

static bool is_view(const PareNode *n) { return pare_op_info[n->op].kernel == PARE_KERNEL_VIEW; }

static bool must_run(const PareNode *n, const bool *needed) {
  if (pare_op_info[n->op].writes) return true;
  for (int i = 0; i < n->nout; i++)
    if (n->out[i] && needed[n->out[i]->id] && !n->out[i]->data) return true;
  return false;
}

static PareStatus check_node(PareCtx *c, const PareNode *n, const PareKernel *kernels, const bool *needed) {
  size_t bytes;
  for (int i = 0; i < n->nin + n->nout; i++) {
    const PareValue *v = i < n->nin ? n->in[i] : n->out[i - n->nin];
    if (v && !pare_type_bytes(&v->type, &bytes))
      return pare_fail(c, n, PARE_UNSUPPORTED, "the size of '%s' is not known or too large", v->name);
  }
  for (int i = 1; is_view(n) && i < n->nout; i++)
    if (n->out[i] && needed[n->out[i]->id])
      return pare_fail(c, n, PARE_UNSUPPORTED, "its output %d is not computed", i);
  if (!is_view(n) && !kernels[n->op].run) return pare_fail(c, n, PARE_UNSUPPORTED, "no kernel runs this op here");
  return PARE_OK;
}

/* The nodes to run in order, in c->scratch, and the values that they or the user read. */
static PareStatus choose(PareCtx *c, const PareGraph *g, const PareKernel *kernels, bool *needed, PareNode ***out,
                         size_t *nout) {
  PareNode **list = PARE_NEW_N(c->scratch, g->nnodes, PareNode *);
  if (!list) return pare_nomem(c);
  size_t at = g->nnodes; /* filled from the back */
  for (PareNode *n = g->last; n; n = n->prev) {
    if (!must_run(n, needed)) continue;
    PARE_TRY(check_node(c, n, kernels, needed));
    assert(at > 0);
    list[--at] = n;
    for (int i = 0; i < n->nin; i++)
      if (pare_plan_reads(n, i)) needed[n->in[i]->id] = true;
  }
  *out = list + at;
  *nout = g->nnodes - at;
  return PARE_OK;
}

/* --- where tensors lie --- */

static bool is_aligned(const void *p, PareDtype d) { return (uintptr_t)p % pare_dtype_size(d) == 0; }

/* The counter of what v takes of the program's own memory; NULL when it takes none. */
static size_t *own_memory(PareProgram *p, const PareValue *v, bool needed) {
  if (v->role == PARE_STATE) return &p->memory.states;
  if (v->role == PARE_INPUT) return &p->memory.inputs;
  bool constant = v->role == PARE_CONST || (v->data && p->plan.record[v->id] == PARE_NO_RECORD);
  return constant && needed && (!v->data || !is_aligned(v->data, v->type.dtype)) ? &p->memory.constants : NULL;
}

/* Bytes of v rounded up, never 0: a tensor that is there has an address. */
static PareStatus own_bytes(PareCtx *c, const PareValue *v, size_t *bytes) {
  if (!pare_type_bytes(&v->type, bytes) || *bytes > SIZE_MAX / 4)
    return pare_error(c, PARE_UNSUPPORTED, "the size of '%s' is not known or too large", v->name);
  if (*bytes && v->role == PARE_CONST && !v->data)
    return pare_error(c, PARE_FORMAT, "the constant '%s' has no data", v->name);
  *bytes = *bytes ? (*bytes + PARE_PLAN_ALIGN - 1) / PARE_PLAN_ALIGN * PARE_PLAN_ALIGN : PARE_PLAN_ALIGN;
  return PARE_OK;
}

/* States, inputs and constants that cannot be read in place: one block. */
static PareStatus own_new(PareCtx *c, PareProgram *p, const bool *needed) {
  const PareGraph *g = p->graph;
  size_t total = 0, bytes, at = 0;
  for (size_t i = 0; i < g->values.n; i++) {
    size_t *sum = own_memory(p, g->values.at[i], needed[i]);
    if (!sum) continue;
    PARE_TRY(own_bytes(c, g->values.at[i], &bytes));
    *sum += bytes;
    if (!pare_add_size(total, bytes, &total)) return pare_nomem(c);
  }
  PARE_TRY(block_new(c, total, &p->own));
  memset(p->own, 0, total);
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (!own_memory(p, v, needed[i])) continue;
    PARE_TRY(own_bytes(c, v, &bytes));
    p->data[i] = p->own + at;
    at += bytes;
    if (v->data && pare_type_bytes(&v->type, &bytes) && bytes) memcpy(p->data[i], v->data, bytes);
  }
  return PARE_OK;
}

static PareStatus place_values(PareCtx *c, PareProgram *p, const bool *needed) {
  const PareGraph *g = p->graph;
  PARE_TRY(block_new(c, p->plan.bytes, &p->slab));
  p->memory.results = p->plan.bytes;
  PARE_TRY(own_new(c, p, needed));
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    uint32_t record = p->plan.record[i];
    if (record != PARE_NO_RECORD) p->data[i] = p->slab + p->plan.records.at[record].offset;
    else if (!p->data[i] && v->data) p->data[i] = (void *)v->data;
    if (v->role != PARE_RESULT) p->readable[i] = true;
    p->home[i] = p->data[i];
  }
  return PARE_OK;
}

/* --- steps --- */

static void step_tensors(PareProgram *p, Step *s, size_t first) {
  const PareNode *n = s->node;
  for (int i = 0; i < n->nin + n->nout; i++) {
    const PareValue *v = i < n->nin ? n->in[i] : n->out[i - n->nin];
    if (!v) continue;
    const PareValue *root = p->plan.root[v->id];
    void *data = p->data[root->id];
    /* An input of which only the type matters may have no memory. */
    p->tensor[first + (size_t)i] = (PareTensor){data ? data : p->slab, v->type};
    p->shows[first + (size_t)i] = root;
  }
  s->args = (PareKernelArgs){.in = p->tensor + first, .nin = n->nin, .out = p->tensor + first + n->nin,
                             .nout = n->nout, .attr = &n->attr};
}

static PareStatus step_failed(PareCtx *c, const Step *s, PareStatus status) {
  return pare_fail(c, s->node, status, "%s", s->args.why ? s->args.why : pare_status_text(status));
}

static PareStatus make_steps(PareCtx *c, PareProgram *p, size_t n, PareNode *const *list, const PareKernel *kernels) {
  p->step = PARE_NEW_N(p->arena, n, Step);
  for (size_t i = 0; i < n; i++)
    if (!is_view(list[i])) p->ntensors += (size_t)(list[i]->nin + list[i]->nout);
  p->tensor = PARE_NEW_N(p->arena, p->ntensors, PareTensor);
  p->shows = PARE_NEW_N(p->arena, p->ntensors, const PareValue *);
  if (!p->step || !p->tensor || !p->shows) return pare_nomem(c);
  size_t first = 0;
  for (size_t i = 0; i < n; i++) {
    if (is_view(list[i])) continue;
    Step *s = &p->step[p->nsteps++];
    *s = (Step){.node = list[i], .kernel = &kernels[list[i]->op]};
    step_tensors(p, s, first);
    first += (size_t)(s->node->nin + s->node->nout);
    if (!s->kernel->plan) continue;
    PareStatus status = s->kernel->plan(&s->args);
    if (status != PARE_OK) return step_failed(c, s, status);
    if (s->args.workspace_bytes > p->memory.workspace) p->memory.workspace = s->args.workspace_bytes;
  }
  PARE_TRY(block_new(c, p->memory.workspace, &p->workspace));
  for (size_t i = 0; i < p->nsteps; i++) p->step[i].args.workspace = p->workspace;
  return PARE_OK;
}

static PareStatus program_make(PareCtx *c, PareProgram *p, const PareKernel *kernels, size_t npins,
                               PareValue *const *pins) {
  const PareGraph *g = p->graph;
  p->data = PARE_NEW_N(p->arena, g->values.n, void *);
  p->home = PARE_NEW_N(p->arena, g->values.n, void *);
  p->readable = PARE_NEW_N(p->arena, g->values.n, bool);
  bool *needed = PARE_NEW_N(c->scratch, g->values.n, bool);
  if (!p->data || !p->home || !p->readable || !needed) return pare_nomem(c);
  for (size_t i = 0; i < g->outputs.n; i++) p->readable[g->outputs.at[i]->id] = true;
  for (size_t i = 0; i < npins; i++) p->readable[pins[i]->id] = true;
  memcpy(needed, p->readable, g->values.n * sizeof *needed);
  PareNode **list = NULL;
  size_t n = 0;
  PARE_TRY(choose(c, g, kernels, needed, &list, &n));
  PARE_TRY(pare_plan_make(c, p->arena, g, n, list, p->readable, &p->plan));
  PARE_TRY(place_values(c, p, needed));
  return make_steps(c, p, n, list, kernels);
}

PareStatus pare_program_new_pinned(PareCtx *c, const PareGraph *g, const PareKernel *kernels, size_t npins,
                                   PareValue *const *pins, PareProgram **out) {
  *out = NULL;
  PareArena *arena = pare_arena_new(1 << 16);
  PareProgram *p = arena ? PARE_NEW(arena, PareProgram) : NULL;
  if (!p) return pare_arena_free(arena), pare_nomem(c);
  p->arena = arena;
  p->graph = g;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = program_make(c, p, kernels, npins, pins);
  pare_arena_rewind(c->scratch, mark);
  if (s == PARE_OK) *out = p;
  else pare_program_free(p);
  return s;
}

PareStatus pare_program_new(PareCtx *c, const PareGraph *g, const PareKernel *kernels, PareProgram **out) {
  return pare_program_new_pinned(c, g, kernels, 0, NULL, out);
}

/* --- running --- */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

PareStatus pare_program_run(PareCtx *c, PareProgram *p, int phase) {
  for (size_t i = 0; i < p->nsteps; i++) {
    Step *s = &p->step[i];
    if (phase >= 0 && s->node->phase != phase) continue;
    double start = p->seconds ? now() : 0;
    s->args.why = NULL;
    PareStatus status = s->kernel->run(&s->args);
    if (status != PARE_OK) return step_failed(c, s, status);
    if (p->seconds) p->seconds[s->node->id] += now() - start;
  }
  return PARE_OK;
}

void *pare_program_buffer(const PareProgram *p, const PareValue *v) {
  bool constant = v->data && p->plan.record[v->id] == PARE_NO_RECORD;
  return p->readable[v->id] || constant ? p->data[p->plan.root[v->id]->id] : NULL;
}

void pare_program_bind(PareProgram *p, const PareValue *input, const void *data) {
  assert(input->role == PARE_INPUT && is_aligned(data, input->type.dtype));
  p->data[input->id] = data ? (void *)data : p->home[input->id];
  for (size_t i = 0; i < p->ntensors; i++)
    if (p->shows[i] == input) p->tensor[i].data = p->data[input->id];
}

PareProgramMemory pare_program_memory(const PareProgram *p) { return p->memory; }

void pare_program_profile(PareProgram *p, double *seconds_by_node) { p->seconds = seconds_by_node; }
